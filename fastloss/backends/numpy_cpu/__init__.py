"""The NumPy backend: the same results without compiling anything, in float64 throughout, and slowly."""

import functools

from fastloss import _viewed
from fastloss._viewed import finish_means  # noqa: F401
from fastloss.backends.numpy_cpu import comparing, details, pointwise, scoring, softmax

WIDENS_LOGITS = True  # see `backends`


def available():
    """None: NumPy is always there."""
    return None


@functools.cache
def kernel(loss, op, real):
    """The function for `op` of a pointwise loss, or of the softmax family if `loss` is None."""
    if loss is None:
        return {**softmax.KERNELS, **scoring.KERNELS, **comparing.KERNELS, **details.KERNELS}[op]
    return functools.partial(pointwise.KERNELS[op], loss)


def element_kernel(formula, op, real, p, shape, layouts, block):
    """The kernel `op` of a pointwise loss, see `backends`."""
    return _viewed.Elements(kernel(formula, op, real), op, real, p, shape, layouts, block)


def row_kernel(op, across, real, lengths, x, target, w, outs, block, *constants):
    """The kernel `op` of the softmax family, see `backends`."""
    name = "gather_index" if op == "gather" else f"{op}_{'columns' if across else 'rows'}"
    return _viewed.Rows(kernel(None, name, real), op, across, lengths, x, target, w, outs, block, *constants)


def rowwise_from(op, real, written):
    """The number of classes at which the kernels' times cross, see `backends`."""
    return 128


def tile_kernel(op, real):
    """The kernel `op` of tiles of classes, see `backends`."""
    return kernel(None, op, real)
