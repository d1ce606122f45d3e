"""Plans of pointwise losses: operands to layouts, layouts to a kernel, sums to results."""

import math
from dataclasses import replace

import numpy as np

from fastloss import _arrays, _costs, _errors, _plan, _reduce, losses
from fastloss._arrays import FLOAT64, stored
from fastloss.calls.want import Squares, Sums
from fastloss.places.host.operands import REALS, check_out, destination, prepare, steps_of, then
from fastloss.places.host.strides import broadcast_strides, layout, merged, packed_strides, stride_of


def plan_of(resolved, arrays, out):
    """The plan of an `Elements`."""
    if resolved.arithmetic != resolved.real:
        return _Narrowed(resolved, arrays, out)
    if resolved.want.what == "slopes":
        return _Slopes(resolved, arrays, out)
    if resolved.reduction == "none":
        return _Each(resolved, arrays, out)
    return _Total(resolved, arrays, out) if resolved.is_scalar else _Along(resolved, arrays, out)


class _Narrowed:
    """Calls in float32 whose formula is computed in float64: by the plan for that, whose results are rounded."""

    def __init__(self, resolved, arrays, out):
        self.real = REALS[resolved.real]
        self.what = resolved.want.what
        if self.what == "slopes":
            check_out(out[0], arrays[0].shape)
        else:
            check_out(out, resolved.result_shape)
        self.plan = plan_of(widened(resolved), arrays, (None,) if self.what == "slopes" else None)

    def __call__(self, operands, out, scale):
        found = self.plan(operands, (None,) if self.what == "slopes" else None, scale)
        if self.what == "sums":
            return found
        if self.what == "slopes":
            value, (gradient,) = found
            return self._rounded(value, None), (self._rounded(gradient, out[0]),)
        return self._rounded(found, out)

    def _rounded(self, a, out):
        with np.errstate(all="ignore"):
            return stored(_arrays.converted(a, self.real), out)


def widened(resolved):
    """An `Elements` in float64, of operands of other dtypes."""
    casts = (*("float64" if shape is not None else None for shape in resolved.shapes[:3]), resolved.casts[3])
    return replace(resolved, real="float64", arithmetic="float64", casts=casts)


def _cast(a, cast, real):
    """An operand's preparation, except that Python numbers never become halves."""
    return real if cast is None and a is not None and a.ndim == 0 and a.dtype.itemsize == 2 else cast


class Geometry:
    """How a kernel sees the operands: as one long axis, as three axes, or with sums over the middle one of three.

    Attributes
    ----------
    schedule : "flat", "rows" or "lanes", the first word of the kernel's name.
    shape3, layouts, block : as `backends` describes them.
    n_blocks : how many blocks there are.
    copies : {position of an operand: function that copies it}, for operands whose axes can't be merged without a copy.
    """

    def __init__(self, resolved, arrays, axes=None):
        """arrays : after preparation.  axes : the axes to sum over, if others are left."""
        shape = resolved.shape
        present = [i for i, a in enumerate(arrays) if a is not None]
        strides = [broadcast_strides(arrays[i].reshape(resolved.shapes[i]), shape) for i in present]
        order = tuple(range(len(shape)))
        if axes is None:
            lengths, strides = merged(shape, strides)
            last = range(len(lengths))[-2:]
            groups = (tuple(range(max(len(lengths) - 2, 0))), *((),) * (2 - len(last)), *((axis,) for axis in last))
            self.schedule = "flat" if len(lengths) <= 1 else "rows"
        else:
            lengths, groups = shape, _groups(shape, axes)
            order = sum(groups, ())
            self.schedule = "rows" if groups[2] == axes else "lanes"
        self.shape3 = tuple(math.prod(lengths[axis] for axis in group) for group in groups)
        layouts, self.copies = [None] * 4, {}
        for i, steps in zip(present, strides, strict=True):
            grouped = [stride_of(group, lengths, steps) for group in groups]
            if None in grouped:  # the axes of a group do not follow one another, except in a copy
                self.copies[i] = _copied_to(resolved.shapes[i], shape, order)
                grouped = packed_strides(self.shape3, arrays[i].itemsize)
            layouts[i] = layout(arrays[i], grouped)
        self.layouts = tuple(layouts)
        outer, middle, size = self.shape3
        if self.schedule == "flat":
            self.block, self.n_blocks = _plan.block_size(size, 1, 1024)
        elif self.schedule == "lanes":
            self.block, self.n_chunks = _plan.lane_blocks(middle, size)
            self.n_blocks = self.n_chunks * outer
        elif axes is None:
            self.block, self.n_blocks = _plan.block_size(outer * middle, size)
        else:  # one result per row
            self.block, self.n_blocks = 1, outer * middle


