"""Kernels of the softmax family: how rows are distributed over threads.

`groups`: each warp computes up to WARP rows at a time, GROUP neighbouring lanes per row; in the end a lane has the state of one
row, and finishes it.  `teams`: each block computes a row, or a chunk of one if rows are few.  Both can do every
operation; the holes say which:

LABELED   one class label per row, whose element is excluded from the sum: cross-entropy with indices, scores
SPREAD    coefficients of all classes: label smoothing, and with DENSE class probabilities
BEST      the largest class, and with RANK how many come before the target
SECOND    a second sweep writes the gradient (GRADIENT), log-softmax (LOGS) or softmax (POWERS)

Rows are numbered in C order over two axes (outer, middle), each with its own stride; classes have a third.  Strides are
in elements.
"""

import math

import numpy as np

from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._settle import NO_BAD, TOTALS, WEIGHT
from fastloss.backends.numba_cuda._softmax import GRADIENT, LOGS, POWERS
from fastloss.backends.numba_cuda._target import (
    WARP,
    block,
    exp,
    fence,
    lane,
    larger,
    n_blocks,
    quotient,
    shuffle,
    sync,
    sync_warp,
    take_ticket,
    thread,
)

INF, NAN = math.inf, math.nan

# How many numbers make up the state that chunks of a row pass through memory, and how many rows at most are cut into
# chunks.
STATE = 8
TICKETS = 2048

Real = Int = N = V = BATCH = WRITTEN = STAGED = ROWS = GROUP = STEPS = AT_ONCE = THREADS = WARPS = None  # holes: sizes
CLASSES = 0  # a hole: how many a row has that is staged
stage = memory_of = origin_of = None  # holes: `_staging`
LABELED = SPREAD = DENSE = BEST = RANK = SECOND = False  # holes: what is done
read = read_weight = read_sum = read_target = None  # holes: memory
write_loss = write_index = write_flag = write_sum = write_batch = write_vector = write_ticket = None
sweep = merged = finish = settle = fill = coefficient = exactly_powered = None  # holes: `_softmax` and `_settle`
scaled = mixed_loss = target_slope = None  # holes: formulas
place_of = label_of = None  # holes: `labels`


def first_missing(x, origin, stride, n_classes):
    """The position of the first NaN in a row; n_classes if there is none."""
    for c in range(n_classes):
        v = read(x, origin + c * stride)
        if v != v:
            return np.int64(c)
    return n_classes


def row_loss(label, left, r, s, top, share, mass, w, keep):
    """(a row's loss, its weight, logsumexp - max(left, r))."""
    nll, tail = finish(left, r, s)
    loss, weight = 0.0, 1.0
    if LABELED:
        if w != 0:
            weight = np.float64(read_weight(w, label))
        loss = scaled(scaled(keep, weight), nll)
    if SPREAD:
        loss += mixed_loss(share, mass, tail)
    return loss, weight, tail


def row_outputs(
    row, x, origin, x_class, n_classes, label, counts, left, r, s, best, rank, nll, tail,
    lses, bests, corrects, ranks, tops, n_tops,
):  # fmt: skip
    """Write a row's scores, or its logsumexp, to the outputs that are not 0."""
    top = larger(left, r)
    if lses != 0:
        lse = np.float64(top) + tail
        if not (top > Real(-INF) and top < Real(INF)):
            missing = first_missing(x, origin, x_class, n_classes) < n_classes
            lse = NAN if missing else np.float64(top)
        write_loss(lses, row, Real(lse))
    if BEST:
        if counts and (left > r or left == r and label < best):
            best = label
        if s != s or left != left:
            missing = first_missing(x, origin, x_class, n_classes)
            best = missing if missing < n_classes else best
        write_index(bests, row, best)
        write_flag(corrects, row, np.int8(counts and best == label))
        if RANK:
            write_index(ranks, row, rank if counts else np.int64(-1))
            write_flag(tops, row, np.int8(counts and rank < n_tops))


