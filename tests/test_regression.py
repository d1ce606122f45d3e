"""The regression family: broadcasting of prediction, target and weight, and ``axis`` as in ``np.mean``."""

import numpy as np
import pytest
import reference
from cases import PLAIN_CASES, POINT_STAND_INS, REGRESSION_CASES, generator
from compare import assert_ulp

import fastloss

pytestmark = pytest.mark.any_backend("case")
CASES = [case for case in PLAIN_CASES if case in REGRESSION_CASES]
# float64 tests of signed sums: in ulp of the largest element, which is below 64 in the table's domains
TOLERANCE = {"ulp": 8, "at": 64.0}


def draw(case, *shapes):
    """One argument for each shape, from the case's domains; further domains take the last shape."""
    shapes += shapes[-1:] * (len(case.domains) - len(shapes))
    return [case.arguments(generator(case, shape), shape)[i] for i, shape in enumerate(shapes)]


@pytest.mark.any_backend
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3, (0, 1), (0, 2), (2, 1), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_axis(case, axis):
    function = getattr(fastloss, case.loss)
    arguments = draw(case, (3, 4, 5))
    weights = [generator("weight").uniform(0, 2, (3, 4, 5))] if case in POINT_STAND_INS else []
    for reduction in ("mean", "sum"):
        for w in (None, *weights):
            got = function(*arguments, axis=axis, reduction=reduction, weight=w)
            expected = reference.loss(case.loss, *arguments, axis=axis, reduction=reduction, weight=w)
            assert np.asarray(got).dtype == np.float64
            assert np.shape(got) == np.mean(np.zeros((3, 4, 5)), axis=axis).shape
            assert_ulp(got, expected, **TOLERANCE, what=f"{reduction}, weight {w is not None}")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_axis_of_long_and_thin_arrays(case):
    """Reducing the long axis, either way round: per-output errors of many rows, and of few."""
    function = getattr(fastloss, case.loss)
    for shape in [(5000, 3), (3, 5000)]:
        arguments = case.cast(draw(case, shape), np.float32)
        for axis in (0, 1):
            got = function(*arguments, axis=axis)
            assert got.dtype == np.float32
            assert_ulp(got, reference.loss(case.loss, *arguments, axis=axis), 6, at=max(1.0, case.at))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_axis_of_length_zero(case):
    function = getattr(fastloss, case.loss)
    arguments = draw(case, (0, 3))
    np.testing.assert_array_equal(function(*arguments, axis=0), np.full(3, np.nan))
    np.testing.assert_array_equal(function(*arguments, axis=0, reduction="sum"), np.zeros(3))
    assert function(*arguments, axis=1).shape == (0,)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_axis_into_out(case):
    function = getattr(fastloss, case.loss)
    arguments = draw(case, (6, 4))
    out = np.zeros(4)
    assert function(*arguments, axis=0, out=out) is out
    np.testing.assert_array_equal(out, function(*arguments, axis=0))


BROADCASTS = [
    # prediction, target, weight
    ((3, 4), (4,), None),
    ((4,), (3, 4), None),
    ((3, 1), (1, 4), None),
    ((3, 4), (), None),
    ((), (3, 4), None),
    ((2, 1, 4), (3, 1), None),
    ((3, 4), (3, 4), (4,)),
    ((3, 4), (3, 4), (3, 1)),
    ((3, 4), (3, 4), ()),
    ((3, 4), (4,), (3, 1)),
    ((4,), (4,), (3, 1)),  # the weight alone may widen the result
    ((1, 4), (0, 4), None),
]


@pytest.mark.any_backend  # shapes are brought into one form before kernels see them
@pytest.mark.parametrize(
    "case, shapes",
    [(case, shapes) for case in CASES for shapes in BROADCASTS[: None if case in POINT_STAND_INS else 1]],
    ids=str,
)
def test_broadcasting(case, shapes):
    function = getattr(fastloss, case.loss)
    *arguments, weight = draw(case, *shapes[:2]) + [shapes[2]]
    if len(case.domains) == 3:  # a variance of the shape pred.shape[:-1] would mean something else
        arguments[2] = np.asarray(0.5)
    options = {} if weight is None else {"weight": generator("weight").uniform(0, 2, weight)}
    for reduction in case.reductions:
        if reduction == "batchmean":
            continue
        expected = reference.loss(case.loss, *arguments, reduction=reduction, **options)
        got = function(*arguments, reduction=reduction, **options)
        assert_ulp(got, expected, **TOLERANCE, what=reduction)
        if reduction != "none":
            value, gradient = fastloss.value_and_grad(function)(*arguments, reduction=reduction, **options)
            expected = reference.value_and_grad(case.loss, *arguments, reduction=reduction, **options)
            assert_ulp(value, expected[0], **TOLERANCE, what=f"value with gradient, {reduction}")
            assert_ulp(gradient, expected[1], **TOLERANCE, what=f"gradient, {reduction}")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weighted_mean(case):
    """The mean divides by the summed weights as they are broadcast, so constant weights change nothing."""
    function = getattr(fastloss, case.loss)
    arguments = draw(case, (3, 4))
    for weight in (2.5, np.full((3, 1), 2.5), np.full((3, 4), 2.5, np.float32)):
        np.testing.assert_allclose(function(*arguments, weight=weight), function(*arguments), rtol=1e-14)
    chosen = np.array([[True], [False], [True]])
    got = function(*arguments, weight=chosen)
    np.testing.assert_allclose(got, function(*(argument[[0, 2]] for argument in arguments)), rtol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_weights_zero(case):
    function = getattr(fastloss, case.loss)
    arguments = draw(case, (3, 4))
    assert np.isnan(function(*arguments, weight=np.zeros((3, 4))))
    assert function(*arguments, weight=np.zeros(4), reduction="sum") == 0
    per_column = function(*arguments, weight=np.array([1.0, 0, 1, 0]), axis=0)
    np.testing.assert_array_equal(np.isnan(per_column), [False, True, False, True])


def test_root_is_taken_after_the_mean():
    pred, target = generator("rmse").normal(0, 1, (2, 6, 3))
    np.testing.assert_allclose(fastloss.rmse_loss(pred, target), np.sqrt(np.mean((pred - target) ** 2)))
    per_column = np.sqrt(np.mean((pred - target) ** 2, axis=0))
    np.testing.assert_allclose(fastloss.rmse_loss(pred, target, axis=0), per_column)


def test_batchmean_divides_by_the_first_axis():
    case = next(case for case in CASES if case.loss == "kl_div")
    arguments = draw(case, (5, 4))
    got = fastloss.kl_div(*arguments, reduction="batchmean")
    np.testing.assert_allclose(got, fastloss.kl_div(*arguments, reduction="sum") / 5, rtol=1e-15)


@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("f8", "f4"), ("f2", "f8"), ("f4", "f2"), ("f2", "f4")])
@pytest.mark.parametrize("case", POINT_STAND_INS, ids=str)
def test_mixed_dtypes(case, dtypes):
    """Any float64 among the arguments makes the result float64; smaller ones mix to float32."""
    arguments = draw(case, (6, 4))
    arguments = [a.astype(dtypes[min(i, 1)]) for i, a in enumerate(arguments)]
    got = getattr(fastloss, case.loss)(*arguments, reduction="none")
    assert got.dtype == (np.float64 if "f8" in dtypes else np.float32)
    expected = reference.loss(case.loss, *arguments, reduction="none")
    assert_ulp(got, expected, case.tolerance(got.dtype), case.at)
