"""Details of rows on CUDA: first elements in the order of argmax, entropies, log-probabilities of chosen classes.

A block reads a row twice, see `likely`; the elements that it gathers are added to the sums in float64.  If these are
many, as where elements are equal, or more are wanted than there are groups of threads, each thread keeps its first ones
instead; if many of the row's first are one thread's, there are further reads.  Then the sums are taken in one more, the
few largest in float64, all others relative to the second largest, so that errors of the exponentials matter little.
See `fastloss._details` for the sums.
"""

import functools
import math

import numpy as np

from fastloss.backends import HEAVIEST
from fastloss.backends.numba_cuda import _jit, _settle, _softmax, _target, labels, likely
from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._settle import NO_BAD
from fastloss.backends.numba_cuda._target import WARP, block, exp, log1p, n_blocks, sync, thread

INF, NAN = math.inf, math.nan

# How many elements a thread keeps at once; threads per block, for short and for long rows, and from how many classes rows
# are long.
SLOTS = 4
AT_ONCE = 16  # elements that a thread reads together, at most
TEAM, LONG = (WARP, 8 * WARP), 512
if _target.SIMULATED:
    TEAM, LONG = (WARP, 2 * WARP), 64

Real = THREADS = None  # holes
KEPT = LEVELS = None  # likewise: sizes of shared arrays
level_of = below = gathered = put_in_order = with_gathered = None  # holes: `likely`
GROUPS = MAXIMA = GATHERED = BATCH = MOST = None  # likewise
read = read_loss = write_loss = write_index = power = None  # holes: memory, and `_softmax`
added = before = settle = add_up = place_of = label_of = None  # holes: `_softmax`, `_settle` and `labels`


def keep_first(x, origin, stride, n_classes, found, last, last_place, kept, kept_places, values, places):
    """Leave the first SLOTS of each thread's elements after the last one found in `values` and `places`, in order; where
    there are fewer, places are n_classes.  `kept` and `kept_places` are a thread's own."""
    for k in range(SLOTS):
        kept[k], kept_places[k] = Real(-INF), n_classes
    t = thread()
    c = np.int64(t)
    while c < n_classes:
        value, place = read(x, origin + c * stride), c
        least = kept[SLOTS - 1]
        # few elements get past this; among equal ones those that came earlier stay
        if value > least or value != value and least == least or kept_places[SLOTS - 1] == n_classes:
            if found == 0 or before(last, last_place, value, place):
                for k in range(SLOTS):
                    v, p = kept[k], kept_places[k]
                    if p == n_classes or before(value, place, v, p):
                        kept[k], kept_places[k] = value, place
                        value, place = v, p
        c += THREADS
    sync()  # others may still read what is there
    for k in range(SLOTS):
        values[t * SLOTS + k], places[t * SLOTS + k] = kept[k], kept_places[k]


def rank_among(values, places, counts, value, place):
    """How many of the elements collected by all threads come before this one."""
    rank = np.int64(0)
    for j in range(THREADS):
        for k in range(counts[j]):
            if before(values[j * SLOTS + k], places[j * SLOTS + k], value, place):
                rank += 1
    return rank


def find_by_rounds(
    x, origin, x_class, n_classes, n_first, n_top, n_heavy, row, kept, kept_places, values, places, counts, heavy, heavy_places,
    top_ids, top_log_probs,
):  # fmt: skip
    """Write the first n_top elements to the outputs, and the first n_heavy to `heavy`: those up to a level at a time, of which no thread has
    more than it keeps."""
    t = thread()
    found, last, last_place = np.int64(0), Real(0.0), np.int64(-1)
    while found < n_first:
        keep_first(x, origin, x_class, n_classes, found, last, last_place, kept, kept_places, values, places)
        sync()
        value, place = values[t * SLOTS], places[t * SLOTS]
        n_threads, ahead = np.int64(0), np.int64(0)
        for j in range(THREADS):
            if places[j * SLOTS] < n_classes:
                n_threads += 1
                if before(values[j * SLOTS], places[j * SLOTS], value, place):
                    ahead += 1
        # as many elements as are wanted are at or before the level, unless there are fewer threads
        wanted = n_first - found if n_first - found < n_threads else n_threads
        if place < n_classes and ahead == wanted - 1:
            heavy[HEAVIEST], heavy_places[HEAVIEST] = value, place
        sync()
        level, level_place = heavy[HEAVIEST], heavy_places[HEAVIEST]
        # what a thread has after those that it keeps is not known
        for j in range(SLOTS - 1, THREADS * SLOTS, SLOTS):
            if places[j] < n_classes and before(values[j], places[j], level, level_place):
                level, level_place = values[j], places[j]
        count = np.int64(0)
        for k in range(t * SLOTS, (t + 1) * SLOTS):
            if places[k] < n_classes and not before(level, level_place, values[k], places[k]):
                count += 1
        counts[t] = count
        sync()
        for k in range(count):
            v, c = values[t * SLOTS + k], places[t * SLOTS + k]
            at = found + rank_among(values, places, counts, v, c)
            if at < n_heavy:
                heavy[at], heavy_places[at] = v, c
            if at < n_top:
                write_index(top_ids, row * n_top + at, c)
                write_loss(top_log_probs, row * n_top + at, v)  # for now
        last, last_place = level, level_place
        for j in range(THREADS):
            found += counts[j]
    sync()


