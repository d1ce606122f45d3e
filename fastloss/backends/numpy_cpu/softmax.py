"""The softmax family, one batch of rows at a time.

Arguments are those of the compiled kernels.  Rows are (outer, middle, n_classes), columns (outer, n_classes, inner),
which are transposed to rows as a view.  partials: (n_blocks, 4), a block's sums of losses, weights and counted rows,
and its first bad row.

As everywhere in the package one element of a row, the target or otherwise the maximum, is excluded from the sum of
exponentials, so that -log softmax = log1p(s exp(top - x)) keeps the relative accuracy of a tiny loss.
"""

import functools

import numpy as np

from fastloss._array_formulas import formulas_of_rows
from fastloss._tiles import exp_of_difference
from fastloss.backends import LANES
from fastloss.backends.numpy_cpu._widen import SPAN, quietly, wide

NO_BAD = np.inf

scaled, mixed_loss, target_slope = formulas_of_rows().values()

# Below this, a sum relative to the maximum has lost digits, or everything, to underflow.
LEAST_SUM = 1e-270


class Batch:
    """Some rows (n, n_classes) in float64, relative to their maxima."""

    def __init__(self, x):
        self.x = wide(x)
        self.top = np.max(self.x, axis=1, keepdims=True)
        # the differences of narrower logits are exact in float64
        self.powers = exp_of_difference(1.0, self.x, self.top) if x.dtype.itemsize == 8 else np.exp(self.x - self.top)
        self.every = np.arange(len(self.x))

    def others(self, left_out):
        """(s, g) such that s exp(g) is the sum of exp(x) over all classes of each row except `left_out`."""
        powers = self.powers.copy()
        powers[self.every, left_out] = 0.0
        s, g = np.sum(powers, axis=1), self.top[:, 0].copy()
        (small,) = np.nonzero(s < LEAST_SUM)
        if len(small):
            rest = self.x[small]
            own = rest[np.arange(len(small)), left_out[small]]
            rest[np.arange(len(small)), left_out[small]] = -np.inf
            base = np.max(rest, axis=1)
            base = np.where(base > -np.inf, base, own)
            s[small] = np.sum(exp_of_difference(1.0, rest, base[:, None]), axis=1)
            g[small] = base
        return s, g

    def nll(self, labels):
        """-log softmax at the labels."""
        (s, g), own = self.others(labels), self.x[self.every, labels]
        gap = g - own
        losses = np.where(gap < 700.0, np.log1p(exp_of_difference(s, g, own)), gap + np.log(s))
        return np.where(self.top[:, 0] == np.inf, np.nan, losses)

    @functools.cached_property
    def rest(self):
        """The sum of exp(x - top) over all classes except the largest; NaN where that is infinite."""
        s, g = self.others(np.argmax(self.x, axis=1))
        rest = exp_of_difference(s, g, self.top[:, 0])
        return np.where(np.isinf(self.top[:, 0]), np.nan, rest)[:, None]

    @functools.cached_property
    def tail(self):
        """logsumexp - top."""
        return np.log1p(self.rest)

    def mixed(self, q):
        """The sum of q times -log softmax, where a q of 0 adds 0; q is (n_classes,) or has a row for each row."""
        # the difference of two float64 logits may overflow; that of their halves does not
        shares = np.sum(scaled(q, 0.5 * self.top - 0.5 * self.x), axis=1)
        return mixed_loss(2.0 * shares, np.sum(q, axis=-1), self.tail[:, 0])

    @property
    def softmax(self):
        return self.powers / (1.0 + self.rest)

    @property
    def log_softmax(self):
        return (self.x - self.top) - self.tail

    @property
    def lse(self):
        return np.where(np.isinf(self.top), self.top, self.top + self.tail)


