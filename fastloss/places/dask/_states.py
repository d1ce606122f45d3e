"""The functions that tasks run on chunks of the class axis: states of rows (see `fastloss._tiles`), merging them, and
results from them."""

from typing import NamedTuple

import numpy as np

from fastloss import _arrays, _details, _plan, _scores, _tiles
from fastloss._order import n_before
from fastloss.places.dask._sums import Part, object_array, raise_if_bad
from fastloss.places.dask._tasks import bad_id, bad_label, beginning, fields_of, labels_of, scores_dtype, task
from fastloss.places.host.details import Gathered, n_first, wide_ids
from fastloss.places.host.labels import wide_labels
from fastloss.places.host.operands import REALS, class_weights
from fastloss.places.host.transformed import TransformedTiles

# What is known about a row: its state, the class of the largest logit, that logit and the target's logit, both before
# any transform.
ROW = np.dtype([("state", np.float64, 6), ("best", np.int64), ("peak", np.float64), ("own", np.float64)])


def _rows(a, axis):
    """An array with a class axis as (n_rows, n_classes), a view if possible."""
    a = np.moveaxis(a, axis, -1)
    return a.reshape(-1, a.shape[-1]) if a.shape[-1] else np.empty((int(np.prod(a.shape[:-1])), 0), a.dtype)


def _as_chunk(rows, shape, axis):
    """(n_rows, ...) reshaped to a chunk in which the rows have the given shape."""
    width = rows.shape[1] if rows.ndim > 1 else 1
    return np.moveaxis(rows.reshape(*shape[:axis], *shape[axis + 1 :], width), -1, axis)


def _states(rows):
    """The states of all rows as (n_rows, 6)."""
    return np.ascontiguousarray(rows["state"].reshape(-1, 6))


def _tiles_of(x, real):
    """Tiles of a chunk (n_rows, n_classes), padded to the width that kernels need: yields slices of rows, and writeable
    logits."""
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


class _Transform:
    """Transforms a chunk's tiles before kernels, which compute in `real`, see them.

    chained : whether slopes are wanted with respect to the logits, rather than to their transforms.
    """

    def __init__(self, transform, real, chained=True):
        self.chained = chained
        self.made = None if transform is None else TransformedTiles(transform, np.dtype(real))
        self.real = real if transform is None else REALS["float64"]

    def __call__(self, logits):
        if self.made is None:
            return logits
        result = np.empty(logits.shape)
        self.made.put(logits, result)
        return result

    def deliver(self, logits, slopes, out):
        """Write the slopes to `out`, unless the kernel has written them there itself."""
        if self.made is None:
            return
        if self.chained:
            self.made.differentiate(logits, slopes, out)
        else:
            out[...] = slopes


class _Target(NamedTuple):
    """The targets of a chunk: labels or probabilities, and class weights."""

    labels: np.ndarray | None  # int64 (n_rows,), negative where ignored
    y: np.ndarray | None  # (n_rows, classes of the chunk)
    w: np.ndarray | None  # of all classes
    keep: float
    spread: float | None

    def arguments(self, rows, first, width, real):
        """The arguments of the tile kernels after the logits."""
        labels = None if self.labels is None else self.labels[rows]
        y = None if self.y is None else np.ascontiguousarray(self.y[rows], real)
        w = None if self.w is None else self.w[first : first + width]
        return first, width, None, labels, y, w, self.keep, self.spread


def _target(y, w, *, axis, is_index, ignore_index, smoothing, n_classes, real):
    """The `_Target` of a chunk; y is None if there is none."""
    labels = None
    if is_index and y is not None:
        labels = wide_labels(_arrays.indices(labels_of(y, axis)), ignore_index)
    spread = smoothing / max(n_classes, 1) if smoothing or not is_index else None
    w = class_weights(w)
    return _Target(labels, None if is_index or y is None else _rows(y, axis), w, 1.0 - smoothing, spread)


@task
def class_states(x, y, w, *, starts, block_id, best=False, transform=None, **options):
    """The states of rows from one chunk of their classes; `best` asks for the position of the largest logit, too."""
    axis, real = options["axis"], options["real"]
    target = _target(y, w, **options)
    first = beginning(starts, block_id)[axis]
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    known = np.zeros(len(x), ROW)
    known["state"] = _tiles.new_state(len(x))
    known["peak"] = -np.inf
    change = _Transform(transform, real)
    kernel = _plan.backend().tile_kernel("reduce_tile", change.real)
    for rows, logits in _tiles_of(x, real) if x.size else ():
        state = _states(known[rows])
        arguments = target.arguments(rows, first, x.shape[1], change.real)
        kernel(change(logits), *arguments, len(logits), 0, 1, state)
        known["state"][rows] = state
        if target.labels is not None:
            labels = target.labels[rows] - first
            inside = (labels >= 0) & (labels < x.shape[1]) & (target.labels[rows] >= 0)
            known["own"][rows] = np.where(inside, logits[np.arange(len(logits)), np.where(inside, labels, 0)], 0.0)
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
        merged["own"] += part["own"]  # nonzero only in the chunk that holds the target
    merged["state"] = state
    merged = merged.reshape(shape)
    return np.expand_dims(merged, axis) if keepdims else merged


