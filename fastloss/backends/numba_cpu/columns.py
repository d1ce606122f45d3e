"""Kernels of the softmax family that work across rows: for few classes, and for a class axis that is not the last.

LANES rows are computed side by side, in strips of WIDTH, one row in each lane of a register.  Their classes are copied
in groups to tiles (class, row) in the first-level cache.  Strides and dtypes of the logits matter only to that copy, so
that one kernel serves every layout without ever making a transposed or converted array.

x is (outer, n_classes, inner) with any strides, and row i * inner + j is x[i, :, j].  See `_softmax` for the
arithmetic.
"""

import functools

import numpy as np

from fastloss.backends import LANES
from fastloss.backends.numba_cpu._jit import across, called, chain, inlined, specialise
from fastloss.backends.numba_cpu._lanes import WIDTH
from fastloss.backends.numba_cpu._likelihood import (
    LEAST_SUM,
    based,
    likelihood_for,
    power_between,
    row_total,
    some_want_rest,
    tail_above,
    with_terms,
    with_value,
)
from fastloss.backends.numba_cpu._load import load, smaller, weight
from fastloss.backends.numba_cpu._math import LIMIT, exp, fast_max, fine_exp, power_of
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._registers import (
    EIGHT,
    any_missing,
    ask_for,
    below,
    coefficients,
    gather,
    in_lanes,
    labels_at,
    lanes_at,
    magnitude,
    narrow,
    negated,
    neighbours,
    peaked,
    put_lanes,
    put_neighbours,
    quotient,
    reach_of,
    scatter,
    softmax_scale,
    total,
    unusual,
    wide,
    with_ahead,
    with_best,
    with_own,
    with_pair,
    with_share,
    without_own,
)
from fastloss.backends.numba_cpu._softmax import (
    INF,
    LIFT,
    NAN,
    NEG_INF,
    coefficient,
    count,
    doubtful,
    exact_sum,
    exact_tail,
    infinite_sum,
    is_class,
    is_ignored,
    is_low,
    is_uint64,
    mass_of,
    mixed_loss,
    note_bad,
    put,
    scaled,
    slope_at_target,
    start_block,
    wants_rest,
)

GROUP = 32  # classes per tile: 2 KiB of float32 per strip
STRIPS = LANES // WIDTH
FETCHED = 16  # how many tiles ahead neighbouring rows are prefetched

# Rows of the state of the LANES rows being computed, float64 (STATE, LANES): s, g and x of `_softmax`; the maximum; the
# negative log-likelihood of x; logsumexp minus the maximum; the smoothed part of the loss and its weight; the factor of
# softmax; the sum of exp(x - maximum); the low part of s, then s as it was summed; the loss as it enters the sum.
S, G, X, TOP, NLL, TAIL, SMOOTH, MASS, FACTOR, TOTAL, LOW, COUNTED = range(12)
STATE = 12
# Rows of its companion in the type computed in: x, the maximum, and the power of two that the sums of the last group
# are relative to.
OWN, PEAK, BEFORE = range(3)
WORK = 3
# Rows of the notes, int32: the class of the maximum, and how many classes come before the label's.
BEST, AHEAD = range(2)
NOTES = 2

new_tile, new_state = on_stack(STRIPS * GROUP, WIDTH, zeroed=True), on_stack(STATE, LANES, zeroed=True)
new_work, new_notes, new_lanes = on_stack(WORK, LANES), on_stack(NOTES, LANES), on_stack(LANES)

# holes: the type computed in, the `nll` accurate enough for it, the smallest sum that is exact, how many classes are
# summed before they are added to the row's sum, and the unit of differences of logits
Real = likelihood = least = together = unit = None


@inlined
def get(rows, row, strip):
    """The lanes of a strip in one row of a state."""
    return lanes_at(rows, row * STRIPS + strip)


@inlined
def set_(rows, row, strip, v):
    put_lanes(rows, row * STRIPS + strip, v)


@inlined
def strips(width):
    return (width + WIDTH - 1) // WIDTH


# --- tiles: row strip * GROUP + c of an array holds a strip's lanes of class c ----------------------------------------


