"""Losses and what goes with them, chunk by chunk; the sums combine to what one call over all data would give."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastloss import _reduce
from fastloss.cli import library
from fastloss.cli.eval.plan.layout import Layout
from fastloss.cli.eval.plan.opened import Opened
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.eval.stats.sums import Place, Rows, Sums, Value
from fastloss.cli.failure import Failure
from fastloss.cli.files.pages import collected, resident

from .best import best_class
from .locate import improbable, refusal, undefined

# Sums of squares below which digits are lost where float32 is computed in.
_LEAST_SQUARES = 1e-28

Sink = Callable[[np.ndarray], None]  # takes the single losses of chunks in order

# How much is scored before the clock starts: bytes of predictions, and losses at most where each is looked at.
_WARM_BYTES, _WARM_LOSSES = 4 << 20, 1 << 10


@dataclass(frozen=True)
class Chunk:
    """Slices of an opened shard, and what to compute from them."""

    opened: Opened
    start: int
    x: np.ndarray
    y: np.ndarray
    w: np.ndarray | None
    place: Place
    measures: Measures
    r: np.ndarray | None = None  # what another model predicts


@np.errstate(all="ignore")  # NaN is told with its place; infinities are results
def add_chunks(
    opened: Opened,
    start: int,
    stop: int,
    chunk_rows: int | None,
    place: Place,
    state: State,
    measures: Measures,
    sink: Sink | None,
    advance: Callable[[int], None],
) -> None:
    """Add slices [start, stop) of `opened` to `state`, in chunks of about `chunk_rows` rows, single losses into `sink`.

    Raises
    ------
    Failure
        A label is out of range, a value is NaN or outside the loss's domain.
    """
    step = _step(opened)
    layout = opened.layout
    n_chunks = -(-(stop - start) // layout.slices_per_chunk(chunk_rows))
    bounds = [start + (stop - start) * i // n_chunks for i in range(n_chunks + 1)]  # of one size: no small rest
    for first, last, then in zip(bounds, bounds[1:], [*bounds[2:], stop], strict=False):
        here = place.after((first - start) * layout.losses_per_slice)
        x, y, w, r = _collected(layout, first, last)
        read = [(opened.predictions.name, x), (opened.targets.name, y)]
        if opened.reference is not None and r is not None:
            read.append((opened.reference.name, r))
        if opened.weight is not None and w is not None:
            read.append((opened.weight.name, w))
        with resident(read, layout.mapped(last, then)):
            step(Chunk(opened, first, x, y, w, here, measures, r), state, sink)
        advance((last - first) * layout.n_rows // layout.n_slices)


def _collected(
    layout: Layout, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Predictions, targets, weights and the reference's predictions of slices [start, stop), none of them scattered over its file."""
    x, y, w = layout.chunk(start, stop)
    return collected(x), collected(y), collected(w), collected(layout.reference_chunk(start, stop))


