"""The functions that tasks run on chunks: NumPy arrays in, NumPy arrays out, on one thread.

Chunks have the same number of axes as the call's arrays, including the class axis, so that a chunk's position in the
grid of chunks tells where it begins.
"""

import functools

import numpy as np

from fastloss import _arrays, _comparison, _config, _errors, _scores, losses
from fastloss.calls.resolve import resolve
from fastloss.calls.transforms import values_of
from fastloss.calls.want import SUMS, VALUE, Squares, Sums, slopes
from fastloss.places import host
from fastloss.places.dask._sums import LANES, Bad, Part, Several, factor_of, object_array, raise_if_bad
from fastloss.places.host.elements import first_outside
from fastloss.places.host.labels import first_bad_label, weigh_labels, wide_labels


def on_host(function, operands, values, want=VALUE, scale=None):
    """Execute a call on chunks on the host; `values` are the options, by name."""
    arrays, weak = host.as_arrays(function, operands)
    signatures = [None if a is None else host.signature(a, i in weak) for i, a in enumerate(arrays)]
    options = tuple(values[option.name] for option in function.options)
    out = (None,) * len(want.wrt) if want.wrt else None
    return host.plan(resolve(function, signatures, options, want), arrays, out)(arrays, out, scale)


def task(function):
    """Decorator: run `function` on one thread, because the scheduler uses the others, with the backend of the call, and
    without NumPy's warnings."""

    @functools.wraps(function)
    def alone(*chunks, backend=None, **options):
        with _config.threads.within(1), _config.backend.within(backend), np.errstate(all="ignore"):
            host_backend()
            return function(*chunks, **options)

    return alone


@task
def rounded(a, *, real):
    """What Dask's own operations have summed, in the result's dtype."""
    return a.astype(real)


def host_backend():
    """The current backend, which has to be one of the host's; None means the default of the process that runs the
    task."""
    name = _config.backend.get()
    if name == "cuda":
        raise _errors.chunks_on_device()
    return None if name == "auto" else name


def beginning(starts, block_id):
    """Where a chunk of an operand begins; `starts` holds the beginnings of its chunks for each axis, only one where it
    is broadcast."""
    block_id = block_id[len(block_id) - len(starts) :]
    return tuple(axis[i if len(axis) > 1 else 0] for axis, i in zip(starts, block_id, strict=True))


# --- errors -----------------------------------------------------------------------------------------------------------


def bad_label(y, n_classes, ignore_index, *, axis, starts, block_id):
    """The first bad label of a chunk, which has no class axis; `starts` belong to chunks that have one, unless `axis`
    is None."""
    origin = beginning(starts, block_id)
    found = first_bad_label(_arrays.indices(y), n_classes, ignore_index)
    if found is None:
        return None
    if axis is not None:
        axis %= len(origin)
        origin = origin[:axis] + origin[axis + 1 :]
    position = _moved(found[0], origin)
    return Bad(1, position, _errors.label_out_of_range, (position, found[1], n_classes, ignore_index))


def bad_id(ids, resolved, *, axis, starts, block_id):
    """The first bad id of a chunk, or None.  Ids lie along the class axis; `starts` belong to chunks of logits."""
    if ids is None:
        return None
    found = first_bad_label(_arrays.indices(np.moveaxis(ids, axis, -1)), resolved.n_classes, resolved.ignore_index)
    if found is None:
        return None
    origin = beginning(starts, block_id)
    position = _moved(found[0], (*origin[:axis], *origin[axis + 1 :], 0))
    return Bad(
        4, position, _errors.label_out_of_range, (position, found[1], resolved.n_classes, resolved.ignore_index, "ids")
    )


def bad_value(operand, a, name, domain, origin):
    found = first_outside(_arrays.floats(a, name), domain)
    if found is None:
        return None
    position = _moved(found[0], origin)
    return Bad(operand, position, _errors.outside, (name, domain, position, found[1]))


def _moved(position, origin):
    return tuple(int(i) + start for i, start in zip(position, origin, strict=True))


# --- losses of chunks -------------------------------------------------------------------------------------------------
#
# `call` is one of the functions below that take chunks, the options' values and `want`.  They return what the host
# does, or the first Bad if there is one.


@task
def total_of(*operands, call, values, block_id, **options):
    found = call(*operands, values=values | {"reduction": "sum"}, want=SUMS, block_id=block_id, **options)
    return object_array(Part(bad=found) if isinstance(found, Bad) else Part(*found), len(block_id))


@task
def each_of(*operands, call, values, block_id, **options):
    """The loss of each element or row; rows keep an axis of length 1 for the classes."""
    result = raise_if_bad(
        call(*operands, values=values | {"reduction": "none"}, want=VALUE, block_id=block_id, **options)
    )
    return np.expand_dims(result, options["axis"]) if "axis" in options else result


