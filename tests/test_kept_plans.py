"""Every call goes one way: kept plans give the bits of new ones, and no call is taken for another."""

import numpy as np
import pytest

import fastloss
from fastloss import evaluate
from fastloss.calls import kept

PAIRS = [
    fastloss.mse_loss,
    fastloss.l1_loss,
    fastloss.huber_loss,
    fastloss.smooth_l1_loss,
    fastloss.log_cosh_loss,
    fastloss.msle_loss,
    fastloss.quantile_loss,
    fastloss.binary_cross_entropy,
    fastloss.binary_cross_entropy_with_logits,
]


def general(fn, *args, **kwargs):
    """By a plan of its own: with `out`."""
    value = fn(*args, out=np.empty((), kwargs.pop("dtype")), **kwargs)
    return value[()]


@pytest.fixture(autouse=True)
def no_plans():
    evaluate._plans.clear()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fn", PAIRS, ids=lambda fn: fn.__name__)
def test_pointwise(fn, dtype, reduction):
    rng = np.random.default_rng(3)
    for size in (1, 10, 1025, 32768):
        x, y = rng.uniform(0, 1, (2, size)).astype(dtype)
        value = fn(x, y, reduction=reduction)
        assert type(value) is dtype
        assert value == fn(x, y, reduction=reduction) == general(fn, x, y, reduction=reduction, dtype=dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy(dtype, reduction):
    rng = np.random.default_rng(4)
    for n_rows, n_classes in [(1, 10), (7, 2), (300, 3), (5, 95), (5, 96), (31, 1000)]:
        x, y = rng.normal(0, 5, (n_rows, n_classes)).astype(dtype), rng.integers(0, n_classes, n_rows)
        y[::3] = -100 if n_rows > 3 else y[::3]
        value = fastloss.cross_entropy(x, y, reduction=reduction)
        assert type(value) is dtype
        assert value == fastloss.cross_entropy(x, y, reduction=reduction)
        assert value == general(fastloss.cross_entropy, x, y, reduction=reduction, dtype=dtype)


def test_values_that_need_a_second_look():
    x = np.full(4, np.nan, np.float32)
    assert np.isnan(fastloss.mse_loss(x, x))
    with pytest.raises(ValueError, match="probs"):
        fastloss.binary_cross_entropy(np.full(4, 2.0), np.ones(4))
    with pytest.raises(IndexError, match=r"target\[1\] = 9"):
        fastloss.cross_entropy(np.zeros((2, 3)), np.array([0, 9]))
    with pytest.raises(ValueError, match="reduction"):
        fastloss.mse_loss(np.zeros(4), np.zeros(4), reduction="median")
    with pytest.raises(ValueError, match="reduction"):
        fastloss.cross_entropy(np.zeros((2, 3)), np.array([0, 1]), reduction="median")
    assert np.isnan(fastloss.cross_entropy(np.zeros((2, 3)), np.array([-100, -100])))
    huge = np.full(4, 1e30, np.float32)
    assert fastloss.mse_loss(huge, -huge) == np.inf


def test_what_compares_equal_is_not_the_same():
    """1 == True == 1.0 to a dictionary; what is an error stays one after its look-alike was kept."""
    x, y = np.ones((3, 4)), np.zeros((3, 4))
    fastloss.mse_loss(x, y, axis=1)
    for axis in (True, 1.0, np.float64(1)):
        with pytest.raises(TypeError, match="axis"):
            fastloss.mse_loss(x, y, axis=axis)
    fastloss.mse_loss(x, y, axis=(0, 1))
    for axis in ((False, True), (0.0, 1)):
        with pytest.raises(TypeError, match="axis"):
            fastloss.mse_loss(x, y, axis=axis)
    fastloss.cross_entropy(x, [0, 1, 2], label_smoothing=0)
    with pytest.raises(TypeError, match="ignore_index"):
        fastloss.cross_entropy(x, [0, 1, 2], ignore_index=1.0)
    fastloss.poisson_nll_loss(x, y, full=True)
    with pytest.raises(TypeError, match="full"):
        fastloss.poisson_nll_loss(x, y, full=1)


def test_numbers_take_the_type_of_the_arrays_they_meet():
    x = np.ones(4, np.float32)
    assert type(fastloss.mse_loss(x, 0.0)) is np.float32
    assert type(fastloss.mse_loss(x, np.float64(0.0))) is np.float64
    assert type(fastloss.mse_loss(x, np.array(0.0))) is np.float64
    assert type(fastloss.mse_loss(x, 0.0)) is np.float32


def test_plans_depend_on_the_backend_in_force():
    x = np.ones(4, np.float32)
    for name in ("numpy", "auto", "numpy"):
        with fastloss.use_backend(name):
            assert fastloss.mse_loss(x, -x) == 4.0
    keys = [key for key in evaluate._plans if "numpy" in key]
    assert len(keys) == 1


def test_the_store_is_bounded(monkeypatch):
    monkeypatch.setattr(kept, "MOST", 8)
    for n in range(1, 30):
        assert fastloss.mse_loss(np.ones(n), np.zeros(n)) == 1.0
    assert len(evaluate._plans) <= 8


def test_arrays_are_not_kept():
    import gc
    import weakref

    x = np.ones((50, 3), np.float32)[:, :2]
    reference = weakref.ref(x.base)
    fastloss.mse_loss(x, np.zeros(2))
    fastloss.value_and_grad(fastloss.cross_entropy)(x, np.zeros(50, np.uint8))
    del x
    gc.collect()
    assert reference() is None
