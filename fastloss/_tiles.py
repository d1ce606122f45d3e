"""Rows whose classes are computed tile by tile: the state of a row so far, how two states are merged, and the results
from it.

The kernels `reduce_tile` add one tile to the state; the algebra is that of the softmax family, in float64.
"""

import numpy as np

from fastloss._array_formulas import formulas_of_rows

# Columns of a state, float64 (n_rows, 6): the largest logit; s and g, where s exp(g) is the sum over all others; the
# target's logit; the sums of q (largest - x) and of q, where q are the coefficients of the smoothed, weighted target.
TOP, S, G, OWN, SHARE, MASS = range(6)

# Logits per tile, and the least number of classes that the kernels need in one: narrower tiles are padded with -inf.
TILE = 1 << 22
LEAST = 128


def new_state(n_rows):
    """The state of rows of which no class has been seen."""
    state = np.zeros((n_rows, 6))
    state[:, TOP] = -np.inf
    return state


def difference(a, b):
    """a - b and its rounding error (Knuth's two-sum); the error is 0 beyond the range of exponentials' arguments."""
    d = a - b
    back = d - a
    low = (a - (d - back)) - (b + back)
    return d, np.where(np.abs(d) < 1024.0, low, 0.0)


def exp_of_difference(s, a, b):
    """s exp(a - b), correcting for the rounding of a - b, and accurate down into the subnormal numbers."""
    d, low = difference(a, b)
    root = np.exp(np.where(d < -600.0, 0.5 * d, 0.0))
    return (s + s * low) * np.exp(np.where(d < -600.0, 0.0, d)) * root * root


def merge(state, other):
    """Merge `other`, the state of more classes of the same rows, into `state`."""
    with np.errstate(all="ignore"):
        high = np.maximum(state[:, TOP], other[:, TOP])
        low = np.minimum(state[:, TOP], other[:, TOP])  # the smaller of the two maxima becomes a term of the sum
        bases = [np.where(part[:, S] != 0.0, part[:, G], -np.inf) for part in (state, other)]
        base = np.maximum(np.maximum(*bases), low)
        base = np.where(np.isinf(base), high, base)
        joining = np.where(low > -np.inf, np.exp(low - base), 0.0)
        state[:, S] = _based(state, base) + _based(other, base) + joining
        state[:, SHARE] = _raised(state, high) + _raised(other, high)
    state[:, G], state[:, TOP] = base, high
    state[:, OWN] += other[:, OWN]  # nonzero only in the tile that holds the target
    state[:, MASS] += other[:, MASS]


def _based(state, base):
    """The sum relative to exp(base); 0 if there are no terms."""
    s = state[:, S]
    return np.where(s != 0.0, s * np.exp(state[:, G] - base), 0.0)


def _raised(state, high):
    """The sum of q (largest - x) after the largest logit has become `high`."""
    top = state[:, TOP]
    return state[:, SHARE] + np.where(np.isfinite(top) & (high > top), state[:, MASS] * (high - top), 0.0)


def tails_of(state):
    """logsumexp minus the largest logit; NaN where that is infinite."""
    with np.errstate(all="ignore"):
        tails = np.log1p(exp_of_difference(state[:, S], state[:, G], state[:, TOP]))
    tails[np.isinf(state[:, TOP])] = np.nan
    return tails


def logsumexp(state, tails, peak):
    """logsumexp of rows whose largest logit is `peak`; `peak` itself where that is infinite or NaN."""
    return np.where(np.isfinite(peak), state[:, TOP] + tails, peak)


def finish(state, labels, w, keep, spread):
    """(losses, logsumexp minus the largest logit, the targets' weights) of rows all of whose classes have been added.

    labels : int64 (n_rows,), negative where ignored; None for class probabilities.
    w : weights of all classes, or None.
    keep, spread : the same that `reduce_tile` was given.
    """
    tails = tails_of(state)
    losses, weights = 0.0, np.zeros(len(state))
    with np.errstate(all="ignore"):
        if labels is not None:
            weights = np.ones(len(state)) if w is None else w[labels]
            nll = (state[:, TOP] - state[:, OWN]) + tails
            scaled = formulas_of_rows()["scaled"]
            losses = scaled(scaled(keep, weights), nll)
        if spread is not None:
            losses = losses + formulas_of_rows()["mixed_loss"](state[:, SHARE], state[:, MASS], tails)
    if labels is not None:
        losses[labels < 0] = 0.0
    return losses, tails, weights
