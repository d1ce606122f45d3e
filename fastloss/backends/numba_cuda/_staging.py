"""Where `groups` reads rows from: memory, or for short rows a copy in shared memory.

If each thread read its own short row, the accesses of a warp would have gaps.  So a warp first copies WARP rows
together, as full vectors.
"""

import numpy as np

from fastloss.backends.numba_cuda._target import WARP, lane, sync_warp, thread

WHOLE = None  # a hole: elements of a vector
read_whole = read_one = None  # holes: memory


def stage_rows(staged, x, row, n_rows, n_classes):
    """Copy a warp's next WARP rows, which follow one another in memory, to its part of `staged`."""
    rest = n_rows - row if n_rows - row < WARP else np.int64(WARP)
    start, base, n = row * n_classes, thread() // WARP * WARP * n_classes, rest * n_classes
    i = np.int64(lane()) * WHOLE
    while i + WHOLE <= n:
        read_whole(x, start + i, staged, base + i)
        i += WARP * WHOLE
    i = n // WHOLE * WHOLE + lane()
    if i < n:
        staged[np.uint64(base + i)] = read_one(x, start + i)
    i += WARP
    if i < n:
        staged[np.uint64(base + i)] = read_one(x, start + i)
    sync_warp()


def staged_itself(staged, x):
    return staged


def staged_origin(origin, n_classes):
    return thread() * n_classes


def read_staged(staged, i):
    return staged[np.uint64(i)]  # an index with a sign might count from the end, which would be tested each time


def stage_nothing(staged, x, row, n_rows, n_classes):
    pass


def memory_itself(staged, x):
    return x


def memory_origin(origin, n_classes):
    return origin
