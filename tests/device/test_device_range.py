"""Pointwise losses on a device where numbers leave float32, and where weights are 0."""

import numpy as np
import pytest
from cases import generator
from compare import assert_ulp, same_bits
from on_device import LAYOUTS, fetched, sent

import fastloss

F32 = np.float32


def call(name, *arguments, layout=sent, **options):
    moved = {key: layout(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    return fetched(getattr(fastloss, name)(*(layout(a) for a in arguments), **moved))


def slopes(name, *arguments, layout=sent, **options):
    moved = {key: layout(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    value, gradient = fastloss.value_and_grad(getattr(fastloss, name))(*(layout(a) for a in arguments), **moved)
    return fetched(value), fetched(gradient)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_values_that_overflow_on_the_way(layout):
    x, y = np.full((2, 9), -3e38, F32), np.full((2, 9), 3e38, F32)
    for options in ({"reduction": "none"}, {}, {"axis": 0}, {"axis": 1}):
        got = call("quantile_loss", x, y, q=0.1, layout=layout, **options)
        np.testing.assert_allclose(got, np.full(got.shape, 6e37), rtol=1e-6)
    got = call("gaussian_nll_loss", np.full(5, -2.9e22, F32), np.zeros(5, F32), np.full(5, 5.5e25, F32), layout=layout)
    np.testing.assert_allclose(got, 7.6454537e18, rtol=1e-6)
    np.testing.assert_allclose(
        call("msle_loss", np.zeros(5, F32), np.full(5, 1e8, F32), layout=layout), 339.3215, rtol=1e-6
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_gradients_are_divided_before_they_overflow(layout):
    _, gradient = slopes("poisson_nll_loss", np.full(90, 90, F32), np.ones(90, F32), layout=layout)
    assert_ulp(gradient, np.full(90, (np.exp(np.longdouble(90)) - 1) / 90), 4)


ROOTS = [
    (F32, 2e20),
    (F32, 1e-30),
    (F32, 1e-42),
    (F32, 3e38),
    (np.float64, 1e200),
    (np.float64, 1e-200),
    (np.float64, 1e-310),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype, size", ROOTS)
def test_roots(dtype, size, layout):
    """Their squares are no numbers of that type."""
    x, y = np.full((4, 7), size, dtype), np.zeros((4, 7), dtype)
    for reduction, n in (("mean", 1), ("sum", 28)) if size < 1e38 or dtype != F32 else (("mean", 1),):
        options = {"reduction": reduction, "layout": layout}
        assert_ulp(call("rmse_loss", x, y, **options), np.longdouble(x[0, 0]) * np.sqrt(np.longdouble(n)), 1)
        value, gradient = slopes("rmse_loss", x, y, **options)
        assert same_bits(value, call("rmse_loss", x, y, **options))
        assert_ulp(gradient, np.full((4, 7), np.sqrt(np.longdouble(n)) / 28), 2)
    for axis in (0, 1):
        assert_ulp(call("rmse_loss", x, y, layout=layout, axis=axis), x[0] if axis == 0 else x[:, 0], 1)
    w = np.linspace(0, 2, 28, dtype=dtype).reshape(4, 7)
    assert_ulp(call("rmse_loss", x, y, weight=w, layout=layout), x[0, 0], 2)
    value, gradient = slopes("rmse_loss", x, y, weight=w, layout=layout)
    assert_ulp(value, x[0, 0], 2)
    assert_ulp(gradient, w / np.sum(w, dtype=np.float64), 4)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_roots_of_some_that_leave_the_range(size):
    """One output's squares do, its neighbours' do not; and parts that are accumulated, one of them on a device."""
    x = np.array([[size, size, 0, 0], [3.0, 3.0, 3.0, 3.0], [0, 0, 0, 0]])
    y = np.zeros(x.shape)
    right = np.array([size * np.sqrt(0.5), 3.0, 0.0])
    assert_ulp(call("rmse_loss", x, y, axis=1), right, 2)
    assert_ulp(call("rmse_loss", x.T.copy(), y.T.copy(), axis=0), right, 2)
    here, there = (fastloss.Accumulator(fastloss.rmse_loss) for _ in range(2))
    for part in x:
        here.update(part, y[0])
        there.update(sent(part), sent(y[0]))
    assert_ulp(np.asarray(there.compute()), here.compute(), 1)
    x = np.array([size, 1.0] * 4)
    value, gradient = slopes("rmse_loss", x, np.zeros(8))
    root = max(size, 1.0) * np.sqrt(0.5)
    assert_ulp(value, root, 2)
    assert_ulp(gradient, x / root / 8, 4)


def test_the_root_of_a_negative_sum():
    x, y = np.full(5, 2.0), np.zeros(5)
    w = np.array([-3.0, 1, 1, 1, 1])
    for dtype in (F32, np.float64):
        got = call("rmse_loss", x.astype(dtype), y.astype(dtype), weight=w.astype(dtype), reduction="sum")
        assert got == 2.0
        w[0] = -9
        assert np.isnan(call("rmse_loss", x.astype(dtype), y.astype(dtype), weight=w.astype(dtype), reduction="sum"))
        w[0] = -3


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [1e-44, 1e-39, 1e37, 3e38])
def test_gradients_of_weights_at_the_ends_of_the_range(size, layout):
    """The mean's factor is a number of float32 with few digits, or none."""
    rng = generator("weights")
    x, y = rng.normal(size=(4, 70)).astype(F32), np.zeros((4, 70), F32)
    w = (rng.uniform(0.5, 1, x.shape) * size).astype(F32)
    value, gradient = slopes("mse_loss", x, y, weight=w, layout=layout)
    assert same_bits(value, call("mse_loss", x, y, weight=w, layout=layout))
    assert_ulp(gradient, 2 * x.astype(np.longdouble) * w / np.sum(w, dtype=np.longdouble), 4)


@pytest.mark.parametrize("n_classes", [2, 3, 300])
def test_smoothed_rows_whose_logits_are_far_apart(n_classes):
    """Their difference is no number of float32, what it costs is one."""
    x = np.zeros((2, n_classes), F32)
    x[:, 0], x[:, 1] = 2e38, -2e38
    q = np.zeros((2, n_classes), F32)
    q[:, 0], q[:, 1] = 1 - 1e-6, 1e-6
    share = np.longdouble(1e-6) / n_classes
    right = share * (np.longdouble(x[0, 0]) * 2 + (n_classes - 2) * np.longdouble(x[0, 0]))
    got = call("cross_entropy", x, np.zeros(2, np.int64), label_smoothing=1e-6, reduction="none")
    assert_ulp(got, np.full(2, right), 4)
    right = np.longdouble(q[0, 1]) * np.longdouble(x[0, 0]) * 2
    assert_ulp(call("cross_entropy", x[:, ::-1].copy(), q[:, ::-1].copy(), reduction="none"), np.full(2, right), 4)


def test_nothing_is_reduced():
    x, y = np.array([[3.0, 1.0]], F32), np.array([[1.0, 4.0]], F32)
    for axis in ((), []):
        np.testing.assert_array_equal(call("mse_loss", x, y, axis=axis), [[4, 9]])
        np.testing.assert_array_equal(call("rmse_loss", x, y, axis=axis, reduction="sum"), [[2, 3]])


def test_what_overflows_does():
    x = np.array([1e30, 1.0], F32)
    assert call("mse_loss", x, np.zeros(2, F32)) == np.inf
    np.testing.assert_array_equal(call("mse_loss", x, np.zeros(2, F32), reduction="none"), np.array([np.inf, 1], F32))
    x[0] = np.nan
    assert np.isnan(call("mse_loss", x, np.zeros(2, F32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_a_weight_of_0_takes_an_element_out(bad, dtype, layout):
    rng = generator("weight 0")
    x, y, w = rng.normal(size=(3, 5, 9)).astype(dtype)
    w = np.abs(w)
    clean, out = x.copy(), rng.random(x.shape) < 0.3
    w[out], x[out] = 0, bad
    for options in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"axis": 0}, {"axis": 1}):
        got, right = (call("mse_loss", a, y, weight=w, layout=layout, **options) for a in (x, clean))
        assert same_bits(got + 0.0, right + 0.0), options
    got, right = (slopes("mse_loss", a, y, weight=w, layout=layout) for a in (x, clean))
    assert same_bits(got[0], right[0]) and same_bits(got[1] + 0.0, right[1] + 0.0)


def test_one_element_beside_many():
    """Also where they are no whole number of vectors."""
    x = np.linspace(-1, 2, 11, dtype=F32)
    np.testing.assert_allclose(call("mse_loss", x, np.array(0.5, F32)), np.mean((x - F32(0.5)) ** 2), rtol=1e-6)
    np.testing.assert_allclose(
        call("mse_loss", x, np.array(0.5, F32), reduction="none"), (x - F32(0.5)) ** 2, rtol=1e-6
    )
