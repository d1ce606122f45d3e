"""Cross-entropy of a linear layer's outputs, which exist only tile by tile: rows by classes, as much as fits into the cache.

The products are NumPy's, that is, the platform's BLAS with its own threads; a kernel reduces each tile to a few numbers a row
while it is in cache.  The gradient computes each tile a second time.
"""

import numpy as np

from fastloss import _arrays, _classes, _errors, _places, _plan, _reduce
from fastloss.backends import MASS, OWN, SHARE, TOP, G, S

# Elements of a tile of logits, and of a tile of weights where these have to be converted; rows that share a tile of weights, and
# classes it has at least.  A product of such tiles is long enough for a BLAS to run at its full speed.
TILE = 1 << 22
CONVERTED = 1 << 22
ROWS = 1024
LEAST = 128  # what kernels of long rows need: narrower tiles are filled up


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
    h, a = _arrays.floats(hidden, "hidden"), _arrays.floats(linear_weight, "linear_weight")
    if h.ndim == 0:
        raise _errors.no_axis("hidden")
    if a.ndim != 2 or a.shape[1] != h.shape[-1]:
        raise _errors.wrong_shape(
            "linear_weight", a.shape, f"(n_classes, {h.shape[-1]}), as hidden has shape {h.shape}"
        )
    n_classes = a.shape[0]
    rows_shape = h.shape[:-1]
    y, is_index = _classes.target_of((*rows_shape, n_classes), len(rows_shape), target)
    b = None if bias is None else _arrays.floats(bias, "linear_bias")
    if b is not None and b.shape != (n_classes,):
        raise _errors.wrong_shape("linear_bias", b.shape, f"({n_classes},), one a class")
    ignore_index = _classes.wide_index(ignore_index)
    smoothing = _classes.share_smoothed(label_smoothing)
    operands = [operand for operand in (h, a, b, None if is_index else y) if operand is not None]
    real = _arrays.real_type(*operands)
    w = _classes.class_weights(weight, n_classes, real)
    n_rows = h.size // h.shape[-1] if h.shape[-1] else int(np.prod(rows_shape))
    if n_classes == 0 and n_rows:
        raise _errors.no_classes("linear_weight", a.shape)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    call = _classes.Call(None, h, y, w, real, reduction, out)
    if call.out is not None and reduction == "none":
        _arrays.check_out(call.out, rows_shape)
    head = Head(h.reshape(n_rows, h.shape[-1]), a, b, w, smoothing, real)
    if is_index:
        divisor = _classes.weigh_labels(y, n_classes, w, ignore_index)
        head.take_labels(y, ignore_index)
        count = np.count_nonzero(head.labels >= 0)
    else:
        divisor = count = n_rows
        head.y = y.reshape(n_rows, n_classes)
    slopes = None
    scale = 1.0
    if call.request:
        if call.request.requested is not None:
            _arrays.check_out(call.request.requested, h.shape)
        call.gradient = np.zeros(h.shape, real)
        slopes = call.gradient.reshape(head.h.shape)
        scale = _reduce.inverse(divisor) if reduction == "mean" else 1.0
    losses = head.losses(slopes, scale)
    with np.errstate(over="ignore", invalid="ignore"):
        call.losses, total = losses.astype(real).reshape(rows_shape), np.sum(losses)
    return call.result((total, divisor, count), divisor)


