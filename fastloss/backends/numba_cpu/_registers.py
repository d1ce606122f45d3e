"""The innermost steps of the softmax family, which work on registers.

Registers hold either WIDTH neighbours of one row, or one element each of WIDTH rows.  Arrays may be of any dtype that
kernels read (float16 and bfloat16 as their bits, see `load`); they are widened on the way.
"""

from llvmlite import ir
from numba import types

from fastloss.backends.numba_cpu._lanes import (
    DOUBLE,
    INT32,
    INT64,
    WIDTH,
    Lanes,
    Register,
    absolute,
    both,
    either,
    element,
    emitted_as,
    larger,
    smallest,
    tree,
    where,
)
from fastloss.backends.numba_cpu._math import (
    INF,
    LIMIT,
    LN2,
    LN2_LOW,
    exp_of,
    is_float,
    parts_of_term,
    reach,
    term,
)
from fastloss.backends.numba_cpu._memory import ask, ask_ahead, load, load_some, offset, real_of, store

STEP = 8 * WIDTH  # elements of a row processed at once


# --- numbers and registers --------------------------------------------------------------------------------------------


def _spread(x):
    kind = ir.VectorType(x.type, WIDTH)
    return x.spread(x.new(ir.Constant(kind, ir.Undefined)))


in_lanes = emitted_as(_spread, 1, Register)
largest = emitted_as(lambda v: v.folded(larger), 1, lambda v: v.dtype)
total = emitted_as(lambda v: v.folded(lambda a, b: a + b), 1, lambda v: v.dtype)
times = emitted_as(lambda v, x: v * x.spread(v), 2, lambda v, x: v)


def _any(mask):
    """Whether a mask is set in any lane."""
    lanes = ir.IntType(mask.type.count)
    bits = mask.builder.bitcast(mask.value, lanes)
    return mask.new(mask.builder.icmp_unsigned("!=", bits, ir.Constant(lanes, 0)))


def _exceeds(v, limit):
    return _any(v > limit.spread(v))


exceeds = emitted_as(_exceeds, 2, lambda *kinds: types.boolean)


# --- along a row ------------------------------------------------------------------------------------------------------


def _step(x, at, from_=None, skip=None):
    """The registers of one STEP of a row; -inf before `from_` and at `skip`, if given, both counted from `at`."""
    registers = [load(x, offset(x, at + k)) for k in range(0, STEP, WIDTH)]
    if from_ is None:
        return registers
    return [_masked(v, k, from_, skip) for v, k in zip(registers, _positions(x), strict=True)]


def _masked(v, positions, from_, skip):
    v = where(positions < from_.spread(v), -INF, v)
    return where(positions.equals(skip.spread(v)), -INF, v)


def _top_of(x, at):
    """The maxima of one STEP, lane by lane; prefetches memory that the row, or the next one, will need later."""
    ask_ahead(x, at, STEP)
    return tree(_step(x, at), larger)


top_of = emitted_as(_top_of, 2, lambda x, *_: Register(real_of(x)))


def _holds(x, at, m):
    steps = _step(x, at)
    return _any(tree([v.equals(m.spread(v)) for v in steps], either))


holds = emitted_as(_holds, 3, lambda *kinds: types.boolean)


def _positions(x):
    """The positions of elements within a step, one register for each of its registers."""
    lanes = ir.VectorType(INT32, WIDTH)
    return [Lanes(x.builder, ir.Constant(lanes, [k + i for i in range(WIDTH)])) for k in range(0, STEP, WIDTH)]


def _first_equal(x, at, m):
    """The first position in a step that holds m."""
    candidates = [where(v.equals(m.spread(v)), k, STEP) for v, k in zip(_step(x, at), _positions(x), strict=True)]
    return tree(candidates, smallest).folded(smallest)


first_equal = emitted_as(_first_equal, 3, lambda *kinds: types.int32)


def _counted(counts, masks):
    return counts + tree([where(mask, counts.constant(1), 0) for mask in masks], lambda a, b: a + b)


