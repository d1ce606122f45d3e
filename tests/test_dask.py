"""Dask arrays in place of NumPy arrays: every loss × reduction × chunks against the oracle."""

import itertools

import numpy as np
import pytest
import reference
from amounts import mostly_full
from cases import CASES, PLAIN_CASES, REGRESSION_CASES, STAND_INS, generator
from compare import assert_ulp, result_dtype, same_bits

import fastloss

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
lazily = pytest.importorskip("lazily")
check, check_gradient, chunked = lazily.check, lazily.check_gradient, lazily.chunked

DTYPES = [np.float32, np.float64, np.float16, np.int8, np.uint16, np.bool_, np.dtype(">f4")]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass

# Chunks of arrays (13, 7), classes last; arrays of rows take the first of the two.
CHUNKS = {
    "one": (13, 7),
    "rows": (5, 7),
    "uneven": ((1, 7, 5), (7,)),
    "classes": ((13,), (3, 4)),
    "both": (5, 3),
    "empty": ((5, 0, 8), (3, 0, 4)),
    "elements": ((1, 12), (1,) * 7),
}
# For what does not depend on the loss.
AXES_CASES = [case for case in REGRESSION_CASES if case.loss in ("mse_loss", "rmse_loss", "gaussian_nll_loss")]


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize(
    ("case", "chunks"),
    mostly_full(itertools.product(CASES, CHUNKS), lambda both: both[0] in STAND_INS or both[1] == "both"),
    ids=str,
)
def test_chunks(case, chunks):
    arguments = case.cast(case.arguments(generator(case, "dask"), (13, 7)), np.float32)
    inputs = [chunked(argument, CHUNKS[chunks]) for argument in arguments]
    check(case, arguments, np.dtype(np.float32), inputs)


@pytest.mark.parametrize("chunks", [CHUNKS["rows"], CHUNKS["both"]], ids=["rows", "both"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case, chunks):
    arguments = case.cast(case.arguments(generator(case, "dask"), (13, 7)), np.float32)
    check_gradient(case, arguments, [chunked(argument, chunks) for argument in arguments])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).str + np.dtype(dtype).name)
@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_dtypes(case, dtype):
    arguments = case.cast(case.arguments(generator(case, "dask"), (13, 7)), dtype)
    for chunks in (CHUNKS["rows"], CHUNKS["both"]):
        check(case, arguments, result_dtype(dtype), [chunked(argument, chunks) for argument in arguments])


@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_mixed_with_numpy_and_other_chunks(case):
    """Any of the arguments may be NumPy's, or a list, or have other chunks."""
    arguments = case.cast(case.arguments(generator(case, "dask"), (13, 7)), np.float64)
    for odd in range(len(arguments)):
        for convert in (lambda a: a, lambda a: a.tolist(), lambda a: chunked(a, (4, 2))):
            inputs = [convert(a) if i == odd else chunked(a, (5, 3)) for i, a in enumerate(arguments)]
            check(case, arguments, np.dtype(np.float64), inputs)
            check_gradient(case, arguments, inputs)
        inputs = [chunked(a, (5, 3)) if i == odd else a for i, a in enumerate(arguments)]
        check(case, arguments, np.dtype(np.float64), inputs)


@pytest.mark.parametrize("case", AXES_CASES, ids=str)
def test_axes_weights_and_broadcasting(case):
    rng = generator(case, "axes")
    x, y, *z = case.cast(case.arguments(rng, (4, 5, 6)), np.float32)
    y, w = y[:, :1], rng.uniform(0.5, 2, (5, 1)).astype(np.float32)
    inputs = [chunked(x, (3, 2, 4)), chunked(y, (1, 1, 5)), *(chunked(a, (4, 5, 2)) for a in z)]
    for weight in (None, 2.5, w, chunked(w, (2, 1))):
        exact = None if weight is None else w if np.ndim(weight) else weight
        for axis in (None, 0, (1, 2), (0, -1), (0, 1, 2)):
            for reduction in ("mean", "sum"):
                options = case.options | {"axis": axis, "reduction": reduction}
                got = getattr(fastloss, case.loss)(*inputs, weight=weight, **options)
                expected = reference.loss(case.loss, x, y, *z, weight=exact, **options)
                assert got.shape == np.shape(expected) and got.dtype == np.float32
                assert_ulp(got.compute(), expected, 20, at=case.at + float(np.abs(expected).max()))
    options = case.options | {"weight": w}
    value, slope = reference.value_and_grad(case.loss, x, y, *z, **options)
    got = fastloss.value_and_grad(getattr(fastloss, case.loss))(*inputs, **options)
    assert_ulp(got[1].compute(), slope, 16, at=float(np.abs(slope).max()))
    # the gradient of what is broadcast is summed over what it is broadcast to
    _, slope = reference.value_and_grad(case.loss, y[0], x, *z, **options)
    _, got = fastloss.value_and_grad(getattr(fastloss, case.loss))(da.from_array(y[0]), inputs[0], *z, **options)
    assert got.shape == (1, 6)
    assert_ulp(got.compute(), slope, 32, at=float(np.abs(slope).max()))


