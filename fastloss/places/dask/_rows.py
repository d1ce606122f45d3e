"""The softmax family, scores, forecasts and linear layers of Dask arrays."""

import dask.array as da
import numpy as np

from fastloss import _errors
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss.places import is_dask
from fastloss.places.dask import _states, _sums, _tasks
from fastloss.places.dask._calls import check_no_out, computed, lazy_result, scale_from
from fastloss.places.dask._graph import (
    as_one_chunk,
    chunked,
    common_chunks,
    drop_axis,
    mapped,
    merged,
    reduced,
    rounded,
    starts_of,
    total,
    unit_chunks,
)
from fastloss.places.host.forecasts import of_sums


def _with_axis(y, axis):
    """An array of one value per row, with an axis of length 1 in place of the classes."""
    return y[(slice(None),) * axis + (None,)]


def _class_operands(x, y, axis):
    """Logits and targets in matching chunks; no chunk of the class axis is empty unless there are no classes."""
    chunks = list(common_chunks(x.shape, (x, y)))
    chunks[axis] = tuple(length for length in chunks[axis] if length) or (0,)
    return chunked(x, x.shape, chunks), chunked(y, x.shape, chunks)


def _mean_scale(y, w, n_rows, reduction, *, is_index, **options):
    """The factor of the gradient of the rows' sum, which for a mean follows from the targets and weights alone."""
    if reduction == "sum":
        return 1.0
    if not is_index:
        return 1.0 / max(n_rows, 1)
    weights = total(_tasks.label_weights, y, w, chunks=y.chunks, starts=starts_of(y), **options)
    return scale_from(weights, reduction=reduction, divisor=None)


def rows(resolved):
    """A function that makes the graph of a `Rows` call."""

    def graph(operands, out, scale):
        check_no_out(out)
        x, y, w = operands
        axis, is_index, real, reduction = resolved.axis, resolved.is_index, np.dtype(resolved.real), resolved.reduction
        x, y = _class_operands(x, _with_axis(y, axis) if is_index else y, axis)
        chunks = x.chunks
        if resolved.op == "known":  # computed by chunks that hold all classes
            x = x.rechunk({axis: -1})
        w = as_one_chunk(w)
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
        if resolved.op in ("index", "dense") and several:
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
        return lazy_result(result, resolved, None if scale is None else (gradient.rechunk(chunks),))

    return graph


def _row_chunks(x, y, w, reduction, scale, several, real, **options):
    """(losses of rows or one Part for all, gradient or None), by the host's functions on chunks; the gradient needs
    `scale`.

    With several chunks along the class axis, each computes the loss of the labels in it, or its part of the sum over
    classes.
    """
    axis, gradient = options["axis"], None
    options["call"] = _tasks.own_rows if several else _tasks.rows
    if reduction == "none":
        dtype = np.float64 if several else real
        result = mapped(_tasks.each_of, x, y, w, chunks=unit_chunks(x.chunks, (axis,)), dtype=dtype, **options)
        return (rounded(result.sum(axis=axis), real) if several else drop_axis(result, axis)), None
    if scale is not None:
        gradient = mapped(_tasks.slopes_of, x, y, w, scale, chunks=x.chunks, dtype=real, **options)
    return total(_tasks.total_of, x, y, w, chunks=x.chunks, **options), gradient


def _known(x, y, w, best, **options):
    """The state of each row, merged over all chunks of its classes."""
    axis = options["axis"]
    states = mapped(
        _states.class_states,
        x,
        y,
        w,
        chunks=unit_chunks(x.chunks, (axis,)),
        dtype=_states.ROW,
        starts=starts_of(x),
        best=best,
        **options,
    )
    return merged(states, _states.merge_rows, (axis,), keepdims=True)


def _class_chunks(x, y, w, reduction, scale, transform, **options):
    """Likewise, from states of rows that are merged over the chunks of their classes."""
    axis, real = options["axis"], options["real"]
    known = _known(x, y, w, False, transform=transform, **options)
    labels = y if options["is_index"] else None
    row_options = options | {"starts": starts_of(known)}
    if reduction == "none":
        result = mapped(_states.rows_each, known, labels, w, chunks=known.chunks, dtype=real, **row_options)
        return drop_axis(result, axis), None
    gradient = None
    if scale is not None:
        options |= {"starts": starts_of(x), "transform": transform}
        gradient = mapped(_states.class_slopes, x, y, w, known, scale, chunks=x.chunks, dtype=real, **options)
    return total(_states.rows_total, known, labels, w, chunks=known.chunks, **row_options), gradient