def _take_better(merged, part):
    """Keep the larger of the two largest logits, the first among ties; NaN counts as the largest, as in argmax."""
    mine, other = merged["peak"], part["peak"]
    equal = (mine == other) | np.isnan(mine) & np.isnan(other)
    better = (other > mine) | np.isnan(other) & ~np.isnan(mine) | equal & (part["best"] < merged["best"])
    for name in ("peak", "best"):
        merged[name] = np.where(better, part[name], merged[name])


def _finished(known, y, w, *, axis, starts, block_id, **options):
    """(what `_tiles.finish` returns for complete states, the target, a Bad or None); `axis` is the class axis."""
    target, bad = _target(y, w, axis=axis, **options), None
    if options["is_index"]:
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        bad = bad_label(labels_of(y, axis), options["n_classes"], options["ignore_index"], **place)
        if bad:
            return (None, None, None), target, bad
    return _tiles.finish(_states(known), target.labels, target.w, target.keep, target.spread), target, bad


@task
def rows_total(known, y, w, *, block_id, **options):
    (rows, _, weights), target, bad = _finished(known, y, w, block_id=block_id, **options)
    if bad:
        return object_array(Part(bad=bad), known.ndim)
    if target.labels is None:
        return object_array(Part(np.sum(rows), len(rows), len(rows)), known.ndim)
    counted = target.labels >= 0
    return object_array(Part(np.sum(rows), np.sum(weights, where=counted), int(np.count_nonzero(counted))), known.ndim)


@task
def rows_each(known, y, w, *, block_id, **options):
    (rows, _, _), _, bad = _finished(known, y, w, block_id=block_id, **options)
    raise_if_bad(bad)
    with np.errstate(over="ignore", invalid="ignore"):
        return rows.astype(options["real"]).reshape(known.shape)


@task
def class_slopes(x, y, w, known, scale, *, starts, block_id, transform=None, **options):
    """The gradient in one chunk of the classes, from complete states of the rows."""
    axis, real = options["axis"], options["real"]
    (_, tails, weights), target, bad = _finished(known, y, w, starts=starts, block_id=block_id, **options)
    raise_if_bad(bad)
    state, first = _states(known), beginning(starts, block_id)[axis]
    shares, owns = target.keep * weights, weights * target.spread if target.spread else np.zeros_like(weights)
    change = _Transform(transform, real)
    return _slopes(x, state, tails, shares, owns, scale, target, first, axis, real, change)


@task
def class_softmax(x, known, *, axis, real, transform):
    """The gradient of logsumexp with respect to the transformed logits."""
    state = _states(known)
    nothing, change = _Target(None, None, None, 1.0, None), _Transform(transform, real, chained=False)
    shares, owns = np.ones(len(state)), np.zeros(len(state))
    return _slopes(x, state, _tiles.tails_of(state), shares, owns, 1.0, nothing, 0, axis, real, change)


def _slopes(x, state, tails, shares, owns, scale, target, first, axis, real, change):
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    result = np.empty(x.shape, real)
    kernel = _plan.backend().tile_kernel("slope_tile", change.real)
    for rows, logits in _tiles_of(x, real) if x.size else ():
        arguments = target.arguments(rows, first, x.shape[1], change.real)
        more = (state[rows], tails[rows], shares[rows], owns[rows], float(scale))
        found = result[rows] if change.made is None else np.empty(result[rows].shape)
        kernel(change(logits), *arguments, len(logits), 0, 1, *more, found)
        change.deliver(logits[:, : x.shape[1]], found, result[rows])
    return _as_chunk(result, shape, axis)


@task
def class_log_softmax(x, known, *, axis, real, transform):
    state = _states(known)
    shape, x = x.shape, _rows(_arrays.floats(x, "x"), axis)
    with np.errstate(all="ignore"):
        wide = _Transform(transform, real)(x) if transform else x.astype(np.float64)
        rows = (wide - state[:, _tiles.TOP, None]) - _tiles.tails_of(state)[:, None]
        return _as_chunk(rows.astype(real), shape, axis)


@task
def rows_logsumexp(known, *, real):
    with np.errstate(over="ignore"):
        return _logsumexp(known).astype(real).reshape(known.shape)


def _logsumexp(known):
    state = _states(known)
    return _tiles.logsumexp(state, _tiles.tails_of(state), known["peak"].reshape(-1))


