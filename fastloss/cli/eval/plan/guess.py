"""Which loss do these arrays call for? Answered from dtypes, shapes and a sample of the values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastloss.cli.failure import Failure
from fastloss.cli.files import Source, sample_rows, shape_text
from fastloss.cli.files.pages import picked

from .losses import LOSSES, LossInfo

_SAMPLE_BLOCKS, _SAMPLE_ELEMENTS = 16, 1 << 18


@dataclass(frozen=True)
class Choice:
    """A loss, the class axis (None for element-wise losses), and why it was chosen (None if it was named)."""

    loss: LossInfo
    axis: int | None
    reason: str | None = None


def class_axis(predictions: tuple[int, ...], targets: tuple[int, ...], axis: int | None) -> int | None:
    """The axis whose removal turns the predictions' shape into the targets'; None if there is none.

    Without `axis` the last one is tried, then torch's layout `(N, C, d1, ...)`.
    """
    tried = (axis,) if axis is not None else (len(predictions) - 1, 1)
    return next((candidate for candidate in tried if _fits(predictions, targets, candidate)), None)


def _fits(predictions: tuple[int, ...], targets: tuple[int, ...], axis: int) -> bool:
    return axis < len(predictions) and predictions[:axis] + predictions[axis + 1 :] == targets


def other_axis(predictions: tuple[int, ...], targets: tuple[int, ...], taken: int) -> int | None:
    """The other of the two axes that are tried as class axis, if it fits as well; distributions fit along both."""
    others = {len(predictions) - 1, 1} - {taken} if len(predictions) > 2 else set()
    return next((axis for axis in others if predictions == targets or _fits(predictions, targets, axis)), None)


@np.errstate(all="ignore")
def choose(predictions: Source, targets: Source, axis: int | None, ignore_index: int) -> Choice:
    """Guess the loss.

    Integer targets of the predictions' shape without the class axis are class labels: `cross_entropy`, or
    `categorical_cross_entropy` if each row of predictions is a probability distribution. Targets of the
    predictions' own shape are class probabilities if each row is a distribution, binary targets if all are 0
    or 1 (predictions in [0, 1] are then probabilities, others logits), and values to regress on otherwise.

    Raises
    ------
    Failure
        No loss fits the two shapes.
    """
    if one_output(predictions.array.shape, targets.array.shape, axis):
        x, y = _decoded(predictions, targets)
        return _choose_elementwise(x[..., 0], y)
    found = class_axis(predictions.array.shape, targets.array.shape, axis)
    if found is None and predictions.array.shape != targets.array.shape:
        raise mismatch(predictions, targets, axis)
    x, y = _decoded(predictions, targets)
    real = x.dtype.kind not in "biu"
    if found is not None and y.dtype.kind in "biu":
        where = _taken(predictions, targets, axis, found)
        if real and _are_distributions(_rows(x, y, found, ignore_index)):
            reason = f"class labels, rows of probabilities{where}"
            return Choice(LOSSES["categorical_cross_entropy"], found, reason)
        return Choice(LOSSES["cross_entropy"], found, f"class labels, rows of logits{where}")
    if x.shape != y.shape:
        raise mismatch(predictions, targets, axis)
    if real and x.ndim >= 2 and x.shape[along := x.ndim - 1 if axis is None else axis] >= 2:
        if _are_distributions(_rows(y, None, along, ignore_index)):
            where = _taken(predictions, targets, axis, along)
            if _are_distributions(_rows(x, None, along, ignore_index)):
                reason = f"targets and predictions are distributions{where}"
                return Choice(LOSSES["categorical_cross_entropy"], along, reason)
            return Choice(LOSSES["cross_entropy"], along, f"targets are distributions, rows of logits{where}")
    return _choose_elementwise(x, y)


def _taken(predictions: Source, targets: Source, axis: int | None, found: int) -> str:
    """Which class axis was taken, for the reason, if that is not plain to see."""
    x, y = predictions.array.shape, targets.array.shape
    plain = axis is not None or (found == len(x) - 1 and other_axis(x, y, found) is None)
    return "" if plain else f", class axis {found}"


def _decoded(predictions: Source, targets: Source) -> tuple[np.ndarray, np.ndarray]:
    """The arrays; where one has to be decoded, some of their rows stand for all."""
    x, y = predictions.array, targets.array
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return x, y
    parts = sample_rows(x.shape[0], x.nbytes)
    # copies, as a view would keep the whole piece it was decoded with
    return np.concatenate([x[part].copy() for part in parts]), np.concatenate([y[part].copy() for part in parts])


def one_output(predictions: tuple[int, ...], targets: tuple[int, ...], axis: int | None) -> bool:
    """Whether predictions have shape (..., 1) and targets (...): the axis of length 1 can be dropped."""
    return axis is None and predictions[-1:] == (1,) and predictions[:-1] == targets


def mismatch(predictions: Source, targets: Source, axis: int | None) -> Failure:
    """The Failure that says which shapes of targets would have fitted."""
    x, y = predictions.array, targets.array
    at = x.ndim - 1 if axis is None else axis
    labels = x.shape[:at] + x.shape[at + 1 :]
    if y.shape == labels and x.ndim:
        return Failure(targets.name, f"class labels must be integers, not {y.dtype}")
    expected = shape_text(x.shape)
    if x.ndim > 1:
        expected = f"{shape_text(labels)} for class labels or {expected} for values"
    fitting = f"does not fit predictions of shape {shape_text(x.shape)}; expected {expected}"
    return Failure(targets.name, f"shape {shape_text(y.shape)} {fitting}")


def _choose_elementwise(x: np.ndarray, y: np.ndarray) -> Choice:
    if x.dtype.kind not in "biu":
        labels = _sample(y)
        if np.all((labels == 0) | (labels == 1)):
            scores = _sample(x)
            if np.all((scores >= 0) & (scores <= 1)):
                return Choice(LOSSES["binary_cross_entropy"], None, "targets 0 or 1, predictions in [0, 1]")
            # Floats that all happen to be 0, or all 1, are no sign of a classifier.
            if y.dtype.kind in "biu" or (np.any(labels == 0) and np.any(labels == 1)):
                reason = "targets 0 or 1, predictions are logits"
                return Choice(LOSSES["binary_cross_entropy_with_logits"], None, reason)
    return Choice(LOSSES["mse_loss"], None, "targets of the predictions' shape")


def _picks(shape: tuple[int, ...], row_length: int) -> tuple[np.ndarray, ...]:
    """Indices of some of the rows: blocks spread evenly, as the head of a sorted file says little."""
    n_rows = math.prod(shape)
    wanted = max(_SAMPLE_BLOCKS, _SAMPLE_ELEMENTS // max(1, row_length))
    if n_rows <= wanted:
        flat = np.arange(n_rows)
    else:
        size = wanted // _SAMPLE_BLOCKS
        starts = np.linspace(0, n_rows - size, _SAMPLE_BLOCKS, dtype=np.int64)
        flat = (starts[:, np.newaxis] + np.arange(size)).ravel()
    return np.unravel_index(flat, shape)


def _sample(values: np.ndarray) -> np.ndarray:
    """A sample of the elements, as float64."""
    values = np.atleast_1d(values)
    return picked(values, _picks(values.shape, 1)).astype(np.float64)


def _rows(x: np.ndarray, labels: np.ndarray | None, axis: int, ignore_index: int) -> np.ndarray:
    """A sample of rows `(n, n_classes)` as float64, without those whose label is ignored."""
    x = np.moveaxis(x, axis, -1)
    if x.ndim == 1:
        x, labels = x[np.newaxis], None
    picks = _picks(x.shape[:-1], x.shape[-1])
    rows = picked(x, picks).astype(np.float64)
    return rows if labels is None else rows[labels[picks] != ignore_index]  # padding may hold anything


def _are_distributions(rows: np.ndarray) -> bool:
    """Whether all rows are non-negative and sum to 1, as closely as half precision keeps it."""
    if not rows.size:
        return False
    return bool(np.all(rows >= 0) and np.all(np.abs(rows.sum(axis=1) - 1) <= 0.01))