def _with_ahead_in_step(counts, x, at, level, from_, own):
    """Add to each lane's count how many elements of a step, from `from_` on, come before the one at `own`, whose value
    is `level`."""
    masks = []
    for v, k in zip(_step(x, at), _positions(x), strict=True):
        ties = both(v.equals(level.spread(v)), k < own.spread(k))
        masks.append(both(k >= from_.spread(k), either(v > level.spread(v), ties)))
    return _counted(counts, masks)


# The same for a complete step after the one that contains `own`, and for one before it.
with_above = emitted_as(
    lambda counts, x, at, level: _counted(counts, [v > level.spread(v) for v in _step(x, at)]),
    4,
    lambda counts, *_: counts,
)
with_not_below = emitted_as(
    lambda counts, x, at, level: _counted(counts, [v >= level.spread(v) for v in _step(x, at)]),
    4,
    lambda counts, *_: counts,
)
with_ahead_in_step = emitted_as(_with_ahead_in_step, 6, lambda counts, *_: counts)


def _earliest(found, tops, m):
    """The smallest of the numbers `found` in the lanes whose maximum is m."""
    candidates = where(tops.equals(m.spread(tops)), found, 2**31 - 1)
    return candidates.folded(smallest)


earliest = emitted_as(_earliest, 3, lambda *kinds: types.int32)


def _in_order(a, b, c, d):
    """The four registers rearranged, in each lane, so that the largest comes first; NaN is kept."""
    ab, cd, p, q = where(a > b, a, b), where(c > d, c, d), where(b < a, b, a), where(d < c, d, c)
    return where(ab > cd, ab, cd), where(cd < ab, cd, ab), p, q


def _sum_of_four(x, r, p, q, lowest, bias):
    """The sum of four terms: the largest is added last, its tail before its power, so that a term that dwarfs the
    others is rounded only once."""
    others = term(r, lowest, bias) + (term(p, lowest, bias) + term(q, lowest, bias))
    power, tail = parts_of_term(x, lowest, bias)
    return power + (power * tail + others)


def _ordered(step):
    """The registers of a step in groups of four, each with the largest first."""
    return [*_in_order(*step[0::2]), *_in_order(*step[1::2])]


def _ordered_step(x, at):
    """The maxima of one STEP, and its elements in groups of four; prefetches memory that the row, or the next one, will
    need later."""
    ask_ahead(x, at, STEP)
    step = _ordered(_step(x, at))
    return (larger(step[0], step[4]), *step)


def _sums_of_step(like, lowest, bias, step):
    """The sum of a step's terms, whose elements are in ordered groups: groups of four in their own type, then in
    float64."""
    low, bits = lowest.spread(like), bias.spread(like)
    return _sum_of_four(*step[:4], low, bits).to(DOUBLE) + _sum_of_four(*step[4:], low, bits).to(DOUBLE)


ordered_step = emitted_as(_ordered_step, 2, lambda x, *_: types.UniTuple(Register(real_of(x)), 9))
step_terms = emitted_as(
    lambda like, lowest, bias, step: _sums_of_step(like, lowest, bias, step[1:]), 4, lambda like, *_: like
)
step_terms_masked = emitted_as(
    lambda like, lowest, bias, *x: _sums_of_step(like, lowest, bias, _ordered(_step(*x))), 7, lambda like, *_: like
)


def _reach_result(n):
    if isinstance(n, Register):
        return types.Tuple((n, Register(_reach_result(n.dtype)[1])))
    return types.Tuple((n, types.int32 if n == types.float32 else types.int64))


reach_of = emitted_as(reach, 1, _reach_result, where=is_float)


ask_for = emitted_as(ask, 2, lambda *kinds: types.void)


# --- across rows ------------------------------------------------------------------------------------------------------
#
# A tile is an array (classes, WIDTH) of the type computed in; its row c holds class c of WIDTH rows.


