"""Evaluating a pointwise loss: operands to views, views to kernels, sums to results.

`flat` is the way of most calls: operands of one shape, each contiguous or a scalar, go to the kernels as one long axis.  Any
other strides, and operands that broadcast, go as three-dimensional views.
"""

import numpy as np

from fastloss import _arrays, _errors, _places, _plan, _reduce
from fastloss._arrays import FLOAT64, bits


class Gradient:
    """Passed as `out=`: asks for the derivative with respect to the first argument as well."""

    def __init__(self, array=None, scale=None):
        self.requested = array  # where the caller wants it, or None
        self.scale = scale  # for a piece of larger arrays: what its sum counts in their result
        self.array = None  # where it is


class Totals:
    """Passed as `out=`: asks for what a mean is made of in place of the mean."""

    def take(self, total, weight, count):
        """The summed loss, what its mean divides it by, and how many rows or elements were counted."""
        self.total, self.weight, self.count = float(total), float(weight), int(count)

    def take_lanes(self, totals, weights):
        """The same for each of several results, as arrays."""
        self.total, self.weight = totals, weights


class Checks:
    """Passed as `out=`: has the arguments checked, and computes nothing.  Values of arrays are not looked at."""

    def take(self, real, shape, **found):
        """The result's dtype, the shape of what is reduced, and what else the arguments turned out to mean."""
        self.real, self.shape = real, shape
        self.__dict__ |= found


def evaluate(
    loss,
    pred,
    target,
    third=None,
    parameters=(),
    weight=None,
    axis=None,
    reduction="mean",
    out=None,
    *,
    names=("pred", "target", "var"),
    weighted_mean=True,
    same_shape=False,
    third_of_rows=False,
    divisor=None,
    batch_mean=False,
    root=False,
):
    """The loss of `pred` against `target`.

    third : third operand, its name is names[2].
    third_of_rows : whether a third operand of shape pred.shape[:-1] is the same along the last axis.
    weighted_mean : whether means divide by the summed weights rather than by the number of elements.
    same_shape : whether target must have the shape of pred.
    divisor : what the sum is divided by instead, if given.
    batch_mean : whether it is divided by the length of the first axis of pred instead.
    root : whether the result is the square root of the mean or sum.
    """
    if place := _places.elsewhere(pred, target, third, weight):
        return place.pointwise(
            loss,
            pred,
            target,
            third,
            parameters,
            weight,
            axis,
            reduction,
            out,
            names=names,
            weighted_mean=weighted_mean,
            same_shape=same_shape,
            third_of_rows=third_of_rows,
            divisor=divisor,
            batch_mean=batch_mean,
            root=root,
        )
    _reduce.check(reduction)
    x, y, real = _arrays.pair(pred, target, names)
    if same_shape and x.shape != y.shape:
        raise _errors.wrong_shape(names[1], y.shape, f"{x.shape}, that of {names[0]}")
    z = None if third is None else _arrays.floats(third, names[2])
    if z is not None:
        z = _arrays.converted(z, real) if z.dtype.itemsize != real.itemsize or z.ndim == 0 else z
        if third_of_rows and z.ndim and z.shape == x.shape[:-1]:
            z = z[..., None]
    if batch_mean:
        if axis is not None or not x.ndim:
            raise _errors.unknown("reduction", "batchmean", _reduce.REDUCTIONS)
        divisor = x.shape[0]
    w = _arrays.weights(weight, "weight")
    p = tuple(real.type(value) for value in parameters)
    operands = Operands(loss, x, y, z, w, p, real, names, weighted_mean)

    gradient = out if isinstance(out, Gradient) else None
    axes = None if axis is None else _arrays.some_axes(axis, len(operands.shape))
    if isinstance(out, Checks):
        return out.take(real, operands.shape, axes=axes, divisor=divisor)
    if axis is not None:
        if len(axes) < len(operands.shape) and reduction != "none":
            if gradient:
                raise _errors.vector_gradient(f"axis={axis!r}")
            return operands.along(axes, reduction, divisor, root, out)
    if reduction == "none":
        if gradient:
            raise _errors.vector_gradient("reduction='none'")
        return operands.each(out)
    if gradient:
        return operands.with_gradient(reduction, divisor, root, gradient)
    value, weights = operands.total()
    if isinstance(out, Totals):
        return out.take(value, operands.denominator(weights) if divisor is None else divisor, operands.size)
    if reduction == "mean":
        value = _reduce.ratio(value, operands.denominator(weights) if divisor is None else divisor)
    result = _arrays.scalar(np.sqrt(value) if root else value, real)
    if out is None:
        return result
    _arrays.check_out(out, ())
    return _arrays.delivered(result, out)


