"""No call warns, whatever its arrays hold: NaN, infinities, the largest and the smallest numbers, in every operand of every function."""

import itertools
import warnings

import numpy as np
import pytest

import fastloss
from fastloss import losses

UGLY = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e300, -1e300, 1e-45, 5e-324, 0.0, -1.0, 1.0, 2.0, 60000.0)
pytestmark = pytest.mark.any_backend
DTYPES = ("float32", "float64", "float16")
SHAPE = (4, 5)


def operands(function, dtype):
    """Right arrays, by name."""
    half = np.full(SHAPE, 0.5, dtype)
    labels = np.zeros(SHAPE[0], np.int64)
    if function.family == "elements":
        return {name: half.copy() for name in function.operands if name}
    if function.family == "layer":
        arrays = {"hidden": half, "linear_weight": np.full((3, 5), 0.25, dtype), "target": labels}
        return arrays | {"linear_bias": np.zeros(3, dtype), "weight": np.ones(3)}
    found = {name: half.copy() for name in function.arrays if name != "target"}
    if "target" in function.arrays:
        found["target"] = labels
    if "weight" in function.more_arrays:
        found["weight"] = np.ones(SHAPE[1])
    return found


def spoilt(array, values):
    """Copies of an array with an ugly value in one place, and everywhere."""
    for value in values:
        with np.errstate(all="ignore"):
            one, whole = array.copy(), np.full(array.shape, value).astype(array.dtype)
            one.flat[1] = value
        yield one
        yield whole


def calls(function, arrays):
    """Every way of calling a function with these arrays."""
    fn = getattr(fastloss, function.name)
    options = {option.name: option for option in function.options}
    if "reduction" in options:
        for reduction in options["reduction"].choices:
            if reduction != "batchmean" or arrays[function.arrays[0]].ndim:
                yield lambda r=reduction: fn(**arrays, reduction=r)
        yield lambda: fastloss.value_and_grad(fn)(**arrays)
        if "axis" in options and options["axis"].kind == "axes":
            yield lambda: fn(**arrays, axis=0)
            yield lambda: fn(**arrays, axis=1, out=np.empty(SHAPE[0], np.float16))
        yield lambda: fn(**arrays, out=np.empty((), np.float16))
    else:
        yield lambda: fn(**arrays)
    if "temperature" in options:
        yield lambda: fn(**arrays, temperature=0.7, softcap=5.0)
        if "reduction" in options:
            yield lambda: fastloss.value_and_grad(fn)(**arrays, temperature=0.7, softcap=5.0)
    if "label_smoothing" in options:
        yield lambda: fastloss.value_and_grad(fn)(**arrays, label_smoothing=0.1)
    if "entropy" in options:
        yield lambda: fn(**arrays, entropy=True, top=2, top_k=2)
        yield lambda: fn(**arrays, ids=np.zeros((SHAPE[0], 2), np.int64))
        yield lambda: fn(**{name: a for name, a in arrays.items() if name not in ("target", "weight")}, entropy=True)


@pytest.mark.expensive
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", losses.FUNCTIONS, ids=lambda function: function.name)
def test_no_warning(function, dtype):
    """What is outside a function's domain is an error; nothing is a warning."""
    arrays = operands(function, dtype)
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        for bad in spoilt(array, UGLY):
            for call in calls(function, arrays | {name: bad}):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    try:
                        call()
                    except (ValueError, IndexError) as error:
                        assert str(error), name


@pytest.mark.expensive
@pytest.mark.parametrize("family", ["elements", "rows"])
def test_no_warning_of_user_defined_losses(family):
    """Texts of which the checks know nothing: logarithms and divisions of whatever comes."""
    if family == "elements":
        losses_of = fastloss.pointwise_loss(
            "def ratio(x, y, c):\n    r = log(x / y)\n    return r * r + exp(c * (x - y))", parameters={"c": 1.0}
        )
    else:
        losses_of = fastloss.row_loss(
            "def ratio(nll, lse, p, c):\n    return nll / lse + exp(c * p)", parameters={"c": 1.0}
        )
    for dtype, value in itertools.product(DTYPES[1:], UGLY):
        with np.errstate(all="ignore"):
            x, y = np.full(SHAPE, 0.5, dtype), np.full(SHAPE, 0.25, dtype)
            x.flat[1] = value
        for pair in ((x, y), (y, x)) if family == "elements" else ((x, np.zeros(SHAPE[0], np.int64)),):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                losses_of(*pair, reduction="none")
                losses_of(*pair, c=value if np.isfinite(value) else 2.0)
                fastloss.value_and_grad(losses_of)(*pair)


@pytest.mark.expensive
@pytest.mark.parametrize("function", losses.FUNCTIONS, ids=lambda function: function.name)
def test_parameters(function):
    """Numbers that float32 does not hold, as options and as operands."""
    numbers = [option for option in function.options if option.kind == "number"]
    for option, value, dtype in itertools.product(numbers, (1e300, 1e-300, 1e40, 1e-46), DTYPES[1:]):
        if option.allows is not None and not option.allows(value):
            continue
        arrays, fn = operands(function, dtype), getattr(fastloss, function.name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fn(**arrays, **{option.name: value})
            if isinstance(function, losses.Loss):
                fastloss.value_and_grad(fn)(**arrays, **{option.name: value})
