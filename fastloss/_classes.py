"""Evaluating the softmax family: logits and targets to views, views to kernels, sums to results.

Two kinds of kernel do all of it.  Row kernels take (outer, middle, n_classes) with the classes contiguous.  Column kernels take
(outer, n_classes, inner) with any strides and run across rows: for few classes, and for a class axis that is not the last.
"""

import numpy as np

from fastloss import _arrays, _errors, _places, _plan, _pointwise, _reduce, losses
from fastloss._arrays import bits
from fastloss._pointwise import Checks, Gradient, Totals
from fastloss.backends import LANES

_PROBS = ("probs", "target", "")


class Layout:
    """Where the classes are: how arrays shaped like the logits, and arrays of one value a row, become views."""

    def __init__(self, x, axis, rowwise=True):
        self.shape = x.shape
        self.axis = axis
        self.n_classes = x.shape[axis]
        self.rows_shape = x.shape[:axis] + x.shape[axis + 1 :]
        self.n_rows = 1
        for length in self.rows_shape:
            self.n_rows *= length
        last = axis == x.ndim - 1
        self.rowwise = rowwise and last and self.n_classes >= _plan.ROWWISE_FROM and x.strides[-1] == x.itemsize
        if self.rowwise:
            # one long axis of rows where that is a view; two keep slices of sequences from being copied
            self.split = (1, self.n_rows) if x.flags.c_contiguous or x.ndim != 3 else self.rows_shape
            return
        before = 1
        for length in x.shape[:axis]:
            before *= length
        after = self.n_rows // before if before else 0
        # lanes run along the longer side
        self.swapped = after < LANES and after < before
        self.split = (after, before) if self.swapped else (before, after)

    def per_class(self, a):
        """`a`, of the logits' shape, as the kernels want it."""
        if self.rowwise:
            return a.reshape(*self.split, self.n_classes)
        before, after = self.split[::-1] if self.swapped else self.split
        a = a.reshape(before, self.n_classes, after)
        return a.transpose(2, 1, 0) if self.swapped else a

    def per_row(self, a):
        """`a`, of the rows' shape, as the kernels want it."""
        if self.rowwise or not self.swapped:
            return a.reshape(self.split)
        return a.reshape(self.split[::-1]).T

    def op(self, name):
        return f"{name}_rows" if self.rowwise else f"{name}_columns"

    def blocks(self):
        """Rows, or tiles of rows, a block, and the number of blocks."""
        if self.rowwise:
            return _plan.block_size(self.n_rows, self.n_classes)
        tiles = self.split[0] * -(-self.split[1] // LANES)
        return _plan.block_size(tiles, self.n_classes * min(LANES, max(self.split[1], 1)))


def logits_and_axis(value, name, axis):
    """The array, and its class axis counted from the front."""
    x = _arrays.floats(value, name)
    if x.ndim == 0:
        raise _errors.no_axis(name)
    return x, _arrays.one_axis(axis, x.ndim)


def class_weights(weight, n_classes):
    """The weights in float64, contiguous; or None."""
    if weight is None:
        return None
    w = _arrays.floats(weight, "weight")
    if w.shape != (n_classes,):
        raise _errors.wrong_shape("weight", w.shape, f"({n_classes},), one weight a class")
    return np.ascontiguousarray(
        w, np.float64
    )  # whatever the logits are: weights that float32 can't hold have right means


def target_of(shape, axis, target):
    """The target array for logits of that shape, and whether it holds class indices."""
    y = _arrays.asarray(target, "target")
    rows = shape[:axis] + shape[axis + 1 :]
    kind = y.dtype.kind
    if kind in "iub" and y.shape == rows:
        return _arrays.indices(y), True
    if (kind == "f" or _arrays.is_bfloat16(y.dtype)) and y.shape == shape:
        return _arrays.floats(y, "target"), False
    if y.size == 0 and y.shape == rows:  # an empty list is float64
        return y.astype(np.int64), True
    if kind not in "iubf" and not _arrays.is_bfloat16(y.dtype):
        raise _errors.not_numeric("target", y.dtype)
    if y.shape == rows:
        raise _errors.floating_indices(y.shape, y.dtype)
    raise _errors.two_forms(shape, y.shape, y.dtype, axis)


def wide_index(ignore_index):
    """ignore_index as an int that kernels can take: what int64 can't hold is no label either."""
    return max(min(_arrays.integer(ignore_index, "ignore_index"), 2**63 - 1), -(2**63))


def share_smoothed(label_smoothing):
    smoothing = _arrays.number(label_smoothing, "label_smoothing")
    if not 0.0 <= smoothing <= 1.0:
        raise _errors.out_of_range("label_smoothing", label_smoothing, "a number in [0, 1]")
    return smoothing


def counted_labels(y, ignore_index):
    """Which labels are not to be ignored; None if all count."""
    return y != ignore_index if np.iinfo(y.dtype).min <= ignore_index <= np.iinfo(y.dtype).max else None


def weigh_labels(y, n_classes, w, ignore_index):
    """The summed weight of the labels that count; raises for bad ones."""
    counted = counted_labels(y, ignore_index)
    labels = y.reshape(-1) if counted is None else y[counted]
    if labels.size == 0:
        return 0.0
    if labels.min() < 0 or labels.max() >= n_classes:
        raise_bad_label(y, n_classes, ignore_index)
    if w is None:
        return float(labels.size)
    counts = np.bincount(labels.astype(np.int64), minlength=n_classes)
    present = np.flatnonzero(counts)  # weights of other classes may be anything
    with np.errstate(all="ignore"):
        return float(counts[present] @ w[present])


def raise_bad_label(target, n_classes, ignore_index):
    """IndexError for the first label, in C order, that is neither a class nor to be ignored."""
    raise _errors.label_out_of_range(*first_bad_label(target, n_classes, ignore_index), n_classes, ignore_index)


def first_bad_label(target, n_classes, ignore_index):
    """Position and value of that label, or None."""
    # compared as Python integers would be: no label wraps round
    bad = (target < 0) | (target >= n_classes)
    counted = counted_labels(target, ignore_index)
    if counted is not None:
        bad &= counted
    if not bad.any():
        return None
    position = np.unravel_index(int(np.argmax(bad)), target.shape)
    return position, target[position]


def wide_labels(y, ignore_index):
    """Good labels as int64 (n_rows,), those to be ignored as -1."""
    labels = y.astype(np.int64).reshape(-1)
    counted = counted_labels(y, ignore_index)
    if counted is not None:
        labels[~counted.reshape(-1)] = -1
    return labels


def evaluate(
    name, predictions, target, *, weight, ignore_index, label_smoothing, axis, reduction, out, op, take_log=False
):
    """Cross-entropy (op "softmax"), or the loss of gathered elements (op "gather"), with indices or probabilities."""
    if place := _places.elsewhere(predictions, target, weight):
        return place.classes(
            name,
            predictions,
            target,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            axis=axis,
            reduction=reduction,
            out=out,
            op=op,
            take_log=take_log,
        )
    if op == "gather" and not take_log:
        target = _arrays.asarray(target, "target")
        if target.dtype.kind not in "iub" and target.size:
            raise _errors.not_index_dtype("target", target.dtype)
    _reduce.check(reduction)
    x, axis = logits_and_axis(predictions, name, axis)
    y, is_index = target_of(x.shape, axis, target)
    ignore_index = wide_index(ignore_index)
    smoothing = share_smoothed(label_smoothing)
    real = _arrays.real_type(x) if is_index else _arrays.real_type(x, y)
    x = _arrays.promoted(x, real)
    w = class_weights(weight, x.shape[axis])
    layout = Layout(x, axis, rowwise=op == "softmax")
    if layout.n_classes == 0 and layout.n_rows:
        raise _errors.no_classes(name, x.shape)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    if isinstance(out, Checks):
        return out.take(real, x.shape, axis=axis, is_index=is_index, ignore_index=ignore_index, smoothing=smoothing)
    call = Call(layout, x, y, w, real, reduction, out)
    if is_index:
        return call.index(op, ignore_index, smoothing, take_log)
    if op == "gather":
        return _categorical(x, y, w, layout, reduction, out)
    return call.dense(_arrays.promoted(y, real), smoothing)


def _categorical(x, y, w, layout, reduction, out):
    """-sum_c w[c] y[c] log x[c]: a pointwise loss, summed over the classes."""
    if w is not None:
        w = w.reshape(-1, *(1,) * (x.ndim - layout.axis - 1))
    if reduction == "none":
        if isinstance(out, Gradient):
            raise _errors.vector_gradient("reduction='none'")
        result = _pointwise.evaluate(
            losses.CATEGORICAL, x, y, weight=w, axis=layout.axis, reduction="sum", out=out, names=_PROBS
        )
        return np.asarray(result)
    result = _pointwise.evaluate(
        losses.CATEGORICAL, x, y, weight=w, reduction=reduction, out=out, names=_PROBS, divisor=layout.n_rows
    )
    if isinstance(out, Totals):
        out.count = layout.n_rows  # not of elements
    return result


class Call:
    """One evaluation over rows: arguments in, result out, the gradient where it was asked for."""

    def __init__(self, layout, x, y, w, real, reduction, out):
        self.layout, self.x, self.y, self.w, self.real, self.reduction = layout, x, y, w, real, reduction
        self.request = out if isinstance(out, Gradient) else None
        self.totals = out if isinstance(out, Totals) else None
        self.out = None if self.request or self.totals else out
        if self.request and reduction == "none":
            raise _errors.vector_gradient("reduction='none'")
        if self.out is not None and reduction != "none":
            _arrays.check_out(self.out, ())

    def index(self, op, ignore_index, smoothing, take_log):
        layout = self.layout
        weight = 1.0
        if self.request or self.out is not None:
            # labels first: nothing is written before they are known to be good, and the mean's denominator is needed
            weight = weigh_labels(self.y, layout.n_classes, self.w, ignore_index)
        scale = self.scale(_reduce.inverse(weight))
        if take_log:
            _pointwise.require_inside(self.x, "probs", losses.PROBABILITY)
        if op == "gather":
            arguments = (ignore_index, take_log, scale)
            kernel_name = "gather_index"
        else:
            spread = smoothing / max(layout.n_classes, 1) if smoothing else None
            arguments = (ignore_index, 1.0 - smoothing, spread, scale)
            kernel_name = layout.op("index")
        sums = self._run(kernel_name, layout.per_row(self.y), arguments)
        if sums[3] != np.inf:
            raise_bad_label(self.y, layout.n_classes, ignore_index)
        return self.result(sums, sums[1])

    def dense(self, y, smoothing):
        layout = self.layout
        scale = self.scale(1.0 / layout.n_rows if layout.n_rows else 1.0)
        spread = smoothing / layout.n_classes if layout.n_classes else 0.0
        sums = self._run(layout.op("dense"), layout.per_class(bits(y)), (1.0 - smoothing, spread, scale), (y,))
        return self.result(sums, layout.n_rows)

    def scale(self, mean):
        """What the gradient of the rows' sum is multiplied by."""
        if self.request and self.request.scale is not None:
            return self.request.scale
        return mean if self.reduction == "mean" else 1.0

    def _run(self, kernel_name, target, arguments, more_inputs=()):
        """Call the kernel over all blocks: the sums of their partial results (loss, weight, count, first bad row)."""
        layout, x, real = self.layout, self.x, self.real
        losses = gradient = None
        if self.reduction == "none":
            self.losses = _arrays.destination(self.out, layout.rows_shape, real, (x, self.y, *more_inputs))
            losses = layout.per_row(self.losses)
        if self.request:
            gather = kernel_name.startswith("gather")
            self.gradient = _arrays.destination(self.request.requested, x.shape, real, (x, *more_inputs))
            if gather:
                self.gradient[...] = 0.0
            gradient = layout.per_class(self.gradient)
        sums = np.array((0.0, 0.0, 0.0, np.inf))
        if layout.n_rows == 0:
            return sums
        if kernel_name.startswith("gather"):
            block, n_blocks = _plan.block_size(layout.n_rows, 8)
        else:
            block, n_blocks = layout.blocks()
        kernel = _plan.backend().kernel(None, kernel_name, real)
        views, w = layout.per_class(bits(x)), self.w
        partials = np.empty((n_blocks, 4))
        _plan.run(
            lambda first, last: kernel(views, target, w, *arguments, block, first, last, partials, losses, gradient),
            n_blocks,
            x.size,
        )
        sums[:3] = _reduce.total(partials[:, :3])
        sums[3] = partials[:, 3].min()
        return sums

    def result(self, sums, divisor):
        """What the caller gets, from (loss, weight, count) summed over all rows."""
        if self.reduction == "none":
            return _arrays.delivered(self.losses, self.out)
        if self.totals:
            return self.totals.take(sums[0], divisor, sums[2])
        if self.reduction == "sum":
            value = sums[0]
        else:  # without any weight there is no mean, even if smoothing left something to sum
            value = sums[0] / divisor if divisor else np.nan
        if self.request:
            self.request.array = _arrays.delivered(self.gradient, self.request.requested)
        return _arrays.delivered(_arrays.scalar(float(value), self.real), self.out)


def normalise(value, axis, out, wanted, keepdims=False):
    """logsumexp, log_softmax or softmax (`wanted`) along an axis."""
    if place := _places.elsewhere(value):
        return place.normalise(value, axis, out, wanted, keepdims)
    x, axis = logits_and_axis(value, "x", axis)
    real = _arrays.real_type(x)
    layout = Layout(x, axis)
    if wanted == "logsumexp":
        shape = layout.shape[:axis] + (1,) * keepdims + layout.shape[axis + 1 :]
    else:
        shape = x.shape
    result = _arrays.destination(out, shape, real, (x,))
    outputs = {"logsumexp": None, "log_softmax": None, "softmax": None}
    outputs[wanted] = layout.per_row(result) if wanted == "logsumexp" else layout.per_class(result)
    if layout.n_rows:
        block, n_blocks = layout.blocks()
        kernel = _plan.backend().kernel(None, layout.op("normalise"), real)
        views = layout.per_class(bits(x))
        _plan.run(
            lambda first, last: kernel(
                views, block, first, last, outputs["logsumexp"], outputs["log_softmax"], outputs["softmax"]
            ),
            n_blocks,
            x.size,
        )
    if out is None and shape == ():
        return real.type(result[()])
    return _arrays.delivered(result, out)
