"""The softmax family, scores, forecasts and linear layers of Dask arrays."""

import dask.array as da
import numpy as np

from fastloss import _errors
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss.places import is_dask
from fastloss.places.dask import _states, _sums, _tasks
from fastloss.places.dask._calls import check_no_out, computed, delivered, scale_from
from fastloss.places.dask._graph import (
    chunked,
    common_chunks,
    merged,
    ones,
    over,
    reduced,
    starts_of,
    total,
    whole,
    without,
)
from fastloss.places.host.forecasts import of_sums


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


def rows(resolved):
    """What makes the graph of a `Rows`."""

    def graph(operands, out, scale):
        check_no_out(out)
        x, y, w = operands
        axis, is_index, real, reduction = resolved.axis, resolved.is_index, np.dtype(resolved.real), resolved.reduction
        x, y = _class_operands(x, _with_axis(y, axis) if is_index else y, axis)
        if resolved.op == "known":  # rows are known by chunks that have all classes
            x = x.rechunk({axis: -1})
        w = whole(w)
        target = {
            "axis": axis,
            "is_index": is_index,
            "ignore_index": resolved.ignore_index,
            "n_classes": resolved.n_classes,
        }
        scale = None
        if resolved.want.what == "slopes":
            scale = _mean_scale(y, w, resolved.n_rows, reduction, real=real, **target)
        several = x.numblocks[axis] > 1
        if resolved.loss.op == "softmax" and several:
            result, gradient = _class_chunks(
                x,
                y,
                w,
                reduction,
                scale,
                resolved.transform,
                **target,
                smoothing=resolved.smoothing,
                real=real,
            )
        else:
            options = target | {"loss": resolved.loss, "values": resolved.values, "starts": starts_of(x)}
            result, gradient = _row_chunks(x, y, w, reduction, scale, several, real, **options)
        if reduction == "none":
            return result
        return delivered(result, resolved, None if scale is None else (gradient,))

    return graph


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


def _class_chunks(x, y, w, reduction, scale, transform, **options):
    """Likewise, by states of rows that are merged over the chunks of their classes."""
    axis, real = options["axis"], options["real"]
    known = _known(x, y, w, False, transform=transform, **options)
    labels = y if options["is_index"] else None
    row_options = options | {"starts": starts_of(known)}
    if reduction == "none":
        result = over(_states.rows_each, known, labels, w, chunks=known.chunks, dtype=real, **row_options)
        return without(result, axis), None
    gradient = None
    if scale is not None:
        options |= {"starts": starts_of(x), "transform": transform}
        gradient = over(_states.class_slopes, x, y, w, known, scale, chunks=x.chunks, dtype=real, **options)
    return total(_states.rows_total, known, labels, w, chunks=known.chunks, **row_options), gradient


# Of logits alone.
_NO_TARGET = {"is_index": True, "ignore_index": -1, "smoothing": 0.0}


def normalised(resolved):
    """What makes the graph of a `Normalised`."""

    def graph(operands, out, scale):
        check_no_out(out)
        (x,) = operands
        axis, name, real, transform = resolved.axis, resolved.name, np.dtype(resolved.real), resolved.transform
        x, _ = _class_operands(x, None, axis)
        chunks = ones(x.chunks, (axis,)) if name == "logsumexp" else x.chunks
        if x.numblocks[axis] == 1:
            options = {"axis": axis, "wanted": name, "transform": transform}
            result = over(_tasks.normalised, x, chunks=chunks, dtype=real, **options)
        else:
            options = {"axis": axis, "real": real, "transform": transform}
            known = _known(x, None, None, True, n_classes=x.shape[axis], **options, **_NO_TARGET)
            if name == "logsumexp":
                result = over(_states.rows_logsumexp, known, chunks=known.chunks, dtype=real, real=real)
            else:
                function = _states.class_softmax if name == "softmax" else _states.class_log_softmax
                result = over(function, x, known, chunks=chunks, dtype=real, **options)
        return without(result, axis) if name == "logsumexp" and not resolved.keepdims else result

    return graph


def scores(resolved):
    """What makes the graph of a `Scores`."""
    return _layer_scores(resolved) if resolved.from_layer else _scores(resolved)


def _scores(resolved):
    def graph(operands, out, scale):
        x, y, _, _, ids = operands
        axis, real = resolved.axis, np.dtype(resolved.real)
        x, y = _class_operands(x, None if y is None else _with_axis(y, axis), axis)
        ids = _ids_operand(ids, x.chunks, axis)
        results = {"chunks": ones(x.chunks, (axis,)), "resolved": resolved}
        dtype = _tasks.scores_dtype(resolved)
        if x.numblocks[axis] == 1:
            return _fields(without(over(_tasks.scores, x, y, ids, dtype=dtype, starts=starts_of(x), **results), axis))
        options = {"axis": axis, "ignore_index": resolved.ignore_index}
        options |= {"is_index": True, "smoothing": 0.0, "n_classes": x.shape[axis], "real": real}
        known = _known(x, y, None, True, transform=resolved.transform, **options)
        counts = details = None
        if resolved.has_details:
            row = _states.details_dtype(resolved)
            each = over(_states.class_details, x, ids, dtype=row, starts=starts_of(x), **results)
            details = merged(each, _states.merge_details, (axis,), keepdims=True)
        if resolved.top_k:
            each = over(
                _states.ahead,
                x,
                y,
                known,
                chunks=ones(x.chunks, (axis,)),
                dtype=np.int64,
                axis=axis,
                ignore_index=resolved.ignore_index,
                real=real,
                starts=starts_of(x),
            )
            counts = each.sum(axis=axis, keepdims=True)
        results["chunks"] = known.chunks
        operands = known, details, y, counts, ids
        found = over(_states.rows_scores, *operands, dtype=dtype, starts=starts_of(known), **options, **results)
        return _fields(without(found, axis))

    return graph