def _lanes_at(tile, c):
    return load(tile, offset(tile, c * WIDTH))


def _put_lanes(tile, c, v):
    store(tile, offset(tile, c * WIDTH), v)


lanes_at = emitted_as(_lanes_at, 2, lambda tile, c: Register(real_of(tile)))
put_lanes = emitted_as(_put_lanes, 3, lambda *kinds: types.void)


def _widened(x, byte_offset):
    return load(x, byte_offset.value)


# Load WIDTH neighbouring elements, by index and by byte offset.
elements = emitted_as(lambda x, i: load(x, offset(x, i)), 2, lambda x, i: Register(real_of(x)))
neighbours = emitted_as(_widened, 2, lambda x, at: Register(real_of(x)))


def _stored(x, byte_offset, v):
    store(x, byte_offset.value, v)


put_neighbours = emitted_as(_stored, 3, lambda *kinds: types.void)


EIGHT = WIDTH // 2  # rows, and classes, of a block that is transposed in registers


def _transposed(rows):
    """Eight registers of eight lanes, transposed."""
    low, high = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
    first, second = (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)
    twos = [rows[k].shuffled(rows[k + 1], lanes) for k in range(0, 8, 2) for lanes in (low, high)]
    fours = [
        twos[k + side].shuffled(twos[k + side + 2], lanes)
        for k in (0, 4)
        for side in (0, 1)
        for lanes in (first, second)
    ]
    halves = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
    return [fours[k].shuffled(fours[k + 4], lanes) for lanes in halves for k in range(4)]


def _gather(tile, c, x, byte_offset, row_stride, classes):
    """Load tile[c : c + 8] from WIDTH rows whose classes are neighbours in memory; 0 for classes from `classes` on."""
    positions = classes.new(ir.Constant(ir.VectorType(INT32, EIGHT), list(range(EIGHT))))
    there = positions < classes.new(classes.builder.trunc(classes.value, INT32)).spread(positions)
    rows = [load_some(x, (byte_offset + row_stride * k).value, there) for k in range(WIDTH)]
    for k, halves in enumerate(zip(_transposed(rows[:EIGHT]), _transposed(rows[EIGHT:]), strict=True)):
        store(tile, offset(tile, (c + k) * WIDTH), halves[0].shuffled(halves[1], range(WIDTH)))


def _scatter(tile, c, x, byte_offset, row_stride):
    """Store tile[c : c + 8] to WIDTH rows whose classes are neighbours in memory."""
    lanes = [load(tile, offset(tile, (c + k) * WIDTH)) for k in range(EIGHT)]
    for first in range(0, WIDTH, EIGHT):
        rows = _transposed([v.shuffled(v, range(first, first + EIGHT)) for v in lanes])
        for k, v in enumerate(rows):
            store(x, (byte_offset + row_stride * (first + k)).value, v)


gather = emitted_as(_gather, 6, lambda *kinds: types.void)
scatter = emitted_as(_scatter, 5, lambda *kinds: types.void)


def _with_own(own, v, labels, c):
    return where(labels.equals(c.spread(labels)), v, own)


def _without_own(v, labels, c):
    return where(labels.equals(c.spread(labels)), -INF, v)


# Select v in the lanes whose label is c; and in all other lanes.
with_own = emitted_as(_with_own, 4, lambda own, *_: own)
without_own = emitted_as(_without_own, 3, lambda v, *_: v)

# Select c in the lanes in which v is larger than the best so far.
with_best = emitted_as(
    lambda labels, best, v, c: where(v > best, c.spread(labels), labels), 4, lambda labels, *_: labels
)


def _with_ahead(counts, own, v, labels, c):
    """Count one in the lanes in which v, of class c, comes before `own`, of the class in `labels`."""
    ties = both(v.equals(own), labels > c.spread(labels))
    return _counted(counts, [either(v > own, ties)])


with_ahead = emitted_as(_with_ahead, 5, lambda counts, *_: counts)