def _load_tile(x, start, classes, strip, tile):
    """The classes from `start` of a strip of x (n_classes, rows), widened."""
    class_step, lane_step = x.strides
    first = strip * WIDTH
    base = start * class_step + first * lane_step
    whole = first + WIDTH <= x.shape[1]
    if whole and lane_step == x.itemsize:
        for c in range(classes):
            put_lanes(tile, strip * GROUP + c, neighbours(x, base + c * class_step))
    elif whole and class_step == x.itemsize:
        for c in range(0, classes, EIGHT):
            gather(tile, strip * GROUP + c, x, base + c * class_step, lane_step, classes - c)
    else:
        for c in range(classes):
            source = x[start + c, first:]
            for lane in range(smaller(WIDTH, source.size)):
                tile[strip * GROUP + c, lane] = load(source, lane)


def _store_tile(tile, classes, strip, x, start):
    """Store a tile to a strip of x (n_classes, rows), the reverse of `load_tile`."""
    class_step, lane_step = x.strides
    first = strip * WIDTH
    base = start * class_step + first * lane_step
    whole = first + WIDTH <= x.shape[1]
    if whole and lane_step == x.itemsize:
        for c in range(classes):
            put_neighbours(x, base + c * class_step, lanes_at(tile, strip * GROUP + c))
    elif whole and class_step == x.itemsize and classes >= EIGHT:
        for k in range(0, classes, EIGHT):
            c = smaller(k, classes - EIGHT)
            scatter(tile, strip * GROUP + c, x, base + c * class_step, lane_step)
    else:
        for c in range(classes):
            destination = x[start + c, first:]
            for lane in range(smaller(WIDTH, destination.size)):
                destination[lane] = tile[strip * GROUP + c, lane]


# --- LANES rows, or as many as there are: x is (n_classes, rows) ------------------------------------------------------
#
# Every step is done for all strips before the next begins, so that the chain of dependent operations in one strip
# overlaps with those in its neighbours.


@called
def find_labels(target, n_classes, ignore_index, labels):
    """Write the rows' labels, -1 for those that are ignored or not a class; returns whether there are any of these."""
    missing = False
    for strip in range(strips(target.size)):
        part = target[strip * WIDTH : smaller((strip + 1) * WIDTH, target.size)]
        if part.size == WIDTH and part.strides[0] == part.itemsize and not is_uint64(part[0]):
            found = labels_at(part, 0, n_classes, ignore_index)
            missing |= any_missing(found)
            put_lanes(labels, strip, found)
            continue
        missing = True
        labels[strip * WIDTH : (strip + 1) * WIDTH] = -1
        for lane in range(part.size):
            if is_class(part[lane], n_classes) and not is_ignored(part[lane], ignore_index):
                labels[strip * WIDTH + lane] = np.int32(part[lane])
    return missing


def _find_peaks(x, tile, labels):
    """The first class of each row that has its maximum; 0 if all is NaN."""
    for strip in range(strips(x.shape[1])):
        best = in_lanes(Real(NEG_INF))
        found = in_lanes(np.int32(0))
        for start in range(0, x.shape[0], GROUP):
            classes = smaller(GROUP, x.shape[0] - start)
            load_tile(x, start, classes, strip, tile)
            for c in range(classes):
                v = lanes_at(tile, strip * GROUP + c)
                found = with_best(found, best, v, np.int32(start + c))
                best = fast_max(best, v)
        put_lanes(labels, strip, found)


