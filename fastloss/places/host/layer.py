"""Cross-entropy of a linear layer's outputs, which exist only tile by tile: rows by classes, as many as fit into the
cache.

The products are NumPy's, that is, the platform's BLAS with its own threads; a kernel reduces each tile to a few numbers
per row while it is in cache.  Gradients compute each tile a second time.
"""

import numpy as np

from fastloss import _arrays, _costs, _plan, _reduce, _tiles
from fastloss._arrays import stored
from fastloss._tiles import LEAST, TILE
from fastloss.calls import transforms
from fastloss.calls.resolve import Rows, cast_of, signature
from fastloss.calls.want import Sums, slopes
from fastloss.losses import CROSS_ENTROPY
from fastloss.places.host.labels import weigh_labels, wide_labels
from fastloss.places.host.operands import REALS, check_out, class_weights, destination, prepare, steps_of
from fastloss.places.host.rows import plan_of as plan_of_rows
from fastloss.places.host.transformed import TransformedTiles

# The number of elements in a tile of weights that have to be converted, and of rows that share one.  Products of such
# tiles are large enough for a BLAS to run at full speed.
CONVERTED = 1 << 22
ROWS = 1024

# Multiplications that a BLAS does at a time, which are some 20 ms of them, but of no fewer rows than it needs for its
# full speed.
PRODUCTS = 1 << 31
PRODUCT_ROWS = 256

# Up to so many logits are computed all at once, so that a call costs little more than their product and their cross-entropy.
FEW = 1 << 18


def plan_of(resolved, arrays, out):
    """The plan of a `Layer`."""
    few = 0 < resolved.n_rows * resolved.n_classes <= FEW and arrays[1].size <= CONVERTED
    return (_Small if few and transforms.of(resolved.values) is None else _Plan)(resolved, arrays, out)


def _check_outs(resolved, arrays, out):
    if resolved.want.what == "slopes":
        names = dict(zip(resolved.names, arrays, strict=True))
        for name, requested in zip(resolved.want.wrt, out, strict=True):
            check_out(requested, names[name].shape)
    else:
        check_out(out, resolved.result_shape)


class _Small:
    """The cross-entropy of few logits, all of which are computed at once."""

    def __init__(self, resolved, arrays, out):
        _check_outs(resolved, arrays, out)
        self.resolved, self.real = resolved, REALS[resolved.real]
        self.inputs_shape = resolved.n_rows, resolved.n_features
        self.shape = (*resolved.rows_shape, resolved.n_classes)
        self.wrt = resolved.want.wrt
        y, w = arrays[2], arrays[4]
        cast = resolved.casts[2] if resolved.is_index else cast_of(signature(y), resolved.real)
        self.losses = plan_of_rows(
            Rows(
                CROSS_ENTROPY,
                slopes("logits") if self.wrt else resolved.want,
                "index" if resolved.is_index else "dense",
                CROSS_ENTROPY.operands,
                (None, cast, resolved.casts[4]),
                resolved.real,
                self.shape,
                len(self.shape) - 1,
                resolved.values,
            ),
            (np.empty(self.shape, self.real), y, w),
            (None,) if self.wrt else out,
        )

    def __call__(self, operands, out, scale):
        h, a, y, b, w = operands
        with np.errstate(all="ignore"):
            inputs, layer = _as_real(h, self.real).reshape(self.inputs_shape), _as_real(a, self.real)
            logits = np.matmul(inputs, layer.T)
            if b is not None:
                logits += _as_real(b, self.real)
        logits = logits.reshape(self.shape)
        if not self.wrt:
            return self.losses((logits, y, w), out, None)
        value, (gradient,) = self.losses((logits, y, w), (None,), scale)
        gradient = gradient.reshape(len(inputs), -1)
        ignored = None
        if self.resolved.is_index:
            ignored = wide_labels(y, self.resolved.ignore_index) < 0
        found = {}
        with np.errstate(all="ignore"):
            if "hidden" in self.wrt:
                found["hidden"] = np.matmul(gradient, layer)
            if ignored is not None and ignored.any():  # such rows contribute 0, even if there is NaN
                found.get("hidden", gradient)[ignored] = 0.0
                inputs = np.where(ignored[:, None], self.real.type(0.0), inputs)
            if "linear_weight" in self.wrt:
                found["linear_weight"] = np.matmul(gradient.T, inputs)
            if "linear_bias" in self.wrt:
                found["linear_bias"] = np.sum(gradient, axis=0, dtype=np.float64).astype(self.real)
        named = dict(zip(self.resolved.names, operands, strict=True))
        return value, tuple(
            stored(found[name].reshape(named[name].shape), requested)
            for name, requested in zip(self.wrt, out, strict=True)
        )


def _as_real(a, real):
    return a if a.dtype is real else a.astype(real)