@task
def ahead(x, y, known, *, axis, ignore_index, real, starts, block_id):
    """How many classes of a chunk come before the target, which may be in another chunk."""
    first = beginning(starts, block_id)[axis]
    labels = wide_labels(_arrays.indices(labels_of(y, axis)), ignore_index)
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    own = known["own"].reshape(-1).astype(real)
    classes = np.arange(first, first + x.shape[1])
    counts = np.zeros(len(x), np.int64)
    for rows, logits in _tiles_of(x, real):
        counts[rows] = n_before(logits[:, : len(classes)], classes, own[rows], labels[rows])
    return _as_chunk(counts, shape, axis)


@task
def rows_scores(known, details, y, counts, ids, *, axis, resolved, block_id, starts, **options):
    place = {"axis": axis, "starts": starts, "block_id": block_id}
    raise_if_bad(bad_id(ids, resolved, **place))
    found = {"argmax": known["best"].reshape(-1)}
    with np.errstate(over="ignore"):
        found["lse"] = _logsumexp(known)
        if y is not None:
            (found["nll"], _, _), target, bad = _finished(known, y, None, **place, **options)
            raise_if_bad(bad)
            found["correct"] = found["argmax"] == target.labels
    if resolved.top_k:
        found["rank"] = np.where(target.labels < 0, -1, counts.reshape(-1))
        found["in_top_k"] = _scores.is_in_top_k(found["rank"], resolved.top_k)
    if details is not None:
        details = details.reshape(-1)
        more = {} if ids is None else {"ids": _wide_ids(ids, resolved), "chosen": details["chosen"]}
        arrays = [details[name] for name in ("state", "places", "values")]
        more = _details.scores(resolved, np.dtype(resolved.real), *arrays, **more)
        found |= {name: getattr(more, name) for name in _details.FIELDS}
    with np.errstate(over="ignore"):
        return fields_of(_scores.Scores(**found), known.shape, scores_dtype(resolved))


# --- entropies and log-probabilities ----------------------------------------------------------------------------------


def details_dtype(resolved):
    """The structured dtype of a row's details: its state, its first elements and their classes, and the logits of the
    ids."""
    real, m = _Transform(resolved.transform, np.dtype(resolved.real)).real, n_first(resolved.top, resolved.n_classes)
    chosen = (resolved.n_ids or 0,)
    return np.dtype(
        [("state", np.float64, 3), ("places", np.int64, (m,)), ("values", real, (m,)), ("chosen", real, chosen)]
    )


def _wide_ids(ids, resolved):
    """A chunk's ids, which lie along the class axis, as (n_rows, k)."""
    return wide_ids(_arrays.indices(_rows(ids, resolved.axis)), resolved.ignore_index)


@task
def class_details(x, ids, *, resolved, starts, block_id):
    """The details of rows from one chunk of their classes."""
    axis, dtype = resolved.axis, details_dtype(resolved)
    first = beginning(starts, block_id)[axis]
    shape, x = x.shape, _rows(_arrays.floats(x, "logits"), axis)
    known, m = np.zeros(len(x), dtype), dtype["places"].shape[0]
    ids = None if ids is None else _wide_ids(ids, resolved)
    change = _Transform(resolved.transform, np.dtype(resolved.real))
    for rows, logits in _tiles_of(x, np.dtype(resolved.real)) if x.size else ():
        found = Gathered(len(logits), m, change.real, None if ids is None else ids[rows])
        found.take(change(logits)[:, : x.shape[1]], first)
        _put(known[rows], found)
    return _as_chunk(known, shape, axis)


def _put(known, found):
    """Copy gathered details into the structured array; missing first elements are marked so that they sort last."""
    n = found.places.shape[1]
    known["state"], known["places"][:, :n], known["values"][:, :n] = found.state, found.places, found.values
    known["places"][:, n:], known["values"][:, n:] = np.iinfo(np.int64).max, -np.inf
    if found.chosen is not None:
        known["chosen"] = found.chosen


def merge_details(known, axis, keepdims):
    """Details of rows merged over chunks of their classes."""
    (axis,) = axis
    parts = np.moveaxis(known, axis, 0)
    result = parts[0].reshape(-1).copy()
    m = result["places"].shape[1]
    for part in parts[1:]:
        part = part.reshape(-1)
        result["state"] = _details.merged(result["state"], part["state"])
        values = np.concatenate([result["values"], part["values"]], 1)
        places = np.concatenate([result["places"], part["places"]], 1)
        result["values"], result["places"] = _details.first_of(values, places, m)
        result["chosen"] += part["chosen"]  # nonzero only in the chunk that holds the class
    result = result.reshape(parts.shape[1:])
    return np.expand_dims(result, axis) if keepdims else result