class Operands:
    """The operands of one call, and what can be computed from them."""

    def __init__(self, loss, x, y, z, w, p, real, names, weighted_mean):
        self.loss, self.p, self.real, self.names, self.weighted_mean = loss, p, real, names, weighted_mean
        self.x, self.y, self.z = x, y, z
        # a weight that is the same everywhere is a factor of the result
        self.factor = None if w is None or w.ndim else float(w)
        self.w = w if w is not None and w.ndim else None
        arrays = [a for a in (x, y, z, self.w) if isinstance(a, np.ndarray)]
        self.shape = x.shape
        if any(a.shape != x.shape for a in arrays):
            try:
                self.shape = np.broadcast_shapes(*(a.shape for a in arrays))
            except ValueError:
                labels = (*names, "weight")
                shapes = [
                    (label, a.shape)
                    for label, a in zip(labels, (x, y, z, self.w), strict=True)
                    if isinstance(a, np.ndarray)
                ]
                raise _errors.not_broadcastable(shapes) from None
        self.size = 1
        for length in self.shape:
            self.size *= length
        self.flat = all(a.flags.c_contiguous and a.shape == self.shape for a in arrays)

    def kernel(self, op):
        return _plan.backend().kernel(self.loss, op, self.real)

    def run(self, call, n_blocks):
        _plan.run(call, n_blocks, self.size, self.loss.light)

    def inputs(self):
        return (self.x, self.y, self.z, self.w)

    # --- views ------------------------------------------------------------------------------------------------------

    def lines(self):
        """The operands as one axis."""
        return tuple(bits(a.reshape(-1)) if isinstance(a, np.ndarray) else a for a in self.inputs())

    def views(self, shape3, order=None):
        """The operands broadcast to the common shape, their axes in `order`, as three axes."""

        def view(a):
            if not isinstance(a, np.ndarray):
                return a
            a = np.broadcast_to(bits(a), self.shape)
            return (a if order is None else a.transpose(order)).reshape(shape3)

        return tuple(view(a) for a in self.inputs())

    def three(self):
        """The common shape as three axes."""
        shape = (1, 1, *self.shape)
        leading = 1
        for length in shape[:-2]:
            leading *= length
        return (leading, *shape[-2:])

    # --- what is computed ---------------------------------------------------------------------------------------------

    def total(self):
        """Sum of weight * loss, and sum of weights, as floats."""
        if self.size == 0:
            return 0.0, 0.0
        kernel = self.kernel("flat_total" if self.flat else "rows_total")
        if self.flat:
            size, operands = self.size, self.lines()
            block, n_blocks = _plan.block_size(size, 1, 1024)
        else:
            size, operands = self.three(), self.views(self.three())
            block, n_blocks = _plan.block_size(size[0] * size[1], size[2])
        partials = np.empty((n_blocks, 2))
        p = self.p
        if n_blocks == 1:
            kernel(*operands, p, size, block, 0, 1, partials)
        else:
            self.run(lambda first, last: kernel(*operands, p, size, block, first, last, partials), n_blocks)
        return self.checked(*_reduce.total(partials))

    def denominator(self, weights):
        if not self.weighted_mean:
            return self.size
        return weights if self.factor is None else weights * self.factor

    def checked(self, value, weights):
        """The sums as floats, multiplied by a scalar weight; NaN may mean an operand outside its domain."""
        value, weights = float(value), float(weights)
        if value != value:
            self.check_domain()
        return (value if self.factor is None else value * self.factor), weights

    def check_domain(self):
        for a, name, domain in zip(self.inputs(), self.names, self.loss.domains, strict=False):
            if domain is None or not isinstance(a, np.ndarray):
                continue
            require_inside(a, name, domain)

    def each(self, out):
        """Every element's loss, times its weight."""
        if self.loss.domains:
            self.check_domain()
        result = _arrays.destination(out, self.shape, self.real, self.inputs())
        w = self.w if self.factor is None else self.real.type(self.factor)
        if self.size == 0:
            return _arrays.delivered(result, out)
        kernel = self.kernel("flat_each" if self.flat else "rows_each")
        p = self.p
        if self.flat:
            size, written = self.size, result.reshape(-1)
            x, y, z, own = self.lines()
            block, n_blocks = _plan.block_size(size, 1, 1024)
        else:
            size = self.three()
            written = result.reshape(size)
            x, y, z, own = self.views(size)
            block, n_blocks = _plan.block_size(size[0] * size[1], size[2])
        w = own if self.factor is None else w
        self.run(lambda first, last: kernel(x, y, z, w, p, size, block, first, last, written), n_blocks)
        return _arrays.delivered(result, out)

    def along(self, axes, reduction, divisor, root, out):
        """Sums or means over some of the axes."""
        kept = tuple(i for i in range(len(self.shape)) if i not in axes)
        shape = tuple(self.shape[i] for i in kept)
        n = int(np.prod([self.shape[i] for i in axes]))
        if axes == tuple(range(axes[0], axes[-1] + 1)) and axes[-1] < len(self.shape) - 1:
            # neighbours, not the last: lanes run along the axes after them
            order = None
            outer = int(np.prod(self.shape[: axes[0]]))
            inner = int(np.prod(self.shape[axes[-1] + 1 :]))
        else:
            order = kept + axes
            outer, inner = int(np.prod(shape)), 1
        sums = self._lanes(outer, n, inner, order)
        values, weights = sums[0].reshape(shape), sums[1].reshape(shape)
        if np.isnan(values).any():
            self.check_domain()
        if self.factor is not None:
            values, weights = values * self.factor, weights * self.factor
        if divisor is None:
            divisor = weights if self.weighted_mean else n
        if isinstance(out, Totals):
            return out.take_lanes(values, divisor)
        result = finished_lanes(values, divisor if reduction == "mean" else None, root, self.real)
        if out is None:
            return result
        _arrays.check_out(out, shape)
        return _arrays.delivered(result, out)

    def _lanes(self, outer, n, inner, order):
        """Sums over the middle one of three axes: weight * loss and weights, each (outer, inner)."""
        if outer * n * inner == 0:
            return np.zeros((2, outer, inner))
        p = self.p
        if inner == 1:
            kernel, shape3 = self.kernel("rows_total"), (1, outer, n)
            operands = self.views(shape3, order)
            partials = np.empty((outer, 2))
            self.run(lambda first, last: kernel(*operands, p, shape3, 1, first, last, partials), outer)
            return partials.T
        kernel, shape3 = self.kernel("lanes_total"), (outer, n, inner)
        operands = self.views(shape3, order)
        block, n_chunks = _plan.lane_blocks(n, inner)
        partials = np.empty((n_chunks, 2, outer, inner))
        self.run(lambda first, last: kernel(*operands, p, shape3, block, first, last, partials), n_chunks * outer)
        return _reduce.total(partials)

    def with_gradient(self, reduction, divisor, root, request):
        """The reduced loss, and its derivative with respect to x in `request.array`."""
        scale = 1.0
        if reduction == "mean":
            if divisor is None:
                divisor = self.denominator(self._sum_of_weights())
            scale = _reduce.inverse(divisor)
        if root:
            value, _ = self.total()
            value = float(np.sqrt(_reduce.ratio(value, divisor) if reduction == "mean" else value))
            scale = scale / (2.0 * value) if value else 0.0
        if request.scale is not None:
            scale = request.scale
        full = _arrays.destination(
            request.requested if self.x.shape == self.shape else None, self.shape, self.real, self.inputs()
        )
        total = 0.0
        if self.size:
            kernel = self.kernel("flat_slope" if self.flat else "rows_slope")
            p, step = self.p, self.real.type(scale if self.factor is None else scale * self.factor)
            if self.flat:
                size, operands, written = self.size, self.lines(), full.reshape(-1)
                block, n_blocks = _plan.block_size(size, 1, 1024)
            else:
                size = self.three()
                operands, written = self.views(size), full.reshape(size)
                block, n_blocks = _plan.block_size(size[0] * size[1], size[2])
            partials = np.empty((n_blocks, 2))
            self.run(
                lambda first, last: kernel(*operands, p, step, size, block, first, last, written, partials), n_blocks
            )
            total, _ = self.checked(*_reduce.total(partials))
        if not root:
            value = _reduce.ratio(total, divisor) if reduction == "mean" else total
        if self.x.shape != self.shape:
            full = _summed_to(full, self.x.shape, self.real)
        request.array = _arrays.delivered(full, request.requested)
        return _arrays.scalar(value, self.real)

    def _sum_of_weights(self):
        """What the weights add up to over the common shape; 1 each where there are none."""
        if self.w is None:
            return float(self.size)
        share = self.size // max(self.w.size, 1)
        return float(np.sum(self.w, dtype=np.float64)) * share


