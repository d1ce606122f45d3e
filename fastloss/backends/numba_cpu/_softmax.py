"""The algebra of the softmax family: the numbers that a row is reduced to, and the results from them.

One element of a row is excluded: the target's logit or, if there is no target, the maximum.  The sum of the others'
exponentials is kept as s exp(g).  Then, with x the excluded element,

    -log softmax(x) = log1p(s exp(g - x))
    logsumexp = x - log softmax(x)

and a row whose x dwarfs the others keeps the relative accuracy of their sum, which log(1 + ...) would lose.  Sums are
relative to a power of two near the row's maximum, not to the maximum itself, so that no subtraction rounds the
exponentials' arguments.  The few sums that may have become inexact by that (`doubtful`) are computed again in float64,
one row at a time.  NaN ends up in s.

References
----------
Milakov, M., Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
Dukhan, M., Ablavatski, A. (2020). The Two-Pass Softmax Algorithm. arXiv:2001.04438: powers of two as references.
"""

import numpy as np
from numba import types
from numba.extending import overload

from fastloss._branchless import text_of_rows
from fastloss.backends.numba_cpu._elements import formulas
from fastloss.backends.numba_cpu._jit import called, exactly
from fastloss.backends.numba_cpu._lanes import WIDTH
from fastloss.backends.numba_cpu._likelihood import exp_of_difference, folded, full_likelihood, with_value
from fastloss.backends.numba_cpu._load import INLINED, blend, load, smaller, weight
from fastloss.backends.numba_cpu._math import LIMIT, as_function
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._passes import PART
from fastloss.backends.numba_cpu._registers import in_lanes, lanes_at

NEG_INF, INF, NAN = -np.inf, np.inf, np.nan

scaled, mixed_loss, target_slope = (
    as_function(formula, arity) for formula, arity in zip(formulas(text_of_rows()).values(), (2, 3, 5), strict=True)
)


@exactly
def doubtful(s, m, least):
    """Whether a sum may be inexact: its terms are far below the maximum, or the maximum is finite but very large."""
    return s < least or abs(m) > LIMIT and abs(m) < INF


SPAN = 256  # elements that are summed exactly at a time
span_of = on_stack(SPAN)