def _groups(shape, axes):
    """The operands' axes in three groups; sums run over the middle one, or over the last if no axes follow."""
    kept = tuple(i for i in range(len(shape)) if i not in axes)
    after = tuple(range(axes[-1] + 1, len(shape))) if axes else ()
    if math.prod(shape[i] for i in after) > 1 and axes == tuple(range(axes[0], axes[-1] + 1)):
        # adjacent axes that do not include the last: vector lanes are along the axes after them
        return tuple(range(axes[0])), axes, after
    return (), kept, axes


def _copied_to(own, shape, order):
    """A contiguous copy of the array, broadcast to this shape, with its axes in this order."""
    return lambda a: np.ascontiguousarray(np.broadcast_to(a.reshape(own), shape).transpose(order))


class _Plan:
    """The base of plans of pointwise losses: their operands' geometry, and kernels for it."""

    def __init__(self, resolved, arrays, axes=None):
        self.resolved = resolved
        self.real = REALS[resolved.real]
        casts = [_cast(a, cast, resolved.real) for a, cast in zip(arrays, resolved.casts, strict=True)]
        self.steps = steps_of(arrays, casts)
        self.size = math.prod(resolved.shape)
        self.domains = resolved.formula.domains
        self.geometry = Geometry(resolved, self.prepared(arrays), axes)
        if self.geometry.copies:
            steps = self.steps or (None,) * 4
            self.steps = tuple(then(step, self.geometry.copies.get(i)) for i, step in enumerate(steps))
        self.n_blocks = self.geometry.n_blocks
        slopes = resolved.want.what == "slopes"
        n_written = self.size if slopes or resolved.reduction == "none" else 0
        n_bytes = sum(a.nbytes for a in arrays if a is not None) + n_written * self.real.itemsize
        self.ns = max(
            _costs.of_elements(resolved.formula.ns, slopes, resolved.real == "float64"),
            _costs.of_bytes(n_bytes) / max(self.size, 1),
        )
        self.is_compiled = resolved.formula.text is None  # by the backend, not by `own`
        self.goes_aside = _plan.goes_aside(
            max(self.n_blocks, 1), self.size, self.ns, kernel=self.is_compiled
        )  # then what is written must be new arrays
        self.adds_up = self.is_compiled and _plan.share() is not None
        self.is_short = _plan.is_short(self.size, self.ns, self.n_blocks)

    def prepared(self, operands):
        return operands if self.steps is None else prepare(self.steps, operands)

    def kernel_to(self, purpose, formula=None, parameters=()):
        """The kernel for "total", "each" or "slope" of the loss, or of another formula."""
        g = self.geometry
        return _plan.backend_for(formula or self.resolved.formula).element_kernel(
            formula or self.resolved.formula,
            f"{g.schedule}_{purpose}",
            self.real,
            parameters if formula else self.resolved.parameters,
            g.shape3,
            g.layouts,
            g.block,
        )

    def run(self, kernel, operands, scale, out, partials):
        """Run the kernel; False if it says that all it has written to `out` is finite."""
        if self.is_short:
            return kernel.run(operands, scale, out, 0, self.n_blocks, partials)
        self._run_divided(kernel, operands, scale, out, partials)
        return None

    def sums(self, kernel, operands, scale=1.0, out=None):
        """(sum of weight * loss, sum of weights) as floats."""
        if self.size == 0:
            return 0.0, 0.0
        if self.is_short:
            return kernel.sums(operands, scale, out, self.n_blocks)
        if self.adds_up:
            return self._sums_divided(kernel, operands, scale, out)
        partials = np.empty((self.n_blocks, 2))
        self.run(kernel, operands, scale, out, partials)
        return _reduce.totals(partials)

    # Apart from `run` and `sums`, as each variable of a function that has a lambda costs time.

    def _run_divided(self, kernel, operands, scale, out, partials):
        self.divided(lambda first, last: kernel.run(operands, scale, out, first, last, partials))

    def _sums_divided(self, kernel, operands, scale, out):
        return self.divided(lambda first, last: kernel.sums(operands, scale, out, last))

    def divided(self, call):
        """Call it for all blocks, on as many threads as they are worth."""
        return _plan.run(call, self.n_blocks, self.size, self.ns, kernel=self.is_compiled, aside=self.goes_aside)

    def check_domain(self, operands):
        """Raise ValueError for the first element of an operand outside its domain."""
        for a, name, domain in zip(operands, self.resolved.names, self.domains, strict=False):
            if domain is not None and a is not None:
                require_inside(a, name, domain)


