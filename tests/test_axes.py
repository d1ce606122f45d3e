"""Means along axes: many short rows at once, and columns of which several rows are added at a time."""

import numpy as np
import pytest
from compare import assert_ulp, same_bits

import fastloss

# what fits no block, and where one way of computing rows ends and the next begins
LENGTHS = (1, 2, 15, 63, 64, 65, 100, 127, 129, 316, 511, 512, 513, 1000, 1025)
ROWS = (1, 3, 4, 5, 130)


def operands(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, *shape)).astype(np.float32)


def expected(x, y, axis, w=None):
    squares = (x.astype(np.longdouble) - y) ** 2
    if w is None:
        return squares.mean(axis)
    return (squares * w).sum(axis) / (np.broadcast_to(w, x.shape).sum(axis, dtype=np.longdouble))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("n_rows", ROWS)
@pytest.mark.parametrize("axis", [0, 1])
def test_means(axis, n_rows, n):
    x, y = operands((n_rows, n), n)
    w = np.random.default_rng(n).random((n_rows, n), dtype=np.float32)
    # two roundings of the difference's square, and that of the result
    assert_ulp(fastloss.mse_loss(x, y, axis=axis), expected(x, y, axis), 4)
    assert_ulp(fastloss.mse_loss(x, y, axis=axis, weight=w), expected(x, y, axis, w), 4)
    wide = fastloss.mse_loss(x.astype(np.float64), y.astype(np.float64), axis=axis)
    np.testing.assert_allclose(wide, expected(x, y, axis).astype(np.float64), rtol=1e-14)


@pytest.mark.parametrize("n", LENGTHS)
def test_rows_do_not_depend_on_the_rows_around_them(n):
    x, y = operands((67, n))
    w = np.random.default_rng(n).random((67, n), dtype=np.float32)
    together = fastloss.huber_loss(x, y, axis=1)
    weighted = fastloss.huber_loss(x, y, axis=1, weight=w)
    for rows in (slice(0, 1), slice(66, 67), slice(5, 40)):
        assert same_bits(fastloss.huber_loss(x[rows], y[rows], axis=1), together[rows])
        assert same_bits(fastloss.huber_loss(x[rows], y[rows], axis=1, weight=w[rows]), weighted[rows])


@pytest.mark.parametrize("n", [1, 60, 100, 500, 600])
@pytest.mark.parametrize("axis", [0, 1])
def test_layouts_give_the_same_bits(axis, n):
    x, y = operands((130, n))
    wanted = fastloss.l1_loss(x, y, axis=axis)
    apart = np.zeros((130, 2 * n + 3), np.float32)
    apart[:, : 2 * n : 2] = x
    beside = np.zeros((130, n + 5), np.float32)
    beside[:, :n] = x
    for other in (apart[:, : 2 * n : 2], beside[:, :n], np.asfortranarray(x), x[::-1].copy()[::-1], x.astype(">f4")):
        assert same_bits(fastloss.l1_loss(other, y, axis=axis), wanted)
    same = np.broadcast_to(y[:1], y.shape)
    assert same_bits(fastloss.l1_loss(x, same, axis=axis), fastloss.l1_loss(x, same.copy(), axis=axis))


@pytest.mark.parametrize("special", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("n", [1, 100, 300])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_special_stays_in_its_row(axis, n, special):
    x, y = operands((9, n))
    usual = fastloss.l1_loss(x, y, axis=axis, reduction="sum")
    x[4, n // 2], y[4, n // 2] = special, -1e38 if special == 3e38 else 0.0  # whose difference is beyond float32
    found = fastloss.l1_loss(x, y, axis=axis, reduction="sum")
    place = n // 2 if axis == 0 else 4
    others = np.arange(len(usual)) != place
    assert same_bits(found[others], usual[others])
    assert np.isnan(found[place]) if np.isnan(special) else np.isinf(found[place])


@pytest.mark.parametrize("n", [2, 100])
@pytest.mark.parametrize("axis", [0, 1])
def test_sums_beyond_float32_have_a_mean(axis, n):
    x = np.full((8, n), 2e38, np.float32)
    assert np.all(fastloss.l1_loss(x, np.zeros_like(x), axis=axis) == np.float32(2e38))
