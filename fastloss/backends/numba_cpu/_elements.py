"""The formulas of scalars.py on registers: the losses of WIDTH neighbouring elements at a time, from memory and to
memory.

The dtype in memory, and whether an operand is an array, a scalar or None (absent), are resolved when a kernel is
compiled: no loop contains any of these decisions.
"""

import functools
import math

from llvmlite import ir
from numba import types

from fastloss import _branchless
from fastloss.backends.numba_cpu import _math
from fastloss.backends.numba_cpu._lanes import (
    DOUBLE,
    FLOAT,
    INT32,
    WIDTH,
    Array,
    Lanes,
    absolute,
    both,
    differ,
    either,
    emitted_as,
    maximum,
    minimum,
    opposite,
    root,
    tree,
    where,
)
from fastloss.backends.numba_cpu._memory import ask_ahead, load, load_some, offset, store, store_some

# The number of registers computed side by side, and so of sums that are independent of each other.
ABREAST = 4
GROUP = ABREAST * WIDTH

_VOCABULARY = {
    "exp": _math.exp_of,
    "expm1": _math.expm1_of,
    "log": _math.log_of,
    "log1p": _math.log1p_of,
    "sqrt": root,
    "tanh": _math.tanh_of,
    "abs": absolute,
    "max": maximum,
    "min": minimum,
    "where": where,
    "both": both,
    "either": either,
    "opposite": opposite,
    "equal": Lanes.equals,
    "differ": differ,
    "type": lambda x: x.constant,
}
_SHORTER = {
    "decay": _math.decay_of,
    "softplus_tail": _math.softplus_tail_of,
    "softplus_added": _math.softplus_added_of,
    "log_ratio": _math.log_ratio_of,
    "log_clamped": _math.log_clamped_of,
    "log_complement_rest": _math.log_complement_rest_of,
    "log_near": _math.log_near_of,
    "short_divergence": _math.short_divergence_of,
    "short_focal": _math.short_focal_of,
    "short_focal_slope": _math.short_focal_slope_of,
    "short_focal_squared": _math.short_focal_squared_of,
    "short_focal_squared_slope": _math.short_focal_squared_slope_of,
    "short_log_excess": _math.short_log_excess_of,
    "short_tweedie": _math.short_tweedie_of,
    "short_tweedie_slope": _math.short_tweedie_slope_of,
    "times_exp": _math.times_exp_of,
    "times_decay": _math.times_decay_of,
    "weighted_sum": _math.weighted_sum_of,
}


@functools.cache
def formulas(text):
    return _branchless.formulas(_VOCABULARY, _SHORTER, text)


def _there(count):
    """A mask of the lanes below an integer."""
    lanes = ir.VectorType(INT32, WIDTH)
    positions = count.new(ir.Constant(lanes, list(range(WIDTH))))
    count = count.new(count.builder.trunc(count.value, INT32))
    return positions < count.spread(positions)


def _operand(a, at, there):
    """An operand's elements from position `at` on, as Lanes; None if the operand is absent."""
    if isinstance(a, Array):
        byte_offset = offset(a, at)
        return load(a, byte_offset) if there is None else load_some(a, byte_offset, there)
    return a


def _evaluated(formula, x, y, z, p, at, there=None, wide=False):
    """The formula evaluated on one register, in the operands' type; in float64 if one of them is, or if `wide`."""
    operands = [o for o in [_operand(a, at, there) for a in (x, y, z)] + p if o is not None]
    wide = wide or any(o.is_double for o in operands)
    operands = [o.to(DOUBLE) if wide else o for o in operands]
    x = operands[0]
    return formula(*(o if isinstance(o.type, ir.VectorType) else o.spread(x) for o in operands))


def _weighed(value, w, at, there=None):
    """A register times its weights, rounded once; a weight of 0 gives 0 even if the value is NaN or infinite."""
    w = _operand(w, at, there)
    if w is None:
        return value
    w = w if isinstance(w.type, ir.VectorType) else w.spread(value)
    kind = value.type.element
    both = DOUBLE if w.is_double else kind
    w = w.to(both)
    return where(w.equals(0.0), 0.0, (value.to(both) * w).to(kind))


def _real_of(out):
    return DOUBLE if out.kind.dtype == types.float64 else FLOAT


def _ask(loss, arrays, at, count):
    """Prefetch what comes later of those that are arrays, where the loss's arithmetic takes long."""
    for array in arrays:
        if loss.is_slow and isinstance(array, Array):
            ask_ahead(array, at, count)


def _unless_finite(old, new):
    return where(absolute(old) < math.inf, old, new)


def _sum(values):
    return tree(values, lambda a, b: a + b)


def sum_with(loss):
    """Intrinsics (sums, x, y, z, p, at): the float64 sums with a GROUP of losses added; and, with the number of
    remaining elements as a seventh argument, with at most one register of those.

    When computing in float32, each loss takes part in two additions that are rounded to float32, however many losses
    there are.
    """
    found = formulas(loss.text)

    def evaluated(name, *operands, at):
        return [_evaluated(found[name], *operands, at + k * WIDTH) for k in range(ABREAST)]

    def group(sums, *operands, at):
        _ask(loss, operands, at, GROUP)
        if not loss.odds:
            return sums + _sum(evaluated(loss.value, *operands, at=at)).to(DOUBLE)
        linear = _sum(evaluated(f"{loss.name}_linear", *operands, at=at))
        odds = _math.joint_odds(evaluated(f"{loss.name}_odds", *operands, at=at))
        return sums + (linear + _math.log1p_moderate_of(odds)).to(DOUBLE)

    def rest(sums, x, y, z, p, at, left):
        there = _there(left)
        return sums + where(there, _evaluated(found[loss.value], x, y, z, p, at, there), 0.0).to(DOUBLE)

    return (
        emitted_as(lambda sums, x, y, z, p, at: group(sums, x, y, z, p, at=at), 6, lambda sums, *_: sums),
        emitted_as(rest, 7, lambda sums, *_: sums),
    )


def written(loss, name, scaled, wide=False):
    """Intrinsics (out, x, y, z, w, p[, scale], at) that write one register of weight * loss, or of slopes, to `out`;
    and the same with the number of remaining elements as one more argument, which write only those.

    name : the formula's value or slope.
    wide : whether to compute in float64, and write only where `out` is not finite.
    """
    formula = formulas(loss.text)[name]

    def whole(out, x, y, z, w, p, *rest):
        *scale, at = rest
        _ask(loss, (out, x, y, z, w), at, WIDTH)
        put(out, at, x, y, z, w, p, scale, None)

    def some(out, x, y, z, w, p, *rest):
        *scale, at, left = rest
        put(out, at, x, y, z, w, p, scale, _there(left))

    def put(out, at, x, y, z, w, p, scale, there):
        value = _evaluated(formula, x, y, z, p, at, there, wide)
        for factor in scale:
            value = value * factor.to(value.type.element).spread(value)
        value = _weighed(value, w, at, there)
        if wide:
            value = _unless_finite(_operand(out, at, there), value.to(_real_of(out)))
        if there is None:
            store(out, offset(out, at), value)
        else:
            store_some(out, offset(out, at), value, there)

    return emitted_as(whole, 7 + scaled, lambda *_: types.void), emitted_as(some, 8 + scaled, lambda *_: types.void)
