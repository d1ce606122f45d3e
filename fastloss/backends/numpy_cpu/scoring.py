"""Scores of rows, and rows reduced tile by tile: the arguments are those of the compiled kernels of these names."""

import numpy as np

from fastloss._order import n_before
from fastloss._tiles import MASS, OWN, SHARE, TOP, G, S, merge, new_state
from fastloss.backends.numpy_cpu._widen import SPAN, quietly, wide
from fastloss.backends.numpy_cpu.softmax import (
    Batch,
    as_rows,
    begin,
    column_batches,
    labels_of,
    note,
    plus,
    row_batches,
)


@quietly
def _score(batches, x, target, ignore_index, first, last, partials, nll, lse, best, correct, rank):
    begin(partials, first, last)
    for b, i, rows in batches:
        batch = Batch(x[i, rows])
        counted, bad, labels = labels_of(target[i, rows], x.shape[2], ignore_index)
        losses = np.where(counted, batch.nll(labels), 0.0)
        note(partials, b, losses, counted, counted, bad, i * x.shape[1] + rows.start)
        nll[i, rows] = losses
        lse[i, rows] = batch.lse[:, 0]
        best[i, rows] = np.argmax(batch.x, axis=1)
        correct[i, rows] = counted & (best[i, rows] == labels)
        if rank is not None:
            own = batch.x[batch.every, labels]
            rank[i, rows] = np.where(counted, n_before(batch.x, np.arange(x.shape[2]), own, labels), -1)


def score_rows(x, target, ignore_index, block, first, last, partials, nll, lse, best, correct, rank):
    batches = row_batches(x, block, first, last)
    _score(batches, x, target, ignore_index, first, last, partials, nll, lse, best, correct, rank)


def score_columns(x, target, ignore_index, block, first, last, partials, nll, lse, best, correct, rank):
    batches = column_batches(x, block, first, last)
    _score(batches, as_rows(x), target, ignore_index, first, last, partials, nll, lse, best, correct, rank)


# --- tiles --------------------------------------------------------------------------------------------------------------


def _logits(x, width, bias, rows):
    """The tile's logits, with the bias added where they lie."""
    if bias is not None:
        x[rows, :width] += bias
    return wide(x[rows, :width])


def _inside(labels, rows, start, width):
    """Rows whose label lies in the tile, and the label counted from its start."""
    own = labels[rows] - start
    (found,) = np.nonzero((own >= 0) & (own < width) & (labels[rows] >= 0))
    return found, own[found]


def _coefficients(y, rows, w, keep, spread):
    """The smoothed, weighted target."""
    q = spread if y is None else keep * wide(y[rows]) + spread
    return q if w is None else q * wide(w)


def _parts(n_rows, width, block, first, last):
    """Rows of blocks [first, last) a few at a time, so that what is computed of them stays small."""
    step = max(1, SPAN // max(width, 1))
    stop = min(last * block, n_rows)
    for start in range(first * block, stop, step):
        yield slice(start, min(start + step, stop))


@quietly
def reduce_tile(x, start, width, bias, labels, y, w, keep, spread, block, first, last, state):
    for rows in _parts(len(x), width, block, first, last):
        logits = _logits(x, width, bias, rows)
        batch, tile = Batch(logits), new_state(len(logits))
        top = batch.top[:, 0]
        tile[:, TOP] = tile[:, G] = top
        # of classes that are all masked nothing is known, whatever those of other tiles are
        tile[:, S] = np.where(top == -np.inf, 0.0, batch.others(np.argmax(logits, axis=1)))
        if labels is not None:
            found, own = _inside(labels, rows, start, width)
            tile[found, OWN] = logits[found, own]
        if spread is not None:
            q = np.broadcast_to(_coefficients(y, rows, w, keep, spread), logits.shape)
            base = np.where(np.isfinite(top), top, 0.0)[:, None]
            tile[:, SHARE] = np.sum(plus(q, base - logits), axis=1)
            tile[:, MASS] = np.sum(q, axis=1)
        merge(state[rows], tile)


@quietly
def slope_tile(
    x, start, width, bias, labels, y, w, keep, spread, block, first, last, state, tails, shares, owns, scale, out
):
    for rows in _parts(len(x), width, block, first, last):
        logits, known = _logits(x, width, bias, rows), state[rows]
        tail, share, mass = tails[rows], shares[rows], known[:, MASS]
        p = np.exp((logits - known[:, TOP, None]) - tail[:, None])
        slopes = (share + mass)[:, None] * p
        if spread is not None:
            slopes = slopes - _coefficients(y, rows, w, keep, spread)
        if labels is not None:
            found, own = _inside(labels, rows, start, width)
            at_label = p[found, own]
            # 1 - p from the others' sum where p is large, as the difference would cancel
            others = known[:, S] * np.exp((known[:, G] - known[:, TOP]) - tail)
            rest = np.where(logits[found, own] == known[found, TOP], others[found], 1.0 - at_label)
            slopes[found, own] = mass[found] * at_label - owns[rows][found] - share[found] * rest
        slopes *= scale
        if labels is not None:
            slopes[labels[rows] < 0] = 0.0  # where all are ignored the scale is infinite
        out[rows, :width] = slopes


KERNELS = {f.__name__: f for f in (score_rows, score_columns, reduce_tile, slope_tile)}
