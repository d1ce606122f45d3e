"""Elementary functions that LLVM vectorises: what `scalars.py` and the row kernels call on the CPU.

`math.exp` and friends compile to one library call per element.  The functions below are straight-line polynomials with
selects, so that the loops they are inlined into run at the full width of the registers, whatever the instruction set.

Each exists for float32 and float64; the type of the argument chooses.  They are compiled with the flag `contract`
alone: `reassoc` would cancel the rounding constant that `exp` adds and takes away again, `nnan` and `ninf` would delete
the handling of special values.  The polynomials are minimax in the relative error of the function.

References
----------
Cody, W. J., Waite, W. (1980). Software Manual for the Elementary Functions: the reduction by a two-part ln 2.
Muller, J.-M. (2016). Elementary Functions, 3rd ed., ch. 3 and 11: minimax polynomials, log1p by scaled arguments.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

FLAGS = {"contract"}

# --- bits, and the two instructions Python has no word for ---------------------------------------------------------


def _bitcast(pairs):
    """An intrinsic that reinterprets a scalar as the type that `pairs` gives for its own."""

    @intrinsic
    def cast(typingctx, x):
        if x not in pairs:
            return None

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))

        return pairs[x](x), codegen

    return cast


to_bits = _bitcast({types.float32: types.int32, types.float64: types.int64})
from_bits = _bitcast({types.int32: types.float32, types.int64: types.float64})


@intrinsic
def fast_max(typingctx, a, b):
    """The larger of two floats; may drop a NaN, which is what lets a running maximum vectorise.

    The flags stand on this one instruction.  Who needs NaN sees it in the exponentials that follow.
    """
    if a != b or a not in (types.float32, types.float64):
        return None

    def codegen(context, builder, signature, args):
        kind = args[0].type
        name = "llvm.maxnum.f32" if isinstance(kind, ir.FloatType) else "llvm.maxnum.f64"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return a(a, a), codegen


@intrinsic
def half_to_float(typingctx, bits):
    """float16, given as its bits, to float32: one conversion instruction where the CPU has it."""

    def codegen(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


# --- exp ------------------------------------------------------------------------------------------------------------
#
# exp(x) = 2^n p(r), n = round(x / ln 2), r = x - n ln 2.  Adding 1.5 * 2^(mantissa bits) rounds x / ln 2 to an integer that
# then lies in the low bits of the sum, ready to be shifted into an exponent.

_LN2 = math.log(2.0)

f4, i4, f8, i8 = np.float32, np.int32, np.float64, np.int64

ROUND4, ROUND8 = f4(1.5 * 2**23), f8(1.5 * 2**52)
LOG2E4, LOG2E8 = f4(1 / _LN2), f8(1 / _LN2)
LN2_HI4, LN2_LO4 = f4(_LN2), f4(-1.9046542121259336e-09)
LN2_HI8, LN2_LO8 = f8(_LN2), f8(2.3190468138462996e-17)
ONE4, ONE8 = f4(1.0), f8(1.0)


@register_jitable(fastmath=FLAGS, forceinline=True)
def _exp_tail4(r):
    """exp(r) - 1 for |r| <= ln(2)/2; relative error 2^-28."""
    q = f4(0.0083688032) + r * f4(0.0013817528)
    q = f4(0.4999999404) + r * (f4(0.1666651964) + r * (f4(0.0416683555) + r * q))
    return r + r * r * q


@register_jitable(fastmath=FLAGS, forceinline=True)
def _exp_tail8(r):
    """exp(r) - 1 for |r| <= ln(2)/2; relative error 2^-58."""
    q = 2.7630445986831664e-07 + r * 2.500539362949108e-08
    q = 0.00019841269519948245 + r * (2.48014925797813e-05 + r * (2.7557571967153702e-06 + r * q))
    q = 0.04166666666652855 + r * (0.008333333333489576 + r * (0.0013888888944093764 + r * q))
    return r + r * r * (0.5000000000000011 + r * (0.1666666666666642 + r * q))


@register_jitable(fastmath=FLAGS, forceinline=True)
def _split4(x):
    """x as n ln 2 + r: the biased sum that holds n in its low bits, and r."""
    t = x * LOG2E4 + ROUND4
    n = t - ROUND4
    r = x - n * LN2_HI4
    return to_bits(t), r - n * LN2_LO4


@register_jitable(fastmath=FLAGS, forceinline=True)
def _split8(x):
    t = x * LOG2E8 + ROUND8
    n = t - ROUND8
    r = x - n * LN2_HI8
    return to_bits(t), r - n * LN2_LO8


def _exp4(x):
    x = f4(-110.0) if x < f4(-110.0) else x
    x = f4(100.0) if x > f4(100.0) else x
    t, r = _split4(x)
    # 2^n in two halves: results below the smallest normal number then come out rounded, not flushed
    n = i4(t - to_bits(ROUND4))
    half = i4(n >> i4(1))
    low = from_bits(i4((half + i4(127)) << i4(23)))
    high = from_bits(i4((n - half + i4(127)) << i4(23)))
    return (ONE4 + _exp_tail4(r)) * low * high


def _exp8(x):
    x = -760.0 if x < -760.0 else x
    x = 720.0 if x > 720.0 else x
    t, r = _split8(x)
    n = t - to_bits(ROUND8)
    half = n >> 1
    low = from_bits((half + 1023) << 52)
    high = from_bits((n - half + 1023) << 52)
    return (ONE8 + _exp_tail8(r)) * low * high


@register_jitable(fastmath=FLAGS, forceinline=True)
def _expm14(x):
    x = f4(-110.0) if x < f4(-110.0) else x
    x = f4(100.0) if x > f4(100.0) else x
    t, r = _split4(x)
    n = i4(t - to_bits(ROUND4))
    half = i4(n >> i4(1))
    low = from_bits(i4((half + i4(127)) << i4(23)))
    high = from_bits(i4((n - half + i4(127)) << i4(23)))
    tail = _exp_tail4(r) * low
    # 2^n (1 + tail) - 1 with the subtraction done where it is exact; n = 0 leaves the tail alone
    return tail * high + (low * high - ONE4)


@register_jitable(fastmath=FLAGS, forceinline=True)
def _expm18(x):
    x = -760.0 if x < -760.0 else x
    x = 720.0 if x > 720.0 else x
    t, r = _split8(x)
    n = t - to_bits(ROUND8)
    half = n >> 1
    low = from_bits((half + 1023) << 52)
    high = from_bits((n - half + 1023) << 52)
    tail = _exp_tail8(r) * low
    return tail * high + (low * high - ONE8)


# --- exponentials relative to a power of two: the terms of a softmax sum --------------------------------------------


def _term4(x, lowest, bias):
    """exp(x) 2^-N as (a power of two, its multiplier less 1), the power being 0 below 2^-126.

    `lowest` is (N - 127) ln 2 and `bias` is (127 - N) << 23.  Subtracting the maximum before the exponential would round,
    and cost 8 ulp in a term 20 below it; a power of two taken out of the exponent costs nothing.  Summing powers and
    remainders apart saves the rounding of 1 + remainder, at the same number of instructions.
    """
    x = lowest if x < lowest else x
    t, r = _split4(x)
    return from_bits(i4(i4(t << i4(23)) + bias)), _exp_tail4(r)


def _term8(x, lowest, bias):
    x = lowest if x < lowest else x
    t, r = _split8(x)
    return from_bits((t << 52) + bias), _exp_tail8(r)


def _fine_term4(x, n):
    """exp(x) 2^-n with gradual underflow, for results that are shown; n is an integral float."""
    lowest = (n - f4(152.0)) * LN2_HI4
    x = lowest if x < lowest else x
    t, r = _split4(x)
    d = i4(i4(t - to_bits(ROUND4)) - i4(n))
    half = i4(d >> i4(1))
    low = from_bits(i4((half + i4(127)) << i4(23)))
    high = from_bits(i4((d - half + i4(127)) << i4(23)))
    return (ONE4 + _exp_tail4(r)) * low * high


def _fine_term8(x, n):
    lowest = (n - 1080.0) * LN2_HI8
    x = lowest if x < lowest else x
    t, r = _split8(x)
    d = t - to_bits(ROUND8) - i8(n)
    half = d >> 1
    low = from_bits((half + 1023) << 52)
    high = from_bits((d - half + 1023) << 52)
    return (ONE8 + _exp_tail8(r)) * low * high


def _reference4(m):
    """The power of two N that belongs to a maximum m, which has been clamped, and what `term` needs of it."""
    n = m * LOG2E4 + ROUND4 - ROUND4
    lowest, bias = _reach4(n)
    return n, lowest, bias


@register_jitable(fastmath=FLAGS, forceinline=True)
def _reach4(n):
    return (n - f4(127.0)) * LN2_HI4, i4((i4(127) - i4(n)) << i4(23))


def _reference8(m):
    n = m * LOG2E8 + ROUND8 - ROUND8
    lowest, bias = _reach8(n)
    return n, lowest, bias


@register_jitable(fastmath=FLAGS, forceinline=True)
def _reach8(n):
    return (n - 1023.0) * LN2_HI8, (1023 - i8(n)) << 52


# --- logarithms ------------------------------------------------------------------------------------------------------
#
# x = 2^k (1 + f) with 1 + f in [3/4, 3/2); log x = k ln 2 + log(1 + f).  An f from 1 + f >= 3/4 is exact, which the usual
# [sqrt(1/2), sqrt(2)) would not give to log1p.

LEAST4, LEAST8 = f4(0.75), f8(0.75)
INF4, INF8, NAN4, NAN8 = f4(np.inf), f8(np.inf), f4(np.nan), f8(np.nan)


@register_jitable(fastmath=FLAGS, forceinline=True)
def _log_tail4(f):
    """log(1 + f) = f - f^2/2 + f^3 P(f); relative error 2^-30."""
    p = f4(0.1170067042) + f * (f4(-0.0911620557) + f * f4(0.0376729965))
    p = f4(-0.1665529609) + f * (f4(0.1427623779) + f * (f4(-0.1272777915) + f * p))
    p = f4(0.3333334029) + f * (f4(-0.2500016391) + f * (f4(0.1999960542) + f * p))
    return f - f * f * (f4(0.5) - f * p)


@register_jitable(fastmath=FLAGS, forceinline=True)
def _log_tail8(f):
    """log(1 + f) by s = f / (2 + f), with log(1 + f) = f - s (f - R(s^2)); relative error 2^-62."""
    s = f / (2.0 + f)
    z = s * s
    p = 0.15391072396431815 + z * (0.1317426239136125 + z * 0.1383856317850995)
    p = 0.2857142855600734 + z * (0.22222224276185507 + z * (0.1818166708949459 + z * p))
    p = 0.666666666666666 + z * (0.4000000000005594 + z * p)
    half = 0.5 * f * f
    return f - (half - s * (half + z * p))


def _log4(x):
    small = x < f4(1.1754944e-38)
    y = x * f4(33554432.0) if small else x
    k = i4(i4(to_bits(y) - to_bits(LEAST4)) >> i4(23))
    f = from_bits(i4(to_bits(y) - i4(k << i4(23)))) - ONE4
    n = f4(k) - (f4(25.0) if small else f4(0.0))
    value = n * LN2_HI4 + (_log_tail4(f) + n * LN2_LO4)
    value = x if x == INF4 else value
    value = -INF4 if x == f4(0.0) else value
    return value if x >= f4(0.0) else NAN4


def _log8(x):
    small = x < 2.2250738585072014e-308
    y = x * 18014398509481984.0 if small else x
    k = (to_bits(y) - to_bits(LEAST8)) >> 52
    f = from_bits(to_bits(y) - (k << 52)) - ONE8
    n = f8(k) - (54.0 if small else 0.0)
    value = n * LN2_HI8 + (_log_tail8(f) + n * LN2_LO8)
    value = x if x == INF8 else value
    value = -INF8 if x == 0.0 else value
    return value if x >= 0.0 else NAN8


def _log1p4(x):
    u = ONE4 + x
    k = i4(i4(to_bits(u) - to_bits(LEAST4)) >> i4(23))
    t = from_bits(i4(i4(i4(190) - k) << i4(23))) * f4(2.0**-63)  # 2^-k, which is subnormal for the largest x
    f = x * t + (t - ONE4)  # (1 + x) 2^-k - 1 without the rounding of 1 + x
    n = f4(k)
    value = n * LN2_HI4 + (_log_tail4(f) + n * LN2_LO4)
    value = x if u == INF4 else value
    value = -INF4 if x == f4(-1.0) else value
    return value if x >= f4(-1.0) else NAN4


def _log1p8(x):
    u = ONE8 + x
    k = (to_bits(u) - to_bits(LEAST8)) >> 52
    t = from_bits((1536 - k) << 52) * 2.0**-513
    f = x * t + (t - ONE8)
    n = f8(k)
    value = n * LN2_HI8 + (_log_tail8(f) + n * LN2_LO8)
    value = x if u == INF8 else value
    value = -INF8 if x == -1.0 else value
    return value if x >= -1.0 else NAN8


# --- log1p(exp(-a)), a >= 0 -----------------------------------------------------------------------------------------
#
# exp(-a) lies in [0, 1]: one power of two suffices if 2^64 is taken out again at the end, and log1p needs only k = 0 or 1.


def _softplus_tail4(a):
    a = f4(110.0) if a > f4(110.0) else a
    t, r = _split4(-a)
    tail = _exp_tail4(r)
    power = from_bits(i4(i4(t << i4(23)) + i4((127 + 64) << 23)))
    e = (power + power * tail) * f4(2.0**-64)
    half = power * f4(2.0**-65)
    high = e >= f4(0.5)
    f = half * tail + (half - f4(0.5)) if high else e  # (e - 1) / 2, from what e was rounded from
    return _log_tail4(f) + (LN2_HI4 if high else f4(0.0))


def _softplus_tail8(a):
    a = 760.0 if a > 760.0 else a
    t, r = _split8(-a)
    tail = _exp_tail8(r)
    power = from_bits((t << 52) + ((1023 + 512) << 52))
    e = (power + power * tail) * 2.0**-512
    half = power * 2.0**-513
    high = e >= 0.5
    f = half * tail + (half - 0.5) if high else e
    return _log_tail8(f) + (LN2_HI8 if high else 0.0)


# --- tanh -------------------------------------------------------------------------------------------------------------


def _tanh4(x):
    h = _expm14(f4(-2.0) * abs(x))
    t = -h / (f4(2.0) + h)
    return -t if x < f4(0.0) else t


def _tanh8(x):
    h = _expm18(-2.0 * abs(x))
    t = -h / (2.0 + h)
    return -t if x < 0.0 else t


# --- one name for both widths ------------------------------------------------------------------------------------------


def _choose(x, single, double):
    return {types.float32: single, types.float64: double}.get(x)


def exp(x):
    """e to the power x."""


def expm1(x):
    """exp(x) - 1, accurate near 0."""


def log(x):
    """Natural logarithm."""


def log1p(x):
    """log(1 + x), accurate near 0."""


def tanh(x):
    """Hyperbolic tangent."""


def softplus_tail(a):
    """log1p(exp(-a)) for a >= 0."""


def reference(m):
    """(N, lowest, bias): what `term` needs to work relative to a maximum m."""


def reach(n):
    """(lowest, bias) of `term` for a power of two n."""


def term(x, lowest, bias):
    """exp(x) 2^-N as (power, tail), its value being power * (1 + tail)."""


def fine_term(x, n):
    """exp(x) 2^-n with gradual underflow."""


_compiled = {"jit_options": {"fastmath": FLAGS, "error_model": "numpy", "forceinline": True}}
overload(exp, **_compiled)(lambda x: _choose(x, _exp4, _exp8))
overload(expm1, **_compiled)(lambda x: _choose(x, _expm14, _expm18))
overload(log, **_compiled)(lambda x: _choose(x, _log4, _log8))
overload(log1p, **_compiled)(lambda x: _choose(x, _log1p4, _log1p8))
overload(tanh, **_compiled)(lambda x: _choose(x, _tanh4, _tanh8))
overload(softplus_tail, **_compiled)(lambda a: _choose(a, _softplus_tail4, _softplus_tail8))
overload(reference, **_compiled)(lambda m: _choose(m, _reference4, _reference8))
overload(reach, **_compiled)(lambda n: _choose(n, _reach4, _reach8))
overload(term, **_compiled)(lambda x, lowest, bias: _choose(x, _term4, _term8))
overload(fine_term, **_compiled)(lambda x, n: _choose(x, _fine_term4, _fine_term8))
