"""Where the arrays of a call live: on the host, or somewhere that evaluates its own.

A place is a module with the functions that evaluate calls on the host, under the same names and with the same arguments:
``pointwise`` (`_pointwise.evaluate`), ``classes`` (`_classes.evaluate`), ``normalise`` (`_classes.normalise`), ``score``
(`_score.evaluate`), ``linear`` (`_linear.evaluate`) and ``linear_score`` (`_linear_score.evaluate`).  It is imported when the
first of its arrays comes.  A place whose results are lazy also has
``computed``, which gives several of them at once.
"""

import importlib

import numpy as np

from fastloss import _config

# Types whose values are on the host for certain; others are asked.
_HOST = {np.ndarray, np.memmap, list, tuple, int, float, bool, type(None)}

_DASK, _DEVICE = "fastloss.dask", "fastloss._device.place"

_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's device types


def elsewhere(*values):
    """The place that evaluates a call with these arguments, or None for the host."""
    for value in values:
        if type(value) not in _HOST:
            if is_dask(value):
                return importlib.import_module(_DASK)
            if on_device(value):
                return importlib.import_module(_DEVICE)
    return importlib.import_module(_DEVICE) if _config.backend.get() == "cuda" else None


def is_dask(value):
    """Whether that is an array of Dask's; other collections of it are left to `__array__`."""
    return type(value).__module__.startswith("dask.array") and hasattr(value, "__dask_graph__")


def on_device(value):
    """Whether an argument is an array in a GPU's memory."""
    if hasattr(value, "is_cuda"):  # torch
        return bool(value.is_cuda)
    if getattr(value, "__cuda_ndarray__", False):  # Numba
        return True
    device = getattr(value, "__dlpack_device__", None)
    if device is not None:
        try:
            return device()[0] in (_CUDA, _CUDA_MANAGED)
        except BufferError:  # JAX, of an array that is spread over several
            return any(d.platform == "gpu" for d in value.devices()) if hasattr(value, "devices") else False
    return hasattr(value, "__cuda_array_interface__")