def test_third_operands():
    rng = generator("third")
    x, y = rng.normal(size=(8, 5)), rng.uniform(size=(8, 5))
    pos_weight, var = rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 8)
    for lazy in (False, True):
        got = fastloss.binary_cross_entropy_with_logits(
            da.from_array(x, chunks=(3, 2)), y, pos_weight=da.from_array(pos_weight) if lazy else pos_weight
        )
        expected = fastloss.binary_cross_entropy_with_logits(x, y, pos_weight=pos_weight)
        np.testing.assert_allclose(got.compute(), expected, rtol=1e-14)
        # one variance a row, whatever the chunks are
        got = fastloss.gaussian_nll_loss(da.from_array(x, chunks=(3, 2)), y, da.from_array(var) if lazy else var)
        np.testing.assert_allclose(got.compute(), fastloss.gaussian_nll_loss(x, y, var), rtol=1e-14)
    scalars = (2.5, da.from_array(np.array(2.5)))
    for scalar in scalars:
        got = fastloss.mse_loss(da.from_array(x, chunks=3), scalar, weight=scalar)
        np.testing.assert_allclose(got.compute(), fastloss.mse_loss(x, 2.5, weight=2.5), rtol=1e-14)
    got = fastloss.mse_loss(da.from_array(np.array(1.0)), 3.0)
    assert got.shape == () and got.compute() == 4.0
    # Python numbers take the type of the arrays they meet
    assert fastloss.mse_loss(da.from_array(x.astype(np.float32)), 2).dtype == np.float32


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_nothing_at_all(case):
    """No elements, no rows."""
    arguments = case.arguments(generator(case), (0, 7))
    inputs = [da.from_array(a, chunks=(2, 3)[: a.ndim]) for a in arguments]
    for reduction in case.reductions:
        got = getattr(fastloss, case.loss)(*inputs, reduction=reduction, **case.options)
        assert same_bits(got.compute(), getattr(fastloss, case.loss)(*arguments, reduction=reduction, **case.options))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-310, -200, -30, 0, 20, 200, 305])
def test_squares_outside_the_range(dtype, power):
    if dtype == np.float32 and abs(power) >= 200:
        pytest.skip("no numbers of float32")
    x = (np.arange(1, 13).reshape(4, 3) * 10.0**power).astype(dtype)
    x[3] *= dtype(1e-9)
    y, lazy, least = np.zeros_like(x), da.from_array(x, chunks=(2, 2)), np.finfo(dtype).smallest_subnormal
    for options in ({}, {"reduction": "sum"}, {"weight": np.arange(3.0)}, {"weight": np.full((4, 1), -2.0)}):
        for axis in (None, 0, 1):
            found = fastloss.rmse_loss(lazy, y, axis=axis, **options).compute()
            expected = fastloss.rmse_loss(x, y, axis=axis, **options)
            np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=least)
        value, gradient = fastloss.value_and_grad(fastloss.rmse_loss)(lazy, y, **options)
        expected = fastloss.value_and_grad(fastloss.rmse_loss)(x, y, **options)
        np.testing.assert_allclose(value.compute(), expected[0], rtol=4 * np.finfo(dtype).eps, atol=least)
        np.testing.assert_allclose(gradient.compute(), expected[1], rtol=4 * np.finfo(dtype).eps)
        assert np.abs(expected[1]).max() > 0.1
