"""Compares two arrays of logits row by row: a block computes a row, in three sweeps, of which the last two find it in
cache.

The first sweep finds the maxima, the second sums the exponentials, the third the terms p (exp(-d) - 1 + d) of the
Kullback-Leibler divergence, with p the reference's softmax, q the other model's, and d = log p - log q.  Where d is
small a term is computed as p d^2 times a polynomial, elsewhere as (q - p) + p d; a class with p = 0 adds q.

d = (r - x) - gap, where `gap` is the difference of the two logsumexp, which have rounding errors.  These are corrected
for in the end.  For any gap, let k be the sum of p (exp(-d) - 1 + d) and s the sum of p d: then the sum of p exp(-d) is
1 + (k - s), log q is too large by log1p(k - s), and the divergence is k + (log1p(k - s) - (k - s)).  Where the gap is so
large that its rounding error is more than roundings of logarithms of probabilities, d is the difference of these.
"""

import functools
import math

import numpy as np

from fastloss.backends.numba_cuda import _jit, _target, labels
from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._target import block, exp, log, log1p, n_blocks, sync, thread

INF, NAN = math.inf, math.nan

THREADS = 256 if not _target.SIMULATED else 8

# The polynomial of `curve` is accurate enough up to this |d|.
NEAR = 0.5

# From this gap on, d is the difference of logarithms.
FAR = 1e8

Real = None  # a hole
read = read_other = read_loss = write_loss = write_flag = None  # holes: memory
place_of = label_of = None  # holes: `labels`


def curve(d):
    """(exp(-d) - 1 + d) / d^2 for |d| <= NEAR, to 1e-13: Taylor's series."""
    t = 1.0 / 87178291200.0 - d / 1307674368000.0
    t = 1.0 / 6227020800.0 - d * t
    t = 1.0 / 479001600.0 - d * t
    t = 1.0 / 39916800.0 - d * t
    t = 1.0 / 3628800.0 - d * t
    t = 1.0 / 362880.0 - d * t
    t = 1.0 / 40320.0 - d * t
    t = 1.0 / 5040.0 - d * t
    t = 1.0 / 720.0 - d * t
    t = 1.0 / 120.0 - d * t
    t = 1.0 / 24.0 - d * t
    t = 1.0 / 6.0 - d * t
    return 0.5 - d * t


def short_curve(d):
    """The same, accurate enough for float32."""
    t = Real(1.0 / 40320.0) - d * Real(1.0 / 362880.0)
    t = Real(1.0 / 5040.0) - d * t
    t = Real(1.0 / 720.0) - d * t
    t = Real(1.0 / 120.0) - d * t
    t = Real(1.0 / 24.0) - d * t
    t = Real(1.0 / 6.0) - d * t
    return Real(0.5) - d * t


def comes_before(v, c, top, best):
    """Whether logit v of class c comes before `top` of class `best`: NaN first, then larger ones, ties by lower
    class."""
    if v != v:
        return top == top or c < best
    return v > top or v == top and c < best


def peak_of_block(tops, bests, top, best):
    """The first, in that order, of the elements that the block's threads have found."""
    t = thread()
    sync()
    tops[t], bests[t] = top, best
    step = THREADS // 2
    while step:
        sync()
        if t < step and comes_before(tops[t + step], bests[t + step], tops[t], bests[t]):
            tops[t], bests[t] = tops[t + step], bests[t + step]
        step //= 2
    sync()
    return tops[0], bests[0]


def sums_of_block(sums, first, second):
    """The sums of two numbers over the block's threads."""
    t = thread()
    sync()
    sums[t, 0], sums[t, 1] = first, second
    step = THREADS // 2
    while step:
        sync()
        if t < step:
            sums[t, 0] += sums[t + step, 0]
            sums[t, 1] += sums[t + step, 1]
        step //= 2
    sync()
    return sums[0, 0], sums[0, 1]


def rise_of(loss, base, d):
    """exp(-loss) - exp(-base); d is loss - base, to more digits if these are known."""
    if abs(d) <= NEAR:
        return exp(-base) * (d * d * long_curve(d) - d)
    return exp(-loss) - exp(-base)


