"""Kernels of the softmax family for contiguous rows: the class axis is the last.

A row is read from memory once, step by step: first a step's maximum, which only occasionally changes the power of
two that sums are relative to, then its exponentials.  A second sweep (for gradients, or softmax itself) finds the
row in the second-level cache unless it is very long.

`Real` is the type computed in.  Outputs that are None are not asked for; inputs that are None are absent.  See
`_softmax` for the arithmetic.
"""

import functools

import numpy as np

from fastloss.backends.numba_cpu._jit import along, called, chain, specialise
from fastloss.backends.numba_cpu._lanes import WIDTH
from fastloss.backends.numba_cpu._likelihood import (
    LEAST_SUM,
    based,
    folded,
    likelihood_for,
    power_between,
    row_total,
    tail_above,
    with_terms,
    with_value,
)
from fastloss.backends.numba_cpu._load import load, smaller, weight
from fastloss.backends.numba_cpu._math import LIMIT, exp, fast_max, fine_exp, power_of
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._registers import (
    STEP,
    coefficients,
    earliest,
    elements,
    exceeds,
    first_equal,
    holds,
    in_lanes,
    lanes_at,
    largest,
    ordered_step,
    peaked,
    put_lanes,
    reach_of,
    softmax_scale,
    step_terms,
    step_terms_masked,
    times,
    top_of,
    total,
    weighted,
    with_above,
    with_ahead_in_step,
    with_best,
    with_not_below,
    with_share,
)
from fastloss.backends.numba_cpu._softmax import (
    INF,
    LIFT,
    NAN,
    NEG_INF,
    SPAN,
    coefficient,
    count,
    doubtful,
    exact_sum,
    infinite_sum,
    is_class,
    is_ignored,
    is_low,
    lies_together,
    log_probability,
    mass_of,
    mixed_loss,
    note_bad,
    put,
    scaled,
    slope_at_target,
    span_of,
    start_block,
    wants_rest,
)

# How many rows' losses are computed side by side before their elements are needed a second time: fewer if rows are
# long.
LONG_ROW = 8192

# How far the maximum may rise above the one for which the power of two was chosen.
SLACK = 30.0

new_state = on_stack(5, WIDTH, zeroed=True)

Real = likelihood = least = unit = None  # holes


# --- one row ----------------------------------------------------------------------------------------------------------