def second_sweep(
    batch, x, origin, stride, first, offset, step, end, out, out_origin, out_class,
    label, counts, top, finish_by, s_rest, share, mass, own, y, y_origin, y_stride, w, keep, spread, scale,
):  # fmt: skip
    """Write the gradient, log-softmax or softmax of the vectors first + offset, ... below `end`, as in `sweep`.

    finish_by : logsumexp - top; for POWERS, its exp(-...).
    s_rest : 1 - softmax at the label, from the others' sum, because the difference would cancel.
    share, mass : factors of the softmax, for the label and for the coefficients; `own`: the label's coefficient.
    """
    while first + offset < end:
        at = first + offset
        here = Int(label - at)  # where the label is in the batch, if it is
        fill(batch, x, origin, stride, first, offset, step, end)
        for v in range(V):
            for k in range(N):
                c = at + v * step + k
                if SECOND == POWERS:
                    batch[v * N + k] = exactly_powered(batch[v * N + k], top) * finish_by
                elif SECOND == LOGS:
                    batch[v * N + k] = (batch[v * N + k] - top) - finish_by
                else:
                    p = exp((batch[v * N + k] - top) - finish_by)
                    slope = (share + mass) * p
                    if SPREAD and c < end:
                        slope -= coefficient(c, y, y_origin, y_stride, w, keep, spread)
                    if LABELED and here == v * step + k:
                        slope = target_slope(s_rest, p, share, mass, own)
                    batch[v * N + k] = slope * scale if counts else Real(0.0)
        write_batch(batch, out, out_origin, out_class, at, step, end)
        first += V * step