# Sums of squares below which digits are lost, and powers of two that bring small and large errors into the range of
# squares.  Sums are float64: those of float32 are never too large.
_SQUARES = {
    "float32": (1e-28, 2.0**100, 1.0),
    "float64": (_reduce.SMALL_SQUARES, _reduce.FAR_ROOT, 1.0 / _reduce.FAR_ROOT),
}
# Above this the factor of a root's slopes is of errors as small as that, below its inverse of errors as large.
_STEEP = {"float32": 1e28, "float64": 1e290}


class _Reduced(_Plan):
    """Plans whose result is one number."""

    def __init__(self, resolved, arrays):
        *others, w = arrays
        # a weight that is the same for all elements is a factor of the result
        self.has_factor = w is not None and w.ndim == 0
        super().__init__(resolved, (*others, None) if self.has_factor else arrays)

    def split(self, operands):
        """(prepared operands without a weight that is a factor, that factor)."""
        if not self.has_factor:
            return self.prepared(operands), 1.0
        *others, w = operands
        return self.prepared((*others, None)), float(w)

    def squares(self, kernel, operands):
        """(sum of squares of errors times a power of two, sum of weights, that power of two), for a root."""
        total, weights = self.sums(kernel, operands)
        small, up, down = _SQUARES[self.resolved.real]
        if small <= abs(total) < math.inf or total != total or not self.size:
            return total, weights, 1.0
        by = up if abs(total) < small else down
        return *self.sums(self.kernel_to("total", losses.MSE_SCALED, (by,)), operands), by

    def up_or_down(self, scale):
        """What errors are multiplied by where the slopes of their squares are multiplied by `scale`."""
        _, up, down = _SQUARES[self.resolved.real]
        steep = _STEEP[self.resolved.real]
        return up if abs(scale) > steep else down if 0.0 < abs(scale) < 1.0 / steep else 1.0

    def value_of(self, total, weights, factor):
        """(reduced loss as a float, the mean's denominator)."""
        resolved = self.resolved
        if self.has_factor:
            total = total * factor if factor else 0.0
            weights *= factor
        divisor = weights if resolved.divisor is None else resolved.divisor
        value = total if resolved.reduction == "sum" else _reduce.ratio(total, divisor)
        if resolved.root:
            value = math.sqrt(value) if value >= 0.0 else math.nan
        return value, divisor


class _Total(_Reduced):
    """One number, or the sums that it is computed from."""

    def __init__(self, resolved, arrays, out):
        super().__init__(resolved, arrays)
        self.kernel = self.kernel_to("total")
        check_out(out, ())
        self.wants_sums = resolved.want.what == "sums"

    def __call__(self, operands, out, scale):
        operands, factor = self.split(operands)
        by = 1.0
        if self.resolved.root:
            total, weights, by = self.squares(self.kernel, operands)
        else:
            total, weights = self.sums(self.kernel, operands)
        if total != total and self.domains:
            self.check_domain(operands)
        if self.wants_sums:
            _, divisor = self.value_of(total, weights, factor)
            total = total * factor if factor else 0.0
            if not self.resolved.root:
                return Sums(total, float(divisor), self.resolved.count)
            if self.real != FLOAT64:  # whose range holds squares of float32
                total, by = total / by / by, 1.0
            return Squares(
                total if by == 1.0 else 0.0,
                float(divisor),
                self.resolved.count,
                total if by < 1.0 else 0.0,
                total if by > 1.0 else 0.0,
            )
        value = self.value_of(total, weights, factor)[0] / by
        result = _arrays.scalar(value, self.real)
        return result if out is None else stored(result, out)