def _scan(x, skip, notes, level):
    """(s, g, m): m is the maximum, and s exp(g) the sum of the exponentials of all elements except x[skip].

    The last step overlaps the one before, so that it ends with the row.

    notes : OUT the position of the first maximum and, if `level` is x[skip], how many elements come before that one in
        descending order; or None.  Unreliable in a row with NaN.
    """
    tops = in_lanes(Real(NEG_INF))
    sums, lows = in_lanes(0.0), in_lanes(0.0)
    steps = in_lanes(np.int32(0))  # in which each lane's maximum was found
    counts = in_lanes(np.int32(0))
    n = power_of(Real(-LIMIT))
    lowest, bias = reach_of(n)
    limit = Real(NEG_INF)
    for begin in range(0, x.size, STEP):
        at = smaller(begin, x.size - STEP)
        step = ordered_step(x, at)
        top = step[0]
        if notes is not None:
            steps = with_best(steps, tops, top, np.int32(begin // STEP))
        tops = fast_max(tops, top)
        if exceeds(top, limit):
            peak = largest(top)
            new_n = power_of(peak)
            if begin > 0:
                by = power_between(n, new_n)
                sums, lows = times(sums, by), times(lows, by)
            n = new_n
            lowest, bias = reach_of(n)
            limit = peak + Real(SLACK)
        own = np.int32(skip - at) if at <= skip < at + STEP else np.int32(-1)
        if at == begin and own < 0:
            terms = step_terms(sums, lowest, bias, step)
        else:
            terms = step_terms_masked(sums, lowest, bias, x, at, np.int32(begin - at), own)
        sums, lows = with_terms(sums, lows, terms, Real(0.0))
        if level is not None:
            if at < begin or own >= 0:
                counts = with_ahead_in_step(counts, x, at, level, np.int32(begin - at), own)
            elif at < skip:
                counts = with_not_below(counts, x, at, level)
            else:
                counts = with_above(counts, x, at, level)
    m = largest(tops)
    if notes is not None:
        at = smaller(STEP * np.int64(earliest(steps, tops, m)), x.size - STEP)
        notes[0] = at + first_equal(x, at, m)
        notes[1] = total(counts)
    s = folded(sums, lows) if Real is np.float64 else total(sums)
    if doubtful(s, m, least):
        s, g = exact_sum(x, skip)
    else:
        s, g = based(s, n)
    return s, g, m


def _find_peak(x):
    """The position of the first maximum; 0 if all is NaN."""
    tops = in_lanes(Real(NEG_INF))
    for begin in range(0, x.size, STEP):
        tops = fast_max(tops, top_of(x, smaller(begin, x.size - STEP)))
    m = largest(tops)
    for begin in range(0, x.size, STEP):
        at = smaller(begin, x.size - STEP)
        if holds(x, at, m):
            for i in range(at, at + STEP):
                if load(x, i) == m:
                    return i
    return 0


def _normalised(x):
    """(a row's maximum, logsumexp minus it, the sum of exp(x - maximum))."""
    s, g, m = scan(x, find_peak(x), None, None)
    top = np.float64(m)
    return m, likelihood(s, g, top), row_total(s, g, top, top)


def _sum_mixed(x, y, w, base, keep, spread, scratch):
    """Sums of q (base - x) and of q, the coefficients q being those of the smoothed, weighted target.

    scratch : (SPAN,) float64.
    """
    share, share_low, mass, mass_low = in_lanes(0.0), in_lanes(0.0), in_lanes(0.0), in_lanes(0.0)
    last_share, last_mass = 0.0, 0.0
    top = in_lanes(np.float64(base))
    for start in range(0, x.size, SPAN):
        size = smaller(SPAN, x.size - start)
        if y is not None and not lies_together(y):
            for i in range(size):
                scratch[i] = np.float64(load(y, start + i))
        shares, masses = in_lanes(0.0), in_lanes(0.0)
        for k in range(size // WIDTH):
            q = in_lanes(np.float64(spread))
            if y is not None:
                if lies_together(y):
                    q = coefficients(elements(y, start + k * WIDTH), 1.0, keep, spread)
                else:
                    q = coefficients(lanes_at(scratch, k), 1.0, keep, spread)
            if w is not None:
                q = weighted(q, elements(w, start + k * WIDTH))
            shares = with_share(shares, q, top, elements(x, start + k * WIDTH), unit)
            masses = masses + q
        share, share_low = with_value(share, share_low, shares)
        mass, mass_low = with_value(mass, mass_low, masses)
        for i in range(start + size - size % WIDTH, start + size):
            q = coefficient(y, w, i, keep, spread)
            last_mass += q
            last_share += q * (unit * np.float64(base) - unit * np.float64(load(x, i))) if q != 0.0 else 0.0
    return (folded(share, share_low) + last_share) / unit, folded(mass, mass_low) + last_mass


def _fill_softmax(x, top, total, factor, out):
    """out = factor * softmax(x); `total` is the sum of exp(x - top).  The largest probability is rounded once."""
    positive = abs(factor) / total
    if abs(top) <= LIMIT and Real(positive) < Real(np.inf):
        n = power_of(top)
        scale, peak = softmax_scale(n, np.float64(top), positive), Real(positive)
        for i in range(out.size):
            v = load(x, i)
            out[i] = peaked(fine_exp(v, n, scale), v, top, peak)
        if factor < 0.0:
            for i in range(out.size):
                out[i] = -out[i]
    else:  # logits or a factor so large that float64 is needed, or infinite, which gives NaN
        for i in range(out.size):
            out[i] = Real(factor * (exp(np.float64(load(x, i)) - np.float64(top)) / total))


def _subtract_target(gradient, y, w, scale, keep, spread):
    """gradient -= scale * (smoothed, weighted target)."""
    for i in range(gradient.size):
        gradient[i] -= Real(scale * coefficient(y, w, i, keep, spread))


# Each of these is compiled for Real and becomes visible to those after it, and to the kernels, without its underscore.
PIECES = (_scan, _find_peak, _normalised, _sum_mixed, _fill_softmax, _subtract_target)
scan = find_peak = normalised = sum_mixed = fill_softmax = subtract_target = None  # holes


# --- kernels: x is (outer, middle, n_classes), a row is x[i, j] and counts as row i * middle + j ----------------------


def index_rows(
    x,  # IN (outer, middle, n_classes), last axis contiguous
    target,  # IN (outer, middle) any integer dtype
    w,  # IN (n_classes,) float64, or None
    ignore_index,  # IN
    keep,  # IN 1 - label_smoothing
    spread,  # IN label_smoothing / n_classes, or None for 0
    scale,  # IN factor of the gradient
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4), see `_softmax`
    out,  # OUT (outer, middle) losses, or None
    gradient,  # OUT (outer, middle, n_classes), or None
):
    """Cross-entropy with class indices."""
    middle, n_classes = x.shape[1], x.shape[2]
    group = WIDTH if n_classes < LONG_ROW else 1
    scratch = span_of(np.float64)
    mass = mass_of(w, spread, n_classes)
    state = new_state(np.float64)
    s, g, own_x, tops, losses = state[0], state[1], state[2], state[3], state[4]
    for b in range(first, last):
        start_block(partials, b)
        end = smaller((b + 1) * block, x.shape[0] * middle)
        for start in range(b * block, end, group):
            n_rows = smaller(group, end - start)
            for k in range(n_rows):
                i, j = (start + k) // middle, (start + k) % middle
                label = target[i, j]
                if is_class(label, n_classes) and not is_ignored(label, ignore_index):
                    s[k], g[k], tops[k] = scan(x[i, j], np.int64(label), None, None)
                    own_x[k] = load(x[i, j], label)
            put_lanes(state, 4, likelihood(lanes_at(state, 0), lanes_at(state, 1), lanes_at(state, 2)))
            for k in range(n_rows):
                r = start + k
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
                v = weight(w, label)
                loss = scaled(scaled(keep, v), losses[k])
                top = Real(tops[k])
                tail = 0.0
                if spread is not None or gradient is not None:
                    tail = tail_above(s[k], g[k], own_x[k], losses[k], tops[k])
                own = 0.0
                if spread is not None:
                    own = spread * v if mass != 0.0 else 0.0
                    if w is not None and wants_rest(own_x[k], tops[k], tail, 2.0):
                        _, tail, _ = normalised(x[i, j])
                    smooth, _ = sum_mixed(x[i, j], None, w, top, keep, spread, scratch)
                    loss += mixed_loss(smooth, mass, tail)
                count(partials, b, loss, v, 1)
                put(out, (i, j), loss)
                if gradient is not None:
                    slopes = gradient[i, j]
                    row_sum = row_total(s[k], g[k], own_x[k], tops[k])
                    fill_softmax(x[i, j], top, row_sum, scale * (keep * v + mass), slopes)
                    if spread is not None:
                        subtract_target(slopes, None, w, scale, keep, spread)
                    slope = slope_at_target(s[k], g[k], own_x[k], tops[k], row_sum, keep * v, mass, own)
                    slopes[label] = scale * slope


def dense_rows(x, target, w, keep, spread, scale, block, first, last, partials, out, gradient):
    """Cross-entropy with class probabilities; target is (outer, middle, n_classes)."""
    middle = x.shape[1]
    scratch = span_of(np.float64)
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            row, y = x[i, j], target[i, j]
            top, tail, row_sum = normalised(row)
            loss, mass = sum_mixed(row, y, w, top, keep, spread, scratch)
            loss = mixed_loss(loss, mass, tail)
            count(partials, b, loss, 1, 1)
            put(out, (i, j), loss)
            if gradient is not None:
                fill_softmax(row, top, row_sum, scale * mass, gradient[i, j])
                subtract_target(gradient[i, j], y, w, scale, keep, spread)


def known_rows(x, target, known, ignore_index, scale, block, first, last, partials, gradient):
    """The gradients of losses whose derivatives are known.

    known : IN (2, outer, middle) of each row the factor of softmax, and the slope at the label.
    """
    middle, n_classes = x.shape[1], x.shape[2]
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            label, slopes = target[i, j], gradient[i, j]
            if is_ignored(label, ignore_index) or not is_class(label, n_classes):
                slopes[:] = Real(0.0)
                continue
            s, g, m = scan(x[i, j], np.int64(label), None, None)
            top = np.float64(m)
            row_sum = row_total(s, g, np.float64(load(x[i, j], label)), top)
            factor = scale * known[0, i, j]
            if is_low(factor):
                fill_softmax(x[i, j], m, row_sum, factor * LIFT, slopes)
                slopes *= Real(1.0 / LIFT)
            else:
                fill_softmax(x[i, j], m, row_sum, factor, slopes)
            slopes[label] = scale * known[1, i, j]


def normalise_rows(x, block, first, last, lse, log_softmax, softmax):
    """logsumexp (outer, middle), log-softmax and softmax (like x): those that are not None."""
    middle = x.shape[1]
    for r in range(first * block, smaller(last * block, x.shape[0] * middle)):
        i, j = r // middle, r % middle
        row = x[i, j]
        top, tail, row_sum = normalised(row)
        put(lse, (i, j), np.float64(top) + tail if abs(top) < INF else infinite_sum(row, np.float64(top)))
        if log_softmax is not None:
            o = log_softmax[i, j]
            shift = Real(tail)
            for c in range(o.size):
                o[c] = log_probability(load(row, c), top, shift)
        if softmax is not None:
            fill_softmax(row, top, row_sum, 1.0, softmax[i, j])


whole = None  # a hole: index_rows
TEMPLATES = {f.__name__: f for f in (index_rows, dense_rows, known_rows, normalise_rows)}


@functools.cache
def pieces(real):
    """All functions that kernels of this type are made of, compiled once per process."""
    name = np.dtype(real).name
    # the difference of two float64 logits may overflow; that of their halves does not
    unit = 1.0 if real is np.float32 else 0.5
    filled = chain(PIECES, name, Real=real, likelihood=likelihood_for(real), least=LEAST_SUM[real], unit=unit)
    return {**filled, "whole": called(index_rows, name, **filled)}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", takes_strides=along, **pieces(real))
