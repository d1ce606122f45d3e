"""The softmax family on its own ground: class axes, kinds of targets, weights, ignored and degenerate rows.

Results are held against the oracle; that the oracle agrees with torch is test_torch.py's business.
"""

import numpy as np
import pytest
import reference
from cases import ROW_CASES, ROW_STAND_INS, generator
from compare import assert_ulp, result_dtype, same_bits

import fastloss

pytestmark = pytest.mark.any_backend("case")
INDEX_DTYPES = [np.dtype(code) for code in "bBhHiIqQ"] + [np.dtype("?"), np.dtype(">i4"), np.dtype("<i2")]
SHAPES = {1: (5,), 2: (6, 5), 3: (3, 5, 4), 4: (2, 3, 5, 2), 5: (2, 1, 3, 5, 2)}
LAYOUTS = [(ndim, axis) for ndim in SHAPES for axis in range(-1, ndim)]


def check(case, arguments, ulp=None, **options):
    """Every reduction of `case` against the oracle."""
    options = case.options | options
    dtype = result_dtype(np.asarray(arguments[0]).dtype)
    function = getattr(fastloss, case.loss)
    each = reference.loss(case.loss, *arguments, reduction="none", **options)
    for reduction in case.reductions:
        got = function(*arguments, reduction=reduction, **options)
        expected = reference.loss(case.loss, *arguments, reduction=reduction, **options)
        assert got.dtype == dtype, reduction
        assert isinstance(got, np.ndarray if reduction == "none" else np.generic), reduction
        assert np.shape(got) == (each.shape if reduction == "none" else ()), reduction
        assert_ulp(got, expected, ulp or case.tolerance(dtype) + 1, what=f"{case} {reduction}")


@pytest.mark.parametrize("case", ROW_STAND_INS, ids=str)
@pytest.mark.parametrize("ndim, axis", LAYOUTS)
def test_axis_positions(case, ndim, axis):
    rng = generator(case, ndim, axis)
    classes_last = list(SHAPES[ndim])
    classes_last.append(classes_last.pop(axis))
    prediction, target = case.cast(case.arguments(rng, tuple(classes_last)), np.float32)
    if target.ndim == prediction.ndim:
        target = np.moveaxis(target, -1, axis)
    # Once as the view that moveaxis makes, once as an array that is contiguous in this order of axes.
    check(case, (np.moveaxis(prediction, -1, axis), target), axis=axis)
    check(case, (np.ascontiguousarray(np.moveaxis(prediction, -1, axis)), target), axis=axis)


@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
@pytest.mark.parametrize("ndim, axis", LAYOUTS)
def test_softmax_axis_positions(name, ndim, axis):
    x = generator(name, ndim).normal(0, 3, SHAPES[ndim]).astype(np.float32)
    expected = getattr(reference, name)(x, axis=axis)
    # exp turns the rounding of its argument (up to 15 here) into a relative error; logsumexp may cancel.
    ulp = {"log_softmax": 2, "softmax": 12, "logsumexp": 4}[name]
    for array in (x, np.asfortranarray(x)):
        got = np.asarray(getattr(fastloss, name)(array, axis=axis))
        assert got.dtype == np.float32
        assert_ulp(got, expected, ulp, at=1.0 if name == "logsumexp" else 0.0, what=name)
    if name == "logsumexp":
        kept = np.asarray(fastloss.logsumexp(x, axis=axis, keepdims=True))
        np.testing.assert_array_equal(kept, np.expand_dims(got, axis))


@pytest.mark.parametrize("n_classes", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 1025])
@pytest.mark.parametrize("case", ROW_CASES, ids=str)
def test_numbers_of_classes(case, n_classes):
    """Vector loops have remainders; blocks of rows have them too."""
    check(case, case.cast(case.arguments(generator(case, n_classes), (9, n_classes)), np.float32))


