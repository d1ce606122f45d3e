"""Kernels that reduce rows, one tile of classes at a time, for logits that exist only tile by tile.

Each row has a state that is carried from tile to tile: its largest logit, the sum over all others as s exp(g), see
`_softmax`, and the sums for the smoothed target.  Tiles are merged by the same algebra, in float64.
"""

import numpy as np

from fastloss._tiles import MASS, OWN, SHARE, TOP, G, S
from fastloss.backends.numba_cpu import rowwise
from fastloss.backends.numba_cpu._jit import called, exactly, specialise
from fastloss.backends.numba_cpu._likelihood import row_total
from fastloss.backends.numba_cpu._load import load, smaller, span_row
from fastloss.backends.numba_cpu._math import exp
from fastloss.backends.numba_cpu._softmax import INF, NAN, NEG_INF, infinite_sum, slope_at_target, span_of, target_slope

Real = find_peak = scan = sum_mixed = fill_softmax = subtract_target = None  # holes


@exactly
def based(s, g, base):
    """s exp(g) relative to exp(base); 0 if s is 0."""
    return s * exp(g - base) if s != 0.0 else 0.0


@called
def merge(state, s, g, m):
    """Merge a tile, whose largest logit is m and whose other exponentials sum to s exp(g), into a row's state."""
    low = min(state[TOP], m)  # the smaller of the two maxima becomes a term of the sum
    one = 1.0 if low > NEG_INF else 0.0
    base = max(g, state[G]) if state[S] != 0.0 else g
    base = max(base, low) if low > NEG_INF else base
    state[S] = based(state[S], state[G], base) + based(s, g, base) + based(one, low, base)
    state[G] = base
    if m > state[TOP]:
        if abs(state[TOP]) < INF:
            state[SHARE] += state[MASS] * (m - state[TOP])
        state[TOP] = m


def reduce_tile(
    x,  # IN OUT (n_rows, at least STEP), rows contiguous: logits, then those with the bias; beyond `width` -inf
    start,  # IN the tile's first class
    width,  # IN classes in the tile
    bias,  # IN (width,) Real, or None
    labels,  # IN (n_rows,) int64, negative where ignored; or None
    y,  # IN (n_rows, width) class probabilities, or None
    w,  # IN (width,) float64, or None
    keep,  # IN 1 - label_smoothing
    spread,  # IN label_smoothing / n_classes; None if there is neither smoothing nor y
    block,  # IN rows per block
    first,
    last,
    state,  # IN OUT (n_rows, 6)
):
    """Merge a tile into the rows' states."""
    scratch = span_of(np.float64)
    for r in range(first * block, smaller(last * block, x.shape[0])):
        row = x[r]
        if bias is not None:
            for c in range(bias.size):
                row[c] += bias[c]
        peak = find_peak(row)
        s, g, m = scan(row, peak, None, None)
        top = np.float64(m)
        if not abs(top) < INF:  # nothing to sum, or NaN
            g = 0.0
            s = 0.0 if infinite_sum(row, top) == NEG_INF else NAN
        merge(state[r], s, g, top)
        if labels is not None and start <= labels[r] < start + width:
            state[r, OWN] = load(row, labels[r] - start)
        if spread is not None:
            base = m if abs(top) < INF else Real(0.0)
            targets = span_row(y, r)
            share, mass = sum_mixed(row[:width], targets, w, base, keep, spread, scratch)
            if abs(state[r, TOP]) < INF:
                share += mass * (state[r, TOP] - np.float64(base))
            state[r, SHARE] += share
            state[r, MASS] += mass


def slope_tile(
    x,  # IN OUT (n_rows, at least STEP) logits, as above
    start,
    width,
    bias,
    labels,
    y,
    w,
    keep,
    spread,
    block,
    first,
    last,
    state,  # IN (n_rows, 6) of all tiles together
    tails,  # IN (n_rows,) logsumexp minus the largest logit
    shares,  # IN (n_rows,) coefficient of the target's negative log-likelihood
    owns,  # IN (n_rows,) the smoothed part of the target's coefficient
    scale,  # IN factor of the loss
    out,  # OUT (n_rows, at least width) its derivative with respect to the logits; 0 in ignored rows
):
    """Derivatives of the rows' losses with respect to a tile of logits."""
    for r in range(first * block, smaller(last * block, x.shape[0])):
        row, slopes = x[r, :width], out[r, :width]
        if labels is not None and labels[r] < 0:
            slopes[:] = Real(0.0)
            continue
        if bias is not None:
            for c in range(bias.size):
                row[c] += bias[c]
        top, mass, share = state[r, TOP], state[r, MASS], shares[r]
        row_sum = row_total(state[r, S], state[r, G], top, top)
        fill_softmax(row, Real(top), row_sum, scale * (share + mass), slopes)
        if spread is not None:
            targets = span_row(y, r)
            subtract_target(slopes, targets, w, scale, keep, spread)
        if labels is not None and start <= labels[r] < start + width:
            v = np.float64(load(row, labels[r] - start))
            if v == top:
                slope = slope_at_target(state[r, S], state[r, G], v, top, row_sum, share, mass, owns[r])
            else:  # the softmax is at most 1/2: nothing cancels
                p = exp(v - top) / row_sum
                slope = target_slope(1.0 - p, p, share, mass, owns[r])
            slopes[labels[r] - start] = scale * slope


TEMPLATES = {"reduce_tile": reduce_tile, "slope_tile": slope_tile}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", **rowwise.pieces(real))
