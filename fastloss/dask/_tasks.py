"""What tasks do with the chunks they get: NumPy arrays in, NumPy arrays out, on one thread.

Chunks have as many axes as the arrays of the call, the class axis among them, so that a chunk's number says where it begins.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from fastloss import (
    _arrays,
    _classes,
    _config,
    _errors,
    _linear,
    _linear_score,
    _plan,
    _pointwise,
    _reduce,
    _score,
    _tiles,
    losses,
)
from fastloss._exact import ExactSum
from fastloss._order import n_before
from fastloss._pointwise import Gradient, Totals


def task(function):
    """`function` on one thread, as the scheduler has the others, and with the backend of the call."""

    @functools.wraps(function)
    def alone(*chunks, backend=None, **options):
        with _config.threads.within(1), _config.backend.within(backend):
            return function(*chunks, **options)

    return alone


def beginning(starts, block_id):
    """Where a chunk of an operand begins; `starts` has the beginnings of its chunks by axis, one only where it is broadcast."""
    block_id = block_id[len(block_id) - len(starts) :]
    return tuple(axis[i if len(axis) > 1 else 0] for axis, i in zip(starts, block_id, strict=True))


# --- errors -------------------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """A value that is an error, and where it is in the whole array."""

    operand: int  # the host looks at operands one after the other
    position: tuple
    error: Any  # function of `_errors`
    arguments: tuple

    def raised(self):
        return self.error(*self.arguments)


def bad_label(y, n_classes, ignore_index, *, axis, starts, block_id):
    """The first bad label of a chunk, which has no class axis; `starts` are those of a chunk with one."""
    origin = beginning(starts, block_id)
    found = _classes.first_bad_label(_arrays.indices(y), n_classes, ignore_index)
    if found is None:
        return None
    axis %= len(origin)
    position = _moved(found[0], origin[:axis] + origin[axis + 1 :])
    return Bad(1, position, _errors.label_out_of_range, (position, found[1], n_classes, ignore_index))


def bad_value(operand, a, name, domain, origin):
    found = _pointwise.first_outside(_arrays.floats(a, name), domain)
    if found is None:
        return None
    position = _moved(found[0], origin)
    return Bad(operand, position, _errors.outside, (name, *domain, position, found[1]))


def _moved(position, origin):
    return tuple(int(i) + start for i, start in zip(position, origin, strict=True))


def good(result):
    if isinstance(result, Bad):
        raise result.raised()
    return result


# --- sums ---------------------------------------------------------------------------------------------------------------


class Part:
    """Sums over part of the data, exact like an Accumulator's; and the first of the values there that are errors."""

    def __init__(self, total=0.0, weight=0.0, count=0, bad=None):
        self.total, self.weight, self.count, self.bad = ExactSum(), ExactSum(), count, bad
        self.total.add(total)
        self.weight.add(weight)

    def merge(self, other):
        self.total.merge(other.total)
        self.weight.merge(other.weight)
        self.count += other.count
        if other.bad and (self.bad is None or other.bad[:2] < self.bad[:2]):
            self.bad = other.bad

    def checked(self):
        if self.bad:
            raise self.bad.raised()
        return self


def single(part, ndim):
    """The part as an array of that one object."""
    result = np.empty((1,) * ndim, object)
    result[...] = part
    return result


def merge_parts(parts, axis, keepdims):
    """One part of all; `axis` is every axis."""
    total = Part()
    for part in parts.flat:
        total.merge(part)
    return single(total, parts.ndim if keepdims else 0)


# Sums of several results at once, each as an unevaluated sum of two doubles.
LANES = np.dtype([(name, np.float64) for name in ("total", "total_rest", "weight", "weight_rest")])


def merge_lanes(lanes, axis, keepdims):
    parts = np.moveaxis(lanes, axis, range(len(axis)))
    parts = parts.reshape(-1, *parts.shape[len(axis) :])
    merged = parts[0].copy()
    with np.errstate(all="ignore"):
        for part in parts[1:]:
            for name in ("total", "weight"):
                _add(merged, part, name)
    return np.expand_dims(merged, axis) if keepdims else merged


def _add(merged, part, name):
    """The sum of two sums; of what rounding leaves (Knuth's two-sum) all but the last bits is kept."""
    a, b = merged[name], part[name]
    s = a + b
    virtual = s - a
    rest = (a - (s - virtual)) + (b - virtual)
    merged[f"{name}_rest"] += part[f"{name}_rest"] + np.where(np.isfinite(s), rest, 0.0)
    merged[name] = s