@called
def exact_sum(x, skip):
    """(s, g) such that s exp(g) is the sum over all elements except x[skip], computed in float64 for any dtype.

    g is the largest of them, or x[skip] if there is no other element.
    """
    most = NEG_INF
    for i in range(x.size):
        v = np.float64(load(x, i))
        most = v if v > most and i != skip else most
    if most == NEG_INF:
        most = np.float64(load(x, skip if skip > 0 else 0))
    powers = span_of(np.float64)
    high, low = in_lanes(0.0), in_lanes(0.0)
    for start in range(0, x.size, SPAN):
        size = smaller(SPAN, x.size - start)
        for i in range(SPAN):
            powers[i] = 0.0
        for i in range(size):
            v = np.float64(load(x, start + i))
            powers[i] = exp_of_difference(1.0, v if start + i != skip else NEG_INF, most)
        for k in range((size + WIDTH - 1) // WIDTH):
            high, low = with_value(high, low, lanes_at(powers, k))
    return folded(high, low), most


@called
def exact_tail(x, top):
    """logsumexp - top, in float64, from the sum over all elements except the first that equals the maximum, top."""
    skip = 0
    for i in range(x.size):
        if load(x, i) == top:
            skip = i
            break
    s, g = exact_sum(x, skip)
    return full_likelihood(s, g, np.float64(top))


@exactly
def wants_rest(x, top, tail, limit):
    """Whether logsumexp - top has to be computed anew: x was excluded from the sum, which therefore contains the
    maximum, and its rounding error is not negligible."""
    return x < top and tail < limit


@called
def infinite_sum(x, m):
    """logsumexp of a row whose maximum m is infinite: m, unless there is a NaN."""
    for i in range(x.size):
        if load(x, i) != load(x, i):
            return NAN
    return m


@called
def count_before(x, start, stop, label, level):
    """How many of the elements x[start:stop] come before x[label], whose value is `level`, in the order of argmax.

    That is: NaN before all numbers, larger elements before smaller ones, ties by position.
    """
    n = 0
    for i in range(start, stop):
        v = load(x, i)
        equal = v == level or v != v and level != level
        n += (equal and i < label) or v > level or (v != v and level == level)
    return n


@called
def first_of_all(x):
    """The position of the first NaN, or of the first maximum if there is none, as in numpy.argmax."""
    best = 0
    for i in range(x.size):
        v, most = load(x, i), load(x, best)
        if v > most or (v != v and most == most):
            best = i
    return best


@exactly
def slope_at_target(s, g, x, top, total, share, mass, own):
    """The derivative of a row's loss with respect to its target's logit x; `total` is the sum of exp(. - top) over the row."""
    others = exp_of_difference(s, g, top) / total
    return target_slope(others, exp_of_difference(1.0, x, top) / total, share, mass, own)


LOW, LIFT = 2.0**-24, 2.0**96


@exactly
def is_low(factor):
    """Whether float32 may have few digits of what terms of softmax are multiplied by: the factor has to be lifted, and the products to
    be lowered."""
    return 0.0 < abs(factor) < LOW


@exactly
def coefficient(y, w, c, keep, spread):
    """The coefficient of class c in a smoothed, weighted target with probability y there, in float64; 0 stays 0 for any
    weight."""
    q = blend(y, c, keep, spread)
    return q * weight(w, c) if q != 0.0 else 0.0


@exactly
def log_probability(x, top, tail):
    """(x - top) - tail, with top the row's maximum and tail = logsumexp - top; a small tail is not lost."""
    return (x - top) - tail


# --- labels, at their own width -------------------------------------------------------------------------------------


def is_ignored(label, ignore_index):
    """Whether the label equals `ignore_index`."""


@overload(is_ignored, **INLINED)
def _is_ignored(label, ignore_index):
    if label == types.uint64:
        return lambda label, ignore_index: ignore_index >= 0 and label == np.uint64(ignore_index)
    return lambda label, ignore_index: np.int64(label) == ignore_index


def is_uint64(label):
    """Whether the label's type is uint64, the only one that int64 can't hold."""


@overload(is_uint64, **INLINED)
def _is_uint64(label):
    answer = label == types.uint64
    return lambda label: answer


def is_class(label, n_classes):
    """Whether the label lies in [0, n_classes)."""


@overload(is_class, **INLINED)
def _is_class(label, n_classes):
    if label == types.uint64:
        return lambda label, n_classes: label < np.uint64(n_classes)
    return lambda label, n_classes: np.int64(label) >= 0 and np.int64(label) < n_classes


# --- sums of one block of rows ----------------------------------------------------------------------------------------

# Columns of `partials`, float64 (n_blocks, 4).
LOSS, WEIGHT, COUNT, FIRST_BAD = 0, 1, 2, 3
NO_BAD = np.inf


@exactly
def start_block(partials, b):
    partials[b, LOSS] = 0.0
    partials[b, WEIGHT] = 0.0
    partials[b, COUNT] = 0.0
    partials[b, FIRST_BAD] = NO_BAD


@exactly
def count(partials, b, loss, weight, n_rows):
    partials[b, LOSS] += loss
    partials[b, WEIGHT] += weight
    partials[b, COUNT] += n_rows


@exactly
def note_bad(partials, b, position):
    if position < partials[b, FIRST_BAD]:
        partials[b, FIRST_BAD] = position


def put(out, i, value):
    """out[i] = value, unless `out` is None."""


@overload(put, **INLINED)
def _put(out, i, value):
    if isinstance(out, types.NoneType):
        return lambda out, i, value: None

    def write(out, i, value):
        out[i] = value

    return write


# --- class weights and probabilities ----------------------------------------------------------------------------------


def mass_of(w, spread, n_classes):
    """The weight of the smoothed part of each row."""


@overload(mass_of, jit_options=PART)
def _mass_of(w, spread, n_classes):
    if isinstance(spread, types.NoneType):
        return lambda w, spread, n_classes: 0.0
    if isinstance(w, types.NoneType):
        return lambda w, spread, n_classes: spread * n_classes

    def weighted(w, spread, n_classes):
        high, low = 0.0, 0.0
        for c in range(n_classes):
            high, low = with_value(high, low, w[c])
        return spread * (high + low) if spread != 0.0 else 0.0

    return weighted


def lies_together(a):
    """Whether an array's type says that it is contiguous."""


@overload(lies_together, **INLINED)
def _lies_together(a):
    answer = isinstance(a, types.Array) and a.layout == "C"
    return lambda a: answer