# Add two terms to a float64 sum.
with_pair = emitted_as(
    lambda sums, lowest, bias, a, b: sums + (term(a, lowest, bias).to(DOUBLE) + term(b, lowest, bias).to(DOUBLE)),
    5,
    lambda sums, *_: sums,
)


def _unusual(m):
    """Whether any lane's maximum is outside the range of `term`, or NaN."""
    return _any(m.new(m.builder.not_((absolute(m) <= LIMIT).value)))


unusual = emitted_as(_unusual, 1, lambda m: types.boolean)
below = emitted_as(lambda v, limit: _any(v < limit.spread(v)), 2, lambda *kinds: types.boolean)
wide = emitted_as(lambda v: v.to(DOUBLE), 1, lambda v: Register(types.float64))
narrow = emitted_as(lambda v, like: v.to(element(like.type)), 2, lambda v, like: like)


def _softmax_scale(n, top, positive):
    """The factor that turns exp(x) 2^-n into `positive` exp(x - top)."""
    wide_n = n.to(DOUBLE)
    return (positive * exp_of((wide_n * LN2 - top) + wide_n * LN2_LOW)).to(element(n.type))


softmax_scale = emitted_as(_softmax_scale, 3, lambda n, *_: n)


def _peaked(v, x, top, peak):
    """v, but at most `peak`; exactly `peak` where x is the row's maximum."""
    return where(x.equals(top), peak, where(v > peak, peak, v))


peaked = emitted_as(_peaked, 4, lambda v, *_: v)
negated = emitted_as(lambda v, factor: where(factor < 0.0, -v, v), 2, lambda v, factor: v)
magnitude = emitted_as(absolute, 1, lambda v: v)
quotient = emitted_as(lambda a, b: a / b, 2, lambda a, b: a)


def _with_share(sums, q, top, v, unit):
    """Add q (top - v) to a float64 sum in units of 1 / unit; q = 0 adds 0 even if v is infinite."""
    unit = unit.spread(top)
    return sums + where(q.equals(0.0), 0.0, q * (unit * top - unit * v.to(DOUBLE)))


with_share = emitted_as(_with_share, 5, lambda sums, *_: sums)


def _coefficients(y, w, keep, spread):
    """w (keep y + spread) for the y of WIDTH rows; 0 stays 0 even if the weight is infinite or NaN."""
    y = y.to(DOUBLE)
    q = y * keep.spread(y) + spread.spread(y)
    return where(q.equals(0.0), 0.0, q * w.spread(y))


coefficients = emitted_as(_coefficients, 4, lambda y, w, *_: Register(types.float64))


# The same coefficients, each multiplied by its own weight.
weighted = emitted_as(lambda q, w: where(q.equals(0.0), 0.0, q * w), 2, lambda q, w: q)


# --- labels -----------------------------------------------------------------------------------------------------------


def _labels_at(target, at, n_classes, ignore_index):
    """WIDTH neighbouring labels; -1 for those that are ignored or not a class."""
    builder = target.builder
    kind = target.kind.dtype
    pointer = builder.bitcast(
        target.address(offset(target, at)), ir.VectorType(ir.IntType(kind.bitwidth), WIDTH).as_pointer()
    )
    labels = builder.load(pointer, align=kind.bitwidth // 8)
    if kind.bitwidth < 64:
        labels = (builder.sext if kind.signed else builder.zext)(labels, ir.VectorType(INT64, WIDTH))
    labels = Lanes(builder, labels)
    labels = where(labels.equals(ignore_index.spread(labels)), -1, labels)
    labels = where(labels < n_classes.spread(labels), labels, -1)
    return labels.new(builder.trunc(where(labels < 0, -1, labels).value, ir.VectorType(INT32, WIDTH)))


labels_at = emitted_as(_labels_at, 4, lambda *kinds: Register(types.int32))
any_missing = emitted_as(lambda labels: _any(labels < 0), 1, lambda *kinds: types.boolean)