# --- pointwise losses ---------------------------------------------------------------------------------------------------


def pointwise(*operands, loss, names, starts, block_id, **options):
    x, y, z, w = operands
    try:
        return _pointwise.evaluate(loss, x, y, z, weight=w, names=names, **options)
    except ValueError:
        rows = zip(operands, names, loss.domains, strict=False)
        for i, (a, name, domain) in enumerate(rows):
            if domain is not None and isinstance(a, np.ndarray):
                bad = bad_value(i, a, name, domain, beginning(starts[i], block_id))
                if bad:
                    return bad
        raise


@task
def pointwise_lanes(*operands, axis, block_id, **options):
    totals = Totals()
    good(pointwise(*operands, out=totals, axis=axis, reduction="sum", block_id=block_id, **options))
    lanes = np.zeros(totals.total.shape, LANES)
    lanes["total"], lanes["weight"] = totals.total, totals.weight
    return np.expand_dims(lanes, axis)


# --- the host's functions on chunks: `call` is one of those here that take a chunk and `out` and `reduction`, as the host's do, and
# return the first Bad where there is one


@task
def total_of(*operands, call, block_id, **options):
    totals = Totals()
    bad = call(*operands, out=totals, reduction="sum", block_id=block_id, **options)
    return single(Part(bad=bad) if bad else Part(totals.total, totals.weight, totals.count), len(block_id))


@task
def each_of(*operands, call, block_id, **options):
    """Losses; those of rows with an axis of length 1 for the classes."""
    result = good(call(*operands, out=None, reduction="none", block_id=block_id, **options))
    return np.expand_dims(result, options["axis"]) if "axis" in options else result


@task
def slopes_of(*operands, call, block_id, **options):
    """A chunk of the gradient, with all axes of the call; the last of the operands is what a sum counts in the result."""
    *operands, scale = operands
    request = Gradient(scale=float(scale))
    good(call(*operands, out=request, reduction="sum", block_id=block_id, **options))
    slopes = np.asarray(request.array)
    return slopes.reshape((1,) * (len(block_id) - slopes.ndim) + slopes.shape)


# --- results from sums --------------------------------------------------------------------------------------------------


def result_of(part, *, reduction, divisor, root, rowwise, real):
    part = part.item().checked()
    if reduction == "sum":
        value = float(part.total)
    else:
        weight = part.weight if divisor is None else Part(weight=divisor).weight
        value = _reduce.mean_of_sums(part.total, weight, rowwise)
    with np.errstate(invalid="ignore"):
        return _arrays.scalar(float(np.sqrt(value) if root else value), real)


def lanes_result_of(lanes, *, reduction, divisor, root, real):
    weights = lanes["weight"] + lanes["weight_rest"] if divisor is None else divisor
    return _pointwise.finished_lanes(
        lanes["total"] + lanes["total_rest"], weights if reduction == "mean" else None, root, real
    )


def scale_of(part, *, reduction, divisor, root):
    """What the gradient of the sum is multiplied by; the part is of the whole."""
    part = part.item().checked()
    divisor = float(part.weight) if divisor is None else divisor
    scale = _reduce.inverse(divisor) if reduction == "mean" else 1.0
    if root:
        value = float(np.sqrt(_reduce.ratio(part.total, divisor) if reduction == "mean" else float(part.total)))
        scale = scale / (2.0 * value) if value else 0.0
    return np.float64(scale)


@task
def weight_sum(w, *, copies):
    """The sum of the weights of a chunk, each of which counts for so many elements."""
    return single(Part(weight=float(np.sum(w, dtype=np.float64)) * copies), w.ndim)


# --- losses of rows -----------------------------------------------------------------------------------------------------


def _labels(y, axis):
    """Labels without the axis of length 1 that stands for the classes."""
    return np.squeeze(y, axis)


def rows(x, y, w, *, argument, axis, is_index, ignore_index, n_classes, starts, block_id, **options):
    """Losses of rows that are there with all classes."""
    y = _labels(y, axis) if is_index else y
    try:
        return _classes.evaluate(argument, x, y, weight=w, axis=axis, ignore_index=ignore_index, **options)
    except ValueError:
        bad = None
        if options["op"] == "gather":
            bad = bad_value(0, x, "probs", losses.PROBABILITY, beginning(starts, block_id))
        if bad is None:
            raise
        return bad
    except IndexError:
        return bad_label(y, n_classes, ignore_index, axis=axis, starts=starts, block_id=block_id)