class _Each(_Plan):
    """Every element's loss, times its weight."""

    def __init__(self, resolved, arrays, out):
        super().__init__(resolved, arrays)
        self.kernel = self.kernel_to("each")
        check_out(out, resolved.shape)

    def __call__(self, operands, out, scale):
        operands = self.prepared(operands)
        # the caller's array is not written to before all operands are known to be inside their domains
        result = destination(None if self.domains or self.goes_aside else out, self.resolved.shape, self.real, operands)
        if self.size:
            finite = self.run(self.kernel, operands, 1.0, result, None) is False
            if self.domains and not finite and _holds_nan(result):
                self.check_domain(operands)
        return stored(result, out)

    def write(self, operands, result):
        """Write them to a contiguous array of the dtype that is computed in, of a formula without domains."""
        if self.size:
            self.run(self.kernel, self.prepared(operands), 1.0, result, None)


def _holds_nan(a):
    """Whether a contiguous array holds NaN, or may hold it."""
    a = a.reshape(-1)
    with np.errstate(all="ignore"):
        squares = (np.dot(a[piece], a[piece]) for piece in _arrays.pieces(a.shape))
        return any(square != square for square in squares)


class _Along(_Plan):
    """Sums or means over some of the axes."""

    def __init__(self, resolved, arrays, out):
        super().__init__(resolved, arrays, resolved.axes)
        self.kernel = self.kernel_to("total")
        self.finish = _plan.backend().finish_means
        self.result_shape = resolved.result_shape
        check_out(out, self.result_shape)
        self.by_rows = self.geometry.schedule == "rows"
        n = math.prod(self.result_shape)
        divisor = 1.0 if resolved.reduction == "sum" else resolved.divisor
        by_weight = divisor is None
        step, weights_from = (2, 1) if self.by_rows else (1, n)
        outer, _, inner = self.geometry.shape3
        self.partials_shape = (self.n_blocks, 2) if self.by_rows else (self.geometry.n_chunks, 2, outer, inner)
        self.finishing = n, step, weights_from, 1.0 if by_weight else divisor, by_weight, resolved.root

    def __call__(self, operands, out, scale):
        operands, resolved = self.prepared(operands), self.resolved
        partials = self._partials(operands)
        if resolved.want.what == "sums":
            return self._sums(partials, operands)
        result = destination(out, self.result_shape, self.real, operands)
        if result.size:
            if self.finish(partials, *self.finishing, result) and self.domains:
                self.check_domain(operands)
            if resolved.root:
                self._mend(operands, partials, result)
        return result if out is None else stored(result, out)

    def _mend(self, operands, partials, result):
        """Compute roots again where squares have overflowed or underflowed, with one power of two after the other."""
        small, up, down = _SQUARES[self.resolved.real]
        totals = partials[..., 0] if self.by_rows else partials[0]
        sizes = np.abs(totals)
        for by in (up,) if down == 1.0 else (up, down):
            bad = sizes < small if by == up else sizes == np.inf
            if bad.any():
                scaled = np.empty_like(result)
                self.finish(self._scaled(operands, by), *self.finishing, scaled)
                with np.errstate(over="ignore", invalid="ignore"):
                    np.copyto(result, scaled / self.real.type(by), where=bad.reshape(result.shape))

    def _scaled(self, operands, by):
        """The same sums where errors are multiplied by that."""
        return self._partials(operands, self.kernel_to("total", losses.MSE_SCALED, (by,)))

    def _partials(self, operands, kernel=None):
        """The sums of weight * loss and of weights, (n, 2) for rows and (2, n) for lanes, or (1, n) if there are no weights."""
        if not self.size:
            return np.zeros((2, math.prod(self.result_shape)))
        partials = np.empty(self.partials_shape)
        if self.by_rows:
            self.run(kernel or self.kernel, operands, 1.0, None, partials)
            return partials
        self.run(kernel or self.kernel, operands, 1.0, None, partials)
        return _reduce.total(partials if self.geometry.layouts[3] else partials[:, :1])

    def _sums(self, partials, operands):
        shape = self.resolved.result_shape
        partials = partials.T if self.by_rows and self.size else partials
        values, weights = partials[0], partials[-1]  # weights are used where there are any
        if self.domains and np.isnan(values).any():
            self.check_domain(operands)
        divisor = self.resolved.divisor
        divisor = weights.reshape(shape) if divisor is None else divisor
        if not self.resolved.root:
            return Sums(values.reshape(shape), divisor, None)
        values = values.copy()
        huge, tiny = np.zeros_like(values), np.zeros_like(values)
        small, up, down = _SQUARES[self.resolved.real]
        for bad, by, apart in ((np.abs(values) == np.inf, down, huge), (np.abs(values) < small, up, tiny)):
            if self.size and by != 1.0 and bad.any():
                found = self._scaled(operands, by)
                found = found[..., 0] if self.by_rows else found[0]
                if self.real == FLOAT64:  # squares may be outside its range
                    values[bad] = 0.0
                    np.copyto(apart, found, where=bad)
                else:
                    np.copyto(values, found / by / by, where=bad)
        return Squares(values.reshape(shape), divisor, None, huge.reshape(shape), tiny.reshape(shape))


