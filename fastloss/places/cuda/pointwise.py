"""The pointwise losses of device arrays: operands to views, views to kernels, sums to results."""

import numpy as np

from fastloss import _errors, _reduce, losses
from fastloss.calls.want import Squares, Sums
from fastloss.places.cuda.arrays import View
from fastloss.places.cuda.session import is_number

# With fewer outputs than this, each is computed by a block of its own.
FEW_OUTPUTS = 4096
# Above this the factor of a root's slopes is of errors whose squares are too small for float64, below its inverse of too large ones.
STEEP = 1e290


def elements(resolved):
    """A function that executes an `Elements` call."""

    def execute(operands, out, scale):
        session = operands.session
        x, y, z, w = operands
        if not isinstance(x, View):
            raise _errors.mixed_devices([(resolved.names[0], "the host"), ("the others", "a CUDA device")])
        if isinstance(z, View) and z.shape != resolved.shapes[2]:  # broadcast along the last axis
            z = View(z.address, z.name, (*z.shape, 1), (*z.strides, 0), z.owner)
        factor = 1.0
        if is_number(w):
            factor, w = float(w), None
        call = Pointwise(
            session, resolved.formula, (x, y, z, w), resolved.arithmetic, resolved.parameters, resolved.names, factor
        )
        call.result = resolved.real
        divisor = resolved.divisor
        if divisor is None and w is None:
            divisor = int(np.prod([call.shape[i] for i in resolved.axes], dtype=np.int64)) * factor
        return evaluated(call, resolved, divisor, out, scale)

    return execute


def evaluated(call, resolved, divisor, out, scale):
    """The value, (value, gradients) or sums of a call; its mean divides by `divisor`, or by the sum of weights if that
    is None."""
    if resolved.reduction == "none":
        return call.each(out)
    mode = "sum" if resolved.reduction == "sum" else "weight" if divisor is None else "number"
    if not resolved.is_scalar:
        if resolved.want.what == "sums":
            raise _errors.accumulated_none()
        return call.along(resolved.axes, mode, divisor, resolved.root, out)
    return call.total(mode, divisor, resolved.root, out, resolved.want.what, scale, resolved.count)


