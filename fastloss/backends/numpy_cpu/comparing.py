"""Comparisons of two arrays of logits: the arguments are those of the compiled kernels of these names."""

import numpy as np

from fastloss.backends.numpy_cpu._widen import quietly
from fastloss.backends.numpy_cpu.softmax import Batch, as_rows, begin, column_batches, labels_of, note, row_batches

# Below this |d|, exp(-d) - 1 + d is computed by its series.
NEAR = 1e-3


def _excesses(d):
    """exp(-d) - 1 + d, accurate for small d."""
    series = d * d * (0.5 - d * (1 / 6 - d * (1 / 24 - d * (1 / 120 - d / 720))))
    return np.where(np.abs(d) < NEAR, series, np.expm1(-d) + d)


def _divergence(reference, batch):
    """(divergence of each row from the reference's, d = log p - log q of all classes).

    The divergence is the sum of p (exp(-d) - 1 + d), computed as q - p + p d where exp(-d) would be large.  The
    rounding error of the gap between the two logsumexp shows in the sum of p (exp(-d) - 1), and is corrected for: see
    `fastloss_c/divergence.h`.
    """
    gap = (0.5 * reference.top - 0.5 * batch.top) + 0.5 * (reference.tail - batch.tail)
    # the difference of two float64 logits may overflow; that of their halves does not
    a, b = 0.5 * reference.x, 0.5 * batch.x
    between = a - b
    back = between - a
    lost = (a - (between - back)) - (b + back)  # the rounding error (Knuth's two-sum)
    half = (between - gap) + np.where(np.isfinite(between), lost, 0.0)
    # the gap's rounding error may be larger than all logarithms of probabilities; then d is the difference of these
    half_p = (a - 0.5 * reference.top) - 0.5 * reference.tail
    half_q = (b - 0.5 * batch.top) - 0.5 * batch.tail
    half = np.where(np.abs(half_p) + np.abs(half_q) < np.abs(gap), half_p - half_q, half)
    p, q, d = reference.softmax, batch.softmax, 2.0 * half
    shares = np.where(p != 0.0, 2.0 * (p * half), 0.0)
    terms = np.where(np.abs(d) < 0.5, p * _excesses(d), (q - p) + shares)
    total, share = np.sum(terms, axis=1), np.sum(shares, axis=1)
    rest = total - share
    excess = np.log1p(rest)
    kl = np.maximum(total + (excess - rest), 0.0)
    only = (batch.x == -np.inf) & (reference.x > -np.inf)  # classes that only the reference gives a probability above 0
    kl = np.where(only.any(axis=1), np.inf, kl)
    kl[np.isinf(reference.top[:, 0]) | np.isinf(batch.top[:, 0]) | np.isnan(reference.tail + batch.tail)[:, 0]] = np.nan
    return kl, d + np.where(total < 1.0, excess, 0.0)[:, None]


@quietly
def _compare(batches, reference, x, target, ignore_index, first, last, partials, kl, same, nll, reference_nll, delta_p):
    begin(partials, first, last)
    for b, i, rows in batches:
        old, new = Batch(reference[i, rows]), Batch(x[i, rows])
        kl[i, rows], d = _divergence(old, new)
        same[i, rows] = np.argmax(old.x, axis=1) == np.argmax(new.x, axis=1)
        if target is None:
            continue
        counted, bad, labels = labels_of(target[i, rows], x.shape[2], ignore_index)
        base, losses = old.nll(labels), new.nll(labels)
        note(partials, b, losses, counted, counted, bad, i * x.shape[1] + rows.start)
        d = d[old.every, labels]
        near = np.exp(-base) * np.expm1(-np.where(np.abs(d) < 0.5, d, 0.0))
        changes = np.where(np.abs(d) < 0.5, near, np.exp(-losses) - np.exp(-base)) + 0.0
        nll[i, rows] = np.where(counted, losses, 0.0)
        reference_nll[i, rows] = np.where(counted, base, 0.0)
        delta_p[i, rows] = np.where(counted, changes, 0.0)


def compare_rows(
    reference, x, target, ignore_index, block, first, last, partials, kl, same, nll, reference_nll, delta_p
):
    batches = row_batches(x, block, first, last)
    outs = (kl, same, nll, reference_nll, delta_p)
    _compare(batches, reference, x, target, ignore_index, first, last, partials, *outs)


def compare_columns(
    reference, x, target, ignore_index, block, first, last, partials, kl, same, nll, reference_nll, delta_p
):
    batches = column_batches(x, block, first, last)
    outs = (kl, same, nll, reference_nll, delta_p)
    _compare(batches, as_rows(reference), as_rows(x), target, ignore_index, first, last, partials, *outs)


KERNELS = {f.__name__: f for f in (compare_rows, compare_columns)}
