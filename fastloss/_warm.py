"""Compiles Numba's kernels ahead of time, so that a container's first call finds them on disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastloss import _config, _plan, functional, grad, losses

# The dtypes that kernels can be compiled for, the usual one first.
DTYPES = ("float32", "float64", "float16")


def names() -> tuple[str, ...]:
    """The functions that can be compiled ahead."""
    return tuple(sorted(function.name for function in (losses.SCORE, losses.COMPARE, *losses.LOSSES)))


def warm(chosen: tuple[str, ...] = (), dtypes: tuple[str, ...] = DTYPES[:1]) -> Iterator[str]:
    """Call each function with contiguous arrays, for value, gradient and rows; yields what is about to be compiled.

    Kernels are compiled for the types of their arguments, so the way to compile them is to call them.  Those for
    weights, smoothing, probability targets, axes and strided arrays are compiled on first use.
    """
    for name in chosen or names():
        for dtype in dtypes:
            yield f"{name} {dtype}"
            with _config.use_backend("numba"):
                for arguments in _arguments(name, np.dtype(dtype)):
                    _call(name, arguments)


def _call(name: str, arguments: tuple[np.ndarray, ...]) -> None:
    """Call the function in each way that needs kernels of its own."""
    function = getattr(functional, name)
    row = _row(name)
    function(*arguments)
    if row is losses.SCORE:
        function(*arguments, top_k=1)
        function(arguments[0], None, entropy=True)
        function(*arguments, top_k=1, entropy=True)
        return
    if row is losses.COMPARE:
        function(*arguments[:2], None)
        return
    grad.value_and_grad(function)(*arguments)
    if isinstance(row, losses.Loss) and not row.root:  # a root has no value per element
        function(*arguments, reduction="none")


def _arguments(name: str, dtype: np.dtype) -> Iterator[tuple[np.ndarray, ...]]:
    """Small and large arguments, with few and with many classes."""
    many, row = _plan.BLOCK, _row(name)
    if row.family in ("rows", "scores", "comparison"):
        for n_classes in (10, 1000):
            for n_rows in (2, many // n_classes + 1):
                probs = np.full((n_rows, n_classes), 1 / n_classes, dtype)
                yield *(probs,) * (len(row.arrays) - 1), np.zeros(n_rows, np.int64)
        return
    if row.family == "layer":
        for n_rows in (2, 64):
            hidden, layer = np.full((n_rows, 8), 0.5, dtype), np.full((1000, 8), 0.5, dtype)
            yield hidden, layer, np.zeros(n_rows, np.int64)
        return
    for size in (2, many + 1):
        half = np.full(size, 0.5, dtype)
        yield (half,) * len(row.arrays)


def _row(name: str) -> losses.Function:
    return next(function for function in losses.FUNCTIONS if function.name == name)
