"""Kernels of the softmax family for rows that lie contiguously: the class axis is the last.

A row is read from memory once, in blocks that stay in the first-level cache: the block's maximum, then its exponentials
relative to the running maximum.  Who needs a second sweep (gradients, softmax itself) finds the row in the second-level
cache unless it is very long.

`Real` is the type computed in.  Arrays that are None are not wanted, or absent.  See `_softmax` for the arithmetic.
"""

import numpy as np

from fastloss.backends.numba_cpu._jit import called, specialise
from fastloss.backends.numba_cpu._load import blend, load, smaller, weigh, weight
from fastloss.backends.numba_cpu._math import exp, fast_max, fine_term, log1p, reference, term
from fastloss.backends.numba_cpu._softmax import (
    FINITE,
    INF,
    LIMIT,
    LN2,
    NAN,
    NEG_INF,
    clamped,
    count,
    doubtful,
    exact_rest,
    is_class,
    is_ignored,
    log_probability,
    moved,
    nll,
    note_bad,
    put,
    rest_of,
    scaled,
    start_block,
    target_slope,
)

BLOCK = 2048  # elements whose maximum is taken at once; 8 KiB of float32
SHORT = 512  # elements summed in lanes of Real before float64 takes over: few additions a lane
WIDE = 64  # elements a turn of the unrolled vector loop takes, at most

Real = None  # a hole


# --- one row ----------------------------------------------------------------------------------------------------------


@called
def _maximum(x, m):
    for i in range(x.size):
        m = fast_max(m, load(x, i))
    return m


@called
def _sum_below(x, m, lowest, bias, zero, one):
    """Sum of terms over the elements below m, and how many equal it."""
    powers = zero
    tails = zero
    k = zero
    for i in range(x.size):
        v = load(x, i)
        power, tail = term(v, lowest, bias)
        power = zero if v == m else power
        powers += power
        tails += power * tail
        k += one if v == m else zero
    return np.float64(powers) + np.float64(tails), np.float64(k)


@called
def _sum_below_in_double(x, m, lowest, bias, zero):
    """`_sum_below` for what does not fill the lanes, and would be one long sum in float32."""
    s = 0.0
    k = 0.0
    for i in range(x.size):
        v = load(x, i)
        power, tail = term(v, lowest, bias)
        s += np.float64(zero if v == m else power + power * tail)
        k += 1.0 if v == m else 0.0
    return s, k


@called
def _sum_all(x, lowest, bias, zero):
    """Sum of terms over elements that are all below the maximum."""
    powers = zero
    tails = zero
    for i in range(x.size):
        power, tail = term(load(x, i), lowest, bias)
        powers += power
        tails += power * tail
    return np.float64(powers) + np.float64(tails)


@called
def _sum_mixed(x, y, w, base, keep, spread, zero):
    """Sums of q (base - x) and of q, the coefficients q being those of the smoothed, weighted target."""
    a = 0.0
    total = 0.0
    for i in range(x.size):
        q = weigh(w, i, blend(y, i, keep, spread))
        d = base - load(x, i)
        a += np.float64(zero if q == zero else q * d)
        total += np.float64(q)
    return a, total


def _scan(x):
    """Maximum, its power of two, the rest of a row's sum and its log1p (see `_softmax`)."""
    m = Real(NEG_INF)
    n, lowest, bias = reference(clamped(m))
    k = 0.0
    s = 0.0
    for start in range(0, x.size, BLOCK):
        block = x[start : smaller(start + BLOCK, x.size)]
        top = _maximum(block, Real(NEG_INF))
        if top > m:
            new_n, lowest, bias = reference(clamped(top))
            s = moved(m, k, s, n, new_n) if start > 0 else 0.0
            k = 0.0
            m = top
            n = new_n
        even = block.size - block.size % WIDE
        for i in range(0, even, SHORT):
            short = block[i : smaller(i + SHORT, even)]
            if top < m:
                s += _sum_all(short, lowest, bias, Real(0.0))
            else:
                more, ties = _sum_below(short, m, lowest, bias, Real(0.0), Real(1.0))
                s += more
                k += ties
        if even < block.size:
            more, ties = _sum_below_in_double(block[even:], m, lowest, bias, Real(0.0))
            s += more
            k += ties
    rest = rest_of(m, k, s, n)
    if doubtful(m, rest) and k > 0.0:
        rest = exact_rest(x, m, k)
    return m, n, rest, log1p(rest)


def _mixed_nll(x, y, w, m, tail, keep, spread):
    """The sum of q nll over a row and the sum of q, with q the smoothed, weighted target."""
    base = m if m > Real(-FINITE) else Real(-FINITE)
    a, total = _sum_mixed(x, y, w, base, keep, spread, Real(0.0))
    return (a + (total * tail if total != 0.0 else 0.0) if abs(m) < INF else NAN), total


