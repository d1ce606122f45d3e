"""The pointwise losses on a device against the oracle: every loss, dtype and layout."""

import numpy as np
import pytest
import reference
from cases import POINT_CASES, POINT_STAND_INS, REGRESSION_CASES, generator
from compare import assert_ulp, result_dtype
from on_device import LAYOUTS, fetched, sent, ulp_of

import fastloss

try:
    from ml_dtypes import bfloat16

    HALVES = [np.float16, bfloat16]
except ImportError:  # an optional package
    HALVES = [np.float16]
FLOATS = [np.float32, np.float64, *HALVES]


def check(case, arguments, *, layout=sent, gradient=True, **options):
    """Value for each reduction, and gradient, against the oracle."""
    function = getattr(fastloss, case.loss)
    there = [layout(a) for a in arguments]
    moved = {key: sent(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    dtype = result_dtype(*(a.dtype for a in arguments))
    at = max(case.at, 1e-3)
    for reduction in case.reductions:
        if "axis" in options and reduction in ("none", "batchmean"):
            continue
        got = function(*there, reduction=reduction, **case.options, **moved)
        exact = reference.loss(case.loss, *arguments, reduction=reduction, **case.options, **options)
        assert got.shape == np.shape(exact) and got.dtype == dtype
        scale = 1 if reduction == "none" else max(1, np.size(arguments[0]))
        assert_ulp(fetched(got), exact, ulp_of(case, dtype, 2), at=at * scale, what=f"{reduction} {options}")
        if gradient and reduction != "none":
            got, slopes = fastloss.value_and_grad(function)(*there, reduction=reduction, **case.options, **moved)
            exact, exact_slopes = reference.value_and_grad(
                case.loss, *arguments, reduction=reduction, **case.options, **options
            )
            assert_ulp(fetched(got), exact, ulp_of(case, dtype, 2), at=at * scale, what=f"value, {reduction}")
            assert slopes.shape == arguments[0].shape
            assert_ulp(fetched(slopes), exact_slopes, 12, at=max(at, 1e-1), what=f"gradient, {reduction}")


@pytest.mark.expensive
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("case", POINT_CASES, ids=str)
def test_dtypes(case, dtype):
    """Vectors and the elements that are left."""
    for n in (1, 70):
        check(case, case.cast(case.arguments(generator(case, n), (n,)), dtype))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", POINT_STAND_INS, ids=str)
def test_layouts(case, layout):
    check(case, case.cast(case.arguments(generator(case), (5, 6)), np.float32), layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_binary_layouts(layout):
    for case in POINT_CASES[:2]:
        check(case, case.cast(case.arguments(generator(case), (5, 6)), np.float32), layout=layout)


@pytest.mark.parametrize("case", POINT_STAND_INS, ids=str)
def test_weights_and_broadcasting(case):
    rng = generator(case)
    arguments = list(case.cast(case.arguments(rng, (4, 6)), np.float32))
    check(case, arguments, weight=rng.uniform(0, 2, (4, 6)).astype(np.float32))
    check(case, arguments, weight=rng.uniform(0, 2, (4, 1)).astype(np.float32))
    arguments[1] = arguments[1][:, :1]
    check(case, arguments)
    check(case, [arguments[0][:1], *arguments[1:]])
    check(case, [arguments[0][:1, :1], *arguments[1:]])


@pytest.mark.expensive
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (1, 2), (0, 1), (2, 1, 0)])
@pytest.mark.parametrize("case", POINT_STAND_INS, ids=str)
def test_axis(case, axis):
    rng = generator(case, axis)
    arguments = case.cast(case.arguments(rng, (3, 4, 5)), np.float32)
    check(case, arguments, axis=axis, gradient=False)
    check(case, arguments, axis=axis, gradient=False, weight=rng.uniform(0, 2, (3, 4, 5)).astype(np.float32))


@pytest.mark.parametrize("case", [case for case in REGRESSION_CASES if not case.options], ids=str)
def test_axis_of_every_loss(case):
    check(case, case.cast(case.arguments(generator(case), (5, 3)), np.float32), axis=0, gradient=False)


def test_positive_weights():
    rng = generator("pos_weight")
    x, y = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 2, (5, 3)).astype(np.float32)
    w, p = rng.uniform(0, 2, (5, 3)).astype(np.float32), rng.uniform(0.5, 3, 3).astype(np.float32)
    for reduction in ("none", "mean", "sum"):
        got = fastloss.binary_cross_entropy_with_logits(
            sent(x), sent(y), weight=sent(w), pos_weight=sent(p), reduction=reduction
        )
        exact = reference.loss("binary_cross_entropy_with_logits", x, y, weight=w, pos_weight=p, reduction=reduction)
        assert_ulp(fetched(got), exact, 4, at=1.0)


@pytest.mark.parametrize("target", [np.int8, np.int64, np.bool_, np.float64])
def test_mixed_dtypes(target):
    """Targets promote as on the host."""
    rng = generator("mixed", target)
    x, y = rng.normal(size=20).astype(np.float32), rng.integers(0, 2, 20).astype(target)
    got, expected = fastloss.mse_loss(sent(x), sent(y)), fastloss.mse_loss(x, y)
    assert got.dtype == expected.dtype
    assert_ulp(fetched(got), expected, 2)
    got, expected = fastloss.mse_loss(sent(y), sent(x)), fastloss.mse_loss(y, x)
    assert got.dtype == expected.dtype
    assert_ulp(fetched(got), expected, 2)


def test_numbers_go_with_arrays():
    x = np.linspace(-1, 2, 11, dtype=np.float32)
    got, expected = fastloss.huber_loss(sent(x), 0.5, delta=0.3), fastloss.huber_loss(x, 0.5, delta=0.3)
    assert got.dtype == np.float32
    assert_ulp(fetched(got), expected, 2)
    assert_ulp(fetched(fastloss.mse_loss(sent(x), 0.0, weight=2.0)), fastloss.mse_loss(x, 0.0, weight=2.0), 2)
    assert_ulp(fetched(fastloss.mse_loss(sent(x), 0.0, weight=2.0, reduction="sum")), 2 * np.sum(x * x), 3)


@pytest.mark.parametrize("n", [0, 0.0])
def test_nothing(n):
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(fetched(fastloss.mse_loss(sent(x), sent(x))))
    assert fetched(fastloss.mse_loss(sent(x), sent(x), reduction="sum")) == 0
    assert fastloss.mse_loss(sent(x), sent(x), reduction="none").shape == (0, 3)


def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 200.0, -200.0], np.float32)
    y = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0], np.float32)
    got = fastloss.binary_cross_entropy_with_logits(sent(x), sent(y), reduction="none")
    assert_ulp(fetched(got), reference.loss("binary_cross_entropy_with_logits", x, y, reduction="none"), 2)
    p = np.array([0.0, 1.0, 1e-40, 1 - 6e-8, np.nan, 0.5], np.float32)
    got = fastloss.binary_cross_entropy(sent(p), sent(y), reduction="none")
    assert_ulp(fetched(got), reference.loss("binary_cross_entropy", p, y, reduction="none"), 3)
