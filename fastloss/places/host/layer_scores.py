"""Scores of a linear layer's outputs, which exist only tile by tile, see `layer`.

A rank requires the target's logit, which is part of one of the tiles, and only that tile's product gives exactly the
same bits.  In earlier tiles logits are compared with bounds on it, and those between the bounds are kept until it has
been computed.  If it is then outside the bounds, or if too many logits would have to be kept, the tiles are computed
again.
"""

import threading

import numpy as np

from fastloss import _details, _plan, _tiles
from fastloss._order import n_before
from fastloss._scores import Scores, is_in_top_k, kinds
from fastloss.places.host.details import Gathered, n_first, wide_ids
from fastloss.places.host.labels import raise_bad_label, wide_labels
from fastloss.places.host.layer import Head, casts_of
from fastloss.places.host.operands import REALS, prepare, steps_of

# The largest number of logits that are kept for a tile's rows.
KEPT = 1 << 19

# How many rows are compared at once: enough to amortise the calls, few enough to stay in the cache.
ABREAST = 32

# Nanoseconds per comparison of an element with its row's target.
NS = 1.0


def plan_of(resolved, arrays):
    """The plan of a `Scores` of hidden states."""
    return _Plan(resolved, arrays)


class _Plan:
    def __init__(self, resolved, arrays):
        self.resolved, self.real = resolved, REALS[resolved.real]
        x, y, a, b, ids = arrays
        self.steps = steps_of((x, a, y, b), casts_of((x, a, y, b), (None, None, resolved.casts[1], None)))
        self.ids_steps = steps_of((ids,), resolved.casts[4:])

    def __call__(self, operands, out, scale):
        resolved = self.resolved
        h, target, a, b, ids = operands
        operands = h, a, target, b
        h, a, y, b = operands if self.steps is None else prepare(self.steps, operands)
        if ids is not None:
            raise_bad_label(ids, resolved.n_classes, resolved.ignore_index, "ids")
            (ids,) = (ids,) if self.ids_steps is None else prepare(self.ids_steps, (ids,))
            ids = wide_ids(ids, resolved.ignore_index)
        if target is not None:
            raise_bad_label(target, resolved.n_classes, resolved.ignore_index)
        head = Head(h, a, b, None, 0.0, self.real, resolved.transform)
        head.labels = np.full(head.n_rows, -1) if y is None else wide_labels(y, resolved.ignore_index)
        head.cut()
        found = [np.empty(resolved.rows_shape, kind) for kind in kinds(self.real, resolved.top_k)[:5]]
        flat = [result.reshape(-1) for result in found] + [None] * (5 - len(found))
        details = _Details(resolved, head.kernels_real, ids) if resolved.has_details else None
        for rows in head.chunks():
            gathered = details and details.of(rows)
            _score_rows(head, rows, gathered, *(None if result is None else result[rows] for result in flat))
            if details:
                details.put(rows, gathered)
        if target is None:
            scores = Scores(lse=found[1], argmax=found[2])
        else:
            scores = Scores(*found, *([is_in_top_k(found[4], resolved.top_k)] if resolved.top_k else []))
        return scores if details is None else scores._replace(**details.result())


class _Details:
    """Entropies and log-probabilities of all rows, computed for one tile's rows at a time."""

    def __init__(self, resolved, real, ids):
        self.resolved, self.real, self.ids = resolved, real, ids
        self.flat_ids = None if ids is None else ids.reshape(resolved.n_rows, ids.shape[-1])
        self.m = n_first(resolved.top, resolved.n_classes)
        self.state = np.empty((resolved.n_rows, 3))
        self.places = np.empty((resolved.n_rows, self.m), np.int64)
        self.values = np.empty((resolved.n_rows, self.m), real)
        self.chosen = None if ids is None else np.empty(self.flat_ids.shape, real)

    def of(self, rows):
        n_rows = len(self.state[rows])
        return Gathered(n_rows, self.m, self.real, None if self.ids is None else self.flat_ids[rows])

    def put(self, rows, gathered):
        self.state[rows], self.places[rows], self.values[rows] = gathered.state, gathered.places, gathered.values
        if self.ids is not None:
            self.chosen[rows] = gathered.chosen

    def result(self):
        """The fields of `Scores` for them."""
        resolved, shape = self.resolved, self.resolved.rows_shape
        arrays = [a.reshape(*shape, a.shape[1]) for a in (self.state, self.places, self.values)]
        more = {} if self.ids is None else {"ids": self.ids, "chosen": self.chosen.reshape(self.ids.shape)}
        found = _details.scores(resolved, REALS[resolved.real], *arrays, **more)
        return {name: getattr(found, name) for name in _details.FIELDS}


def _score_rows(head, rows, gathered, nll, lse, best, correct, rank):
    """Scores of one tile's rows."""
    h, labels = head.inputs(rows), head.labels[rows]
    state, top = _tiles.new_state(len(h)), np.full(len(h), -np.inf, head.real)
    best[...] = 0
    ranks = None if rank is None else Ranks(head, h, labels)
    for start, x in _each_tile(head, h, rows, state):
        _by_rows(x, lambda part, x, start=start: _note_best(x, start, top[part], best[part]))
        if gathered:
            gathered.take(x if head.transformed is None else head.taken, start)
        if ranks:
            ranks.take(x, start, _own(x, start, labels) if head.transformed else state[:, _tiles.OWN].astype(head.real))
    losses, tails, _ = _tiles.finish(state, labels, None, 1.0, None)
    with np.errstate(over="ignore", invalid="ignore"):
        nll[...], lse[...] = losses, _tiles.logsumexp(state, tails, top)
    correct[...] = best == labels
    if ranks:
        if ranks.failed:
            ranks.restart()
            for start, x in _each_tile(head, h, rows, state):
                ranks.take(x, start)
        rank[...] = ranks.result()