@task
def label_weights(y, w, *, axis, n_classes, ignore_index, real, starts, block_id):
    """What a mean divides by, of the labels in a chunk."""
    labels = _arrays.indices(_labels(y, axis))
    bad = bad_label(labels, n_classes, ignore_index, axis=axis, starts=starts, block_id=block_id)
    if bad:
        return single(Part(bad=bad), y.ndim)
    w = _classes.class_weights(w, n_classes, real)
    return single(Part(weight=_classes.weigh_labels(labels, n_classes, w, ignore_index)), y.ndim)


# --- losses of elements of rows, a chunk of the classes at a time -------------------------------------------------------


def own_rows(x, y, w, *, axis, is_index, ignore_index, n_classes, starts, block_id, out, **options):
    """What a chunk of the classes adds to the losses of rows: labels of other chunks are left out."""
    place = {"axis": axis, "starts": starts, "block_id": block_id}
    first, width = beginning(starts, block_id)[axis], x.shape[axis]
    w = None if w is None else w[first : first + width]
    if is_index:
        labels = _arrays.indices(_labels(y, axis))
        bad = bad_label(labels, n_classes, ignore_index, **place)
        if bad and first == 0:
            return bad
        labels = _classes.wide_labels(labels, ignore_index).reshape(labels.shape)
        y = np.expand_dims(np.where((labels >= first) & (labels < first + width), labels - first, -1), axis)
        ignore_index = -1
    if out is None:  # is still to be added up
        x = _arrays.floats(x, "probs").astype(np.float64)
    options |= place | {"is_index": is_index, "ignore_index": ignore_index, "n_classes": width, "out": out}
    result = rows(x, y, w, **options)
    if isinstance(out, Totals) and not is_index and first and result is None:
        out.take(out.total, 0.0, 0)  # with probabilities rows are counted, each once
    return result


# --- softmax, a chunk of the classes at a time --------------------------------------------------------------------------

# What is known of a row: its state, the class of the largest logit, and that logit.
ROW = np.dtype([("state", np.float64, 6), ("best", np.int64), ("peak", np.float64)])


def _rows(a, axis):
    """An array with a class axis as (n_rows, n_classes), a view if that can be."""
    a = np.moveaxis(a, axis, -1)
    return a.reshape(-1, a.shape[-1]) if a.shape[-1] else np.empty((int(np.prod(a.shape[:-1])), 0), a.dtype)


def _as_chunk(rows, shape, axis):
    """(n_rows, ...) as a chunk of which the rows have that shape."""
    width = rows.shape[1] if rows.ndim > 1 else 1
    return np.moveaxis(rows.reshape(*shape[:axis], *shape[axis + 1 :], width), -1, axis)


def _states(rows):
    """The states of all rows as (n_rows, 6)."""
    return np.ascontiguousarray(rows["state"].reshape(-1, 6))


