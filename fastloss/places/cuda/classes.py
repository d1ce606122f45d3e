"""The softmax family of device arrays: logits and targets to views, views to kernels, sums to results."""

import numpy as np

from fastloss import _arrays, _classes, _errors, _reduce, losses
from fastloss._device import pointwise
from fastloss._device.arrays import FLOATS, INTEGERS, View, viewed
from fastloss._device.session import Session
from fastloss._pointwise import Gradient, Totals
from fastloss._score import Scores, checked_top_k


class Rows:
    """Rows of classes, counted over two axes: how arrays of the logits' shape, and arrays of one value a row, become views."""

    def __init__(self, session, x, axis):
        self.session, self.axis = session, axis
        self.n_classes = x.shape[axis]
        self.shape = x.shape[:axis] + x.shape[axis + 1 :]
        before = int(np.prod(x.shape[:axis], dtype=np.int64))
        after = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
        self.split = before, after
        self.n_rows = before * after
        if axis == x.ndim - 1 and x.ndim > 1:
            # rows over one axis where that is a view, else over the first ones and the last
            self.split = (1, before) if x.reshaped((before, self.n_classes)) else (before // x.shape[-2], x.shape[-2])

    def strides(self, view):
        """Of an array of the logits' shape: strides of the outer and the inner axis of rows, and of classes."""
        last = self.axis == view.ndim - 1
        found = self.session.fitting(
            view, (*self.split, self.n_classes) if last else (self.split[0], self.n_classes, self.split[1])
        )
        outer, row, step = found.strides if last else (found.strides[0], found.strides[2], found.strides[1])
        return found.address, outer, row, step

    def row_strides(self, view):
        found = self.session.fitting(view, self.split)
        return found.address, *found.strides


def class_weights(session, weight, n_classes, real):
    """Their address, contiguous and of the type that is computed in; 0 where there are none."""
    if weight is None:
        return 0
    w = session.array(weight, "weight")
    if not isinstance(w, View) or w.shape != (n_classes,):
        raise _errors.wrong_shape("weight", getattr(w, "shape", ()), f"({n_classes},), one weight a class")
    return session.converted(w, real).address


def holds_indices(y, shape, axis):
    """Whether targets for logits of that shape are class indices, rather than probabilities."""
    rows = shape[:axis] + shape[axis + 1 :]
    if not isinstance(y, View):
        raise _errors.two_forms(shape, (), type(y).__name__, axis)
    if y.name in INTEGERS and y.shape == rows or y.size == 0 and y.shape == rows:
        return True
    if y.name not in INTEGERS and y.shape == shape:
        return False
    if y.shape == rows:
        raise _errors.floating_indices(y.shape, y.name)
    raise _errors.two_forms(shape, y.shape, y.name, axis)


def ignored(y, ignore_index):
    """The index to leave out as kernels compare it: what the labels' type can't hold is no label."""
    if y.name in INTEGERS and y.name != "bool":
        limits = np.iinfo(y.name)
        if limits.min <= ignore_index <= min(limits.max, 2**63 - 1):
            return ignore_index
    elif 0 <= ignore_index <= 1:
        return ignore_index
    return -(2**63)


def logits_and_axis(session, value, name, axis):
    x = session.array(value, name)
    if not isinstance(x, View) or x.ndim == 0:
        raise _errors.no_axis(name)
    return x, _arrays.one_axis(axis, x.ndim)


def real_type(*views):
    """float64 for operands of 64 bits, and for integers as on the host."""
    return "float64" if any(v.name == "float64" or v.name in INTEGERS for v in views) else "float32"


def evaluate(
    name, predictions, target, *, weight, ignore_index, label_smoothing, axis, reduction, out, op, take_log
):  # fmt: skip
    _reduce.check(reduction)
    session = Session(**{name: predictions, "target": target, "weight": weight})
    x, axis = logits_and_axis(session, predictions, name, axis)
    y = session.array(target, "target")
    if op == "gather" and not take_log and isinstance(y, View) and y.name not in INTEGERS and y.size:
        raise _errors.not_index_dtype("target", y.name)
    is_index = holds_indices(y, x.shape, axis)
    ignore_index = _classes.wide_index(ignore_index)
    smoothing = _classes.share_smoothed(label_smoothing)
    real = real_type(x) if is_index else real_type(x, y)
    rows = Rows(session, x, axis)
    if rows.n_classes == 0 and rows.n_rows:
        raise _errors.no_classes(name, x.shape)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    if op == "gather" and not is_index:
        return _categorical(session, x, y, weight, axis, rows, reduction, out, real)
    w = class_weights(session, weight, rows.n_classes, real)
    call = Call(session, rows, x, y, w, real, reduction, out)
    if op == "gather":
        return call.gather(ignored(y, ignore_index), take_log)
    spread = smoothing / max(rows.n_classes, 1)
    if is_index:
        return call.rows_of("index_spread" if smoothing else "index", ignored(y, ignore_index), 1.0 - smoothing, spread)
    return call.rows_of("dense", 0, 1.0 - smoothing, spread)


def _categorical(session, x, y, weight, axis, rows, reduction, out, real):
    """-sum_c w[c] y[c] log x[c]: a pointwise loss, summed over the classes."""
    w = session.array(weight, "weight")
    if w is not None:
        if w.shape != (rows.n_classes,):
            raise _errors.wrong_shape("weight", w.shape, f"({rows.n_classes},), one weight a class")
        w = View(
            w.address,
            w.name,
            (*w.shape, *(1,) * (x.ndim - axis - 1)),
            (*w.strides, *(0,) * (x.ndim - axis - 1)),
            w.owner,
        )
    call = pointwise.Pointwise(session, losses.CATEGORICAL, (x, y, None, w), real, (), ("probs", "target", ""))
    if reduction == "none":
        if isinstance(out, Gradient):
            raise _errors.vector_gradient("reduction='none'")
        return call.along((axis,), "sum", None, False, out)
    result = call.total("sum" if reduction == "sum" else "number", rows.n_rows, False, out)
    if isinstance(out, Totals):
        out.count = rows.n_rows  # not of elements
    return result


class Call:
    """One evaluation over rows: views in, result out, the gradient where it was asked for."""

    def __init__(self, session, rows, x, y, w, real, reduction, out):
        self.session, self.rows, self.x, self.y, self.w, self.real, self.reduction = (
            session,
            rows,
            x,
            y,
            w,
            real,
            reduction,
        )
        self.request = out if isinstance(out, Gradient) else None
        self.totals = out if isinstance(out, Totals) else None
        self.out = None if self.request or self.totals else out
        if self.request and reduction == "none":
            raise _errors.vector_gradient("reduction='none'")
        if self.out is not None:
            session.check_out(self.out, rows.shape if reduction == "none" else ())
        if self.request and self.request.requested is not None:
            session.check_out(self.request.requested, x.shape)
        self.losses = self.gradient = None

    def _outputs(self):
        """Addresses of the reduced result, of rows' losses, and the gradient with its strides."""
        session = self.session
        self.value, value = session.destination(self.out if self.reduction != "none" else None, (), self.real)
        losses, gradient = 0, (0, 0, 0, 0)
        if self.reduction == "none":
            self.losses, view = session.destination(self.out, self.rows.shape, self.real)
            losses = view.address
        if self.request:
            self.gradient, view = session.destination(self.request.requested, self.x.shape, self.real)
            gradient = self.rows.strides(view)
        return value.address, losses, gradient

    def rows_of(self, op, ignore_index, keep, spread):
        """Cross-entropy of indices or of probabilities."""
        self.ignore_index = ignore_index
        session, rows = self.session, self.rows
        is_index = op != "dense"
        with session.queue.lock:
            value, losses, gradient = self._outputs()
            scale, by_weight = 1.0, 0
            if self.request and self.reduction == "mean":
                if is_index:
                    self._weigh(ignore_index)
                    by_weight = 1
                else:
                    scale = 1.0 / rows.n_rows if rows.n_rows else 1.0
            mode = {"mean": "class weight" if is_index else "number"}.get(self.reduction, "sum")
            y = (*rows.row_strides(self.y), 0) if is_index else rows.strides(self.y)
            run_rows(
                session, rows, op, session.softmax.GRADIENT if self.request else session.softmax.NONE, self.x, self.real, y,
                self.y.name, self.w, (ignore_index, keep, spread), losses=losses, out=gradient, scale=(scale, by_weight),
                reduced=(value, mode, float(rows.n_rows)),
            )  # fmt: skip
            return self.result(rows.n_rows if not is_index else None, is_index)

    def gather(self, ignore_index, take_log):
        """The loss of the elements that labels point at."""
        self.ignore_index = ignore_index
        session, rows = self.session, self.rows
        with session.queue.lock:
            value, losses, gradient = self._outputs()
            by_weight = 0
            if self.request:
                session.clear(self.gradient)
                if self.reduction == "mean":
                    self._weigh(ignore_index)
                    by_weight = 1
            kernel = session.softmax.by_label(
                "gather", session.softmax.GRADIENT if self.request else session.softmax.NONE, self.x.name, self.real
            )
            mode = session.kernels.MODES["class weight" if self.reduction == "mean" else "sum"]
            arguments = (
                *rows.strides(self.x), *rows.row_strides(self.y), session.softmax.LABEL_KINDS[self.y.name], self.w, ignore_index,
                int(take_log), rows.split[1], rows.n_rows, rows.n_classes, losses, *gradient, 1.0, by_weight,
                session.queue.workspace, value, mode,
            )  # fmt: skip
            session.launch(kernel, rows.n_rows, arguments, session.softmax.LABEL_THREADS)
            if take_log and session.waits:
                self._check_probabilities()
            return self.result(None, True)

    def _check_probabilities(self):
        sums = self.session.totals()
        if sums[0] != sums[0]:
            call = pointwise.Pointwise(
                self.session, losses.CATEGORICAL, (self.x, None, None, None), self.real, (), ("probs", "", "")
            )
            call.check_domain()

    def _weigh(self, ignore_index):
        """The summed weight of the labels that count, to where the next kernel finds it."""
        session, rows = self.session, self.rows
        kernel = session.softmax.by_label("weigh", session.softmax.NONE, self.x.name, self.real)
        arguments = (
            *rows.row_strides(self.y), session.softmax.LABEL_KINDS[self.y.name], self.w, ignore_index, rows.split[1],
            rows.n_rows, rows.n_classes, session.queue.workspace,
        )  # fmt: skip
        session.launch(kernel, rows.n_rows, arguments, session.softmax.LABEL_THREADS)

    def result(self, divisor, may_be_bad):
        """What the caller gets; raises for bad labels."""
        session = self.session
        sums = session.totals() if self.totals or may_be_bad and session.waits else None
        if sums and sums[3] < np.inf:
            raise_bad_label(session, self.y, self.rows, int(sums[3]), self.ignore_index)
        if self.totals:
            return self.totals.take(sums[0], sums[1] if divisor is None else divisor, sums[2])
        if self.reduction == "none":
            return session.delivered(self.losses, self.out)
        if self.request:
            self.request.array = session.delivered(self.gradient, self.request.requested)
        return session.scalar(self.value, self.out)


def raise_bad_label(session, y, rows, row, ignore_index):
    """IndexError for the label of that row."""
    position = np.unravel_index(row, rows.shape) if rows.shape else ()
    raise _errors.label_out_of_range(position, session.label(y, position), rows.n_classes, ignore_index)


def run_rows(
    session, rows, op, second, x, real, y, y_name, w, coefficients, *,
    losses=0, scores=(0,) * 6, index="int64", out=(0, 0, 0, 0), scale=(1.0, 0), reduced=(0, "sum", 1.0),
):  # fmt: skip
    """Launch the kernel of the softmax family that does `op` and then, if it is asked to, sweeps a second time.

    y : address and three strides; coefficients : ignore_index, keep, spread; scores : addresses of lse, argmax, correct, rank, in_top_k,
    and k, of which those that are positions have the type `index`; reduced : address of the result, how it is made, and a number to divide by.
    """
    softmax, queue = session.softmax, session.queue
    address, outer, row, step = rows.strides(x)
    shape = softmax.shape_of(rows.n_rows, rows.n_classes, x.name, step == 1, second)
    aligned = step == 1 and all(
        v % (16 // size) == 0
        for v, size in ((outer, x.itemsize), (row, x.itemsize), (out[1], FLOATS[real]), (out[2], FLOATS[real]))
    )
    aligned = aligned and address % 16 == 0 and (not out[0] or out[0] % 16 == 0 and out[3] == 1)
    packed = step == 1 and row == rows.n_classes and (outer == row * rows.split[1] or rows.n_rows <= rows.split[1])
    staged = rows.n_classes if packed and address % 16 == 0 and softmax.is_staged(shape, rows.n_classes) else 0
    kernel = softmax.kernel(op, second, x.name, y_name if op == "dense" else None, real, shape, aligned, staged, index)
    kind = softmax.LABEL_KINDS.get(y_name, 0)
    n_chunks = -(-rows.n_classes // max(shape.chunk, 1))
    states = (
        session.states(8 * (softmax.TICKETS + rows.n_rows * n_chunks * softmax.STATE))
        if shape.threads and n_chunks > 1
        else 0
    )
    ignore_index, keep, spread = coefficients
    value, mode, divisor = reduced
    arguments = (
        address, outer, row, step, *y, kind, w, ignore_index, float(keep), float(spread), rows.split[1], rows.n_rows, rows.n_classes,
        losses, *scores, *out, float(scale[0]), scale[1], queue.workspace, value, session.kernels.MODES[mode], float(divisor),
        shape.chunk, states,
    )  # fmt: skip
    session.launch_blocks(
        kernel, softmax.n_blocks(shape, rows.n_rows, n_chunks), shape.threads or softmax.GROUP_THREADS, arguments
    )


def normalise(value, axis, out, wanted, keepdims=False):
    """logsumexp, log_softmax or softmax (`wanted`) along an axis."""
    session = Session(x=value)
    x, axis = logits_and_axis(session, value, "x", axis)
    real = real_type(x)
    rows = Rows(session, x, axis)
    reduced = wanted == "logsumexp"
    shape = x.shape[:axis] + (1,) * keepdims + x.shape[axis + 1 :] if reduced else x.shape
    result, view = session.destination(out, shape, real)
    if rows.n_rows and view.size:
        second = {
            "logsumexp": session.softmax.NONE,
            "log_softmax": session.softmax.LOGS,
            "softmax": session.softmax.POWERS,
        }
        outputs = {"scores": (view.address, *(0,) * 5)} if reduced else {"out": rows.strides(view)}
        with session.queue.lock:
            run_rows(
                session, rows, "normalise", second[wanted], x, real, (0, 0, 0, 0), "int64", 0, (0, 1.0, 0.0), **outputs
            )
    if shape == ():
        return session.scalar(result, out)
    return session.delivered(result, out)


def score(logits, target, axis, ignore_index, top_k):
    """`score`: what an evaluation wants to know of each row."""
    session = Session(logits=logits, target=target)
    x, axis = logits_and_axis(session, logits, "logits", axis)
    y = session.array(target, "target")
    rows = Rows(session, x, axis)
    if not isinstance(y, View) or y.name not in INTEGERS and y.size:
        raise _errors.not_index_dtype("target", getattr(y, "name", type(target).__name__))
    if y.shape != rows.shape:
        raise _errors.wrong_shape("target", y.shape, f"{rows.shape}, that of logits without the class axis")
    wide, top_k = _classes.wide_index(ignore_index), checked_top_k(top_k)
    if rows.n_classes == 0 and rows.n_rows:
        raise _errors.no_classes("logits", x.shape)
    real = real_type(x)
    index = session.index_type()
    names = [real, real, index, "bool", *([index, "bool"] if top_k else [])]
    results = [session.new(rows.shape, name) for name in names]
    if rows.n_rows:
        addresses = [viewed(result, "out").address for result in results] + [0] * (6 - len(results))
        nll, *rest = addresses
        with session.queue.lock:
            run_rows(
                session, rows, "rank" if top_k else "score", session.softmax.NONE, x, real, (*rows.row_strides(y), 0), y.name, 0,
                (ignored(y, wide), 1.0, 0.0), losses=nll, scores=(*rest, top_k or 0), index=index,
            )  # fmt: skip
            bad = session.totals()[3] if session.waits else np.inf
        if bad < np.inf:
            raise_bad_label(session, y, rows, int(bad), wide)
    return Scores(*[session.delivered(result) for result in results])
