"""Elementary functions that LLVM vectorises: what `scalars.py` and the softmax family call on the CPU.

`math.exp` and the like compile to one library call per element.  The functions below are straight-line polynomials with
selects, so that loops that call them use the full width of the vector registers on any instruction set.

Each is a formula on `Lanes`, written once for float32 and float64; a `Format` holds the constants that differ.  At the
end of this file the formulas are turned into functions that kernels can call, on scalars or on registers.

References
----------
Cody, W. J., Waite, W. (1980). Software Manual for the Elementary Functions: the reduction by a two-part ln 2.
Muller, J.-M. (2016). Elementary Functions, 3rd ed., ch. 3 and 11: minimax polynomials, log1p by scaled arguments.
"""

import math
from dataclasses import dataclass

from numba import types

from fastloss.backends.numba_cpu._lanes import (
    DOUBLE,
    Register,
    absolute,
    both,
    either,
    element,
    emitted,
    from_bfloat,
    from_half,
    larger,
    where,
)

LN2, LN2_LOW = math.log(2.0), 2.3190468138462996e-17
INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Format:
    """The constants of a floating type."""

    mantissa: int  # number of stored bits
    bias: int  # of the exponent
    tiny: float  # the smallest normal number
    ln2_hi: float  # ln 2 rounded to the type
    ln2_lo: float  # ln 2 - ln2_hi
    exp_range: tuple[float, float]  # beyond, exp is 0 or inf
    exp_tail: tuple[float, ...]  # minimax coefficients of (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2
    log_tail: tuple[float, ...]  # coefficients for `_log_rest`
    ln2_short: float  # ln 2 with so few bits that its products with exponents are exact
    ln2_rest: float  # ln 2 - ln2_short

    @property
    def rounding(self):
        """A constant that rounds a number when it is added and subtracted again; the low bits of the sum are the
        integer."""
        return 1.5 * 2.0**self.mantissa


SINGLE = Format(
    mantissa=23,
    bias=127,
    tiny=2.0**-126,
    ln2_hi=0.693147182464599609375,
    ln2_lo=-1.9046542121259336e-09,
    exp_range=(-110.0, 100.0),
    exp_tail=(0.4999999404, 0.1666651964, 0.0416683555, 0.0083688032, 0.0013817528),  # relative error 2^-28
    log_tail=(  # relative error 2^-30
        0.3333334029,
        -0.2500016391,
        0.1999960542,
        -0.1665529609,
        0.1427623779,
        -0.1272777915,
        0.1170067042,
        -0.0911620557,
        0.0376729965,
    ),
    ln2_short=0.693359375,
    ln2_rest=-2.12194440054690583e-4,
)
DOUBLE_FORMAT = Format(
    mantissa=52,
    bias=1023,
    tiny=2.0**-1022,
    ln2_hi=LN2,
    ln2_lo=LN2_LOW,
    exp_range=(-760.0, 720.0),
    exp_tail=(  # relative error 2^-58
        0.5000000000000011,
        0.1666666666666642,
        0.04166666666652855,
        0.008333333333489576,
        0.0013888888944093764,
        0.00019841269519948245,
        2.48014925797813e-05,
        2.7557571967153702e-06,
        2.7630445986831664e-07,
        2.500539362949108e-08,
    ),
    log_tail=(  # relative error 2^-62
        0.666666666666666,
        0.4000000000005594,
        0.2857142855600734,
        0.22222224276185507,
        0.1818166708949459,
        0.15391072396431815,
        0.1317426239136125,
        0.1383856317850995,
    ),
    ln2_short=6.93145751953125e-1,
    ln2_rest=1.42860682030941723212e-6,
)


def format_of(x):
    return DOUBLE_FORMAT if x.is_double else SINGLE


def polynomial(x, coefficients):
    """c0 + c1 x + c2 x^2 + ..."""
    value = x.constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


# --- exp ------------------------------------------------------------------------------------------------------------
#
# exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2.  Adding `rounding` rounds x / ln 2 to an integer that then
# lies in the low bits of the sum, ready to be shifted into an exponent.