def details(
    x, x_outer, x_row, x_class,
    ids,  # IN (n_rows, n_ids) contiguous, or 0
    kind,  # IN how ids are read
    ignore, middle, n_rows, n_classes, n_top, n_ids,
    top_ids,  # OUT (n_rows, n_top)
    top_log_probs,  # OUT (n_rows, n_top)
    id_log_probs,  # OUT (n_rows, n_ids)
    entropies,  # OUT (n_rows,), or 0
    ws,  # SCRATCH of which TOTALS get the first bad id
):  # fmt: skip
    """A block for each row."""
    sums = cuda.shared.array((THREADS, 4), np.float64)
    values = cuda.shared.array(KEPT, Real)
    places = cuda.shared.array(KEPT, np.int64)
    counts = cuda.shared.array(THREADS, np.int64)
    heavy = cuda.shared.array(LEVELS, Real)  # the largest elements, and a level
    heavy_places = cuda.shared.array(LEVELS, np.int64)
    maxima = cuda.shared.array(MAXIMA, Real)  # of groups of threads, and a level
    first_values = cuda.shared.array(GATHERED, Real)  # what is gathered, and from MOST on in order
    first_places = cuda.shared.array(GATHERED, np.int64)
    kept, kept_places = cuda.local.array(SLOTS, Real), cuda.local.array(SLOTS, np.int64)
    batch, products = cuda.local.array(BATCH, Real), cuda.local.array(BATCH, Real)
    t = thread()
    bad = NO_BAD
    n_heavy = np.int64(HEAVIEST) if n_classes > HEAVIEST else n_classes
    n_first = n_top if n_top > n_heavy else n_heavy
    row = block()
    while row < n_rows:
        outer, inner = place_of(row, middle)
        origin = outer * x_outer + inner * x_row
        level, s, w, n = Real(-INF), 0.0, 0.0, np.int64(MOST + 1)
        if n_first <= GROUPS:
            level = level_of(batch, x, origin, x_class, n_classes, n_first, maxima)
            s, w, own = below(batch, products, x, origin, x_class, n_classes, level, values, places)
            n = gathered(own, values, places, counts, first_values, first_places)
        if n <= MOST:
            put_in_order(first_values, first_places, n)
            top = np.float64(first_values[MOST])
            k = np.int64(t)
            while k < n_top:
                write_index(top_ids, row * n_top + k, first_places[MOST + k])
                write_loss(top_log_probs, row * n_top + k, first_values[MOST + k])  # for now
                k += THREADS
        else:
            find_by_rounds(
                x, origin, x_class, n_classes, n_first, n_top, n_heavy, row, kept, kept_places, values, places, counts, heavy,
                heavy_places, top_ids, top_log_probs,
            )  # fmt: skip
            top = np.float64(heavy[0])
        tail = NAN
        if top > -INF and top < INF:
            if n <= MOST:
                s, w = with_gathered(s, w, level, first_values, n)
                add_up(sums, s, w, 0.0, NO_BAD)
                sync()
                s, w = sums[0, 0], sums[0, 1]
            else:
                s, w = sums_of(x, origin, x_class, n_classes, n_heavy, heavy, heavy_places, sums)
            tail = log1p(s)
            if entropies != 0 and t == 0:
                write_loss(entropies, row, Real(tail + w / (1.0 + s)))
        elif entropies != 0 and t == 0:
            write_loss(entropies, row, Real(NAN))
        k = np.int64(t)
        while k < n_top:
            at = row * n_top + k
            write_loss(top_log_probs, at, Real(-((top - np.float64(read_loss(top_log_probs, at))) + tail)))
            k += THREADS
        k = np.int64(t)
        while k < n_ids:
            label, is_class, is_bad = label_of(ids, row * n_ids + k, kind, ignore, n_classes)
            value = NAN
            if is_class:
                value = -((top - np.float64(read(x, origin + label * x_class))) + tail)
            if is_bad:
                bad = np.float64(row * n_ids + k) if np.float64(row * n_ids + k) < bad else bad
            write_loss(id_log_probs, row * n_ids + k, Real(value))
            k += THREADS
        row += n_blocks()
    settle(sums, 0.0, 0.0, 0.0, bad, ws, 0, 0, 1.0, 1.0, 0.0)


