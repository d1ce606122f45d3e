"""Kernels of the softmax family for rows that lie contiguously: the class axis is the last.

A row is read from memory once, in blocks that stay in the first-level cache: the block's maximum, then its exponentials
relative to the running maximum.  Who needs a second sweep (gradients, softmax itself) finds the row in the second-level
cache unless it is very long.

`Real` is the type computed in.  Arrays that are None are not wanted, or absent.  See `_softmax` for the arithmetic.
"""

import functools

import numpy as np

from fastloss.backends.numba_cpu._jit import called, specialise
from fastloss.backends.numba_cpu._load import blend, load, smaller, weigh, weight
from fastloss.backends.numba_cpu._math import exp, fast_max, fine_term, log1p, reference, term
from fastloss.backends.numba_cpu._softmax import (
    COUNT,
    FINITE,
    FIRST_BAD,
    INF,
    LIMIT,
    LOSS,
    NAN,
    NEG_INF,
    NO_BAD,
    below,
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
    pair,
    put,
    relative,
    rest_of,
    scaled,
    start_block,
    target_slope,
)

BLOCK = 2048  # elements whose maximum is taken at once; 8 KiB of float32
PIECE = 512  # elements summed at once; only pieces that hold the maximum pay for leaving it out
SCRATCH = BLOCK // PIECE + PIECE // 2

Real = None  # a hole


# --- one row ----------------------------------------------------------------------------------------------------------


@called
def _maximum(x, m):
    for i in range(x.size):
        m = fast_max(m, load(x, i))
    return m


# Terms are added by twos in Real and the pairs in float64: of all additions one a term rounds to Real, whatever the row's
# length.  The pairs wait in L1, so that the exponentials run at the full width of Real.


@called
def _sum_all(x, lowest, bias, pairs):
    """Sum of terms over elements that are all below the maximum."""
    half = x.size // 2
    a, b, pairs = x[:half], x[half : 2 * half], pairs[:half]
    for i in range(pairs.size):
        pa, ta = term(load(a, i), lowest, bias)
        pb, tb = term(load(b, i), lowest, bias)
        pairs[i] = pair(pa, ta, pb, tb)
    s = 0.0
    for i in range(pairs.size):
        s += np.float64(pairs[i])
    if 2 * half < x.size:
        power, tail = term(load(x, x.size - 1), lowest, bias)
        s += np.float64(power + power * tail)
    return s


@called
def _sum_below(x, m, lowest, bias, pairs, one):
    """Sum of terms over the elements below m, and how many equal it."""
    half = x.size // 2
    a, b, pairs = x[:half], x[half : 2 * half], pairs[:half]
    for i in range(pairs.size):
        pa, ta = below(load(a, i), m, lowest, bias)
        pb, tb = below(load(b, i), m, lowest, bias)
        pairs[i] = pair(pa, ta, pb, tb)
    s = 0.0
    for i in range(pairs.size):
        s += np.float64(pairs[i])
    if 2 * half < x.size:
        power, tail = below(load(x, x.size - 1), m, lowest, bias)
        s += np.float64(power + power * tail)
    k = one - one
    for i in range(x.size):
        k += one if load(x, i) == m else one - one
    return s, np.float64(k)


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


def _scan(x, scratch):
    """Maximum, its power of two, the rest of a row's sum and its log1p (see `_softmax`)."""
    m = Real(NEG_INF)
    n, lowest, bias = reference(clamped(m))
    k = 0.0
    s = 0.0
    tops, pairs = scratch[: BLOCK // PIECE], scratch[BLOCK // PIECE :]
    for start in range(0, x.size, BLOCK):
        block = x[start : smaller(start + BLOCK, x.size)]
        top = Real(NEG_INF)
        for i in range(0, block.size, PIECE):
            tops[i // PIECE] = _maximum(block[i : smaller(i + PIECE, block.size)], Real(NEG_INF))
            top = fast_max(top, tops[i // PIECE])
        if top > m:
            new_n, lowest, bias = reference(clamped(top))
            s = moved(m, k, s, n, new_n) if start > 0 else 0.0
            k = 0.0
            m = top
            n = new_n
        for i in range(0, block.size, PIECE):
            piece = block[i : smaller(i + PIECE, block.size)]
            if tops[i // PIECE] < m:
                s += _sum_all(piece, lowest, bias, pairs)
            else:
                more, ties = _sum_below(piece, m, lowest, bias, pairs, Real(1.0))
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
        scale = Real(factor / ((1.0 + rest) * relative(m, n)))
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
    scratch = np.empty(SCRATCH, Real)
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
            m, n, rest, tail = scan(row, scratch)
            v = weight(w, label)
            loss = scaled(keep * v, nll(m, load(row, label), tail))
            mass = 0.0
            own = 0.0
            if spread is not None:
                own = spread * v
                smooth, mass = mixed_nll(row, None, w, m, tail, Real(keep), Real(spread))
                loss += smooth
            count(partials, b, loss, v, 1)
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
    scratch = np.empty(SCRATCH, Real)
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            row, y = x[i, j], target[i, j]
            m, n, rest, tail = scan(row, scratch)
            loss, mass = mixed_nll(row, y, w, m, tail, Real(keep), Real(spread))
            count(partials, b, loss, 1, 1)
            put(out, (i, j), loss)
            if gradient is not None:
                fill_softmax(row, m, n, rest, scale * mass, gradient[i, j])
                subtract_target(gradient[i, j], y, w, Real(scale), Real(keep), Real(spread))


def normalise_rows(x, block, first, last, lse, log_softmax, softmax):
    """logsumexp (outer, middle), log-softmax and softmax (like x): those that are not None."""
    middle = x.shape[1]
    scratch = np.empty(SCRATCH, Real)
    for r in range(first * block, smaller(last * block, x.shape[0] * middle)):
        i, j = r // middle, r % middle
        row = x[i, j]
        m, n, rest, tail = scan(row, scratch)
        put(lse, (i, j), np.float64(m) + tail)
        if log_softmax is not None:
            shift = Real(tail) if abs(m) < INF else Real(NAN)
            o = log_softmax[i, j]
            for c in range(o.size):
                o[c] = log_probability(load(row, c), m, shift)
        if softmax is not None:
            fill_softmax(row, m, n, rest, 1.0, softmax[i, j])


def small_rows(x, target, ignore_index):
    """Summed loss, count and whether a label was bad, for one block of plain rows (n_rows, n_classes)."""
    partials = np.empty((1, 4))
    views = np.expand_dims(x, 0), np.expand_dims(target, 0)
    whole(*views, None, ignore_index, 1.0, None, 1.0, x.shape[0], 0, 1, partials, None, None)
    return partials[0, LOSS], partials[0, COUNT], partials[0, FIRST_BAD] != NO_BAD


whole = None  # a hole: index_rows
TEMPLATES = {f.__name__: f for f in (index_rows, dense_rows, normalise_rows, small_rows)}


@functools.cache
def _pieces(real):
    """Everything that kernels of this type are put together from, compiled once a process."""
    pieces = {"Real": real}
    for piece in (_scan, _mixed_nll, _fill_softmax, _subtract_target):
        pieces[piece.__name__[1:]] = called(piece, **pieces)
    pieces["whole"] = called(index_rows, **pieces)
    return pieces


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", **_pieces(real))