def _split(x, low_part=True):
    """(the biased sum with n in its low bits, r) with x = n ln 2 + r.

    Without the low part of ln 2, n ln 2 + r is x (1 + SHORTENED) instead.
    """
    f = format_of(x)
    t = x * (1.0 / LN2) + f.rounding
    n = t - f.rounding
    r = x - n * f.ln2_hi
    return t.bits(), r - n * f.ln2_lo if low_part else r


# The relative error of exponents if ln 2 is rounded to float32.
SHORTENED = LN2 / SINGLE.ln2_hi - 1.0


def _exp_tail(r, accuracy=None):
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return r * r * polynomial(r, (accuracy or format_of(r)).exp_tail) + r


def _powers(n, f):
    """2^n as two factors, so that results below the smallest normal number are rounded rather than flushed to 0."""
    half = n >> 1
    return ((half + f.bias) << f.mantissa).floats(), ((n - half + f.bias) << f.mantissa).floats()


def _exp_parts(x):
    """exp(r) - 1, and the two factors of 2^n; x within `exp_range`."""
    f = format_of(x)
    t, r = _split(x)
    return _exp_tail(r), *_powers(t - x.constant(f.rounding).bits(), f)


def exp_of(x):
    least, most = format_of(x).exp_range
    tail, low, high = _exp_parts(where(x < least, least, x))
    # fused with the next operation, the product would not overflow as it should
    return where(x > most, INF, (tail + 1.0) * low * high)


def expm1_of(x):
    least, most = format_of(x).exp_range
    x = where(x < least, least, x)
    tail, low, high = _exp_parts(where(x > most, most, x))
    # 2^n (1 + tail) - 1 with the subtraction done where it is exact; n = 0 leaves the tail alone
    return (tail * low) * high + (low * high - 1.0)


# --- exponentials relative to a power of two: the terms of a softmax sum --------------------------------------------
#
# Subtracting the maximum before the exponential would round, which costs a term 20 below the maximum 8 ulp; subtracting
# an integer from the binary exponent costs nothing.


def reference(m):
    """The exponent n for a maximum m: m / ln 2 rounded, clamped to the range in which terms are exact."""
    f = format_of(m)
    m = where(m < -LIMIT, -LIMIT, m)
    m = where(m > LIMIT, LIMIT, m)
    return m * (1.0 / LN2) + f.rounding - f.rounding


# Beyond this, x / ln 2 has too few fractional bits left.
LIMIT = 20000.0


def reach(n):
    """(the smallest x that `term` distinguishes from -inf, the bits of the exponent) for n."""
    f = format_of(n)
    return (n - float(f.bias)) * f.ln2_hi, (-n.to_int() + f.bias) << f.mantissa


def parts_of_term(x, lowest, bias):
    """exp(x) 2^-n as (power, tail), which stand for power (1 + tail); 0 below 2^-126.

    For float32 this is the exponential of x (1 + SHORTENED); whoever sums these terms corrects for that.
    """
    f = format_of(x)
    x = where(x < lowest, lowest, x)
    t, r = _split(x, low_part=x.is_double)
    return ((t << f.mantissa) + bias).floats(), _exp_tail(r)


def term(x, lowest, bias):
    """exp(x) 2^-n."""
    power, tail = parts_of_term(x, lowest, bias)
    return power * tail + power


def whole_term(x, lowest, bias):
    """exp(x) 2^-n without the error of `term`; 0 below `lowest`."""
    f = format_of(x)
    t, r = _split(where(x < lowest, lowest, x))
    power = ((t << f.mantissa) + bias).floats()
    return power * _exp_tail(r) + power


def exp_curve(r):
    """(exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2."""
    return polynomial(r, format_of(r).exp_tail)


def fine_term(x, n, by):
    """by exp(x) 2^-n with gradual underflow, for results rather than terms of sums."""
    f = format_of(x)
    lowest = (n - (f.bias + f.mantissa + 5.0)) * f.ln2_hi
    x = where(x < lowest, lowest, x)
    t, r = _split(x)
    low, high = _powers(t - x.constant(f.rounding).bits() - n.to_int(), f)
    return (by * _exp_tail(r) + by) * low * high


