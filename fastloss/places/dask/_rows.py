"""The softmax family, scores and linear layers of Dask arrays."""

import math

import numpy as np

from fastloss import _arrays, _classes, _errors, _linear, _linear_score, _score
from fastloss.dask import _states, _tasks
from fastloss.dask._calls import checked, delivered, requested, scale_from
from fastloss.dask._graph import (
    chunked,
    common_chunks,
    merged,
    ones,
    over,
    stand_in,
    starts_of,
    taken,
    total,
    whole,
    without,
)


def _with_axis(y, axis):
    """An array of one value a row with an axis of length 1 for the classes."""
    return y[(slice(None),) * axis + (None,)]


def _class_operands(x, y, axis):
    """Logits and targets in the same chunks; no chunk of the classes is empty if there are any."""
    chunks = list(common_chunks(x.shape, (x, y)))
    chunks[axis] = tuple(length for length in chunks[axis] if length) or (0,)
    return chunked(x, x.shape, chunks), chunked(y, x.shape, chunks)


def _mean_scale(y, w, n_rows, reduction, *, is_index, **options):
    """What the gradient of the rows' sum is multiplied by: of the targets alone."""
    if reduction == "sum":
        return 1.0
    if not is_index:
        return 1.0 / max(n_rows, 1)
    weights = total(_tasks.label_weights, y, w, chunks=y.chunks, starts=starts_of(y), **options)
    return scale_from(weights, reduction=reduction, divisor=None, root=False)


_ROWS = {"rowwise": True, "divisor": None, "root": False}


def classes(
    name, predictions, target, *, weight, ignore_index, label_smoothing, axis, reduction, out, op, take_log=False
):
    x, y, w = taken(predictions, name), taken(target, "target"), taken(weight, "weight")
    options = {"label_smoothing": label_smoothing, "op": op, "take_log": take_log}
    arguments = {"weight": stand_in(w), "ignore_index": ignore_index, "axis": axis, "reduction": reduction}
    checks = checked(_classes.evaluate, name, stand_in(x), stand_in(y), **arguments, **options)
    axis, is_index, real = checks.axis, checks.is_index, checks.real
    request = requested(out, reduction)
    x, y = _class_operands(x, _with_axis(y, axis) if is_index else y, axis)
    w = whole(w)
    n_classes = x.shape[axis]
    target_options = {"axis": axis, "is_index": is_index, "ignore_index": checks.ignore_index, "n_classes": n_classes}
    scale = None
    if request:
        n_rows = x.size // max(n_classes, 1)
        scale = _mean_scale(y, w, n_rows, reduction, real=real, **target_options)
    if op == "softmax" and x.numblocks[axis] > 1:
        result, gradient = _class_chunks(
            x, y, w, reduction, scale, **target_options, smoothing=checks.smoothing, real=real
        )
    else:
        several = x.numblocks[axis] > 1
        options |= target_options | {"argument": name, "starts": starts_of(x)}
        result, gradient = _row_chunks(x, y, w, reduction, scale, several, real, **options)
    if request:
        request.array = gradient
    if reduction == "none":
        return result
    return delivered(result, out, real, reduction=reduction, **_ROWS)


def _row_chunks(x, y, w, reduction, scale, several, real, **options):
    """Losses of rows, or one Part of all, and the gradient if there is a scale, by the host's functions on chunks.

    With several chunks of classes each knows the loss of the labels in it, or adds up its part of a sum.
    """
    axis, gradient = options["axis"], None
    options["call"] = _tasks.own_rows if several else _tasks.rows
    if reduction == "none":
        dtype = np.float64 if several else real
        result = over(_tasks.each_of, x, y, w, chunks=ones(x.chunks, (axis,)), dtype=dtype, **options)
        return (result.sum(axis=axis).astype(real) if several else without(result, axis)), None
    if scale is not None:
        gradient = over(_tasks.slopes_of, x, y, w, scale, chunks=x.chunks, dtype=real, **options)
    return total(_tasks.total_of, x, y, w, chunks=x.chunks, **options), gradient


def _known(x, y, w, best, **options):
    """What is known of each row from all chunks of its classes."""
    axis = options["axis"]
    states = over(
        _states.class_states,
        x,
        y,
        w,
        chunks=ones(x.chunks, (axis,)),
        dtype=_states.ROW,
        starts=starts_of(x),
        best=best,
        **options,
    )
    return merged(states, _states.merge_rows, (axis,), keepdims=True)


def _class_chunks(x, y, w, reduction, scale, **options):
    """Likewise, by states of rows that are merged over the chunks of their classes."""
    axis, real = options["axis"], options["real"]
    known = _known(x, y, w, False, **options)
    labels = y if options["is_index"] else None
    row_options = options | {"starts": starts_of(known)}
    if reduction == "none":
        result = over(_states.rows_each, known, labels, w, chunks=known.chunks, dtype=real, **row_options)
        return without(result, axis), None
    gradient = None
    if scale is not None:
        gradient = over(
            _states.class_slopes, x, y, w, known, scale, chunks=x.chunks, dtype=real, starts=starts_of(x), **options
        )
    return total(_states.rows_total, known, labels, w, chunks=known.chunks, **row_options), gradient


# Of logits alone.
_NO_TARGET = {"is_index": True, "ignore_index": -1, "smoothing": 0.0}


