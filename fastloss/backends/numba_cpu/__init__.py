"""The Numba backend: kernels compiled on first use for the types at hand, and cached on disk."""

import functools
import importlib
from types import SimpleNamespace

import numpy as np

from fastloss import _viewed
from fastloss._arrays import FLOAT64, bits
from fastloss._optional import failure_of_import

CALIBRATES = True  # sorts rows of probabilities into bins
MEASURES_DISTANCES = True  # between probabilities and what came true

# The modules of kernels.
_KERNELS = (
    "pointwise", "rowwise", "columns", "gather", "probabilities", "scoring", "details", "comparing", "tiles", "finish", "capping",
)  # fmt: skip

TAKE_LOG = 3  # its place among the constants of rows


@functools.cache
def available():
    """None if Numba can be imported and used, otherwise what to do about it."""
    error = failure_of_import("numba")
    if isinstance(error, ModuleNotFoundError):
        return "numba is not installed (pip install numba)"
    if error is not None:  # a NumPy that is too new for it, a library it can't load
        return f"numba can't be imported: {error}"
    import numba

    if numba.version_info.short < (0, 62):  # its LLVM ends the process where it meets a maximum of floats
        return f"numba {numba.__version__} is too old, 0.62 is needed (pip install -U numba)"
    return None


@functools.cache
def _families():
    # Numba registers what its own modules and these define, which can't be done twice: not after half an import either
    for name in _KERNELS:
        if (error := failure_of_import(f"{__name__}.{name}")) is not None:
            raise error
    pointwise, *families = (importlib.import_module(f"{__name__}.{name}") for name in _KERNELS)
    softmax = {op: module for module in families for op in module.TEMPLATES}
    jit = importlib.import_module(f"{__name__}._jit")
    return SimpleNamespace(pointwise=pointwise, softmax=softmax, undisturbed=jit.undisturbed)


@functools.cache
def kernel(loss, op, real):
    """The kernel `op` of a pointwise loss, or of the softmax family if `loss` is None, computing in `real`."""
    families = _families()
    if loss is None:
        make = functools.partial(families.softmax[op].kernel, op, real.type)
    else:
        make = functools.partial(families.pointwise.kernel, loss, op, real.type)
    return families.undisturbed(make)


def element_kernel(formula, op, real, p, shape, layouts, block):
    """The kernel `op` of a pointwise loss, see `backends`."""
    return _viewed.Elements(kernel(formula, op, real), op, real, p, shape, layouts, block)


def row_kernel(op, across, real, lengths, x, target, w, outs, block, *constants):
    """The kernel `op` of the softmax family, see `backends`."""
    if op == "gather":
        name = "gather_probabilities" if constants[TAKE_LOG:][:1] == (True,) else "gather_index"
    else:
        own = {"event": "distance", "event calibration": "calibration"}.get(op, op)
        name = f"{own}_{'columns' if across else 'rows'}"
    return _viewed.Rows(kernel(None, name, real), op, across, lengths, x, target, w, outs, block, *constants)


def rowwise_from(op, real, written):
    """The number of classes at which the kernels' times cross, see `backends`."""
    return 256


def caps_logits(softcap, temperature):
    """Whether `cap_logits` and `cap_slopes` are for these, see `backends`."""
    return tempers_logits(temperature) and tempers_logits(softcap) and softcap / temperature <= 80.0


def cap_logits(x, softcap, temperature, out):
    """Cap logits of up to 32 bits, see `backends`."""
    kernel(None, "cap_logits", FLOAT64)(bits(x), *_cap(softcap, temperature), out)


def cap_slopes(x, softcap, temperature, slopes, out):
    """Derivatives with respect to logits, see `backends`."""
    kernel(None, "cap_slopes", FLOAT64)(bits(x), *_cap(softcap, temperature), slopes, out)


def tempers_logits(temperature):
    """Whether `temper_logits` is for this one, see `backends`: its inverse leaves of no difference less than it should."""
    return 2.0**-100 <= temperature <= 2.0**100


def largest_across(x):
    """The largest logit of each column, see `backends`."""
    out = np.empty(x.shape[1])
    kernel(None, "largest_across", FLOAT64)(bits(x), out)
    return out


def temper_logits(x, origins, across, temperature, out):
    """Divide differences of logits by a temperature, see `backends`."""
    kernel(None, "temper_logits", FLOAT64)(bits(x), origins, across, 1.0 / float(temperature), out)


def _cap(softcap, temperature):
    """What the kernels need of the two; divisions that they could see would move into their loops."""
    return float(softcap), 1.0 / float(softcap), 1.0 / float(temperature), float(softcap) / float(temperature)


def tile_kernel(op, real):
    """The kernel `op` of tiles of classes, see `backends`."""
    return kernel(None, op, real)


def finish_means(partials, n, step, weights_from, divisor, by_weight, root, out):
    """Write results from sums along axes, see `backends`."""
    finish = kernel(None, "finish_sums", out.dtype)
    return finish(partials.reshape(-1), n, step, weights_from, float(divisor), by_weight, root, out.reshape(-1))
