"""Wraps kernels that take arrays of one, two or three axes, so that they can be called with the call's arrays: makes
the views.

The compiled kernels of `fastloss_c` need no views: they take addresses, and strides from the plan.
"""

import functools

import numpy as np

from fastloss import _reduce
from fastloss._arrays import bits


def strided(a, shape, strides):
    """A view of the array's memory, from its first element on, with this shape and these strides in bytes."""
    return maker(a, shape, strides)(a)


def maker(a, shape, strides):
    """A function that makes such a view of any array with the dtype, shape and strides of `a`."""
    own = bits(a)
    if own.shape == shape and own.strides == strides:
        return _same if own is a else bits
    if own is a and a.flags.c_contiguous:
        return functools.partial(_over, shape, a.dtype, strides)
    return lambda a: np.lib.stride_tricks.as_strided(bits(a), shape, strides, writeable=a.flags.writeable)


def _same(a):
    return a


def _over(shape, dtype, strides, a):
    return np.ndarray(shape, dtype, a, 0, strides)


class Views:
    """Makes the views of a call's arrays.  How is worked out once, as all arrays of one plan have the same layout."""

    def __init__(self, find):
        self.find = find  # from the arrays to functions that make the view of each
        self.makers = None

    def __call__(self, arrays):
        makers = self.makers
        if makers is None:
            makers = self.makers = self.find(arrays)
        return [a if make is _same else make(a) for make, a in zip(makers, arrays, strict=True)]


_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def _typed(real, values):
    with np.errstate(over="ignore"):
        return tuple(real.type(value) for value in values)


class Elements:
    """A kernel of a pointwise loss; `backends` describes the arguments."""

    def __init__(self, kernel, op, real, p, shape, layouts, block):
        self.kernel, self.p, self.layouts, self.block, self.real = kernel, _typed(real, p), layouts, block, real
        schedule, self.purpose = op.split("_")
        self.flat = schedule == "flat"
        self.shape = shape
        # flat kernels read contiguous memory; target and third operand may also be numbers
        self.contiguous = all(
            layout is None or layout[3] == _SIZES[layout[0]] or not layout[3] and k in (1, 2) or shape[2] == 1
            for k, layout in enumerate(layouts)
        )

        self.views = Views(lambda operands: [self._maker(k, a) for k, a in enumerate(operands)])

    def _maker(self, k, a):
        if self.layouts[k] is None:
            return _nothing
        _, *strides = self.layouts[k]
        if not self.flat:
            return maker(a, self.shape, tuple(strides))
        if not strides[2] and k in (1, 2):
            return lambda a: self.real.type(a[(0,) * a.ndim])
        return maker(a, self.shape[2:], (strides[2],))

    def run(self, operands, scale, out, first, last, partials):
        views = self.views(operands)
        written = None if out is None else out.reshape(-1 if self.flat else self.shape)
        if not self.flat or self.contiguous:
            size = self.shape[2] if self.flat else self.shape
            self._call(views, scale, written, size, self.block, first, last, partials)
            return
        for b in range(first, last):
            part = slice(b * self.block, min((b + 1) * self.block, self.shape[2]))
            pieces = [np.ascontiguousarray(v[part]) if isinstance(v, np.ndarray) else v for v in views]
            size = part.stop - part.start
            own = None if written is None else written[part]
            sums = None if partials is None else partials[b : b + 1]
            self._call(pieces, scale, own, size, size, 0, 1, sums)

    def _call(self, views, scale, out, size, block, first, last, partials):
        if self.purpose == "total":
            self.kernel(*views, self.p, size, block, first, last, partials)
        elif self.purpose == "each":
            self.kernel(*views, self.p, size, block, first, last, out)
        else:
            self.kernel(*views, self.p, np.float64(scale), size, block, first, last, out, partials)

    def sums(self, operands, scale, out, n_blocks):
        partials = np.zeros((n_blocks, 2))
        self.run(operands, scale, out, 0, n_blocks, partials)
        return _reduce.totals(partials)


def _nothing(a):
    return None


def finish_means(partials, n, step, weights_from, divisor, by_weight, root, out):
    """Write results from sums along axes; returns whether one is NaN.  `backends` describes the arguments."""
    sums = partials.reshape(-1)
    values = sums[: (n - 1) * step + 1 : step]
    with np.errstate(all="ignore"):
        found = values / (sums[weights_from::step][:n] if by_weight else divisor)
        out.reshape(-1)[:] = np.sqrt(found) if root else found
    return bool(np.isnan(values).any())


