"""The first elements of a row on CUDA, and sums over the others: in two reads, the second of which is from a cache.

The first read finds a level that as many elements reach as are wanted, and few more.  The second adds up what is below
it, relative to it, so that nothing underflows that matters, and keeps the rest, each thread its own, which are then put
in order.
"""

import math

import numpy as np

from fastloss.backends.numba_cuda._target import WARP, lane, larger, shuffle, shuffle_xor, sync, thread

INF = math.inf

GROUPS = WARP  # of threads, of whose largest elements the level is one: at most as many elements can be wanted
MOST = 64  # elements that reach the level; if there are more, or a thread has more than SLOTS of them, they are found in another way

Real = THREADS = SLOTS = N = V = BATCH = None  # holes
fill = largest = powers = in_eights = added = before = power_of_gap = None  # holes: `_softmax` and `details`


def level_of(batch, x, origin, stride, n_classes, wanted, maxima):
    """The wanted-th of the largest elements of the groups, NaN left out."""
    t = thread()
    high, first = Real(-INF), np.int64(0)
    while first < n_classes:
        fill(batch, x, origin, stride, first, np.int64(t * N), THREADS * N, n_classes)
        high = larger(high, largest(batch))
        first += V * THREADS * N
    mask = 1
    while mask < THREADS // GROUPS:
        high = larger(high, shuffle_xor(high, mask))
        mask *= 2
    if t % (THREADS // GROUPS) == 0:
        maxima[t // (THREADS // GROUPS)] = high
    sync()
    if t < GROUPS:
        mine, ahead = maxima[t], 0
        for j in range(GROUPS):
            if maxima[j] > mine or maxima[j] == mine and j < t:
                ahead += 1
        if ahead == wanted - 1:
            maxima[GROUPS] = mine
    sync()
    return maxima[GROUPS]


def below(batch, products, x, origin, stride, n_classes, level, kept, kept_places):
    """A thread's sums of exp(x - level) and of (level - x) exp(x - level) over what is below the level; keeps its others, and returns how
    many there are, which may be more."""
    s, s_low, w, w_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
    base = level if abs(level) < Real(INF) else Real(0.0)
    own, at = np.int32(0), thread() * SLOTS
    offset, first = np.int64(thread() * N), np.int64(0)
    while first < n_classes:
        fill(batch, x, origin, stride, first, offset, THREADS * N, n_classes)
        reached = False
        for k in range(BATCH):
            reached = reached or not batch[k] < level
        if reached:
            for v in range(V):
                for k in range(N):
                    # if the level is -inf, so is what is behind the row, and comes last
                    if not batch[v * N + k] < level:
                        if own < SLOTS:
                            kept[at + own] = batch[v * N + k]
                            kept_places[at + own] = first + offset + v * THREADS * N + k
                        own += np.int32(1)
                        batch[v * N + k] = Real(-INF)
        for k in range(BATCH):
            products[k] = base - batch[k]
        powers(batch, base)
        for k in range(BATCH):
            products[k] = products[k] * batch[k] if batch[k] > Real(0.0) else Real(0.0)
        for k in range(in_eights(batch)):
            s, s_low = added(s, s_low, batch[k])
        for k in range(in_eights(products)):
            w, w_low = added(w, w_low, products[k])
        first += V * THREADS * N
    return np.float64(s) - np.float64(s_low), np.float64(w) - np.float64(w_low), own


def gathered(own, kept, kept_places, counts, values, places):
    """Put what threads have kept one behind another; how many elements that are, or more than MOST if these are too many."""
    t = thread()
    own = own if own <= SLOTS else np.int32(MOST + 1)
    upto, step = own, 1
    while step < WARP:
        others = shuffle(upto, (lane() + WARP - step) % WARP)
        upto += others if lane() >= step else np.int32(0)
        step *= 2
    if lane() == WARP - 1:
        counts[t // WARP] = upto
    sync()
    start, n = np.int64(upto - own), np.int64(0)
    for warp in range(THREADS // WARP):
        start += counts[warp] if warp < t // WARP else 0
        n += counts[warp]
    if n <= MOST:
        for k in range(own):
            values[start + k], places[start + k] = kept[t * SLOTS + k], kept_places[t * SLOTS + k]
    sync()
    return n


def put_in_order(values, places, n):
    """The n elements that have been gathered, in order, from MOST on."""
    i = np.int64(thread())
    while i < n:
        value, place, rank = values[i], places[i], MOST
        for j in range(n):
            if before(values[j], places[j], value, place):
                rank += 1
        values[rank], places[rank] = value, place
        i += THREADS
    sync()


def with_gathered(s, w, level, values, n):
    """A thread's share of the sums of exp(x - top) and of (top - x) exp(x - top) over all elements but the first, in float64."""
    top, total, spread = np.float64(values[MOST]), 0.0, 0.0
    if level > Real(-INF):
        by = power_of_gap(level, values[MOST])
        total, spread = s * by, (w + (top - np.float64(level)) * s) * by
    k = np.int64(thread()) + 1
    while k < n:
        term = power_of_gap(values[MOST + k], values[MOST])
        total += term
        spread += (top - np.float64(values[MOST + k])) * term if term > 0.0 else 0.0
        k += THREADS
    return total, spread
