"""value_and_grad of every loss: against differences of the loss itself, and against the oracle."""

import copy
import pickle

import numpy as np
import pytest
import reference
from cases import CASES, PLAIN_CASES, POINT_CASES, ROW_CASES, ROW_STAND_INS, STAND_INS, generator
from compare import assert_ulp, result_dtype
from layouts import KEEPING_DTYPE
from subprocesses import check_python

import fastloss
from fastloss import losses

DTYPES = [np.float32, np.float64, np.float16, np.int32, np.bool_]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass


def check(case, arguments, ulp=16, **options):
    """Value and gradient of each reduction; the gradient in ulp of its largest entry."""
    function, options = getattr(fastloss, case.loss), case.options | options
    dtype = result_dtype(np.asarray(arguments[0]).dtype)
    for reduction in case.reductions:
        if reduction == "none":
            continue
        value, gradient = fastloss.value_and_grad(function)(*arguments, reduction=reduction, **options)
        with np.errstate(all="ignore"):
            _, slope = reference.value_and_grad(case.loss, *arguments, reduction=reduction, **options)
        plain = function(*arguments, reduction=reduction, **options)
        assert type(value) is type(plain) is dtype.type
        np.testing.assert_allclose(value, plain, rtol=4 * np.finfo(dtype).eps)
        assert isinstance(gradient, np.ndarray) and gradient.dtype == dtype
        finite = np.abs(slope[np.isfinite(slope)])
        assert_ulp(gradient, slope, ulp, at=float(finite.max(initial=0)), what=f"{case} {reduction}")


@pytest.mark.any_backend
@pytest.mark.parametrize("wrt", [None, "linear_bias", ["linear_weight", "hidden"]], ids=str)
def test_pickling(wrt):
    """As processes of a pool exchange functions."""
    rng = np.random.default_rng(0)
    arguments = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), [0, 1, 2, 3]
    function = fastloss.value_and_grad(fastloss.linear_cross_entropy, wrt)
    for again in (pickle.loads(pickle.dumps(function)), copy.copy(function)):
        found, right = (f(*arguments, linear_bias=np.zeros(5)) for f in (again, function))
        assert str(found) == str(right) and repr(again) == repr(function)
        assert again.__doc__ == fastloss.linear_cross_entropy.__doc__


@pytest.mark.any_backend
def test_another_process_unpickles():
    sent = {loss.name: fastloss.value_and_grad(getattr(fastloss, loss.name)) for loss in losses.LOSSES}
    code = f"""
        import pickle
        for name, function in pickle.loads({pickle.dumps(sent)!r}).items():
            assert function.__name__ == name
        print("fine")
    """
    check_python(code)


@pytest.mark.any_backend
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_differences(case):
    """Central differences in double precision. Arguments are drawn at random, so none sits on a kink."""
    function = getattr(fastloss, case.loss)
    prediction, *others = case.arguments(generator(case, "differences"), (3, 5))
    for reduction in case.reductions:
        if reduction == "none":
            continue
        options = case.options | {"reduction": reduction}
        _, gradient = fastloss.value_and_grad(function)(prediction, *others, **options)
        for index in np.ndindex(prediction.shape):
            step = 1e-5 * max(1, abs(prediction[index])) * (0.1 if abs(prediction[index]) < 0.1 else 1)
            up, down = prediction.copy(), prediction.copy()
            up[index] += step
            down[index] -= step
            slope = (function(up, *others, **options) - function(down, *others, **options)) / (2 * step)
            np.testing.assert_allclose(gradient[index], slope, rtol=1e-5, atol=1e-8, err_msg=f"{reduction} {index}")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_dtypes(case, dtype):
    """float32 for inputs of up to 32 bits, float64 for others: as the value."""
    arguments = case.cast(case.arguments(generator(case, "dtypes"), (6, 7)), dtype)
    if np.dtype(dtype).kind in "ib":
        # Whole numbers put the prediction on kinks and on the border of the domain.
        if case.loss in ("l1_loss", "quantile_loss", "rmse_loss"):
            arguments = (arguments[0], arguments[1] + 0.25, *arguments[2:])
    check(case, arguments)


@pytest.mark.any_backend("case")  # Numba compiles for each; what options do on it is in the tests of each option, too
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_options(case, dtype):
    check(case, case.cast(case.arguments(generator(case, "options"), (9, 33)), dtype))


@pytest.mark.any_backend("layout")
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_layouts(case, layout):
    arguments = case.cast(case.arguments(generator(case, "layouts"), (6, 21)), np.float32)
    check(case, [layout(argument) for argument in arguments])


@pytest.mark.any_backend("axis")
@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("case", ROW_STAND_INS, ids=str)
def test_class_axes(case, axis):
    prediction, target = case.cast(case.arguments(generator(case, "axis"), (3, 2, 4, 5)), np.float32)
    if target.ndim == 4:
        target = np.moveaxis(target, -1, axis)
    check(case, (np.moveaxis(prediction, -1, axis), target), axis=axis)
    check(case, (np.ascontiguousarray(np.moveaxis(prediction, -1, axis)), target), axis=axis)


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("case", ROW_CASES, ids=str)
def test_class_weights(case):
    arguments = case.cast(case.arguments(generator(case, "weights"), (20, 4)), np.float32)
    check(case, arguments, weight=np.array([0.5, 0, 2, 3], np.float32))