def scaled_exp_of(s, a):
    """s exp(a) in float64, rounded once where it is below the smallest normal number."""
    f = DOUBLE_FORMAT
    a = where(a < f.exp_range[0], f.exp_range[0], a)
    a = where(a > f.exp_range[1], f.exp_range[1], a)
    t, r = _split(a)
    low, high = _powers(t - a.constant(f.rounding).bits(), f)
    return (s * _exp_tail(r) + s) * low * high


def short_exp_of(a):
    """exp(a) in float64 for a <= 700, accurate enough for float32."""
    power, tail = _short_exp_parts(a)
    return power * tail + power


def _short_exp_parts(a):
    """That as (power of two, tail), which stand for power (1 + tail)."""
    f = DOUBLE_FORMAT
    a = where(a < -700.0, -700.0, a)
    t, r = _split(a)
    return ((t << f.mantissa) + (f.bias << f.mantissa)).floats(), _exp_tail(r, SINGLE)


# --- logarithms ------------------------------------------------------------------------------------------------------
#
# x = 2^k (1 + f) with 1 + f in [3/4, 3/2); log x = k ln 2 + log(1 + f).  In this interval f is exact even for log1p,
# which it would not be in the usual [sqrt(1/2), sqrt(2)).


def _log_rest(f, accuracy=None):
    """log(1 + f) - f for f in [-1/4, 1/2)."""
    if (accuracy or format_of(f)) is SINGLE:
        return -(f * f * (0.5 - f * polynomial(f, SINGLE.log_tail)))
    s = f / (f + 2.0)  # log(1 + f) = f - s (f - R(s^2))
    z = s * s
    half = f * f * 0.5
    return s * (half + z * polynomial(z, DOUBLE_FORMAT.log_tail)) - half


def _log_tail(f, accuracy=None):
    """log(1 + f) for f in [-1/4, 1/2)."""
    return f + _log_rest(f, accuracy)


def _exponent(x):
    """k of the decomposition above."""
    f = format_of(x)
    return (x.bits() - x.constant(0.75).bits()) >> f.mantissa


def _recomposed(n, tail):
    f = format_of(tail)
    return n * f.ln2_hi + (tail + n * f.ln2_lo)


def _logarithm(n, f):
    """n ln 2 + log(1 + f), accurate even where the two nearly cancel: all roundings but the last are corrected for."""
    form = format_of(f)
    whole = n * form.ln2_short
    total = whole + f
    return total + (_log_rest(f) + (n * form.ln2_rest + (f - (total - whole))))


def log_of(x):
    f = format_of(x)
    lift = f.mantissa + 2  # makes subnormal numbers normal
    small = x < f.tiny
    y = where(small, x * 2.0**lift, x)
    k = _exponent(y)
    n = k.to_float() - where(small, x.constant(lift), 0.0)
    value = _logarithm(n, (y.bits() - (k << f.mantissa)).floats() - 1.0)
    value = where(x.equals(INF), x, value)
    value = where(x.equals(0.0), -INF, value)
    return where(x >= 0.0, value, NAN)


def log_clamped_of(u):
    """log(u), at least -100, for 0 <= u <= 1/2."""
    if u.is_double:
        value = log_of(u)
    else:
        lift = SINGLE.mantissa + 2  # makes subnormal numbers normal; the logarithm of 0 ends up below -100
        y = u * 2.0**lift + 0.0  # -0 becomes 0
        k = _exponent(y)
        value = _recomposed(k.to_float() - float(lift), _log_tail((y.bits() - (k << SINGLE.mantissa)).floats() - 1.0))
    return where(value < -100.0, -100.0, value)