@np.errstate(all="ignore")
def warm_up(opened: Opened, chunk_rows: int | None, measures: Measures) -> None:
    """Score a few rows for nothing: what is compiled or loaded on a first call is not the data's speed."""
    layout = opened.layout
    some = min(layout.slices_per_chunk(chunk_rows), layout.n_slices * _WARM_BYTES // layout.predictions.nbytes)
    if measures.rows:  # what is done with single losses is slow, and quickly warm
        some = min(some, _WARM_LOSSES // layout.losses_per_slice)
    if some := min(some, layout.n_slices):
        nowhere = np.zeros(some * layout.losses_per_slice, np.int32)
        place = Place(0, 0, 0, 0, layout.losses_per_sample, nowhere, nowhere, nowhere)
        x, y, w, r = _collected(layout, 0, some)
        chunk = Chunk(opened, 0, x, y, w, place, measures, r)
        _step(opened)(chunk, State(measures), (lambda losses: None) if measures.losses else None)


def losses_dtype(opened: Opened) -> np.dtype:
    """The dtype of the opened's single losses."""
    x, y, w = opened.layout.chunk(0, 0)
    empty = Chunk(opened, 0, x, y, w, Place(0, 0, 0, 0, 1), Measures(), opened.layout.reference_chunk(0, 0))
    if not opened.has_targets:
        return _compared(empty, None).kl.dtype
    if opened.loss.family == "classes":
        return _class_losses(empty, _float_targets(opened, x, y)).dtype
    return _call(empty, opened.loss.name, weight=w, reduction="none").dtype


def _call(
    chunk: Chunk,
    name: str,
    y: np.ndarray | None = None,
    call: Callable[..., Any] = library.loss,
    **options: Any,
) -> Any:
    """Call a function of the library; what it refuses becomes a Failure that names the place in the file."""
    y = chunk.y if y is None else y
    try:
        return call(name, chunk.x, y, **options)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise refusal(chunk.opened, chunk.start, chunk.x, y, error) from None


def _check(chunk: Chunk, loss: Value, each: Callable[[], np.ndarray]) -> None:
    """NaN is an error that names its place; it is looked for only when the sum of a chunk is NaN."""
    if np.isnan(loss).any() and (failure := undefined(chunk.opened, chunk.start, chunk.x, chunk.y, each)):
        raise failure


def _float_targets(opened: Opened, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The targets, as numbers if they are one-hot targets saved as integers."""
    if opened.labels or y.dtype.kind not in "biu":
        return y
    return y.astype(np.float64 if x.dtype.itemsize == 8 else np.float32)


def _class_losses(chunk: Chunk, y: np.ndarray) -> np.ndarray:
    """Single losses of the softmax family."""
    opened, name = chunk.opened, chunk.opened.loss.name
    options: dict[str, Any] = {"weight": opened.weights, "reduction": "none"}
    if opened.layer is None:
        options["axis"] = opened.layout.axis
    else:
        name, options = f"linear_{name}", options | opened.layer.options
    if opened.ignore_given:
        options["ignore_index"] = opened.ignore_index
    if opened.loss.smooths:
        options["label_smoothing"] = opened.label_smoothing
    if opened.layer is None:
        return _call(chunk, name, y, **options)

    def call(name: str, x: np.ndarray, y: np.ndarray, linear_weight: np.ndarray, **options: Any) -> Any:
        return library.loss(name, x, linear_weight, y, **options)

    return _call(chunk, name, y, call=call, **options)


def _classes(chunk: Chunk, state: State, sink: Sink | None) -> None:
    """A chunk of the softmax family. The losses of single rows are few beside the scores: always taken."""
    opened, x, axis, measures = chunk.opened, chunk.x, chunk.opened.layout.axis or 0, chunk.measures
    y = _float_targets(opened, x, chunk.y)
    # One pass over the logits answers all, where the loss is the plain one; elsewhere only what is asked beside it.
    plain = (
        opened.loss.name == "cross_entropy" and opened.labels and opened.weights is None and not opened.label_smoothing
    )
    score, in_top_k = None, None
    if plain or measures.top_k and opened.labels or measures.entropy or opened.layer is not None:
        options: dict[str, Any] = {"ignore_index": opened.ignore_index, "top_k": measures.top_k}
        options["entropy"] = measures.entropy
        if opened.layer is None:
            options["axis"] = axis
        else:
            options |= {"top": 1 if _wants_probability(measures) else None} | opened.layer.options
        score = _call(chunk, "score", y, **options)
        in_top_k = score.in_top_k
    losses = score.nll if plain and score is not None else _class_losses(chunk, y)
    loss = float(np.sum(losses, dtype=np.float64))
    _check(chunk, loss, lambda: losses)
    if sink is not None:
        sink(losses)

    best = best_class(x, axis) if score is None else score.argmax
    truth = y if opened.labels else best_class(y, axis)
    keep, divisor = None, None
    correct = best == truth
    if opened.labels:
        keep = y != opened.ignore_index
        correct &= keep
        if opened.weights is not None:
            divisor = np.zeros(losses.shape)
            divisor[keep] = opened.weights[y[keep].astype(np.intp)]
    counted = losses.size if keep is None else int(np.count_nonzero(keep))
    sums = state.sums
    sums.add_all("loss", losses)
    if divisor is not None:
        sums.add_all("divisor", divisor)
    sums.count("counted", counted)
    sums.count("ignored", losses.size - counted)
    sums.count("correct", np.count_nonzero(correct))
    if in_top_k is not None:
        sums.count("in_top_k", np.count_nonzero(in_top_k))
    n_bytes = None
    if measures.n_bytes is not None:
        assert chunk.place.n_bytes is not None
        n_bytes = chunk.place.n_bytes[: losses.size].astype(np.float64)
        if measures.n_bytes == "row" and keep is not None:
            n_bytes[~keep.reshape(-1)] = 0.0
        sums.add_all("n_bytes", n_bytes)
    more = {}
    if measures.brier:
        more["brier"] = library.squared_distances(x, y, axis, opened.ignore_index, not opened.loss.probabilities)
    if measures.entropy and score is not None:
        more["entropy"] = score.entropy
    for name, column in more.items():
        more[name] = column if keep is None else np.where(keep, column, column.dtype.type(0))
        sums.add_all(name, more[name])
    against = {} if chunk.r is None else _against(chunk, y, keep, best, sums)
    if measures.rows:
        probability = _confidence(chunk, best, axis, score) if _wants_probability(measures) else None
        state.add(
            Rows(
                loss=losses.reshape(-1), divisor=_flat(divisor), counted=_flat(keep), correct=_flat(correct),
                in_top_k=_flat(in_top_k), probability=_flat(probability), outcome=_flat(correct),
                target=_flat(truth), prediction=_flat(best), n_bytes=n_bytes, brier=_flat(more.get("brier")),
                entropy=_flat(more.get("entropy")), **against,
            ),
            chunk.place,
        )  # fmt: skip


def _wants_probability(measures: Measures) -> bool:
    return measures.report or measures.bins is not None


def _compared(chunk: Chunk, y: np.ndarray | None) -> Any:
    """How the chunk's rows differ from another model's."""

    def call(name: str, x: np.ndarray, _: np.ndarray, **options: Any) -> Any:
        return library.loss(name, chunk.r, x, y, **options)

    opened = chunk.opened
    options: dict[str, Any] = {"ignore_index": opened.ignore_index}
    if opened.layer is None or opened.reference_layer is None:
        options["axis"] = opened.layout.axis or 0
    else:
        options |= opened.layer.options
        if opened.reference_layer is not opened.layer:
            options |= {f"reference_{name}": array for name, array in opened.reference_layer.options.items()}
    return _call(chunk, "compare", call=call, **options)


def _against(
    chunk: Chunk, y: np.ndarray, keep: np.ndarray | None, best: np.ndarray, sums: Sums
) -> dict[str, np.ndarray | None]:
    """The other model's results beside the chunk's, added to the sums and as columns of its rows."""
    opened, axis = chunk.opened, chunk.opened.layout.axis or 0
    found = _compared(chunk, y)
    other = _of_reference(chunk)
    options: dict[str, Any] = {"ignore_index": opened.ignore_index, "top_k": chunk.measures.top_k}
    options |= {"axis": axis} if other.opened.layer is None else other.opened.layer.options
    score = _call(other, "score", y, **options)
    _check(other, float(np.sum(score.nll, dtype=np.float64)), lambda: score.nll)
    counted = np.ones(y.shape, bool) if keep is None else keep
    delta_p = found.delta_p.astype(np.float64)
    columns = {
        "kl": np.where(counted, found.kl, found.kl.dtype.type(0)),
        "reference_loss": score.nll,
        "delta_p": delta_p,
        "delta_p_squared": delta_p * delta_p,
    }
    flags = {"same": (score.argmax == best) & counted, "reference_correct": score.correct}
    if score.in_top_k is not None:
        flags["reference_in_top_k"] = score.in_top_k
    for name, column in columns.items():
        sums.add_all(name, column)
    columns["reference_prediction"] = score.argmax
    for name, flag in flags.items():
        sums.count(name, np.count_nonzero(flag))
    return {name: _flat(column) for name, column in (columns | flags).items()}


def _of_reference(chunk: Chunk) -> Chunk:
    """The chunk with the other model's predictions in place of this one's."""
    assert chunk.r is not None and chunk.opened.reference is not None
    opened = replace(chunk.opened, predictions=chunk.opened.reference, layer=chunk.opened.reference_layer)
    return replace(chunk, x=chunk.r, opened=opened)


def _distributions(chunk: Chunk, state: State, sink: Sink | None) -> None:
    """A chunk of logits without targets, which are compared with another model's: what a row costs is its divergence."""
    found = _compared(chunk, None)
    total = float(np.sum(found.kl, dtype=np.float64))
    if np.isnan(total):
        for one in (chunk, _of_reference(chunk)):
            _check(one, total, functools.partial(_class_losses, one, one.y))
    if sink is not None:
        sink(found.kl)
    state.sums.add_all("kl", found.kl)
    state.sums.count("counted", found.kl.size)
    state.sums.count("same", np.count_nonzero(found.same_argmax))
    kl = found.kl.reshape(-1)
    state.add(Rows(loss=kl, kl=kl, same=_flat(found.same_argmax)), chunk.place)


def _flat(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.reshape(-1)


def _confidence(chunk: Chunk, best: np.ndarray, axis: int, score: Any) -> np.ndarray:
    """The probability given to the most likely class."""
    if chunk.opened.layer is not None:
        return np.exp(score.top_log_probs[..., 0].astype(np.float64))
    top = np.take_along_axis(chunk.x, np.expand_dims(best, axis), axis).squeeze(axis)
    if chunk.opened.loss.probabilities:
        return top
    top = top.astype(np.float64)
    if chunk.opened.loss.name == "nll_loss":
        return np.exp(top)
    lse = score.lse if score is not None else library.loss("logsumexp", chunk.x, axis=axis)
    return np.exp(top - lse)


def _binary(chunk: Chunk, state: State, sink: Sink | None) -> None:
    """A chunk of a binary loss: whatever the weights, the mean divides by the number of elements."""
    opened, x, y = chunk.opened, chunk.x, chunk.y
    # The library takes any target, as torch does, but labels -1 and 1 have no place in a report.
    if not (y.min() >= 0 and y.max() <= 1) and (failure := improbable(opened, chunk.start, opened.targets, y)):
        raise failure
    said, truth = x > opened.loss.threshold, y > 0.5
    loss, losses = _elements(chunk, opened.loss.name, sink, weight=chunk.w)
    state.sums.add("loss", loss)
    state.sums.count("counted", x.size)
    state.sums.count("correct", np.count_nonzero(said == truth))
    brier = None
    if chunk.measures.brier:
        if not ((y == 0) | (y == 1)).all():
            raise Failure("--brier", f"needs labels 0 and 1; {opened.targets.name} holds other numbers")
        brier = library.squared_distances(x, truth, None, opened.ignore_index, not opened.loss.probabilities)
        state.sums.add_all("brier", brier)
    if losses is not None and chunk.measures.rows:
        probability = None
        if _wants_probability(chunk.measures):
            probability = x if opened.loss.probabilities else 1 / (1 + np.exp(-x.astype(np.float64)))
        state.add(
            Rows(
                loss=losses.reshape(-1), correct=_flat(said == truth), probability=_flat(probability),
                outcome=_flat(truth), target=_flat(y), prediction=_flat(x), brier=_flat(brier),
            ),
            chunk.place,
        )  # fmt: skip


def _regression(chunk: Chunk, state: State, sink: Sink | None) -> None:
    """A chunk of an element-wise loss: the mean divides by the sum of the broadcast weights."""
    opened, x, w = chunk.opened, chunk.x, chunk.w
    axis = 0 if opened.per_output else None
    name = "mse_loss" if opened.loss.name == "rmse_loss" else opened.loss.name
    divisors = None if w is None else np.broadcast_to(w, x.shape)
    if divisors is None:
        divisor: Value = np.full(x.shape[1:], float(x.shape[0])) if opened.per_output else float(x.size)
    else:
        divisor = np.sum(divisors, axis=axis, dtype=np.float64)
    if divisors is not None or opened.per_output:
        state.sums.add("divisor", divisor)
    loss, losses = _elements(chunk, name, sink, divisor, weight=w, axis=axis)
    state.sums.add("loss", loss)
    if opened.loss.errors:
        absolute = loss if name == "l1_loss" else _total(chunk, "l1_loss", divisor, weight=w, axis=axis)
        state.sums.add("absolute", absolute)
        squares = {"squared": loss} if name == "mse_loss" and _usual(loss) else _squares(chunk, weight=w, axis=axis)
        for part, sums in squares.items():
            if part == "squared" or np.any(sums):
                state.sums.add(part, sums)
    state.sums.count("counted", x.size)
    if losses is not None and chunk.measures.rows:
        squared = _single_squares(chunk, losses) if opened.loss.name == "rmse_loss" else {}
        rows = Rows(losses.reshape(-1), _flat(divisors), target=_flat(chunk.y), prediction=_flat(x), **squared)
        state.add(rows, chunk.place)


def _usual(squares: Value) -> bool:
    """Whether no square of an error was too large or too small for sums of them."""
    return bool(np.all((np.asarray(squares) >= _LEAST_SQUARES) & (np.asarray(squares) < np.inf)))


def _squares(chunk: Chunk, **options: Any) -> dict[str, Value]:
    """The sums of a chunk's squared errors, those outside float64's range apart."""
    found: dict[str, Value] = _call(chunk, "rmse_loss", call=library.squares, **options)
    return found


def _single_squares(chunk: Chunk, squares: np.ndarray) -> dict[str, np.ndarray | None]:
    """The single squares of a chunk's errors, those outside float64's range apart."""
    found = {"squared": squares}
    for name, far, by in (
        ("squared_huge", squares == np.inf, 1.0 / _reduce.FAR_ROOT),
        ("squared_tiny", squares < _reduce.SMALL_SQUARES, _reduce.FAR_ROOT),
    ):
        if far.any():
            errors = chunk.x.astype(np.float64) * by - chunk.y.astype(np.float64) * by
            weighed = np.square(errors) if chunk.w is None else np.square(errors) * chunk.w
            found[name] = np.where(far, weighed, 0.0)
            found["squared"] = np.where(far, 0.0, found["squared"])
    return {name: _flat(column) for name, column in found.items()}


def _elements(
    chunk: Chunk, name: str, sink: Sink | None, divisor: Value = 1.0, **options: Any
) -> tuple[Value, np.ndarray | None]:
    """The summed loss of a chunk of elements, and its single losses if something looks at those."""
    loss = _total(chunk, name, divisor, **options)
    if sink is None and not chunk.measures.rows:
        return loss, None
    # of a root, rows are squares, which would leave float32's range
    wide = replace(chunk, x=chunk.x.astype(np.float64)) if chunk.opened.loss.name == "rmse_loss" else chunk
    losses = _call(wide, name, weight=options["weight"], reduction="none")
    if sink is not None:
        sink(losses)
    return loss, losses


def _total(chunk: Chunk, name: str, divisor: Value, **options: Any) -> Value:
    """The summed loss of a chunk, the same bits whatever else is wanted of it."""
    if options.get("axis") is None:
        loss: Value = _call(chunk, name, call=library.total, **options)
    elif np.all(divisor):
        # The mean is what cannot overflow: float32 losses come as float32.
        loss = np.multiply(_call(chunk, name, **options, reduction="mean"), divisor, dtype=np.float64)
    else:
        loss = np.asarray(_call(chunk, name, **options, reduction="sum"), dtype=np.float64)
    _check(chunk, loss, lambda: _call(chunk, name, weight=options["weight"], reduction="none"))
    return loss


_STEPS = {"classes": _classes, "binary": _binary, "regression": _regression}


def _step(opened: Opened) -> Callable[[Chunk, State, Sink | None], None]:
    """The function that adds a chunk of this shard."""
    return _STEPS[opened.loss.family] if opened.has_targets else _distributions
