"""NaN, infinities, zeros and the smallest numbers; and that none of them makes NumPy warn."""

import numpy as np
import pytest
from cases import CASES, POINT_CASES, generator
from compare import assert_ulp, same_bits

import fastloss

pytestmark = pytest.mark.filterwarnings("error")
pytestmark = pytest.mark.any_backend("case")
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
INF, NAN = np.inf, np.nan


def each(name, *arguments, dtype=np.float32, **options):
    """reduction="none" of lists, in `dtype` but for integer arrays."""
    arrays = [np.array(argument) for argument in arguments]
    arrays = [array if array.dtype.kind in "iu" else array.astype(dtype) for array in arrays]
    return getattr(fastloss, name)(*arrays, reduction="none", **options)


def equal(got, *expected):
    np.testing.assert_array_equal(got, np.array(expected, got.dtype))


@FLOATS
@pytest.mark.parametrize("case", [case for case in CASES if "none" in case.reductions], ids=str)
def test_nan_stays_in_its_row(case, dtype):
    function = getattr(fastloss, case.loss)
    arguments = list(case.cast(case.arguments(generator(case), (40, 9)), dtype))
    clean = function(*arguments, reduction="none", **case.options)
    for spoilt, argument in enumerate(arguments):
        if argument.dtype.kind in "iu":
            continue
        # An index target's own entry, as the losses of log-probabilities look at no other.
        column = arguments[1][7] if arguments[1].ndim == 1 else 4
        arguments[spoilt] = argument.copy()
        arguments[spoilt][7, column] = NAN
        got = function(*arguments, reduction="none", **case.options)
        row = (7,) if case.rowwise else (7, column)
        assert np.isnan(got[row])
        got[row] = clean[row]
        np.testing.assert_array_equal(got, clean)
        for reduction in ("mean", "sum"):
            assert np.isnan(function(*arguments, reduction=reduction, **case.options))
        arguments[spoilt] = argument


@FLOATS
def test_nan_anywhere_among_the_logits(dtype):
    """In the last class as in the first, beside the maximum as at it: a running maximum may lose it."""
    for n_classes in (1, 2, 3, 8, 17, 100, 1000):
        rows = np.tile(np.arange(n_classes) % 7, (n_classes, 1)).astype(dtype)
        rows[np.arange(n_classes), np.arange(n_classes)] = NAN
        target = np.zeros(n_classes, np.int64)
        assert np.isnan(fastloss.cross_entropy(rows, target, reduction="none")).all()
        assert np.isnan(fastloss.cross_entropy(rows.T.copy(), target, axis=0, reduction="none")).all()
        assert np.isnan(fastloss.logsumexp(rows)).all()
        assert np.isnan(fastloss.softmax(rows)).all() and np.isnan(fastloss.log_softmax(rows)).all()


@FLOATS
def test_infinite_logits(dtype):
    logits = [[-INF, 1, 1], [-INF, -INF, 1], [-INF, -INF, -INF], [INF, 1, 1], [INF, -INF, 1], [-INF, 1, 1]]
    got = each("cross_entropy", logits, [1, 2, 0, 1, 0, 0], dtype=dtype)
    np.testing.assert_allclose(got, [np.log(2), 0, NAN, NAN, NAN, INF], rtol=1e-6)


@FLOATS
def test_masked_classes_of_probability_targets(dtype):
    """0 log 0 = 0: a class that neither the logits nor the target give any probability costs nothing."""
    logits = [[-INF, 1, 1], [-INF, 1, 1], [-INF, -INF, 3]]
    got = each("cross_entropy", logits, [[0, 0.5, 0.5], [0.25, 0.5, 0.25], [0, 0, 1]], dtype=dtype)
    np.testing.assert_allclose(got, [np.log(2), INF, 0], rtol=1e-6)
    equal(each("cross_entropy", [[-INF, 1, 1]], [1], dtype=dtype, label_smoothing=0.5), INF)
    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(
        np.array(logits[:1], dtype), np.array([[0, 0.5, 0.5]], dtype)
    )
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0]], atol=1e-7)


def test_gradient_at_masked_classes():
    """A masked class has gradient 0, and minus 1 if it is the target, as in torch."""
    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(
        np.array([[-INF, 1.0, 1.0], [-INF, 1.0, 1.0]]), np.array([1, 0]), reduction="sum"
    )
    assert value == INF
    np.testing.assert_allclose(gradient, [[0, -0.5, 0.5], [-1, 0.5, 0.5]], rtol=1e-15)