def _scan_lanes(x, tile, labels, work, state, notes, levels):
    """Reduce each row to OWN, PEAK, S, G and NLL; the class in `labels` is excluded from the sum.

    notes : OUT (NOTES, LANES), or None; unreliable in a row with NaN.
    levels : IN (1, LANES) the logits of the classes in `labels`, for AHEAD, or None.
    """
    n_strips = strips(x.shape[1])
    class_step, lane_step = x.strides
    # Memory is idle during exponentials: meanwhile, with each class, part of what later tiles will read is prefetched.
    fetched_tile, fetched_step = FETCHED * LANES * lane_step, class_step
    if lane_step != x.itemsize:
        fetched_tile, fetched_step = LANES * lane_step, WIDTH * lane_step // x.shape[0]
    for start in range(0, x.shape[0], GROUP):
        classes = smaller(GROUP, x.shape[0] - start)
        if lane_step == x.itemsize and x.shape[1] == LANES:  # one class at a time: its rows are neighbours
            for c in range(classes):
                for strip in range(STRIPS):
                    at = (start + c) * class_step + strip * WIDTH * lane_step
                    ask_for(x, at + LANES * lane_step)
                    put_lanes(tile, strip * GROUP + c, neighbours(x, at))
        else:
            for strip in range(n_strips):
                load_tile(x, start, classes, strip, tile)
        for strip in range(n_strips):
            own_class = lanes_at(labels, strip)
            own, peak = in_lanes(Real(0.0)), in_lanes(Real(NEG_INF))
            if start > 0:
                own, peak = get(work, OWN, strip), get(work, PEAK, strip)
                set_(work, BEFORE, strip, power_of(peak))
            if notes is not None:
                best, ahead = in_lanes(np.int32(0)), in_lanes(np.int32(0))
                if start > 0:
                    best, ahead = get(notes, BEST, strip), get(notes, AHEAD, strip)
            for c in range(strip * GROUP, strip * GROUP + classes):
                v = lanes_at(tile, c)
                k = np.int32(start + c - strip * GROUP)
                if notes is not None:
                    best = with_best(best, peak, v, k)
                if levels is not None:
                    ahead = with_ahead(ahead, get(levels, 0, strip), v, own_class, k)
                own = with_own(own, v, own_class, k)
                put_lanes(tile, c, without_own(v, own_class, k))
                peak = fast_max(peak, v)
            if classes % 2:
                put_lanes(tile, strip * GROUP + classes, in_lanes(Real(NEG_INF)))
            set_(work, OWN, strip, own)
            set_(work, PEAK, strip, peak)
            if notes is not None:
                set_(notes, BEST, strip, best)
                set_(notes, AHEAD, strip, ahead)
        for strip in range(n_strips):
            n, sums, lows = power_of(get(work, PEAK, strip)), in_lanes(0.0), in_lanes(0.0)
            if start > 0:
                by = power_between(get(work, BEFORE, strip), n)
                sums, lows = get(state, S, strip) * by, get(state, LOW, strip) * by
            lowest, bias = reach_of(n)
            fetched = fetched_tile + strip * WIDTH * lane_step + start * fetched_step
            for some in range(0, classes, together):
                terms = in_lanes(0.0)
                for k in range(some, smaller(some + together, classes), 2):
                    ask_for(x, fetched + k * fetched_step)
                    ask_for(x, fetched + (k + 1) * fetched_step)
                    c = strip * GROUP + k
                    terms = with_pair(terms, lowest, bias, lanes_at(tile, c), lanes_at(tile, c + 1))
                sums, lows = with_terms(sums, lows, terms, Real(0.0))
            set_(state, S, strip, sums)
            set_(state, LOW, strip, lows)
    suspect = False
    for strip in range(n_strips):
        peak, summed = get(work, PEAK, strip), get(state, S, strip) + get(state, LOW, strip)
        s, g = based(summed, power_of(peak))
        suspect |= below(summed, least) or unusual(peak)
        set_(state, LOW, strip, summed)
        set_(state, S, strip, s)
        set_(state, G, strip, g)
        set_(state, NLL, strip, likelihood(s, g, wide(get(work, OWN, strip))))
    if suspect:  # one row at a time, so that its result does not depend on the rows beside it
        for lane in range(x.shape[1]):
            if doubtful(state[LOW, lane], work[PEAK, lane], least):
                state[S, lane], state[G, lane] = exact_sum(x[:, lane], np.int64(labels[lane]))
                state[NLL, lane] = likelihood(state[S, lane], state[G, lane], np.float64(work[OWN, lane]))


def _find_tails(work, state, n_rows):
    """The state's X, TOP and TAIL from what `scan_lanes` found."""
    for strip in range(strips(n_rows)):
        x, top = wide(get(work, OWN, strip)), wide(get(work, PEAK, strip))
        set_(state, X, strip, x)
        set_(state, TOP, strip, top)
        tail = tail_above(get(state, S, strip), get(state, G, strip), x, get(state, NLL, strip), top)
        set_(state, TAIL, strip, tail)


def _find_totals(state, n_rows):
    """The state's TOTAL from what `find_tails` left."""
    for strip in range(strips(n_rows)):
        x, top = get(state, X, strip), get(state, TOP, strip)
        set_(state, TOTAL, strip, row_total(get(state, S, strip), get(state, G, strip), x, top))


def _exact_tails(x, limit, most, work, state):
    """Compute TAIL from sums that exclude the maximum, for rows that need it and whose logsumexp is below `most`."""
    wanted = False
    for strip in range(strips(x.shape[1])):
        own, top, tail = get(state, X, strip), get(state, TOP, strip), get(state, TAIL, strip)
        wanted |= some_want_rest(own, top, tail, limit, most)
    if not wanted:
        return
    for lane in range(x.shape[1]):
        top, tail = state[TOP, lane], state[TAIL, lane]
        if wants_rest(state[X, lane], top, tail, limit) and abs(top + tail) < most:
            state[TAIL, lane] = exact_tail(x[:, lane], work[PEAK, lane])


