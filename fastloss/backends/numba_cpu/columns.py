"""Kernels of the softmax family that work across rows: for few classes, and for a class axis that is not the last.

LANES rows are computed side by side, one in each lane of a register.  Their classes are brought in by groups, as a small
tile (class, row) in the first-level cache; whatever strides and dtype the logits have end at that copy, so one kernel
serves every layout without a transposed or converted array ever existing.

Roles as in `rowwise`; x is (outer, n_classes, inner) with any strides, and row i * inner + j is x[i, :, j].
"""

import functools

import numpy as np

from fastloss.backends import LANES
from fastloss.backends.numba_cpu._jit import called, specialise
from fastloss.backends.numba_cpu._load import blend, load, smaller, span_row, weigh, weight
from fastloss.backends.numba_cpu._math import exp, fast_max, fine_term, log1p, reach, reference
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

GROUP = 32  # classes in a tile: 16 KiB of float32

Real = None  # a hole: the type computed in


# A tile is (GROUP, LANES), of which `classes` rows and as many lanes as the other arguments have are in use.  Its rows are
# taken first and cut to length then: contiguous to the compiler, as tile[:, :width] would not be.


def _load_tile(x, first_class, tile, classes):
    """tile[c, lane] = x[first_class + c, lane], widened."""
    for c in range(classes):
        source = x[first_class + c]
        t = tile[c][: source.size]
        for lane in range(t.size):
            t[lane] = load(source, lane)


def _load_and_raise(x, first_class, tile, classes, m):
    """`_load_tile`, and the maxima of what is loaded."""
    for c in range(classes):
        source = x[first_class + c]
        t = tile[c][: m.size]
        for lane in range(t.size):
            v = load(source, lane)
            t[lane] = v
            m[lane] = fast_max(m[lane], v)


def _move(m, k, s, n, old):
    """Make the lanes' sums relative to their new maxima; `old` holds the maxima they were relative to."""
    for lane in range(s.size):
        new_n = reference(clamped(m[lane]))[0]
        s[lane] = moved(old[lane], k[lane], s[lane], n[lane], new_n) if m[lane] > old[lane] else s[lane]
    for lane in range(k.size):
        k[lane] = Real(0.0) if m[lane] > old[lane] else k[lane]


def _refer(m, n, old):
    for lane in range(n.size):
        n[lane] = reference(clamped(m[lane]))[0]
    for lane in range(old.size):
        old[lane] = m[lane]


def _add_terms(tile, classes, m, n, s):
    """Sums of terms below the maxima: by twos in Real, then in float64, as in `rowwise`."""
    for c in range(0, classes - 1, 2):
        ta, tb = tile[c][: s.size], tile[c + 1][: s.size]
        for lane in range(s.size):
            lowest, bias = reach(n[lane])
            pa, ra = below(ta[lane], m[lane], lowest, bias)
            pb, rb = below(tb[lane], m[lane], lowest, bias)
            s[lane] += np.float64(pair(pa, ra, pb, rb))
    if classes % 2:
        t = tile[classes - 1][: s.size]
        for lane in range(s.size):
            lowest, bias = reach(n[lane])
            power, tail = below(t[lane], m[lane], lowest, bias)
            s[lane] += np.float64(power + power * tail)


def _count_maxima(tile, classes, m, k):
    for c in range(classes):
        t = tile[c][: k.size]
        for lane in range(k.size):
            k[lane] += Real(1.0) if t[lane] == m[lane] else Real(0.0)


def _scan_lanes(x, tile, m, n, rest, tail, work):
    """Of each row x[:, lane]: maximum, its power of two, rest and log1p(rest) (see `_softmax`)."""
    n_classes, width = x.shape
    k, old = work[0, :width], work[1, :width]
    m[:] = Real(NEG_INF)
    k[:] = Real(0.0)
    rest[:] = 0.0  # the sums, until the end
    refer(m, n, old)
    for start in range(0, n_classes, GROUP):
        classes = smaller(GROUP, n_classes - start)
        load_and_raise(x, start, tile, classes, m)
        if start > 0:
            move(m, k, rest, n, old)
        refer(m, n, old)
        add_terms(tile, classes, m, n, rest)
        count_maxima(tile, classes, m, k)
    for lane in range(rest.size):
        rest[lane] = rest_of(m[lane], np.float64(k[lane]), rest[lane], n[lane])
    for lane in range(rest.size):
        if doubtful(m[lane], rest[lane]) and k[lane] > 0.0:
            rest[lane] = exact_rest(x[:, lane], m[lane], np.float64(k[lane]))
    for lane in range(rest.size):
        tail[lane] = log1p(rest[lane])


