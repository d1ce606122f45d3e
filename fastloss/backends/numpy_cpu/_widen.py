"""Operands in float64, and elementary functions on arrays that raise no warnings."""

import numpy as np

# How many elements are processed at a time: a few temporaries of this size stay in the cache.
SPAN = 8192


def quietly(function):
    """`function` without NumPy's warnings: infinities and NaN are results here."""
    return np.errstate(all="ignore")(function)


def wide(a):
    """An operand in float64; float16 arrives as uint16, bfloat16 as int16.  Scalars and None are returned as they
    are."""
    if not isinstance(a, np.ndarray):
        return a
    if a.dtype == np.uint16:
        a = a.view(np.float16)
    elif a.dtype == np.int16:
        a = (a.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.float64, order="C")  # sums must not depend on strides


def slabs(n_rows, middle, size, first_row=0):
    """Rows [first_row, n_rows) of a three-dimensional array, in pieces of about SPAN elements; yields an index and two
    slices (i, j, k)."""
    step = max(1, SPAN // max(size, 1))
    row = first_row
    while row < n_rows:
        i, j = divmod(row, middle)
        stop = min(j + step, middle, j + n_rows - row)
        for start in range(0, size, SPAN):
            yield i, slice(j, stop), slice(start, min(start + SPAN, size))
        row += stop - j
