"""The short way of plain calls gives the bits of the general way, and leaves to it what is not plain."""

import numpy as np
import pytest

import fastloss

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
    """With `out`, a call is not plain."""
    value = fn(*args, out=np.empty((), kwargs.pop("dtype")), **kwargs)
    return value[()]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fn", PAIRS, ids=lambda fn: fn.__name__)
def test_pointwise(fn, dtype, reduction):
    rng = np.random.default_rng(3)
    for size in (1, 10, 1025, 32768):
        x, y = rng.uniform(0, 1, (2, size)).astype(dtype)
        value = fn(x, y, reduction=reduction)
        assert type(value) is dtype
        assert value == general(fn, x, y, reduction=reduction, dtype=dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy(dtype, reduction):
    rng = np.random.default_rng(4)
    for n_rows, n_classes in [(1, 10), (7, 2), (300, 3), (5, 95), (5, 96), (31, 1000)]:
        x, y = rng.normal(0, 5, (n_rows, n_classes)).astype(dtype), rng.integers(0, n_classes, n_rows)
        y[::3] = -100 if n_rows > 3 else y[::3]
        value = fastloss.cross_entropy(x, y, reduction=reduction)
        assert type(value) is dtype
        assert value == general(fastloss.cross_entropy, x, y, reduction=reduction, dtype=dtype)


def test_what_is_not_plain():
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
