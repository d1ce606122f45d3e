"""Arrays to the device in all layouts, and results back."""

import numpy as np


def sent(a):
    from numba import cuda

    return cuda.to_device(np.ascontiguousarray(a).reshape(np.shape(a)))


def transposed(a):
    """The same array with its axes in memory the other way round."""
    return sent(np.asarray(a).T).transpose() if np.ndim(a) > 1 else sent(a)


def gappy(a):
    """Every second element of a larger array along each axis."""
    a = np.asarray(a)
    large = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    large[(slice(1, None, 2),) * a.ndim] = a
    return sent(large)[(slice(1, None, 2),) * a.ndim]


def shifted(a):
    """Contiguous, but one element off every alignment."""
    a = np.asarray(a)
    return sent(np.concatenate([a.reshape(-1)[:1], a.reshape(-1)]))[1:].reshape(a.shape)


LAYOUTS = (sent, transposed, gappy, shifted)


def fetched(result):
    return result.copy_to_host().reshape(result.shape) if hasattr(result, "copy_to_host") else np.asarray(result)
