"""Chooses the backend, the block size and the number of threads; nothing else does."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from fastloss import _config, _errors, _threads
from fastloss.backends import load

# The least number of elements per block of a reduction, and the largest number of blocks.  Blocks depend on the shape
# alone, and so does the order of every sum.
BLOCK = 1 << 15
MAX_BLOCKS = 4096

# As measured: kernels compiled ahead of time are as fast as Numba's, and need no compiling on the first call.
AUTO_ORDER = ("cython", "numba", "numpy")


def backend() -> Any:
    """The backend for host arrays under the current settings."""
    name = _config.backend.get()
    if name != "auto":
        module = load(name)
        reason = module.available()
        if reason:
            raise _errors.missing_backend(name, reason)
        return module
    return load(automatic())


def backend_for(formula: Any) -> Any:
    """The backend for a pointwise formula: one that is not in scalars.py needs a backend that can compile, or
    interpret, at run time."""
    found = backend()
    return load(automatic(AUTO_ORDER[1:])) if formula.text is not None and found is load("cython") else found


@functools.cache
def automatic(order: tuple[str, ...] = AUTO_ORDER) -> str:
    """The backend that "auto" stands for, the same throughout the process, so that results never change between
    calls."""
    reasons = {}
    for candidate in order:
        reasons[candidate] = load(candidate).available()
        if reasons[candidate] is None:
            break
    if candidate == "numpy":
        warnings.warn(_errors.slow_backend(reasons), RuntimeWarning, stacklevel=2)
    return candidate


def block_size(n_units: int, unit_elements: int, multiple: int = 1) -> tuple[int, int]:
    """(units per block, number of blocks) for a reduction over n_units of unit_elements each."""
    least = max(1, BLOCK // max(unit_elements, 1), -(-n_units // MAX_BLOCKS))
    block = -(-least // multiple) * multiple
    return block, -(-n_units // block)


def lane_blocks(n: int, inner: int) -> tuple[int, int]:
    """(positions per block, number of blocks) along a reduced axis of length n, where each block has `inner` sums."""
    most = max(1, MAX_BLOCKS * 16 // inner)  # keeps the partial sums within about a MiB
    block = max(1, BLOCK // inner, -(-n // most))
    return block, -(-n // block)


def share() -> Callable[..., object] | None:
    """The current backend's function for granting threads to its next kernel; None if kernels have none of their own."""
    found = getattr(backend(), "share", None)
    return found and found()


def is_short(n_elements: int, ns: float, n_blocks: int) -> bool:
    """Whether n_elements of `ns` nanoseconds each are too little work for more than one thread, or can't be divided and are
    done before signal handlers are to run in the middle.
    """
    work = int(n_elements * ns)
    undivided = _threads.SLOW if share() is None else _threads.FIRST
    return work < _threads.WORTHWHILE or n_blocks == 1 and work < undivided


def goes_aside(n_blocks: int, n_elements: int, ns: float, *, kernel: bool = True) -> bool:
    """Whether blocks are so slow that they may still be computed when `run` has raised: they must not write to the caller's arrays.

    kernel : as of `run`.
    """
    looks = kernel and share() is not None  # compiled kernels look at signals themselves
    return not looks and int(n_elements * ns) >= _threads.SLOW * n_blocks


def run(
    call: Callable[..., Any], n_blocks: int, n_elements: int, ns: float, *, kernel: bool = True, aside: bool = False
) -> Any:
    """Call ``call(first, last)`` for ranges that cover all blocks, on as many threads as n_elements are worth.

    Returns what a single call for all of them has returned, which it always is of a kernel with threads of its own.

    ns : nanoseconds per element on one CPU, see `_costs`.
    kernel : whether `call` only calls a kernel of the current backend, once.
    aside : what `goes_aside` said of these blocks, if `call` heeds it.
    """
    work = int(n_elements * ns)
    if work < _threads.WORTHWHILE:
        return call(0, n_blocks)
    return _threads.run(call, n_blocks, _config.threads.get(), work, share() if kernel else None, aside)