def normalise(value, axis, out, wanted, keepdims=False):
    x = taken(value, "x")
    logits, axis = _classes.logits_and_axis(stand_in(x), "x", axis)
    real = _arrays.real_type(logits)
    if out is not None:
        raise _errors.lazy_out()
    x, _ = _class_operands(x, None, axis)
    chunks = ones(x.chunks, (axis,)) if wanted == "logsumexp" else x.chunks
    if x.numblocks[axis] == 1:
        result = over(_tasks.normalised, x, chunks=chunks, dtype=real, axis=axis, wanted=wanted)
    else:
        known = _known(x, None, None, True, axis=axis, real=real, n_classes=x.shape[axis], **_NO_TARGET)
        if wanted == "logsumexp":
            result = over(_states.rows_logsumexp, known, chunks=known.chunks, dtype=real, real=real)
        else:
            function = _states.class_softmax if wanted == "softmax" else _states.class_log_softmax
            result = over(function, x, known, chunks=chunks, dtype=real, axis=axis, real=real)
    return without(result, axis) if wanted == "logsumexp" and not keepdims else result


def score(logits, target, axis, ignore_index, top_k):
    x, y = taken(logits, "logits"), taken(target, "target")
    checks = checked(_score.evaluate, stand_in(x), stand_in(y), axis, ignore_index, top_k)
    axis, ignore_index, top_k, real = checks.axis, checks.ignore_index, checks.top_k, checks.real
    x, y = _class_operands(x, _with_axis(y, axis), axis)
    options = {"axis": axis, "ignore_index": ignore_index}
    results = {"chunks": ones(x.chunks, (axis,)), "dtype": _tasks.scores_dtype(real, top_k), "top_k": top_k}
    if x.numblocks[axis] == 1:
        scores = over(_tasks.scores, x, y, real=real, starts=starts_of(x), **options, **results)
    else:
        options |= {"is_index": True, "smoothing": 0.0, "n_classes": x.shape[axis], "real": real}
        known = _known(x, y, None, True, **options)
        counts = None
        if top_k:
            each = over(
                _states.ahead,
                x,
                y,
                known,
                chunks=results["chunks"],
                dtype=np.int64,
                axis=axis,
                ignore_index=ignore_index,
                real=real,
                starts=starts_of(x),
            )
            counts = each.sum(axis=axis, keepdims=True)
        results["chunks"] = known.chunks
        scores = over(_states.rows_scores, known, y, counts, starts=starts_of(known), **options, **results)
    return _fields(without(scores, axis))


def _fields(scores):
    """Arrays of one array's fields, which are found together."""
    return _score.Scores(**{name: scores[name] for name in scores.dtype.names})


# --- linear layers ------------------------------------------------------------------------------------------------------


def linear(hidden, linear_weight, target, *, bias, weight, ignore_index, label_smoothing, reduction, out):
    """Rows are chunked; the layer goes whole to every task, which has a tile of logits at a time."""
    h, a, y = taken(hidden, "hidden"), taken(linear_weight, "linear_weight"), taken(target, "target")
    b, w = taken(bias, "linear_bias"), taken(weight, "weight")
    checks = checked(
        _linear.evaluate,
        *map(stand_in, (h, a, y)),
        bias=stand_in(b),
        weight=stand_in(w),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    if isinstance(out, _linear.Gradients):
        raise _errors.layer_gradient()
    request = requested(out, reduction)
    is_index, real, n_classes = checks.is_index, checks.real, a.shape[0]
    one_row = h.ndim == 1
    h, y = _linear_operands(h, _with_axis(y, h.ndim - 1) if is_index else y)
    layer = whole(a), y, whole(b), whole(w)
    options = {"axis": h.ndim - 1, "is_index": is_index, "ignore_index": checks.ignore_index}
    more = options | {"call": _tasks.linear, "label_smoothing": label_smoothing, "starts": starts_of(h)}
    if reduction == "none":
        each = over(_tasks.each_of, h, *layer, chunks=ones(h.chunks, (h.ndim - 1,)), dtype=real, **more)
        return each[..., 0][0] if one_row else each[..., 0]
    sums = total(_tasks.total_of, h, *layer, chunks=h.chunks, **more)
    if request:
        n_rows = math.prod(h.shape[:-1])
        scale = _mean_scale(y, layer[3], n_rows, reduction, n_classes=n_classes, real=real, **options)
        gradient = over(_tasks.slopes_of, h, *layer, scale, chunks=h.chunks, dtype=real, **more)
        request.array = gradient[0] if one_row else gradient
    return delivered(sums, out, real, reduction=reduction, **_ROWS)


def linear_score(hidden, linear_weight, target, *, bias, axis, ignore_index, top_k):
    h, a, y = taken(hidden, "hidden"), taken(linear_weight, "linear_weight"), taken(target, "target")
    b = taken(bias, "linear_bias")
    options = {"axis": axis, "ignore_index": ignore_index, "top_k": top_k}
    checks = checked(_linear_score.evaluate, *map(stand_in, (h, a, y)), bias=stand_in(b), **options)
    one_row = h.ndim == 1
    h, y = _linear_operands(h, _with_axis(y, h.ndim - 1))
    chunks, real, top_k = ones(h.chunks, (h.ndim - 1,)), checks.real, checks.top_k
    options = {"ignore_index": checks.ignore_index, "top_k": top_k, "real": real, "starts": starts_of(h)}
    dtype = _tasks.scores_dtype(real, top_k)
    scores = over(_tasks.linear_scores, h, whole(a), y, whole(b), chunks=chunks, dtype=dtype, **options)[..., 0]
    return _fields(scores[0] if one_row else scores)


def _linear_operands(h, y):
    """Inputs and targets in the same chunks of whole rows; a single row is the first of a batch, as tasks have two axes or more."""
    if h.ndim == 1:
        h, y = h[None], y[None]
    rows = common_chunks(h.shape[:-1], [operand[..., 0] for operand in (h, y)])
    return tuple(chunked(operand, operand.shape, (*rows, operand.shape[-1:])) for operand in (h, y))
