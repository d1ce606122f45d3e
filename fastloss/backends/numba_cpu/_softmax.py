"""The algebra of the softmax family: a row's state, how it grows, and what is read off at the end.

The state of the elements seen so far is (m, k, s, n): their maximum m, how many equal it (k), and s, the sum of
exp(x) 2^-n over all others, n being m / log 2 rounded.  From it

    rest = sum of exp(x - m) over all but one of the maximal elements = (k - 1) + s / (exp(m) 2^-n)
    logsumexp = m + log1p(rest)

so a row whose maximum dwarfs the others keeps the relative accuracy of their sum, which log(1 + rest) would lose; and as
exponentials are taken relative to a power of two, not to m, no subtraction rounds their arguments.  A NaN lands in s.
m = +-inf needs no branch: `clamped` keeps n finite, the infinite elements are counted in k.

References
----------
Milakov, M., Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
Dukhan, M., Ablavatski, A. (2020). The Two-Pass Softmax Algorithm. arXiv:2001.04438: powers of two as references.
"""

import numpy as np
from numba import types
from numba.extending import overload

from fastloss.backends.numba_cpu._jit import called, exactly
from fastloss.backends.numba_cpu._load import load
from fastloss.backends.numba_cpu._math import exp, fine_term, term

LN2, LN2_LO = float(np.log(2.0)), 2.3190468138462996e-17
NEG_INF, INF, NAN = -np.inf, np.inf, np.nan
FINITE = float(np.finfo(np.float32).max)

# Beyond this, x / log 2 has too few fraction bits left for `term`; such rows take `exact_rest`.
LIMIT = 20000.0
# Below this share of the maximum, terms that underflowed to 0 might be missed in the sum.
TINY = 1e-25


@exactly
def clamped(m):
    """m, or the end of the range in which `reference` works."""
    T = type(m)
    return T(-LIMIT) if m < T(-LIMIT) else (T(LIMIT) if m > T(LIMIT) else m)


@exactly
def relative(m, n):
    """exp(m) 2^-n in float64."""
    n = np.float64(n)
    return exp((np.float64(m) - n * LN2) - n * LN2_LO)


@exactly
def moved(m, k, s, n, new_n):
    """The sum of all elements so far, maximal ones included, relative to 2^new_n."""
    return s * exp((np.float64(n) - np.float64(new_n)) * LN2) + k * relative(m, new_n)


@exactly
def rest_of(m, k, s, n):
    """Sum of exp(x - m) over all elements but one maximal one, in float64."""
    return (k - 1.0) + s / relative(clamped(m), n)


@exactly
def doubtful(m, rest):
    """Whether `rest` may have lost accuracy, to underflow or to the size of m."""
    return rest < TINY or (abs(m) > LIMIT and abs(m) < INF)


@called
def exact_rest(x, m, k):
    """`rest_of` from the elements themselves, in float64; times 2^700, or many subnormal terms would each be rounded."""
    s = 0.0
    for i in range(x.size):
        v = load(x, i)
        s += 0.0 if v == m else fine_term(np.float64(v) - np.float64(m), -700.0)
    return (k - 1.0) + s * 2.0**-700


@exactly
def nll(m, x, tail):
    """-log softmax of an element x: logsumexp - x, without cancellation; NaN for rows without a finite maximum."""
    value = (np.float64(m) - np.float64(x)) + tail
    return value if abs(m) < INF else NAN


@exactly
def scaled(share, loss):
    """share * loss, where a share of 0 costs nothing even if the loss is infinite; NaN stays."""
    return share * loss if share != 0.0 or loss != loss else 0.0


@exactly
def target_slope(m, x, rest, share, mass, own):
    """Derivative of share * nll(x) + (the rest of a row's loss) with respect to its target's logit x.

    `mass` is the weight of the smoothed part, `own` what the target has of it.  share * (1 - p) is taken from the other
    classes' sum where x is the maximum, since 1 - p would cancel.
    """
    if not abs(m) < INF:
        return NAN
    p = exp(np.float64(x) - np.float64(m)) / (1.0 + rest)
    miss = rest / (1.0 + rest) if x == m else 1.0 - p
    return mass * p - own - share * miss


@exactly
def log_probability(x, m, shift):
    """(x - m) - shift: not x - (m + shift), which would lose a small shift."""
    return (x - m) - shift


@exactly
def below(v, m, lowest, bias):
    """The term of v, its power 0 if v is the maximum itself."""
    power, tail = term(v, lowest, bias)
    return type(v)(0.0) if v == m else power, tail


@exactly
def pair(power_a, tail_a, power_b, tail_b):
    """The sum of two terms: each rounded once, and once their sum."""
    return (power_a + power_a * tail_a) + (power_b + power_b * tail_b)


# --- labels, at their own width -------------------------------------------------------------------------------------


def is_ignored(label, ignore_index):
    """Whether the label is the one to leave out."""


@overload(is_ignored, jit_options={"forceinline": True})
def _is_ignored(label, ignore_index):
    if label == types.uint64:
        return lambda label, ignore_index: ignore_index >= 0 and label == np.uint64(ignore_index)
    return lambda label, ignore_index: np.int64(label) == ignore_index


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
