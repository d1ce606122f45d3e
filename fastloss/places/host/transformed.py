"""Kernels of rows whose logits have a soft cap or a temperature: a few rows at a time, in float64, in the cache.

A pointwise kernel, `tempered` or `capped`, transforms a few rows of logits to float64 differences from their row's
largest; the float64 row kernel then takes these as logits, and its results are rounded once.  This works for every
backend and for the whole softmax family; the compiled kernels have faster ways for logits of up to 32 bits, and where
the cap is not large beside the temperature, Numba's cap such logits one by one, relative to 0.
"""

import math
from typing import NamedTuple

import numpy as np

from fastloss import _costs, _plan, _reduce
from fastloss._arrays import FLOAT64
from fastloss.backends import LANES

# Logits of a piece, if its rows are not longer.
PIECE = 1 << 15


class Transformed:
    """Takes the place of a backend's kernel of rows; `backends` describes the arguments after the first."""

    def __init__(self, transform, op, across, real, lengths, x, target, w, outs, block, *constants):
        self.transform, self.op, self.across, self.lengths = transform, op, across, lengths
        self.layouts, self.w, self.block = (x, target, outs), w, block
        self.n_classes, self.inner = lengths[1:] if across else lengths[:0:-1]
        self.constants = constants
        self.backend = _plan.backend()
        # whether the backend caps logits one by one, rather than relative to the row's largest, and whether it divides them
        self.caps = self.tempers = False
        if real.itemsize == 4 and hasattr(self.backend, "caps_logits"):
            capped = transform.softcap is not None
            self.caps = capped and self.backend.caps_logits(transform.softcap, transform.temperature)
            self.tempers = not capped and self.backend.tempers_logits(transform.temperature)
        # of logits as they are: which order they come in does not change, and where labels lie neither
        self.plain = self.backend.row_kernel(op, across, real, lengths, x, target, w, outs, block, *constants)
        self.pieces = {}
        unit = LANES if across else 1
        self.unit, self.units = unit, -(-self.inner // unit)
        self.step = max(1, PIECE // (unit * self.n_classes))

    def weigh(self, target, w):
        return self.plain.weigh(target, w)

    def sums(self, x, target, w, outs, scale, n_blocks):
        partials = np.empty((n_blocks, 4))
        self.run(x, target, w, outs, scale, 0, n_blocks, partials)
        return _reduce.totals_and_least(partials)

    def run(self, x, target, w, outs, scale, first, last, partials):
        if self.op in ("score", "compare"):
            self.plain.run(x, target, w, outs, scale, first, last, partials)  # places in rows
        layouts = self.layouts
        if self.op == "compare":
            w = self._view(w, self.w)
        elif self.op == "known":
            w = np.lib.stride_tricks.as_strided(w, (2, self.lengths[0], self.inner), self.w[1:])
        x, target = self._view(x, layouts[0]), self._view(target, layouts[1], per_class=self.op == "dense")
        outs = [
            self._view(out, layout, per_class=self._is_per_class(k))
            for k, (out, layout) in enumerate(zip(outs or (None,) * len(layouts[2]), layouts[2], strict=True))
        ]
        scratch = [np.empty(min(self.step * self.unit, self.inner) * self.n_classes) for _ in range(2)]
        with np.errstate(all="ignore"):
            for b in range(first, last):
                sums = np.array((0.0, 0.0, 0.0, np.inf))
                for i, rows in self._rows_of(b):
                    found = self._compute(x, target, w, outs, scale, i, rows, scratch)
                    sums[:3] += found[:3]
                    sums[3] = min(sums[3], i * self.inner + rows.start + found[3])
                if partials is not None:
                    partials[b] = sums

    def _is_per_class(self, k):
        """Whether output k has the shape of the logits."""
        return k > 0 and self.op not in ("score", "compare")

    def _view(self, a, layout, per_class=True):
        """A view of the array with the kernel's three axes, or two if it has one value per row."""
        if a is None:
            return None
        shape, strides = (self.lengths, layout[1:]) if per_class else ((self.lengths[0], self.inner), layout[2:])
        return np.lib.stride_tricks.as_strided(a, shape, strides)

    def _rows_of(self, b):
        """Yield (outer index, slice of rows) for the rows of a block, as many at a time as fit into the scratch
        memory."""
        unit, units = self.unit, self.units
        start, end = b * self.block, min((b + 1) * self.block, self.lengths[0] * units)
        while start < end:
            i, k = divmod(start, units)
            stop = min(k + self.step, units, k + end - start)
            yield i, slice(k * unit, min(stop * unit, self.inner))
            start += stop - k

    def _compute(self, x, target, w, outs, scale, i, rows, scratch):
        """Compute some rows: writes their results to `outs`, returns their sums."""
        of_rows = (i, slice(None), rows) if self.across else (i, rows)
        n = rows.stop - rows.start
        x, y = x[of_rows], target
        if y is not None:
            y = np.ascontiguousarray(y[of_rows], FLOAT64) if self.op == "dense" else y[i, rows]
        piece = self.pieces.get(n)
        if piece is None:
            piece = self.pieces[n] = self._piece(x, y, w[of_rows] if self.op == "compare" else None, n)
        z, more = (room[: x.size].reshape(x.shape) for room in scratch)
        origin = self._put(piece.transform, x, z)
        if self.op == "compare":
            self._put(piece.reference, w[of_rows], more)
            w = more
        elif self.op == "known":
            w = np.ascontiguousarray(w[:, i, rows])
        results = [None if layout is None else np.empty(n, layout[0]) for layout in piece.outs]
        for k, out in enumerate(outs):
            if out is not None and self._is_per_class(k):
                results[k] = more
        found = piece.rows.sums(z, y, w, tuple(results), scale, 1)
        if self.op in ("index", "dense", "known"):
            if outs[1] is not None:
                self._differentiate(piece, x, origin, z, more, outs[1][of_rows])
            if outs[0] is not None:
                outs[0][i, rows] = results[0]
        elif self.op == "score":
            outs[0][i, rows] = results[0]
            outs[1][i, rows] = self._moved(results[1], origin)
        elif self.op == "compare":
            for out, result in zip(outs, results, strict=True):
                if out is not None and out.dtype != bool:
                    out[i, rows] = result
        else:
            for k, out in enumerate(outs):
                if out is not None:
                    out[of_rows if k else (i, rows)] = results[k] if k else self._moved(results[0], origin)
        return found

    def _put(self, kernel, x, z):
        """Write the transforms of logits to z; returns the origins of their rows, None for 0."""
        if self.caps:
            self.backend.cap_logits(x, self.transform.softcap, self.transform.temperature, z)
            return None
        if self.tempers:
            origin = self.backend.largest_across(x) if self.across else _origins(x, 1)
            self.backend.temper_logits(x, origin, self.across, self.transform.temperature, z)
            return origin
        origin = _origins(x, 0 if self.across else 1)
        kernel.run((x, origin, None, None), 1.0, z, 0, 1, None)
        return origin

    def _moved(self, lse, origin):
        """logsumexp, from that of logits relative to an origin."""
        if origin is None:
            return lse
        if self.tempers:
            return lse + origin / self.transform.temperature
        origin = origin.reshape(1, -1)
        shift = np.empty_like(origin)
        self._elements("each", origin, True).run((origin, np.zeros_like(origin), None, None), 1.0, shift, 0, 1, None)
        return lse + shift[0]

    def _differentiate(self, piece, x, origin, z, slopes, out):
        """Write derivatives with respect to the logits, from those with respect to `z`, which is overwritten."""
        if self.caps:
            self.backend.cap_slopes(x, self.transform.softcap, self.transform.temperature, slopes, out)
            return
        if piece.slope is None:
            out[...] = np.divide(slopes, self.transform.temperature, out=z)
            return
        # weights of 0, as in rows that are left out, take out whatever the logits are
        piece.slope.run((x, origin, None, slopes), 1.0, z, 0, 1, np.empty((1, 2)))
        out[...] = z

    def _elements(self, purpose, x, across, weights=None):
        """The pointwise kernel of the transform, for logits like `x` and one origin per row, or per column if
        `across`."""
        transform, lengths = self.transform, (1, *x.shape)
        layouts = (x.dtype.name, 0, *x.strides), ("float64", 0, *((0, 8) if across else (8, 0))), None, weights
        return self.backend.element_kernel(
            transform.formula, f"rows_{purpose}", FLOAT64, transform.parameters, lengths, layouts, lengths[1]
        )

    def _piece(self, x, y, reference, n):
        """The kernels for n rows."""
        across, packed = self.across, ("float64", 8 * x.size, 8 * x.shape[1], 8)
        target = None
        if y is not None:
            target = packed if self.op == "dense" else (self.layouts[1][0], 0, 0, y.strides[0])
        of_rows = ("float64", 0, 8 * n, 8)
        outs = [
            None if layout is None else packed if self._is_per_class(k) else of_rows
            for k, layout in enumerate(self.layouts[2])
        ]
        if self.op == "score":
            outs[2:] = [("int64", 0, 8 * n, 8), ("bool", 0, n, 1), None]
        elif self.op == "compare":
            outs[1] = ("bool", 0, n, 1)
        slope = self.transform.softcap is not None and self.op in ("index", "dense", "known") and outs[1] is not None
        own = self.caps or self.tempers
        return _Piece(
            None if own else self._elements("each", x, across),
            None if own or reference is None else self._elements("each", reference, across),
            self._elements("slope", x, across, packed) if slope and not self.caps else None,
            self.backend.row_kernel(
                self.op,
                across,
                FLOAT64,
                (1, *x.shape),
                packed,
                target,
                ("float64", 8 * n, 8 * n, 8) if self.op == "known" else self.w if reference is None else packed,
                tuple(outs),
                -(-n // self.unit),
                *self.constants,
            ),
            tuple(None if out is packed else out for out in outs),
        )


class _Piece(NamedTuple):
    """Kernels for a number of rows, and the layouts of their outputs."""

    transform: object
    reference: object  # the same for the logits that others are compared with
    slope: object  # of a soft cap
    rows: object
    outs: tuple


def _origins(x, axis):
    """The largest logit of each row in float64; 0 where that is infinite or NaN."""
    if x.dtype.itemsize == 2:  # compared as integers of the same order
        top = _in_order(np.max(_in_order(x.view(np.int16)), axis=axis)).view(x.dtype).astype(FLOAT64)
    else:
        top = np.max(x, axis=axis).astype(FLOAT64)
    top[~np.isfinite(top)] = 0.0
    return top


def _in_order(v):
    """The bits of halves as integers in the same order, and back."""
    return v ^ ((v >> 15) & 0x7FFF)


def transformed_rows(transform, x):
    """Yield (slice of rows, counted in C order; their transformed logits) for a few rows of x (..., n_classes) at a
    time."""
    shape, n_classes = x.shape[:-1], x.shape[-1]
    n_rows = math.prod(shape)
    step = max(1, PIECE // max(n_classes, 1))
    for first in range(0, n_rows, step):
        rows = slice(first, min(first + step, n_rows))
        part = x[np.unravel_index(np.arange(rows.start, rows.stop), shape)] if shape else x[None]
        result = np.empty(part.shape)
        with np.errstate(all="ignore"):
            TransformedTiles(transform, FLOAT64, _origins(part, 1)).put(part, result)
        yield rows, result


class TransformedTiles:
    """The same for logits that come in tiles of classes, so that no row's largest is known: logits are transformed one
    by one."""

    def __init__(self, transform, real, origins=None):
        """origins : of each row, if they are known after all."""
        self.transform = transform.absolute(real.itemsize == 4)
        self.origins = np.zeros(1) if origins is None else origins

    def put(self, x, out):
        """x (n_rows, n_classes) of any strides, transformed, to `out`, which is float64 and contiguous."""
        self._run("each", x, None, out)

    def differentiate(self, x, slopes, out):
        """Derivatives with respect to x from those with respect to what `put` made of it; all arrays are contiguous."""
        with np.errstate(all="ignore"):
            if self.transform.softcap is None:
                np.divide(slopes, self.transform.temperature, out=out, casting="unsafe")
                return
            wide = np.empty(x.shape)
            self._run("slope", x, slopes, wide)
            out[...] = wide

    def _run(self, purpose, x, weights, out):
        transform, (n_rows, width) = self.transform, x.shape
        block, n_blocks = _plan.block_size(n_rows, width)
        layouts = (
            (x.dtype.name, 0, *x.strides),
            ("float64", 0, 8 if self.origins.size > 1 else 0, 0),
            None,
            None if weights is None else ("float64", 0, *weights.strides),
        )
        kernel = _plan.backend().element_kernel(
            transform.formula, f"rows_{purpose}", FLOAT64, transform.parameters, (1, n_rows, width), layouts, block
        )
        operands, partials = (x, self.origins, None, weights), np.empty((n_blocks, 2))
        ns = _costs.of_elements(transform.formula.ns, purpose == "slope", wide=True)
        with np.errstate(all="ignore"):
            _plan.run(lambda first, last: kernel.run(operands, 1.0, out, first, last, partials), n_blocks, x.size, ns)