def log1p_of(x):
    f = format_of(x)
    u = x + 1.0
    k = _exponent(u)
    # 2^-k, which is subnormal for the largest x
    middle = f.bias // 2
    t = ((-k + (f.bias + middle)) << f.mantissa).floats() * 2.0**-middle
    # (1 + x) 2^-k - 1 without the rounding of 1 + x
    value = _logarithm(k.to_float(), x * t + (t - 1.0))
    value = where(u.equals(INF), x, value)
    value = where(x.equals(-1.0), -INF, value)
    return where(x >= -1.0, value, NAN)


def log1p_moderate_of(x, accuracy=None):
    """log1p(x) for 0 <= x < 2^100 (2^1000 in float64), or NaN."""
    f = format_of(x)
    k = _exponent(x + 1.0)
    t = ((-k + f.bias) << f.mantissa).floats()
    return _log_tail(x * t + (t - 1.0), accuracy) + k.to_float() * LN2


def _decay_parts(a):
    """exp(-a) for a >= 0 as (power of two, factor to be applied in the end, exp(r) - 1)."""
    f = format_of(a)
    a = where(a > -f.exp_range[0], -f.exp_range[0], a)
    t, r = _split(-a)
    lift = f.bias // 2  # undone by the factor in the end, so that one power of two suffices however small the result is
    power = ((t << f.mantissa) + ((f.bias + lift) << f.mantissa)).floats()
    return power, 2.0**-lift, _exp_tail(r)


def decay_of(a):
    """exp(-a), a >= 0."""
    power, last, tail = _decay_parts(a)
    return (power * tail + power) * last


def softplus_tail_of(a):
    """log1p(exp(-a)), a >= 0."""
    return softplus_added_of(a, a.constant(0.0))


def softplus_added_of(a, linear):
    """log1p(exp(-a)) + linear, a >= 0, linear >= 0; exp(-a) is in [0, 1], where one polynomial suffices for the
    logarithm."""
    if a.is_double:
        return log1p_of(decay_of(a)) + linear
    power, last, tail = _decay_parts(a)
    power = power * last
    one = tail + 1.0
    low = tail - (one - 1.0)  # exp(-a) is power * (one + low)
    e = power * one
    rest = power * low * (1.0 - e * 0.5) - e * e * polynomial(e - 0.5, SOFTPLUS)
    return where(linear > e, linear, e) + (where(linear > e, e, linear) + rest)


def joint_odds(odds):
    """The x for which log1p(x) is the sum of log1p over `odds`, accurate however small they are."""
    x = odds[0]
    for y in odds[1:]:
        x = x + y * (x + 1.0)
    return x


def log_complement_rest_of(u):
    """-log(1 - u) - u for 0 <= u <= 1/2."""
    if u.is_double:
        return -(log1p_of(-u) + u)
    return u * u * polynomial(u - 0.25, COMPLEMENT)


def log_ratio_of(high, low):
    """log((1 + high) / (1 + low)), high >= low; in float64, because squaring it would double the rounding errors of
    four operations."""
    if high.is_double:
        return log1p_of((high - low) / (low + 1.0))
    wide, base = high.to(DOUBLE), low.to(DOUBLE)
    ratio = (wide - base) / (base + 1.0)
    return where(ratio.equals(INF), INF, log1p_moderate_of(ratio, SINGLE)).to(element(high.type))


def log_complement_of(u):
    """log(1 - u), as binary cross-entropy adds it up: what the tests measure."""
    return -(log_complement_rest_of(u) + u)


def log_near_of(a, b, far):
    """log(a / b), likewise; in float64 `far` where they are not close to each other."""
    if a.is_double:
        return where(a < b * 0.5, far, log1p_of((a - b) / b))
    wide = b.to(DOUBLE)
    ratio = (a.to(DOUBLE) - wide) / wide
    value = where(ratio.equals(INF), INF, log1p_moderate_of(ratio, SINGLE))
    value = where(ratio.equals(-1.0), -INF, value)
    return where(ratio >= -1.0, value, NAN).to(element(a.type))


