"""Kernels that find details of rows: their first elements in the order of argmax, and sums over the distances of the
others from the largest, see `fastloss._details`.

A row is copied to scratch memory, widened, and processed there, in the second-level cache.  The few largest elements
are added to the sums in float64, and only the others in `Real`: none of these is most of a sum, so that their rounding
errors hardly matter.
"""

import numpy as np
from llvmlite import ir
from numba import types

from fastloss.backends import HEAVIEST, LANES
from fastloss.backends.numba_cpu._jit import chain, specialise
from fastloss.backends.numba_cpu._lanes import DOUBLE, INT64, WIDTH, both, emitted_as, opposite, tree, where
from fastloss.backends.numba_cpu._likelihood import based, exp_of_difference, folded, with_terms
from fastloss.backends.numba_cpu._load import load, smaller
from fastloss.backends.numba_cpu._math import LIMIT, parts_of_term, power_of
from fastloss.backends.numba_cpu._memory import load as load_register
from fastloss.backends.numba_cpu._memory import offset
from fastloss.backends.numba_cpu._registers import STEP, _any, _step, in_lanes, reach_of, total
from fastloss.backends.numba_cpu._softmax import (
    INF,
    NAN,
    NEG_INF,
    count_before,
    is_class,
    is_ignored,
    note_bad,
    put,
    start_block,
)

# How many adjacent rows have their elements in one cache line, and how many elements of them are copied together.
ABREAST = 16
COPIED = 1 << 16

Real = None  # a hole


# --- registers --------------------------------------------------------------------------------------------------------


def _some_exceed(x, at, level):
    """Whether any element of a step may come before one with the value `level`; NaN does."""
    return _any(opposite(tree([v <= level.spread(v) for v in _step(x, at)], both)))


some_exceed = emitted_as(_some_exceed, 3, lambda *kinds: types.boolean)


def _exceeding(x, at, level):
    """Which of WIDTH elements these are, as a bit mask."""
    v = load_register(x, offset(x, at))
    mask = opposite(v <= level.spread(v))
    bits = mask.builder.bitcast(mask.value, ir.IntType(WIDTH))
    return mask.new(mask.builder.zext(bits, INT64))


exceeding = emitted_as(_exceeding, 3, lambda *kinds: types.int64)


def _spread_terms(like, x, at, top, lowest, bias):
    """Sums of a step's terms, and of their products with top - x: groups of four in their own type, then in float64."""
    terms, spreads = [], []
    for v in _step(x, at):
        low = lowest.spread(v)
        v = where(v < low, low, v)
        power, tail = parts_of_term(v, low, bias.spread(v))
        gap = (top.spread(v) - v) * power
        terms.append(power * tail + power)
        spreads.append(gap * tail + gap)
    return tuple(_by_fours(each) for each in (terms, spreads))


def _by_fours(v):
    sums = [((v[k] + v[k + 1]) + (v[k + 2] + v[k + 3])).to(DOUBLE) for k in range(0, len(v), 4)]
    return sums[0] + sums[1]


spread_terms = emitted_as(_spread_terms, 6, lambda like, *_: types.UniTuple(like, 2))


# --- one row ----------------------------------------------------------------------------------------------------------


def _is_ahead(a, i, b, j):
    """Whether element a at i comes before element b at j: NaN first, then larger ones, ties by position."""
    if a != a or b != b:
        return a != a and (b == b or i < j)
    return a > b or (a == b and i < j)


def _sink(values, places, size, root, value, place):
    """Sift an element down from `root` in a heap whose root is the last in that order."""
    child = 2 * root + 1
    while child < size:
        if child + 1 < size and is_ahead(values[child], places[child], values[child + 1], places[child + 1]):
            child += 1
        if not is_ahead(value, place, values[child], places[child]):
            break
        values[root], places[root] = values[child], places[child]
        root = child
        child = 2 * root + 1
    values[root], places[root] = value, place


