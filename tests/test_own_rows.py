"""Losses of rows of one's own on every backend: values, gradients, and whatever else follows from the row."""

import functools

import numpy as np
import own_rows
import pytest

import fastloss

# Few classes go across rows, as do those of another axis; many along them.
SHAPES = {"few": ((9, 5), -1), "another axis": ((2, 6, 5), 1), "many": ((4, 131), -1), "one row": ((7,), 0)}
RTOL = {"float32": 3e-6, "float64": 1e-12}


@functools.cache
def case(name, where, dtype, weighted):
    shape, axis = SHAPES[where]
    x, target, w = own_rows.operands(shape, axis, dtype)
    w = w if weighted else None
    made, options, _ = own_rows.CASES[name]
    return (
        made(),
        (x, target),
        {"weight": w, "axis": axis, **options},
        own_rows.exact(name, x, target, w, axis, options),
    )


def close(got, expected, dtype):
    np.testing.assert_allclose(np.asarray(got, float), expected, rtol=RTOL[dtype], atol=RTOL[dtype])


@pytest.mark.any_backend("where", "weighted", "dtype")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("where", SHAPES)
@pytest.mark.parametrize("name", own_rows.CASES)
def test_values_and_gradients(name, where, weighted, dtype):
    loss, arrays, options, (losses, gradients, weights) = case(name, where, dtype, weighted)
    each = loss(*arrays, **options, reduction="none")
    assert each.dtype == dtype
    close(each, losses, dtype)
    close(loss(*arrays, **options), losses.sum() / weights.sum(), dtype)
    value, gradient = fastloss.value_and_grad(loss)(*arrays, **options, reduction="sum")
    close(value, losses.sum(), dtype)
    close(gradient, gradients, dtype)
    value, gradient = fastloss.value_and_grad(loss)(*arrays, **options)
    close(value, losses.sum() / weights.sum(), dtype)
    close(gradient, gradients / weights.sum(), dtype)