def times_exp_of(factor, exponent, low):
    """factor exp(exponent) (1 + low), where the power alone may be too large or too small; in float64, because it takes
    several roundings."""
    if factor.is_double:
        near = absolute(exponent) < 80.0
        power = exp_of(where(near, exponent, exponent * 0.5))
        return _corrected(factor * power * where(near, 1.0, power), low)
    exponent = exponent.to(DOUBLE)
    power = short_exp_of(where(exponent > 700.0, 700.0, exponent))
    return (factor.to(DOUBLE) * power * (low.to(DOUBLE) + 1.0)).to(element(factor.type))


def short_divergence_of(x, y, value):
    """y log(y / x) - y + x, likewise; in float64 `value`.  NaN, where that is not NaN, has it computed there."""
    if x.is_double:
        return value
    found = (y.to(DOUBLE) * _log_excess_of(x.to(DOUBLE) / y.to(DOUBLE))).to(element(x.type))
    return where(both(x > 0.0, y > 0.0), found, where(both(x >= 0.0, y.equals(0.0)), x, NAN))


def short_log_excess_of(a, b, value):
    """a / b - 1 - log(a / b), likewise."""
    if a.is_double:
        return value
    found = _log_excess_of(a.to(DOUBLE) / b.to(DOUBLE)).to(element(a.type))
    return where(both(both(a > 0.0, b > 0.0), b < INF), found, NAN)


def _log_excess_of(x):
    """x - 1 - log(x) for positive numbers, in float64, accurate enough for float32.  The exponent's whole part cancels, and what is left of
    the logarithm begins with the square."""
    k = _exponent(x)
    m = (x.bits() - (k << DOUBLE_FORMAT.mantissa)).floats()
    return ((x - m) - k.to_float() * LN2) - _log_rest(m - 1.0, SINGLE)


def times_decay_of(weight, u, v, e, a, low):
    """weight (u + v) / (1 + e) exp(-a) (1 - low), a >= 0, likewise."""
    if weight.is_double:
        return _corrected(weight * ((u + v) / (e + 1.0)) * exp_of(-a), -low)
    factor = weight.to(DOUBLE) * ((u.to(DOUBLE) + v.to(DOUBLE)) / (e.to(DOUBLE) + 1.0))
    return (factor * short_exp_of(-a.to(DOUBLE)) * (1.0 - low.to(DOUBLE))).to(element(weight.type))


# --- losses with powers, which multiply what logarithms are off by: those of float32 in float64 ---------------------------------


def _log_with(x, above):
    """log(x) in float64, x positive and not subnormal; `above` is x - 1, which is used near 1."""
    k = _exponent(x)
    m = (x.bits() - (k << DOUBLE_FORMAT.mantissa)).floats()
    n = k.to_float()
    return n * LN2 + _log_tail(where(n.equals(0.0), above, m - 1.0))


def _long_exp_parts(x):
    """exp(x) in float64, x within +-700, as (power of two, tail), which stand for power (1 + tail)."""
    f = DOUBLE_FORMAT
    x = where(x < -700.0, -700.0, x)
    t, r = _split(where(x > 700.0, 700.0, x))
    return ((t << f.mantissa) + (f.bias << f.mantissa)).floats(), _exp_tail(r)


def _long_exp(x):
    power, tail = _long_exp_parts(x)
    return power * tail + power


def _difference_near(b, c):
    """The second divided difference of exp at 0, b and c, times b^2, for |b| and |c| up to 1/64: its series, to 2^-30."""
    squares, total = b * b + c * c, b + c
    more = (squares + b * c) * (1.0 / 24.0) + (total * squares) * (1.0 / 120.0)
    return b * b * (total * (1.0 / 6.0) + more + 0.5)


