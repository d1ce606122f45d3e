"""Operands and results of calls on the host."""

import functools

import numpy as np

from fastloss import _arrays
from fastloss._arrays import FLOAT32, FLOAT64

# Python numbers take the dtype of the arrays they are combined with, as in NumPy.
_WEAK = (bool, int, float)

_FLOATS = {2: np.dtype(np.float16), 4: FLOAT32, 8: FLOAT64}

REALS = {"float32": FLOAT32, "float64": FLOAT64}


def as_arrays(function, operands):
    """The operands as NumPy's arrays, and the positions of those that were Python numbers."""
    # lists rather than generators, which would take as long as the conversion of a tensor
    weak = tuple([i for i, value in enumerate(operands) if type(value) in _WEAK])
    arrays = [None if a is None else _arrays.asarray(a, n) for a, n in zip(operands, function.operands, strict=True)]
    return tuple(arrays), weak


# --- in ---------------------------------------------------------------------------------------------------------------


def preparation(a, cast):
    """A function that makes arrays like `a` readable for kernels (native, aligned, of dtype `cast` if given), or None
    if they are."""
    if a is None:
        return None
    if cast is not None and a.dtype != np.dtype(cast):
        return functools.partial(_converted, dtype=np.dtype(cast))
    dtype = a.dtype
    own = dtype if dtype.isnative else dtype.newbyteorder("=")
    # equal dtypes may be different objects (pickling, metadata, byte order); from here on they are the same
    if dtype.kind == "f":
        own = _FLOATS.get(dtype.itemsize, own)
    if not (dtype.isnative and a.flags.aligned):
        return functools.partial(_converted, dtype=own)
    if dtype.kind == "b":
        return _as_bytes
    return None if dtype is own else functools.partial(np.ndarray.view, dtype=own)


def _converted(a, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return _arrays.converted(a, dtype)


def _as_bytes(a):
    return a.view(np.uint8)


def steps_of(arrays, casts):
    """The preparations of all operands, or None if none is needed."""
    steps = tuple(preparation(a, cast) for a, cast in zip(arrays, casts, strict=True))
    return None if all(step is None for step in steps) else steps


def then(first, second):
    """A function that applies both steps in order; either may be None."""
    if first is None or second is None:
        return first or second
    return lambda a: second(first(a))


def prepare(steps, operands):
    return tuple([a if step is None else step(a) for step, a in zip(steps, operands, strict=True)])


def class_weights(w):
    """Class weights for kernels, or None: always float64, so that weights outside float32's range work."""
    return None if w is None else w.astype(FLOAT64, "C", "unsafe", True, False)


# --- out --------------------------------------------------------------------------------------------------------------


def check_out(out, shape):
    """Raise ValueError or TypeError if results of this shape can't be written to `out`."""
    if out is not None:
        _arrays.check_out(out, shape)


def can_be_written(out, real, inputs):
    """Whether a kernel may write to `out` directly, rather than to an array that is then copied to it."""
    if out.dtype != real or not (out.flags.c_contiguous and out.flags.aligned):
        return False
    for a in inputs:  # a generator would take longer
        if a is not None and np.may_share_memory(out, a):
            return False
    return True


def destination(out, shape, real, inputs):
    """The array that a kernel writes to: `out` itself if possible, otherwise a new array."""
    return out if out is not None and can_be_written(out, real, inputs) else np.empty(shape, real)