@pytest.mark.parametrize("case", [case for case in PLAIN_CASES if not case.rowwise], ids=str)
def test_element_weights(case):
    arguments = case.cast(case.arguments(generator(case, "weights"), (20, 4)), np.float32)
    check(case, arguments, weight=np.linspace(0, 2, 80, dtype=np.float32).reshape(20, 4))
    if case in STAND_INS:
        check(case, arguments, weight=np.array([0.5, 0, 2, 3], np.float32))
        check(case, arguments, weight=np.linspace(0, 2, 20, dtype=np.float32)[:, None])


@pytest.mark.any_backend
@pytest.mark.parametrize("case", POINT_CASES, ids=str)
def test_zero_dimensions(case):
    function = getattr(fastloss, case.loss)
    arguments = case.arguments(generator(case, "0-d"), ())
    value, gradient = fastloss.value_and_grad(function)(*arguments, **case.options)
    expected = reference.value_and_grad(case.loss, *arguments, **case.options)
    assert np.shape(gradient) == ()
    np.testing.assert_allclose([value, gradient], np.float64(expected), rtol=1e-13)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_lists(case):
    arguments = case.arguments(generator(case, "lists"), (3, 4))
    expected = fastloss.value_and_grad(getattr(fastloss, case.loss))(*arguments)
    got = fastloss.value_and_grad(getattr(fastloss, case.loss))(*(a.tolist() for a in arguments))
    assert got[0] == expected[0]
    np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_gradient_is_the_callers_own(case):
    """A new array that can be written to, not a view of an argument or of an earlier result."""
    arguments = case.arguments(generator(case, "own"), (3, 4))
    both = fastloss.value_and_grad(getattr(fastloss, case.loss))
    first, second = both(*arguments)[1], both(*arguments)[1]
    kept = second.copy()
    first[...] = 7
    np.testing.assert_array_equal(second, kept)
    assert not any(np.shares_memory(first, argument) for argument in arguments)


def test_gradient_at_large_differences():
    """Slopes saturate where the losses grow linearly, without overflow."""
    d = np.array([-1e30, -1e4, -100, 100, 1e4, 1e30], np.float32)
    zeros = np.zeros_like(d)
    for name in ("huber_loss", "smooth_l1_loss", "log_cosh_loss", "l1_loss"):
        _, gradient = fastloss.value_and_grad(getattr(fastloss, name))(d, zeros, reduction="sum")
        np.testing.assert_array_equal(gradient, np.sign(d))
    _, gradient = fastloss.value_and_grad(fastloss.binary_cross_entropy_with_logits)(d, zeros, reduction="sum")
    np.testing.assert_allclose(gradient, [0, 0, 0, 1, 1, 1], atol=1e-40)


@pytest.mark.any_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_where_the_difference_is_zero(dtype):
    zeros = np.zeros(3, dtype)
    for name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss"):
        _, gradient = fastloss.value_and_grad(getattr(fastloss, name))(zeros, zeros)
        np.testing.assert_array_equal(gradient, zeros)
    _, gradient = fastloss.value_and_grad(fastloss.quantile_loss)(zeros, zeros, q=0.25, reduction="sum")
    assert ((gradient >= -0.25) & (gradient <= 0.75)).all()  # any subgradient will do


@pytest.mark.one_backend
def test_gradients_of_a_softmax_sum_to_zero():
    logits, target = generator("sum").normal(0, 3, (50, 1000)), np.arange(50)
    for smoothing in (0.0, 0.1):
        _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(
            logits, target, label_smoothing=smoothing, reduction="sum"
        )
        np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-13)


@pytest.mark.parametrize("n_classes", [3, 1000])
def test_gradient_of_large_offsets(n_classes):
    rng = generator("offset", n_classes)
    logits = (rng.normal(0, 5, (20, n_classes)) + 1e4).astype(np.float32)
    check(CASES[0], (logits, rng.integers(0, n_classes, 20)), ulp=16)


@pytest.mark.parametrize("n_classes", [2, 5, 100])
def test_components_that_are_tiny(n_classes):
    """As small as float32 has digits for, of rows that are certain and many."""
    x = np.zeros((1000, n_classes), np.float32)
    x[:, 1:] = -np.random.default_rng(n_classes).uniform(40, 75, (1000, n_classes - 1))
    powers = np.exp(x.astype(np.float64))
    exact = powers[:, 1:] / np.sum(powers, axis=1, keepdims=True) / 1000
    # the slope of poly-1 is 1 + epsilon p of the target, which is 1
    for function, options, slope in (
        (fastloss.cross_entropy, {}, 1.0),
        (fastloss.poly_loss_cross_entropy, {"epsilon": 1.0}, 2.0),
    ):
        _, gradient = fastloss.value_and_grad(function)(x, np.zeros(1000, int), **options)
        assert_ulp(gradient[:, 1:], slope * exact, 4)


@pytest.mark.one_backend
def test_arguments_that_do_not_fit():
    loss, x = fastloss.value_and_grad(fastloss.mse_loss), np.ones(3)
    for args, options, message in (
        ((x,), {}, r"mse_loss\(\) missing required arguments: 'target'"),
        ((), {}, r"mse_loss\(\) missing required arguments: 'pred', 'target'"),
        ((x, x, x), {}, r"mse_loss\(\) takes 2 positional arguments but 3 were given"),
        ((x, x), {"pred": x}, r"mse_loss\(\) got multiple values for argument 'pred'"),
        ((x, x), {"delta": 1.0}, r"mse_loss\(\) got an unexpected keyword argument 'delta'"),
    ):
        for _ in range(2):  # what is kept of a call must not let the next one through
            with pytest.raises(TypeError, match=message):
                loss(*args, **options)
    value, gradient = loss(target=2 * x, pred=x, weight=x, reduction="sum")
    assert value == 3.0 and gradient.tolist() == [-2.0] * 3