def compare(
    r, r_outer, r_row, r_class,  # IN the reference's logits: address and strides
    x, x_outer, x_row, x_class,  # IN those that are compared with it
    y, y_outer, y_row, kind, ignore,  # IN labels, or 0; code of their type
    middle, n_rows, n_classes,
    r_losses, x_losses,  # IN (n_rows,) Real, negative log-likelihoods where there are labels
    kls, sames, rises,  # OUT (n_rows,) each; how much likelier x makes the label, or 0
):  # fmt: skip
    sums = cuda.shared.array((THREADS, 2), np.float64)
    tops = cuda.shared.array(THREADS, Real)
    bests = cuda.shared.array(THREADS, np.int64)
    row = np.int64(block())
    while row < n_rows:
        outer, inner = place_of(row, middle)
        r_at, x_at = outer * r_outer + inner * r_row, outer * x_outer + inner * x_row
        r_top, x_top, r_best, x_best = Real(-INF), Real(-INF), np.int64(n_classes), np.int64(n_classes)
        c = np.int64(thread())
        while c < n_classes:
            a, b = read(r, r_at + c * r_class), read_other(x, x_at + c * x_class)
            if comes_before(a, c, r_top, r_best):
                r_top, r_best = a, c
            if comes_before(b, c, x_top, x_best):
                x_top, x_best = b, c
            c += THREADS
        r_top, r_best = peak_of_block(tops, bests, r_top, r_best)
        x_top, x_best = peak_of_block(tops, bests, x_top, x_best)
        total, other = 0.0, 0.0
        c = np.int64(thread())
        while c < n_classes:
            total += np.float64(exp(read(r, r_at + c * r_class) - r_top))
            other += np.float64(exp(read_other(x, x_at + c * x_class) - x_top))
            c += THREADS
        total, other = sums_of_block(sums, total, other)
        gap = (np.float64(r_top) - np.float64(x_top)) + (log(total) - log(other))
        high, scale = Real(gap), Real(total / other)
        low = Real(gap - np.float64(high))
        is_far, r_tail, x_tail = not abs(gap) < FAR, Real(log(total)), Real(log(other))
        k, s, only = 0.0, 0.0, False
        c = np.int64(thread())
        while c < n_classes:
            a, b = read(r, r_at + c * r_class), read_other(x, x_at + c * x_class)
            p, q = exp(a - r_top), scale * exp(b - x_top)
            step = a - b
            back = step - a
            rest = (a - (step - back)) - (b + back)
            d = (step - high) + ((rest if abs(step) < Real(INF) else Real(0.0)) - low)
            if is_far:
                d = ((a - r_top) - r_tail) - ((b - x_top) - x_tail)
            share = p * d if p != Real(0.0) else Real(0.0)
            if abs(d) <= Real(NEAR):
                k += np.float64(share * d * own_curve(d))
            else:
                k += np.float64((q - p) + share)
            s += np.float64(share)
            only = only or b == Real(-INF) and a > Real(-INF)
            c += THREADS
        k, s = sums_of_block(sums, INF if only and k == k else k, s)
        if thread() == 0:
            k, s = k / total, s / total
            rest_of_gap = log1p(k - s)
            kl = INF if k == INF else k + (rest_of_gap - (k - s))
            kl = 0.0 if kl < 0.0 else kl
            rest_of_gap = rest_of_gap if k < 1.0 else 0.0  # a large k has no digits for it
            write_loss(kls, row, Real(kl))
            write_flag(sames, row, np.int8(r_best == x_best))
            if rises != 0:
                label, counts, _ = label_of(y, outer * y_outer + inner * y_row, kind, ignore, n_classes)
                rise = 0.0
                if counts:
                    own = np.float64(read(r, r_at + label * r_class))
                    own -= np.float64(read_other(x, x_at + label * x_class))
                    loss, base = np.float64(read_loss(x_losses, row)), np.float64(read_loss(r_losses, row))
                    rise = rise_of(loss, base, loss - base if is_far else (own - gap) + rest_of_gap)
                write_loss(rises, row, Real(rise))
        row += n_blocks()


own_curve = long_curve = None  # holes


@functools.cache
def kernel(reference, name, real):
    """The kernel for a reference of one dtype and logits of another, by name, computing in `real`."""
    holes = {
        "Real": np.dtype(real).type,
        "read": _target.reader(reference, real),
        "read_other": _target.reader(name, real),
        "read_loss": _target.reader(real, real),
        "write_loss": _target.writer(real),
        "write_flag": _target.writer("int8"),
    }
    purpose = f"{reference}_{name}_{real}"
    holes["long_curve"] = _jit.inlined(curve, purpose, **holes)
    holes["own_curve"] = _jit.inlined(short_curve, purpose, **holes) if real == "float32" else holes["long_curve"]
    pieces = (labels.place_of, labels.label_of, comes_before, peak_of_block, sums_of_block, rise_of)
    holes |= _jit.family(pieces, purpose, **holes)
    return _jit.kernel(compare, purpose, THREADS, **holes)
