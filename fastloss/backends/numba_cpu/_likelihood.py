"""Results from a row's sum of exponentials, in float64: likelihoods, logsumexp, the denominators of softmax.

A row's logit is x, and s exp(g) the sum over all others, see `_softmax`.  Formulas as in `_math`.
"""

import numpy as np
from llvmlite import ir
from numba import types

from fastloss.backends.numba_cpu._lanes import DOUBLE, INT32, absolute, both, emitted_as, where
from fastloss.backends.numba_cpu._math import (
    DOUBLE_FORMAT,
    INF,
    LN2,
    NAN,
    SHORTENED,
    SINGLE,
    as_function,
    exp_of,
    log1p_moderate_of,
    log1p_of,
    log_of,
    scaled_exp_of,
    short_exp_of,
)

# ln 2 in two parts; the product of an exponent and the first part is exact.
LN2_HEAD, LN2_REST = 6.93145751953125e-1, 1.42860682030941723212e-6

# --- sums and differences with their rounding errors ------------------------------------------------------------------


def _difference(a, b):
    """(a - b, its rounding error) by Knuth's two-sum; the error is 0 beyond the range of exponentials' arguments."""
    d = a - b
    back = d - a
    low = (a - (d - back)) - (b + back)
    return d, where(absolute(d) < 1024.0, low, 0.0)


def _with_value(high, low, value):
    """Add a value to a sum kept as high + low."""
    total = high + value
    back = total - high
    rest = (high - (total - back)) + (value - back)
    return total, low + where(rest.equals(rest), rest, 0.0)


def _with_terms(high, low, terms, like):
    """Likewise for sums of exponentials, which are finite or NaN.  Sums of float32 terms need no second part."""
    total = high + terms
    if not like.is_double:
        return total, low
    back = total - high
    return total, low + ((high - (total - back)) + (terms - back))


def _folded(high, low):
    """A sum kept as high + low, reduced over its lanes."""
    n = high.type.count
    while n > 1:
        n //= 2
        low = low.shuffled(low, range(n)) + low.shuffled(low, range(n, 2 * n))
        high, low = _with_value(high.shuffled(high, range(n)), low, high.shuffled(high, range(n, 2 * n)))
    total = high + low
    return total.new(total.builder.extract_element(total.value, ir.Constant(INT32, 0)))


folded = emitted_as(_folded, 2, lambda high, low: high.dtype)
with_value = emitted_as(_with_value, 3, lambda high, *_: types.UniTuple(high, 2))
with_terms = emitted_as(_with_terms, 4, lambda high, *_: types.UniTuple(high, 2))


def _exp_of_difference(s, a, b):
    """s exp(a - b), corrected for the rounding of a - b."""
    d, low = _difference(a, b)
    return scaled_exp_of(s + s * low, d)


# --- powers of two ----------------------------------------------------------------------------------------------------


def _power_between(n, new_n):
    """2^(n - new_n) in float64, for integers stored as floats; 0 rather than a subnormal number."""
    d = n.to(DOUBLE) - new_n.to(DOUBLE)
    d = where(d < -1022.0, -1023.0, d)
    d = where(d > 1023.0, 1023.0, d)
    return ((d.to_int() + 1023) << 52).floats()


def _log_of_power(n, m):
    """n ln 2 - m in float64."""
    return (n * LN2_HEAD - m) + n * LN2_REST


def _based(s, n):
    """A sum relative to 2^n as (s, g), which stands for s exp(g)."""
    e = ((s.bits() >> DOUBLE_FORMAT.mantissa) - DOUBLE_FORMAT.bias).to_float()
    wide_n = n.to(DOUBLE)
    if n.is_double:  # s is scaled to near 1, so that nothing cancels when its logarithm is added to g
        usual = both(s > 0.0, s < INF)
        e = where(usual, e, 0.0)
        near = where(usual, (s.bits() - (e.to_int() << DOUBLE_FORMAT.mantissa)).floats(), s)
        g = _log_of_power(wide_n + e, s.constant(0.0))
        return near + near * _log_of_power(wide_n + e, g), g
    # `term` has shortened not n ln 2 but the elements whose exponentials make up the sum.  How far above or below n ln
    # 2 they are can be estimated from the sum, whose leading bits above 1 may also come from the number of its terms.
    above = where(e > 20.0, e - 10.0, where(e > 0.0, e * 0.5, e))
    return s, (wide_n - (wide_n + above) * SHORTENED) * LN2


based = emitted_as(_based, 2, lambda s, *_: types.UniTuple(s, 2))
power_between = emitted_as(
    _power_between, 2, lambda n, _: types.float64 if isinstance(n, types.Float) else type(n)(types.float64)
)

# --- likelihoods ------------------------------------------------------------------------------------------------------


def _nll(s, g, x):
    """-log(exp(x) / (exp(x) + s exp(g))) = log1p(s exp(g - x)), accurate however small or large it is.

    A row that contains only -inf, or any NaN or +inf, gives NaN.
    """
    a, low = _difference(g, x)  # rounding a difference of hundreds would cost a tiny loss hundreds of ulp
    return _finished(s + s * low, a, s, x, lambda s, a: log1p_of(scaled_exp_of(s, a)))


def _nll_short(s, g, x):
    """`_nll`, accurate enough for float32."""
    return _finished(s, g - x, s, x, lambda s, a: log1p_moderate_of(s * short_exp_of(a), SINGLE))


def _finished(s, a, others, x, log1p_exp):
    most = 40.0  # beyond this log1p(y) is log(y), so that the excess of a can be added to the logarithm
    b = where(a > most, a - most, 0.0)
    value = b + log1p_exp(s, a - b)
    value = where(x.equals(-INF), others * INF, value)
    return where(x.equals(INF), NAN, value)


def _tail(s, g, x, loss, top):
    """logsumexp - top, with top the row's maximum and `loss` the result of `_nll`; accurate even if it is small."""
    far = (g - top) + log_of(s + exp_of(where(x > g, 0.0, x - g)))
    tail = where(x >= top, loss, where(x > g, (x - top) + loss, far))
    return where(tail < 0.0, 0.0, tail)  # negative only by rounding, if the sum contains the maximum


def _total(s, g, x, top):
    """The sum of exp(x - top) over the row, the denominator of softmax.  NaN where the maximum is infinite."""
    own = where(x < top, _exp_of_difference(s.constant(1.0), x, top), where(x.equals(top), s.constant(1.0), NAN))
    return where((top - top).equals(0.0), _exp_of_difference(s, g, top) + own, NAN)


def _wants_rest(x, top, tail, limit, most):
    """Lanes in which logsumexp - top has to be computed anew: x was excluded from the sum, which therefore contains the
    maximum, and its rounding error is not negligible."""
    near = both(tail < limit.spread(tail), absolute(top + tail) < most.spread(tail))
    mask = both(x < top, near)
    bits = mask.builder.bitcast(mask.value, ir.IntType(mask.type.count))
    return mask.new(mask.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)))


some_want_rest = emitted_as(_wants_rest, 5, lambda *_: types.boolean)
full_likelihood, short_likelihood = as_function(_nll, 3), as_function(_nll_short, 3)
tail_above = as_function(_tail, 5)
row_total = as_function(_total, 4)
exp_of_difference = as_function(_exp_of_difference, 3)


def likelihood_for(real):
    """The `nll` that is accurate enough for results of this type."""
    return short_likelihood if real is np.float32 else full_likelihood


# If a sum relative to the maximum is below this, terms may have been lost to underflow.
LEAST_SUM = {np.float32: 1e-24, np.float64: 1e-270}