def _mixed_lanes(x, y, w, tile, m, tail, keep, spread, losses, masses, work):
    """Of each row: the sum of q nll and the sum of q, with q the smoothed, weighted target."""
    n_classes, width = x.shape
    base = work[0, :width]
    for lane in range(width):
        base[lane] = m[lane] if m[lane] > Real(-FINITE) else Real(-FINITE)
    losses[:] = 0.0
    masses[:] = 0.0
    for start in range(0, n_classes, GROUP):
        classes = smaller(GROUP, n_classes - start)
        load_tile(x, start, tile, classes)
        for c in range(classes):
            yc = span_row(y, start + c)
            tc = tile[c][:width]
            for lane in range(tc.size):
                q = weigh(w, start + c, blend(yc, lane, keep, spread))
                d = base[lane] - tc[lane]
                losses[lane] += np.float64(Real(0.0) if q == Real(0.0) else q * d)
                masses[lane] += np.float64(q)
    for lane in range(width):
        loss = losses[lane] + (masses[lane] * tail[lane] if masses[lane] != 0.0 else 0.0)
        losses[lane] = loss if abs(m[lane]) < INF else NAN


def _fill_softmax_lanes(x, tile, m, n, rest, factors, out, work):
    """out[:, lane] = factors[lane] * softmax(x[:, lane])."""
    n_classes, width = x.shape
    scale = work[0, :width]
    for lane in range(width):
        scale[lane] = factors[lane] / ((1.0 + rest[lane]) * relative(clamped(m[lane]), n[lane]))
    for start in range(0, n_classes, GROUP):
        classes = smaller(GROUP, n_classes - start)
        load_tile(x, start, tile, classes)
        for c in range(classes):
            tc = tile[c][:width]
            for lane in range(tc.size):
                tc[lane] = fine_term(tc[lane], n[lane]) * scale[lane]
            o = out[start + c]
            for lane in range(tc.size):
                o[lane] = tc[lane]
    for lane in range(width):
        if not abs(m[lane]) <= LIMIT:  # see `rowwise._fill_softmax`
            for c in range(n_classes):
                value = exp(np.float64(load(x[c], lane)) - np.float64(m[lane]))
                out[c, lane] = factors[lane] * value / (1.0 + rest[lane])


def _subtract_target_lanes(gradient, y, w, factor, keep, spread):
    for c in range(gradient.shape[0]):
        g = gradient[c]
        yc = span_row(y, c)
        for lane in range(g.size):
            g[lane] -= factor * weigh(w, c, blend(yc, lane, keep, spread))


# Each of these is compiled for Real and becomes visible to those after it, and to the kernels, without its underscore.
PIECES = (
    _load_tile,
    _load_and_raise,
    _move,
    _refer,
    _add_terms,
    _count_maxima,
    _scan_lanes,
    _mixed_lanes,
    _fill_softmax_lanes,
    _subtract_target_lanes,
)
load_tile = load_and_raise = move = refer = add_terms = count_maxima = None  # holes
scan_lanes = mixed_lanes = fill_softmax_lanes = subtract_target_lanes = None


# --- kernels: a block is a number of tiles; a tile is up to LANES neighbours along the last axis -------------------------


