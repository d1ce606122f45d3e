"""Hypothesis looks for shapes, strides and values that the tables of cases did not think of.

FASTLOSS_TEST_EXAMPLES sets how many examples each test tries.
"""

import os

import numpy as np
import pytest
import reference
from cases import CASES
from compare import assert_ulp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastloss

F32 = np.float32
# Layouts and shapes are handled alike for all losses of a family, so a few losses stand for all of them here:
# each kind of array that a loss meets for the first time costs a compilation.
ROWS = [case for case in CASES if str(case) in ("cross_entropy-index", "cross_entropy-probs")]
pytestmark = pytest.mark.one_backend
POINTS = [case for case in CASES if str(case) in ("mse_loss", "kl_div")]
few = settings(
    max_examples=int(os.environ.get("FASTLOSS_TEST_EXAMPLES", "50")),
    deadline=None,
    database=None,  # leaves no folder behind
    suppress_health_check=[HealthCheck.too_slow],
)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
logits = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([0.0, -0.0, -np.inf, 88.0, -104.0, 1e4, -1e30, 3e38]).map(float),
    st.floats(width=32, allow_nan=True, allow_infinity=True),
)


@st.composite
def views(draw, array):
    """The same values as an odd view: axes in another order, steps, negative steps, a larger base."""
    order = draw(st.permutations(range(array.ndim)))
    steps = draw(st.lists(st.sampled_from([-3, -2, -1, 1, 2]), min_size=array.ndim, max_size=array.ndim))
    shape = [array.shape[axis] * abs(step) for axis, step in zip(order, steps, strict=True)]
    base = np.zeros(shape, array.dtype)
    view = base[(..., *(slice(None, None, step) for step in steps))].transpose(np.argsort(order))
    view[...] = array
    return view


@few
@given(
    data=st.data(),
    rng=seeds,
    case=st.sampled_from(ROWS + POINTS),
    shape=hnp.array_shapes(max_dims=4, max_side=9),
)
def test_views_give_what_contiguous_arrays_give(data, rng, case, shape):
    arguments = case.cast(case.arguments(rng, shape), F32)
    odd = [data.draw(views(argument)) for argument in arguments]
    function = getattr(fastloss, case.loss)
    for reduction in case.reductions:
        assert_close = np.testing.assert_allclose if reduction != "none" else np.testing.assert_array_equal
        assert_close(function(*odd, reduction=reduction), function(*arguments, reduction=reduction))
    value, gradient = fastloss.value_and_grad(function)(*odd)
    plain = fastloss.value_and_grad(function)(*arguments)
    np.testing.assert_allclose(value, plain[0])
    np.testing.assert_allclose(gradient, plain[1], rtol=1e-6)


@few
@given(data=st.data(), rng=seeds, shape=hnp.array_shapes(max_dims=5, max_side=6))
def test_class_axis_of_any_shape(data, rng, shape):
    case = data.draw(st.sampled_from(ROWS))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    classes_last = list(shape)
    classes_last.append(classes_last.pop(axis))
    prediction, target = case.arguments(rng, tuple(classes_last))
    prediction = data.draw(views(np.moveaxis(prediction, -1, axis)))
    if target.ndim == prediction.ndim:
        target = data.draw(views(np.moveaxis(target, -1, axis)))
    options = case.options | {"axis": axis, "weight": rng.uniform(0, 2, shape[axis])}
    for reduction in case.reductions:
        got = getattr(fastloss, case.loss)(prediction, target, reduction=reduction, **options)
        expected = reference.loss(case.loss, prediction, target, reduction=reduction, **options)
        assert_ulp(got, expected, 16, what=reduction)
    _, gradient = fastloss.value_and_grad(getattr(fastloss, case.loss))(prediction, target, **options)
    _, expected = reference.value_and_grad(case.loss, prediction, target, **options)
    np.testing.assert_allclose(gradient, np.float64(expected), rtol=1e-11, atol=1e-14)


@few
@given(x=hnp.arrays(F32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=logits), rng=seeds)
def test_cross_entropy_of_any_values(x, rng):
    target = rng.integers(0, x.shape[1], x.shape[0])
    exact = reference.loss("cross_entropy", x, target, reduction="none")
    assert_ulp(fastloss.cross_entropy(x, target, reduction="none"), exact, 2)
    assert_ulp(fastloss.cross_entropy(x.T.copy(), target, axis=0, reduction="none"), exact, 2)
    assert_ulp(fastloss.log_softmax(x), reference.log_softmax(x), 2)


@few
@given(x=hnp.arrays(F32, 30, elements=st.integers(-50, 50).map(float)), shift=st.integers(-10000, 10000))
def test_shifted_logits(x, shift):
    """Differences of whole numbers are exact, so the same number added to all of them changes nothing."""
    rows, target = x.reshape(3, 10), np.array([0, 5, 9])
    exact = reference.loss("cross_entropy", rows, target, reduction="none")
    assert_ulp(fastloss.cross_entropy(rows + F32(shift), target, reduction="none"), exact, 2)


@few
@given(x=hnp.arrays(np.float64, (4, 20), elements=st.floats(-700, 700)))
def test_softmax_is_a_distribution(x):
    for axis in (0, 1):
        got = fastloss.softmax(x, axis=axis)
        assert (got >= 0).all() and (got <= 1).all()
        np.testing.assert_allclose(got.sum(axis=axis), 1, rtol=1e-13)


@few
@given(
    x=hnp.arrays(F32, 30, elements=st.floats(-104, 104, width=32)),
    y=hnp.arrays(F32, 30, elements=st.floats(0, 1, width=32)),
)
def test_binary_cross_entropy_of_any_values(x, y):
    exact = reference.loss("binary_cross_entropy_with_logits", x, y, reduction="none")
    assert_ulp(fastloss.binary_cross_entropy_with_logits(x, y, reduction="none"), exact, 2)


@few
@given(pair=hnp.arrays(F32, (2, 30), elements=st.floats(-1e6, 1e6, width=32)))
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss"])
def test_differences_of_any_size(name, pair):
    """The difference is rounded once, relative to itself; so the loss is right relative to itself."""
    got = getattr(fastloss, name)(*pair, reduction="none")
    assert_ulp(got, reference.loss(name, *pair, reduction="none"), 5)


@few
@given(
    rng=seeds,
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=5),
    case=st.sampled_from(POINTS),
)
def test_broadcasting_of_any_shapes(rng, shapes, case):
    pred_shape, target_shape, weight_shape = shapes.input_shapes
    assume(np.prod(shapes.result_shape) > 0)
    prediction = np.asarray(case.arguments(rng, pred_shape)[0])
    target = np.asarray(case.arguments(rng, target_shape)[1])
    weight = np.asarray(rng.uniform(0.1, 2, weight_shape))
    function, options = getattr(fastloss, case.loss), case.options | {"weight": weight}
    got = function(prediction, target, **options)
    expected = reference.value_and_grad(case.loss, prediction, target, **options)
    np.testing.assert_allclose(got, np.float64(expected[0]), rtol=1e-11, atol=1e-12)
    _, gradient = fastloss.value_and_grad(function)(prediction, target, **options)
    assert np.shape(gradient) == pred_shape
    np.testing.assert_allclose(gradient, np.float64(expected[1]), rtol=1e-9, atol=1e-12)
    if "none" in case.reductions:
        assert function(prediction, target, reduction="none", **options).shape == shapes.result_shape