def _tiles_of(x, real):
    """Tiles of rows of a chunk (n_rows, n_classes), filled up to what kernels take: slices of rows, and logits to write to."""
    n_rows, width = x.shape
    room = max(width, _tiles.LEAST)
    height = max(1, min(n_rows, _tiles.TILE // room))
    scratch = np.empty((height, room), real)
    scratch[:, width:] = -np.inf
    for first in range(0, n_rows, height):
        rows = slice(first, min(first + height, n_rows))
        logits = scratch[: rows.stop - rows.start]
        logits[:, :width] = x[rows]
        yield rows, logits


class _Target(NamedTuple):
    """What rows are compared with."""

    labels: np.ndarray | None  # int64 (n_rows,), negative where ignored
    y: np.ndarray | None  # (n_rows, classes of the chunk)
    w: np.ndarray | None  # of all classes
    keep: float
    spread: float | None

    def arguments(self, rows, first, width, real):
        """Those of the tile kernels that follow the logits."""
        labels = None if self.labels is None else self.labels[rows]
        y = None if self.y is None else np.ascontiguousarray(self.y[rows], real)
        w = None if self.w is None else self.w[first : first + width]
        return first, width, None, labels, y, w, self.keep, self.spread


def _target(y, w, *, axis, is_index, ignore_index, smoothing, n_classes, real):
    """The target of a chunk; of no target, y is None."""
    labels = None
    if is_index and y is not None:
        labels = _classes.wide_labels(_arrays.indices(_labels(y, axis)), ignore_index)
    spread = smoothing / max(n_classes, 1) if smoothing or not is_index else None
    w = _classes.class_weights(w, n_classes, real)
    return _Target(labels, None if is_index or y is None else _rows(y, axis), w, 1.0 - smoothing, spread)


@task
def class_states(x, y, w, *, starts, block_id, best=False, **options):
    """What a chunk of the classes says of its rows; `best` if the largest logit's place is wanted."""
    axis, real = options["axis"], options["real"]
    target = _target(y, w, **options)
    first = beginning(starts, block_id)[axis]
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    known = np.zeros(len(x), ROW)
    known["state"] = _tiles.new_state(len(x))
    known["peak"] = -np.inf
    kernel = _plan.backend().kernel(None, "reduce_tile", real)
    for rows, logits in _tiles_of(x, real) if x.size else ():
        state = _states(known[rows])
        kernel(logits, *target.arguments(rows, first, x.shape[1], real), len(logits), 0, 1, state)
        known["state"][rows] = state
        if best:
            found = np.argmax(logits[:, : x.shape[1]], axis=1)
            known["best"][rows] = found + first
            known["peak"][rows] = logits[np.arange(len(logits)), found]
    return _as_chunk(known, shape, axis)


def merge_rows(known, axis, keepdims):
    """The states of rows merged over chunks of their classes."""
    (axis,) = axis
    parts = np.moveaxis(known, axis, 0)
    shape = parts.shape[1:]
    merged = parts[0].reshape(-1).copy()
    state = _states(merged)
    for part in parts[1:]:
        part = part.reshape(-1)
        _tiles.merge(state, _states(part))
        _take_better(merged, part)
    merged["state"] = state
    merged = merged.reshape(shape)
    return np.expand_dims(merged, axis) if keepdims else merged


def _take_better(merged, part):
    """The first of the largest logits, NaN being larger than all, as argmax has it."""
    mine, other = merged["peak"], part["peak"]
    equal = (mine == other) | np.isnan(mine) & np.isnan(other)
    better = (other > mine) | np.isnan(other) & ~np.isnan(mine) | equal & (part["best"] < merged["best"])
    for name in ("peak", "best"):
        merged[name] = np.where(better, part[name], merged[name])


def _finished(known, y, w, *, axis, starts, block_id, **options):
    """Losses of rows of which all is known, as `_tiles.finish` has them, the target and a Bad or None; axis is the class axis."""
    target, bad = _target(y, w, axis=axis, **options), None
    if options["is_index"]:
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        bad = bad_label(_labels(y, axis), options["n_classes"], options["ignore_index"], **place)
        if bad:
            return (None, None, None), target, bad
    return _tiles.finish(_states(known), target.labels, target.w, target.keep, target.spread), target, bad


@task
def rows_total(known, y, w, *, block_id, **options):
    (rows, _, weights), target, bad = _finished(known, y, w, block_id=block_id, **options)
    if bad:
        return single(Part(bad=bad), known.ndim)
    if target.labels is None:
        return single(Part(np.sum(rows), len(rows), len(rows)), known.ndim)
    counted = target.labels >= 0
    return single(Part(np.sum(rows), np.sum(weights, where=counted), int(np.count_nonzero(counted))), known.ndim)


@task
def rows_each(known, y, w, *, block_id, **options):
    (rows, _, _), _, bad = _finished(known, y, w, block_id=block_id, **options)
    good(bad)
    with np.errstate(over="ignore", invalid="ignore"):
        return rows.astype(options["real"]).reshape(known.shape)


@task
def class_slopes(x, y, w, known, scale, *, starts, block_id, **options):
    """The gradient in a chunk of the classes of rows of which all is known."""
    axis, real = options["axis"], options["real"]
    (_, tails, weights), target, bad = _finished(known, y, w, starts=starts, block_id=block_id, **options)
    good(bad)
    state, first = _states(known), beginning(starts, block_id)[axis]
    return _slopes(
        x, state, tails, target.keep * weights, weights * (target.spread or 0.0), scale, target, first, axis, real
    )


@task
def class_softmax(x, known, *, axis, real):
    """The gradient of logsumexp."""
    state = _states(known)
    nothing = _Target(None, None, None, 1.0, None)
    return _slopes(
        x, state, _tiles.tails_of(state), np.ones(len(state)), np.zeros(len(state)), 1.0, nothing, 0, axis, real
    )


def _slopes(x, state, tails, shares, owns, scale, target, first, axis, real):
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    result = np.empty(x.shape, real)
    kernel = _plan.backend().kernel(None, "slope_tile", real)
    for rows, logits in _tiles_of(x, real) if x.size else ():
        arguments = target.arguments(rows, first, x.shape[1], real)
        more = (state[rows], tails[rows], shares[rows], owns[rows], float(scale))
        kernel(logits, *arguments, len(logits), 0, 1, *more, result[rows])
    return _as_chunk(result, shape, axis)


@task
def class_log_softmax(x, known, *, axis, real):
    state = _states(known)
    shape, x = x.shape, _rows(_arrays.floats(x, "x"), axis)
    with np.errstate(all="ignore"):
        rows = (x.astype(np.float64) - state[:, _tiles.TOP, None]) - _tiles.tails_of(state)[:, None]
        return _as_chunk(rows.astype(real), shape, axis)


@task
def rows_logsumexp(known, *, real):
    with np.errstate(over="ignore"):
        return _logsumexp(known).astype(real).reshape(known.shape)


def _logsumexp(known):
    """Where the largest logit is infinite, it is that: NaN if there is one."""
    state = _states(known)
    sums = state[:, _tiles.TOP] + _tiles.tails_of(state)
    return np.where(np.isinf(state[:, _tiles.TOP]), known["peak"].reshape(-1), sums)


# --- softmax of whole rows, scores --------------------------------------------------------------------------------------


@task
def normalised(x, *, axis, wanted):
    return np.asarray(_classes.normalise(x, axis, None, wanted, keepdims=True))


def scores_dtype(real, top_k):
    """The fields of Scores."""
    kinds = [real, real, np.int64, np.bool_, *([np.int64, np.bool_] if top_k else [])]
    return np.dtype(list(zip(_score.Scores._fields, kinds, strict=False)))


def _as_fields(found, dtype, axis):
    """Scores as one array, with an axis of length 1 for the classes."""
    result = np.empty(found.nll.shape, dtype)
    for name in dtype.names:
        result[name] = getattr(found, name)
    return np.expand_dims(result, axis)


@task
def scores(x, y, *, axis, ignore_index, top_k, real, starts, block_id):
    y = _labels(y, axis)
    try:
        found = _score.evaluate(x, y, axis, ignore_index, top_k)
    except IndexError:
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        raise bad_label(y, x.shape[axis], ignore_index, **place).raised() from None
    return _as_fields(found, scores_dtype(real, top_k), axis)


@task
def ahead(x, y, known, *, axis, ignore_index, real, starts, block_id):
    """How many classes of a chunk come before the target, wherever that is."""
    first = beginning(starts, block_id)[axis]
    labels = _classes.wide_labels(_arrays.indices(_labels(y, axis)), ignore_index)
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    own = _states(known)[:, _tiles.OWN].astype(real)
    classes = np.arange(first, first + x.shape[1])
    counts = np.zeros(len(x), np.int64)
    for rows, logits in _tiles_of(x, real):
        counts[rows] = n_before(logits[:, : len(classes)], classes, own[rows], labels[rows])
    return _as_chunk(counts, shape, axis)


@task
def rows_scores(known, y, counts, *, axis, top_k, real, block_id, **options):
    (nll, _, _), target, bad = _finished(known, y, None, axis=axis, real=real, block_id=block_id, **options)
    good(bad)
    labels = target.labels
    result = np.empty(len(labels), scores_dtype(real, top_k))
    with np.errstate(over="ignore"):
        result["nll"], result["lse"] = nll, _logsumexp(known)
    result["argmax"] = known["best"].reshape(-1)
    result["correct"] = result["argmax"] == labels
    if top_k:
        result["rank"] = np.where(labels < 0, -1, counts.reshape(-1))
        result["in_top_k"] = (result["rank"] >= 0) & (result["rank"] < top_k)
    return result.reshape(known.shape)


# --- linear layers ------------------------------------------------------------------------------------------------------


def linear(h, a, y, b, w, *, axis, is_index, ignore_index, starts, block_id, **options):
    y = _labels(y, axis) if is_index else y
    try:
        return _linear.evaluate(h, a, y, bias=b, weight=w, ignore_index=ignore_index, **options)
    except IndexError:
        return bad_label(y, len(a), ignore_index, axis=axis, starts=starts, block_id=block_id)


@task
def linear_scores(h, a, y, b, *, ignore_index, top_k, real, starts, block_id):
    y = _labels(y, -1)
    try:
        found = _linear_score.evaluate(h, a, y, bias=b, axis=-1, ignore_index=ignore_index, top_k=top_k)
    except IndexError:
        raise bad_label(y, len(a), ignore_index, axis=-1, starts=starts, block_id=block_id).raised() from None
    return _as_fields(found, scores_dtype(real, top_k), -1)
