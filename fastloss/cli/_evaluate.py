"""The evaluation itself, chunk by chunk; the sums combine to what one call over the whole file would give."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from . import _library
from ._best import best_class
from ._job import Job
from ._locate import improbable, refusal, undefined
from ._output import RowWriter
from ._progress import Progress

Value = float | np.ndarray  # a sum, or one for each output

_WARM_BYTES = 4 << 20  # of predictions are evaluated before the clock starts


@dataclass
class Sums:
    """What is summed, one entry a chunk; added up by `total` at the end, so that the order cannot matter."""

    loss: list[Value] = field(default_factory=list)
    squared: list[Value] = field(default_factory=list)
    absolute: list[Value] = field(default_factory=list)
    divisor: list[Value] = field(default_factory=list)
    counted: int = 0  # rows of the softmax family, elements otherwise
    ignored: int = 0
    correct: int = 0


@dataclass(frozen=True)
class Figures:
    """The result; None where a figure does not apply to the loss.

    `value` is what the reduction asked for (None for "none"), `mean` the mean loss in any case.
    """

    value: Value | None
    mean: Value
    perplexity: float | None
    accuracy: float | None
    correct: int | None
    mse: Value | None
    rmse: Value | None
    mae: Value | None
    rows: int
    ignored: int
    elements: int | None
    seconds: float


def evaluate(job: Job, chunk_rows: int | None, writer: RowWriter | None, progress: Progress) -> Figures:
    """Run `job` over chunks of about `chunk_rows` rows, writing single losses to `writer` if there is one.

    Raises
    ------
    Failure
        A label is out of range, a value is NaN or outside the loss's domain.
    """
    step = {"classes": _classes, "binary": _binary, "regression": _regression}[job.loss.family]
    layout = job.layout
    n_chunks = -(-layout.n_slices // layout.slices_per_chunk(chunk_rows))
    bounds = [layout.n_slices * i // n_chunks for i in range(n_chunks + 1)]  # of one size: no small rest
    if warm := min(bounds[1], layout.n_slices * _WARM_BYTES // layout.predictions.nbytes):
        step(job, 0, warm, Sums(), None)  # what is compiled or loaded on a first call is not the data's speed
    sums = Sums()
    begin = time.perf_counter()
    for start, stop in pairwise(bounds):
        step(job, start, stop, sums, writer)
        progress.advance((stop - start) * layout.n_rows // layout.n_slices)
    return _figures(job, sums, time.perf_counter() - begin)


def _call(job: Job, name: str, start: int, x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    """Call a loss of the library; what it refuses becomes a Failure that names the place in the file."""
    try:
        return _library.loss_function(name)(x, y, **options)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise refusal(job, start, x, y, error) from None


def _check(job: Job, start: int, x: np.ndarray, y: np.ndarray, loss: Value, each: Callable[[], np.ndarray]) -> None:
    """NaN is an error that names its place; it is looked for only when the sum of a chunk is NaN."""
    if np.isnan(loss).any() and (failure := undefined(job, start, x, y, each)):
        raise failure


def _classes(job: Job, start: int, stop: int, sums: Sums, writer: RowWriter | None) -> None:
    """A chunk of the softmax family. The losses of single rows are few beside the scores: always taken."""
    x, y, _ = job.layout.chunk(start, stop)
    if not job.labels and y.dtype.kind in "biu":
        y = y.astype(np.float64 if x.dtype.itemsize == 8 else np.float32)  # one-hot targets saved as integers
    options: dict[str, Any] = {"axis": job.layout.axis, "weight": job.weights, "reduction": "none"}
    if job.ignore_given:
        options["ignore_index"] = job.ignore_index
    if job.loss.smooths:
        options["label_smoothing"] = job.label_smoothing
    losses = _call(job, job.loss.name, start, x, y, **options)
    loss = float(np.sum(losses, dtype=np.float64))
    _check(job, start, x, y, loss, lambda: losses)
    if writer is not None:
        writer.write(losses)

    hits = best_class(x, job.layout.axis or 0) == (y if job.labels else best_class(y, job.layout.axis or 0))
    counted = losses.size
    if job.labels:
        keep = y != job.ignore_index
        counted = int(np.count_nonzero(keep))
        hits &= keep
        if job.weights is not None:
            labels = y[keep].astype(np.intp)
            sums.divisor.append(float(np.sum(job.weights[labels], dtype=np.float64)))
    sums.loss.append(loss)
    sums.counted += counted
    sums.ignored += losses.size - counted
    sums.correct += int(np.count_nonzero(hits))


def _binary(job: Job, start: int, stop: int, sums: Sums, writer: RowWriter | None) -> None:
    """A chunk of a binary loss: whatever the weights, the mean divides by the number of elements."""
    x, y, w = job.layout.chunk(start, stop)
    # The library takes any target, as torch does, but labels -1 and 1 have no place in a report.
    if (y.min() < 0 or y.max() > 1) and (failure := improbable(job, start, job.targets, y)):
        raise failure
    sums.loss.append(_sum(job, job.loss.name, start, x, y, float(x.size), writer, weight=w))
    sums.counted += x.size
    sums.correct += int(np.count_nonzero((x > job.loss.threshold) == (y > 0.5)))


def _regression(job: Job, start: int, stop: int, sums: Sums, writer: RowWriter | None) -> None:
    """A chunk of an element-wise loss: the mean divides by the sum of the broadcast weights."""
    x, y, w = job.layout.chunk(start, stop)
    axis = 0 if job.per_output else None
    name = "mse_loss" if job.loss.name == "rmse_loss" else job.loss.name
    if w is None:
        divisor: Value = float(x.shape[0] if job.per_output else x.size)
    else:
        divisor = np.sum(np.broadcast_to(w, x.shape), axis=axis, dtype=np.float64)
        sums.divisor.append(divisor)
    loss = _sum(job, name, start, x, y, divisor, writer, weight=w, axis=axis)
    sums.loss.append(loss)
    for error, parts in (("mse_loss", sums.squared), ("l1_loss", sums.absolute)):
        if job.loss.errors:
            same = name == error
            parts.append(loss if same else _sum(job, error, start, x, y, divisor, None, weight=w, axis=axis))
    sums.counted += x.size


def _sum(
    job: Job,
    name: str,
    start: int,
    x: np.ndarray,
    y: np.ndarray,
    divisor: Value,
    writer: RowWriter | None,
    **options: Any,
) -> Value:
    """The summed loss of a chunk of elements, its single losses written to `writer` on the way."""
    each = partial(_call, job, name, start, x, y, weight=options["weight"], reduction="none")
    if writer is not None:
        losses = each()
        writer.write(losses)
        loss: Value = np.sum(losses, dtype=np.float64)
    elif np.all(divisor):
        # The mean is what cannot overflow: float32 losses come as float32.
        loss = np.multiply(_call(job, name, start, x, y, **options, reduction="mean"), divisor, dtype=np.float64)
    else:
        loss = np.asarray(_call(job, name, start, x, y, **options, reduction="sum"), dtype=np.float64)
    _check(job, start, x, y, loss, each)
    return loss


def total(parts: list[Value]) -> Value:
    """The exact sum of `parts`, rounded once; element by element for arrays."""
    if not parts or np.ndim(parts[0]) == 0:
        numbers = [float(part) for part in parts]
        try:
            return math.fsum(numbers)
        except (OverflowError, ValueError):  # beyond the largest number; infinities of both signs
            return sum(numbers)
    columns = np.stack([np.asarray(part) for part in parts])
    sums = [total(list(column)) for column in columns.reshape(len(parts), -1).T]
    return np.asarray(sums).reshape(columns.shape[1:])


@np.errstate(all="ignore")
def _figures(job: Job, sums: Sums, seconds: float) -> Figures:
    loss = total(sums.loss)
    rows = sums.counted // max(1, np.size(loss))  # of one output, where outputs are apart
    divisor = total(sums.divisor) if sums.divisor else float(rows)
    mean = _ratio(loss, divisor)
    mse = _ratio(total(sums.squared), divisor) if sums.squared else None
    if job.loss.name == "rmse_loss":
        mean, loss = np.sqrt(mean), np.sqrt(loss)  # as the library: the root of the mean, or of the sum
    classes, binary = job.loss.family == "classes", job.loss.family == "binary"
    counts = classes or binary
    return Figures(
        value={"mean": mean, "sum": loss, "none": None}[job.reduction],
        mean=mean,
        perplexity=float(np.exp(mean)) if classes else None,
        accuracy=float(_ratio(sums.correct, sums.counted)) if counts else None,
        correct=sums.correct if counts else None,
        mse=mse,
        rmse=None if mse is None else np.sqrt(mse),
        mae=_ratio(total(sums.absolute), divisor) if sums.absolute else None,
        rows=sums.counted if classes else job.layout.n_rows,
        ignored=sums.ignored,
        elements=None if classes else sums.counted,
        seconds=seconds,
    )


def _ratio(numerator: Value, denominator: Value) -> Value:
    """A mean; NaN where nothing was counted."""
    return np.divide(numerator, denominator)
