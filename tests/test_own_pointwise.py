"""Pointwise losses of one's own on every backend: values, slopes, and whatever else follows from the row."""

import functools
import warnings

import numpy as np
import own_losses
import pytest

import fastloss
from fastloss import _plan, scalars

RTOL = {"float32": 3e-6, "float64": 1e-13}


@functools.cache
def case(name, dtype):
    """The loss, its arrays and options, and its exact values and slopes."""
    made, options, _ = own_losses.CASES[name]
    arrays = own_losses.operands(name, dtype)
    return made(), arrays, options, *own_losses.exact(name, arrays, options)


def close(got, expected, dtype):
    np.testing.assert_allclose(np.asarray(got, float), expected, rtol=RTOL[dtype], atol=RTOL[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", own_losses.CASES)
def test_values_and_slopes(name, dtype):
    loss, arrays, options, values, slopes = case(name, dtype)
    close(loss(*arrays, **options, reduction="none"), values, dtype)
    value, gradient = fastloss.value_and_grad(loss)(*arrays, **options, reduction="sum")
    assert gradient.dtype == dtype
    close(gradient, slopes, dtype)
    close(value / values.size, values.mean(), dtype)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["charbonnier", "student"])
def test_every_option(name):
    loss, arrays, options, values, slopes = case(name, "float64")
    weights = np.arange(7.0)
    weighted = (values * weights).sum() / (40 * 21)
    close(loss(*arrays, **options, weight=weights), weighted, "float64")
    close(loss(*arrays, **options, axis=0, reduction="sum"), values.sum(0), "float64")
    close(loss(*arrays, **options, axis=1, weight=weights), (values * weights).sum(1) / 21, "float64")
    out = np.empty(values.shape)
    assert loss(*(np.asfortranarray(a) for a in arrays), **options, reduction="none", out=out) is out
    close(out, values, "float64")
    out = np.empty(values.shape, np.float32)
    gradient = fastloss.value_and_grad(loss)(*arrays, **options, weight=weights, out=out)[1]
    assert gradient is out
    close(out, slopes * weights / (40 * 21), "float32")
    accumulator = fastloss.Accumulator(loss, **options)
    for part in np.array_split(np.arange(40), 3):
        accumulator.update(*(a[part] for a in arrays), weight=weights)
    close(accumulator.compute(), weighted, "float64")


def test_threads():
    """The same bits for any number of threads."""
    loss = case("cauchy", "float32")[0]
    x, y = np.random.default_rng(1).normal(size=(2, 300_000)).astype("f")
    found = []
    for n in (1, 2, 3):
        with fastloss.use_threads(n):
            found.append(fastloss.value_and_grad(loss)(x, y, c=2.0))
    for value, gradient in found:
        assert value == found[0][0]
        np.testing.assert_array_equal(gradient, found[0][1])
    r = (x.astype(float) - y) / 2.0
    close(found[0][0], np.mean(2.0 * np.log1p(r * r)), "float32")


def test_means():
    loss, (x, y), _, values, _ = case("hellinger", "float64")
    close(loss(x, y, weight=3.0), 3.0 * values.mean(), "float64")
    loss, (x, y), options, values, _ = case("capped", "float64")
    close(loss(x, y, **options, weight=3.0), values.mean(), "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_bits_as_a_built_in(backend, dtype):
    """Texts of scalars.py are compiled as they are in the package."""
    if backend == "cython":
        pytest.skip("it has the built-in from another compiler")
    loss = fastloss.pointwise_loss(scalars.huber, scalars.huber_slope, parameters={"delta": 1.0})
    x, y = np.random.default_rng(2).normal(size=(2, 3000)).astype(dtype)
    for options in ({"reduction": "none"}, {"reduction": "mean"}, {"reduction": "sum", "weight": np.abs(x)}):
        np.testing.assert_array_equal(loss(x, y, **options), fastloss.huber_loss(x, y, **options))
    own, built_in = (fastloss.value_and_grad(fn)(x, y, delta=0.7) for fn in (loss, fastloss.huber_loss))
    assert own[0] == built_in[0]
    np.testing.assert_array_equal(own[1], built_in[1])


def test_special_values():
    loss = case("quadratic", "float64")[0]
    np.testing.assert_array_equal(
        loss(np.array([np.nan, np.inf, 1.0]), np.array([0.0, 1.0, np.nan]), reduction="none"), [np.nan, np.inf, np.nan]
    )
    assert loss(np.array([np.nan, 2.0]), np.array([0.0, 0.0]), weight=np.array([0.0, 1.0])) == 4.0
    assert np.isnan(loss(np.empty(0), np.empty(0)))


def test_domains():
    loss = case("gamma", "float64")[0]
    bad = np.array([[1.0, 2.0], [-3.0, 0.0]])
    for call in (loss, fastloss.value_and_grad(loss), functools.partial(loss, axis=0)):
        with pytest.raises(ValueError, match=r"target: expected values of at least 0, got target\[1, 0\] = -3"):
            call(np.ones((2, 2)), bad)
    assert np.isnan(loss(np.array([1.0]), np.array([np.nan])))


def test_parameters():
    charbonnier, cauchy = case("charbonnier", "float64")[0], case("cauchy", "float64")[0]
    x = np.ones(3)
    assert charbonnier(x, x) == 0.0
    for options, message in (
        ({"eps": 0.0}, "eps: expected a positive number, got 0.0"),
        ({"eps": "a"}, "eps: expected a real number, got 'a'"),
        ({"epsilon": 1.0}, "charbonnier.* got an unexpected keyword argument 'epsilon'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            charbonnier(x, x, **options)
    with pytest.raises(TypeError, match="c: expected a real number, got nothing"):
        cauchy(x, x)


def test_the_backend_that_computes(backend, monkeypatch):
    """Cython has no compiler at run time: Numba computes, or NumPy with the warning that its use as a backend has."""
    formula = case("quadratic", "float64")[0].row.formula({}, False)[0]
    assert _plan.backend_for(formula).__name__.endswith("numpy_cpu" if backend == "numpy" else "numba_cpu")
    if backend != "cython":
        return
    numba = _plan.load("numba")
    monkeypatch.setattr(numba, "available", lambda: "numba is not installed (pip install numba)")
    _plan.automatic.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="NumPy alone.*numba is not installed"):
            assert _plan.backend_for(formula).__name__.endswith("numpy_cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once in a process
            _plan.backend_for(formula)
    finally:
        _plan.automatic.cache_clear()


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("text, of", [
    ("def f(x, y, p):\n    return p", lambda x, y: 3.0 + 0.0 * (x + y)),
    ("def f(x, y, p):\n    return y * p", lambda x, y: 3.0 * y + 0.0 * x),
    ("def f(x, y, p):\n    return x / p", lambda x, y: x / 3.0 + 0.0 * y),
])  # fmt: skip
def test_what_does_not_depend_on_every_array(text, of):
    """Each element counts all the same, whatever shape the arrays have."""
    loss = fastloss.pointwise_loss(text, parameters={"p": 3.0})
    rng = np.random.default_rng(0)
    full, row, column, one = rng.normal(size=(40, 7)), rng.normal(size=7), rng.normal(size=(40, 1)), np.array(2.0)
    for x, y in ((full, full), (full, one), (full, row), (column, row), (one, full), (full[:, ::2], one), (one, one)):
        expected = of(x, y)
        for axis in (None, 0) if expected.ndim else (None,):
            for w in (None, np.arange(float(expected.size)).reshape(expected.shape) + 1.0):
                divisor = expected.size if w is None else w.sum()
                weighted = expected if w is None else expected * w
                close(loss(x, y, weight=w, axis=axis, reduction="sum"), weighted.sum(axis), "float64")
                if axis is None:
                    close(loss(x, y, weight=w), weighted.sum() / divisor, "float64")
                    close(fastloss.value_and_grad(loss)(x, y, weight=w)[0], weighted.sum() / divisor, "float64")
        close(loss(x, y, reduction="none"), expected, "float64")
