"""How CUDA kernels are made: templates filled with readers, sizes and a loss's scalars, compiled for a device, cached on disk."""

import functools
from pathlib import Path

import numpy as np
from numba import cuda

from fastloss import _templates, scalars
from fastloss.backends.numba_cuda import _target

_HERE = Path(__file__).parent
_SOURCES = (Path(scalars.__file__), _HERE.parent / "__init__.py", *sorted(_HERE.glob("*.py")))


@functools.cache
def fingerprint():
    return _templates.fingerprint(_SOURCES)


def inlined(template, purpose, **holes):
    """`template` with its holes filled, for use inside kernels."""
    return _target.inlined(_templates.filled(template, f"{template.__name__}_{purpose}_{fingerprint()}", holes))


def kernel(template, purpose, n_threads, **holes):
    """`template` with its holes filled, as a kernel for blocks of so many threads: registers must do for all of them."""
    copy = _templates.filled(template, f"{template.__name__}_{purpose}_{fingerprint()}", holes)
    if _target.SIMULATED:
        return cuda.jit(copy)
    dispatcher = cuda.jit(launch_bounds=n_threads)(copy)
    try:
        dispatcher._cache = _cache()(copy)
    except (RuntimeError, OSError):  # nowhere to write: every process compiles for itself
        pass
    return dispatcher


@functools.cache
def _cache():
    from numba.cuda.dispatcher import CUDACache

    class ForgivingCache(_templates.Forgiving, CUDACache):
        pass

    return ForgivingCache


# --- the formulas -----------------------------------------------------------------------------------------------------


def _nan(text):
    """What `float("nan")` in a formula stands for."""
    return np.nan


@functools.cache
def formulas(real, shorter):
    """Every function of `scalars.py` for use in kernels on numbers of type `real`, calling one another and this target's elementary
    functions.

    shorter : pairs of a name and a template that stands in for the function of that name.
    """
    holes = {**_target.elementary, "float": _target.inlined(_nan)}
    for name, function in vars(scalars).items():
        if callable(function) and getattr(function, "__module__", None) == scalars.__name__:
            copy = _templates.filled(function, f"{name}_{fingerprint()}", {})
            # callers see what is called, whichever of them comes first in the file
            holes[name] = copy
    for name, template in shorter:
        copy = _templates.filled(template, f"{name}_{real}_{fingerprint()}", {"Real": np.dtype(real).type})
        copy.__module__ = scalars.__name__
        holes[name] = copy
    for copy in [f for f in holes.values() if getattr(f, "__module__", None) == scalars.__name__]:
        copy.__globals__.update(holes)
    return {name: _target.inlined(f) if f.__module__ == scalars.__name__ else f for name, f in holes.items()}


def family(templates, purpose, **holes):
    """`templates` as one set of functions for use in kernels, their holes filled, each visible to those after it; by name."""
    made = {}
    for template in templates:
        made[template.__name__] = inlined(template, purpose, **holes, **made)
    return made
