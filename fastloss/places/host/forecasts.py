"""Plans of Brier scores and calibration errors: those of probabilities by kernels where the backend has them, all else by
NumPy, one batch of rows at a time.

Each batch is converted to float64 when it is read, unless only its maxima are needed, so that no array of the predictions' size is
made.
"""

import math

import numpy as np

from fastloss import _arrays, _plan, _reduce, losses
from fastloss.calls.resolve import cast_of, index_cast, signature
from fastloss.calls.want import Bins, Sums
from fastloss.places.host.elements import require_inside
from fastloss.places.host.labels import raise_bad_label, usable_labels
from fastloss.places.host.operands import REALS
from fastloss.places.host.rows import Geometry, RowKernel

# The number of predictions in a batch, unless a single row has more.
SPAN = 1 << 15

# From this many classes on, NumPy is faster with batches in the layout (rows, classes); fewer are in the layout
# (classes, rows).
LONG_ROW = 128

# The least number of nanoseconds per prediction.
NS = 2.0

# The largest number of sums of all blocks together, about a MiB.
MOST_SUMS = 1 << 17


def plan_of(resolved, arrays, out):
    """The plan of a `Forecasts`."""
    does = "MEASURES_DISTANCES" if resolved.bins is None else "CALIBRATES"
    if not resolved.from_logits and getattr(_plan.backend(), does, False):
        rows = _kernel(resolved, *arrays)
        if rows is not None:
            return (_Distances if resolved.bins is None else _Bins)(resolved, rows, arrays[0].dtype)
    return _Forecasts(resolved, arrays[0].dtype)


