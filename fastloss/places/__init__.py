"""Places: where the arrays of a call live, and what executes it there.

A place is a module with

``KEEPS``
    Whether its plans may be kept for later calls of the same kind.
``as_arrays(function, operands) -> (arrays, weak)``
    The operands as arrays of the place, and the positions of those that were Python numbers.
``signature(array, weak) -> Signature``
    What `resolve` is told about one array.
``repeated(planned, function, operands, options, want) -> result``, or None
    The call by what was kept of an earlier one of its kind; else `planned()`, of which it may keep something.
``plan(resolved, arrays, out) -> callable``
    The plan of a resolved call: ``plan(arrays, out, scale)`` returns the value, (value, gradients) or `Sums`, whichever
    was asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastloss import _config

# Types whose values are certainly on the host; values of other types are examined.
_HOST = {np.ndarray, np.memmap, list, tuple, int, float, bool, type(None)}

_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's device types


def of(operands: Iterable[Any]) -> Any:
    """The place of a call with these operands, imported when it is first needed."""
    for value in operands:
        if type(value) not in _HOST:
            if is_dask(value):
                return _dask()
            if on_device(value):
                return _cuda()
    return _cuda() if _config.backend.get() == "cuda" else _host()


# An import statement takes longer than the rest of `of`, even of a module that has been imported.


@functools.cache
def _host() -> Any:
    from fastloss.places import host

    return host


@functools.cache
def _cuda() -> Any:
    from fastloss.places import cuda

    return cuda


@functools.cache
def _dask() -> Any:
    from fastloss.places import dask

    return dask


def is_dask(value):
    """Whether that is a Dask array; Dask's other collections are converted by their `__array__`."""
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
        except (BufferError, TypeError):  # JAX: several devices; older pyarrow: what DLPack can't pass
            return any(d.platform == "gpu" for d in value.devices()) if hasattr(value, "devices") else False
    return hasattr(value, "__cuda_array_interface__")