class _Slopes(_Reduced):
    """One number, and its derivative with respect to the predictions."""

    def __init__(self, resolved, arrays, out):
        super().__init__(resolved, arrays)
        self.x_shape = arrays[0].shape
        self.kernel = self.kernel_to("slope")
        # the slope of a root requires its value
        self.total_kernel = self.kernel_to("total") if resolved.root else None
        self.own_shape = self.x_shape == resolved.shape
        check_out(out[0], self.x_shape)

    def __call__(self, operands, out, scale):
        resolved, (out,) = self.resolved, out
        operands, factor = self.split(operands)
        kernel, by = self.kernel, 1.0
        if resolved.root:
            total, weights, by = self.squares(self.total_kernel, operands)
            scaled, divisor = self.value_of(total, weights, factor)
            value = scaled / by
        else:
            divisor = self._sum_of_weights(operands[3]) * factor if resolved.divisor is None else resolved.divisor
        if scale is None:
            scale = _reduce.inverse(divisor) if resolved.reduction == "mean" else 1.0
            if resolved.root:
                scale = 0.5 * scale / scaled if scaled else 0.0
        elif resolved.root:  # that of a whole which this is part of, and what its errors were multiplied by
            scale, by = scale
        if resolved.root:
            known, by = by, self.up_or_down(scale * by)
            scale = scale * (known / by) / by
        if by != 1.0:  # errors are scaled for the slopes as they were for the value
            kernel = self.kernel_to("slope", losses.MSE_SCALED, (by,))
        full = destination(out if self.own_shape and not self.goes_aside else None, resolved.shape, self.real, operands)
        total, weights = self.sums(kernel, operands, scale * factor, full)
        if total != total and self.domains:
            self.check_domain(operands)
        if scale != scale:  # a mean whose weights sum to 0 has a gradient of NaN, even for elements of weight 0
            full.fill(scale)
        if not resolved.root:
            value, _ = self.value_of(total, weights, factor)
        gradient = full if self.own_shape else _summed_to(full, self.x_shape, self.real)
        return _arrays.scalar(value, self.real), (stored(gradient, out),)

    def _sum_of_weights(self, w):
        """The sum of the weights over the common shape; the number of elements if there are none."""
        if w is None:
            return float(self.size)
        return float(np.sum(w, dtype=np.float64)) * (self.size // max(w.size, 1))


def finished_lanes(values, divisor, real):
    """Results along axes from their sums; `divisor` is None if they are not divided."""
    with np.errstate(all="ignore"):
        return (values if divisor is None else values / divisor).astype(real)


def require_inside(a, name, domain):
    """Raise ValueError for the first element of `a` outside the domain; NaN is allowed."""
    found = first_outside(a, domain)
    if found:
        raise _errors.outside(name, domain, *found)


def first_outside(a, domain):
    """Position and value of the first element of `a` outside the domain, or None."""
    low, high = domain.ends("float64" if a.dtype.itemsize > 4 else "float32")
    for piece in _arrays.pieces(a.shape):
        part = a[piece]
        if a.dtype.itemsize > 2 and a.size and np.fmin.reduce(part, None) >= low and np.fmax.reduce(part, None) <= high:
            continue
        wide = part.astype(np.float32) if a.dtype.itemsize == 2 else part
        bad = np.asarray((wide < low) | (wide > high))
        if bad.any():
            position = _arrays.first_place(piece, bad)
            return position, a[position].astype(wide.dtype)
    return None


def _summed_to(full, shape, real):
    """`full`, summed over the axes along which an array of this shape was broadcast."""
    lead = full.ndim - len(shape)
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and full.shape[i + lead] != 1))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sum(full, axis=axes, dtype=FLOAT64, keepdims=True).reshape(shape).astype(real)