# Functions of logits alone, without a target.
_NO_TARGET = {"is_index": True, "ignore_index": -1, "smoothing": 0.0}


def normalised(resolved):
    """A function that makes the graph of a `Normalised` call."""

    def graph(operands, out, scale):
        check_no_out(out)
        (x,) = operands
        axis, name, real, transform = resolved.axis, resolved.name, np.dtype(resolved.real), resolved.transform
        x, _ = _class_operands(x, None, axis)
        chunks = unit_chunks(x.chunks, (axis,)) if name == "logsumexp" else x.chunks
        if x.numblocks[axis] == 1:
            options = {"axis": axis, "wanted": name, "transform": transform}
            result = mapped(_tasks.normalised, x, chunks=chunks, dtype=real, **options)
        else:
            options = {"axis": axis, "real": real, "transform": transform}
            known = _known(x, None, None, True, n_classes=x.shape[axis], **options, **_NO_TARGET)
            if name == "logsumexp":
                result = mapped(_states.rows_logsumexp, known, chunks=known.chunks, dtype=real, real=real)
            else:
                function = _states.class_softmax if name == "softmax" else _states.class_log_softmax
                result = mapped(function, x, known, chunks=chunks, dtype=real, **options)
        return drop_axis(result, axis) if name == "logsumexp" and not resolved.keepdims else result

    return graph


def scores(resolved):
    """A function that makes the graph of a `Scores` call."""
    return _layer_scores(resolved) if resolved.from_layer else _scores(resolved)


def _scores(resolved):
    def graph(operands, out, scale):
        x, y, _, _, ids = operands
        axis, real = resolved.axis, np.dtype(resolved.real)
        x, y = _class_operands(x, None if y is None else _with_axis(y, axis), axis)
        ids = _ids_operand(ids, x.chunks, axis)
        results = {"chunks": unit_chunks(x.chunks, (axis,)), "resolved": resolved}
        dtype = _tasks.scores_dtype(resolved)
        if x.numblocks[axis] == 1:
            return _fields(
                drop_axis(mapped(_tasks.scores, x, y, ids, dtype=dtype, starts=starts_of(x), **results), axis)
            )
        options = {"axis": axis, "ignore_index": resolved.ignore_index}
        options |= {"is_index": True, "smoothing": 0.0, "n_classes": x.shape[axis], "real": real}
        known = _known(x, y, None, True, transform=resolved.transform, **options)
        counts = details = None
        if resolved.has_details:
            row = _states.details_dtype(resolved)
            each = mapped(_states.class_details, x, ids, dtype=row, starts=starts_of(x), **results)
            details = merged(each, _states.merge_details, (axis,), keepdims=True)
        if resolved.top_k:
            each = mapped(
                _states.ahead,
                x,
                y,
                known,
                chunks=unit_chunks(x.chunks, (axis,)),
                dtype=np.int64,
                axis=axis,
                ignore_index=resolved.ignore_index,
                real=real,
                starts=starts_of(x),
            )
            counts = each.sum(axis=axis, keepdims=True)
        results["chunks"] = known.chunks
        operands = known, details, y, counts, ids
        found = mapped(_states.rows_scores, *operands, dtype=dtype, starts=starts_of(known), **options, **results)
        return _fields(drop_axis(found, axis))

    return graph


def _ids_operand(ids, chunks, axis):
    """Ids (rows..., k) chunked like the rows, with k moved to the class axis."""
    if ids is None:
        return None
    ids = da.moveaxis(ids if is_dask(ids) else da.from_array(ids), -1, axis)
    return ids.rechunk((*chunks[:axis], (ids.shape[axis],), *chunks[axis + 1 :]))


def _fields(found):
    """{field: array} of a structured array, whose fields are computed together."""
    return Scores(**{name: found[name] for name in found.dtype.names})


def comparisons(resolved):
    """A function that makes the graph of a `Comparisons` call, from chunks of complete rows."""
    if resolved.from_layer:
        return _layer_comparisons(resolved)

    def graph(operands, out, scale):
        r, x, y = operands[:3]
        axis = resolved.axis
        labels = None if y is None else _with_axis(y, axis)
        chunks = list(common_chunks(x.shape, [a for a in (r, x, labels) if a is not None]))
        chunks[axis] = (x.shape[axis],)
        r, x = (chunked(a, x.shape, chunks) for a in (r, x))
        y = None if y is None else chunked(labels, x.shape, chunks)
        dtype = _tasks.comparison_dtype(np.dtype(resolved.real), y is not None)
        options = {"resolved": resolved, "starts": starts_of(x)}
        chunks = unit_chunks(x.chunks, (axis,))
        found = drop_axis(mapped(_tasks.comparisons, r, x, y, chunks=chunks, dtype=dtype, **options), axis)
        return _compared(found)

    return graph


