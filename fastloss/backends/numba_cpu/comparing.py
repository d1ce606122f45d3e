"""Kernels that compare the distributions of two arrays of logits row by row.

For each pair of rows, a first sweep finds maxima and sums, as in `rowwise` and `columns`; a second one, while both rows
are in cache, sums the terms of the divergence.
"""

import numpy as np

from fastloss.backends import LANES
from fastloss.backends.numba_cpu import columns, rowwise
from fastloss.backends.numba_cpu._divergence import (
    FAR,
    exact_divergence,
    finished,
    gap_of,
    highest_of,
    own_difference,
    rise_of,
    scale_of,
    total_of,
    with_class,
    with_step,
)
from fastloss.backends.numba_cpu._jit import across, along, called, chain, specialise
from fastloss.backends.numba_cpu._likelihood import tail_above
from fastloss.backends.numba_cpu._load import load, smaller
from fastloss.backends.numba_cpu._math import LIMIT, power_of
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._registers import STEP, in_lanes, lanes_at, reach_of, total
from fastloss.backends.numba_cpu._softmax import (
    INF,
    NAN,
    NEG_INF,
    first_of_all,
    is_class,
    is_ignored,
    note_bad,
    put,
    start_block,
)

# holes
Real = likelihood = scan = scan_lanes = find_tails = load_tile = far = None
divergence = diverge_lanes = put_comparison = None

# Rows of the array with what `diverge_lanes` needs for each pair of rows, (PAIR, LANES) of the type computed in.
R_POWER, X_POWER, SCALE, HIGH, LOW, MOST = range(6)
PAIR = 6
new_pair, new_found, new_notes = on_stack(PAIR, LANES, zeroed=True), on_stack(2, LANES), on_stack(2)


def _put_comparison(i, j, label, divergence, same_peak, loss, base, d, kl, same, nll, reference_nll, delta_p):
    """Write the results of one row; a label below 0 means that there is none, and d is loss - base to more digits."""
    kl[i, j] = divergence
    same[i, j] = same_peak
    put(nll, (i, j), loss if label >= 0 else 0.0)
    put(reference_nll, (i, j), base if label >= 0 else 0.0)
    put(delta_p, (i, j), rise_of(loss, base, d) if label >= 0 else 0.0)


def _divergence(r, x, r_top, r_tail, x_top, x_tail):
    """(divergence, excess) of a row, see `_divergence`; the last step overlaps the one before, so that it ends with the
    row."""
    n, m = power_of(Real(r_top)), power_of(Real(x_top))
    r_lowest, r_bias = reach_of(n)
    x_lowest, x_bias = reach_of(m)
    gap = gap_of(r_top, r_tail, x_top, x_tail)
    high = Real(gap)
    constants = (r_lowest, r_bias, x_lowest, x_bias, Real(scale_of(gap, n, m)), high, Real(gap - np.float64(high)))
    sums, shares, most = in_lanes(0.0), in_lanes(0.0), in_lanes(Real(NEG_INF))
    for begin in range(0, r.size, STEP):
        at = smaller(begin, r.size - STEP)
        sums, shares, most = with_step(sums, shares, most, r, x, at, np.int32(begin - at), constants)
    if abs(r_top) > LIMIT or abs(x_top) > LIMIT or highest_of(most) >= far:
        return exact_divergence(r, x, r_top, r_tail, x_top, x_tail)
    whole = total_of(r_top, r_tail, n)
    return finished(total(sums) / whole, total(shares) / whole)


