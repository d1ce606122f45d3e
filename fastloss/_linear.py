"""Cross-entropy of a linear layer's outputs, which exist only tile by tile: rows by classes, as much as fits into the cache.

The products are NumPy's, that is, the platform's BLAS with its own threads; a kernel reduces each tile to a few numbers a row
while it is in cache.  Gradients compute each tile a second time.
"""

import numpy as np

from fastloss import _arrays, _classes, _errors, _places, _plan, _reduce, _tiles
from fastloss._pointwise import Checks, Gradient
from fastloss._tiles import LEAST, TILE

# Elements of a tile of weights where these have to be converted; rows that share a tile of weights.  A product of such tiles is
# long enough for a BLAS to run at its full speed.
CONVERTED = 1 << 22
ROWS = 1024


class Gradients(Gradient):
    """Passed as `out=`: asks for derivatives with respect to any of `hidden`, `linear_weight` and `linear_bias`."""

    def __init__(self, wanted):
        super().__init__(wanted.get("hidden"))
        self.wanted = wanted  # names, and where the caller wants each, or None
        self.arrays = {}  # where they are


def evaluate(hidden, linear_weight, target, *, bias, weight, ignore_index, label_smoothing, reduction, out):
    """`linear_cross_entropy`: arguments to tiles, tiles to kernels, rows to a result."""
    if place := _places.elsewhere(hidden, linear_weight, target, bias, weight):
        return place.linear(
            hidden,
            linear_weight,
            target,
            bias=bias,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            out=out,
        )
    _reduce.check(reduction)
    h, a, b = layer_of(hidden, linear_weight, bias)
    n_classes, rows_shape = a.shape[0], h.shape[:-1]
    y, is_index = _classes.target_of((*rows_shape, n_classes), len(rows_shape), target)
    ignore_index = _classes.wide_index(ignore_index)
    smoothing = _classes.share_smoothed(label_smoothing)
    operands = [operand for operand in (h, a, b, None if is_index else y) if operand is not None]
    real = _arrays.real_type(*operands)
    w = _classes.class_weights(weight, n_classes)
    head = Head(h, a, b, w, smoothing, real)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    if isinstance(out, Checks):
        return out.take(real, h.shape, is_index=is_index, ignore_index=ignore_index)
    call = _classes.Call(None, h, y, w, real, reduction, out)
    if call.out is not None and reduction == "none":
        _arrays.check_out(call.out, rows_shape)
    wanted = wanted_of(call.request, h, a, b)
    if is_index:
        divisor = _classes.weigh_labels(y, n_classes, w, ignore_index)
        head.labels = _classes.wide_labels(y, ignore_index)
        count = np.count_nonzero(head.labels >= 0)
    else:
        divisor = count = head.n_rows
        head.y = y.reshape(head.n_rows, n_classes)
    scale = call.scale(_reduce.inverse(divisor))
    gradients = {}
    for name, (requested, operand) in wanted.items():
        gradients[name] = _arrays.destination(requested, operand.shape, real, operands)
    losses = head.losses(gradients, scale)
    with np.errstate(over="ignore", invalid="ignore"):
        call.losses, total = losses.astype(real).reshape(rows_shape), np.sum(losses)
    call.gradient = gradients.get("hidden")
    if isinstance(call.request, Gradients):
        for name, (requested, _) in wanted.items():
            call.request.arrays[name] = _arrays.delivered(gradients[name], requested)
    return call.result((total, divisor, count), divisor)


def layer_of(hidden, linear_weight, bias):
    """The layer's inputs, weights and bias as float arrays whose shapes fit."""
    h, a = _arrays.floats(hidden, "hidden"), _arrays.floats(linear_weight, "linear_weight")
    if h.ndim == 0:
        raise _errors.no_axis("hidden")
    if a.ndim != 2 or a.shape[1] != h.shape[-1]:
        raise _errors.wrong_shape(
            "linear_weight", a.shape, f"(n_classes, {h.shape[-1]}), as hidden has shape {h.shape}"
        )
    b = None if bias is None else _arrays.floats(bias, "linear_bias")
    if b is not None and b.shape != a.shape[:1]:
        raise _errors.wrong_shape("linear_bias", b.shape, f"({len(a)},), one a class")
    return h, a, b


def wanted_of(request, h, a, b, check_out=_arrays.check_out):
    """The names of the gradients that are asked for, each with where it is wanted and what it is of."""
    if request is None:
        return {}
    wanted = request.wanted if isinstance(request, Gradients) else {"hidden": request.requested}
    found = {}
    for name, operand in (("hidden", h), ("linear_weight", a), ("linear_bias", b)):
        if name in wanted:
            if operand is None:
                raise _errors.gradient_of_nothing(name)
            if wanted[name] is not None:
                check_out(wanted[name], operand.shape)
            found[name] = (wanted[name], operand)
    return found