def test_cross_entropy_is_one():
    loss = own_rows.CASES["text"][0]()
    x, target, w = own_rows.operands((30, 40), -1, "float32", seed=3)
    options = {"weight": w, "ignore_index": 7}
    target[target == -100] = 7
    expected, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, target, **options)
    value, got = fastloss.value_and_grad(loss)(x, target, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(got, gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.any_backend
@pytest.mark.parametrize("label", [np.uint8, np.int32])
def test_cross_entropy_of_halves_is_one(label):
    loss = own_rows.CASES["text"][0]()
    x, target, w = own_rows.operands((30, 40), -1, "float32", seed=3)
    options = {"weight": w, "ignore_index": 7}
    target[target == -100] = 7
    found = loss(x.astype(np.float16), target.astype(label), **options)
    assert found == np.float32(found)
    expected = fastloss.cross_entropy(x.astype(np.float16), target.astype(label), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_out_and_layouts():
    loss, (x, target), options, (losses, gradients, _) = case("with_z", "another axis", "float64", True)
    out = np.empty(losses.shape, np.float32)
    assert loss(np.asfortranarray(x), target, **options, reduction="none", out=out) is out
    close(out, losses, "float32")
    for out in (np.empty(x.shape), np.empty(x.shape, np.float32), np.asfortranarray(np.empty(x.shape))):
        got = fastloss.value_and_grad(loss)(x[::-1][::-1], target, **options, reduction="sum", out=out)[1]
        assert got is out
        close(out, gradients, "float32")


def test_accumulator():
    loss, (x, target), options, (losses, _, weights) = case("focal", "few", "float64", True)
    accumulator = fastloss.Accumulator(loss, **options)
    for part in (slice(0, 4), slice(4, 9)):
        accumulator.update(x[part], target[part])
    close(accumulator.compute(), losses.sum() / weights.sum(), "float64")
    assert accumulator.count == np.count_nonzero(weights)


def test_threads():
    """The same bits for any number of threads."""
    loss = own_rows.CASES["with_z"][0]()
    for shape in ((400, 1000), (60_000, 7)):
        x, target, _ = own_rows.operands(shape, -1, "float32", seed=1)
        found = []
        for n in (1, 2, 3):
            with fastloss.use_threads(n):
                found.append(fastloss.value_and_grad(loss)(x, target, z=0.01))
        for value, gradient in found:
            assert value == found[0][0]
            np.testing.assert_array_equal(gradient, found[0][1])
        logits = x.astype(float)
        lse = np.log(np.exp(logits).sum(1))
        counted = target >= 0
        nll = lse[counted] - logits[counted, target[counted]]
        np.testing.assert_allclose(found[0][0], np.mean(nll + 0.01 * lse[counted] ** 2), rtol=1e-6)
        scale = (1 + 0.02 * lse) / counted.sum() * counted
        expected = np.exp(logits - lse[:, None]) * scale[:, None]
        expected[counted, target[counted]] -= 1 / counted.sum()
        np.testing.assert_allclose(found[0][1], expected, rtol=1e-5, atol=1e-10)


def test_special_rows():
    loss = own_rows.CASES["with_z"][0]()
    nan, inf = np.nan, np.inf
    x = np.array([[nan, 1.0, 2.0], [1.0, -inf, 0.5], [1.0, -inf, 0.5], [nan, nan, nan], [20.0, 0.0, 0.0]])
    target = np.array([0, 1, 2, -100, 0])
    each = loss(x, target, reduction="none", z=0.0)
    assert np.isnan(each[0]) and each[1] == inf and np.isfinite(each[2]) and each[3] == 0.0
    np.testing.assert_allclose(each[4], np.log1p(2 * np.exp(-20.0)), rtol=1e-14)
    with np.errstate(all="raise"):
        _, gradient = fastloss.value_and_grad(loss)(x, target, z=0.0, reduction="sum")
    assert np.isnan(gradient[0]).all() and (gradient[3] == 0.0).all()
    np.testing.assert_allclose(gradient[4, 0], -2 * np.exp(-20.0), rtol=1e-8)
    assert gradient[1, 1] == -1.0 and gradient[2, 1] == 0.0
    ignored = np.full(5, -100)
    value, gradient = fastloss.value_and_grad(loss)(x, ignored)
    assert np.isnan(value) and not gradient.any()
    assert loss(x, ignored, reduction="sum") == 0.0
    assert np.isnan(loss(np.empty((0, 3)), np.empty(0, int)))
    for shape in ((0, 3), (0, 0), (4, 0, 3)):
        labels = np.empty(shape[:-1], int)
        value, gradient = fastloss.value_and_grad(loss)(np.empty(shape), labels)
        assert np.isnan(value) and gradient.shape == shape


def test_bad_input():
    loss = own_rows.CASES["with_z"][0]()
    x = np.ones((3, 4))
    for call in (loss, fastloss.value_and_grad(loss), functools.partial(loss, reduction="none")):
        with pytest.raises(IndexError, match=r"target\[1\] = 4 is not in \[0, 4\)"):
            call(x, np.array([0, 4, -1]))
    with pytest.raises(TypeError, match="target: expected integer class indices, got dtype float64"):
        loss(x, x)
    with pytest.raises(ValueError, match="target: expected integer"):
        loss(x, np.array([1, 2]))
    with pytest.raises(ValueError, match=r"weight: expected shape \(4,\)"):
        loss(x, np.array([1, 2, 3]), weight=np.ones(3))
    with pytest.raises(ValueError, match="value_and_grad: expected a scalar loss"):
        fastloss.value_and_grad(loss)(x, np.array([1, 2, 3]), reduction="none")


def test_parameters_named_like_options():
    """Of other functions: they mean nothing but what the text makes of them."""
    names = ("temperature", "softcap", "label_smoothing", "z_loss", "log_target", "top_k", "gamma")
    total = " + ".join(names)
    loss = fastloss.row_loss(
        f"def f(nll, {', '.join(names)}):\n    return nll * ({total})", parameters=dict.fromkeys(names, 1.0)
    )
    x, target, w = own_rows.operands((9, 5), -1, "float64")
    for given in ({}, dict.fromkeys(names, 2.0), {"temperature": 0.5, "softcap": 3.0, "label_smoothing": 0.25}):
        factor = sum((dict.fromkeys(names, 1.0) | given).values())
        value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, target, weight=w)
        accumulator = fastloss.Accumulator(loss, weight=w, **given)
        accumulator.update(x, target)
        for got in (loss(x, target, weight=w, **given), accumulator.compute()):
            np.testing.assert_allclose(got, factor * value, rtol=1e-14)
        got = fastloss.value_and_grad(loss)(x, target, weight=w, **given)
        np.testing.assert_allclose(got[0], factor * value, rtol=1e-14)
        np.testing.assert_allclose(got[1], factor * gradient, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("text", ["def f(nll, c):\n    return c", "def f(lse, c):\n    return c"])
def test_constants(text):
    loss = fastloss.row_loss(text, parameters={"c": 2.0})
    x, target, w = own_rows.operands((9, 5), -1, "float64")
    counted = target >= 0
    np.testing.assert_array_equal(loss(x, target, reduction="none"), 2.0 * counted)
    value, gradient = fastloss.value_and_grad(loss)(x, target, weight=w)
    assert value == pytest.approx(2.0, rel=1e-15) and not gradient.any()
    assert loss(x, target, reduction="sum") == 2.0 * counted.sum()
