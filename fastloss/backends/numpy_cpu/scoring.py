"""Scores of rows, and rows reduced tile by tile: the arguments are those of the compiled kernels of these names."""

import numpy as np

from fastloss._order import n_before
from fastloss._tiles import MASS, OWN, SHARE, TOP, G, S, exp_of_difference, merge, new_state
from fastloss.backends.numpy_cpu._widen import SPAN, quietly, wide
from fastloss.backends.numpy_cpu.softmax import (
    Batch,
    as_rows,
    begin,
    coefficients,
    column_batches,
    labels_of,
    note,
    row_batches,
    scaled,
    target_slope,
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


# --- tiles ------------------------------------------------------------------------------------------------------------


def _logits(x, width, bias, rows):
    """The tile's logits, after adding the bias in place."""
    if bias is not None:
        x[rows, :width] += bias
    return wide(x[rows, :width])


def _inside(labels, rows, start, width):
    """(rows whose label is in the tile, labels relative to its start)."""
    own = labels[rows] - start
    (found,) = np.nonzero((own >= 0) & (own < width) & (labels[rows] >= 0))
    return found, own[found]


def _parts(n_rows, width, block, first, last):
    """The rows of blocks [first, last), a few at a time, so that temporaries stay small."""
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
        tile[:, TOP] = top
        tile[:, S], tile[:, G] = batch.others(np.argmax(logits, axis=1))
        infinite = np.isinf(top)
        tile[infinite, S] = np.where((logits[infinite] == -np.inf).all(axis=1), 0.0, np.nan)
        tile[infinite, G] = 0.0
        if labels is not None:
            found, own = _inside(labels, rows, start, width)
            tile[found, OWN] = logits[found, own]
        if spread is not None:
            q = np.broadcast_to(coefficients(None if y is None else y[rows], w, keep, spread), logits.shape)
            base = np.where(np.isfinite(top), top, 0.0)[:, None]
            tile[:, SHARE] = np.sum(scaled(q, base - logits), axis=1)
            tile[:, MASS] = np.sum(q, axis=1)
        merge(state[rows], tile)


@quietly
def slope_tile(
    x, start, width, bias, labels, y, w, keep, spread, block, first, last, state, tails, shares, owns, scale, out
):
    for rows in _parts(len(x), width, block, first, last):
        logits, known = _logits(x, width, bias, rows), state[rows]
        share, mass, top = shares[rows], known[:, MASS], known[:, TOP]
        others = exp_of_difference(known[:, S], known[:, G], top)
        p = exp_of_difference(1.0, logits, top[:, None]) / (1.0 + others)[:, None]
        slopes = (share + mass)[:, None] * p
        if spread is not None:
            slopes = slopes - coefficients(None if y is None else y[rows], w, keep, spread)
        if labels is not None:
            found, own = _inside(labels, rows, start, width)
            at_label = p[found, own]
            # 1 - p from the others' sum where p is large, as the difference would cancel
            rest = np.where(logits[found, own] == top[found], (others / (1.0 + others))[found], 1.0 - at_label)
            slopes[found, own] = target_slope(rest, at_label, share[found], mass[found], owns[rows][found])
        slopes = scale * slopes
        out[rows, :width] = slopes if labels is None else np.where(labels[rows, None] < 0, 0.0, slopes)


KERNELS = {f.__name__: f for f in (score_rows, score_columns, reduce_tile, slope_tile)}