def _each_tile(head, h, rows, state):
    """Yield (first class, logits) of each tile, after merging it into the state."""
    for start, stop in head.tiles:
        yield start, head.tile("reduce_tile", h, rows, start, stop, head.weights(start, stop), state)


def _own(x, start, labels):
    """The targets' untransformed logits in a tile; 0 for targets in other tiles."""
    inside = (labels >= start) & (labels < start + x.shape[1])
    return np.where(inside, x[np.arange(len(x)), np.where(inside, labels - start, 0)], x.dtype.type(0.0))


def _by_rows(x, call):
    """Call ``call(rows, x[rows])`` for a few rows at a time, on as many threads as are worth it."""

    def over(first, last):
        for i in range(first, last):
            part = slice(i * ABREAST, (i + 1) * ABREAST)
            with np.errstate(invalid="ignore"):
                call(part, x[part])

    _plan.run(over, -(-len(x) // ABREAST), x.size, NS, kernel=False)


def _note_best(x, start, top, best):
    """Update each row's largest logit (NaN if there is one), and the first class that has it, with a tile."""
    found = np.argmax(x, axis=1)
    values = x[np.arange(len(x)), found]
    better = (values > top) | np.isnan(values) & ~np.isnan(top)
    top[better], best[better] = values[better], start + found[better]


class Ranks:
    """Counts how many classes come before the targets of a tile's rows, one tile of classes at a time."""

    def __init__(self, head, h, labels):
        self.labels = labels
        self.counts = np.zeros(len(h), np.int64)
        self.failed = False
        self.known = np.zeros(len(h), bool)  # whether the target's logit is known; if so, both bounds equal it
        self.low, self.high = _bounds(head, h, labels) if len(head.tiles) > 1 else np.zeros((2, len(h)), head.real)
        self.kept, self.n_kept = [], 0
        self.lock = threading.Lock()

    def take(self, x, start, own=None):
        """Count the classes of a tile; `own` are the targets' logits where they lie in it."""
        width = x.shape[1]
        inside = (self.labels >= start) & (self.labels < start + width)
        if own is not None:
            if start > 0 and not np.all(((self.low <= own) & (own <= self.high))[inside]):
                self.failed = True
            self.low[inside] = self.high[inside] = own[inside]
            self.known |= inside
        if self.failed and own is not None:
            return  # everything will be counted again
        _by_rows(x, lambda part, x: self._count(x, np.arange(start, start + width), inside[part], part))

    def _count(self, x, classes, inside, part):
        labels, known, high = self.labels[part], self.known[part], self.high[part]
        # among ties lower classes come before the target, so for them a logit comes after only if it is smaller
        later = known & (labels > classes[-1])
        level = np.where(later, np.nextafter(high, -np.inf), high)
        behind = x <= level[:, None]
        counts = len(classes) - np.count_nonzero(behind, axis=1)
        special = (labels >= 0) & known & (inside | ~(high > -np.inf))
        if special.any():
            counts[special] = n_before(x[special], classes, high[special], labels[special])
        self.counts[part] += counts
        unknown = ~known & (labels >= 0)
        if unknown.any():
            behind &= x >= np.where(unknown, self.low[part], np.inf)[:, None]
            rows, columns = np.divmod(np.flatnonzero(behind), len(classes))
            pending = unknown[rows]  # the bound of other rows is +inf, which a logit may reach
            if pending.any():
                rows, columns = rows[pending], columns[pending]
                self._keep(part.start + rows, classes[columns], x[rows, columns])

    def _keep(self, rows, classes, values):
        with self.lock:
            self.n_kept += len(rows)
            if self.n_kept > KEPT:
                self.failed, self.kept = True, []
            else:
                self.kept.append((rows, classes, values))

    def restart(self):
        """Start counting again, now that all targets' logits are known."""
        self.counts[:] = 0
        self.kept = []

    def result(self):
        for rows, classes, values in self.kept:
            own = self.high[rows]
            ahead = (values > own) | (values == own) & (classes < self.labels[rows])
            self.counts += np.bincount(rows[ahead], minlength=len(self.counts))
        return np.where(self.labels < 0, -1, self.counts)


def _bounds(head, h, labels):
    """Lower and upper bounds of the targets' logits, allowing for rounding errors."""
    safe = np.maximum(labels, 0)
    layer = head.a[safe].astype(head.real)
    bias = 0.0 if head.b is None else head.b[safe].astype(np.float64)
    with np.errstate(all="ignore"):
        middle = np.einsum("ij,ij->i", h, layer, dtype=np.float64) + bias
        size = np.einsum("ij,ij->i", np.abs(h), np.abs(layer), dtype=np.float64) + np.abs(bias)
        # a sum has about as many rounding errors as terms, of either sign
        margin = 2.0 * np.finfo(head.real).eps * (h.shape[1] + 2.0) ** 0.5 * size
        margin = np.where(np.isfinite(middle), margin, 0.0)
        return (middle - margin).astype(head.real), (middle + margin).astype(head.real)