@pytest.mark.parametrize("n_classes", [1, 2, 5, 37])
@pytest.mark.parametrize("n_inner", [1, 3, 8, 65])
def test_numbers_of_columns(n_classes, n_inner):
    """The same with the classes on axis 1, where the vector loop runs along the last axis instead."""
    for case in ROW_STAND_INS:
        prediction, target = case.cast(case.arguments(generator(case, n_inner), (3, n_inner, n_classes)), np.float32)
        prediction = np.ascontiguousarray(np.moveaxis(prediction, -1, 1))
        if target.ndim == 3:
            target = np.ascontiguousarray(np.moveaxis(target, -1, 1))
        check(case, (prediction, target), axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("n_classes", [511, 512, 1000, 4096, 4097])
@pytest.mark.parametrize("name", ["log_softmax", "softmax"])
def test_many_classes_across_rows(name, n_classes, dtype):
    """Results are right, the same for a row whatever lies beside it and in place, and nothing else is written to."""
    function = getattr(fastloss, name)
    x = generator(name, n_classes).normal(0, 3, (2, n_classes, 40)).astype(dtype)
    x[1, 7, 3], x[1, :, 20] = -np.inf, np.nan
    got = function(x, axis=1)
    assert_ulp(got, getattr(reference, name)(x, axis=1), 4, at=2.0**-100)
    for columns in (slice(0, 2), slice(4, 7), slice(1, 17), slice(20, 40)):
        some = np.ascontiguousarray(x[..., columns])
        assert same_bits(function(some, axis=1), np.ascontiguousarray(got[..., columns]))
        assert same_bits(function(x[..., columns], axis=1), np.ascontiguousarray(got[..., columns]))
    if dtype == np.float32:
        frame = np.full((2, n_classes, 50), 7, np.float32)
        frame[..., 5:45] = x
        function(frame[..., 5:45], axis=1, out=frame[..., 5:45])
        assert same_bits(np.ascontiguousarray(frame[..., 5:45]), got)
        assert (frame[..., :5] == 7).all() and (frame[..., 45:] == 7).all()


@pytest.mark.any_backend
@pytest.mark.parametrize("dtype", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "categorical_cross_entropy"])
def test_index_dtypes(name, dtype):
    case = next(case for case in ROW_CASES if case.loss == name)
    prediction, target = case.arguments(generator(name), (40, 100))
    check(case, (prediction.astype(np.float32), (target % (2 if dtype.kind == "b" else 100)).astype(dtype)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", ["cross_entropy", "categorical_cross_entropy"])
def test_probability_dtypes(name, dtype):
    """Class probabilities need not have the logits' dtype."""
    case = next(case for case in ROW_CASES if case.loss == name and case.domains[1] == "distribution")
    prediction, target = case.arguments(generator(name, dtype), (12, 7))
    prediction, target = prediction.astype(np.float32), target.astype(dtype)
    got = getattr(fastloss, name)(prediction, target, reduction="none")
    assert_ulp(got.astype(np.float32), reference.loss(name, prediction, target, reduction="none"), 5)


def with_ignored(case, dtype, ignore_index=-100):
    prediction, target = case.cast(case.arguments(generator(case), (20, 6)), dtype)
    return prediction, np.where(np.arange(20) % 3 == 0, ignore_index, target)


@pytest.mark.parametrize("case", [case for case in ROW_CASES if case.domains[1] == "label"], ids=str)
class TestIndexTargets:
    @pytest.mark.parametrize("ignore_index", [-100, -1, 0, 3, 6, 2**40, -(2**63)])
    def test_ignore_index(self, case, ignore_index):
        check(case, with_ignored(case, np.float32, ignore_index), ignore_index=ignore_index)

    def test_ignored_rows_cost_nothing(self, case):
        prediction, target = with_ignored(case, np.float32)
        got = getattr(fastloss, case.loss)(prediction, target, reduction="none", **case.options)
        assert (got[target == -100] == 0).all()
        assert (got[target != -100] > 0).all()

    def test_ignored_rows_may_hold_anything(self, case):
        """NaN and infinities in rows that are not counted change nothing, neither value nor gradient."""
        function = getattr(fastloss, case.loss)
        prediction, target = with_ignored(case, np.float32)
        spoilt = prediction.copy()
        if case.loss != "categorical_cross_entropy":  # whose domain infinities are not in
            spoilt[3] = np.inf
        spoilt[0], spoilt[6, 2] = np.nan, np.nan
        for reduction in ("mean", "sum"):
            plain = fastloss.value_and_grad(function)(prediction, target, reduction=reduction, **case.options)
            other = fastloss.value_and_grad(function)(spoilt, target, reduction=reduction, **case.options)
            assert plain[0] == other[0] == function(spoilt, target, reduction=reduction, **case.options)
            np.testing.assert_array_equal(plain[1], other[1])
            assert (other[1][target == -100] == 0).all()
        check(case, (spoilt, target))

    @pytest.mark.parametrize("weight_dtype", [np.float32, np.float64, np.float16, np.int64])
    def test_weight(self, case, weight_dtype):
        weight = np.array([1, 2, 0, 4, 0.5, 3]).astype(weight_dtype)
        prediction, target = with_ignored(case, np.float32)
        expected = reference.loss(case.loss, prediction, target, weight=weight, **case.options)
        got = getattr(fastloss, case.loss)(prediction, target, weight=weight, **case.options)
        assert_ulp(np.float32(got), expected, case.ulp[0] + 2)

    def test_all_ignored(self, case):
        function = getattr(fastloss, case.loss)
        prediction, target = case.cast(case.arguments(generator(case), (5, 4)), np.float64)
        target[:] = -100
        for weight in (None, np.array([1.0, 2, 0, 4])):
            options = case.options | {"weight": weight}
            assert np.isnan(function(prediction, target, **options))
            assert function(prediction, target, reduction="sum", **options) == 0
            assert (function(prediction, target, reduction="none", **options) == np.zeros(5)).all()
            value, gradient = fastloss.value_and_grad(function)(prediction, target, **options)
            assert np.isnan(value) and (gradient == np.zeros((5, 4))).all()

    def test_zero_weights(self, case):
        function = getattr(fastloss, case.loss)
        prediction, target = with_ignored(case, np.float64)
        options = case.options | {"weight": np.zeros(6)}
        assert np.isnan(function(prediction, target, **options))
        assert function(prediction, target, reduction="sum", **options) == 0
        value, gradient = fastloss.value_and_grad(function)(prediction, target, **options)
        expected = reference.value_and_grad(case.loss, prediction, target, **options)
        assert np.isnan(value)
        np.testing.assert_array_equal(gradient, expected[1].astype(np.float64))


@pytest.mark.parametrize("case", ROW_CASES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 3), (4, 0, 3), (0, 0)])
def test_no_rows(case, shape):
    function = getattr(fastloss, case.loss)
    arguments = case.cast(case.arguments(generator(case), shape), np.float32)
    assert np.isnan(function(*arguments, **case.options))
    assert function(*arguments, reduction="sum", **case.options) == 0
    assert function(*arguments, reduction="none", **case.options).shape == shape[:-1]
    value, gradient = fastloss.value_and_grad(function)(*arguments, **case.options)
    assert np.isnan(value) and gradient.shape == shape and gradient.dtype == np.float32


