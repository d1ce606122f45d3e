"""Backends: what each offers, and loading one by name.

A backend is a module with

``available() -> str | None``
    None if it can be used here, else the reason why not and what to install.
``kernel(loss, op, real) -> callable``
    The compiled kernel `op` for a pointwise `Loss`, or for the softmax family where `loss` is None.  Kernels take blocks
    [first, last) and write each block's sums to rows of its own; see `numba_cpu.pointwise` for their arguments.

Backends know nothing of one another, of threads, or of means: those are the callers' business.
"""

import functools
import importlib

# Rows that a column kernel takes side by side: a tile.  Its blocks are numbers of tiles.
LANES = 64

_MODULES = {
    "cython": "fastloss.backends.cython",
    "numba": "fastloss.backends.numba_cpu",
    "numpy": "fastloss.backends.numpy_cpu",
    "cuda": "fastloss.backends.numba_cuda",
}


@functools.cache
def load(name):
    """The backend's module.  Raises whatever its import raises."""
    return importlib.import_module(_MODULES[name])
