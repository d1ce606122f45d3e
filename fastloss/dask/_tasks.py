"""What tasks do with the chunks they get: NumPy arrays in, NumPy arrays out, on one thread.

Chunks have as many axes as the arrays of the call, the class axis among them, so that a chunk's number says where it begins.
"""

import functools

import numpy as np

from fastloss import (
    _arrays,
    _classes,
    _config,
    _errors,
    _linear,
    _linear_score,
    _pointwise,
    _score,
    losses,
)
from fastloss._pointwise import Gradient, Totals
from fastloss.dask._sums import LANES, Bad, Part, good, single


def task(function):
    """`function` on one thread, as the scheduler has the others, and with the backend of the call."""

    @functools.wraps(function)
    def alone(*chunks, backend=None, **options):
        with _config.threads.within(1), _config.backend.within(backend):
            host_backend()
            return function(*chunks, **options)

    return alone


def host_backend():
    """The backend in force, which has to be one of the host; None stands for what is in force where tasks run."""
    name = _config.backend.get()
    if name == "cuda":
        raise _errors.chunks_on_device()
    return None if name == "auto" else name


def beginning(starts, block_id):
    """Where a chunk of an operand begins; `starts` has the beginnings of its chunks by axis, one only where it is broadcast."""
    block_id = block_id[len(block_id) - len(starts) :]
    return tuple(axis[i if len(axis) > 1 else 0] for axis, i in zip(starts, block_id, strict=True))


# --- errors -------------------------------------------------------------------------------------------------------------


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


@task
def weight_sum(w, *, copies):
    """The sum of the weights of a chunk, each of which counts for so many elements."""
    return single(Part(weight=float(np.sum(w, dtype=np.float64)) * copies), w.ndim)


# --- losses of rows -----------------------------------------------------------------------------------------------------


def labels_of(y, axis):
    """Labels without the axis of length 1 that stands for the classes."""
    return np.squeeze(y, axis)


def rows(x, y, w, *, argument, axis, is_index, ignore_index, n_classes, starts, block_id, **options):
    """Losses of rows that are there with all classes."""
    y = labels_of(y, axis) if is_index else y
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
    labels = _arrays.indices(labels_of(y, axis))
    bad = bad_label(labels, n_classes, ignore_index, axis=axis, starts=starts, block_id=block_id)
    if bad:
        return single(Part(bad=bad), y.ndim)
    w = _classes.class_weights(w, n_classes)
    return single(Part(weight=_classes.weigh_labels(labels, n_classes, w, ignore_index)), y.ndim)


# --- losses of elements of rows, a chunk of the classes at a time -------------------------------------------------------


def own_rows(x, y, w, *, axis, is_index, ignore_index, n_classes, starts, block_id, out, **options):
    """What a chunk of the classes adds to the losses of rows: labels of other chunks are left out."""
    place = {"axis": axis, "starts": starts, "block_id": block_id}
    first, width = beginning(starts, block_id)[axis], x.shape[axis]
    w = None if w is None else w[first : first + width]
    if is_index:
        labels = _arrays.indices(labels_of(y, axis))
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


# --- softmax of whole rows, scores --------------------------------------------------------------------------------------


@task
def normalised(x, *, axis, wanted):
    return np.asarray(_classes.normalise(x, axis, None, wanted, keepdims=True))


def scores_dtype(real, top_k):
    """The fields of Scores."""
    return np.dtype(list(zip(_score.Scores._fields, _score.kinds(real, top_k), strict=False)))


def _as_fields(found, dtype, axis):
    """Scores as one array, with an axis of length 1 for the classes."""
    result = np.empty(found.nll.shape, dtype)
    for name in dtype.names:
        result[name] = getattr(found, name)
    return np.expand_dims(result, axis)


@task
def scores(x, y, *, axis, ignore_index, top_k, real, starts, block_id):
    y = labels_of(y, axis)
    try:
        found = _score.evaluate(x, y, axis, ignore_index, top_k)
    except IndexError:
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        raise bad_label(y, x.shape[axis], ignore_index, **place).raised() from None
    return _as_fields(found, scores_dtype(real, top_k), axis)


# --- linear layers ------------------------------------------------------------------------------------------------------


def linear(h, a, y, b, w, *, axis, is_index, ignore_index, starts, block_id, **options):
    y = labels_of(y, axis) if is_index else y
    try:
        return _linear.evaluate(h, a, y, bias=b, weight=w, ignore_index=ignore_index, **options)
    except IndexError:
        return bad_label(y, len(a), ignore_index, axis=axis, starts=starts, block_id=block_id)


@task
def linear_scores(h, a, y, b, *, ignore_index, top_k, real, starts, block_id):
    y = labels_of(y, -1)
    try:
        found = _linear_score.evaluate(h, a, y, bias=b, axis=-1, ignore_index=ignore_index, top_k=top_k)
    except IndexError:
        raise bad_label(y, len(a), ignore_index, axis=-1, starts=starts, block_id=block_id).raised() from None
    return _as_fields(found, scores_dtype(real, top_k), -1)