class _Plan:
    def __init__(self, resolved, arrays, out):
        self.resolved, self.real = resolved, REALS[resolved.real]
        self.steps = steps_of(arrays, casts_of(arrays, resolved.casts))
        _check_outs(resolved, arrays, out)

    def __call__(self, operands, out, scale):
        resolved, real = self.resolved, self.real
        h, a, y, b, w = operands if self.steps is None else prepare(self.steps, operands)
        w = class_weights(w)
        head = Head(h, a, b, w, resolved.smoothing, real, resolved.transform)
        if resolved.is_index:
            divisor = weigh_labels(operands[2], resolved.n_classes, w, resolved.ignore_index)
            head.labels = wide_labels(y, resolved.ignore_index)
            count = int(np.count_nonzero(head.labels >= 0))
        else:
            divisor = count = head.n_rows
            head.y = y.reshape(head.n_rows, resolved.n_classes)
        wrt = resolved.want.wrt
        named = dict(zip(resolved.names, (h, a, y, b, w), strict=True))
        requested = dict(zip(wrt, out, strict=True)) if wrt else {}
        gradients = {name: destination(requested[name], named[name].shape, real, (h, a, b, y)) for name in wrt}
        if scale is None:
            scale = _reduce.inverse(divisor) if resolved.reduction == "mean" else 1.0
        losses = head.losses(gradients, scale)
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.sum(losses))
        if resolved.want.what == "sums":
            return Sums(total, float(divisor), count)
        if resolved.reduction == "none":
            with np.errstate(over="ignore", invalid="ignore"):
                return stored(losses.astype(real).reshape(resolved.rows_shape), out)
        value = total if resolved.reduction == "sum" else total / divisor if divisor else np.nan
        value = _arrays.scalar(float(value), real)
        if wrt:
            return value, tuple(stored(gradients[name], requested[name]) for name in wrt)
        return stored(value, out)


def casts_of(arrays, casts):
    """The conversions of operands; floating ones are left to `Head`, which converts them tile by tile."""
    return [
        "float64" if cast is None and a is not None and name != "target" and a.dtype.kind in "biu" else cast
        for a, cast, name in zip(
            arrays, casts, ("hidden", "linear_weight", "target", "linear_bias", "weight"), strict=False
        )
    ]