def write_vectors(batch, out, origin, stride, at, step, end):
    """Store a batch to a row whose classes are neighbours and whose vectors are aligned."""
    for v in range(V):
        if at + v * step < end:
            for k in range(N // WRITTEN):
                write_vector(out, origin + at + v * step + k * WRITTEN, batch, v * N + k * WRITTEN)


def write_elements(batch, out, origin, stride, at, step, end):
    for v in range(V):
        for k in range(N):
            c = at + v * step + k
            if c < end:
                write_loss(out, origin + c * stride, batch[v * N + k])


def of_lane(value, source):
    """The value in lane `source` of this lane's group."""
    return shuffle(value, source) if GROUP > 1 else value


def groups(
    x, x_outer, x_row, x_class,  # IN logits: address and strides
    y, y_outer, y_row, y_class, kind,  # IN labels or class probabilities, code of the labels' type
    w,  # IN (n_classes,) Real, or 0
    ignore, keep, spread, middle, n_rows, n_classes,
    losses, lses, bests, corrects, ranks, tops, n_tops,  # OUT (n_rows,) each, or 0; how many classes `tops` is about
    out, out_outer, out_row, out_class,  # OUT of the second sweep
    scale, by_weight,  # IN what slopes are multiplied by, and whether it is divided by the weight in TOTALS
    ws, value, mode, divisor,  # OUT sums and the reduced result, or 0
    chunk, states,  # of `teams`
):  # fmt: skip
    batch = cuda.local.array(BATCH, Real)
    sums = cuda.shared.array((THREADS, 4), np.float64)
    staged = cuda.shared.array(STAGED, Real)
    memory = memory_of(staged, x)
    member, party = lane() % GROUP, lane() // GROUP
    if SECOND == GRADIENT and by_weight:
        scale = scale / read_sum(ws, TOTALS + WEIGHT)
    if CLASSES:  # the same, as constants
        n_classes, x_class = np.int64(CLASSES), np.int64(1)
    loss_sum, weight_sum, count, bad = 0.0, 0.0, 0.0, NO_BAD
    tile = block() * WARPS + thread() // WARP
    while tile * ROWS < n_rows:
        # the row that this lane will finish: each lane reads its label now, so that a warp waits for labels only once
        row = tile * ROWS + member * (WARP // GROUP) + party
        is_row = row < n_rows and member < STEPS
        outer, inner = place_of(row, middle)
        x_at, y_at = origin_of(outer * x_outer + inner * x_row, n_classes), outer * y_outer + inner * y_row
        stage(staged, x, tile * ROWS, n_rows, n_classes)
        label, counts, is_bad, own = np.int64(-1), is_row, False, Real(-INF)
        if LABELED and is_row:
            label, counts, is_bad = label_of(y, y_at, kind, ignore, n_classes)
            own = read(memory, x_at + label * x_class) if counts else Real(-INF)
        wanted = label if counts else np.int64(-1)  # the label that is excluded, if any
        is_swept = counts or BEST and is_row
        for part in range(STEPS // AT_ONCE):
            left, r, s, top, share, mass = Real(0.0), Real(0.0), -1.0, Real(0.0), 0.0, 0.0
            best, rank = np.int64(0), np.int64(0)
            for k in range(part * AT_ONCE, (part + 1) * AT_ONCE):
                source = party * GROUP + k
                origin, label_k, left_k = of_lane(x_at, source), of_lane(wanted, source), of_lane(own, source)
                y_origin = of_lane(y_at, source) if DENSE else y_at
                r_k, s_k, top_k, share_k, mass_k = Real(-INF), -1.0, Real(-INF), 0.0, 0.0
                best_k, rank_k = np.int64(0), np.int64(0)
                if of_lane(np.int32(is_swept), source) != 0:
                    left_k, r_k, s_k, top_k, share_k, mass_k, best_k, rank_k = sweep(
                        batch, memory, origin, x_class, np.int64(0), np.int64(member * N), GROUP * N, n_classes,
                        label_k, left_k, y, y_origin, y_class, w, Real(keep), Real(spread),
                    )  # fmt: skip
                left_k, r_k, s_k, top_k, share_k, mass_k, best_k, rank_k = merged(
                    left_k, r_k, s_k, top_k, share_k, mass_k, best_k, rank_k
                )
                if member == k:
                    left, r, s, top, share, mass, best, rank = left_k, r_k, s_k, top_k, share_k, mass_k, best_k, rank_k
            loss, weight, tail = row_loss(label if counts else np.int64(0), left, r, s, top, share, mass, w, keep)
            if is_row and member // AT_ONCE == part:
                if counts:
                    loss_sum += loss
                    weight_sum += weight
                    count += 1.0
                if is_bad:
                    bad = np.float64(row) if np.float64(row) < bad else bad
                if losses != 0:
                    write_loss(losses, row, Real(loss if counts else NAN if is_bad else 0.0))
                row_outputs(
                    row, memory, x_at, x_class, n_classes, label, counts,
                    left, r, s, best, rank, loss, tail, lses, bests, corrects, ranks, tops, n_tops,
                )  # fmt: skip
            if SECOND:
                row_share = keep * weight if LABELED else 0.0
                row_own = np.float64(spread) * weight if LABELED and SPREAD else 0.0
                # 1 - softmax at the label is (1 + s) exp(r - lse)
                high = larger(left, r)
                rest = (1.0 + s) * exp((np.float64(r) - np.float64(high)) - tail)
                last = exp(-tail) if SECOND == POWERS else tail
                out_at = outer * out_outer + inner * out_row
                for k in range(part * AT_ONCE, (part + 1) * AT_ONCE):
                    source = party * GROUP + k
                    origin, out_origin = of_lane(x_at, source), of_lane(out_at, source)
                    y_origin = of_lane(y_at, source) if DENSE else y_at
                    label_k, counts_k = of_lane(label, source), of_lane(np.int32(counts), source)
                    top_k, last_k, rest_k = of_lane(high, source), of_lane(last, source), of_lane(rest, source)
                    share_k, mass_k, own_k = of_lane(row_share, source), of_lane(mass, source), of_lane(row_own, source)
                    if tile * ROWS + k * (WARP // GROUP) + party < n_rows:
                        second_sweep(
                            batch, memory, origin, x_class, np.int64(0), np.int64(member * N), GROUP * N, n_classes,
                            out, out_origin, out_class, label_k, counts_k != 0, top_k, Real(last_k),
                            Real(rest_k), Real(share_k), Real(mass_k), Real(own_k), y, y_origin, y_class,
                            w, Real(keep), Real(spread), Real(scale),
                        )  # fmt: skip
        sync_warp()  # before the next rows are staged
        tile += n_blocks() * WARPS
    if value != 0 or LABELED or mode >= 0:
        settle(sums, loss_sum, weight_sum, count, bad, ws, value, mode, 1.0, divisor, 0.0)


def teams(
    x, x_outer, x_row, x_class, y, y_outer, y_row, y_class, kind, w, ignore, keep, spread, middle, n_rows, n_classes,
    losses, lses, bests, corrects, ranks, tops, n_tops, out, out_outer, out_row, out_class, scale, by_weight, ws, value, mode, divisor,
    chunk,  # IN classes per block: all of a row's, or fewer if rows are few; a multiple of N
    states,  # SCRATCH (n_rows, n_chunks, STATE) float64, and before it TICKETS of 8 bytes, which are 0 between calls
):  # fmt: skip
    """As `groups`, with one block per row or chunk of a row; a row's last block finishes it.  There are at most WARP
    chunks."""
    batch = cuda.local.array(BATCH, Real)
    sums = cuda.shared.array((THREADS, 4), np.float64)
    shared = cuda.shared.array((WARP, STATE), np.float64)
    t = thread()
    if SECOND == GRADIENT and by_weight:
        scale = scale / read_sum(ws, TOTALS + WEIGHT)
    loss_sum, weight_sum, count, bad = 0.0, 0.0, 0.0, NO_BAD
    n_chunks = quotient(n_classes + chunk - 1, chunk)
    item = block()
    while item < n_rows * n_chunks:
        row = quotient(item, n_chunks)
        start = (item - row * n_chunks) * chunk
        end = start + chunk if start + chunk < n_classes else n_classes
        outer, inner = place_of(row, middle)
        origin = outer * x_outer + inner * x_row
        y_origin = outer * y_outer + inner * y_row
        label, counts, is_bad = np.int64(-1), True, False
        left, r, s, top, share, mass = Real(-INF), Real(-INF), -1.0, Real(-INF), 0.0, 0.0
        best, rank = np.int64(0), np.int64(0)
        if LABELED:
            label, counts, is_bad = label_of(y, y_origin, kind, ignore, n_classes)
            left = read(x, origin + label * x_class) if counts else Real(-INF)
        if counts or BEST:
            left, r, s, top, share, mass, best, rank = sweep(
                batch, x, origin, x_class, start, np.int64(t * N), THREADS * N, end,
                label if counts else np.int64(-1), left, y, y_origin, y_class, w, Real(keep), Real(spread),
            )  # fmt: skip
        left, r, s, top, share, mass, best, rank = merged(left, r, s, top, share, mass, best, rank)
        if lane() == 0:
            pack(shared, t // WARP, left, r, s, top, share, mass, best, rank)
        sync()
        if t < WARP:
            left, r, s, top, share, mass, best, rank = unpack(shared, t, WARPS)
            left, r, s, top, share, mass, best, rank = merged(left, r, s, top, share, mass, best, rank)
        sync()
        is_last = True
        if n_chunks > 1:
            if t == 0:
                pack(shared, 0, left, r, s, top, share, mass, best, rank)
                for k in range(STATE):
                    write_sum(states, TICKETS + item * STATE + k, shared[0, k])
                fence()
                shared[0, 0] = np.float64(take_ticket(states, 2 * row))
            sync()
            is_last = shared[0, 0] == np.float64(n_chunks - 1)
            sync()
            if is_last:
                fence()
                if t < n_chunks:
                    for k in range(STATE):
                        shared[t, k] = read_sum(states, TICKETS + (row * n_chunks + t) * STATE + k)
                sync()
                if t < WARP:
                    left, r, s, top, share, mass, best, rank = unpack(shared, t, n_chunks)
                    left, r, s, top, share, mass, best, rank = merged(left, r, s, top, share, mass, best, rank)
                if t == 0:
                    write_ticket(states, 2 * row, 0)
        if is_last and t == 0:
            loss, weight, tail = row_loss(label if counts else np.int64(0), left, r, s, top, share, mass, w, keep)
            if counts:
                loss_sum += loss
                weight_sum += weight
                count += 1.0
            if is_bad:
                bad = np.float64(row) if np.float64(row) < bad else bad
            if losses != 0:
                write_loss(losses, row, Real(loss if counts else NAN if is_bad else 0.0))
            row_outputs(
                row, x, origin, x_class, n_classes, label, counts,
                left, r, s, best, rank, loss, tail, lses, bests, corrects, ranks, tops, n_tops,
            )  # fmt: skip
            if SECOND:
                high = larger(left, r)
                shared[0, 0] = np.float64(high)
                shared[0, 1] = exp(-tail) if SECOND == POWERS else tail
                shared[0, 2] = (1.0 + s) * exp((np.float64(r) - np.float64(high)) - tail)
                shared[0, 3] = keep * weight if LABELED else 0.0
                shared[0, 4] = mass
                shared[0, 5] = spread * weight if LABELED and SPREAD else 0.0
        sync()
        if SECOND:
            second_sweep(
                batch, x, origin, x_class, start, np.int64(t * N), THREADS * N, end,
                out, outer * out_outer + inner * out_row, out_class, label, counts, Real(shared[0, 0]), Real(shared[0, 1]),
                Real(shared[0, 2]), Real(shared[0, 3]), Real(shared[0, 4]), Real(shared[0, 5]), y, y_origin, y_class,
                w, Real(keep), Real(spread), Real(scale),
            )  # fmt: skip
            sync()
        item += n_blocks()
    settle(sums, loss_sum, weight_sum, count, bad, ws, value, mode, 1.0, divisor, 0.0)


def pack(shared, i, left, r, s, top, share, mass, best, rank):
    """Store a state in row i of a float64 array."""
    shared[i, 0], shared[i, 1], shared[i, 2] = np.float64(left), np.float64(r), s
    shared[i, 3], shared[i, 4], shared[i, 5] = np.float64(top), share, mass
    shared[i, 6], shared[i, 7] = np.float64(best), np.float64(rank)


def unpack(shared, i, n):
    """The state in row i, or that of no elements if i >= n."""
    if i >= n:
        # every share knows the label's element
        return (
            Real(shared[0, 0]) if LABELED else Real(-INF),
            Real(-INF),
            -1.0,
            Real(-INF),
            0.0,
            0.0,
            np.int64(0),
            np.int64(0),
        )
    return (
        Real(shared[i, 0]), Real(shared[i, 1]), shared[i, 2], Real(shared[i, 3]), shared[i, 4], shared[i, 5],
        np.int64(shared[i, 6]), np.int64(shared[i, 7]),
    )  # fmt: skip
