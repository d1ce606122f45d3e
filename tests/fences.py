"""Arrays between two unreadable pages, and labels that point outside them.

For processes that test_bounds.py starts: a read out of bounds kills them.
"""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
LABEL_LOSSES = ("cross_entropy", "nll_loss", "categorical_cross_entropy")
# Just outside the classes, one page away, and where the product with the size of an element overflows.
BAD_LABELS = [11, 12, 4096, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1]
BAD_LABELS += [-1, -2, -101, -(2**20), -(2**31), -(2**40), -(2**63)]

_libc = ctypes.CDLL(None, use_errno=True)
_kept = []  # pages stay mapped, or the fences would fall


def fenced(array, at_end=True):
    """A copy of `array` that ends where an unreadable page begins, or begins where one ends."""
    array = np.asarray(array)
    size = max(-(-array.nbytes // PAGE), 1) * PAGE
    pages = mmap.mmap(-1, size + 2 * PAGE)
    _kept.append(pages)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    offset = PAGE + (size - array.nbytes if at_end else 0)
    copy = np.frombuffer(pages, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    for fence in (start, start + PAGE + size):
        if _libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return copy


def expect_index_error(position, bad, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except IndexError as error:
        assert str(position) in str(error) and str(bad) in str(error), error
    else:
        raise AssertionError((function, position, bad, options))


def attempt_bad_labels(n_rows, labels, reductions):
    """Try every bad label as the first, a middle and the last target, with classes on the last axis and on the
    first."""
    import fastloss

    probs = np.full((n_rows, 11), 1 / 11, np.float32)
    for at_end in (True, False):
        layouts = [(fenced(probs, at_end), -1), (fenced(probs.T, at_end), 0)]
        for position in (0, n_rows // 2, n_rows - 1):
            for bad in labels:
                target = np.arange(n_rows) % 11
                target[position] = bad
                target = fenced(target, at_end)
                for function in (getattr(fastloss, name) for name in LABEL_LOSSES):
                    for array, axis in layouts:
                        for reduction in reductions:
                            options = {"axis": axis, "reduction": reduction}
                            expect_index_error(position, bad, function, array, target, **options)
                        gradient = fastloss.value_and_grad(function)
                        expect_index_error(position, bad, gradient, array, target, axis=axis)
