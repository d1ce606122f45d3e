"""The algebra of the softmax family: what a row is reduced to, and what is read off at the end.

One element of a row is left out, the target's or, where there is none, the maximum; the others are summed up as s exp(g).
Then, with x the element left out,

    -log softmax(x) = log1p(s exp(g - x))
    logsumexp = x - log softmax(x)

and a row whose x dwarfs the others keeps the relative accuracy of their sum, which log(1 + ...) would lose.  Sums are taken
relative to a power of two near the row's maximum, not to the maximum itself: so no subtraction rounds the exponentials'
arguments.  The few sums that may have lost something by that (`doubtful`) are taken again in float64, each row by itself.  NaN
lands in s.

References
----------
Milakov, M., Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
Dukhan, M., Ablavatski, A. (2020). The Two-Pass Softmax Algorithm. arXiv:2001.04438: powers of two as references.
"""

import numpy as np
from numba import types
from numba.extending import overload

from fastloss.backends.numba_cpu._jit import called, exactly
from fastloss.backends.numba_cpu._lanes import WIDTH
from fastloss.backends.numba_cpu._likelihood import exp_of_difference, folded, full_likelihood, with_value
from fastloss.backends.numba_cpu._load import blend, load, smaller, weight
from fastloss.backends.numba_cpu._math import LIMIT
from fastloss.backends.numba_cpu._registers import in_lanes, lanes_at

NEG_INF, INF, NAN = -np.inf, np.inf, np.nan


@exactly
def doubtful(s, m, least):
    """Whether a sum may be inexact: of terms far below the maximum, or of a row where that is finite but very large."""
    return s < least or abs(m) > LIMIT and abs(m) < INF


SPAN = 256  # elements that are summed exactly at a time


@called
def exact_sum(x, skip):
    """(s, g): the elements but one sum to s exp(g), in float64 whatever they are.

    g is the largest of them, or the one left out if there is nothing else.
    """
    most = NEG_INF
    for i in range(x.size):
        v = np.float64(load(x, i))
        most = v if v > most and i != skip else most
    if most == NEG_INF:
        most = np.float64(load(x, skip if skip > 0 else 0))
    powers = np.empty((SPAN // WIDTH, WIDTH))
    flat = powers.reshape(-1)
    high, low = in_lanes(0.0), in_lanes(0.0)
    for start in range(0, x.size, SPAN):
        size = smaller(SPAN, x.size - start)
        for i in range(SPAN):
            flat[i] = 0.0
        for i in range(size):
            v = np.float64(load(x, start + i))
            flat[i] = exp_of_difference(1.0, v if start + i != skip else NEG_INF, most)
        for k in range((size + WIDTH - 1) // WIDTH):
            high, low = with_value(high, low, lanes_at(powers, k))
    return folded(high, low), most


@called
def exact_tail(x, top):
    """logsumexp - top from the sum of all elements but the first that equals top, the maximum: in float64."""
    skip = 0
    for i in range(x.size):
        if load(x, i) == top:
            skip = i
            break
    s, g = exact_sum(x, skip)
    return full_likelihood(s, g, np.float64(top))


@exactly
def wants_rest(x, top, tail, limit):
    """Whether roundings of a sum with the maximum in it, as x was left out, show in what comes on top of the maximum."""
    return x < top and tail < limit


@called
def infinite_sum(x, m):
    """logsumexp where the maximum is infinite: m, unless there is a NaN."""
    for i in range(x.size):
        if load(x, i) != load(x, i):
            return NAN
    return m


@called
def count_before(x, start, stop, label, level):
    """How many of the elements between two positions come before x[label], which is `level`, in descending order.

    NaN comes before all numbers, and of equal elements the first: the order in which argmax takes them.
    """
    n = 0
    for i in range(start, stop):
        v = load(x, i)
        equal = v == level or v != v and level != level
        n += (equal and i < label) or v > level or (v != v and level == level)
    return n


@called
def first_of_all(x):
    """The position that NumPy's argmax gives: of the first NaN, else of the first maximum."""
    best = 0
    for i in range(x.size):
        v, most = load(x, i), load(x, best)
        if v > most or (v != v and most == most):
            best = i
    return best


@exactly
def scaled(share, loss):
    """share * loss, where a share of 0 costs nothing even if the loss is infinite; NaN stays."""
    return share * loss if share != 0.0 or loss != loss else 0.0


@exactly
def target_slope(s, g, x, top, total, share, mass, own):
    """Derivative of share * nll(x) + (the rest of a row's loss) with respect to its target's logit x.

    `total` is the sum of exp(. - top) over the row; `mass` is the weight of the smoothed part, `own` what the target has of it.
    1 - softmax(x) is taken from the others' sum, as the difference would cancel.
    """
    others = exp_of_difference(s, g, top) / total
    smooth = mass * (exp_of_difference(1.0, x, top) / total) - own if mass != 0.0 else 0.0
    return smooth - share * others


@exactly
def coefficient(y, w, c, keep, spread):
    """What class c has of a smoothed, weighted target, whose own part is y, in float64; one of 0 stays 0, whatever the weight."""
    q = blend(y, c, keep, spread)
    return q * weight(w, c) if q != 0.0 else 0.0


@exactly
def log_probability(x, top, tail):
    """(x - top) - tail, with top the row's maximum and tail = logsumexp - top: keeps a small tail."""
    return (x - top) - tail


# --- labels, at their own width -------------------------------------------------------------------------------------


def is_ignored(label, ignore_index):
    """Whether the label is the one to leave out."""


@overload(is_ignored, jit_options={"forceinline": True})
def _is_ignored(label, ignore_index):
    if label == types.uint64:
        return lambda label, ignore_index: ignore_index >= 0 and label == np.uint64(ignore_index)
    return lambda label, ignore_index: np.int64(label) == ignore_index


def is_uint64(label):
    """Whether the label is of the one type that int64 can't hold."""


@overload(is_uint64, jit_options={"forceinline": True})
def _is_uint64(label):
    answer = label == types.uint64
    return lambda label: answer


def is_class(label, n_classes):
    """Whether the label lies in [0, n_classes)."""


@overload(is_class, jit_options={"forceinline": True})
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
    """out[i] = value, where there is an out."""


@overload(put, jit_options={"forceinline": True})
def _put(out, i, value):
    if isinstance(out, types.NoneType):
        return lambda out, i, value: None

    def write(out, i, value):
        out[i] = value

    return write


# --- class weights and probabilities ------------------------------------------------------------------------------------------------------


def mass_of(w, spread, n_classes):
    """What the smoothed part of each row weighs."""


@overload(mass_of)
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
    """Whether an array's type says that its elements are neighbours."""


@overload(lies_together, jit_options={"forceinline": True})
def _lies_together(a):
    answer = isinstance(a, types.Array) and a.layout == "C"
    return lambda a: answer
