"""The Kullback-Leibler divergence of one row of logits from another: its terms, which are not negative.

With r the reference's logits and x the other model's, p = softmax(r), q = softmax(x), and d = log p - log q, the
divergence is the sum of p (exp(-d) - 1 + d) over all classes.  Where d is small, a term is computed as p d^2 times a
polynomial, elsewhere as (q - p) + p d; a class with p = 0 adds q.

d = (r - x) - gap, where `gap` is the difference of the two logsumexp, which have rounding errors.  These are corrected
for in the end.  For any gap, let k be the sum of p (exp(-d) - 1 + d) and s the sum of p d: then the sum of p exp(-d) is
1 + (k - s), log q is too large by log1p(k - s), and the divergence is k + (log1p(k - s) - (k - s)).
"""

import numpy as np
from numba import types

from fastloss.backends.numba_cpu._jit import called, exactly
from fastloss.backends.numba_cpu._lanes import (
    DOUBLE,
    WIDTH,
    absolute,
    differ,
    emitted_as,
    tree,
    where,
)
from fastloss.backends.numba_cpu._likelihood import LN2_HEAD, LN2_REST, exp_of_difference
from fastloss.backends.numba_cpu._load import load
from fastloss.backends.numba_cpu._math import INF, curve, exp, exp_curve, expm1, log1p, whole_term
from fastloss.backends.numba_cpu._memory import load as load_lanes
from fastloss.backends.numba_cpu._memory import offset
from fastloss.backends.numba_cpu._registers import STEP

# The polynomial is used for |d| <= ln(2) / 2.
NEAR = 0.34657359

# From this d on it matters what p underflows to.
FAR = {np.float32: 1e28, np.float64: 1e280}


# --- terms ------------------------------------------------------------------------------------------------------------


def _term(r, x, constants):
    """(p (exp(-d) - 1 + d), p d, d), with p relative to the power of two chosen for r."""
    r_lowest, r_bias, x_lowest, x_bias, scale, high, low = constants
    p, q = whole_term(r, r_lowest, r_bias), whole_term(x, x_lowest, x_bias) * scale
    gap = r - x
    back = gap - r
    rest = (r - (gap - back)) - (x + back)
    d = (gap - high) + (where(absolute(gap) < INF, rest, 0.0) - low)
    share = where(differ(p, p.constant(0.0)), p * d, 0.0)
    return where(absolute(d) <= NEAR, share * d * exp_curve(-d), (q - p) + share), share, d


def _with_step(sums, shares, most, r, x, at, from_, constants):
    """Add the terms of one STEP of a row, and their p d, to the sums: groups of four in their own type, then in
    float64; and the largest d.

    from_ : the first element of the step to be counted.
    """
    found = []
    for k in range(0, STEP, WIDTH):
        a, b = load_lanes(r, offset(r, at + k)), load_lanes(x, offset(x, at + k))
        positions = at.new(_positions(k))
        mask = positions < from_.spread(positions)
        spread = [c.spread(a) for c in constants]
        found.append(_term(where(mask, -INF, a), where(mask, -INF, b), spread))
    for start in (0, 4):
        terms, own, _ = zip(*found[start : start + 4], strict=True)
        sums = sums + tree(terms, _plus).to(DOUBLE)
        shares = shares + tree(own, _plus).to(DOUBLE)
    for _, _, d in found:
        most = where(d > most, d, most)
    return sums, shares, most


def _plus(a, b):
    return a + b


def _positions(k):
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [k + i for i in range(WIDTH)])


def _with_class(sums, shares, most, r, x, constants):
    """Likewise for one class of WIDTH rows, one per lane."""
    term, share, d = _term(r, x, constants)
    return sums + term.to(DOUBLE), shares + share.to(DOUBLE), where(d > most, d, most)


def _state(sums, shares, most, *_):
    return types.Tuple((sums, shares, most))


with_step = emitted_as(_with_step, 8, _state)
with_class = emitted_as(_with_class, 6, _state)
highest_of = emitted_as(lambda v: v.folded(lambda a, b: where(a > b, a, b)), 1, lambda v: v.dtype)


# --- constants of a row, and results ----------------------------------------------------------------------------------


@exactly
def log_of_power(n, m):
    """n ln 2 - m in float64."""
    return (n * LN2_HEAD - m) + n * LN2_REST


@exactly
def total_of(top, tail, n):
    """The sum of p, relative to 2^n."""
    return exp(tail - log_of_power(np.float64(n), top))


@exactly
def scale_of(gap, n, m):
    """The factor of q; n and m are the powers of two that p and q are relative to."""
    return exp(log_of_power(np.float64(m) - np.float64(n), -gap))


@exactly
def gap_of(r_top, r_tail, x_top, x_tail):
    """The difference of the two logsumexp."""
    return (r_top - x_top) + (r_tail - x_tail)


@exactly
def finished(k, s):
    """(the divergence, by how much log q is too large, which a large k has no digits for)."""
    a = k - s
    excess = log1p(a)
    kl = k + (excess - a)
    return 0.0 if kl < 0.0 else kl, excess if k < 1.0 else 0.0


@exactly
def rise_of(loss, base, d):
    """exp(-loss) - exp(-base); d is loss - base, to more digits if these are known."""
    return exp(-base) * expm1(-d) if abs(d) <= 0.5 else exp(-loss) - exp(-base)


@exactly
def own_difference(between, gap, excess, loss, base):
    """loss - base, to more digits, except where the gap is so large that it has no digits for that."""
    return (between - gap) + excess if abs(gap) < 1e6 else loss - base


@exactly
def half_gap(a, b, gap):
    """a / 2 - b / 2 - gap, to more digits than a plain difference has."""
    a, b = 0.5 * a, 0.5 * b
    d = a - b
    back = d - a
    rest = (a - (d - back)) - (b + back)
    return (d - gap) + (rest if abs(d) < np.inf else 0.0)


@exactly
def half_log(x, top, tail):
    """Half the logarithm of a probability."""
    return (0.5 * x - 0.5 * top) - 0.5 * tail


@called
def exact_divergence(r, x, r_top, r_tail, x_top, x_tail):
    """(divergence, excess), computed in float64 for any dtype: for logits so large that their exponentials require
    it.

    The gap's rounding error may be larger than all logarithms of probabilities; then d is the difference of these.
    """
    if r_tail != r_tail or x_tail != x_tail:
        return np.nan, np.nan
    # the difference of two float64 logits may overflow; that of their halves does not
    gap = (0.5 * r_top - 0.5 * x_top) + (0.5 * r_tail - 0.5 * x_tail)
    p_scale, q_scale = exp(-r_tail), exp(-x_tail)
    k, s = 0.0, 0.0
    for i in range(r.size):
        a, b = np.float64(load(r, i)), np.float64(load(x, i))
        if b == -np.inf and a > b:
            return np.inf, 0.0
        p, q = exp_of_difference(p_scale, a, r_top), exp_of_difference(q_scale, b, x_top)
        term, share = q, 0.0
        if p != 0.0:
            half = half_gap(a, b, gap)
            half_p, half_q = half_log(a, r_top, r_tail), half_log(b, x_top, x_tail)
            if abs(half_p) + abs(half_q) < abs(gap):
                half = half_p - half_q
            share = 2.0 * (p * half)
            d = 2.0 * half
            term = share * d * curve(-d) if abs(d) <= NEAR else (q - p) + share
        k += term
        s += share
    return finished(k, s)