class Head:
    """A linear layer and its inputs: what the logits would be made of."""

    def __init__(self, h, a, b, w, smoothing, real):
        n_features = h.shape[-1]
        self.n_rows = h.size // n_features if n_features else int(np.prod(h.shape[:-1]))
        if len(a) == 0 and self.n_rows:
            raise _errors.no_classes("linear_weight", a.shape)
        self.h, self.a, self.w, self.real = h.reshape(self.n_rows, n_features), a, w, real
        self.b = None if b is None else np.ascontiguousarray(b, real)
        self.keep, self.smoothing = 1.0 - smoothing, smoothing
        self.labels = self.y = self.spread = None

    def cut(self, limited=False):
        """Cut rows and classes into tiles, and make room for one; its weights may be limited to `CONVERTED` elements."""
        n_classes, n_features = self.a.shape
        converts = self.a.dtype != self.real
        self.height = max(1, min(ROWS, self.n_rows))
        most = TILE // self.height
        if converts or limited:
            most = min(most, CONVERTED // max(n_features, 1))
        n_tiles = -(-n_classes // max(most, LEAST))
        self.width = -(-n_classes // max(n_tiles, 1))
        self.tiles = [(start, min(start + self.width, n_classes)) for start in range(0, n_classes, max(self.width, 1))]
        self.logits = np.empty(self.height * max(self.width, LEAST), self.real)
        self.converted = np.empty((self.width, n_features), self.real) if converts else None

    def chunks(self):
        """Slices of as many rows as a tile has."""
        for first in range(0, self.n_rows, self.height):
            yield slice(first, min(first + self.height, self.n_rows))

    def inputs(self, rows):
        """The layer's inputs in the type that is computed in."""
        return np.ascontiguousarray(self.h[rows], self.real)

    def losses(self, gradients, scale):
        """Each row's loss in float64; `scale` times the derivatives of their sum are written to `gradients`, by name."""
        n_classes, n_features = self.a.shape
        self.spread = self.smoothing / max(n_classes, 1) if self.smoothing or self.labels is None else None
        self.cut(limited="linear_weight" in gradients)
        if gradients:
            self.slopes = np.empty_like(self.logits)
        if "hidden" in gradients:
            self.product = np.empty((self.height, n_features), self.real)
        if "linear_weight" in gradients and self.n_rows > self.height:
            self.layer_product = np.empty((self.width, n_features), self.real)
        for name, gradient in gradients.items():
            if name == "hidden" or not self.n_rows:  # others are written before anything is added
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
        """Add what these rows contribute to the gradients; the sum of the bias's goes to `sums`, in float64."""
        state, tails, weights = known
        owns = weights * (self.spread or 0.0)
        ignored = None if self.labels is None else self.labels[rows] < 0
        inputs = h
        if "linear_weight" in gradients and ignored is not None and ignored.any():
            inputs = h.copy()  # 0 times what an ignored row holds is 0, whatever that is
            inputs[ignored] = 0.0
        for start, stop in self.tiles:
            layer = self.weights(start, stop)
            slopes = self.slopes[: len(h) * (stop - start)].reshape(len(h), -1)
            more = (state, tails, self.keep * weights, owns, scale, slopes)
            self.tile("slope_tile", h, rows, start, stop, layer, *more)
            with np.errstate(all="ignore"):
                if "hidden" in gradients:
                    product = self.product[: len(h)]
                    np.matmul(slopes, layer, out=product)
                    gradients["hidden"].reshape(self.h.shape)[rows] += product
                if "linear_weight" in gradients:
                    gradient = gradients["linear_weight"][start:stop]
                    if rows.start == 0:
                        np.matmul(slopes.T, inputs, out=gradient)
                    else:
                        product = self.layer_product[: stop - start]
                        np.matmul(slopes.T, inputs, out=product)
                        gradient += product
                if sums is not None:
                    sums[start:stop] += np.sum(slopes, axis=0, dtype=np.float64)
        if "hidden" in gradients and ignored is not None:
            gradients["hidden"].reshape(self.h.shape)[rows][ignored] = 0.0

    def tile(self, op, h, rows, start, stop, layer, *more):
        """Compute a tile of logits and call a kernel on it, which adds the bias; the logits."""
        n_rows, width = len(h), stop - start
        logits = self.logits[: n_rows * max(width, LEAST)].reshape(n_rows, -1)
        with np.errstate(all="ignore"):
            np.matmul(h, layer.T, out=logits[:, :width])
        logits[:, width:] = -np.inf
        bias = None if self.b is None else self.b[start:stop]
        labels = None if self.labels is None else self.labels[rows]
        y = None if self.y is None else np.ascontiguousarray(self.y[rows, start:stop], self.real)
        w = None if self.w is None else self.w[start:stop]
        kernel = _plan.backend().kernel(None, op, self.real)
        block, n_blocks = _plan.block_size(n_rows, width)
        inputs = (logits, start, width, bias, labels, y, w, self.keep, self.spread)
        _plan.run(lambda first, last: kernel(*inputs, block, first, last, *more), n_blocks, logits.size)
        return logits[:, :width]

    def weights(self, start, stop):
        """The layer's weights for these classes, in the type that is computed in."""
        part = self.a[start:stop]
        if self.converted is None:
            return part
        converted = self.converted[: stop - start]
        np.copyto(converted, part, casting="unsafe")
        return converted