def multiply(a, b, out):
    """a @ b, a few rows of `a` at a time where it takes long: signal handlers run in between."""
    step = max(PRODUCT_ROWS, PRODUCTS // max(b.size, 1))
    if len(a) < 2 * step:
        np.matmul(a, b, out=out)
        return
    for start in range(0, len(a), step):
        np.matmul(a[start : start + step], b, out=out[start : start + step])


class Head:
    """A linear layer and its inputs, from which tiles of logits are computed."""

    def __init__(self, h, a, b, w, smoothing, real, transform=None):
        n_features = h.shape[-1]
        self.n_rows = h.size // n_features if n_features else int(np.prod(h.shape[:-1]))
        self.h, self.a, self.w, self.real = h.reshape(self.n_rows, n_features), a, w, real
        self.b = None if b is None else np.ascontiguousarray(b, real)
        self.keep, self.smoothing = 1.0 - smoothing, smoothing
        self.labels = self.y = self.spread = None
        # kernels reduce the logits themselves, or their transforms in float64
        self.transformed = None if transform is None else TransformedTiles(transform, real)
        self.kernels_real = real if transform is None else REALS["float64"]

    def cut(self, limited=False):
        """Divide rows and classes into tiles, and allocate one; `limited` limits its weights to `CONVERTED`
        elements."""
        n_classes, n_features = self.a.shape
        converts = self.a.dtype != self.real
        self.height = max(1, min(ROWS, self.n_rows))
        most = (TILE if self.transformed is None else TILE // 4) // self.height
        if converts or limited:
            most = min(most, CONVERTED // max(n_features, 1))
        n_tiles = -(-n_classes // max(most, LEAST))
        self.width = -(-n_classes // max(n_tiles, 1))
        self.tiles = [(start, min(start + self.width, n_classes)) for start in range(0, n_classes, max(self.width, 1))]
        self.logits = np.empty(self.height * max(self.width, LEAST), self.real)
        self.changed = None if self.transformed is None else np.empty(self.logits.size)
        self.converted = np.empty((self.width, n_features), self.real) if converts else None

    def chunks(self):
        """Slices of the rows, one per tile."""
        for first in range(0, self.n_rows, self.height):
            yield slice(first, min(first + self.height, self.n_rows))

    def inputs(self, rows):
        """The layer's inputs, in the dtype that is computed in."""
        return np.ascontiguousarray(self.h[rows], self.real)

    def losses(self, gradients, scale):
        """The loss of each row in float64; writes `scale` times the derivatives of their sum to `gradients`, by
        name."""
        n_classes, n_features = self.a.shape
        self.spread = self.smoothing / max(n_classes, 1) if self.smoothing or self.labels is None else None
        self.cut(limited="linear_weight" in gradients)
        if gradients:
            self.slopes = np.empty_like(self.logits)
            self.changed_slopes = None if self.transformed is None else np.empty_like(self.changed)
        if "hidden" in gradients:
            self.product = np.empty((self.height, n_features), self.real)
        if "linear_weight" in gradients and self.n_rows > self.height:
            self.layer_product = np.empty((self.width, n_features), self.real)
        for name, gradient in gradients.items():
            if name == "hidden" or not self.n_rows:  # the others are accumulated, so they start at 0
                gradient[...] = 0.0
        sums = np.zeros(n_classes) if "linear_bias" in gradients else None
        losses = np.zeros(self.n_rows)
        for rows in self.chunks():
            h = self.inputs(rows)
            state = _tiles.new_state(len(h))
            for start, stop in self.tiles:
                self.tile("reduce_tile", h, rows, start, stop, self.weights(start, stop), state)
            labels = None if self.labels is None else self.labels[rows]
            losses[rows], tails, weights = _tiles.finish(state, labels, self.w, self.keep, self.spread)
            if gradients:
                self._differentiate(h, rows, (state, tails, weights), scale, gradients, sums)
        if sums is not None:
            gradients["linear_bias"][...] = sums
        return losses

    def _differentiate(self, h, rows, known, scale, gradients, sums):
        """Add the contribution of these rows to the gradients; the bias's is summed in `sums`, in float64."""
        state, tails, weights = known
        owns = weights * self.spread if self.spread else np.zeros(len(weights))
        ignored = None if self.labels is None else self.labels[rows] < 0
        inputs = h
        if "linear_weight" in gradients and ignored is not None and ignored.any():
            inputs = h.copy()  # an ignored row contributes 0 even if it holds NaN
            inputs[ignored] = 0.0
        for start, stop in self.tiles:
            layer = self.weights(start, stop)
            slopes, changed = (
                None if room is None else room[: len(h) * (stop - start)].reshape(len(h), -1)
                for room in (self.slopes, self.changed_slopes)
            )
            more = (state, tails, self.keep * weights, owns, scale, slopes if changed is None else changed)
            logits = self.tile("slope_tile", h, rows, start, stop, layer, *more)
            if changed is not None:
                self.transformed.differentiate(logits, changed, slopes)
            with np.errstate(all="ignore"):
                if "hidden" in gradients:
                    product = self.product[: len(h)]
                    multiply(slopes, layer, product)
                    gradients["hidden"].reshape(self.h.shape)[rows] += product
                if "linear_weight" in gradients:
                    gradient = gradients["linear_weight"][start:stop]
                    if rows.start == 0:
                        multiply(slopes.T, inputs, gradient)
                    else:
                        product = self.layer_product[: stop - start]
                        multiply(slopes.T, inputs, product)
                        gradient += product
                if sums is not None:
                    sums[start:stop] += np.sum(slopes, axis=0, dtype=np.float64)
        if "hidden" in gradients and ignored is not None:
            gradients["hidden"].reshape(self.h.shape)[rows][ignored] = 0.0

    def tile(self, op, h, rows, start, stop, layer, *more):
        """Compute a tile of logits and call a kernel on it, or on its transform; returns the logits, including the
        bias."""
        n_rows, width = len(h), stop - start
        logits = self.logits[: n_rows * max(width, LEAST)].reshape(n_rows, -1)
        with np.errstate(all="ignore"):
            multiply(h, layer.T, logits[:, :width])
        logits[:, width:] = -np.inf
        bias = None if self.b is None else self.b[start:stop]
        given = logits
        if self.transformed is not None:
            given = self.changed[: logits.size].reshape(logits.shape)
            if bias is not None:
                with np.errstate(all="ignore"):
                    logits[:, :width] += bias
                bias = None
            self.transformed.put(logits, given)
            self.taken = given[:, :width]
        labels = None if self.labels is None else self.labels[rows]
        y = None if self.y is None else np.ascontiguousarray(self.y[rows, start:stop], self.kernels_real)
        w = None if self.w is None else self.w[start:stop]
        kernel = _plan.backend().tile_kernel(op, self.kernels_real)
        block, n_blocks = _plan.block_size(n_rows, width)
        inputs = (given, start, width, bias, labels, y, w, self.keep, self.spread)
        ns = _costs.of_rows(width, op == "slope_tile", self.kernels_real.itemsize == 8)
        _plan.run(lambda first, last: kernel(*inputs, block, first, last, *more), n_blocks, logits.size, ns)
        return logits[:, :width]

    def weights(self, start, stop):
        """The layer's weights for these classes, in the dtype that is computed in."""
        part = self.a[start:stop]
        if self.converted is None:
            return part
        converted = self.converted[: stop - start]
        np.copyto(converted, part, casting="unsafe")
        return converted