def finished_lanes(values, divisor, root, real):
    """Results along axes from the sums there; `divisor` is None where they are not divided."""
    with np.errstate(all="ignore"):
        values = values if divisor is None else values / divisor
        return (np.sqrt(values) if root else values).astype(real)


def require_inside(a, name, domain):
    """ValueError for the first element of `a` outside the domain; NaN is let through."""
    found = first_outside(a, domain)
    if found:
        raise _errors.outside(name, *domain, *found)


def first_outside(a, domain):
    """Position and value of the first element of `a` outside the domain, or None."""
    if (
        a.dtype.itemsize > 2
        and a.size
        and np.fmin.reduce(a, None) >= domain[0]
        and np.fmax.reduce(a, None) <= domain[1]
    ):
        return None
    wide = a.astype(np.float32) if a.dtype.itemsize == 2 else a
    bad = (wide < domain[0]) | (wide > domain[1])
    if not bad.any():
        return None
    position = np.unravel_index(int(np.argmax(bad)), a.shape)
    return position, wide[position]


def _summed_to(full, shape, real):
    """`full` summed over the axes along which an array of that shape was broadcast."""
    lead = full.ndim - len(shape)
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and full.shape[i + lead] != 1))
    return np.sum(full, axis=axes, dtype=FLOAT64, keepdims=True).reshape(shape).astype(real)
