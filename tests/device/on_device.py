"""Copies arrays to the device in all layouts, and results back."""

import os

import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def sent(a):
    return _copied(np.ascontiguousarray(a).reshape(np.shape(a)))


def _copied(a):
    """Copy an array, keeping the order of its axes in memory."""
    from fastloss.backends.numba_cuda._compiler import cuda

    if a.dtype.name == "bfloat16" and not SIMULATED:  # no buffers of it, which Numba copies from
        return cuda.to_device(a.view(np.uint16)).view(a.dtype)
    return cuda.to_device(a)


def transposed(a):
    """The same array in Fortran order."""
    if SIMULATED:
        return sent(np.asarray(a).T).transpose() if np.ndim(a) > 1 else sent(a)
    return _copied(np.asfortranarray(a))  # a GPU's `transpose` copies


def gappy(a):
    """Every second element of a larger array along each axis."""
    a = np.asarray(a)
    large = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    large[(slice(1, None, 2),) * a.ndim] = a
    return sent(large)[(slice(1, None, 2),) * a.ndim]


def shifted(a):
    """Contiguous, but one element away from any alignment."""
    a = np.asarray(a)
    return sent(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))[1:].reshape(a.shape)


LAYOUTS = (sent, transposed, gappy, shifted)


def ulp_of(case, dtype, more=0):
    """The bound of an elementwise loss on a device, where float32 is computed in float32, powers of it included.

    more : what a test adds to the bounds of losses without powers.
    """
    has_powers = case.loss == "sigmoid_focal_loss" or case.loss == "tweedie_deviance_loss" and case.options.get("power")
    return max(case.tolerance(dtype) + more, 8 if has_powers else 0)


def fetched(result):
    return result.copy_to_host().reshape(result.shape) if hasattr(result, "copy_to_host") else np.asarray(result)