def short_tweedie_of(x, y, p, p_low, value):
    """Tweedie's deviance of the power p + p_low; in float64 `value`.  NaN, where that is not NaN, has it computed there."""
    if x.is_double:
        return value
    real = element(x.type)
    power = p.to(DOUBLE) + p_low.to(DOUBLE)
    first, second = 1.0 - power, 2.0 - power
    wide_x, wide_y = x.to(DOUBLE), y.to(DOUBLE)
    r, d = wide_y / wide_x, (wide_y - wide_x) / wide_x
    b = _log_with(r, d)
    c = second * b
    # with exponent (1 - p) log r for p < 1.5, and (2 - p) log r otherwise: the larger one of the two divisors is left
    is_low = power < 1.5
    rate, divisor = where(is_low, first, second), where(is_low, second, first)
    exponent = rate * b
    whole, tail = _long_exp_parts(exponent)
    raised = (whole * tail + (whole - 1.0)) / rate
    far = (where(is_low, r * raised, raised) - d) / divisor
    is_near = both(absolute(b) <= 1.0 / 64.0, absolute(c) <= 1.0 / 64.0)
    above, zero, below = y > 0.0, y.equals(0.0), y < 0.0
    unit = where(above, where(is_near, _difference_near(b, c), far), r.constant(1.0) / second - r / first)
    scale = second * _log_with(wide_x, wide_x - 1.0)
    found = unit * 2.0 * _long_exp(scale)
    inside = both(x > 0.0, either(above, either(both(zero, power < 2.0), both(below, power < 0.0))))
    fits = both(
        both(x < INF, absolute(y) < INF), both(absolute(scale) < 500.0, either(absolute(exponent) < 500.0, y <= 0.0))
    )
    return where(both(inside, fits), found.to(real), NAN)


def short_tweedie_slope_of(x, y, p, p_low, value):
    """Its slope, 2 (x - y) / x^(p + p_low), likewise."""
    if x.is_double:
        return value
    wide = x.to(DOUBLE)
    exponent = -(p.to(DOUBLE) + p_low.to(DOUBLE)) * _log_with(wide, wide - 1.0)
    found = (wide - y.to(DOUBLE)) * 2.0 * _long_exp(exponent)
    fits = both(both(x > 0.0, x < INF), absolute(exponent) < 500.0)
    return where(fits, found.to(element(x.type)), NAN)


def _focal_parts(x, y, positive, negative, e, log1p_e):
    """What focal losses of labels in [0, 1] are made of, in float64, with e = exp(-|x|): the share of the label that is missed, (1 + e) m
    with m the probability that is missed, the weight, and the cross-entropy."""
    miss = 1.0 - y
    share = where(x > 0.0, miss, y)
    weight = positive.to(DOUBLE) * y + negative.to(DOUBLE) * miss
    return share, share + (1.0 - share) * e, weight, where(share.equals(0.0), 0.0, share * absolute(x)) + log1p_e


def _focal_power(x, y, gamma, positive, negative):
    """e, these and m^gamma."""
    a = absolute(x)
    e = where(a > 700.0, 0.0, _long_exp(-a))
    big = e >= 0.5
    tail = where(big, e.constant(LN2), 0.0) + _log_tail(where(big, e * 0.5 - 0.5, e))
    share, odds, weight, loss = _focal_parts(x, y, positive, negative, e, tail)
    logarithm = where(share > 0.0, _log_with(odds, odds - 1.0), where(a > 1e38, -1e38, -a))
    return e, share, odds, weight, loss, _long_exp(gamma.to(DOUBLE) * (logarithm - tail))


def _focal_square(x, y, positive, negative):
    """e, the weight, the loss and m for gamma 2, which multiplies errors only twice."""
    a = absolute(x)
    e = where(a > 700.0, 0.0, short_exp_of(-a))
    _, odds, weight, loss = _focal_parts(x, y, positive, negative, e, log1p_moderate_of(e, SINGLE))
    return e, weight, loss, odds / (e + 1.0)


def _focal_turn(x, y, e):
    """The label missed less the label hit, and the slope of cross-entropy times 1 + e."""
    miss = 1.0 - y
    return miss - y, where(x > 0.0, miss - y * e, miss * e - y)


def short_focal_of(x, y, gamma, positive, negative, value):
    """The focal loss of a logit and a label in [0, 1], likewise."""
    if x.is_double:
        return value
    *_, weight, loss, raised = _focal_power(x.to(DOUBLE), y.to(DOUBLE), gamma, positive, negative)
    return where(both(y >= 0.0, y <= 1.0), (loss * weight * raised).to(element(x.type)), NAN)


