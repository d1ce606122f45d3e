"""The pointwise losses of device arrays: operands to views, views to kernels, sums to results."""

import numpy as np

from fastloss import _arrays, _errors, _reduce
from fastloss._device.arrays import INTEGERS, View
from fastloss._device.session import Session, is_number
from fastloss._pointwise import Gradient, Totals

# Outputs below which each has a block of its own.
FEW_OUTPUTS = 4096


def _real_type(*views):
    """float64 if any operand is of 8 bytes, float32 otherwise."""
    return "float64" if any(isinstance(v, View) and v.name == "float64" for v in views) else "float32"


def _promoted(x, y):
    """The type to compute in, for predictions and targets, as on the host."""
    wide = [v for v in (x, y) if isinstance(v, View)]
    if isinstance(x, View) and x.name in INTEGERS or not wide:
        return "float64"
    if isinstance(y, View) and y.name in INTEGERS and isinstance(x, View):
        name = "float16" if x.name == "bfloat16" else x.name
        return "float64" if np.result_type(name, y.name).itemsize == 8 else "float32"
    return _real_type(*wide)


def evaluate(
    loss, pred, target, third, parameters, weight, axis, reduction, out, *,
    names, weighted_mean, same_shape, third_of_rows, divisor, batch_mean, root,
):  # fmt: skip
    _reduce.check(reduction)
    receives = None if isinstance(out, (Gradient, Totals)) else out
    arguments = dict(zip((*names, "weight", "out"), (pred, target, third, weight, receives), strict=True))
    arguments.pop("", None)
    session = Session(**{name: value for name, value in arguments.items() if name != "out"})
    x, y = session.array(pred, names[0]), session.array(target, names[1])
    z, w = session.array(third, names[2]), session.array(weight, "weight")
    if not isinstance(x, View):
        raise _errors.mixed_devices([(names[0], "the host"), ("the others", "a CUDA device")])
    if same_shape and x.shape != getattr(y, "shape", ()):
        raise _errors.wrong_shape(names[1], getattr(y, "shape", ()), f"{x.shape}, that of {names[0]}")
    if third_of_rows and isinstance(z, View) and z.ndim and z.shape == x.shape[:-1]:
        z = View(z.address, z.name, (*z.shape, 1), (*z.strides, 0), z.owner)
    if batch_mean:
        if axis is not None or not x.ndim:
            raise _errors.unknown("reduction", "batchmean", _reduce.REDUCTIONS)
        divisor = x.shape[0]
    factor = 1.0
    if is_number(w):
        factor, w = float(w), None
    call = Pointwise(session, loss, (x, y, z, w), _promoted(x, y), parameters, names, factor)
    axes = tuple(range(len(call.shape))) if axis is None else _arrays.some_axes(axis, len(call.shape))
    if reduction == "none" or len(axes) < len(call.shape):
        if isinstance(out, Gradient):
            raise _errors.vector_gradient("reduction='none'" if reduction == "none" else f"axis={axis!r}")
        if isinstance(out, Totals):
            raise _errors.accumulated_none()
    if reduction == "none":
        return call.each(out)
    if divisor is None and not (weighted_mean and w is not None):
        divisor = int(np.prod([call.shape[i] for i in axes], dtype=np.int64)) * (factor if weighted_mean else 1)
    mode = "sum" if reduction == "sum" else "weight" if divisor is None else "number"
    if len(axes) < len(call.shape):
        return call.along(axes, mode, divisor, root, out)
    return call.total(mode, divisor, root, out)