@FLOATS
def test_probabilities_of_zero(dtype):
    probs = [[0, 1], [0, 1], [0.5, 0.5]]
    got = each("categorical_cross_entropy", probs, [1, 0, 0], dtype=dtype)
    np.testing.assert_array_equal(got[:2], [0, INF])
    got = each("categorical_cross_entropy", probs, [[0, 1], [0.5, 0.5], [1, 0]], dtype=dtype)
    np.testing.assert_array_equal(got[:2], [0, INF])  # no silent clipping
    equal(each("binary_cross_entropy", [0, 0, 1, 1], [0, 1, 0, 1], dtype=dtype), 0, 100, 100, 0)
    equal(each("nll_loss", [[-INF, 0], [-INF, 0]], [1, 0], dtype=dtype), 0, INF)


@FLOATS
def test_binary_losses_of_infinite_logits(dtype):
    """Certain and wrong costs everything, certain and right nothing."""
    name = "binary_cross_entropy_with_logits"
    equal(each(name, [INF, -INF, INF, -INF], [0, 1, 0.5, 0.5], dtype=dtype), INF, INF, INF, INF)
    equal(each(name, [INF, -INF], [1, 0], dtype=dtype), 0, 0)
    assert_ulp(
        each(name, [0, 0], [0, 1], dtype=np.float64), [np.log(2), np.log(2)], 4
    )  # the table's, in test_values.py


@FLOATS
def test_kl_div(dtype):
    equal(each("kl_div", [-1, 0, 0, -INF], [0, 1, -1, 1], dtype=dtype), 0, 0, NAN, INF)
    equal(each("kl_div", [-INF], [0], dtype=dtype), 0)  # 0 log 0 = 0
    equal(each("kl_div", [-1, -INF], [-INF, -INF], dtype=dtype, log_target=True), 0, 0)


@FLOATS
@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss", "quantile_loss"]
)
def test_infinite_differences(name, dtype):
    equal(each(name, [INF, -INF, 0, 0, INF], [0, 0, INF, -INF, -INF], dtype=dtype), INF, INF, INF, INF, INF)
    equal(each(name, [INF, 0], [INF, 0], dtype=dtype), NAN, 0)
    assert getattr(fastloss, name)(np.array([INF, 0], dtype), np.zeros(2, dtype)) == INF


@FLOATS
def test_poisson_and_gaussian(dtype):
    equal(each("poisson_nll_loss", [0, 0], [0, 1], dtype=dtype, log_input=False)[:1], 0)
    equal(each("poisson_nll_loss", [0, 0, 0], [0, 0.5, 1], dtype=dtype, full=True), 1, 1, 1)
    equal(each("gaussian_nll_loss", [0, 0], [0, 0], [1, INF], dtype=dtype), 0, INF)
    assert np.isnan(each("gaussian_nll_loss", [0], [0], [NAN], dtype=dtype)).all()


@FLOATS
def test_margins(dtype):
    """Right and certain costs nothing; a target of 0 says nothing of an infinite score."""
    for name in ("hinge_loss", "squared_hinge_loss", "soft_margin_loss"):
        equal(each(name, [INF, -INF, INF, -INF, INF], [1, -1, -1, 1, 0.0], dtype=dtype), 0, 0, INF, INF, NAN)
    equal(each("hinge_embedding_loss", [INF, INF, -INF, -INF], [1, -1, 1, -1], dtype=dtype), INF, 0, -INF, INF)
    equal(each("hinge_embedding_loss", [0, 2, -0.0], [0, 0, 1], dtype=dtype, margin=0.5), 0.5, 2, 0)
    ranked = [INF, -INF, INF, INF], [0, 0, 0, INF], [1, 1, -1, 1]
    equal(each("margin_ranking_loss", *ranked, dtype=dtype), 0, INF, INF, NAN)


@FLOATS
def test_relative_errors(dtype):
    equal(each("mape_loss", [INF, 1, 0, 0], [1, INF, 0, -0.0], dtype=dtype), INF, NAN, 0, 0)
    equal(each("smape_loss", [1, -1, 0, 0, 3, INF], [-1, 3, 5, 0, 0, 1], dtype=dtype), 2, 2, 2, 0, 2, NAN)


def test_relative_errors_of_targets_of_0():
    """What stands in for them is scikit-learn's: the spacing of float64 at 1."""
    for dtype in (np.float32, np.float64):
        equal(each("mape_loss", [1, 2.0**-52], [0, 0], dtype=dtype), 2.0**52, 1)
        equal(each("smape_loss", [2.0**-60], [0], dtype=dtype), 2.0**-7)
        equal(each("mape_loss", [1, 3], [0, 1], dtype=dtype, eps=4.0), 0.25, 0.5)


@FLOATS
def test_charbonnier(dtype):
    equal(each("charbonnier_loss", [INF, -INF, 0, 3], [0, INF, 0, -1], dtype=dtype, eps=3.0), INF, INF, 0, 2)