def compare_rows(
    reference,  # IN (outer, middle, n_classes), last axis contiguous
    x,  # IN likewise
    target,  # IN (outer, middle) any integer dtype, or None
    ignore_index,  # IN
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4), see `_softmax`; only the first bad row is set
    kl,  # OUT (outer, middle) Real, the divergence of x from the reference
    same,  # OUT (outer, middle) bool, whether both have their maximum at the same class
    nll,  # OUT (outer, middle) Real, of x; it and those below may be None
    reference_nll,  # OUT (outer, middle) Real
    delta_p,  # OUT (outer, middle) Real, by how much x makes the target more likely
):
    """Comparisons of contiguous rows; in an ignored row everything that depends on the target is 0."""
    middle, n_classes = x.shape[1], x.shape[2]
    notes = new_notes(np.int64)
    for b in range(first, last):
        start_block(partials, b)
        for row in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = row // middle, row % middle
            own = np.int64(-1)
            if target is not None:
                label = target[i, j]
                if is_class(label, n_classes) and not is_ignored(label, ignore_index):
                    own = np.int64(label)
                elif not is_ignored(label, ignore_index):
                    note_bad(partials, b, row)
            r_own, x_own = np.float64(NEG_INF), np.float64(NEG_INF)
            if own >= 0:
                r_own, x_own = np.float64(load(reference[i, j], own)), np.float64(load(x[i, j], own))
            s, g, m = scan(reference[i, j], own, notes, None)
            r_top, r_loss, r_peak = np.float64(m), likelihood(s, g, r_own), notes[0]
            r_tail = tail_above(s, g, r_own, r_loss, r_top)
            if s != s or r_own != r_own:
                r_peak, r_tail = first_of_all(reference[i, j]), NAN
            s, g, m = scan(x[i, j], own, notes, None)
            x_top, x_loss, x_peak = np.float64(m), likelihood(s, g, x_own), notes[0]
            x_tail = tail_above(s, g, x_own, x_loss, x_top)
            if s != s or x_own != x_own:
                x_peak, x_tail = first_of_all(x[i, j]), NAN
            found, excess = NAN, 0.0
            if abs(r_top) < INF and abs(x_top) < INF and r_tail == r_tail and x_tail == x_tail:
                found, excess = divergence(reference[i, j], x[i, j], r_top, r_tail, x_top, x_tail)
            d = own_difference(r_own - x_own, gap_of(r_top, r_tail, x_top, x_tail), excess, x_loss, r_loss)
            outs = (kl, same, nll, reference_nll, delta_p)
            put_comparison(i, j, own, found, r_peak == x_peak, x_loss, r_loss, d, *outs)


def _diverge_lanes(r, x, r_state, x_state, r_tile, x_tile, pair, found):
    """OUT found (2, LANES): divergence and excess of the rows of a tile, each of which is (n_classes, rows)."""
    for lane in range(x.shape[1]):
        r_top, r_tail = r_state[columns.TOP, lane], r_state[columns.TAIL, lane]
        x_top, x_tail = x_state[columns.TOP, lane], x_state[columns.TAIL, lane]
        n, m = power_of(Real(r_top)), power_of(Real(x_top))
        pair[R_POWER, lane], pair[X_POWER, lane] = n, m
        gap = gap_of(r_top, r_tail, x_top, x_tail)
        pair[SCALE, lane], pair[HIGH, lane] = Real(scale_of(gap, n, m)), Real(gap)
        pair[LOW, lane] = Real(gap - np.float64(pair[HIGH, lane]))
    for strip in range(columns.strips(x.shape[1])):
        r_lowest, r_bias = reach_of(columns.get(pair, R_POWER, strip))
        x_lowest, x_bias = reach_of(columns.get(pair, X_POWER, strip))
        constants = (
            r_lowest,
            r_bias,
            x_lowest,
            x_bias,
            columns.get(pair, SCALE, strip),
            columns.get(pair, HIGH, strip),
            columns.get(pair, LOW, strip),
        )
        sums, shares, most = in_lanes(0.0), in_lanes(0.0), in_lanes(Real(NEG_INF))
        for start in range(0, x.shape[0], columns.GROUP):
            classes = smaller(columns.GROUP, x.shape[0] - start)
            load_tile(r, start, classes, strip, r_tile)
            load_tile(x, start, classes, strip, x_tile)
            for k in range(strip * columns.GROUP, strip * columns.GROUP + classes):
                sums, shares, most = with_class(sums, shares, most, lanes_at(r_tile, k), lanes_at(x_tile, k), constants)
        columns.set_(found, 0, strip, sums)
        columns.set_(found, 1, strip, shares)
        columns.set_(pair, MOST, strip, most)
    for lane in range(x.shape[1]):
        r_top, r_tail = r_state[columns.TOP, lane], r_state[columns.TAIL, lane]
        x_top, x_tail = x_state[columns.TOP, lane], x_state[columns.TAIL, lane]
        if not (abs(r_top) < INF and abs(x_top) < INF and r_tail == r_tail and x_tail == x_tail):
            found[0, lane], found[1, lane] = NAN, 0.0
        elif abs(r_top) > LIMIT or abs(x_top) > LIMIT or pair[MOST, lane] >= far:
            own = exact_divergence(r[:, lane], x[:, lane], r_top, r_tail, x_top, x_tail)
            found[0, lane], found[1, lane] = own
        else:
            whole = total_of(r_top, r_tail, power_of(Real(r_top)))
            own = finished(found[0, lane] / whole, found[1, lane] / whole)
            found[0, lane], found[1, lane] = own