def _compared(found):
    """{field: array} of a structured array, whose fields are computed together."""
    return Comparison(**{name: found[name] for name in found.dtype.names})


def forecasts(resolved):
    """A function that makes the graph of a `Forecasts` call, from chunks of complete rows."""

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


# --- linear layers ----------------------------------------------------------------------------------------------------


def layer(resolved):
    """A function that makes the graph of a `Layer` call: rows are chunked; each task gets the whole layer, and holds
    one tile of logits."""
    if resolved.want.what == "slopes" and resolved.want.wrt != ("hidden",):
        raise _errors.layer_gradient()

    def graph(operands, out, scale):
        check_no_out(out)
        h, a, y, b, w = operands
        is_index, real, reduction = resolved.is_index, np.dtype(resolved.real), resolved.reduction
        one_row = h.ndim == 1
        h, y = _linear_operands(h, _with_axis(y, h.ndim - 1) if is_index else y)
        arrays = as_one_chunk(a), y, as_one_chunk(b), as_one_chunk(w)
        options = {"axis": h.ndim - 1, "is_index": is_index, "ignore_index": resolved.ignore_index}
        more = options | {
            "call": _tasks.linear,
            "loss": resolved.loss,
            "values": resolved.values,
            "starts": starts_of(h),
        }
        if reduction == "none":
            each = mapped(_tasks.each_of, h, *arrays, chunks=unit_chunks(h.chunks, (h.ndim - 1,)), dtype=real, **more)
            return each[..., 0][0] if one_row else each[..., 0]
        sums = total(_tasks.total_of, h, *arrays, chunks=h.chunks, **more)
        gradients = None
        if resolved.want.what == "slopes":
            factor = _mean_scale(
                y, arrays[3], resolved.n_rows, reduction, n_classes=resolved.n_classes, real=real, **options
            )
            gradient = mapped(_tasks.slopes_of, h, *arrays, factor, chunks=h.chunks, dtype=real, **more)
            gradients = (gradient[0] if one_row else gradient,)
        return lazy_result(sums, resolved, gradients)

    return graph


def _layer_scores(resolved):
    def graph(operands, out, scale):
        h, y, a, b, ids = operands
        one_row = h.ndim == 1
        h, y = _linear_operands(h, None if y is None else _with_axis(y, h.ndim - 1))
        ids = _ids_operand(ids[None] if one_row and ids is not None else ids, h.chunks, h.ndim - 1)
        results = {"chunks": unit_chunks(h.chunks, (h.ndim - 1,)), "dtype": _tasks.scores_dtype(resolved)}
        more = {"resolved": resolved, "starts": starts_of(h)}
        found = mapped(_tasks.linear_scores, h, as_one_chunk(a), y, as_one_chunk(b), ids, **results, **more)[..., 0]
        return _fields(found[0] if one_row else found)

    return graph


def _layer_comparisons(resolved):
    def graph(operands, out, scale):
        r, x, y, *layers = operands
        one_row = x.ndim == 1
        r, x, y = _linear_operands(r, x, None if y is None else _with_axis(y, x.ndim - 1))
        dtype = _tasks.comparison_dtype(np.dtype(resolved.real), y is not None)
        results = {"chunks": unit_chunks(x.chunks, (x.ndim - 1,)), "dtype": dtype}
        more = {"resolved": resolved, "starts": starts_of(x)}
        found = mapped(_tasks.linear_comparisons, r, x, y, *map(as_one_chunk, layers), **results, **more)[..., 0]
        return _compared(found[0] if one_row else found)

    return graph


def _linear_operands(*operands):
    """Inputs and targets, which may be None, in matching chunks of complete rows; a single row becomes a batch of one,
    because tasks expect two axes or more."""
    if operands[0].ndim == 1:
        operands = [None if operand is None else operand[None] for operand in operands]
    rows = common_chunks(operands[0].shape[:-1], [operand[..., 0] for operand in operands if operand is not None])
    return tuple(
        None if operand is None else chunked(operand, operand.shape, (*rows, operand.shape[-1:]))
        for operand in operands
    )