def _mix_lanes(x, y, w, keep, spread, tile, other, state):
    """Reduce each row to the state's SMOOTH and, where there is a y, MASS, from q = w (keep * y + spread): sums of q
    (top - x) and of q."""
    for strip in range(strips(x.shape[1])):
        loss, loss_low, mass, mass_low = in_lanes(0.0), in_lanes(0.0), in_lanes(0.0), in_lanes(0.0)
        top = get(state, TOP, strip)
        for start in range(0, x.shape[0], GROUP):
            classes = smaller(GROUP, x.shape[0] - start)
            load_tile(x, start, classes, strip, tile)
            if y is not None:
                load_tile(y, start, classes, strip, other)
            for some in range(0, classes, together):
                shares, masses = in_lanes(0.0), in_lanes(0.0)
                for k in range(some, smaller(some + together, classes)):
                    c = strip * GROUP + k
                    if y is None:
                        q = in_lanes(coefficient(None, w, start + k, keep, spread))
                    else:
                        q = coefficients(lanes_at(other, c), weight(w, start + k), keep, spread)
                        masses = masses + q
                    shares = with_share(shares, q, top, lanes_at(tile, c), unit)
                loss, loss_low = with_value(loss, loss_low, shares)
                if y is not None:
                    mass, mass_low = with_value(mass, mass_low, masses)
        if y is not None:
            set_(state, MASS, strip, mass + mass_low)
        loss = (loss + loss_low) * in_lanes(1.0 / unit)
        set_(state, SMOOTH, strip, loss)


def _fill_lanes(x, y, w, keep, spread, scale, tile, other, state, labels, slopes, out):
    """out = FACTOR * softmax - scale * (smoothed, weighted target); if there are labels, slopes[row] at each row's
    label."""
    for strip in range(strips(x.shape[1])):
        top, factor = get(state, TOP, strip), get(state, FACTOR, strip)
        peak = narrow(top, in_lanes(Real(0.0)))
        n, positive = power_of(peak), quotient(magnitude(factor), get(state, TOTAL, strip))
        multiplier, largest = softmax_scale(n, top, positive), narrow(positive, peak)
        outside = unusual(peak) or unusual(largest)
        sign = narrow(factor, peak)
        first = strip * WIDTH
        width = smaller(WIDTH, x.shape[1] - first)
        for start in range(0, x.shape[0], GROUP):
            classes = smaller(GROUP, x.shape[0] - start)
            load_tile(x, start, classes, strip, tile)
            if y is not None:
                load_tile(y, start, classes, strip, other)
            for k in range(classes):
                c = strip * GROUP + k
                v = lanes_at(tile, c)
                p = negated(peaked(fine_exp(v, n, multiplier), v, peak, largest), sign)
                if spread is not None:
                    if y is None:
                        q = in_lanes(coefficient(None, w, start + k, keep, spread))
                    else:
                        q = coefficients(lanes_at(other, c), weight(w, start + k), keep, spread)
                    p = p - narrow(q * in_lanes(np.float64(scale)), p)
                if outside:  # logits or a factor so large that float64 is needed, or infinite, which gives NaN
                    put_lanes(tile, c, p)
                    for lane in range(first, first + width):
                        own_top, steep = state[TOP, lane], abs(state[FACTOR, lane]) / state[TOTAL, lane]
                        if not (abs(own_top) <= LIMIT and Real(steep) < Real(np.inf)):
                            power = exp(np.float64(load(x[start + k], lane)) - own_top)
                            share = state[FACTOR, lane] * (power / state[TOTAL, lane])
                            if spread is not None:
                                if y is None:
                                    share -= scale * coefficient(None, w, start + k, keep, spread)
                                else:
                                    share -= scale * coefficient(y[:, lane], w, start + k, keep, spread)
                            tile[c, lane - first] = share
                    p = lanes_at(tile, c)
                put_lanes(tile, c, p)
            if labels is not None:
                for lane in range(width):
                    label = labels[first + lane]
                    if label < 0:
                        tile[strip * GROUP : strip * GROUP + classes, lane] = Real(0.0)
                    elif start <= label < start + classes:
                        tile[strip * GROUP + label - start, lane] = slopes[first + lane]
            store_tile(tile, classes, strip, out, start)