@called
def mark_missing(x, state, notes):
    """In rows with NaN, set the class of the maximum to that of the first NaN, and logsumexp minus the maximum to
    NaN."""
    for lane in range(x.shape[1]):
        s, own = state[columns.S, lane], state[columns.X, lane]
        if s != s or own != own:
            notes[columns.BEST, lane] = np.int32(first_of_all(x[:, lane]))
            state[columns.TAIL, lane] = NAN


def compare_columns(
    reference, x, target, ignore_index, block, first, last, partials, kl, same, nll, reference_nll, delta_p
):
    """Comparisons across rows: logits are (outer, n_classes, inner), all else (outer, inner); `block` counts tiles."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    r_tile, x_tile = columns.new_tile(Real), columns.new_tile(Real)
    r_work, x_work = columns.new_work(Real), columns.new_work(Real)
    r_state, x_state = columns.new_state(np.float64), columns.new_state(np.float64)
    r_notes, x_notes = columns.new_notes(np.int32), columns.new_notes(np.int32)
    pair, found = new_pair(Real), new_found(np.float64)
    labels = columns.new_lanes(np.int32)
    for lane in range(LANES):
        labels[lane] = -1
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            r_part, x_part = reference[i, :, start : start + width], x[i, :, start : start + width]
            if target is not None:
                columns.find_labels(target[i, start : start + width], n_classes, ignore_index, labels)
            scan_lanes(r_part, r_tile, labels, r_work, r_state, r_notes, None)
            scan_lanes(x_part, x_tile, labels, x_work, x_state, x_notes, None)
            for lane in range(width):
                if labels[lane] < 0:
                    r_work[columns.OWN, lane] = x_work[columns.OWN, lane] = NEG_INF
            find_tails(r_work, r_state, width)
            find_tails(x_work, x_state, width)
            mark_missing(r_part, r_state, r_notes)
            mark_missing(x_part, x_state, x_notes)
            diverge_lanes(r_part, x_part, r_state, x_state, r_tile, x_tile, pair, found)
            for lane in range(width):
                j, own = start + lane, np.int64(labels[lane])
                if target is not None:
                    if own < 0 and not is_ignored(target[i, j], ignore_index):
                        note_bad(partials, b, i * inner + j)
                gap = gap_of(
                    r_state[columns.TOP, lane],
                    r_state[columns.TAIL, lane],
                    x_state[columns.TOP, lane],
                    x_state[columns.TAIL, lane],
                )
                losses = x_state[columns.NLL, lane], r_state[columns.NLL, lane]
                between = r_state[columns.X, lane] - x_state[columns.X, lane]
                d = own_difference(between, gap, found[1, lane], *losses)
                peaks_agree = r_notes[columns.BEST, lane] == x_notes[columns.BEST, lane]
                outs = (kl, same, nll, reference_nll, delta_p)
                put_comparison(i, j, own, found[0, lane], peaks_agree, *losses, d, *outs)


TEMPLATES = {"compare_rows": compare_rows, "compare_columns": compare_columns}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    name = np.dtype(real).name
    family, own = (rowwise, _divergence) if op == "compare_rows" else (columns, _diverge_lanes)
    holes = {**family.pieces(real), "far": FAR[real]}
    filled = chain((_put_comparison, own), name, **holes)
    takes_strides = along if op == "compare_rows" else across
    return specialise(TEMPLATES[op], f"{op}_{name}", takes_strides=takes_strides, **filled)
