"""Where in the file is it? Asked only of a chunk that has failed, so these passes cost nothing otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss.cli.eval.plan.opened import Opened
from fastloss.cli.failure import Failure
from fastloss.cli.files import Source

Test = Callable[[np.ndarray], np.ndarray]


def refusal(opened: Opened, start: int, x: np.ndarray, y: np.ndarray, error: Exception) -> Failure:
    """What the library refused in the chunk that starts at slice `start`, as a place in the whole file.

    The library names positions too, but within the chunk; so known reasons are looked for again here.
    """
    if isinstance(error, IndexError) and opened.labels:
        n_classes = opened.n_classes

        def wild(labels: np.ndarray) -> np.ndarray:
            return ((labels < 0) | (labels >= n_classes)) & (labels != opened.ignore_index)

        if found := _find(opened, start, y, wild):
            where, value = found
            hint = f"; --ignore-index {value} leaves such rows out" if value < 0 else ""
            problem = f"label {value} at {where} is out of range: there are {n_classes} classes{hint}"
            return Failure(opened.targets.name, problem)
    if isinstance(error, ValueError) and opened.loss.probabilities:
        if failure := improbable(opened, start, opened.predictions, x, _counted(opened, y)):
            return failure
    message = str(error)
    source = opened.targets if message.startswith("target") else opened.predictions
    if opened.weight is not None and message.startswith("weight"):
        source = opened.weight
    return Failure(source.name, f"{opened.loss.name}: {message}")


def improbable(
    opened: Opened, start: int, source: Source, values: np.ndarray, counted: np.ndarray | None = None
) -> Failure | None:
    """The first of a chunk's predictions or targets that lies outside [0, 1]."""
    if found := _find(opened, start, values, lambda values: (values < 0) | (values > 1), counted):
        guessed = ", which was guessed: --loss overrides" if opened.reason else ""
        problem = f"{found[1]} at {found[0]} is no probability in [0, 1], as {opened.loss.name} takes{guessed}"
        return Failure(source.name, problem)
    return None


def undefined(
    opened: Opened, start: int, x: np.ndarray, y: np.ndarray, each: Callable[[], np.ndarray]
) -> Failure | None:
    """Why the sum of a chunk's losses is NaN: a NaN in one of the files, or a row whose loss is undefined.

    `each()` gives the chunk's single losses. None if none of them is NaN (infinities of both signs met).
    """
    counted = _counted(opened, y)
    for source, values, rows in ((opened.predictions, x, counted), (opened.targets, y, None)):
        if found := _find(opened, start, values, np.isnan, rows):
            return Failure(source.name, f"NaN at {found[0]}")
    layer = () if opened.layer is None else (opened.layer.weight, opened.layer.bias)
    for whole in (opened.weight, *layer):
        if whole is not None and (at := _first_nan(whole)):
            return Failure(whole.name, f"NaN at {at}")
    if opened.loss.probabilities and (failure := improbable(opened, start, opened.predictions, x, counted)):
        return failure
    losses = each()
    if not np.isnan(losses).any():
        return None
    local = int(np.argmax(np.isnan(losses)))
    what = f"{opened.loss.name} at {_index(opened, start, losses.shape, local)} is undefined"
    if opened.loss.family != "classes":
        what += f" for prediction {x.flat[local]} and target {y.flat[local]}"
    elif opened.layer is None:
        row = np.moveaxis(x, opened.layout.axis or 0, -1)[np.unravel_index(local, losses.shape)]
        if np.any(row == np.inf):
            what += ": its logits hold +inf"
        elif np.all(row == -np.inf):
            what += ": its logits are all -inf"
    return Failure(opened.predictions.name, what)


def _counted(opened: Opened, y: np.ndarray) -> np.ndarray | None:
    """Which rows of a chunk count; None if all do."""
    return y != opened.ignore_index if opened.labels else None


def _find(
    opened: Opened, start: int, values: np.ndarray, test: Test, counted: np.ndarray | None = None
) -> tuple[str, Any] | None:
    """The first value of a chunk that passes `test`, in a row that counts: index in the file, and value."""
    scores = opened.loss.family == "classes" and values.ndim == opened.layout.predictions.ndim
    if scores:
        values = np.moveaxis(values, opened.layout.axis or 0, -1)
    with np.errstate(all="ignore"):
        found = test(values)
    if counted is not None:
        found &= counted[..., np.newaxis]
    if not found.any():
        return None
    at = int(np.argmax(found))
    value = values[np.unravel_index(at, values.shape)]
    if not scores:
        return _index(opened, start, values.shape, at), value
    row, n = divmod(at, values.shape[-1])
    return _index(opened, start, values.shape[:-1], row, n), value


def _index(opened: Opened, start: int, shape: tuple[int, ...], at: int, of_class: int | None = None) -> str:
    """The flat position `at` in a chunk's rows of `shape`, as an index into the file: `[7]`, `[3, 0, 2]`."""
    before = start * int(np.prod(shape[1:], dtype=np.int64))
    index = [int(i) for i in np.unravel_index(before + at, opened.layout.shape)] if opened.layout.shape else []
    if of_class is not None:
        index.insert(opened.axis or 0, of_class)
    return str(index)


def _first_nan(source: Source) -> str | None:
    """The index of the first NaN of a whole file."""
    found = np.isnan(source.array[...] if isinstance(source.array, np.ndarray) else source.array[:])
    if not found.any():
        return None
    return str([int(i) for i in np.unravel_index(int(np.argmax(found)), found.shape)])