def _fill_softmax(x, m, n, rest, factor, out):
    """out = factor * softmax(x)."""
    if abs(m) <= LIMIT:
        scale = Real(factor / ((1.0 + rest) * exp(np.float64(m) - np.float64(n) * LN2)))
        for i in range(out.size):
            out[i] = fine_term(load(x, i), n) * scale
    else:  # so large that exponentials need float64, or infinite, which gives NaN
        for i in range(out.size):
            out[i] = Real(factor * exp(np.float64(load(x, i)) - np.float64(m)) / (1.0 + rest))


def _subtract_target(gradient, y, w, factor, keep, spread):
    """gradient -= factor * (smoothed, weighted target)."""
    for i in range(gradient.size):
        gradient[i] -= factor * weigh(w, i, blend(y, i, keep, spread))


scan = mixed_nll = fill_softmax = subtract_target = None  # holes: the four above, compiled for Real


# --- kernels: x is (outer, middle, n_classes), a row is x[i, j] and counts as row i * middle + j --------------------------


def index_rows(
    x,  # IN (outer, middle, n_classes), last axis contiguous
    target,  # IN (outer, middle) any integer dtype
    w,  # IN (n_classes,) Real, or None
    ignore_index,  # IN
    keep,  # IN 1 - label_smoothing
    spread,  # IN label_smoothing / n_classes, or None for 0
    scale,  # IN what gradients are multiplied by
    block,  # IN rows a block
    first,
    last,
    partials,  # OUT (n_blocks, 4), see `_softmax`
    out,  # OUT (outer, middle) losses, or None
    gradient,  # OUT (outer, middle, n_classes), or None
):
    """Cross-entropy with class indices."""
    middle, n_classes = x.shape[1], x.shape[2]
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            label = target[i, j]
            if is_ignored(label, ignore_index):
                put(out, (i, j), 0.0)
                if gradient is not None:
                    gradient[i, j] = Real(0.0)
                continue
            if not is_class(label, n_classes):
                note_bad(partials, b, r)
                put(out, (i, j), NAN)
                continue
            row = x[i, j]
            m, n, rest, tail = scan(row)
            v = weight(w, label)
            loss = scaled(keep * v, nll(m, load(row, label), tail))
            mass = 0.0
            own = 0.0
            if spread is not None:
                own = spread * v
                smooth, mass = mixed_nll(row, None, w, m, tail, Real(keep), Real(spread))
                loss += smooth
            count(partials, b, loss, v)
            put(out, (i, j), loss)
            if gradient is not None:
                g = gradient[i, j]
                fill_softmax(row, m, n, rest, scale * (keep * v + mass), g)
                if spread is not None:
                    subtract_target(g, None, w, Real(scale), Real(keep), Real(spread))
                g[label] = scale * target_slope(m, load(row, label), rest, keep * v, mass, own)


def dense_rows(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    """Cross-entropy with class probabilities; target is (outer, middle, n_classes)."""
    middle = x.shape[1]
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            row, y = x[i, j], target[i, j]
            m, n, rest, tail = scan(row)
            loss, mass = mixed_nll(row, y, w, m, tail, Real(keep), Real(spread))
            count(partials, b, loss, 1.0)
            put(out, (i, j), loss)
            if gradient is not None:
                fill_softmax(row, m, n, rest, scale * mass, gradient[i, j])
                subtract_target(gradient[i, j], y, w, Real(scale), Real(keep), Real(spread))


def normalise_rows(x, block, first, last, lse, log_softmax, softmax):
    """logsumexp (outer, middle), log-softmax and softmax (like x): those that are not None."""
    middle = x.shape[1]
    for r in range(first * block, smaller(last * block, x.shape[0] * middle)):
        i, j = r // middle, r % middle
        row = x[i, j]
        m, n, rest, tail = scan(row)
        put(lse, (i, j), np.float64(m) + tail)
        if log_softmax is not None:
            shift = Real(tail) if abs(m) < INF else Real(NAN)
            o = log_softmax[i, j]
            for c in range(o.size):
                o[c] = log_probability(load(row, c), m, shift)
        if softmax is not None:
            fill_softmax(row, m, n, rest, 1.0, softmax[i, j])


TEMPLATES = {f.__name__: f for f in (index_rows, dense_rows, normalise_rows)}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(
        TEMPLATES[op],
        f"{op}_{np.dtype(real).name}",
        Real=real,
        scan=called(_scan, Real=real),
        mixed_nll=called(_mixed_nll, Real=real),
        fill_softmax=called(_fill_softmax, Real=real),
        subtract_target=called(_subtract_target),
    )