def _rowwise(middle, n_rows, block, n_classes, first, last):
    """Batches of the rows of blocks [first, last); yields the block's number, the outer index and a slice of rows."""
    step = max(1, SPAN // max(n_classes, 1))
    for b in range(first, last):
        row, end = b * block, min((b + 1) * block, n_rows)
        while row < end:
            i, j = divmod(row, middle)
            stop = min(j + step, middle, j + end - row)
            yield b, i, slice(j, stop)
            row += stop - j


def _columnwise(inner, n_tiles, block, n_classes, first, last):
    """Likewise for blocks that are counted in tiles, of LANES neighbours each."""
    tiles, step = -(-inner // LANES), min(LANES, max(1, SPAN // max(n_classes, 1)))
    for b in range(first, last):
        for q in range(b * block, min((b + 1) * block, n_tiles)):
            start = q % tiles * LANES
            stop = min(start + LANES, inner)
            for some in range(start, stop, step):
                yield b, q // tiles, slice(some, min(some + step, stop))


def as_rows(a):
    """Columns (outer, n_classes, inner) as rows (outer, inner, n_classes)."""
    return None if a is None else a.transpose(0, 2, 1)


def coefficients(y, w, keep, spread):
    """The smoothed, weighted target w (keep y + spread); 0 stays 0 for any weight.  y is None if there is none."""
    q = np.asarray(spread if y is None else keep * wide(y) + spread)
    return q if w is None else np.where(q != 0.0, q * w, 0.0)


def labels_of(target, n_classes, ignore_index):
    """(which labels are not ignored, which are bad, all labels made usable as indices)."""
    ignored = target == ignore_index
    good = (target >= 0) & (target < n_classes)
    return good & ~ignored, ~(good | ignored), np.where(good, target, 0).astype(np.int64)


def note(partials, b, losses, weights, counted, bad, first_row):
    partials[b, 0] += np.sum(losses, where=counted)
    partials[b, 1] += np.sum(weights, where=counted)
    partials[b, 2] += np.count_nonzero(counted)
    if bad.any():
        partials[b, 3] = min(partials[b, 3], first_row + int(np.argmax(bad)))


def begin(partials, first, last):
    partials[first:last] = (0.0, 0.0, 0.0, NO_BAD)


@quietly
def _index(batches, x, target, w, ignore_index, keep, spread, scale, first, last, partials, out, gradient):
    begin(partials, first, last)
    _, middle, n_classes = x.shape
    class_weights = np.ones(n_classes) if w is None else w
    q, mass = 0.0, 0.0
    if spread is not None:
        q = coefficients(None, class_weights, keep, spread)
        mass = np.sum(q)
    for b, i, rows in batches:
        batch = Batch(x[i, rows])
        counted, bad, labels = labels_of(target[i, rows], n_classes, ignore_index)
        v = class_weights[labels]
        share = scaled(keep, v)
        losses = scaled(share, batch.nll(labels))
        if spread is not None:
            losses = losses + batch.mixed(q)
        note(partials, b, losses, v, counted, bad, i * middle + rows.start)
        if out is not None:
            out[i, rows] = np.where(counted, losses, np.where(bad, np.nan, 0.0))
        if gradient is not None:
            p = batch.softmax
            slopes = (share + mass)[:, None] * p - q
            # 1 - p of the target from the others' sum, as the difference would cancel
            rest = exp_of_difference(*batch.others(labels), batch.top[:, 0]) / (1.0 + batch.rest[:, 0])
            own = q[labels] if spread is not None else 0.0
            slopes[batch.every, labels] = target_slope(rest, p[batch.every, labels], share, mass, own)
            gradient[i, rows] = np.where(counted[:, None], scale * slopes, 0.0)


@quietly
def _dense(batches, x, target, w, keep, spread, scale, first, last, partials, out, gradient):
    begin(partials, first, last)
    for b, i, rows in batches:
        batch = Batch(x[i, rows])
        q = coefficients(target[i, rows], w, keep, spread)
        losses = batch.mixed(q)
        everything = np.ones(len(losses), bool)
        note(partials, b, losses, everything, everything, ~everything, 0)
        if out is not None:
            out[i, rows] = losses
        if gradient is not None:
            gradient[i, rows] = scale * (np.sum(q, axis=1, keepdims=True) * batch.softmax - q)


@quietly
def _known(batches, x, target, known, ignore_index, scale, first, last, partials, gradient):
    begin(partials, first, last)
    for _, i, rows in batches:
        batch = Batch(x[i, rows])
        counted, _, labels = labels_of(target[i, rows], x.shape[2], ignore_index)
        factor, own = scale * known[:, i, rows]
        slopes = factor[:, None] * batch.softmax
        slopes[batch.every, labels] = own
        gradient[i, rows] = np.where(counted[:, None], slopes, 0.0)


@quietly
def _normalise(batches, x, lse, log_softmax, softmax):
    for _, i, rows in batches:
        if x.shape[2] == 0:
            if lse is not None:
                lse[i, rows] = -np.inf
            continue
        batch = Batch(x[i, rows])
        if lse is not None:
            lse[i, rows] = batch.lse[:, 0]
        if log_softmax is not None:
            log_softmax[i, rows] = batch.log_softmax
        if softmax is not None:
            softmax[i, rows] = batch.softmax


def row_batches(x, block, first, last):
    return _rowwise(x.shape[1], x.shape[0] * x.shape[1], block, x.shape[2], first, last)


def column_batches(x, block, first, last):
    return _columnwise(x.shape[2], x.shape[0] * -(-x.shape[2] // LANES), block, x.shape[1], first, last)


def index_rows(x, target, w, ignore_index, keep, spread, scale, block, first, last, partials, out, gradient):
    batches = row_batches(x, block, first, last)
    _index(batches, x, target, w, ignore_index, keep, spread, scale, first, last, partials, out, gradient)


def index_columns(x, target, w, ignore_index, keep, spread, scale, block, first, last, partials, out, gradient):
    batches = column_batches(x, block, first, last)
    x, gradient = as_rows(x), as_rows(gradient)
    _index(batches, x, target, w, ignore_index, keep, spread, scale, first, last, partials, out, gradient)


def dense_rows(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    batches = row_batches(x, block, first, last)
    _dense(batches, x, target, w, keep, spread, scale, first, last, partials, out, gradient)


def dense_columns(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    batches = column_batches(x, block, first, last)
    x, target, gradient = as_rows(x), as_rows(target), as_rows(gradient)
    _dense(batches, x, target, w, keep, spread, scale, first, last, partials, out, gradient)


def known_rows(x, target, known, ignore_index, scale, block, first, last, partials, gradient):
    batches = row_batches(x, block, first, last)
    _known(batches, x, target, known, ignore_index, scale, first, last, partials, gradient)


def known_columns(x, target, known, ignore_index, scale, block, first, last, partials, gradient):
    batches = column_batches(x, block, first, last)
    x, gradient = as_rows(x), as_rows(gradient)
    _known(batches, x, target, known, ignore_index, scale, first, last, partials, gradient)


def normalise_rows(x, block, first, last, lse, log_softmax, softmax):
    _normalise(row_batches(x, block, first, last), x, lse, log_softmax, softmax)


def normalise_columns(x, block, first, last, lse, log_softmax, softmax):
    batches = column_batches(x, block, first, last)
    _normalise(batches, as_rows(x), lse, as_rows(log_softmax), as_rows(softmax))


@quietly
def gather_index(x, target, w, ignore_index, take_log, scale, block, first, last, partials, out, gradient):
    begin(partials, first, last)
    outer, n_classes, inner = x.shape
    for b, i, rows in _rowwise(inner, outer * inner, block, n_classes if take_log else 1, first, last):
        counted, bad, labels = labels_of(target[i, rows], n_classes, ignore_index)
        columns = np.arange(rows.start, rows.stop)
        values = wide(x[i, labels, columns])
        slopes = np.full(values.shape, -1.0)
        if take_log:
            slopes = np.where(values != 0.0, -1.0 / values, -np.inf)
            values = np.where(values <= 1.0, np.log(values), np.nan)
        v = np.ones(len(labels)) if w is None else wide(w)[labels]
        losses = scaled(v, -values)
        note(partials, b, losses, v, counted, bad, i * inner + rows.start)
        if out is not None:
            out[i, rows] = np.where(counted, losses, np.where(bad, np.nan, 0.0))
        if gradient is not None:
            gradient[i, :, rows] = 0.0
            gradient[i, labels[counted], columns[counted]] = scaled(v * scale, slopes)[counted]
        elif take_log and may_be_beyond(x[i, :, rows]):
            partials[b, 3] = -1.0


def may_be_beyond(x):
    """Whether some probabilities may lie outside [0, 1]."""
    x = wide(x) if x.dtype.itemsize == 2 else x
    return x.size and not (np.min(x) >= 0.0 and np.max(x) <= 1.0)


KERNELS = {
    f.__name__: f
    for f in (
        index_rows,
        dense_rows,
        known_rows,
        normalise_rows,
        index_columns,
        dense_columns,
        known_columns,
        normalise_columns,
        gather_index,
    )
}
