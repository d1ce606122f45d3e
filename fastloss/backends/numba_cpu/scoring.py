"""Kernels that score rows: negative log-likelihood, logsumexp, arg max and the target's rank, from one pass over the
logits.

They use the scans of `rowwise` and `columns`, which note the positions of the maximum and of the target on the way.
Rows with NaN, for which these notes are unreliable, are read once more.
"""

import numpy as np

from fastloss.backends import LANES
from fastloss.backends.numba_cpu import columns, rowwise
from fastloss.backends.numba_cpu._jit import across, along, specialise
from fastloss.backends.numba_cpu._lanes import WIDTH
from fastloss.backends.numba_cpu._likelihood import tail_above
from fastloss.backends.numba_cpu._load import load, smaller
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._registers import lanes_at, put_lanes
from fastloss.backends.numba_cpu._softmax import (
    INF,
    NEG_INF,
    count_before,
    first_of_all,
    infinite_sum,
    is_class,
    is_ignored,
    note_bad,
    put,
    start_block,
    wants_rest,
)

new_state, new_notes, new_levels = on_stack(6, WIDTH, zeroed=True), on_stack(2), on_stack(1, LANES)

Real = likelihood = scan = scan_lanes = find_tails = normalised = exact_tails = None  # holes


def score_rows(
    x,  # IN (outer, middle, n_classes), last axis contiguous
    target,  # IN (outer, middle) any integer dtype
    ignore_index,  # IN
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4), see `_softmax`; only the first bad row is set
    nll,  # OUT (outer, middle) Real
    lse,  # OUT (outer, middle) Real
    best,  # OUT (outer, middle) int64, the class of the maximum
    correct,  # OUT (outer, middle) bool, whether that is the target
    rank,  # OUT (outer, middle) int64, how many classes come before the target, or None
):
    """Scores of contiguous rows; an ignored row has nll 0 and rank -1."""
    middle, n_classes = x.shape[1], x.shape[2]
    group = WIDTH if n_classes < rowwise.LONG_ROW else 1
    state = new_state(np.float64)
    s, g, own_x, tops, losses, tails = state[0], state[1], state[2], state[3], state[4], state[5]
    notes = new_notes(np.int64)
    for b in range(first, last):
        start_block(partials, b)
        end = smaller((b + 1) * block, x.shape[0] * middle)
        for start in range(b * block, end, group):
            n_rows = smaller(group, end - start)
            for k in range(n_rows):
                i, j = (start + k) // middle, (start + k) % middle
                row, label = x[i, j], target[i, j]
                counts = not is_ignored(label, ignore_index)
                if counts and not is_class(label, n_classes):
                    note_bad(partials, b, start + k)
                    counts = False
                own = np.int64(label) if counts else -1
                own_x[k] = load(row, own) if counts else NEG_INF
                if rank is None:
                    s[k], g[k], tops[k] = scan(row, own, notes, None)
                else:
                    s[k], g[k], tops[k] = scan(row, own, notes, Real(own_x[k]))
                if s[k] != s[k] or own_x[k] != own_x[k]:
                    notes[0] = first_of_all(row)
                    if rank is not None:
                        notes[1] = count_before(row, 0, n_classes, own, Real(own_x[k]))
                best[i, j] = notes[0]
                correct[i, j] = notes[0] == own
                put(rank, (i, j), notes[1] if counts else -1)
            put_lanes(state, 4, likelihood(lanes_at(state, 0), lanes_at(state, 1), lanes_at(state, 2)))
            tail = tail_above(
                lanes_at(state, 0), lanes_at(state, 1), lanes_at(state, 2), lanes_at(state, 4), lanes_at(state, 3)
            )
            put_lanes(state, 5, tail)
            for k in range(n_rows):
                i, j = (start + k) // middle, (start + k) % middle
                if wants_rest(own_x[k], tops[k], tails[k], 1.0) and abs(tops[k] + tails[k]) < 1.0:
                    _, tails[k], _ = normalised(x[i, j])
                nll[i, j] = losses[k] if not is_ignored(target[i, j], ignore_index) else 0.0
                lse[i, j] = tops[k] + tails[k] if abs(tops[k]) < INF else infinite_sum(x[i, j], tops[k])


def score_columns(x, target, ignore_index, block, first, last, partials, nll, lse, best, correct, rank):
    """Scores across rows: x is (outer, n_classes, inner), all else (outer, inner); `block` counts tiles."""
    outer, n_classes, inner = x.shape
    tiles = (inner + LANES - 1) // LANES
    tile = columns.new_tile(Real)
    work = columns.new_work(Real)
    state = columns.new_state(np.float64)
    notes = columns.new_notes(np.int32)
    levels = new_levels(Real)
    labels = columns.new_lanes(np.int32)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, start = q // tiles, (q % tiles) * LANES
            width = smaller(LANES, inner - start)
            part = x[i, :, start : start + width]
            columns.find_labels(target[i, start : start + width], n_classes, ignore_index, labels)
            if rank is None:
                scan_lanes(part, tile, labels, work, state, notes, None)
            else:
                for lane in range(width):
                    levels[0, lane] = load(part[labels[lane]], lane) if labels[lane] >= 0 else NEG_INF
                scan_lanes(part, tile, labels, work, state, notes, levels)
            for lane in range(width):
                if labels[lane] < 0:
                    work[columns.OWN, lane] = NEG_INF
            find_tails(work, state, width)
            exact_tails(part, 1.0, 1.0, work, state)
            for lane in range(width):
                j, own = start + lane, np.int64(labels[lane])
                top, own_x = state[columns.TOP, lane], state[columns.X, lane]
                found, ahead = np.int64(notes[columns.BEST, lane]), np.int64(notes[columns.AHEAD, lane])
                if state[columns.S, lane] != state[columns.S, lane] or own_x != own_x:
                    found = first_of_all(part[:, lane])
                    if rank is not None:
                        ahead = count_before(part[:, lane], 0, n_classes, own, Real(own_x))
                if own < 0 and not is_ignored(target[i, j], ignore_index):
                    note_bad(partials, b, i * inner + j)
                nll[i, j] = state[columns.NLL, lane] if own >= 0 else 0.0
                lse[i, j] = (
                    top + state[columns.TAIL, lane] if abs(top) < INF else infinite_sum(part[:, lane], np.float64(top))
                )
                best[i, j] = found
                correct[i, j] = found == own
                put(rank, (i, j), ahead if own >= 0 else -1)


TEMPLATES = {"score_rows": score_rows, "score_columns": score_columns}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    family, takes_strides = (rowwise, along) if op == "score_rows" else (columns, across)
    pieces = family.pieces(real)
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", takes_strides=takes_strides, **pieces)
