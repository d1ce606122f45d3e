"""Rows whose classes come in tiles: what is known of a row, how two such states are merged, and what is read off in the end.

The kernels `reduce_tile` take up one tile; the algebra is that of the softmax family, in float64.
"""

import numpy as np

# Columns of a state, float64 (n_rows, 6): the largest logit; s and g, the sum over all others being s exp(g); the target's logit;
# sums of q (largest - x) and of q, the coefficients q being those of the smoothed, weighted target.
TOP, S, G, OWN, SHARE, MASS = range(6)

# Logits of a tile, and classes that the kernels need it to have: narrower tiles are filled up with -inf.
TILE = 1 << 22
LEAST = 128


def new_state(n_rows):
    """Of rows of which nothing is known yet."""
    state = np.zeros((n_rows, 6))
    state[:, TOP] = -np.inf
    return state


def difference(a, b):
    """a - b, and what its rounding took away (Knuth's two-sum); 0 beyond the range of exponentials' arguments."""
    d = a - b
    back = d - a
    low = (a - (d - back)) - (b + back)
    return d, np.where(np.abs(d) < 1024.0, low, 0.0)


def exp_of_difference(s, a, b):
    """s exp(a - b), without the rounding of a - b, and with as many digits as there are below the smallest normal number."""
    d, low = difference(a, b)
    root = np.exp(np.where(d < -600.0, 0.5 * d, 0.0))
    return (s + s * low) * np.exp(np.where(d < -600.0, 0.0, d)) * root * root


def merge(state, other):
    """Take up in `state` what `other` knows of more classes of the same rows."""
    with np.errstate(all="ignore"):
        high = np.maximum(state[:, TOP], other[:, TOP])
        low = np.minimum(state[:, TOP], other[:, TOP])  # of the two largest this one joins the sum
        bases = [np.where(part[:, S] != 0.0, part[:, G], -np.inf) for part in (state, other)]
        base = np.maximum(np.maximum(*bases), low)
        base = np.where(np.isinf(base), high, base)
        joining = np.where(low > -np.inf, np.exp(low - base), 0.0)
        state[:, S] = _based(state, base) + _based(other, base) + joining
        state[:, SHARE] = _raised(state, high) + _raised(other, high)
    state[:, G], state[:, TOP] = base, high
    state[:, OWN] += other[:, OWN]  # 0 but in the one tile with the target
    state[:, MASS] += other[:, MASS]


def _based(state, base):
    """The sum relative to exp(base); of nothing, nothing."""
    s = state[:, S]
    return np.where(s != 0.0, s * np.exp(state[:, G] - base), 0.0)


def _raised(state, high):
    """The sum of q (largest - x) where the largest logit is now another one."""
    top = state[:, TOP]
    return state[:, SHARE] + np.where(np.isfinite(top) & (high > top), state[:, MASS] * (high - top), 0.0)


def tails_of(state):
    """logsumexp less the largest logit; NaN where that is infinite."""
    with np.errstate(all="ignore"):
        tails = np.log1p(exp_of_difference(state[:, S], state[:, G], state[:, TOP]))
    tails[np.isinf(state[:, TOP])] = np.nan
    return tails


def logsumexp(state, tails, peak):
    """Of rows whose largest logit is `peak`: that itself, where it is infinite or NaN."""
    return np.where(np.isfinite(peak), state[:, TOP] + tails, peak)


def finish(state, labels, w, keep, spread):
    """Of rows of which all is known: losses, logsumexp less the largest logit, and the targets' weights.

    labels : int64 (n_rows,), negative where they are to be ignored; None for class probabilities.
    w : weights of all classes, or None.
    keep, spread : as `reduce_tile` had them.
    """
    tails = tails_of(state)
    losses, weights = 0.0, np.zeros(len(state))
    with np.errstate(all="ignore"):
        if labels is not None:
            weights = np.ones(len(state)) if w is None else w[labels]
            nll = (state[:, TOP] - state[:, OWN]) + tails
            losses = keep * weights * nll
            losses[(keep * weights == 0.0) & ~np.isnan(nll)] = 0.0
        if spread is not None:
            losses = losses + (state[:, SHARE] + state[:, MASS] * tails)
    if labels is not None:
        losses[labels < 0] = 0.0
    return losses, tails, weights