class Head:
    """A linear layer and its inputs: what the logits would be made of."""

    def __init__(self, h, a, b, w, smoothing, real):
        self.h, self.a, self.w, self.real = h, a, w, real
        self.b = None if b is None else np.ascontiguousarray(b, real)
        self.keep, self.smoothing = 1.0 - smoothing, smoothing
        self.labels = self.y = None

    def take_labels(self, y, ignore_index):
        """Labels that are known to be good."""
        self.labels = y.astype(np.int64).reshape(-1)
        counted = _classes.counted_labels(y, ignore_index)
        if counted is not None:
            self.labels[~counted.reshape(-1)] = -1

    def losses(self, gradient=None, scale=1.0):
        """Each row's loss in float64; `scale` times the derivative of their sum by the inputs is written to `gradient`."""
        n_rows, n_classes = self.h.shape[0], self.a.shape[0]
        self.spread = self.smoothing / max(n_classes, 1) if self.smoothing or self.labels is None else None
        height = max(1, min(ROWS, n_rows))
        most = TILE // height
        if self.a.dtype != self.real:
            most = min(most, CONVERTED // max(self.a.shape[1], 1))
        n_tiles = -(-n_classes // max(most, LEAST))
        width = -(-n_classes // max(n_tiles, 1))
        self.tiles = [(start, min(start + width, n_classes)) for start in range(0, n_classes, max(width, 1))]
        self.logits = np.empty(height * max(width, LEAST), self.real)
        if self.a.dtype != self.real:
            self.converted = np.empty((width, self.a.shape[1]), self.real)
        if gradient is not None:
            self.slopes = np.empty_like(self.logits)
            self.product = np.empty((height, self.a.shape[1]), self.real)
        losses = np.zeros(n_rows)
        for first in range(0, n_rows, height):
            rows = slice(first, min(first + height, n_rows))
            losses[rows] = self._chunk(rows, None if gradient is None else gradient[rows], scale)
        return losses

    def _chunk(self, rows, gradient, scale):
        """The losses of so many rows as a tile has."""
        h = np.ascontiguousarray(self.h[rows], self.real)
        state = np.zeros((len(h), 6))
        state[:, TOP] = -np.inf
        for start, stop in self.tiles:
            self._run("reduce_tile", h, rows, start, stop, state)
        labels = None if self.labels is None else self.labels[rows]
        with np.errstate(all="ignore"):
            tails = np.log1p(state[:, S] * np.exp(state[:, G] - state[:, TOP]))
            tails[np.isinf(state[:, TOP])] = np.nan
            losses, weights = 0.0, np.zeros(len(h))
            if labels is not None:
                weights = np.ones(len(h)) if self.w is None else self.w.astype(np.float64)[labels]
                nll = (state[:, TOP] - state[:, OWN]) + tails
                losses = self.keep * weights * nll
                losses[(self.keep * weights == 0.0) & ~np.isnan(nll)] = 0.0
            if self.spread is not None:
                losses = losses + (state[:, SHARE] + state[:, MASS] * tails)
            if labels is not None:
                losses[labels < 0] = 0.0
        if gradient is not None:
            owns = weights * (self.spread or 0.0)
            product = self.product[: len(h)]
            for start, stop in self.tiles:
                slopes = self.slopes[: len(h) * (stop - start)].reshape(len(h), -1)
                self._run("slope_tile", h, rows, start, stop, state, tails, self.keep * weights, owns, scale, slopes)
                np.matmul(slopes, self._weights(start, stop), out=product)
                gradient += product
        return losses

    def _run(self, op, h, rows, start, stop, *more):
        """Compute a tile of logits and call a kernel on it."""
        n_rows, width = len(h), stop - start
        logits = self.logits[: n_rows * max(width, LEAST)].reshape(n_rows, -1)
        with np.errstate(all="ignore"):
            np.matmul(h, self._weights(start, stop).T, out=logits[:, :width])
        logits[:, width:] = -np.inf
        bias = None if self.b is None else self.b[start:stop]
        labels = None if self.labels is None else self.labels[rows]
        y = None if self.y is None else np.ascontiguousarray(self.y[rows, start:stop], self.real)
        w = None if self.w is None else self.w[start:stop]
        kernel = _plan.backend().kernel(None, op, self.real)
        block, n_blocks = _plan.block_size(n_rows, width)
        inputs = (logits, start, width, bias, labels, y, w, self.keep, self.spread)
        _plan.run(lambda first, last: kernel(*inputs, block, first, last, *more), n_blocks, logits.size)

    def _weights(self, start, stop):
        """The layer's weights for these classes, in the type that is computed in."""
        part = self.a[start:stop]
        if part.dtype == self.real:
            return part
        converted = self.converted[: stop - start]
        np.copyto(converted, part, casting="unsafe")
        return converted