@FLOATS
def test_divergences(dtype):
    """inf - log inf is NaN, as in SciPy and scikit-learn."""
    equal(each("generalized_kl_div", [0, 0, 2, INF, -0.0], [0, 1, 0, 1, 0], dtype=dtype), 0, INF, 2, NAN, 0)
    equal(each("poisson_deviance_loss", [2, INF, INF], [0, 1, 0], dtype=dtype), 4, NAN, INF)
    equal(each("gamma_deviance_loss", [INF, 3], [1, 3], dtype=dtype), INF, 0)
    for power in (1.5, 3.0):  # nothing is left of equal numbers, and 4 sqrt(x) where the target is 0
        equal(each("tweedie_deviance_loss", [4, 7], [4, 7], dtype=dtype, power=power), 0, 0)
    assert_ulp(each("tweedie_deviance_loss", [4, 1], [0, 0], dtype=dtype, power=1.5), [8, 4], 4)
    assert_ulp(each("tweedie_deviance_loss", [1, 1], [0, -3], dtype=dtype, power=-1.0), [2 / 3, 2 / 3 + 3], 4)


@FLOATS
def test_sigmoid_focal(dtype):
    arguments = [INF, -INF, INF, -INF, INF, 0], [1, 0, 0, 1, 0.5, 1]
    for gamma in (0.0, 0.5, 2.0):
        got = each("sigmoid_focal_loss", *arguments, dtype=dtype, gamma=gamma)
        equal(got[:5], 0, 0, INF, INF, INF)
        assert_ulp(got[5:], [0.25 * np.log(2) * 0.5**gamma], 3)
    _, slope = fastloss.value_and_grad(fastloss.sigmoid_focal_loss)(
        np.array([INF, -INF, INF, -INF], dtype), np.array([1, 0, 0, 1], dtype), reduction="sum"
    )
    equal(slope, 0, 0, 0.75, -0.25)


@pytest.mark.parametrize("name", ["mape", "smape", "charbonnier", "huber", "smooth_l1"])
def test_options_below_the_smallest_number(name):
    """1e-50 is 0 in float32; that no result divides by it."""
    loss = getattr(fastloss, f"{name}_loss")
    option = {"huber": "delta", "smooth_l1": "beta"}.get(name, "eps")
    x, y = np.array([0, 1, -1], np.float32), np.array([0, 1, 2], np.float32)
    options = {option: 1e-50, "reduction": "sum"}
    got, slopes = fastloss.value_and_grad(loss)(x, y, **options)
    exact, exact_slopes = fastloss.value_and_grad(loss)(x.astype(float), y.astype(float), **options)
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-40)
    np.testing.assert_allclose(slopes, exact_slopes, rtol=1e-6, atol=1e-40)


def test_smallest_numbers_are_not_flushed():
    tiny = np.array([1e-45, 1e-40], np.float32)
    assert same_bits(fastloss.l1_loss(tiny, np.zeros_like(tiny), reduction="none"), tiny)
    assert fastloss.l1_loss(np.full(1000, 5e-324), np.zeros(1000)) == 5e-324
    assert fastloss.mse_loss(np.full(1000, 1e-160), np.zeros(1000)) == 1e-160**2


@pytest.mark.parametrize("case", [case for case in POINT_CASES if case.domains[0] == "real"], ids=str)
def test_infinite_mean(case):
    """One infinite element makes the mean infinite, not NaN."""
    arguments = list(case.cast(case.arguments(generator(case), (100,)), np.float32))
    arguments[0][50] = 1e5 if case.loss == "poisson_nll_loss" else INF  # of which exp is infinite
    assert getattr(fastloss, case.loss)(*arguments, **case.options) == INF


@pytest.mark.parametrize("name, big", [("l1_loss", 3e38), ("mse_loss", 1.5e19)])
def test_overflow_of_a_result(name, big):
    """Sums run in double precision; what single precision cannot hold becomes inf, without a warning."""
    big = np.full(10, big, np.float32)
    assert getattr(fastloss, name)(big, np.zeros_like(big), reduction="sum") == INF
    assert np.isfinite(getattr(fastloss, name)(big, np.zeros_like(big)))


def test_negative_zero_is_a_probability():
    probs, target = np.array([-0.0, 0.0, 1.0, -0.0], np.float32), np.array([1.0, -0.0, 1.0, 0.5], np.float32)
    losses = fastloss.binary_cross_entropy(probs, target, reduction="none")
    np.testing.assert_array_equal(losses, np.float32([100, 0, 0, 50]))
    assert fastloss.binary_cross_entropy(probs, target) == np.float32(37.5)