@task
def slopes_of(*operands, call, loss, values, block_id, **options):
    """A chunk of the gradient, with all axes of the call; the last operand is the factor of the sum in the result."""
    *operands, scale = operands
    want, values = slopes(loss.arrays[0]), values | {"reduction": "sum"}
    found = raise_if_bad(
        call(*operands, loss=loss, values=values, want=want, scale=factor_of(scale), block_id=block_id, **options)
    )
    gradient = np.asarray(found[1][0])
    return gradient.reshape((1,) * (len(block_id) - gradient.ndim) + gradient.shape)


# --- pointwise losses -------------------------------------------------------------------------------------------------


def pointwise(*operands, loss, values, starts, block_id, want, axis=None, scale=None):
    if "axis" in values:
        values = values | {"axis": axis}
    try:
        return on_host(loss, operands, values, want, scale)
    except ValueError:
        formula, _ = loss.formula(values, operands[2] is not None)
        rows = zip(operands, loss.operands, formula.domains, strict=False)
        for i, (a, name, domain) in enumerate(rows):
            if domain is not None and isinstance(a, np.ndarray):
                bad = bad_value(i, a, name, domain, beginning(starts[i], block_id))
                if bad:
                    return bad
        raise


@task
def pointwise_lanes(*operands, values, axis, block_id, **options):
    values = values | {"reduction": "sum"}
    found = raise_if_bad(pointwise(*operands, values=values, want=SUMS, axis=axis, block_id=block_id, **options))
    lanes = np.zeros(found.total.shape, LANES)
    lanes["total"], lanes["weight"] = found.total, found.weight
    if isinstance(found, Squares):
        lanes["huge"], lanes["tiny"] = found.huge, found.tiny
    return np.expand_dims(lanes, axis)


@task
def weight_sum(w, *, copies):
    """The sum of a chunk's weights, each counted `copies` times, once per element it is broadcast to."""
    return object_array(Part(weight=float(np.sum(w, dtype=np.float64)) * copies), w.ndim)


# --- losses of rows ---------------------------------------------------------------------------------------------------


def labels_of(y, axis):
    """Labels without the axis of length 1 that stands for the classes."""
    return np.squeeze(y, axis)


def rows(x, y, w, *, loss, values, axis, is_index, ignore_index, n_classes, starts, block_id, want, scale=None):
    """Losses of rows that are complete in the chunk."""
    y = labels_of(y, axis) if is_index else y
    values = values | {"axis": axis, "ignore_index": ignore_index}
    try:
        return on_host(loss, (x, y, w), values, want, scale)
    except ValueError:
        bad = None
        if loss.op == "gather":
            bad = bad_value(0, x, "probs", losses.PROBABILITY, beginning(starts, block_id))
        if bad is None:
            raise
        return bad
    except IndexError:
        return bad_label(y, n_classes, ignore_index, axis=axis, starts=starts, block_id=block_id)


@task
def label_weights(y, w, *, axis, n_classes, ignore_index, real, starts, block_id):
    """The contribution of a chunk's labels to the denominator of a mean."""
    labels = _arrays.indices(labels_of(y, axis))
    bad = bad_label(labels, n_classes, ignore_index, axis=axis, starts=starts, block_id=block_id)
    if bad:
        return object_array(Part(bad=bad), y.ndim)
    return object_array(Part(weight=weigh_labels(labels, n_classes, w, ignore_index)), y.ndim)


# --- losses of elements of rows, a chunk of the classes at a time -----------------------------------------------------


def own_rows(x, y, w, *, axis, is_index, ignore_index, n_classes, starts, block_id, want, **options):
    """The contribution of a chunk of the class axis to the losses of its rows: labels in other chunks are ignored."""
    place = {"axis": axis, "starts": starts, "block_id": block_id}
    first, width = beginning(starts, block_id)[axis], x.shape[axis]
    w = None if w is None else w[first : first + width]
    if is_index:
        labels = _arrays.indices(labels_of(y, axis))
        bad = bad_label(labels, n_classes, ignore_index, **place)
        if bad and first == 0:
            return bad
        labels = wide_labels(labels, ignore_index).reshape(labels.shape)
        y = np.expand_dims(np.where((labels >= first) & (labels < first + width), labels - first, -1), axis)
        ignore_index = -1
    if want is VALUE:  # still has to be summed over the chunks
        x = _arrays.floats(x, "probs").astype(np.float64)
    options |= place | {"is_index": is_index, "ignore_index": ignore_index, "n_classes": width, "want": want}
    result = rows(x, y, w, **options)
    if isinstance(result, Sums) and not is_index and first:
        # with probabilities each row counts once, in the first chunk of its classes
        return result._replace(weight=0.0, count=0)
    return result


# --- softmax of complete rows, scores ---------------------------------------------------------------------------------


@task
def normalised(x, *, axis, wanted, transform):
    function = next(f for f in (losses.LOGSUMEXP, losses.LOG_SOFTMAX, losses.SOFTMAX) if f.name == wanted)
    return np.asarray(on_host(function, (x,), {"axis": axis, "keepdims": True} | values_of(transform)))


