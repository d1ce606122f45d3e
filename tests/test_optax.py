"""The same numbers as optax's losses, where it is installed."""

import numpy as np
import pytest
from cases import generator
from compare import assert_ulp

import fastloss

optax = pytest.importorskip("optax")


def drawn(*names):
    rng = generator("optax", *names)
    draw = {"score": lambda: rng.normal(0, 2, 50), "sign": lambda: rng.choice([-1.0, 1.0], 50)}
    draw |= {"label": lambda: rng.choice([0.0, 1.0], 50)}
    return [draw[name]().astype(np.float32) for name in names]


def equal(got, theirs):
    np.testing.assert_allclose(got, np.asarray(theirs), rtol=2e-6, atol=1e-7)


def test_hinge():
    scores, target = drawn("score", "sign")
    equal(fastloss.hinge_loss(scores, target, reduction="none"), optax.losses.hinge_loss(scores, target))


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.75, 1.0), (-1.0, 2.0)])
def test_sigmoid_focal(alpha, gamma):
    logits, target = drawn("score", "label")
    theirs = optax.losses.sigmoid_focal_loss(logits, target, alpha=alpha if alpha >= 0 else None, gamma=gamma)
    equal(fastloss.sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none"), theirs)


def test_soft_margin():
    """The cross-entropy of labels 0 and 1, of which optax has the one."""
    scores, target = drawn("score", "sign")
    theirs = optax.losses.sigmoid_binary_cross_entropy(scores, (target + 1) / 2)
    equal(fastloss.soft_margin_loss(scores, target, reduction="none"), theirs)
    exact = np.logaddexp(np.longdouble(0), -target.astype(np.longdouble) * scores)
    assert_ulp(fastloss.soft_margin_loss(scores, target, reduction="none"), exact, 2)


@pytest.mark.parametrize("epsilon", [2.0, 0.0, -1.0])
def test_poly_1(epsilon):
    rng = generator("optax", "poly")
    logits, target = rng.normal(0, 2, (50, 7)).astype(np.float32), rng.integers(0, 7, 50)
    theirs = optax.losses.poly_loss_cross_entropy(logits, np.eye(7, dtype=np.float32)[target], epsilon=epsilon)
    got = fastloss.poly_loss_cross_entropy(logits, target, epsilon=epsilon, reduction="none")
    np.testing.assert_allclose(got, np.asarray(theirs), rtol=2e-6, atol=1e-6)


def test_poly_1_of_optax_by_default():
    logits, target = np.eye(3, dtype=np.float32), np.array([0, 2, 2])
    theirs = optax.losses.poly_loss_cross_entropy(logits, np.eye(3, dtype=np.float32)[target])
    equal(fastloss.poly_loss_cross_entropy(logits, target, reduction="none"), theirs)