def _ids_operand(ids, chunks, axis):
    """Ids (rows..., k) in the chunks of the rows, with k along the class axis."""
    if ids is None:
        return None
    ids = da.moveaxis(ids if is_dask(ids) else da.from_array(ids), -1, axis)
    return ids.rechunk((*chunks[:axis], (ids.shape[axis],), *chunks[axis + 1 :]))


def _fields(found):
    """Arrays of one array's fields, which are found together."""
    return Scores(**{name: found[name] for name in found.dtype.names})


def comparisons(resolved):
    """What makes the graph of a `Comparisons`, of chunks of whole rows."""

    def graph(operands, out, scale):
        r, x, y = operands
        axis, real = resolved.axis, np.dtype(resolved.real)
        labels = None if y is None else _with_axis(y, axis)
        chunks = list(common_chunks(x.shape, [a for a in (r, x, labels) if a is not None]))
        chunks[axis] = (x.shape[axis],)
        r, x = (chunked(a, x.shape, chunks) for a in (r, x))
        y = None if y is None else chunked(labels, x.shape, chunks)
        dtype = _tasks.comparison_dtype(real, y is not None)
        options = {"axis": axis, "ignore_index": resolved.ignore_index, "real": real, "starts": starts_of(x)}
        options["transform"] = resolved.transform
        chunks = ones(x.chunks, (axis,))
        found = without(over(_tasks.comparisons, r, x, y, chunks=chunks, dtype=dtype, **options), axis)
        return Comparison(**{name: found[name] for name in found.dtype.names})

    return graph


def forecasts(resolved):
    """What makes the graph of a `Forecasts`, of chunks of whole rows."""

    def graph(operands, out, scale):
        x, y = operands
        if resolved.axis is None:
            chunks = common_chunks(x.shape, (x, y))
            x, y = chunked(x, x.shape, chunks), chunked(y, x.shape, chunks)
        else:
            x, y = _class_operands(x, _with_axis(y, resolved.axis), resolved.axis)
            x = x.rechunk({resolved.axis: -1})
        sums = total(_tasks.forecasts, x, y, chunks=x.chunks, resolved=resolved, starts=starts_of(x))
        if resolved.want.what != "sums":
            return reduced(_sums.forecasts_result_of, sums, np.dtype(resolved.real), resolved=resolved)
        (several,) = computed(sums)
        return of_sums(resolved, several.item().rounded())

    return graph


# --- linear layers ------------------------------------------------------------------------------------------------------


def layer(resolved):
    """What makes the graph of a `Layer`: rows are chunked; the layer goes whole to every task, which has a tile of logits at a time."""
    if resolved.want.what == "slopes" and resolved.want.wrt != ("hidden",):
        raise _errors.layer_gradient()

    def graph(operands, out, scale):
        check_no_out(out)
        h, a, y, b, w = operands
        is_index, real, reduction = resolved.is_index, np.dtype(resolved.real), resolved.reduction
        one_row = h.ndim == 1
        h, y = _linear_operands(h, _with_axis(y, h.ndim - 1) if is_index else y)
        arrays = whole(a), y, whole(b), whole(w)
        options = {"axis": h.ndim - 1, "is_index": is_index, "ignore_index": resolved.ignore_index}
        more = options | {
            "call": _tasks.linear,
            "loss": resolved.loss,
            "values": resolved.values,
            "starts": starts_of(h),
        }
        if reduction == "none":
            each = over(_tasks.each_of, h, *arrays, chunks=ones(h.chunks, (h.ndim - 1,)), dtype=real, **more)
            return each[..., 0][0] if one_row else each[..., 0]
        sums = total(_tasks.total_of, h, *arrays, chunks=h.chunks, **more)
        gradients = None
        if resolved.want.what == "slopes":
            factor = _mean_scale(
                y, arrays[3], resolved.n_rows, reduction, n_classes=resolved.n_classes, real=real, **options
            )
            gradient = over(_tasks.slopes_of, h, *arrays, factor, chunks=h.chunks, dtype=real, **more)
            gradients = (gradient[0] if one_row else gradient,)
        return delivered(sums, resolved, gradients)

    return graph


def _layer_scores(resolved):
    def graph(operands, out, scale):
        h, y, a, b, ids = operands
        one_row = h.ndim == 1
        h, y = _linear_operands(h, None if y is None else _with_axis(y, h.ndim - 1))
        ids = _ids_operand(ids[None] if one_row and ids is not None else ids, h.chunks, h.ndim - 1)
        results = {"chunks": ones(h.chunks, (h.ndim - 1,)), "dtype": _tasks.scores_dtype(resolved)}
        more = {"resolved": resolved, "starts": starts_of(h)}
        found = over(_tasks.linear_scores, h, whole(a), y, whole(b), ids, **results, **more)[..., 0]
        return _fields(found[0] if one_row else found)

    return graph


def _linear_operands(h, y):
    """Inputs and targets in the same chunks of whole rows; a single row is the first of a batch, as tasks have two axes or more."""
    if h.ndim == 1:
        h, y = h[None], None if y is None else y[None]
    rows = common_chunks(h.shape[:-1], [operand[..., 0] for operand in (h, y) if operand is not None])
    return tuple(
        None if operand is None else chunked(operand, operand.shape, (*rows, operand.shape[-1:])) for operand in (h, y)
    )
