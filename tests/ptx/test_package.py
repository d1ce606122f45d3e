"""The package's functions on the driver without a GPU: its own host code, its compiled kernels, every access of theirs checked."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference
from amounts import mostly_full
from compare import assert_ulp, same_bits

import fastloss


def fetched(result):
    return result.copy_to_host().reshape(result.shape)


@pytest.fixture
def sent():
    from fastloss.backends.numba_cuda._compiler import cuda

    return cuda.to_device


def in_all_orders(monkeypatch, call):
    """What a call returns, the bits of which are the same for five orders of blocks, warps and lanes."""
    results = []
    for order in range(5):
        monkeypatch.setenv("DRIVER_ORDER", str(order))
        results.append(call())
    assert all(same_bits(result, results[0]) for result in results[1:])
    return results[0]


def rows(n_rows, n_classes, scale=4.0):
    rng = np.random.default_rng((n_rows, n_classes))
    return (rng.normal(size=(n_rows, n_classes)) * scale).astype(np.float32), rng.integers(0, n_classes, n_rows)


@pytest.mark.parametrize("size", [(300, 10), pytest.param((67, 200), marks=pytest.mark.full)], ids=str)
def test_rows_in_all_orders(sent, monkeypatch, size):
    x, y = rows(*size)
    got = in_all_orders(monkeypatch, lambda: fetched(fastloss.cross_entropy(sent(x), sent(y))))
    assert_ulp(got, reference.loss("cross_entropy", x, y), 2)


@pytest.mark.full
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_roots_of_squares_outside_the_range(sent, monkeypatch, size):
    """A second kernel reads the first one's sum; with an axis, a block reads its own."""
    x, y = np.full((3, 1000), size), np.zeros((3, 1000))
    x[:, ::2] *= -1
    given = sent(x), sent(y)
    for _ in range(2):  # the second call repeats the launches of the first
        got = in_all_orders(monkeypatch, lambda: fetched(fastloss.rmse_loss(*given)))
        assert_ulp(got, np.longdouble(size), 1)
    assert_ulp(fetched(fastloss.rmse_loss(*given, axis=1)), np.abs(x[:, 0]), 1)
    value, slopes = fastloss.value_and_grad(fastloss.rmse_loss)(*given)
    assert_ulp(fetched(value), np.longdouble(size), 1)
    assert_ulp(fetched(slopes), np.sign(x) / np.longdouble(x.size), 2)


# --- accuracy -----------------------------------------------------------------------------------------------------------


def check_rows(sent, x, y, ulp=2):
    got = fetched(fastloss.cross_entropy(sent(x), sent(y), reduction="none"))
    assert_ulp(got, reference.loss("cross_entropy", x, y, reduction="none"), ulp)


@pytest.mark.parametrize(
    ("row", "label"),
    [([0.74, -7.42, 4.78, 0.07, 7.62, 1.49, -10.61, -5.03, 0.63, -1.37], 4), ([2.7, 6.2, -4.8, -7.4, -2.6], 1)],
    ids=["ten", "five"],
)
def test_sums_of_few_terms(sent, row, label):
    """Rounded to float32 at each step, as by a plain sum, they were off by 4.7 and 2.8 ulp."""
    check_rows(sent, np.array([row], np.float32), np.array([label]))


@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize("n_classes", mostly_full([3, 10, 33, 129], (10).__eq__))
def test_rows_of_every_kind(sent, monkeypatch, n_classes, disturbed):
    ulp = 2
    if disturbed:
        monkeypatch.setenv("DRIVER_APPROXIMATE", "1")
        ulp = 3
    rng = np.random.default_rng(n_classes)
    n = 500
    x = (rng.normal(size=(n, n_classes)) * rng.uniform(1, 6, (n, 1))).astype(np.float32)
    labels = rng.integers(0, n_classes, n)
    labels[::2] = x[::2].argmax(axis=1)
    check_rows(sent, x, labels, ulp)
    # many equal classes far below the target and one more: their differences round alike, and so do their powers
    x[:] = x[:, :1]
    x[:, 0] = x[:, 1] + np.log(n_classes) * rng.uniform(0.3, 1.2, n)
    x[:, n_classes // 2] = x[:, 0] + rng.normal(size=n) * 2
    labels[:] = n_classes // 2
    check_rows(sent, x, labels, ulp)


def test_logsumexp_near_0_whatever_the_target(sent):
    x = np.array([[0.0, -40.0, -60.0], [0.0, -30.0, -np.inf], [-0.6931472, -0.6931472, -50.0]], np.float32)
    for label in range(3):
        scores = fastloss.score(sent(x), sent(np.full(3, label)))
        assert_ulp(fetched(scores.lse)[:2], reference.logsumexp(x)[:2], 2)
        np.testing.assert_allclose(fetched(scores.lse)[2], reference.logsumexp(x)[2], atol=1e-7)


@pytest.mark.full
@pytest.mark.parametrize("size", [(40, 10), (5, 700)], ids=str)
def test_details(sent, monkeypatch, size):
    x, ids = rows(*size)
    names = ("top_ids", "top_log_probs", "id_log_probs", "entropy")

    def call():
        got = fastloss.score(sent(x), top=5, ids=sent(ids[:, None]), entropy=True)
        return [fetched(getattr(got, name)).astype(np.float64).reshape(len(x), -1) for name in names]

    got = in_all_orders(monkeypatch, lambda: np.hstack(call()))
    order, log_probs = reference.descending(x)[:, :5], reference.log_softmax(x)
    np.testing.assert_array_equal(got[:, :5], order)
    exact = [np.take_along_axis(log_probs, order, 1), np.take_along_axis(log_probs, ids[:, None], 1)]
    assert_ulp(got[:, 5:].astype(np.float32), np.hstack([*exact, reference.entropy(x)[:, None]]), 2)


# --- elements -----------------------------------------------------------------------------------------------------------


def test_elements(sent, monkeypatch):
    x, y = rows(3, 700)[0], rows(3, 700, 1.0)[0]
    got = in_all_orders(monkeypatch, lambda: fetched(fastloss.mse_loss(sent(x), sent(y))))
    assert_ulp(got, reference.loss("mse_loss", x, y), 2)