class Pointwise:
    """The operands of one call, and the computations on them."""

    def __init__(self, session, loss, operands, real, parameters=(), names=("",) * 4, factor=1.0):
        self.session, self.loss, self.operands, self.real, self.factor = session, loss, operands, real, factor
        self.result = real  # the dtype of results
        self.names = names
        self.p = tuple(map(float, parameters)) or (0.0,)  # kernels take no empty tuple
        views = [(name, v) for name, v in zip(names, operands, strict=True) if isinstance(v, View)]
        try:
            self.shape = np.broadcast_shapes(*(v.shape for _, v in views))
        except ValueError:
            raise _errors.not_broadcastable([(name, v.shape) for name, v in views]) from None
        self.size = int(np.prod(self.shape, dtype=np.int64))
        # whether every operand is contiguous and of the common shape, or a single element
        self.flat = all(v.ndim == 0 or v.shape == self.shape and v.contiguous for _, v in views)

    # --- launching kernels --------------------------------------------------------------------------------------------

    def addresses(self):
        return tuple(v.address if isinstance(v, View) else 0.0 if v is None else float(v) for v in self.operands)

    def kinds(self, flat):
        def kind(v):
            if not isinstance(v, View):
                return None if v is None else "number"
            if flat and v.ndim:
                return v.name, "vectors" if v.aligned(16) else "elements"
            return v.name, "one" if flat else "elements"

        return tuple(kind(v) for v in self.operands)

    def strides(self, axes=None):
        """The strides of all operands along the axes of the common shape, or along `axes`."""
        strides = [
            v.broadcast(self.shape).strides if isinstance(v, View) else (0,) * len(self.shape) for v in self.operands
        ]
        return strides if axes is None else [tuple(s[i] for i in axes) for s in strides]

    def run(self, op, out=0, scale=1.0, value=0, mode="sum", divisor=None, root=False):
        """Launch the kernel over all elements; `out` is the address of losses or slopes, `value` that of the reduced
        result.

        A root takes a second kernel, which has nothing to do unless the first one's sum of squares is outside float64's range.
        """
        tail = (
            self.session.queue.workspace, value, self.session.kernels.MODES[mode], self.factor, float(divisor or 0.0),
            1.0 if root else 0.0,
        )  # fmt: skip
        self._launch(self.loss, op, out, scale, tail)
        if root and self.real == "float64" and op == self.session.kernels.TOTAL:
            self._launch(losses.MSE_SCALED, op, out, scale, tail, rooted=True)

    def _launch(self, loss, op, out, scale, tail, rooted=False):
        session, kernels = self.session, self.session.kernels
        if self.flat:
            kinds = self.kinds(flat=True)
            kernel = kernels.kernel("vectors", loss, op, self.real, kinds, out == 0 or out % 16 == 0, rooted=rooted)
            arguments = (*self.addresses(), self.p, self.size, out, scale, *tail)
            session.launch(kernel, self.size // kernels.elements(kinds) + 1, arguments)
            return
        kernel = kernels.kernel("strided", loss, op, self.real, self.kinds(flat=False), rooted=rooted)
        shape, strides = merged_axes(self.shape, self.strides())
        session.launch(kernel, self.size, (*self.addresses(), self.p, self.size, shape, *strides, out, scale, *tail))

    def run_along(self, axes, out, mode, divisor=None, root=False):
        """Write sums or means over some of the axes to `out`, in C order of the others."""
        session, kernels = self.session, self.session.kernels
        kept = tuple(i for i in range(len(self.shape)) if i not in axes)
        shape, strides = merged_axes([self.shape[i] for i in kept], self.strides(kept))
        lengths, steps = merged_axes([self.shape[i] for i in axes], self.strides(axes))
        size, n = (int(np.prod([self.shape[i] for i in some], dtype=np.int64)) for some in (kept, axes))
        if not size:
            return
        # neighbouring threads should read neighbouring elements: along the reduced axes if the last axis is one, or if
        # outputs are few
        by_block = bool(axes) and (axes[-1] == len(self.shape) - 1 or size < FEW_OUTPUTS)
        rooted = root and self.real == "float64"
        kernel = kernels.kernel(
            "lanes", self.loss, kernels.TOTAL, self.real, self.kinds(flat=False), by_block=by_block, rooted=rooted
        )
        arguments = (
            *self.addresses(), self.p, size, shape, *strides, n, lengths, *steps,
            out, kernels.MODES[mode], self.factor, float(divisor or 0.0), 1.0 if root else 0.0,
        )  # fmt: skip
        session.launch(kernel, size * (kernels.THREADS if by_block else 1), arguments)

    # --- results ------------------------------------------------------------------------------------------------------

    def rounded(self, array, out=None):
        """An array of results in their own dtype; `out`, where that is given, is converted to later."""
        if self.result == self.real or out is not None:
            return array
        narrow = self.session.new(array.shape, self.result)
        self.session.copy_into(array, narrow)
        return narrow

    def total(self, mode, divisor, root, out, what="value", scale=None, count=None):
        """The reduced loss, with its gradient or as sums if `what` says so."""
        session, kernels = self.session, self.session.kernels
        receives = out if what == "value" else None
        requested = out[0] if what == "slopes" else None
        x_shape = self.operands[0].shape
        if receives is not None:
            session.check_out(receives, ())
        if requested is not None:
            session.check_out(requested, x_shape)
        with session.queue.lock:
            result, value = session.destination(receives, (), self.real)
            if what == "slopes":
                loss, at = self, value.address
                if root:
                    scale, by = self.root_scale(at, mode, divisor)
                    loss, at = self.scaled(by) if by != 1.0 else self, 0
                elif scale is None:
                    scale = self.scale(mode, divisor)
                own = requested if x_shape == self.shape else None
                gradient, view = session.destination(own, self.shape, self.real)
                loss.run(kernels.SLOPE, view.address, scale, at, mode, divisor)
                if scale != scale:  # a mean whose weights sum to 0 has a gradient of NaN, even for elements of weight 0
                    unweighted = Pointwise(
                        session, self.loss, (*self.operands[:3], None), self.real, self.p, self.names
                    )
                    unweighted.shape, unweighted.size, unweighted.flat = self.shape, self.size, False
                    unweighted.run(kernels.SLOPE, view.address, scale)
            else:
                self.run(kernels.TOTAL, 0, 1.0, value.address, mode, divisor, root)
            sums = session.totals() if what == "sums" else None
            total = sums[0] if sums else session.first_bad(of_sum=True) if self.loss.domains and session.waits else 0.0
        if np.isnan(total):
            self.check_domain()
        if what == "sums":
            found = Sums(sums[0], float(sums[1] if divisor is None else divisor), self.size if count is None else count)
            return _squares(found, sums[2] or 1.0) if root else found
        if what == "slopes":
            if x_shape != self.shape:
                gradient = self.summed(view, x_shape)
            gradient = session.array_result(self.rounded(gradient, requested), requested)
            return session.scalar(self.rounded(result)), (gradient,)
        return session.scalar(self.rounded(result, receives), receives)

    def scale(self, mode, divisor):
        """The factor of the slopes; needs the summed weights of a mean first."""
        if mode == "weight":
            self.run(self.session.kernels.TOTAL)
            _, divisor, _, _ = self.session.totals()
        return self.factor if mode == "sum" else self.factor * _reduce.inverse(divisor)

    def root_scale(self, value, mode, divisor):
        """The factor of a root's slopes, and the power of two that errors are multiplied by for them, after the root is at this address."""
        self.run(self.session.kernels.TOTAL, value=value, mode=mode, divisor=divisor, root=True)
        square, weight, by, _ = self.session.totals()
        by = by or 1.0
        divisor = 1.0 if mode == "sum" else weight if mode == "weight" else divisor
        square = square if mode == "sum" else _reduce.ratio(square, divisor)
        scaled = float(np.sqrt(square)) if square >= 0.0 else np.nan
        scale = 0.5 * self.factor * _reduce.inverse(divisor) / scaled if scaled else 0.0
        steep = abs(scale) * by
        known, by = by, 1.0
        if self.real == "float64" and steep > STEEP:
            by = _reduce.FAR_ROOT
        elif self.real == "float64" and 0.0 < steep < 1.0 / STEEP:
            by = 1.0 / _reduce.FAR_ROOT
        return scale * (known / by) / by, by

    def scaled(self, by):
        """The squares of errors times a power of two."""
        found = Pointwise(self.session, losses.MSE_SCALED, self.operands, self.real, (by,), self.names, self.factor)
        found.shape, found.size, found.flat = self.shape, self.size, self.flat
        return found

    def each(self, out):
        """Every element's loss, times its weight."""
        session = self.session
        if self.loss.domains and session.waits:
            self.check_domain()
        result, view = session.destination(out, self.shape, self.real)
        if self.size:
            with session.queue.lock:
                self.run(session.kernels.EACH, view.address, self.factor)
        return session.array_result(self.rounded(result, out), out)

    def along(self, axes, mode, divisor, root, out):
        """Sums or means over some of the axes."""
        session = self.session
        if self.loss.domains and session.waits:
            self.check_domain()
        shape = [n for i, n in enumerate(self.shape) if i not in axes]
        result, view = session.destination(out, shape, self.real)
        self.run_along(axes, view.address, mode, divisor, root)
        return session.array_result(self.rounded(result, out), out)

    def summed(self, view, shape):
        """A gradient, summed over the axes along which an array of this shape was broadcast."""
        lead = view.ndim - len(shape)
        axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and view.shape[i + lead] != 1))
        array, sums = self.session.destination(None, shape, self.real)
        copy = Pointwise(self.session, None, (view, None, None, None), self.real)
        if len(axes) == view.ndim:
            with self.session.queue.lock:
                copy.run(self.session.kernels.TOTAL, value=sums.address)
        else:
            copy.run_along(axes, sums.address, "sum")
        return array

    def check_domain(self):
        """Raise ValueError for the first element of an operand outside its domain."""
        session, kernels = self.session, self.session.kernels
        for v, name, domain in zip(self.operands, self.names, self.loss.domains, strict=False):
            if domain is None or not isinstance(v, View) or not v.size:
                continue
            kinds = ((v.name, "elements"), None, None, None)
            kernel = kernels.kernel("outside", None, kernels.TOTAL, self.real, kinds)
            shape, strides = merged_axes(v.shape, [v.strides])
            with session.queue.lock:
                arguments = (v.address, v.size, shape, *strides, *domain.ends(self.real), session.queue.workspace)
                session.launch(kernel, v.size, arguments)
                bad = session.first_bad()
            if bad < np.inf:
                position = np.unravel_index(int(bad), v.shape)
                raise _errors.outside(name, domain, position, np.dtype(self.real).type(element(session, v, position)))


def _squares(sums, by):
    """The `Squares` of sums whose errors were multiplied by a power of two."""
    return Squares(
        sums.total if by == 1.0 else 0.0,
        sums.weight,
        sums.count,
        sums.total if by < 1.0 else 0.0,
        sums.total if by > 1.0 else 0.0,
    )


def merged_axes(shape, strides):
    """(shape, strides) with as few axes as possible: axes that follow one another in all operands are merged."""
    axes = [i for i in range(len(shape)) if shape[i] != 1]
    merged, kept = [], [[] for _ in strides]
    for i in axes:
        if merged and all(k[-1] == s[i] * shape[i] for k, s in zip(kept, strides, strict=True)):
            merged[-1] *= shape[i]
            for k, s in zip(kept, strides, strict=True):
                k[-1] = s[i]
        else:
            merged.append(shape[i])
            for k, s in zip(kept, strides, strict=True):
                k.append(s[i])
    return tuple(merged) or (1,), [tuple(k) or (0,) for k in kept]


def element(session, view, position):
    """One element of an array, as a float."""
    with session.queue.lock:
        Pointwise(session, None, (view.element(position), None, None, None), "float64").run(session.kernels.TOTAL)
        return session.totals()[0]
