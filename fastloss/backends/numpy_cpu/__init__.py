"""The NumPy backend: the same results where nothing is compiled, in float64 throughout and slowly."""

import functools

from fastloss.backends.numpy_cpu import pointwise, scoring, softmax


def available():
    """None: NumPy is always there."""
    return None


@functools.cache
def kernel(loss, op, real):
    """The function for `op` of a pointwise loss, or of the softmax family if `loss` is None."""
    if loss is None:
        return {**softmax.KERNELS, **scoring.KERNELS}[op]
    return functools.partial(pointwise.KERNELS[op], loss)
