"""The cells of a sweep: every public function, by way of calling and by size, derived from the table of functions."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss import losses
from fastloss.losses import Function, Loss

from . import arrays as making
from .arrays import INDEX, ITEM_BYTES, Array
from .case import Case

# Half decades from 1 to 3e7 elements.
SIZES = tuple(digit * 10**power for power in range(8) for digit in (1, 3))

# Numbers of classes, and up to which the class axis is also tried in the middle, as images have it.
CLASSES = (2, 5, 10, 32, 100, 1000, 32_000)
FEW = 32  # classes at most
_MOST_IN_THE_MIDDLE = 1000

_INPUTS = 64  # of a layer
_LAYER_CLASSES = (1000, 32_000)
_HALVES = ("float16", "bfloat16")
_CACHED = 4_000_000  # bytes that a last-level cache holds
_LINE = 64  # bytes of a line of the cache


@dataclass(frozen=True)
class Cell:
    """A case of the sweep: a function, a way of calling it and a size, which is a number of elements of its predictions."""

    case: Case
    way: str
    size: int
    classes: int = 0

    @property
    def function(self) -> str:
        return self.case.loss

    @property
    def name(self) -> str:
        return self.case.name


def cells(functions: Iterable[str] | None = None, sizes: Sequence[int] | None = None) -> list[Cell]:
    """The cells of the functions whose name, or ``function/way``, matches one of the patterns; of all by default.

    Raises
    ------
    LookupError
        If a pattern matches none.
    """
    found = [cell for function in losses.FUNCTIONS for cell in _in_order(function, sorted(set(sizes or SIZES)))]
    if functions is None:
        return found
    wanted: set[str] = set()
    for pattern in functions:
        names = {cell.name for cell in found if _matches(cell, pattern)}
        if not names:
            raise LookupError(f"{pattern!r} matches no function at these sizes, nor function/way")
        wanted |= names
    return [cell for cell in found if cell.name in wanted]


def _matches(cell: Cell, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (cell.function, f"{cell.function}/{cell.way}", cell.name))


def _in_order(function: Function, sizes: Sequence[int]) -> list[Cell]:
    """All cells of a function, way by way."""
    found = [cell for size in sizes for cell in _cells(function, size)]
    ways = {cell.way: None for size in reversed(sizes) for cell in _cells(function, size)}  # small sizes lack some
    places = {way: place for place, way in enumerate(ways)}
    return sorted(found, key=lambda cell: (places[cell.way], cell.size))


def _cells(function: Function, size: int) -> Iterator[Cell]:
    if function.family == "elements":
        yield from _of_elements(function, size)
    elif function.family == "layer":
        for n_classes in _LAYER_CLASSES:
            if size >= n_classes:
                yield _of_layer(function, size, n_classes)
    else:
        for n_classes in CLASSES:
            if size >= n_classes:
                yield from _of_rows(function, size, n_classes)


# --- functions of elements --------------------------------------------------------------------------------------------


def _of_elements(function: Function, size: int) -> Iterator[Cell]:
    side = math.isqrt(size)
    flat, square = (size,), (side, side)
    options = {option.name for option in function.options}

    def cell(way: str, shape: tuple[int, ...] = flat, dtype: str = "float32", **how: Any) -> Cell:
        return _cell(function, way, size, _element_arrays(function, shape, dtype), **how)

    yield cell("1-D")
    yield cell("2-D", square)
    yield cell("sum", reduction="sum")
    if function.name != "rmse_loss":
        yield cell("none", reduction="none", written=4 * size)
    if "axis" in options:
        yield cell("axis=0", square, axis=0)
        yield cell("axis=1", square, axis=1)
    weighted = _cell(function, "weight", size, (*_element_arrays(function, flat, "float32"), _weight(flat)))
    yield weighted
    for dtype in _HALVES:
        yield cell(dtype, dtype=dtype)
    yield cell("gradient", op="fresh", written=4 * size)
    yield cell("gradient, out=", op="grad", written=4 * size)


def _element_arrays(function: Function, shape: tuple[int, ...], dtype: str) -> tuple[Array, ...]:
    return tuple(Array(name, _content(function, name), shape, dtype) for name in function.arrays)


def _content(function: Function, name: str) -> str:
    """A content that is in the domain of the argument."""
    binary = getattr(function, "kind", "") == "binary"
    if name == "target":
        return "labels" if binary else "positive"
    if name == "probs":
        return "probabilities"
    return "logits" if binary else "positive"


def _weight(shape: tuple[int, ...]) -> Array:
    return Array("weight", "positive", shape, keyword=True)


# --- functions of rows ------------------------------------------------------------------------------------------------


def _of_rows(function: Function, size: int, n_classes: int) -> Iterator[Cell]:
    n_rows = size // n_classes
    options = {option.name for option in function.options}
    rows, images = (n_rows, n_classes), (1, n_classes, n_rows)
    normalises = function.name in ("softmax", "log_softmax")

    def cell(way: str, shape: tuple[int, ...] = rows, dtype: str = "float32", labels: str = INDEX, **how: Any) -> Cell:
        axis = how.get("axis", -1)
        found = tuple(_row_array(function, name, shape, dtype, axis, labels) for name in function.arrays)
        more = how.pop("more", ())
        how.setdefault("written", 4 * n_rows * n_classes if normalises else 0)
        return _cell(function, f"C={n_classes} {way}".strip(), size, (*found, *more), classes=n_classes, **how)

    yield cell("")
    for dtype in _HALVES:
        yield cell(dtype, dtype=dtype)
    if 1 < n_classes <= _MOST_IN_THE_MIDDLE and "axis" in options:
        yield cell("axis=1", images, axis=1)
    if "target" in function.arrays:
        yield cell("int32 labels", labels="int32")
    if not isinstance(function, Loss):
        return
    yield cell("sum", reduction="sum")
    yield cell("none", reduction="none", written=4 * n_rows)
    yield cell("weight", more=(_weight((n_classes,)),))
    if "label_smoothing" in options:
        yield cell("smoothing", label_smoothing=0.1)
    if not function.only_indices:
        yield cell("soft targets", labels="distributions")
    yield cell("gradient", op="fresh", written=4 * n_rows * n_classes)
    yield cell("gradient, out=", op="grad", written=4 * n_rows * n_classes)


def _row_array(function: Function, name: str, shape: tuple[int, ...], dtype: str, axis: int, labels: str) -> Array:
    n_classes = shape[axis]
    if name != "target":
        return Array(name, "distributions" if name == "probs" else "logits", shape, dtype, axis=axis)
    if labels == "distributions":
        return Array(name, labels, shape, dtype, axis=axis)
    k = axis % len(shape)
    return Array(name, "indices", shape[:k] + shape[k + 1 :], labels, classes=n_classes)


def _of_layer(function: Function, size: int, n_classes: int) -> Cell:
    n_rows = size // n_classes
    found = (
        Array("hidden", "values", (n_rows, _INPUTS)),
        Array("linear_weight", "values", (n_classes, _INPUTS)),
        Array("target", "indices", (n_rows,), INDEX, classes=n_classes),
    )
    return _cell(function, f"C={n_classes}", size, found, classes=n_classes)


def _cell(
    function: Function,
    way: str,
    size: int,
    found: tuple[Array, ...],
    *,
    op: str = "value",
    written: int = 0,
    classes: int = 0,
    **options: Any,
) -> Cell:
    n_bytes = sum(array.n_bytes for array in found) + written
    bound = "launch" if n_bytes < 1000 else "cache" if n_bytes < _CACHED else "memory"
    case = Case(
        f"{function.name}/{way}/{size:g}",
        function.name,
        found,
        bound,
        op,
        tuple(options.items()),
        written,
    )
    return Cell(case, way, size, classes)


# --- their data -------------------------------------------------------------------------------------------------------


class Data:
    """Makes the arrays of cells, from random numbers that are drawn once: the same in every run, whichever cells it has."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[str, int], np.ndarray] = {}

    def inputs(self, case: Case) -> tuple[np.ndarray, ...]:
        """All arrays, C-contiguous; those of the same content differ."""
        return tuple(self._made(array, place) for place, array in enumerate(case.arrays))

    def _made(self, array: Array, place: int) -> np.ndarray:
        shape, n = array.shape, math.prod(array.shape)
        if array.content == "indices":
            found = self._slice("indices", place, n) % array.classes
        elif array.content in ("distributions", "log distributions"):
            found = np.exp(self._slice("logits", place, n).reshape(shape))
            found /= found.sum(axis=array.axis, keepdims=True)
            found = np.log(found) if array.content.startswith("log") else found
        else:
            found = self._slice(array.content, place, n)
        return found.reshape(shape).astype(making.dtype_of(array.dtype), copy=False)

    def _slice(self, content: str, place: int, n: int) -> np.ndarray:
        kept = self._drawn.get((content, place))
        if kept is None or kept.size < n:
            rng = np.random.default_rng([place, *content.encode()])
            one = Array("", content, (n,), INDEX if content == "indices" else "float32", classes=2**31 - 1)
            kept = self._drawn[content, place] = one.made(rng)
        return kept[:n]


def bytes_read(case: Case) -> int:
    """The bytes that have to be read: of class indices' rows, only the line of the cache that the target is in."""
    if case.loss not in ("nll_loss", "categorical_cross_entropy") or case.target != "indices":
        return case.input_bytes
    x = case.arrays[0]
    n_classes, n_rows = x.shape[case.axis], x.n_bytes // ITEM_BYTES[x.dtype] // x.shape[case.axis]
    if case.axis != -1 or n_classes * ITEM_BYTES[x.dtype] <= _LINE:
        return case.input_bytes
    return case.input_bytes - x.n_bytes + n_rows * _LINE


__all__ = ["CLASSES", "FEW", "SIZES", "Cell", "Data", "bytes_read", "cells"]