def power_of_gap(x, top):
    """exp(x - top) in float64, corrected for the rounding of the difference (Knuth's two-sum); 0 for -inf."""
    a, b = np.float64(x), np.float64(top)
    gap = a - b
    if not gap > -1000.0:
        return 0.0
    back = gap - a
    low = (a - (gap - back)) - (b + back)
    value = exp(gap)
    return value + value * low


def sums_of(x, origin, stride, n_classes, n_heavy, heavy, heavy_places, sums):
    """The sums of exp(x - top), and of (top - x) exp(x - top), over all elements except the largest."""
    top, second = heavy[0], heavy[1 if n_heavy > 1 else 0]
    last, last_place = heavy[n_heavy - 1], heavy_places[n_heavy - 1]
    s, s_low, w, w_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
    c = np.int64(thread())
    while c < n_classes:
        v = read(x, origin + c * stride)
        if v > Real(-INF) and (v < last or v == last and c > last_place):
            term = power(v, second)
            s, s_low = added(s, s_low, term)
            w, w_low = added(w, w_low, (top - v) * term if term > Real(0.0) else Real(0.0))
        c += THREADS
    add_up(sums, np.float64(s) - np.float64(s_low), np.float64(w) - np.float64(w_low), 0.0, NO_BAD)
    sync()
    by = power_of_gap(second, top)
    total, spread = sums[0, 0] * by, sums[0, 1] * by
    for k in range(1, n_heavy):
        term = power_of_gap(heavy[k], top)
        total += term
        spread += (np.float64(top) - np.float64(heavy[k])) * term if term > 0.0 else 0.0
    return total, spread


def n_threads(n_classes):
    """Threads per block."""
    return TEAM[n_classes >= LONG]


def shape_of(name, n_classes, threads, strides):
    """(elements per vector, vectors per batch) for rows at (address, stride of the outer and the inner row axis, stride of the classes)."""
    size = _target.SIZES[name]
    address, *others, step = strides
    n = _target.VECTOR // size
    if step != 1 or address % _target.VECTOR or any(v % n for v in (*others, n_classes)):
        n = 1
    return n, max(1, min(AT_ONCE // n, -(-n_classes // (n * threads))))


@functools.cache
def kernel(name, real, threads, index, shape):
    """The kernel for logits of dtype `name`, and positions of dtype `index`; shape : see `shape_of`."""
    read, Real = _target.reader(name, real), np.dtype(real).type
    n, v = shape
    purpose = f"{name}_{real}_{threads}_{index}_{n}_{v}"
    holes = {
        "Real": Real,
        "THREADS": threads,
        "KEPT": threads * SLOTS,
        "LEVELS": HEAVIEST + 1,
        "GROUPS": likely.GROUPS,
        "MAXIMA": likely.GROUPS + 1,
        "GATHERED": 2 * likely.MOST,
        "MOST": likely.MOST,
        "SLOTS": SLOTS,
        "N": n,
        "V": v,
        "BATCH": n * v,
        "read_vector": _target.vector_reader(name, real) if n > 1 else None,
        "read_masked": _target.masked_reader(name, real) if n > 1 else None,
        "read": read,
        "read_loss": _target.reader(real, real),
        "write_loss": _target.writer(real),
        "write_index": _target.writer(index),
        **_softmax.exponential(real, real),
        **_settle.functions(threads, real),
    }
    fill = _softmax.fill_vectors if n > 1 else _softmax.fill_elements
    powers = _softmax.powers_careful if real == "float32" else _softmax.powers_plain
    holes["fill"] = _jit.inlined(fill, purpose, **holes)
    holes["powers"] = _jit.inlined(powers, purpose, **holes)
    pieces = (
        _softmax.added, _softmax.before, _softmax.largest, _softmax.halved, _softmax.in_eights, labels.place_of,
        labels.label_of, keep_first, rank_among, find_by_rounds, power_of_gap, sums_of, likely.level_of, likely.below,
        likely.gathered, likely.put_in_order, likely.with_gathered,
    )  # fmt: skip
    holes |= _jit.family(pieces, purpose, **holes)
    return _jit.kernel(details, purpose, threads, **holes)