def scores_dtype(resolved):
    """The structured dtype of the fields of `Scores` that are asked for."""
    real = np.dtype(resolved.real)
    kinds = dict(zip(_scores.Scores._fields, _scores.kinds(real, resolved.top_k), strict=False))
    if not resolved.has_target:
        kinds = {"lse": real, "argmax": np.int64}
    if resolved.top is not None:
        kinds |= {"top_ids": (np.int64, (resolved.top,)), "top_log_probs": (real, (resolved.top,))}
    if resolved.n_ids is not None:
        kinds["id_log_probs"] = real, (resolved.n_ids,)
    if resolved.entropy:
        kinds["entropy"] = real
    return np.dtype([(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in kinds.items()])


def fields_of(found, shape, dtype):
    """Scores, or a Comparison, as one structured array, with an axis of length 1 for the classes."""
    result = np.empty(shape, dtype)
    for name in dtype.names:
        result[name] = getattr(found, name).reshape(result[name].shape)
    return result


def _scored(operands, axis, resolved, starts, block_id):
    """The host's scores of a chunk of complete rows, with an axis of length 1 for the classes."""
    x, y, a, b, ids = operands
    y = None if y is None else labels_of(y, axis)
    values = {"axis": axis, "ignore_index": resolved.ignore_index, "top_k": resolved.top_k}
    values |= {"top": resolved.top, "entropy": resolved.entropy} | values_of(resolved.transform)
    try:
        found = on_host(losses.SCORE, (x, y, a, b, None if ids is None else np.moveaxis(ids, axis, -1)), values)
    except IndexError:
        bad = bad_id(ids, resolved, axis=axis, starts=starts, block_id=block_id)
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        raise (bad or bad_label(y, resolved.n_classes, resolved.ignore_index, **place)).raised() from None
    return fields_of(found, (*x.shape[:axis], 1, *x.shape[axis + 1 :]), scores_dtype(resolved))


@task
def scores(x, y, ids, *, resolved, starts, block_id):
    return _scored((x, y, None, None, ids), resolved.axis, resolved, starts, block_id)


def comparison_dtype(real, has_target):
    """The structured dtype of the fields of `Comparison`."""
    return np.dtype(list(zip(_comparison.Comparison._fields, _comparison.kinds(real, has_target), strict=False)))


def _compared(operands, axis, resolved, starts, block_id):
    """How a chunk of complete rows differs from the reference's, with an axis of length 1 for the classes."""
    r, x, y, *layers = operands
    y = None if y is None else labels_of(y, axis)
    values = {"axis": axis, "ignore_index": resolved.ignore_index} | values_of(resolved.transform)
    try:
        found = on_host(losses.COMPARE, (r, x, y, *layers), values)
    except IndexError:
        place = {"axis": axis, "starts": starts, "block_id": block_id}
        raise bad_label(y, resolved.n_classes, resolved.ignore_index, **place).raised() from None
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return fields_of(found, shape, comparison_dtype(np.dtype(resolved.real), y is not None))


@task
def comparisons(r, x, y, *, resolved, starts, block_id):
    return _compared((r, x, y, None, None, None, None), resolved.axis, resolved, starts, block_id)


@task
def forecasts(x, y, *, resolved, starts, block_id):
    """The sums of a chunk of complete rows, as `Several`."""
    axis = resolved.axis
    y = y if axis is None else labels_of(y, axis)
    bad, numbers = None, ()
    try:
        values = resolved.values | {"axis": 0 if axis is None else axis}
        numbers = on_host(resolved.function, (x, y), values, SUMS).numbers
    except ValueError:
        bad = bad_value(0, x, "probs", losses.PROBABILITY, beginning(starts, block_id))
        if bad is None:
            raise
    except IndexError:
        bad = bad_label(y, resolved.n_classes, resolved.ignore_index, axis=axis, starts=starts, block_id=block_id)
    return object_array(Several(numbers, bad), len(block_id))


# --- linear layers ----------------------------------------------------------------------------------------------------


def linear(h, a, y, b, w, *, loss, values, axis, is_index, ignore_index, starts, block_id, want, scale=None):
    y = labels_of(y, axis) if is_index else y
    try:
        return on_host(loss, (h, a, y, b, w), values, want, scale)
    except IndexError:
        return bad_label(y, len(a), ignore_index, axis=axis, starts=starts, block_id=block_id)


@task
def linear_comparisons(r, x, y, a, b, own_a, own_b, *, resolved, starts, block_id):
    return _compared((r, x, y, a, b, own_a, own_b), x.ndim - 1, resolved, starts, block_id)


@task
def linear_scores(h, a, y, b, ids, *, resolved, starts, block_id):
    return _scored((h, y, a, b, ids), h.ndim - 1, resolved, starts, block_id)