class Rows:
    """A kernel of the softmax family; `backends` describes the arguments."""

    # axes of the outputs; a fourth one holds several values per row, and 1 stands for two arrays of one value per row
    _AXES = {
        "index": (2, 3),
        "dense": (2, 3),
        "gather": (2, 3),
        "known": (2, 3),
        "normalise": (2, 3, 3),
        "score": (2,) * 5,
        "compare": (2,) * 5,
        "detail": (4, 4, 4, 2),
        "distance": (),
        "event": (),
        "calibration": (),
        "event calibration": (),
    }

    def __init__(
        self,
        kernel,
        op,
        across,
        lengths,
        x,
        target,
        w,
        outs,
        block,
        ignore_index=-1,
        keep=1.0,
        spread=None,
        take_log=False,
        m=0,
    ):
        self.kernel, self.op, self.lengths, self.block = kernel, op, lengths, block
        self.rows = (lengths[0], lengths[2] if across else lengths[1])
        self.n_classes = lengths[1] if across else lengths[2]
        self.target = target
        self.beside = w if op in ("compare", "known") else None  # what lies beside x, in place of class weights
        layouts = (x, target, self.beside, *(outs[k] if k < len(outs) else None for k in range(len(self._AXES[op]))))
        axes = (3, 3 if op == "dense" else 2, 3 if op == "compare" else 1, *self._AXES[op])
        self.views = Views(lambda arrays: [self._maker(*each) for each in zip(layouts, axes, arrays, strict=True)])
        self.n_outs = len(self._AXES[op])
        self.ignore_index, self.keep, self.spread, self.take_log = ignore_index, keep, spread, take_log
        self.m = m

    def _maker(self, layout, axes, a):
        if layout is None:
            return _nothing
        if axes == 3:
            return maker(a, self.lengths, tuple(layout[1:]))
        if axes == 1:
            return maker(a, (2, *self.rows), tuple(layout[1:]))
        if axes == 4:
            return maker(a, (*self.rows, a.shape[-1]), (*layout[2:], a.itemsize))
        return maker(a, self.rows, tuple(layout[2:]))

    def run(self, x, target, w, outs, scale, first, last, partials):
        beside = None if self.beside is None else w
        x, target, beside, *written = self.views((x, target, beside, *outs, *(None,) * (self.n_outs - len(outs))))
        blocks = (self.block, first, last)
        if self.op == "normalise":
            self.kernel(x, *blocks, *written)
        elif self.op == "compare":
            self.kernel(beside, x, target, self.ignore_index, *blocks, partials, *written)
        elif self.op == "known":
            self.kernel(x, target, beside, self.ignore_index, scale, *blocks, partials, written[1])
        elif self.op == "score":
            self.kernel(x, target, self.ignore_index, *blocks, partials, *written)
        elif self.op == "detail":
            self.kernel(x, target, self.ignore_index, self.m, *blocks, partials, *written)
        elif self.op in ("distance", "event"):
            self.kernel(x, target, self.ignore_index, self.op == "event", *blocks, partials)
        elif self.op in ("calibration", "event calibration"):
            self.kernel(x, target, w, self.ignore_index, self.op != "calibration", *blocks, partials)
        elif self.op == "index":
            constants = (self.ignore_index, self.keep, self.spread, scale)
            self.kernel(x, target, w, *constants, *blocks, partials, *written)
        elif self.op == "dense":
            self.kernel(x, target, w, self.keep, self.spread, scale, *blocks, partials, *written)
        else:
            constants = (self.ignore_index, self.take_log, scale)
            self.kernel(x, target, w, *constants, *blocks, partials, *written)

    def sums(self, x, target, w, outs, scale, n_blocks):
        partials = np.empty((n_blocks, 4))
        self.run(x, target, w, outs, scale, 0, n_blocks, partials)
        return _reduce.totals_and_least(partials)

    def weigh(self, target, w):
        labels = strided(target, self.rows, tuple(self.target[2:])).reshape(-1)
        counted, n = labels, self.n_classes
        if not labels.size or labels.min() < 0 or labels.max() >= n or 0 <= self.ignore_index < n:
            unsigned = labels.dtype.kind == "u"
            ignored = np.zeros(1, bool) if unsigned and self.ignore_index < 0 else labels == self.ignore_index
            bad = ((labels < 0) | (labels >= n)) & ~ignored
            if bad.any():
                return 0.0, 0.0, float(np.argmax(bad))
            counted = labels[~ignored] if ignored.any() else labels
        if w is None:
            return float(counted.size), float(counted.size), np.inf
        counts = np.bincount(counted.astype(np.int64), minlength=self.n_classes)
        present = counts > 0  # the weight of a class that no target has does not matter, even if it is NaN
        total = np.dot(counts[present], w[present].astype(np.float64))
        return float(total), float(counted.size), np.inf
