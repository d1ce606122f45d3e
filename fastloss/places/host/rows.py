"""Plans of losses of rows of classes: arrays to layouts, layouts to a kernel, sums to results."""

import functools
import math

import numpy as np

from fastloss import _arrays, _costs, _plan, _reduce, losses
from fastloss._arrays import FLOAT64, stored
from fastloss.backends import LANES
from fastloss.calls import transforms
from fastloss.calls.resolve import FLOATS
from fastloss.calls.want import Sums
from fastloss.places.host import elements
from fastloss.places.host.labels import kernel_index, raise_bad_label
from fastloss.places.host.operands import REALS, check_out, class_weights, destination, prepare, steps_of, then
from fastloss.places.host.strides import layout, packed_strides, stride_of
from fastloss.places.host.transformed import Transformed


def plan_of(resolved, arrays, out):
    """The plan of a `Rows`."""
    if resolved.op == "categorical":
        return _Categorical(resolved, arrays, out)
    if resolved.op == "known":
        return _Known(resolved, arrays, out)
    return _RowsPlan(resolved, arrays, out)


# --- where the class axis is ------------------------------------------------------------------------------------------


class Geometry:
    """How kernels see arrays of the logits' shape and arrays of one value per row.

    Row kernels take (outer, middle, n_classes) with the classes contiguous.  Column kernels take (outer, n_classes,
    inner) of any strides and run across rows: for few classes, and for a class axis that is not the last.
    """

    def __init__(self, x, axis, rowwise_from=math.inf, writes=False):
        """rowwise_from : number of contiguous classes from which on row kernels are used.
        writes : whether there will be results of the logits' shape.
        """
        self.shape, self.axis = x.shape, axis
        self.n_classes = x.shape[axis]
        ndim = x.ndim
        before, after = tuple(range(axis)), tuple(range(axis + 1, ndim))
        n_after = math.prod(x.shape[i] for i in after)
        contiguous = x.strides[axis] == x.itemsize and not (writes and n_after > 1)
        self.across = not (contiguous and self.n_classes >= rowwise_from)
        self.copies_x = False
        if not self.across:
            # rows along one axis if their strides allow it, otherwise along two
            split = _split(before + after, x)
            self.copies_x = split is None
            outer, inner = split or ((), before + after)
        else:
            n_before = math.prod(x.shape[i] for i in before)
            # lanes run along the longer side
            outer, inner = (after, before) if n_after < LANES and n_after < n_before else (before, after)
            self.copies_x = None in (stride_of(group, x.shape, x.strides) for group in (outer, inner))
        self.groups = outer, inner
        self.split = tuple(math.prod(x.shape[i] for i in group) for group in self.groups)
        self.n_rows = self.split[0] * self.split[1]
        outer, inner = self.split
        self.lengths = (outer, self.n_classes, inner) if self.across else (outer, inner, self.n_classes)

    def per_class(self, a):
        """The layout of an array of the logits' shape, or None if it has to be copied first."""
        return self._per_class(a.dtype.name, a.strides)

    def packed_per_class(self, dtype):
        """The layout of a contiguous array of the logits' shape."""
        return self._per_class(dtype.name, packed_strides(self.shape, dtype.itemsize))

    def _per_class(self, dtype, strides):
        outer, inner = (stride_of(group, self.shape, strides) for group in self.groups)
        step = strides[self.axis]
        found = (outer, step, inner) if self.across else (outer, inner, step)
        return None if None in found else (dtype, *found)

    def per_row(self, a):
        """The layout of an array of one value per row, or None if it has to be copied first."""
        return self._per_row(a.dtype.name, a.strides)

    def packed_per_row(self, dtype, width=1):
        """The layout of a contiguous array of `width` values per row."""
        rows_shape = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return self._per_row(dtype.name, packed_strides(rows_shape, width * dtype.itemsize))

    def _per_row(self, dtype, strides):
        strides = (
            *strides[: self.axis],
            0,
            *strides[self.axis :],
        )  # with an axis for the classes, as the groups are numbered
        found = [stride_of(group, self.shape, strides) for group in self.groups]
        return None if None in found else (dtype, 0, *found)

    def blocks(self):
        """(rows, or tiles of rows, per block; number of blocks)."""
        if not self.across:
            return _plan.block_size(self.n_rows, self.n_classes)
        outer, inner = self.split
        return _plan.block_size(outer * -(-inner // LANES), self.n_classes * min(LANES, max(inner, 1)))


def _split(axes, x):
    """The axes in two groups, each with one stride, the first as short as possible; None if that is impossible."""
    for k in range(len(axes) + 1):
        groups = axes[:k], axes[k:]
        if None not in (stride_of(group, x.shape, x.strides) for group in groups):
            return groups
    return None


def _divides(op, real, written, transform):
    """Whether the backend's own kernel divides its logits by the transform's temperature, which must be all that there
    is to it."""
    takes = getattr(_plan.backend(), "takes_temperature", None)
    return takes is not None and transform.softcap is None and takes(op, real, written, transform.temperature)


def _caps(op, across, real, n_classes, transform):
    """Whether the backend's own kernel caps its logits, and divides them."""
    takes = getattr(_plan.backend(), "takes_softcap", None)
    if takes is None or transform.softcap is None:
        return False
    return takes(op, across, real, n_classes, transform.temperature, transform.softcap)


def _reads_weights(op, w, spread):
    """Whether the backend's own kernel reads class weights as they are: only those of labels, of which there may be few."""
    reads = getattr(_plan.backend(), "READS_WEIGHTS", False)
    return reads and op in ("index", "gather") and spread is None and w.dtype.name in FLOATS


# The least number of rows in a block if they lie side by side, so that as many neighbours are read of each class.
_ABREAST = 256

# Kernels that read (log-)probabilities as they lie, whatever their strides.
_PROBABILITIES = ("gather", "distance", "event", "calibration", "event calibration")


class RowKernel:
    """A kernel over rows, its blocks, and the preparations of its operands."""

    def __init__(
        self,
        op,
        real,
        arrays,
        casts,
        axis,
        outs,
        ignore_index=-1,
        keep=1.0,
        spread=None,
        take_log=False,
        m=0,
        transform=None,
        most_blocks=None,
    ):
        """arrays : logits, target and class weights, or for "compare" the reference's logits; None for those that are
        absent.
        outs : (dtype, whether the output has the logits' shape, or its number of values per row) of each output; None
            for those that are not needed.
        """
        x, y, w = arrays
        steps = list(steps_of(arrays, casts) or (None,) * 3)
        if w is not None and op != "compare" and not _reads_weights(op, w, spread):
            steps[2] = class_weights
        x, y, w = prepare(steps, arrays)
        rowwise_from = math.inf
        if op not in _PROBABILITIES and (op != "compare" or w.strides[axis] == w.itemsize):
            rowwise_from = _plan.backend().rowwise_from(op, real, any(outs[1:]))
        writes = any(out is not None and out[1] is True for out in outs)
        geometry = Geometry(x, axis, rowwise_from, writes)
        if geometry.copies_x:
            steps[0] = then(steps[0], np.ascontiguousarray)
            x = np.ascontiguousarray(x)
            geometry = Geometry(x, axis, rowwise_from, writes)
        self.geometry = geometry
        if op == "known":
            weights = ("float64", FLOAT64.itemsize * geometry.n_rows, *geometry.packed_per_row(FLOAT64)[2:])
        elif op == "compare":
            weights = geometry.per_class(w)
            if weights is None:
                steps[2] = then(steps[2], np.ascontiguousarray)
                weights = geometry.per_class(np.ascontiguousarray(w))
        else:
            weights = None if w is None else layout(w, (0, 0, *w.strides))
        target = None
        self.compares_first = False
        if y is not None:
            dtype = y.dtype.name
            find = geometry.per_class if op == "dense" else geometry.per_row
            if op != "dense":
                dtype, ignore_index, self.compares_first = kernel_index(dtype, ignore_index)
            if dtype != y.dtype.name:
                steps[1] = then(steps[1], functools.partial(np.ndarray.view, dtype=dtype))
            target = find(y)
            if target is None:
                steps[1] = then(steps[1], np.ascontiguousarray)
                target = find(np.ascontiguousarray(y))
            target = (dtype, *target[1:])
        self.steps = None if all(step is None for step in steps) else tuple(steps)
        layouts = [
            None
            if out is None
            else geometry.packed_per_class(out[0])
            if out[1] is True
            else geometry.packed_per_row(out[0], out[1] or 1)
            for out in outs
        ]
        reads_all = op != "gather" or take_log
        if op in _PROBABILITIES:
            # rows that lie side by side are read together
            multiple = _ABREAST if reads_all and x.strides[axis] != x.itemsize else 1
            each = geometry.n_classes if reads_all else 8
            self.block, self.n_blocks = _plan.block_size(geometry.n_rows, each, multiple)
            if most_blocks is not None and self.n_blocks > most_blocks:
                self.block = -(-geometry.n_rows // most_blocks)
                self.n_blocks = -(-geometry.n_rows // self.block)
        else:
            self.block, self.n_blocks = geometry.blocks()
        self.size = x.size
        written = writes or spread is not None or op in ("score", "compare", "detail")
        make, transforming, capped = _plan.backend().row_kernel, (), False
        if transform is not None and geometry.n_classes > 0:
            capped = _caps(op, geometry.across, real, geometry.n_classes, transform)
            if capped:
                transform, transforming = None, (float(transform.temperature), float(transform.softcap))
            elif _divides(op, real, any(outs[1:]), transform):
                transform, transforming = None, (transform.temperature,)
        self.is_transformed = transform is not None and geometry.n_classes > 0
        ns = _costs.of_rows(geometry.n_classes, written, real.itemsize == 8 or capped or self.is_transformed)
        if op in _PROBABILITIES:
            own = 10.0 / max(geometry.n_classes, 1)  # of one element per row
            ns = own + (_costs.of_bytes(x.nbytes) / max(x.size, 1) if reads_all else 0.0)
            if op in ("distance", "event"):
                ns = max(ns, own + _costs.SQUARES)
        self.ns = ns
        if self.is_transformed:
            self.ns += _costs.of_elements(transform.formula.ns, written, wide=True)
            make = functools.partial(Transformed, transform)
        self.is_short = _plan.is_short(self.size, self.ns, self.n_blocks)
        self.goes_aside = _plan.goes_aside(
            max(self.n_blocks, 1), self.size, self.ns, kernel=not self.is_transformed
        )  # then what is written must be new arrays
        self.adds_up = not self.is_transformed and _plan.share() is not None
        self.kernel = make(
            op,
            geometry.across,
            real,
            geometry.lengths,
            geometry.per_class(x),
            target,
            weights,
            tuple(layouts),
            self.block,
            ignore_index,
            keep,
            spread,
            take_log,
            m,
            *transforming,
        )

    def prepared(self, operands):
        if self.steps is None:
            return operands
        (x, y, w), (of_x, of_y, of_w) = operands, self.steps  # a loop would take longer than some calls
        return (
            x if of_x is None else of_x(x),
            y if of_y is None else of_y(y),
            w if of_w is None else of_w(w),
        )

    def sums(self, x, y, w, outs=(), scale=1.0):
        """(loss, weight, count, first bad row or inf) of all rows, as floats."""
        if not self.geometry.n_rows:
            return 0.0, 0.0, 0.0, math.inf
        if self.is_short:
            return self.kernel.sums(x, y, w, outs, scale, self.n_blocks)
        if self.adds_up:
            return self._sums_divided(x, y, w, outs, scale)
        partials = np.empty((self.n_blocks, 4))
        self.run(x, y, w, outs, scale, partials)
        return _reduce.totals_and_least(partials)

    def write(self, x, outs):
        """Run "normalise", which has no sums."""
        if self.geometry.n_rows:
            self.run(x, None, None, outs, 1.0, None)

    def run(self, x, y, w, outs, scale, partials):
        if self.is_short:
            self.kernel.run(x, y, w, outs, scale, 0, self.n_blocks, partials)
        else:
            self._run_divided(x, y, w, outs, scale, partials)

    # Apart from `sums` and `run`, as each variable of a function that has a lambda costs time.

    def _run_divided(self, x, y, w, outs, scale, partials):
        self.divided(lambda first, last: self.kernel.run(x, y, w, outs, scale, first, last, partials))

    def _sums_divided(self, x, y, w, outs, scale):
        return self.divided(lambda first, last: self.kernel.sums(x, y, w, outs, scale, last))

    def divided(self, call):
        """Call it for all blocks, on as many threads as they are worth."""
        kernel = not self.is_transformed
        return _plan.run(call, self.n_blocks, self.size, self.ns, kernel=kernel, aside=self.goes_aside)

    def weigh(self, y, w):
        """(summed weight of the labels that are not ignored, whether any label is bad)."""
        weight, _, bad = self.kernel.weigh(y, w)
        return weight, bad != math.inf


# --- plans ------------------------------------------------------------------------------------------------------------


class _RowsPlan:
    """Cross-entropy of logits, or the loss from the elements that labels select."""

    def __init__(self, resolved, arrays, out):
        self.resolved, self.real = resolved, REALS[resolved.real]
        self.wants, self.reduction = resolved.want.what, resolved.reduction
        self.has_gradient = self.wants == "slopes"
        self.of_rows = resolved.reduction == "none"
        if self.has_gradient:
            check_out(out[0], resolved.shape)
        else:
            check_out(out, resolved.result_shape)
        smoothing = resolved.smoothing
        spread = smoothing / max(resolved.n_classes, 1) if smoothing or resolved.op == "dense" else None

        def kernel_to(losses, gradient):
            return RowKernel(
                resolved.op,
                self.real,
                arrays,
                resolved.casts,
                resolved.axis,
                ((self.real, False) if losses else None, (self.real, True) if gradient else None),
                resolved.ignore_index,
                1.0 - smoothing,
                spread,
                resolved.loss.take_log,
                transform=resolved.transform,
            )

        self.rows = kernel_to(self.of_rows, self.has_gradient)
        # kernels check probabilities, but not after something has been written to a gradient
        self.checking = kernel_to(False, False) if self.has_gradient and resolved.loss.take_log else None
        self.plain = not (self.has_gradient or self.of_rows or self.rows.compares_first)

    def __call__(self, operands, out, scale):
        x, y, w = self.rows.prepared(operands)
        if out is None and self.plain:
            sums = self.rows.sums(x, y, w)
            if sums[3] != math.inf:
                self.raise_bad(operands, x, sums[3])
            if self.wants == "sums":
                return self.sums_of(sums)
            return _arrays.scalar(self.value_of(sums), self.real)
        return self._written(operands, x, y, w, out, scale)

    def sums_of(self, sums):
        """The `Sums` that a mean is computed from."""
        return Sums(sums[0], sums[1] if self.resolved.is_index else float(self.resolved.n_rows), int(sums[2]))

    def value_of(self, sums):
        """The reduced loss; if no row has weight, the mean is NaN, even if label smoothing left a nonzero sum."""
        if self.reduction == "sum":
            return sums[0]
        divisor = sums[1] if self.resolved.is_index else self.resolved.n_rows
        return sums[0] / divisor if divisor else math.nan

    def _written(self, operands, x, y, w, out, scale):
        """Calls that write arrays, or whose operands are checked first."""
        resolved = self.resolved
        gradient_out = out[0] if self.has_gradient else None
        weight = float(resolved.n_rows)
        if self.rows.compares_first:
            self.raise_bad_label(operands)
        if resolved.is_index and (self.has_gradient or out is not None):
            # labels first: nothing may be written before they have been checked, and the mean's denominator is needed
            if self.checking is not None:
                _, weight, _, bad = self.checking.sums(x, y, w)
                if bad != math.inf:
                    self.raise_bad(operands, x, bad, labels_first=True)
            else:
                weight, bad = self.rows.weigh(y, w)
                if bad:
                    self.raise_bad_label(operands)
        losses = gradient = None
        if self.of_rows:
            aside = self.rows.goes_aside or resolved.loss.take_log  # which is checked while losses are written
            losses = destination(None if aside else out, resolved.rows_shape, self.real, (x, y))
        if self.has_gradient:
            gradient = destination(None if self.rows.goes_aside else gradient_out, resolved.shape, self.real, (x, y))
            if scale is None:
                scale = _reduce.inverse(weight) if self.reduction == "mean" else 1.0
        sums = self.rows.sums(x, y, w, (losses, gradient), 1.0 if scale is None else scale)
        if sums[3] != math.inf:
            self.raise_bad(operands, x, sums[3])
        if self.of_rows:
            return stored(losses, out)
        if self.wants == "sums":
            return self.sums_of(sums)
        value = _arrays.scalar(self.value_of(sums), self.real)
        if self.has_gradient:
            return value, (stored(gradient, gradient_out),)
        return value if out is None else stored(value, out)

    def raise_bad(self, operands, x, bad, labels_first=False):
        """Raise what a kernel has found, if it is one: `bad` is what it gave as the first bad row."""
        if labels_first:
            self.raise_bad_label(operands)
        if bad < 0.0:
            elements.require_inside(x, "probs", losses.PROBABILITY)
        self.raise_bad_label(operands)

    def raise_bad_label(self, operands):
        raise_bad_label(operands[1], self.resolved.n_classes, self.resolved.ignore_index)


class _Categorical:
    """-sum_c w[c] y[c] log x[c]: a pointwise loss, summed over the classes."""

    def __init__(self, resolved, arrays, out):
        x, y, w = arrays
        self.plan = elements.plan_of(resolved.elements(w is not None), (x, y, None, w), out)

    def __call__(self, operands, out, scale):
        x, y, w = operands
        result = self.plan((x, y, None, w), out, scale)
        return np.asarray(result) if isinstance(result, np.ndarray) else result


# nll of float32 logits, if it isn't rounded, is off by an ulp at most: three times that, and rounded, is within 4.
_MOST_AMPLIFIED = 3.0


class _Known:
    """A loss that is a formula of each row's nll and lse: a kernel computes these, formulas the loss and what softmax is
    multiplied by in the gradient, and another kernel the gradient."""

    def __init__(self, resolved, arrays, out):
        self.resolved, self.real = resolved, REALS[resolved.real]
        x, y, w = arrays
        self.has_gradient = resolved.want.what == "slopes"
        check_out(out[0] if self.has_gradient else out, resolved.shape if self.has_gradient else resolved.result_shape)
        formula, parameters = resolved.row_formula
        self.with_lse = formula.with_lse
        amplified = formula.amplified(*parameters)
        # whether what nll is off by is worth more digits than float32 has, and more than sums in float32 give
        self.fine = amplified > 1.0 and self.real != FLOAT64
        exactly = self.fine and amplified > _MOST_AMPLIFIED
        self.kept = FLOAT64 if self.fine else self.real
        real, transform = self.real, resolved.transform
        if exactly and getattr(_plan.backend(), "WIDENS_LOGITS", False):
            real = FLOAT64
        elif exactly:
            transform = transforms.Transform(1.0, None)
        of_rows = (self.kept, False)
        outs = [of_rows, of_rows, (np.dtype(np.int64), False), (np.dtype(np.bool_), False), None]
        self.known = self._kernel(
            "score" if self.with_lse else "index", real, x, y, transform, outs if self.with_lse else (of_rows, None)
        )
        self.weighing = None  # made when it is needed
        # one number in float64 is rounded once
        self.wide = self.fine and resolved.reduction != "none"

        @functools.cache
        def formulas(weighted):
            """The plans that compute the loss, and the two factors of its gradient, of rows with or without weights."""

            def plan(part, reduction, wide):
                known = resolved.of_known(part, parameters, reduction, weighted=weighted, fine=self.fine, wide=wide)
                of_row = np.empty(resolved.rows_shape, FLOAT64 if wide else self.kept)
                weights = np.empty(resolved.rows_shape) if weighted else None
                return elements.plan_of(known, (of_row, of_row, None, weights), None)

            value = plan(formula.value, resolved.reduction, self.wide)
            if not self.has_gradient:
                return value, None, None
            # in float64, as they may leave float32's range before they are multiplied by the scale
            return value, plan(formula.factor, "none", True), plan(formula.at_target, "none", True)

        self.formulas = formulas
        self.formulas(w is not None)
        if self.has_gradient:
            self.slopes = self._kernel("known", self.real, x, y, resolved.transform, (None, (self.real, True)))

    def _kernel(self, op, real, x, y, transform, outs):
        resolved = self.resolved
        casts = (*resolved.casts[:2], None)
        return RowKernel(op, real, (x, y, None), casts, resolved.axis, outs, resolved.ignore_index, transform=transform)

    def __call__(self, operands, out, scale):
        resolved = self.resolved
        x, y, w = operands
        nll, lse, counted = self._known(x, y)
        weights = None
        if w is not None and counted == resolved.n_rows:
            weights = np.asarray(class_weights(w)[y.astype(np.intp, copy=False)])
        elif counted < resolved.n_rows:
            if self.weighing is None:
                self.weighing = _RowWeights(resolved, y)
            weights = self.weighing(y, w)
        value, factor, at_target = self.formulas(weights is not None)
        rows = nll, lse, None, weights
        if not self.has_gradient:
            found = value(rows, None if self.wide else out, None)
            if isinstance(found, Sums):
                return found._replace(count=counted)
            if not self.wide:
                return found
            found = _arrays.scalar(float(found), self.real)
            return found if out is None else stored(found, out)
        if scale is None and resolved.reduction == "mean":
            scale = _reduce.inverse(float(counted if weights is None else weights.sum()))
        found = value(rows, None, None)
        if self.wide:
            found = _arrays.scalar(float(found), self.real)
        factors = np.empty((2, *resolved.rows_shape))
        nll = nll.astype(FLOAT64, copy=False)
        rows = nll, lse.astype(FLOAT64, copy=False) if self.with_lse else nll, None, weights
        factor.write(rows, factors[0, ...])
        at_target.write(rows, factors[1, ...])
        x, y, _ = self.slopes.prepared((x, y, None))
        gradient = destination(None if self.slopes.goes_aside else out[0], resolved.shape, self.real, (x, y))
        self.slopes.sums(x, y, factors, (None, gradient), 1.0 if scale is None else scale)
        return found, (stored(gradient, out[0]),)

    def _known(self, x, y):
        """(nll, lse, how many labels are not ignored) of all rows."""
        resolved, known, labels = self.resolved, self.known, y
        if known.compares_first:
            raise_bad_label(labels, resolved.n_classes, resolved.ignore_index)
        x, y, _ = known.prepared((x, y, None))
        shape = resolved.rows_shape
        nll = lse = np.empty(shape, self.kept)
        if self.with_lse:
            lse, *others = (np.empty(shape, kind) for kind in (self.kept, np.int64, np.bool_))
            _, _, _, bad = known.sums(x, y, None, (nll, lse, *others, None))
            counted = known.kernel.weigh(y, None)[1] if bad == math.inf and nll.size else 0.0
        else:
            _, _, counted, bad = known.sums(x, y, None, (nll, None))
        if bad != math.inf:
            raise_bad_label(labels, resolved.n_classes, resolved.ignore_index)
        return nll, lse, int(counted)


class _RowWeights:
    """The weight of each row's class, 0 where the label is ignored: what is gathered at the labels from rows that all hold
    the classes' weights, as if these were log-probabilities."""

    def __init__(self, resolved, y):
        self.shape, self.rows_shape = resolved.shape, resolved.rows_shape
        self.n_classes = resolved.n_classes
        self.strides = tuple(FLOAT64.itemsize * (i == resolved.axis) for i in range(len(self.shape)))
        x = self._repeated(np.empty(self.n_classes))
        casts = (None, resolved.casts[1], None)
        outs = ((FLOAT64, False), None)
        self.rows = RowKernel("gather", FLOAT64, (x, y, None), casts, resolved.axis, outs, resolved.ignore_index)

    def _repeated(self, w):
        return np.ndarray(self.shape, FLOAT64, w, 0, self.strides)

    def __call__(self, y, w):
        negated = np.full(self.n_classes, -1.0) if w is None else -class_weights(w)
        x, y, _ = self.rows.prepared((self._repeated(negated), y, None))
        weights = np.empty(self.rows_shape)
        self.rows.sums(x, y, None, (weights, None))
        return weights
