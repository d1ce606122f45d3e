"""The oracle itself, against mpmath with 60 digits and against differences of its own values.

That it agrees with torch, SciPy and scikit-learn is shown where the package is compared with them.
"""

import mpmath
import numpy as np
import pytest
import reference
from cases import CASES, generator
from compare import ORACLE_ULP, to_mpf
from mpmath import mpf

EPS = float(np.finfo(np.longdouble).eps)


def mp_log_cosh(d):
    return mpmath.log1p(mpmath.cosh(d) - 1)


def mp_poisson(x, y, log_input=True, full=False, eps=1e-8):
    value = mpmath.exp(x) - y * x if log_input else x - y * mpmath.log(x + mpf(eps))
    stirling = y * mpmath.log(y) - y + mpmath.log(2 * mpmath.pi * y) / 2 if full and y > 1 else 0
    return value + stirling


def mp_gaussian(x, y, v, full=False, eps=1e-6):
    v = max(v, mpf(eps))
    return (mpmath.log(v) + (x - y) ** 2 / v + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


def mp_bce(p, y):
    return -(y * mpmath.log(p) + (1 - y) * mpmath.log(1 - p))


# Textbook formulas: with 60 digits nothing in them has to be stable.
TEXTBOOK = {
    "log_cosh_loss": lambda x, y: mp_log_cosh(x - y),
    "msle_loss": lambda x, y: (mpmath.log(1 + x) - mpmath.log(1 + y)) ** 2,
    "poisson_nll_loss": mp_poisson,
    "gaussian_nll_loss": mp_gaussian,
    "kl_div": lambda x, y, log_target=False: mpmath.exp(y) * (y - x) if log_target else y * (mpmath.log(y) - x),
    "binary_cross_entropy": mp_bce,
    "binary_cross_entropy_with_logits": lambda x, y: mp_bce(1 / (1 + mpmath.exp(-x)), y),
}


@pytest.mark.parametrize("case", [case for case in CASES if case.loss in TEXTBOOK], ids=str)
def test_pointwise_against_mpmath(case):
    arguments = case.arguments(generator(case), (50,))
    if case.loss == "log_cosh_loss":
        arguments = (arguments[0] * np.geomspace(1e-12, 1e3, 50), np.zeros(50))
    got = reference.loss(case.loss, *arguments, reduction="none", **case.options)
    with mpmath.workdps(60):
        for value, *numbers in zip(got, *arguments, strict=True):
            exact = TEXTBOOK[case.loss](*(mpf(float(number)) for number in numbers), **case.options)
            assert abs(to_mpf(value) - exact) <= ORACLE_ULP * EPS * max(abs(exact), mpf(case.at)), numbers


def mp_cross_entropy(logits, label):
    """log(1 + sum of the others' exp(x - x[label])), without a subtraction that cancels."""
    own = mpf(float(logits[label]))
    others = mpmath.fsum(mpmath.exp(mpf(float(x)) - own) for i, x in enumerate(logits) if i != label)
    return mpmath.log1p(others)


@pytest.mark.parametrize("n_classes", [2, 10, 1000, 10000])
def test_cross_entropy_against_mpmath(n_classes):
    rng = generator("mpmath", n_classes)
    with mpmath.workprec(300):  # enough for 1 + exp(-100) and then some
        for scale, gap in [(1, 0), (10, 0), (1, 20), (1, 100), (0, 0), (0, 50)]:
            logits = rng.normal(0, scale, n_classes).astype(np.float32)
            label = int(rng.integers(n_classes))
            logits[label] += gap
            got = reference.loss("cross_entropy", logits[None], np.array([label]), reduction="none")[0]
            exact = mp_cross_entropy(logits, label)
            assert abs(to_mpf(got) - exact) <= 64 * EPS * exact, (scale, gap)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
def test_binary_cross_entropy_against_mpmath(target):
    logits = np.linspace(-104, 104, 209, dtype=np.float32)
    got = reference.loss("binary_cross_entropy_with_logits", logits, np.full(209, target), reduction="none")
    with mpmath.workprec(300):
        for number, value in zip(logits, got, strict=True):
            x, y = mpf(float(number)), mpf(target)
            exact = (1 - y) * mpmath.log1p(mpmath.exp(x)) + y * mpmath.log1p(mpmath.exp(-x))
            assert abs(to_mpf(value) - exact) <= 64 * EPS * exact, x


def row_loss(case, prediction, target, index, step):
    shifted = reference.exact(prediction)
    shifted[index] += step
    return reference.loss(case.loss, shifted, *target, reduction="sum", **case.options)


@pytest.mark.parametrize("case", [case for case in CASES if case.loss != "rmse_loss"], ids=str)
def test_slopes_against_differences(case):
    """Central differences, in extended precision, of the oracle's own values."""
    prediction, *others = case.arguments(generator(case), (4, 5))
    _, slope = reference.value_and_grad(case.loss, prediction, *others, reduction="sum", **case.options)
    step = np.longdouble(2) ** (np.finfo(np.longdouble).machep // 3)  # where its own error and that of rounding meet
    for index in np.ndindex(4, 5):
        up, down = (row_loss(case, prediction, others, index, s) for s in (step, -step))
        assert abs((up - down) / (2 * step) - slope[index]) < 1e-8 * max(1, abs(slope[index])), index


def test_slope_of_the_root():
    prediction, target = generator("root").normal(0, 1, (2, 6))
    value, slope = reference.value_and_grad("rmse_loss", prediction, target)
    np.testing.assert_allclose(np.float64(slope), np.float64((prediction - target) / (6 * value)), rtol=1e-14)


def test_zero_times_infinity():
    inf, nan = np.inf, np.nan
    got = reference.times(np.array([0, 0, 0, 1, nan]), np.array([inf, -inf, nan, inf, inf]))
    np.testing.assert_array_equal(np.float64(got), [0, 0, nan, inf, nan])


def test_score():
    """By hand: ranks, ties, and a row that is ignored."""
    logits = np.array([[3.0, 1, 2], [1, 1, 1], [0, 5, 0]])
    got = reference.score(logits, np.array([2, 1, -100]))
    np.testing.assert_array_equal(got["rank"], [1, 1, -1])
    np.testing.assert_array_equal(got["argmax"], [0, 0, 1])
    np.testing.assert_array_equal(got["correct"], [False, False, False])
    np.testing.assert_allclose(np.float64(got["lse"][1]), 1 + np.log(3))
    np.testing.assert_allclose(np.float64(got["nll"]), [np.log(1 + np.e + 1 / np.e), np.log(3), 0])