def index_columns(
    x,  # IN (outer, n_classes, inner)
    target,  # IN (outer, inner) any integer dtype
    w,  # IN (n_classes,) Real, or None
    ignore_index,
    keep,
    spread,
    scale,
    block,  # IN tiles a block
    first,
    last,
    partials,  # OUT (n_blocks, 4)
    out,  # OUT (outer, inner) losses, or None
    gradient,  # OUT like x, or None
):
    """Cross-entropy with class indices."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = np.empty((GROUP, LANES), Real)
    work = np.empty((4, LANES), Real)
    double = np.empty((4, LANES), np.float64)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            columns = x[i, :, start : start + width]
            m, n = work[2, :width], work[3, :width]
            rest, tail = double[0, :width], double[1, :width]
            losses, masses = double[2, :width], double[3, :width]
            scan_lanes(columns, tile, m, n, rest, tail, work)
            if spread is not None:
                mixed_lanes(columns, None, w, tile, m, tail, Real(keep), Real(spread), losses, masses, work)
            else:
                losses[:] = 0.0
                masses[:] = 0.0
            total = 0.0
            weights = 0.0
            counted = 0
            for lane in range(width):
                j = start + lane
                label = target[i, j]
                if is_ignored(label, ignore_index):
                    put(out, (i, j), 0.0)
                    continue
                if not is_class(label, n_classes):
                    note_bad(partials, b, i * inner + j)
                    put(out, (i, j), NAN)
                    continue
                v = weight(w, label)
                loss = scaled(keep * v, nll(m[lane], load(columns[label], lane), tail[lane])) + losses[lane]
                total += loss
                weights += v
                counted += 1
                put(out, (i, j), loss)
                losses[lane] = scale * (keep * v + masses[lane])  # from here on the gradient's factors
            count(partials, b, total, weights, counted)
            if gradient is not None:
                g = gradient[i, :, start : start + width]
                fill_softmax_lanes(columns, tile, m, n, rest, losses, g, work)
                if spread is not None:
                    subtract_target_lanes(g, None, w, Real(scale), Real(keep), Real(spread))
                for lane in range(width):
                    label = target[i, start + lane]
                    if is_ignored(label, ignore_index):
                        g[:, lane] = Real(0.0)
                    elif is_class(label, n_classes):
                        v = weight(w, label)
                        own = 0.0
                        if spread is not None:
                            own = spread * v
                        value = load(columns[label], lane)
                        slope = target_slope(m[lane], value, rest[lane], keep * v, masses[lane], own)
                        g[label, lane] = scale * slope


def dense_columns(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    """Cross-entropy with class probabilities; target is shaped like x."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = np.empty((GROUP, LANES), Real)
    work = np.empty((4, LANES), Real)
    double = np.empty((4, LANES), np.float64)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            columns, y = x[i, :, start : start + width], target[i, :, start : start + width]
            m, n = work[2, :width], work[3, :width]
            rest, tail = double[0, :width], double[1, :width]
            losses, masses = double[2, :width], double[3, :width]
            scan_lanes(columns, tile, m, n, rest, tail, work)
            mixed_lanes(columns, y, w, tile, m, tail, Real(keep), Real(spread), losses, masses, work)
            total = 0.0
            for lane in range(width):
                total += losses[lane]
                put(out, (i, start + lane), losses[lane])
                masses[lane] *= scale
            count(partials, b, total, width, width)
            if gradient is not None:
                g = gradient[i, :, start : start + width]
                fill_softmax_lanes(columns, tile, m, n, rest, masses, g, work)
                subtract_target_lanes(g, y, w, Real(scale), Real(keep), Real(spread))


def normalise_columns(x, block, first, last, lse, log_softmax, softmax):
    """logsumexp (outer, inner), log-softmax and softmax (like x): those that are not None."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = np.empty((GROUP, LANES), Real)
    work = np.empty((4, LANES), Real)
    double = np.empty((3, LANES), np.float64)
    for q in range(first * block, smaller(last * block, outer * tiles)):
        i, start = q // tiles, (q % tiles) * LANES
        width = smaller(LANES, inner - start)
        columns = x[i, :, start : start + width]
        m, n = work[2, :width], work[3, :width]
        rest, tail, ones = double[0, :width], double[1, :width], double[2, :width]
        scan_lanes(columns, tile, m, n, rest, tail, work)
        for lane in range(width):
            put(lse, (i, start + lane), np.float64(m[lane]) + tail[lane])
        if softmax is not None:
            ones[:] = 1.0
            fill_softmax_lanes(columns, tile, m, n, rest, ones, softmax[i, :, start : start + width], work)
        if log_softmax is not None:
            tails = work[0, :width]
            for lane in range(width):
                tails[lane] = tail[lane] if abs(m[lane]) < INF else NAN
            for c in range(n_classes):
                o = log_softmax[i, c, start : start + width]
                xc = columns[c]
                for lane in range(width):
                    o[lane] = log_probability(load(xc, lane), m[lane], tails[lane])


def small_columns(x, target, ignore_index):
    """`rowwise.small_rows` for few classes."""
    partials = np.empty((1, 4))
    views = np.expand_dims(x.T, 0), np.expand_dims(target, 0)
    whole(*views, None, ignore_index, 1.0, None, 1.0, x.shape[0], 0, 1, partials, None, None)
    return partials[0, LOSS], partials[0, COUNT], partials[0, FIRST_BAD] != NO_BAD


whole = None  # a hole: index_columns
TEMPLATES = {f.__name__: f for f in (index_columns, dense_columns, normalise_columns, small_columns)}


@functools.cache
def _pieces(real):
    """Everything that kernels of this type are put together from, compiled once a process."""
    pieces = {"Real": real}
    for piece in PIECES:
        pieces[piece.__name__[1:]] = called(piece, **pieces)
    pieces["whole"] = called(index_columns, **pieces)
    return pieces


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", **_pieces(real))