def _find_first(x, n, m, values, places):
    """Find the first m of n elements in that order, and their positions; x is padded to a multiple of STEP.

    Few elements of a row are larger than the first m before them, so that most steps take only a comparison.
    """
    for c in range(m):
        values[c], places[c] = x[c], c
    for root in range(m // 2 - 1, -1, -1):
        sink(values, places, m, root, values[root], places[root])
    for begin in range(0, n, STEP):
        if begin + STEP > m and some_exceed(x, begin, values[0]):
            for at in range(begin, begin + STEP, WIDTH):
                bits, c = exceeding(x, at, values[0]), at
                while bits:
                    if bits & 1 and m <= c < n and is_ahead(x[c], c, values[0], places[0]):
                        sink(values, places, m, 0, x[c], c)
                    bits >>= 1
                    c += 1
    for size in range(m - 1, 0, -1):  # the root is the last of the remaining ones
        value, place = values[size], places[size]
        values[size], places[size] = values[0], places[0]
        sink(values, places, size, 0, value, place)


def _sum_spread(x, top, highest):
    """(s, w): the sums of exp(v - top) and of (top - v) exp(v - top) over all elements v, which are at most
    `highest`."""
    n = power_of(highest)
    lowest, bias = reach_of(n)
    s, w, s_low, w_low = in_lanes(0.0), in_lanes(0.0), in_lanes(0.0), in_lanes(0.0)
    for begin in range(0, x.size, STEP):
        terms, spreads = spread_terms(s, x, begin, top, lowest, bias)
        s, s_low = with_terms(s, s_low, terms, Real(0.0))
        w, w_low = with_terms(w, w_low, spreads, Real(0.0))
    found = folded(s, s_low) if Real is np.float64 else total(s)
    if found == 0.0:
        return 0.0, 0.0
    spread = folded(w, w_low) if Real is np.float64 else total(w)
    near, g = based(found, n)
    by = exp_of_difference(1.0, g, np.float64(top)) * (near / found)
    return found * by, spread * by


def _spread_of(v, top):
    """(exp(v - top), (top - v) exp(v - top)), which are 0 for -inf."""
    power = exp_of_difference(1.0, v, top)
    return power, (top - v) * power if power != 0.0 else 0.0


def _detail(x, n, m, values, places, state):
    """Find all details of a row of n elements in x, which is padded with -inf to a multiple of STEP, and is
    overwritten."""
    find_first(x, n, m, values, places)
    top, heavy = np.float64(values[0]), smaller(m, HEAVIEST)
    s, w = 0.0, 0.0
    if abs(top) < INF:
        for k in range(heavy):
            x[places[k]] = NEG_INF
            if k > 0:
                power, spread = spread_of(np.float64(values[k]), top)
                s += power
                w += spread
        if n > heavy and values[heavy - 1] > NEG_INF:
            if abs(top) <= LIMIT and abs(values[1]) <= LIMIT:
                rest, spread = sum_spread(x, values[0], values[1])  # terms far below the second largest add nothing
                s += rest
                w += spread
            else:  # logits so large that exponentials need float64
                for c in range(n):
                    power, spread = spread_of(np.float64(x[c]), top)
                    s += power
                    w += spread
    else:
        s = w = NAN
    state[0], state[1], state[2] = top, s, w


def _n_before(x, label):
    """How many elements come before x[label]."""
    own, ahead, missing = x[label], 0, 0
    for c in range(x.size):
        ahead += x[c] > own
        missing += x[c] != x[c]
    for v in x[:label]:
        ahead += v == own
    return count_before(x, 0, x.size, label, own) if missing else ahead


# Each of these is compiled for Real and becomes visible to those after it, and to the kernels, without its underscore.
PIECES = (_is_ahead, _sink, _find_first, _sum_spread, _spread_of, _detail, _n_before)
is_ahead = sink = find_first = sum_spread = spread_of = detail = n_before = None  # holes


# --- kernels ----------------------------------------------------------------------------------------------------------


def detail_rows(
    x,  # IN (outer, middle, n_classes), last axis contiguous
    target,  # IN (outer, middle) any integer dtype, or None
    ignore_index,  # IN
    m,  # IN how many of a row's first elements to find, at least HEAVIEST unless the row has fewer
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4), see `_softmax`; only the first bad row is set
    state,  # OUT (outer, middle, 3) float64, see `fastloss._details`
    places,  # OUT (outer, middle, m) int64, of the first elements
    values,  # OUT (outer, middle, m) Real, the elements themselves
    rank,  # OUT (outer, middle) int64, how many classes come before the target, -1 where that is ignored; or None
):
    """Details of contiguous rows."""
    middle, n_classes = x.shape[1], x.shape[2]
    scratch = np.full((n_classes + STEP - 1) // STEP * STEP, Real(NEG_INF), Real)
    for b in range(first, last):
        start_block(partials, b)
        for r in range(b * block, smaller((b + 1) * block, x.shape[0] * middle)):
            i, j = r // middle, r % middle
            row = x[i, j]
            for c in range(n_classes):
                scratch[c] = load(row, c)
            if target is not None:
                label, before = target[i, j], -1
                if not is_ignored(label, ignore_index):
                    if not is_class(label, n_classes):
                        note_bad(partials, b, r)
                    elif rank is not None:
                        before = n_before(scratch[:n_classes], np.int64(label))
                put(rank, (i, j), before)
            detail(scratch, n_classes, m, values[i, j], places[i, j], state[i, j])


def detail_columns(x, target, ignore_index, m, block, first, last, partials, state, places, values, rank):
    """Details across rows: x is (outer, n_classes, inner), all else (outer, inner, ...); `block` counts tiles."""
    outer, n_classes, inner = x.shape
    tiles, abreast = (inner + LANES - 1) // LANES, smaller(LANES, max(ABREAST, COPIED // n_classes))
    scratch = np.full((abreast, (n_classes + STEP - 1) // STEP * STEP), Real(NEG_INF), Real)
    for b in range(first, last):
        start_block(partials, b)
        for q in range(b * block, smaller((b + 1) * block, outer * tiles)):
            i, begin = q // tiles, (q % tiles) * LANES
            stop = smaller(begin + LANES, inner)
            for start in range(begin, stop, abreast):
                part = x[i, :, start : smaller(start + abreast, stop)]
                for c in range(n_classes):
                    line = part[c]
                    for lane in range(line.size):
                        scratch[lane, c] = load(line, lane)
                for lane in range(part.shape[1]):
                    j = start + lane
                    if target is not None:
                        label, before = target[i, j], -1
                        if not is_ignored(label, ignore_index):
                            if not is_class(label, n_classes):
                                note_bad(partials, b, i * inner + j)
                            elif rank is not None:
                                before = n_before(scratch[lane, :n_classes], np.int64(label))
                        put(rank, (i, j), before)
                    detail(scratch[lane], n_classes, m, values[i, j], places[i, j], state[i, j])


TEMPLATES = {f.__name__: f for f in (detail_rows, detail_columns)}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    name = np.dtype(real).name
    return specialise(TEMPLATES[op], f"{op}_{name}", allocates=True, **chain(PIECES, name, Real=real))
