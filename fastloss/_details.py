"""Details of a row of logits: its entropy, its most likely classes, and the log-probabilities of chosen classes.

For each row, kernels find the first few elements in the order of argmax, and a state: the largest logit `top`, and over
all other logits the sums s of exp(x - top) and w of (top - x) exp(x - top), both NaN if `top` is not finite.  With z =
1 + s

    logsumexp = top + log z,    -log p(x) = (top - x) + log z,    entropy = log z + w / z

and no term of these is negative: nothing cancels, however small it is.
"""

import numpy as np

from fastloss._scores import Scores, is_in_top_k

# Columns of a state, float64 (n_rows, 3).
TOP, S, W = range(3)

# The fields of `Scores` that are computed here.
FIELDS = ("top_ids", "top_log_probs", "id_log_probs", "entropy")


def tails(state):
    """logsumexp minus the largest logit; NaN where that is not finite."""
    return np.log1p(state[..., S])


def logsumexp(state, tails):
    """logsumexp of each row; the largest logit itself where that is not finite."""
    top = state[..., TOP]
    return np.where(np.isfinite(top), top + tails, top)


def entropy(state, tails):
    return tails + state[..., W] / (1.0 + state[..., S])


def log_probs(state, tails, x):
    """The log-probabilities of k logits per row, x (..., k)."""
    return -((state[..., TOP, None] - x.astype(np.float64)) + tails[..., None])


def scores(options, real, state, places, values, *, labels=None, own=None, rank=None, chosen=None, ids=None):
    """`Scores` from what the kernels have found.

    options : has the attributes `top_k`, `top` and `entropy`, as the caller gave them.
    state, places, values : (rows..., 3); class indices and logits of each row's first elements, (rows..., k).
    labels, own, rank : targets (rows...), int64, negative where ignored; their logits; how many classes come before
        them.
    chosen, ids : logits (rows..., k) of the classes the caller chose, and these classes, negative where ignored.
    """
    with np.errstate(all="ignore"):
        tail = tails(state)
        found = {"lse": logsumexp(state, tail), "argmax": places[..., 0].copy()}
        if labels is not None:
            nll = -log_probs(state, tail, own[..., None])[..., 0]
            found |= {"nll": np.where(labels < 0, 0.0, nll), "correct": np.asarray(found["argmax"] == labels)}
        if rank is not None:
            found |= {"rank": rank, "in_top_k": is_in_top_k(rank, options.top_k)}
        if options.top is not None:
            found |= {
                "top_ids": np.ascontiguousarray(places[..., : options.top]),
                "top_log_probs": log_probs(state, tail, values[..., : options.top]),
            }
        if ids is not None:
            found["id_log_probs"] = np.where(ids < 0, np.nan, log_probs(state, tail, chosen))
        if options.entropy:
            found["entropy"] = entropy(state, tail)
        for name, a in found.items():
            found[name] = np.asarray(a, real if a.dtype.kind == "f" else None)
    return Scores(**found)


def merged(state, other):
    """The state of rows from the states of two disjoint sets of their classes."""
    with np.errstate(all="ignore"):
        high = np.maximum(state[..., TOP], other[..., TOP])  # NaN if either is
        result = np.zeros_like(state)
        result[..., TOP] = high
        first = state[..., TOP] >= other[..., TOP]  # whether `state` holds the row's largest logit
        for part, is_first in ((state, first), (other, ~first)):
            gap = high - part[..., TOP]
            by = np.exp(-gap)
            s = part[..., S] + np.where(is_first, 0.0, 1.0)
            w = part[..., W] + np.where(by > 0.0, gap * (1.0 + part[..., S]), 0.0)
            result[..., S] += np.where(part[..., TOP] == -np.inf, 0.0, s * by)
            result[..., W] += np.where(part[..., TOP] == -np.inf, 0.0, w * by)
        result[~np.isfinite(high), 1:] = np.nan
    return result


def first_of(values, places, m):
    """The first m of each row's elements (rows..., k): largest `values` first, ties by lower `places`."""
    missing = np.isnan(values)
    order = np.lexsort((places, np.where(missing, 0.0, -values), ~missing), axis=-1)[..., :m]
    return np.take_along_axis(values, order, -1), np.take_along_axis(places, order, -1)
