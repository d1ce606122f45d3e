"""The package's functions on the driver without a GPU: its own host code, its compiled kernels, every access of theirs checked."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference
from compare import assert_ulp, same_bits

import fastloss


def fetched(result):
    return result.copy_to_host().reshape(result.shape)


@pytest.fixture
def sent():
    from numba import cuda

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


@pytest.mark.parametrize("size", [(300, 10), (67, 200)], ids=str)
def test_rows(sent, monkeypatch, size):
    x, y = rows(*size)
    got = in_all_orders(monkeypatch, lambda: fetched(fastloss.cross_entropy(sent(x), sent(y))))
    assert_ulp(got, reference.loss("cross_entropy", x, y), 2)


def test_elements(sent, monkeypatch):
    x, y = rows(3, 700)[0], rows(3, 700, 1.0)[0]
    got = in_all_orders(monkeypatch, lambda: fetched(fastloss.mse_loss(sent(x), sent(y))))
    assert_ulp(got, reference.loss("mse_loss", x, y), 2)