def short_focal_slope_of(x, y, gamma, positive, negative, value):
    """Its slope, likewise."""
    if x.is_double:
        return value
    real, x, y = element(x.type), x.to(DOUBLE), y.to(DOUBLE)
    e, share, odds, weight, loss, raised = _focal_power(x, y, gamma, positive, negative)
    sign, plain = _focal_turn(x, y, e)
    turn = sign * where(share > 0.0, e / odds, 1.0)
    more = where(turn.equals(0.0), 0.0, gamma.to(DOUBLE) * loss * turn)
    return ((plain + more) / (e + 1.0) * (weight * raised)).to(real)


def short_focal_squared_of(x, y, positive, negative, value):
    """The focal loss with gamma 2, likewise."""
    if x.is_double:
        return value
    _, weight, loss, m = _focal_square(x.to(DOUBLE), y.to(DOUBLE), positive, negative)
    return where(both(y >= 0.0, y <= 1.0), (loss * weight * (m * m)).to(element(x.type)), NAN)


def short_focal_squared_slope_of(x, y, positive, negative, value):
    """Its slope, likewise."""
    if x.is_double:
        return value
    real, x, y = element(x.type), x.to(DOUBLE), y.to(DOUBLE)
    e, weight, loss, m = _focal_square(x, y, positive, negative)
    sign, plain = _focal_turn(x, y, e)
    inverse = e.constant(1.0) / (e + 1.0)
    turn = sign * e * inverse
    more = where(turn.equals(0.0), 0.0, loss * turn * 2.0)
    return ((plain * m + more) * inverse * (weight * m)).to(real)


def weighted_sum_of(a, u, b, v, c):
    """a u + b v + c, by fused operations where the CPU has them."""
    return b * v + (a * u + c)


def _corrected(value, low):
    """value (1 + low), `low` within its roundings."""
    return where(absolute(value) < INF, value + value * low, value)


# Minimax in the relative error of log1p(e) = e - e^2 SOFTPLUS(e - 1/2) on [0, 1], which is 2^-27.5, and of
# log(1 - u) = -u - u^2 COMPLEMENT(u - 1/4) on [0, 1/2], 2^-28.
SOFTPLUS = (
    0.378139559414,
    -0.179224886121,
    0.0932318558336,
    -0.0510890590702,
    0.0289050025125,
    -0.0166569927435,
    0.0101776985515,
    -0.00693066315126,
    0.00331844966871,
)
COMPLEMENT = (
    0.602913176201,
    0.510028061964,
    0.49537389587,
    0.518457068756,
    0.569893764067,
    0.639356369386,
    0.688051843157,
    1.00956371273,
    1.74593393706,
)


def tanh_of(x):
    h = expm1_of(absolute(x) * -2.0)
    t = -h / (h + 2.0)
    return where(x < 0.0, -t, t)


# --- as kernels call them ---------------------------------------------------------------------------------------------


def is_float(kind):
    kind = kind.dtype if isinstance(kind, Register) else kind
    return kind in (types.float32, types.float64)


def as_function(formula, arity=1, result=lambda *kinds: kinds[0]):
    """`formula` as a function of arguments of one floating type, scalars or registers."""

    def resolve(*kinds):
        return (result, formula) if is_float(kinds[0]) and all(k == kinds[0] for k in kinds) else None

    return emitted(resolve, arity)


exp, log = as_function(exp_of), as_function(log_of)
expm1, log1p = as_function(expm1_of), as_function(log1p_of)
curve = as_function(exp_curve)
fine_exp = as_function(fine_term, 3)
power_of = as_function(reference)
fast_max = as_function(larger, 2)

half_to_float = emitted(lambda k: (lambda k: types.float32, from_half) if k == types.uint16 else None, 1)
bfloat_to_float = emitted(lambda k: (lambda k: types.float32, from_bfloat) if k == types.int16 else None, 1)