class Pointwise:
    """The operands of one call, and what can be computed from them."""

    def __init__(self, session, loss, operands, real, parameters=(), names=("", "", ""), factor=1.0):
        self.session, self.loss, self.operands, self.real, self.factor = session, loss, operands, real, factor
        self.names = names
        self.p = tuple(map(float, parameters)) or (0.0,)  # kernels take no empty tuple
        views = [(name, v) for name, v in zip((*names, "weight"), operands, strict=True) if isinstance(v, View)]
        try:
            self.shape = np.broadcast_shapes(*(v.shape for _, v in views))
        except ValueError:
            raise _errors.not_broadcastable([(name, v.shape) for name, v in views]) from None
        self.size = int(np.prod(self.shape, dtype=np.int64))
        # every operand contiguous and of the common shape, or one element
        self.flat = all(v.ndim == 0 or v.shape == self.shape and v.contiguous for _, v in views)

    # --- what kernels take ----------------------------------------------------------------------------------------------

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
        """Strides of all operands in the common shape, or along some of its axes."""
        strides = [
            v.broadcast(self.shape).strides if isinstance(v, View) else (0,) * len(self.shape) for v in self.operands
        ]
        return strides if axes is None else [tuple(s[i] for i in axes) for s in strides]

    def run(self, op, out=0, scale=1.0, value=0, mode="sum", divisor=None, root=False):
        """Launch the kernel over all elements; `out` is the address of losses or slopes, `value` that of the reduced result."""
        session, kernels = self.session, self.session.kernels
        tail = (session.queue.workspace, value, kernels.MODES[mode], self.factor, float(divisor or 0.0), root)
        if self.flat:
            kinds = self.kinds(flat=True)
            kernel = kernels.kernel("vectors", self.loss, op, self.real, kinds, out == 0 or out % 16 == 0)
            arguments = (*self.addresses(), self.p, self.size, out, scale, *tail)
            session.launch(kernel, self.size // kernels.elements(kinds) + 1, arguments)
            return
        kernel = kernels.kernel("strided", self.loss, op, self.real, self.kinds(flat=False))
        shape, strides = merged_axes(self.shape, self.strides())
        session.launch(kernel, self.size, (*self.addresses(), self.p, self.size, shape, *strides, out, scale, *tail))

    def run_along(self, axes, out, mode, divisor=None, root=False):
        """Sums or means over some of the axes to `out`, in C order of the others."""
        session, kernels = self.session, self.session.kernels
        kept = tuple(i for i in range(len(self.shape)) if i not in axes)
        shape, strides = merged_axes([self.shape[i] for i in kept], self.strides(kept))
        lengths, steps = merged_axes([self.shape[i] for i in axes], self.strides(axes))
        size, n = (int(np.prod([self.shape[i] for i in some], dtype=np.int64)) for some in (kept, axes))
        if not size:
            return
        # neighbouring threads read neighbours: along the reduced axes if the last is one, or where outputs are few
        by_block = axes[-1] == len(self.shape) - 1 or size < FEW_OUTPUTS
        kernel = kernels.kernel("lanes", self.loss, kernels.TOTAL, self.real, self.kinds(flat=False), by_block=by_block)
        arguments = (
            *self.addresses(), self.p, size, shape, *strides, n, lengths, *steps,
            out, kernels.MODES[mode], self.factor, float(divisor or 0.0), root,
        )  # fmt: skip
        session.launch(kernel, size * (kernels.THREADS if by_block else 1), arguments)

    # --- what is computed -----------------------------------------------------------------------------------------------

    def total(self, mode, divisor, root, out):
        """The reduced loss, with its gradient where that was asked for."""
        session, kernels = self.session, self.session.kernels
        request = out if isinstance(out, Gradient) else None
        totals = out if isinstance(out, Totals) else None
        receives = None if request or totals else out
        if receives is not None:
            session.check_out(receives, ())
        x_shape = self.operands[0].shape
        if request and request.requested is not None:
            session.check_out(request.requested, x_shape)
        with session.queue.lock:
            result, value = session.destination(receives, (), self.real)
            if request:
                scale = self.scale(mode, divisor, root)
                own = request.requested if x_shape == self.shape else None
                gradient, view = session.destination(own, self.shape, self.real)
                self.run(kernels.SLOPE, view.address, scale, value.address, mode, divisor, root)
            else:
                self.run(kernels.TOTAL, 0, 1.0, value.address, mode, divisor, root)
            sums = session.totals() if totals or self.loss.domains and session.waits else None
        if sums and sums[0] != sums[0]:
            self.check_domain()
        if totals:
            return totals.take(sums[0], sums[1] if divisor is None else divisor, self.size)
        if request:
            if x_shape != self.shape:
                gradient = self.summed(view, x_shape)
            request.array = session.delivered(gradient, request.requested)
        return session.scalar(result, receives)

    def scale(self, mode, divisor, root):
        """What slopes are multiplied by: the weights of a mean, and the value under a root, have to be known first."""
        if mode == "weight" or root:
            self.run(self.session.kernels.TOTAL, root=root)
            value, weight, _, _ = self.session.totals()
            divisor = weight if mode == "weight" else divisor
        scale = self.factor if mode == "sum" else self.factor * _reduce.inverse(divisor)
        if root:
            value = float(np.sqrt(value if mode == "sum" else _reduce.ratio(value, divisor)))
            scale = scale / (2.0 * value) if value else 0.0
        return scale

    def each(self, out):
        """Every element's loss, times its weight."""
        session = self.session
        if self.loss.domains and session.waits:
            self.check_domain()
        result, view = session.destination(out, self.shape, self.real)
        if self.size:
            with session.queue.lock:
                self.run(session.kernels.EACH, view.address, self.factor)
        return session.delivered(result, out)

    def along(self, axes, mode, divisor, root, out):
        """Sums or means over some of the axes."""
        session = self.session
        if self.loss.domains and session.waits:
            self.check_domain()
        shape = [n for i, n in enumerate(self.shape) if i not in axes]
        result, view = session.destination(out, shape, self.real)
        self.run_along(axes, view.address, mode, divisor, root)
        return session.delivered(result, out)

    def summed(self, view, shape):
        """A gradient summed over the axes along which an array of that shape was broadcast."""
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
        """ValueError for the first element of an operand outside what it may hold."""
        session, kernels = self.session, self.session.kernels
        for v, name, domain in zip(self.operands, self.names, self.loss.domains, strict=False):
            if domain is None or not isinstance(v, View) or not v.size:
                continue
            kinds = ((v.name, "elements"), None, None, None)
            kernel = kernels.kernel("outside", None, kernels.TOTAL, self.real, kinds)
            shape, strides = merged_axes(v.shape, [v.strides])
            with session.queue.lock:
                arguments = (v.address, v.size, shape, *strides, *map(float, domain), session.queue.workspace)
                session.launch(kernel, v.size, arguments)
                bad = session.totals()[3]
            if bad < np.inf:
                position = np.unravel_index(int(bad), v.shape)
                raise _errors.outside(name, *domain, position, np.dtype(self.real).type(element(session, v, position)))


def merged_axes(shape, strides):
    """A shape without needless axes, and the strides that go with it: axes that follow one another in all operands are one."""
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
