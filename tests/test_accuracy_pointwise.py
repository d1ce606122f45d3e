"""Accuracy of the binary losses and of log_cosh element by element, and of means over many elements."""

import os

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp

import fastloss

F32 = np.float32

# Every kind of logit there is: the promised range, the neighbourhood of 0, and where exp underflows.
LOGITS = np.concatenate([
    np.linspace(-104, 104, 100_001, dtype=F32),
    np.geomspace(1e-45, 1, 2001).astype(F32),
    -np.geomspace(1e-45, 1, 2001).astype(F32),
    np.array([0.0, -0.0, 87.4, 88.8, -87.4, -88.8, 1e4, -1e4, 3e38, -3e38], F32),
])  # fmt: skip


def check(name, *arguments, ulp=2, **options):
    got = getattr(fastloss, name)(*arguments, reduction="none", **options)
    assert_ulp(got, reference.loss(name, *arguments, reduction="none", **options), ulp, what=name)


@pytest.mark.parametrize("target", [0, 1, 0.5, 0.3, 1e-3, 0.999, 1e-8, 1 - 2**-24, "random"])
def test_binary_cross_entropy_with_logits(target):
    if target == "random":
        target = generator("target").random(LOGITS.shape)
    check("binary_cross_entropy_with_logits", LOGITS, np.full(LOGITS.shape, target, F32))


def test_binary_cross_entropy_with_logits_in_double_precision():
    logits = np.concatenate([np.linspace(-745, 745, 20_001), np.geomspace(1e-320, 1, 1001)])
    for target in (0.0, 1.0, 0.3):
        check("binary_cross_entropy_with_logits", logits, np.full(logits.shape, target), ulp=4)


@pytest.mark.parametrize("target", [0, 1, 0.5, 0.3])
def test_binary_cross_entropy(target):
    """Probabilities down to the smallest number, and up to the largest below 1."""
    small = np.geomspace(1e-45, 0.5, 5001).astype(F32)
    probs = np.concatenate([small, 1 - small, np.linspace(0, 1, 5001, dtype=F32)])
    check("binary_cross_entropy", probs, np.full(probs.shape, target, F32), ulp=3)


def test_categorical_cross_entropy():
    small = np.geomspace(1e-45, 0.5, 5001).astype(F32)
    probs = np.stack([np.concatenate([small, 1 - small])] * 2, axis=1)
    check("categorical_cross_entropy", probs, np.ones(len(probs), np.int64))


def test_deviances():
    """Ratios at the ends of the intervals of a logarithm, where whole powers of two nearly cancel, neighbours, and extremes."""
    ends = np.array([0.375, 0.5, 2 / 3, 0.75, 1.0, 4 / 3, 1.5, 3.0])
    near = ends[:, None] * (1 + np.concatenate([np.geomspace(2**-24, 0.1, 500), -np.geomspace(2**-24, 0.1, 500)]))
    ratios = np.concatenate([near.ravel(), np.geomspace(1e-30, 1e30, 5001)])
    for scale in (1.0, 1.7, 1e-7, 3e7):
        target = np.full(ratios.shape, scale, F32)
        pred = (ratios * scale).astype(F32)
        for name in ("generalized_kl_div", "poisson_deviance_loss", "gamma_deviance_loss"):
            check(name, pred, target, ulp=4)


def test_log_cosh():
    """Half a square near 0, where log(cosh(d)) would be 0; |d| - log 2 far out, where cosh overflows."""
    d = np.concatenate([np.geomspace(1e-20, 3e38, 20_001).astype(F32), np.array([0, 1000, 5000.5], F32)])
    d = np.concatenate([d, -d])
    check("log_cosh_loss", d, np.zeros_like(d), ulp=4)
    check("log_cosh_loss", d.astype(np.float64), np.zeros(d.shape), ulp=6)
    _, slope = fastloss.value_and_grad(fastloss.log_cosh_loss)(d, np.zeros_like(d), reduction="sum")
    _, exact = reference.value_and_grad("log_cosh_loss", d, np.zeros_like(d), reduction="sum")
    assert_ulp(slope, exact, 4)


def test_squares_do_not_overflow_before_they_must():
    d = np.array([1e19, 1.8e19], F32)
    check("mse_loss", d, np.zeros_like(d))
    check("huber_loss", np.array([1e30, 3e38], F32), np.zeros(2, F32))
    check("smooth_l1_loss", np.array([1e30, 3e38], F32), np.zeros(2, F32))


@pytest.mark.parametrize("n", [1 << 22, 3_000_001])
def test_means_of_many_elements(n):
    """In single precision a running sum would stop growing long before; the mean keeps every digit."""
    x = np.full(n, 0.1, F32)
    zeros = np.zeros(n, F32)
    assert fastloss.l1_loss(x, zeros) == F32(0.1)
    assert_ulp(fastloss.l1_loss(x, zeros, reduction="sum"), n * np.longdouble(F32(0.1)), 1)
    x[n // 3] = 1e9  # a term that would swallow all the others
    assert_ulp(fastloss.l1_loss(x, zeros), x.astype(np.longdouble).sum() / n, 1)
    x[n // 3] = 0
    assert_ulp(fastloss.mse_loss(x, zeros), (x.astype(np.longdouble) ** 2).sum() / n, 1)


def test_mean_of_many_rows():
    rng = generator("many rows")
    logits = rng.normal(0, 2, (400_000, 4)).astype(F32)
    target = rng.integers(0, 4, 400_000)
    assert_ulp(fastloss.cross_entropy(logits, target), reference.loss("cross_entropy", logits, target), 1)


def test_mean_of_many_along_an_axis():
    x = np.full((300_000, 3), 0.1, F32)
    np.testing.assert_array_equal(fastloss.l1_loss(x, np.zeros_like(x), axis=0), np.full(3, 0.1, F32))


@pytest.mark.skipif(not os.environ.get("FASTLOSS_TEST_LARGE"), reason="takes long; FASTLOSS_TEST_LARGE=1 runs it")
def test_more_elements_than_32_bits_count():
    """2**31 + 7 elements without their memory: one number, with stride 0."""
    n = 2**31 + 7
    x = np.broadcast_to(F32(0.1), (n,))
    zero = np.broadcast_to(F32(0), (n,))
    assert fastloss.l1_loss(x, zero) == F32(0.1)
    assert_ulp(fastloss.l1_loss(x, zero, reduction="sum"), n * np.longdouble(F32(0.1)), 1)
