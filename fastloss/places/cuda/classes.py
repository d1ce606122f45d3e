"""The softmax family of device arrays: logits and targets to views, views to kernels, sums to results."""

import numpy as np

from fastloss import _errors, _reduce, losses
from fastloss._scores import Scores
from fastloss.calls.resolve import FLOATS, ignored_label
from fastloss.calls.want import Sums
from fastloss.places.cuda import pointwise
from fastloss.places.cuda.arrays import Numba, View, viewed
from fastloss.places.cuda.transformed import logits_of


class Rows:
    """Rows of classes, indexed by two axes: turns arrays of the logits' shape, and arrays of one value per row, into
    views."""

    def __init__(self, session, x, axis):
        self.session, self.axis = session, axis
        self.n_classes = x.shape[axis]
        self.shape = x.shape[:axis] + x.shape[axis + 1 :]
        before = int(np.prod(x.shape[:axis], dtype=np.int64))
        after = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
        self.split = before, after
        self.n_rows = before * after
        if axis == x.ndim - 1 and x.ndim > 1:
            # rows along one axis if a view allows it, otherwise all but the last axis, and the last
            self.split = (1, before) if x.reshaped((before, self.n_classes)) else (before // x.shape[-2], x.shape[-2])

    def strides(self, view):
        """(stride of the outer row axis, of the inner row axis, of the classes) of an array of the logits' shape."""
        last = self.axis == view.ndim - 1
        found = self.session.fitting(
            view, (*self.split, self.n_classes) if last else (self.split[0], self.n_classes, self.split[1])
        )
        outer, row, step = found.strides if last else (found.strides[0], found.strides[2], found.strides[1])
        return found.address, outer, row, step

    def row_strides(self, view):
        found = self.session.fitting(view, self.split)
        return found.address, *found.strides


def class_weights(session, w, real):
    """The address of the class weights, contiguous and in the dtype `real`; 0 if there are none."""
    return 0 if w is None else session.converted(w, real).address


def ignored(dtype, ignore_index):
    """`ignore_index` as kernels compare it: an index that the labels' dtype can't hold matches no label."""
    found = ignored_label(dtype, ignore_index)
    return -(2**63) if found is None or found >= 2**63 else found


def rows(resolved):
    """A function that executes a `Rows` call."""

    def execute(operands, out, scale):
        session = operands.session
        x, y, w = operands
        if resolved.op == "categorical":
            return _categorical(session, resolved, x, y, w, out, scale)
        if resolved.op == "known":
            return Known(session, resolved, x, y, class_weights(session, w, resolved.real), out, scale).result()
        real = computed_in(resolved)
        call = Call(session, resolved, x, y, class_weights(session, w, real), out, scale, real)
        if resolved.op == "gather":
            return call.gather(resolved.loss.take_log)
        smoothing = resolved.smoothing
        op = "dense" if resolved.op == "dense" else "index_spread" if smoothing else "index"
        return call.rows_of(op, 1.0 - smoothing, smoothing / max(resolved.n_classes, 1))

    return execute


def computed_in(resolved):
    """The dtype that kernels compute in."""
    return resolved.real if resolved.transform is None else "float64"


def _categorical(session, resolved, x, y, w, out, scale):
    """-sum_c w[c] y[c] log x[c]: a pointwise loss, summed over the classes."""
    elements = resolved.elements(w is not None)
    if w is not None:
        w = View(
            w.address, w.name, resolved.weight_shape, (*w.strides, *(0,) * (len(resolved.weight_shape) - 1)), w.owner
        )
    call = pointwise.Pointwise(session, losses.CATEGORICAL, (x, y, None, w), resolved.real, (), elements.names)
    return pointwise.evaluated(call, elements, elements.divisor, out, scale)


class Call:
    """One call over rows: views in; the result, and the gradient if asked for, out."""

    def __init__(self, session, resolved, x, y, w, out, scale, real):
        self.session, self.resolved, self.x, self.y, self.w, self.given = session, resolved, x, y, w, scale
        self.transformed, self.logits = logits_of(session, resolved.transform, x)
        self.rows = Rows(session, x, resolved.axis)
        self.real, self.reduction, self.what = real, resolved.reduction, resolved.want.what
        self.ignore_index = ignored(y.name, resolved.ignore_index) if resolved.is_index else 0
        self.out = out if self.what == "value" else None
        self.requested = out[0] if self.what == "slopes" else None
        if self.out is not None:
            session.check_out(self.out, resolved.result_shape)
        if self.requested is not None:
            session.check_out(self.requested, x.shape)
        self.losses = self.gradient = None

    def _outputs(self):
        """(address of the reduced result, address of the rows' losses, gradient's address and strides)."""
        session = self.session
        self.value, value = session.destination(self.out if self.reduction != "none" else None, (), self.real)
        losses, gradient = 0, (0, 0, 0, 0)
        if self.reduction == "none":
            self.losses, view = session.destination(self.out, self.rows.shape, self.real)
            losses = view.address
        if self.what == "slopes":
            requested = None if self.transformed else self.requested
            self.gradient, view = session.destination(requested, self.x.shape, self.real)
            gradient = self.rows.strides(view)
        return value.address, losses, gradient

    def rows_of(self, op, keep, spread):
        """Cross-entropy of indices or of probabilities."""
        session, rows = self.session, self.rows
        is_index = op != "dense"
        with session.queue.lock:
            value, losses, gradient = self._outputs()
            scale, by_weight = self._scale()
            mode = {"mean": "class weight" if is_index else "number"}.get(self.reduction, "sum")
            y = (*rows.row_strides(self.y), 0) if is_index else rows.strides(self.y)
            run_rows(
                session, rows, op, session.softmax.GRADIENT if self.what == "slopes" else session.softmax.NONE, self.logits, self.real, y,
                self.y.name, self.w, (self.ignore_index, keep, spread), losses=losses, out=gradient, scale=(scale, by_weight),
                reduced=(value, mode, float(rows.n_rows)),
            )  # fmt: skip
            return self.result()

    def gather(self, take_log):
        """The loss from the elements that the labels select."""
        session, rows = self.session, self.rows
        with session.queue.lock:
            value, losses, gradient = self._outputs()
            if self.what == "slopes":
                session.clear(self.gradient)
            scale, by_weight = self._scale()
            kernel = session.softmax.by_label(
                "gather",
                session.softmax.GRADIENT if self.what == "slopes" else session.softmax.NONE,
                self.x.name,
                self.real,
            )
            mode = session.kernels.MODES["class weight" if self.reduction == "mean" else "sum"]
            arguments = (
                *rows.strides(self.x), *rows.row_strides(self.y), session.softmax.LABEL_KINDS[self.y.name], self.w, self.ignore_index,
                int(take_log), rows.split[1], rows.n_rows, rows.n_classes, losses, *gradient, scale, by_weight,
                session.queue.workspace, value, mode,
            )  # fmt: skip
            session.launch(kernel, rows.n_rows, arguments, session.softmax.LABEL_THREADS)
            if take_log and session.waits:
                self._check_probabilities()
            return self.result()

    def _check_probabilities(self):
        if np.isnan(self.session.first_bad(of_sum=True)):
            call = pointwise.Pointwise(
                self.session, losses.CATEGORICAL, (self.x, None, None, None), self.real, (), ("probs", "", "", "")
            )
            call.check_domain()

    def _scale(self):
        """(number that gradients are multiplied by, whether they are divided by the summed weights as well)."""
        if self.what != "slopes" or self.given is not None or self.reduction != "mean":
            return 1.0 if self.given is None else self.given, 0
        if self.resolved.is_index:
            self._weigh()
            return 1.0, 1
        return 1.0 / max(self.rows.n_rows, 1), 0

    def _weigh(self):
        """Sum the weights of labels that are not ignored, into memory that the next kernel reads."""
        session, rows = self.session, self.rows
        kernel = session.softmax.by_label("weigh", session.softmax.NONE, self.x.name, self.real)
        arguments = (
            *rows.row_strides(self.y), session.softmax.LABEL_KINDS[self.y.name], self.w, self.ignore_index, rows.split[1],
            rows.n_rows, rows.n_classes, session.queue.workspace, 0,
        )  # fmt: skip
        session.launch(kernel, rows.n_rows, arguments, session.softmax.LABEL_THREADS)

    def result(self):
        """The result for the caller; raises for bad labels."""
        session, is_index = self.session, self.resolved.is_index
        sums = session.totals() if self.what == "sums" else None
        bad = sums[3] if sums else session.first_bad() if session.waits and is_index else np.inf
        if is_index and bad < np.inf:
            raise_bad_label(session, self.y, self.rows, int(bad), self.resolved.ignore_index)
        if self.what == "sums":
            return Sums(sums[0], sums[1] if is_index else float(self.rows.n_rows), int(sums[2]))
        if self.reduction == "none":
            return session.array_result(session.rounded(self.losses, self.resolved.real), self.out)
        value = session.rounded(self.value, self.resolved.real)
        if self.what == "slopes":
            return session.scalar(value), (session.array_result(self._slopes(), self.requested),)
        return session.scalar(value, self.out)

    def _slopes(self):
        """The gradient with respect to the untransformed logits."""
        if self.transformed is None:
            return self.gradient
        slopes = viewed(self.gradient, "slopes")
        self.transformed.differentiate(slopes, slopes)  # element-wise, in place
        return self.session.rounded(self.gradient, self.resolved.real)


# Multiplies softmax by a factor per row; a factor of 0 gives 0, even in a row that holds NaN.
_TIMES = losses.Formula(
    "times",
    text="def times(x, y):\n    T = type(x)\n    return x * y if y != T(0.0) else T(0.0)\n",
    functions=("times", "times"),
)


class Known:
    """A loss that is a formula of each row's nll and lse: computes these, then the formula, then for the gradient
    softmax times its factor."""

    def __init__(self, session, resolved, x, y, w, out, scale):
        self.session, self.resolved, self.x, self.y, self.w, self.given = session, resolved, x, y, w, scale
        self.transformed, self.logits = logits_of(session, resolved.transform, x)
        self.rows, self.real, self.out = Rows(session, x, resolved.axis), resolved.real, out
        self.wide = computed_in(resolved)  # of what is computed from logits
        self.ignore_index = ignored(y.name, resolved.ignore_index)
        self.formula, self.parameters = resolved.row_formula
        self.what = resolved.want.what
        if self.what == "slopes":
            session.check_out(out[0], x.shape) if out[0] is not None else None
        elif out is not None:
            session.check_out(out, resolved.result_shape)

    def result(self):
        resolved = self.resolved
        weights, weight, count = self._weights()
        self.operands = (*self._known(), None, weights)
        value = self._pointwise(self.formula.value, self.real)
        if resolved.reduction == "none":
            return value.each(self.out)
        mode = "sum" if resolved.reduction == "sum" else "weight"
        if self.what == "sums":
            return Sums(value.total("sum", None, False, None, "sums").total, weight, int(count))
        result = value.total(mode, None, False, self.out if self.what == "value" else None)
        if self.what == "value":
            return result
        scale = self.given
        if scale is None:
            # an ignored row's gradient is 0, even if the mean is NaN
            scale = _reduce.inverse(weight) if mode == "weight" and count else 1.0
        return result, (self._gradient(scale),)

    def _pointwise(self, formula, real):
        return pointwise.Pointwise(self.session, formula, self.operands, real, self.parameters)

    def _scratch(self, real):
        return viewed(self.session.new(self.rows.shape, real, scratch=True), "rows")

    def _label_arguments(self):
        return (*self.rows.row_strides(self.y), self.session.softmax.LABEL_KINDS[self.y.name])

    def _by_label(self, name, real, arguments):
        softmax = self.session.softmax
        kernel = softmax.by_label(name, softmax.NONE, real, real)
        self.session.launch(kernel, self.rows.n_rows, arguments, softmax.LABEL_THREADS)

    def _weights(self):
        """(weight of each row, 0 where its label is ignored; their sum; how many are not ignored).  Raises for bad
        labels."""
        session, rows, found = self.session, self.rows, self._scratch(self.real)
        with session.queue.lock:
            arguments = (
                *self._label_arguments(), self.w, self.ignore_index, rows.split[1], rows.n_rows, rows.n_classes,
                session.queue.workspace, found.address,
            )  # fmt: skip
            self._by_label("weigh", self.real, arguments)
            _, weight, count, bad = session.totals()
        if bad < np.inf:
            raise_bad_label(session, self.y, rows, int(bad), self.resolved.ignore_index)
        return found, weight, count

    def _known(self):
        """(nll, lse) of all rows, rounded to the result's dtype."""
        session, rows, softmax = self.session, self.rows, self.session.softmax
        found = [session.new(rows.shape, self.wide, scratch=True) for _ in range(2)]
        nll, lse = (viewed(array, "rows") for array in found)
        if rows.n_rows:
            with session.queue.lock:
                run_rows(
                    session, rows, "known", softmax.NONE, self.logits, self.wide, (*rows.row_strides(self.y), 0), self.y.name, 0,
                    (self.ignore_index, 1.0, 0.0), losses=nll.address, scores=(lse.address, *(0,) * 5),
                )  # fmt: skip
        return tuple(viewed(session.rounded(array, self.real), "rows") for array in found)

    def _gradient(self, scale):
        session, rows, softmax = self.session, self.rows, self.session.softmax
        requested = self.out[0]
        gradient, view = session.destination(requested if self.transformed is None else None, self.x.shape, self.wide)
        if not view.size:
            return session.array_result(session.rounded(gradient, self.real), requested)
        factor, own = self._scratch(self.wide), self._scratch(self.wide)
        with session.queue.lock:
            self._pointwise(self.formula.factor, self.wide).run(session.kernels.EACH, factor.address, scale)
            self._pointwise(self.formula.at_target, self.wide).run(session.kernels.EACH, own.address, scale)
            run_rows(
                session,
                rows,
                "normalise",
                softmax.POWERS,
                self.logits,
                self.wide,
                (0, 0, 0, 0),
                "int64",
                0,
                (0, 1.0, 0.0),
                out=rows.strides(view),
            )
            axis = self.resolved.axis
            shape = (*rows.shape[:axis], 1, *rows.shape[axis:])
            along = View(
                factor.address, factor.name, shape, (*factor.strides[:axis], 0, *factor.strides[axis:]), factor.owner
            )
            pointwise.Pointwise(session, _TIMES, (view, along, None, None), self.wide).run(
                session.kernels.EACH, view.address
            )
            arguments = (
                *self._label_arguments(), self.ignore_index, rows.split[1], rows.n_rows, rows.n_classes, own.address, *rows.strides(view),
            )  # fmt: skip
            self._by_label("place", self.wide, arguments)
        if self.transformed is not None:
            self.transformed.differentiate(view, view)
            gradient = session.rounded(gradient, self.real)
        return session.array_result(gradient, requested)


def raise_bad_label(session, y, rows, row, ignore_index):
    """Raise IndexError for the label of this row."""
    position = np.unravel_index(row, rows.shape) if rows.shape else ()
    raise _errors.label_out_of_range(position, session.label(y, position), rows.n_classes, ignore_index)


def run_rows(
    session, rows, op, second, x, real, y, y_name, w, coefficients, *,
    losses=0, scores=(0,) * 6, index="int64", out=(0, 0, 0, 0), scale=(1.0, 0), reduced=(0, "sum", 1.0),
):  # fmt: skip
    """Launch the kernel of the softmax family for `op`, which reads the rows a second time if an output requires it.

    y : address and three strides.
    coefficients : ignore_index, keep, spread.
    scores : addresses of lse, argmax, correct, rank and in_top_k, and k; argmax and rank have the dtype `index`.
    reduced : address of the reduced result, how it is reduced, and its divisor.
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


def normalised(resolved):
    """A function that executes a `Normalised` call."""

    def execute(operands, out, scale):
        session = operands.session
        (x,) = operands
        rows, real, transform = Rows(session, x, resolved.axis), computed_in(resolved), resolved.transform
        result, view = session.destination(None if transform else out, resolved.result_shape, real)
        if transform and out is not None:
            session.check_out(out, resolved.result_shape)
        if rows.n_rows and view.size:
            softmax = session.softmax
            second = {"logsumexp": softmax.NONE, "log_softmax": softmax.LOGS, "softmax": softmax.POWERS}[resolved.name]
            reduced = resolved.name == "logsumexp"
            outputs = {"scores": (view.address, *(0,) * 5)} if reduced else {"out": rows.strides(view)}
            _, logits = logits_of(session, transform, x)
            with session.queue.lock:
                run_rows(
                    session, rows, "normalise", second, logits, real, (0, 0, 0, 0), "int64", 0, (0, 1.0, 0.0), **outputs
                )
        result = session.rounded(result, resolved.real)
        if resolved.result_shape == ():
            return session.scalar(result, out)
        return session.array_result(result, out)

    return execute


def scores(resolved):
    """A function that executes a `Scores` call."""
    from fastloss.places.cuda import linear

    return linear.scores(resolved) if resolved.from_layer else _scores(resolved)


def _scores(resolved):
    def execute(operands, out, scale):
        session = operands.session
        x, y = operands[:2]
        rows, real, top_k = Rows(session, x, resolved.axis), resolved.real, resolved.top_k
        index = session.index_type()

        def scored(logits, real, top_k):
            names = [real, real, index, "bool", *([index, "bool"] if top_k else [])]
            results = [session.new(rows.shape, name) for name in names]
            if not rows.n_rows:
                return results
            addresses = [viewed(result, "out").address for result in results] + [0] * (6 - len(results))
            nll, *rest = addresses
            with session.queue.lock:
                labels, kind, ignore = _any_target(session), "int64", -1
                if y is not None:
                    labels, kind, ignore = rows.row_strides(y), y.name, ignored(y.name, resolved.ignore_index)
                run_rows(
                    session, rows, "rank" if top_k else "score", session.softmax.NONE, logits, real, (*labels, 0), kind, 0,
                    (ignore, 1.0, 0.0), losses=nll, scores=(*rest, top_k or 0), index=index,
                )  # fmt: skip
                bad = session.first_bad() if session.waits and y is not None else np.inf
            if bad < np.inf:
                raise_bad_label(session, y, rows, int(bad), resolved.ignore_index)
            return results

        results, logits = scored(x, real, top_k), x
        if resolved.transform is not None:  # a transform does not change the order of logits
            _, logits = logits_of(session, resolved.transform, x)
            results[:2] = [session.rounded(found, real) for found in scored(logits, "float64", None)[:2]]
        names = Scores._fields if resolved.has_target else (None, "lse", "argmax", None)
        found = {name: session.array_result(result) for name, result in zip(names, results, strict=False) if name}
        return Scores(**found | _details(session, resolved, logits, operands[4]))

    return execute


def _details(session, resolved, x, ids):
    """{field: array} of the fields of `Scores` for entropies, top classes and ids."""
    if not resolved.has_details:
        return {}
    rows, real, index = Rows(session, x, resolved.axis), computed_in(resolved), session.index_type()
    n_top, n_ids = resolved.top or 0, resolved.n_ids or 0
    results, addresses = {}, []
    for name, wanted, width, kind in (
        ("top_ids", resolved.top is not None, (n_top,), index),
        ("top_log_probs", resolved.top is not None, (n_top,), real),
        ("id_log_probs", ids is not None, (n_ids,), real),
        ("entropy", resolved.entropy, (), real),
    ):
        if wanted:
            results[name] = session.new((*rows.shape, *width), kind)
        addresses.append(viewed(results[name], "out").address if wanted else 0)
    if rows.n_rows:
        threads, strides = session.details.n_threads(rows.n_classes), rows.strides(x)
        shape = session.details.shape_of(x.name, rows.n_classes, threads, strides)
        kernel = session.details.kernel(x.name, real, threads, index, shape)
        labels, kind, ignore = 0, 0, -1
        if ids is not None and ids.size:
            packed = ids if ids.contiguous else session.packed(ids)
            labels, kind = packed.address, session.softmax.LABEL_KINDS[ids.name]
            ignore = ignored(ids.name, resolved.ignore_index)
        arguments = (
            *strides, labels, kind, ignore, rows.split[1], rows.n_rows, rows.n_classes, n_top, n_ids, *addresses,
            session.queue.workspace,
        )  # fmt: skip
        with session.queue.lock:
            session.launch_blocks(kernel, rows.n_rows, threads, arguments)
            bad = session.first_bad() if session.waits and n_ids else np.inf
        if bad < np.inf:
            position = np.unravel_index(int(bad), (*rows.shape, n_ids))
            value = session.label(ids, position)
            raise _errors.label_out_of_range(position, value, rows.n_classes, resolved.ignore_index, "ids")
    if real != resolved.real:
        floats = {name: session.rounded(a, resolved.real) for name, a in results.items() if name != "top_ids"}
        results |= floats
    return {name: session.array_result(result) for name, result in results.items()}


def _any_target(session):
    """Address and strides of a dummy target, the same for all rows, for calls without one."""
    return Numba.view(session.uploaded(np.zeros(1, np.int64))).address, 0, 0