@pytest.mark.parametrize("case", ROW_CASES, ids=str)
def test_no_classes(case):
    """Rows without a single class have no loss: any target is out of range."""
    arguments = case.cast(case.arguments(generator(case), (3, 0)), np.float32)
    with pytest.raises((ValueError, IndexError)):
        getattr(fastloss, case.loss)(*arguments, **case.options)


def test_softmax_functions_without_classes():
    empty = np.zeros((3, 0), np.float32)
    np.testing.assert_array_equal(fastloss.logsumexp(empty), np.full(3, -np.inf, np.float32))
    np.testing.assert_array_equal(fastloss.logsumexp(np.zeros((0, 3))), np.zeros(0))
    for function in (fastloss.softmax, fastloss.log_softmax):
        assert function(empty).shape == (3, 0)
        assert function(np.zeros((0, 3))).shape == (0, 3)
    assert fastloss.logsumexp(np.zeros(0)) == -np.inf


def test_large_float16_sums():
    """70000 zeros: beyond what float16 can count, and beyond its largest number."""
    zeros = np.zeros((2, 70000), np.float16)
    expected = np.full(2, np.log(70000), np.float32)
    np.testing.assert_allclose(fastloss.logsumexp(zeros), expected, rtol=2e-7)
    got = fastloss.cross_entropy(zeros, np.array([0, 69999]), reduction="none")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=2e-7)


@pytest.mark.parametrize("case", [case for case in ROW_CASES if case.domains[1] == "distribution"], ids=str)
def test_weighted_probabilities(case):
    """With probabilities the mean divides by the number of rows, whatever the weights."""
    arguments = case.cast(case.arguments(generator(case), (6, 4)), np.float64)
    check(case, arguments, weight=np.array([0.5, 0.0, 2.0, 3.0]))
    options = case.options | {"weight": np.zeros(4)}
    assert getattr(fastloss, case.loss)(*arguments, **options) == 0