# Each of these is compiled for Real and becomes visible to those after it, and to the kernels, without its underscore.
PIECES = (
    _load_tile,
    _store_tile,
    _find_peaks,
    _scan_lanes,
    _find_tails,
    _find_totals,
    _exact_tails,
    _mix_lanes,
    _fill_lanes,
)
load_tile = store_tile = find_peaks = scan_lanes = find_tails = find_totals = exact_tails = None  # holes
mix_lanes = fill_lanes = None  # likewise


# --- kernels: a block has several tiles; a tile is up to LANES neighbours along the last axis -------------------------


def index_columns(
    x,  # IN (outer, n_classes, inner)
    target,  # IN (outer, inner) any integer dtype
    w,  # IN (n_classes,) float64, or None
    ignore_index,
    keep,
    spread,
    scale,
    block,  # IN tiles per block
    first,
    last,
    partials,  # OUT (n_blocks, 4)
    out,  # OUT (outer, inner) losses, or None
    gradient,  # OUT like x, or None
):
    """Cross-entropy with class indices."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = new_tile(Real)
    work = new_work(Real)
    state = new_state(np.float64)
    labels = new_lanes(np.int32)
    slopes = new_lanes(np.float64)
    state[MASS] = mass = mass_of(w, spread, n_classes)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i = q // tiles if outer > 1 else 0
            start = (q - i * tiles) * LANES
            width = smaller(LANES, inner - start)
            columns = x[i, :, start : start + width]
            missing = find_labels(target[i, start : start + width], n_classes, ignore_index, labels)
            scan_lanes(columns, tile, labels, work, state, None, None)
            if spread is not None or gradient is not None:
                find_tails(work, state, width)
            if gradient is not None:
                find_totals(state, width)
            if spread is not None:
                if w is not None:
                    exact_tails(columns, 2.0, INF, work, state)
                mix_lanes(columns, None, w, keep, spread, tile, tile, state)
            if w is None and out is None and gradient is None and spread is None and not missing:
                losses = in_lanes(0.0)
                for strip in range(strips(width)):
                    losses = losses + get(state, NLL, strip)
                count(partials, b, total(losses), width, width)
                continue
            weights = 0.0
            counted = 0
            state[COUNTED] = 0.0
            for lane in range(width):
                j = start + lane
                label = target[i, j]
                if labels[lane] < 0:
                    good = is_ignored(label, ignore_index)
                    put(out, (i, j), 0.0 if good else NAN)
                    if not good:
                        note_bad(partials, b, i * inner + j)
                    continue
                v = weight(w, label)
                loss = scaled(scaled(keep, v), state[NLL, lane])
                if spread is not None:
                    loss += mixed_loss(state[SMOOTH, lane], mass, state[TAIL, lane])
                state[COUNTED, lane] = loss
                weights += v
                counted += 1
                put(out, (i, j), loss)
                if gradient is not None:
                    state[FACTOR, lane] = scale * (keep * v + mass)
                    s, g, own_x = state[S, lane], state[G, lane], state[X, lane]
                    top, row_sum = state[TOP, lane], state[TOTAL, lane]
                    own = 0.0
                    if spread is not None:
                        own = spread * v if mass != 0.0 else 0.0
                    slopes[lane] = scale * slope_at_target(s, g, own_x, top, row_sum, keep * v, mass, own)
            losses = in_lanes(0.0)
            for strip in range(strips(width)):  # in the order in which unweighted losses are added
                losses = losses + get(state, COUNTED, strip)
            count(partials, b, total(losses), weights, counted)
            if gradient is not None:
                g = gradient[i, :, start : start + width]
                fill_lanes(columns, None, w, 0.0, spread, scale, tile, tile, state, labels, slopes, g)


def dense_columns(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    """Cross-entropy with class probabilities; target is shaped like x."""
    outer, _, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = new_tile(Real)
    other = new_tile(Real)
    work = new_work(Real)
    state = new_state(np.float64)
    labels = new_lanes(np.int32)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            columns, y = x[i, :, start : start + width], target[i, :, start : start + width]
            find_peaks(columns, tile, labels)
            scan_lanes(columns, tile, labels, work, state, None, None)
            find_tails(work, state, width)
            mix_lanes(columns, y, w, keep, spread, tile, other, state)
            loss_sum = 0.0
            for lane in range(width):
                loss = mixed_loss(state[SMOOTH, lane], state[MASS, lane], state[TAIL, lane])
                loss_sum += loss
                put(out, (i, start + lane), loss)
                state[FACTOR, lane] = scale * state[MASS, lane]
            count(partials, b, loss_sum, width, width)
            if gradient is not None:
                find_totals(state, width)
                g = gradient[i, :, start : start + width]
                fill_lanes(columns, y, w, keep, spread, scale, tile, other, state, None, None, g)
                if x.shape[1] == 1:  # cancellation may leave a rounding error
                    for lane in range(width):
                        g[0, lane] = 0.0 * state[TOTAL, lane]


def known_columns(x, target, known, ignore_index, scale, block, first, last, partials, gradient):
    """The gradients of losses whose derivatives are known.

    known : IN (2, outer, inner) of each row the factor of softmax, and the slope at the label.
    """
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = new_tile(Real)
    work = new_work(Real)
    state = new_state(np.float64)
    labels = new_lanes(np.int32)
    slopes = new_lanes(np.float64)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            columns = x[i, :, start : start + width]
            find_labels(target[i, start : start + width], n_classes, ignore_index, labels)
            scan_lanes(columns, tile, labels, work, state, None, None)
            find_tails(work, state, width)
            find_totals(state, width)
            some_low = False
            for lane in range(width):
                factor = scale * known[0, i, start + lane]
                low = is_low(factor)
                some_low |= low
                state[FACTOR, lane] = factor * LIFT if low else factor
                slopes[lane] = scale * known[1, i, start + lane]
            g = gradient[i, :, start : start + width]
            fill_lanes(columns, None, None, 0.0, None, scale, tile, tile, state, labels, slopes, g)
            if some_low:
                for lane in range(width):
                    if labels[lane] >= 0 and is_low(scale * known[0, i, start + lane]):
                        for c in range(n_classes):
                            g[c, lane] *= Real(1.0 / LIFT)
                        g[labels[lane], lane] = slopes[lane]


def normalise_columns(x, block, first, last, lse, log_softmax, softmax):
    """logsumexp (outer, inner), log-softmax and softmax (like x): those that are not None."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = new_tile(Real)
    work = new_work(Real)
    state = new_state(np.float64)
    state[FACTOR] = 1.0
    labels = new_lanes(np.int32)
    for q in range(first * block, smaller(last * block, outer * tiles)):
        i, start = q // tiles, (q % tiles) * LANES
        width = smaller(LANES, inner - start)
        columns = x[i, :, start : start + width]
        if n_classes == 0:
            for lane in range(width):
                put(lse, (i, start + lane), NEG_INF)
            continue
        find_peaks(columns, tile, labels)
        scan_lanes(columns, tile, labels, work, state, None, None)
        find_tails(work, state, width)
        for lane in range(width):
            top = state[TOP, lane]
            value = top + state[TAIL, lane] if abs(top) < INF else infinite_sum(columns[:, lane], top)
            put(lse, (i, start + lane), value)
        if softmax is not None:
            find_totals(state, width)
            part = softmax[i, :, start : start + width]
            fill_lanes(columns, None, None, 0.0, None, 1.0, tile, tile, state, None, None, part)
        if log_softmax is not None:
            part = log_softmax[i, :, start : start + width]
            for strip in range(strips(width)):
                peak = get(work, PEAK, strip)
                tail = narrow(get(state, NLL, strip), peak)
                for first_class in range(0, n_classes, GROUP):
                    classes = smaller(GROUP, n_classes - first_class)
                    load_tile(columns, first_class, classes, strip, tile)
                    for c in range(strip * GROUP, strip * GROUP + classes):
                        put_lanes(tile, c, (lanes_at(tile, c) - peak) - tail)
                    store_tile(tile, classes, strip, part, first_class)


whole = None  # a hole: index_columns
TEMPLATES = {f.__name__: f for f in (index_columns, dense_columns, known_columns, normalise_columns)}


@functools.cache
def pieces(real):
    """All functions that kernels of this type are made of, compiled once per process."""
    name = np.dtype(real).name
    holes = {"Real": real, "likelihood": likelihood_for(real), "least": LEAST_SUM[real]}
    if real is np.float32:
        holes |= {"together": GROUP, "unit": 1.0}
    else:  # the difference of two float64 logits may overflow; that of their halves does not
        holes |= {"together": 8, "unit": 0.5}
    filled = chain(PIECES, name, **holes)
    return {**filled, "whole": called(index_columns, name, **filled)}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", takes_strides=across, **pieces(real))