def _kernel(resolved, x, y):
    """The kernel for these arrays, or None if it could not read them as they lie."""
    real = REALS[resolved.real]
    x, axis = (x[:, None], 1) if resolved.axis is None else (x, resolved.axis)
    if not (x.dtype.isnative and x.flags.aligned and y.dtype.isnative and y.flags.aligned):
        return None
    casts = cast_of(signature(x), resolved.real), index_cast(signature(y)), None
    if casts[0] is not None or Geometry(x, axis).copies_x:
        return None
    if resolved.bins is None:
        op, edges, m, most_blocks = "distance", None, 0, None
    else:
        op, edges, m = "calibration", np.empty(resolved.bins), resolved.bins
        most_blocks = max(1, MOST_SUMS // (3 * resolved.bins))
    if resolved.axis is None:
        op = {"distance": "event", "calibration": "event calibration"}[op]
    arrays = x, y, edges
    rows = RowKernel(op, real, arrays, casts, axis, (), resolved.ignore_index, m=m, most_blocks=most_blocks)
    return None if rows.compares_first else rows


def _check(bad, operands, resolved):
    """Raise what the kernel found, if it was one: `bad` is what it gave as the first bad row."""
    if bad != math.inf:
        if bad < 0.0:
            require_inside(operands[0], "probs", losses.PROBABILITY)
        raise_bad_label(operands[1], resolved.n_classes, resolved.ignore_index)


class _Distances:
    """The Brier score by a kernel."""

    def __init__(self, resolved, rows, dtype):
        self.resolved, self.rows, self.real = resolved, rows, REALS[resolved.real]

    def __call__(self, operands, out, scale):
        x, y, _ = self.rows.prepared((*operands, None))
        total, _, count, bad = self.rows.sums(x, y, None)
        _check(bad, operands, self.resolved)
        if self.resolved.want.what == "sums":
            return Sums(total, count, int(count))
        return _arrays.scalar(total / count if count else math.nan, self.real)


class _Bins:
    """The calibration error by a kernel."""

    def __init__(self, resolved, rows, dtype):
        self.resolved, self.rows, self.real = resolved, rows, REALS[resolved.real]
        self.edges = upper_edges(resolved, dtype)

    def __call__(self, operands, out, scale):
        resolved, rows = self.resolved, self.rows
        sums = np.zeros(3 * resolved.bins)
        if resolved.n_rows:
            x, y, edges = rows.prepared((*operands, self.edges))
            partials = np.empty((rows.n_blocks, 4 + 3 * resolved.bins))
            rows.run(x, y, edges, (), 1.0, partials)
            _check(partials[:, 3].min(), operands, resolved)
            sums = _reduce.total(partials[:, 4:])
        found = of_sums(resolved, sums)
        if resolved.want.what == "sums":
            return found
        return _arrays.scalar(value_of(resolved, found), self.real)


def distances(x: np.ndarray, y: np.ndarray, axis: int | None, ignore_index: int, from_logits: bool) -> np.ndarray:
    """The squared distance between each row's prediction and its outcome, in float64; rows that are ignored have any.

    `axis` is that of the classes, or None for the probability, or the logit, of label 1.
    """
    rows = x if axis is None else np.moveaxis(x, axis, -1)
    shape = rows.shape if axis is None else rows.shape[:-1]
    n_classes = 2 if axis is None else rows.shape[-1]
    found = np.empty(shape)
    batches = Batches(shape, max(1, SPAN // (1 if axis is None else max(n_classes, 1))))
    for k in range(len(batches)):
        batch = batches[k]
        part = rows[batch].astype(np.float64, order="C")
        labels, _, _ = usable_labels(y[batch].reshape(-1), n_classes, ignore_index)
        predictions = (
            _Event(part.reshape(-1), labels) if axis is None else _Classes(part.reshape(-1, n_classes), labels, 1)
        )
        each = predictions.distances_of_logits() if from_logits else predictions.distances()
        found[batch] = each.reshape(found[batch].shape)
    return found


class _Forecasts:
    def __init__(self, resolved, dtype):
        self.resolved, self.real = resolved, REALS[resolved.real]
        as_it_is = resolved.bins is not None and not resolved.from_logits and dtype in (np.float32, np.float64)
        self.dtype = dtype if as_it_is else np.dtype(np.float64)
        self.copies = not as_it_is  # what is written to
        self.score = _Brier(resolved) if resolved.bins is None else _Calibration(resolved, dtype)
        row_size = 1 if resolved.axis is None else max(resolved.n_classes, 1)
        self.class_axis = 1 if row_size >= LONG_ROW else 0
        self.batches = Batches(resolved.rows_shape, max(1, SPAN // row_size))
        most_blocks = max(1, min(_plan.MAX_BLOCKS, MOST_SUMS // self.score.n_sums))
        self.block = max(1, -(-len(self.batches) // most_blocks))
        self.n_blocks = -(-len(self.batches) // self.block)

    def __call__(self, operands, out, scale):
        found = of_sums(self.resolved, self._sums(*operands))
        if self.resolved.want.what == "sums":
            return found
        return _arrays.scalar(value_of(self.resolved, found), self.real)

    def _sums(self, x, y):
        """The score's sums over all rows; raises for values that are not probabilities, then for labels that are not
        classes."""
        resolved = self.resolved
        if not resolved.n_rows:
            return np.zeros(self.score.n_sums)
        rows = x if resolved.axis is None else np.moveaxis(x, resolved.axis, -1)
        partials = np.empty((self.n_blocks, self.score.n_sums))
        wrong = np.empty((self.n_blocks, 2), bool)

        def run(first, last):
            with np.errstate(all="ignore"):
                for b in range(first, last):
                    partials[b], wrong[b] = 0.0, False
                    for k in range(b * self.block, min((b + 1) * self.block, len(self.batches))):
                        batch = self.batches[k]
                        wrong[b] |= self._add(rows[batch], y[batch], partials[b])

        _plan.run(run, self.n_blocks, x.size, NS, kernel=False)
        outside, bad_label = wrong.any(axis=0)
        if outside:
            require_inside(x, "probs", losses.PROBABILITY)
        if bad_label:
            raise_bad_label(y, resolved.n_classes, resolved.ignore_index)
        return _reduce.total(partials)

    def _add(self, x, y, sums):
        """Add a batch to the sums; returns whether it holds a value that is not a probability, and a label that is not
        a class."""
        resolved = self.resolved
        labels, counted, bad_label = usable_labels(y.reshape(-1), resolved.n_classes, resolved.ignore_index)
        if resolved.axis is not None and self.class_axis == 0:
            x = np.moveaxis(x, -1, 0)
        x = x.astype(self.dtype, order="C", copy=self.copies)  # sums must not depend on strides
        if resolved.axis is None:
            predictions = _Event(x.reshape(-1), labels)
        elif self.class_axis:
            predictions = _Classes(x.reshape(len(labels), -1), labels, 1)
        else:
            predictions = _Classes(x.reshape(-1, len(labels)), labels, 0)
        outside = not resolved.from_logits and not _inside(x)
        if not outside:  # values outside [0, 1] belong to no bin
            self.score.add(predictions, counted, sums)
        return outside, bad_label


def _inside(x):
    """Whether all values are probabilities, or NaN."""
    return bool(np.min(x) >= 0.0 and np.max(x) <= 1.0) or not ((x < 0.0) | (x > 1.0)).any()


class Batches:
    """Indices of rectangular pieces, of up to `most` elements, that make up an array of this shape, in C order."""

    def __init__(self, shape, most):
        inner, axis = 1, len(shape)
        while axis and inner * shape[axis - 1] <= most:
            axis -= 1
            inner *= shape[axis]
        # `axis` is cut into pieces; axes after it stay complete
        self.lead, self.length = (shape[: axis - 1], shape[axis - 1]) if axis else (None, 1)
        self.n_pieces = max(1, -(-self.length // max(1, most // max(inner, 1))))
        self.n_batches = self.n_pieces * math.prod(self.lead or ())

    def __len__(self):
        return self.n_batches

    def __getitem__(self, k):
        if self.lead is None:
            return ...
        i, piece = divmod(k, self.n_pieces)
        start, stop = (self.length * p // self.n_pieces for p in (piece, piece + 1))
        return *np.unravel_index(i, self.lead), slice(start, stop)


# --- sums to results --------------------------------------------------------------------------------------------------


def of_sums(resolved, sums):
    """`Sums` or `Bins` from a score's sums."""
    if resolved.bins is None:
        total, count = map(float, sums)
        return Sums(total, count, int(count))
    return Bins(*np.split(sums, 3))


def value_of(resolved, found):
    """The result from `Sums` or `Bins`."""
    if resolved.bins is None:
        return found.total / found.weight if found.count else math.nan
    return _reduce.calibration_error(found, resolved.values["norm"])


# --- scores: batches to sums ------------------------------------------------------------------------------------------


class _Brier:
    """The sum of squared distances to the target, and the number of rows."""

    n_sums = 2

    def __init__(self, resolved):
        self.from_logits = resolved.from_logits

    def add(self, predictions, counted, sums):
        found = predictions.distances_of_logits() if self.from_logits else predictions.distances()
        found = found if counted is None else found[counted]
        sums += np.sum(found), found.size


def upper_edges(resolved, dtype):
    """The bins' upper edges, in float64."""
    edges = np.arange(1, resolved.bins + 1) / resolved.bins
    # float32's 0.2 is on the edge 0.2, although it is larger than float64's
    rounds = not resolved.from_logits and (dtype.kind == "f" or _arrays.is_bfloat16(dtype))
    return edges.astype(dtype).astype(np.float64) if rounds else edges


class _Calibration:
    """Sums of confidences, hits and rows, per bin."""

    def __init__(self, resolved, dtype):
        self.bins, self.from_logits = resolved.bins, resolved.from_logits
        self.n_sums = 3 * self.bins
        self.upper_edges = upper_edges(resolved, dtype)

    def add(self, predictions, counted, sums):
        confidence, hits = predictions.confidences_of_logits() if self.from_logits else predictions.confidences()
        if counted is not None:
            confidence, hits = confidence[counted], hits[counted]
        # the first edge that is not below; NaN sorts after all edges
        confidence = confidence.astype(np.float64)
        bins = np.minimum(np.searchsorted(self.upper_edges, confidence, side="left"), self.bins - 1)
        for own, weights in zip(np.split(sums, 3), (confidence, hits, None), strict=True):
            own += np.bincount(bins, weights, self.bins)


# --- batches: predictions in float64, which are written to, and labels ------------------------------------------------


class _Event:
    """Predictions of a binary event, (n_rows,)."""

    def __init__(self, x, labels):
        self.x, self.labels = x, labels

    def distances(self):
        return np.square(self.x - self.labels)

    def distances_of_logits(self):
        return np.square(_sigmoid(np.where(self.labels, -self.x, self.x)))

    def confidences(self):
        return self.x, self.labels

    def confidences_of_logits(self):
        return _sigmoid(self.x), self.labels


def _sigmoid(x):
    power = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, power) / (1.0 + power)


class _Classes:
    """Predictions of classes along an axis, the first or the last of two."""

    def __init__(self, x, labels, axis):
        self.x, self.labels, self.axis = x, labels, axis
        every = np.arange(len(labels))
        self.own = (every, labels) if axis else (labels, every)

    def distances(self):
        self.x[self.own] -= 1.0
        return np.sum(np.square(self.x, out=self.x), axis=self.axis)

    def distances_of_logits(self):
        """With e the powers of a row and s their sum without the target's: (s² + Σ e² of the others) / (s + e of the
        target)²."""
        powers = self._powers(np.max(self.x, axis=self.axis))
        own = powers[self.own]
        powers[self.own] = 0.0  # so that nothing cancels if the target's term is nearly the whole sum
        others = np.sum(powers, axis=self.axis)
        squares = np.sum(np.square(powers, out=powers), axis=self.axis)
        return (np.square(others) + squares) / np.square(others + own)

    def confidences(self):
        top = np.max(self.x, axis=self.axis)
        return top, self._hits(top)

    def confidences_of_logits(self):
        top = np.max(self.x, axis=self.axis)
        hits = self._hits(top)
        return 1.0 / np.sum(self._powers(top), axis=self.axis), hits

    def _powers(self, top):
        """exp(x - top), in place."""
        self.x -= np.expand_dims(top, self.axis)
        return np.exp(self.x, out=self.x)

    def _hits(self, top):
        """Whether the label is the first of the most likely classes."""
        if self.axis:
            return np.argmax(self.x, axis=1) == self.labels
        hits = self.x[self.own] == top
        # among ties the lower class is the prediction
        classes = np.arange(len(self.x))[:, None]
        return hits & ~np.any((self.x == top) & (classes < self.labels), axis=0)
