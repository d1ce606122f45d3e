"""Adds the sums of threads up to those of a call: within each block, then in the block that finishes last, always in
the same order.

The workspace of a stream starts with the number of finished blocks (0 between calls), followed by TOTALS, the four sums
of the call, and by four sums per block: the summed loss, the summed weight, how many rows or elements count, and the
position of the first bad label.
"""

import math

import numpy as np

from fastloss.backends.numba_cuda import _jit, _target
from fastloss.backends.numba_cuda._target import block, fence, n_blocks, sync, take_ticket, thread

# Offsets from the start of the workspace, in units of 8 bytes.
TOTALS, PARTIALS = 8, 16
LOSS, WEIGHT, COUNT, BAD = range(4)
NO_BAD = math.inf

# How the result follows from the sums: the sum itself; divided by the summed weights; by a given number; by the summed
# weights, NaN if these are 0.
SUM, BY_WEIGHT, BY_NUMBER, BY_CLASS_WEIGHT = range(4)

THREADS = AT_ONCE = including_next = read_sum = write_sum = write_value = write_ticket = Real = None  # holes


def add_up(sums, loss, weight, count, bad):
    """Add over the block's threads, into row 0; of the positions the smallest is kept."""
    t = thread()
    sync()
    sums[t, LOSS], sums[t, WEIGHT], sums[t, COUNT], sums[t, BAD] = loss, weight, count, bad
    step = THREADS // 2
    while step:
        sync()
        if t < step:
            for k in range(3):
                sums[t, k] += sums[t + step, k]
            if sums[t + step, BAD] < sums[t, BAD]:
                sums[t, BAD] = sums[t + step, BAD]
        step //= 2


def value_of(loss, weight, mode, divisor, root):
    if mode == BY_WEIGHT or mode == BY_CLASS_WEIGHT and weight != 0.0:
        loss = loss / weight
    elif mode == BY_CLASS_WEIGHT:
        loss = math.nan
    elif mode == BY_NUMBER:
        loss = loss / divisor
    if root != 0.0:
        loss = math.sqrt(loss) * root if loss >= 0.0 else math.nan
    return loss


def left_by(ws, b):
    """The four sums of a block; any, if there is no such block."""
    at = PARTIALS + 4 * (b if b < n_blocks() else np.int64(0))
    return read_sum(ws, at + LOSS), read_sum(ws, at + WEIGHT), read_sum(ws, at + COUNT), read_sum(ws, at + BAD)


def including(totals, sums, b):
    """The totals with the four sums of block b, if there is one."""
    if b >= n_blocks():
        return totals
    bad = sums[BAD] if sums[BAD] < totals[BAD] else totals[BAD]
    return totals[LOSS] + sums[LOSS], totals[WEIGHT] + sums[WEIGHT], totals[COUNT] + sums[COUNT], bad


def including_one(ws, totals, b):
    return including(totals, left_by(ws, b), b)


def including_four(ws, totals, b):
    """Their sums are on their way before the first is needed."""
    first, second = left_by(ws, b), left_by(ws, b + THREADS)
    third, fourth = left_by(ws, b + 2 * THREADS), left_by(ws, b + 3 * THREADS)
    totals = including(including(totals, first, b), second, b + THREADS)
    return including(including(totals, third, b + 2 * THREADS), fourth, b + 3 * THREADS)


def settle(sums, loss, weight, count, bad, ws, value, mode, factor, divisor, root):
    """Add over all blocks.  The last block writes TOTALS, and the result to `value` unless that is 0.

    factor : multiplies losses and weights: a weight that is the same for all elements.
    root : what the result's square root is multiplied by; 0 if no root is taken.
    """
    t = thread()
    add_up(sums, loss, weight, count, bad)
    is_last = True
    if n_blocks() > 1:
        if t == 0:
            for k in range(4):
                write_sum(ws, PARTIALS + 4 * block() + k, sums[0, k])
            fence()
            sums[0, 0] = np.float64(take_ticket(ws, 0))
        sync()
        is_last = sums[0, 0] == np.float64(n_blocks() - 1)
    if is_last and n_blocks() > 1:
        fence()
        totals = 0.0, 0.0, 0.0, NO_BAD
        b = np.int64(t)
        while b < n_blocks():
            totals = including_next(ws, totals, b)
            b += AT_ONCE * THREADS
        loss, weight, count, bad = totals
        add_up(sums, loss, weight, count, bad)
        if t == 0:
            write_ticket(ws, 0, 0)
    if is_last and t == 0:
        loss, weight = sums[0, LOSS] * factor, sums[0, WEIGHT] * factor
        write_sum(ws, TOTALS + LOSS, loss)
        write_sum(ws, TOTALS + WEIGHT, weight)
        write_sum(ws, TOTALS + COUNT, sums[0, COUNT])
        write_sum(ws, TOTALS + BAD, sums[0, BAD])
        if value != 0:
            result = value_of(loss, weight, mode, divisor, root)
            write_value(value, 0, Real(result if sums[0, BAD] == NO_BAD else math.nan))


def functions(threads, real, at_once=1):
    """`settle` and the functions it calls, for blocks of `threads` threads and results of type `real`.

    at_once : how many blocks' sums a thread of the last block reads at a time, 1 or 4; the latter takes registers.
    """
    holes = {
        "THREADS": threads,
        "AT_ONCE": at_once,
        "Real": np.dtype(real).type,
        "read_sum": _target.fresh_reader(),
        "write_sum": _target.writer("float64"),
        "write_value": _target.writer(real),
        "write_ticket": _target.writer("int32"),
    }
    purpose = f"{threads}_{real}_{at_once}"
    made = _jit.family((left_by, including), purpose, **holes)
    following = including_one if at_once == 1 else including_four
    made["including_next"] = _jit.inlined(following, purpose, **holes, **made)
    return made | _jit.family((add_up, value_of, settle), purpose, **holes, **made)
