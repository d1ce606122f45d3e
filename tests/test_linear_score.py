"""score from hidden states: what it says of the logits that are never held.

Where results are compared with those of dense logits, hidden states and weights are small multiples of powers of two, as in
test_linear.py: then every product is exact.  Elsewhere the logits are those of the very tiles, to the last bit.
"""

import tracemalloc

import numpy as np
import pytest
from cases import generator
from compare import assert_ulp, same_bits
from test_linear import DTYPES, logits_of, problem
from test_score import expected_order

import fastloss
from fastloss.places.host import layer as tiled
from fastloss.places.host import layer_scores as scored

SHAPES = [(5, 4, 3), (33, 16, 200), (70, 8, 1000), (0, 4, 5)]


@pytest.fixture(params=["one tile", "many tiles", "nothing kept"])
def tiles(request, monkeypatch):
    """Tiles as they are; or so small that these arrays take several in each direction; or ranks that always take two products."""
    if request.param != "one tile":
        monkeypatch.setattr(tiled, "ROWS", 16)
        monkeypatch.setattr(tiled, "TILE", 16 * 150)
        monkeypatch.setattr(tiled, "CONVERTED", 16 * 140)
    if request.param == "nothing kept":
        monkeypatch.setattr(scored, "KEPT", 0)


def check(hidden, layer, target, logits, *, bias=None, ignore_index=-100, top_k=3):
    """Scores of hidden states against those of exact logits."""
    options = {"ignore_index": ignore_index, "linear_weight": layer, "linear_bias": bias}
    got = fastloss.score(hidden, target, top_k=top_k, **options)
    dense = fastloss.score(logits, target, ignore_index=ignore_index, top_k=top_k)
    assert type(got) is fastloss.Scores
    for name in ("argmax", "correct", "rank", "in_top_k"):
        np.testing.assert_array_equal(getattr(got, name), getattr(dense, name), err_msg=name)
        assert getattr(got, name).dtype == getattr(dense, name).dtype
    assert_ulp(got.nll, dense.nll, 2, what="nll")
    finite = np.abs(logits, where=np.isfinite(logits), out=np.zeros(logits.shape)).max(initial=0)
    assert_ulp(got.lse, dense.lse, 2, at=float(finite), what="lse")
    plain = fastloss.score(hidden, target, **options)
    assert plain.rank is None and plain.in_top_k is None
    assert all(same_bits(a, b) for a, b in zip(plain[:4], got[:4], strict=True))
    return got


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_dense_logits(shape, dtype, tiles):
    hidden, layer, labels, _, options = problem(*shape, dtype=dtype)
    for bias in (None, options["linear_bias"]):
        got = check(hidden, layer, labels, logits_of(hidden, layer, bias), bias=bias)
        assert got.nll.dtype == (np.float64 if dtype == np.float64 else np.float32)
        each = fastloss.linear_cross_entropy(hidden, layer, labels, linear_bias=bias, reduction="none")
        # few logits are computed at once there, so that the bits may differ
        assert_ulp(each, fastloss.cross_entropy(logits_of(hidden, layer, bias), labels, reduction="none"), 2)
        assert_ulp(got.nll, each, 2)


def test_ties_and_every_place(tiles):
    """Most logits have equals, in tiles before and after the target's."""
    n = 500
    layer = (np.arange(n) % 3)[:, None].astype(np.float32)
    hidden = np.ones((n, 1), np.float32)
    for labels in (np.arange(n), np.arange(n)[::-1].copy()):
        check(hidden, layer, labels, logits_of(hidden, layer))
    layer[:] = 1.0
    got = check(hidden, layer, np.arange(n), logits_of(hidden, layer))
    np.testing.assert_array_equal(got.rank, np.arange(n))
    assert not got.argmax.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 7, 64, 513])
def test_ranks_are_those_of_the_tiles_logits(n_features, dtype, tiles, monkeypatch):
    """Ordinary numbers, every class three times: argmax and rank have the order of the logits as the BLAS computed them."""
    rng = generator("order", n_features)
    hidden = rng.normal(size=(50, n_features)).astype(dtype)
    layer = np.tile(rng.normal(size=(200, n_features)), (3, 1)).astype(dtype)
    labels = rng.integers(0, 600, 50)
    seen = np.full((50, 600), np.nan)
    compute = tiled.Head.tile

    def watched(self, op, h, rows, start, stop, layer, *more):
        logits = compute(self, op, h, rows, start, stop, layer, *more)
        seen[rows, start:stop] = logits
        return logits

    monkeypatch.setattr(tiled.Head, "tile", watched)
    got = fastloss.score(hidden, labels, top_k=7, linear_weight=layer)
    best, rank = expected_order(seen, labels, -100)
    np.testing.assert_array_equal(got.argmax, best)
    np.testing.assert_array_equal(got.rank, rank)
    np.testing.assert_array_equal(got.correct, rank == 0)
    np.testing.assert_allclose(seen, hidden.astype(np.float64) @ layer.T.astype(np.float64), rtol=1e-3, atol=1e-3)


def test_one_product_is_enough(monkeypatch):
    """For ordinary numbers the bounds hold and few logits lie between them; where bounds are wrong, all is counted once more."""
    monkeypatch.setattr(tiled, "TILE", 1 << 18)
    rng = generator("once")
    hidden = rng.normal(size=(300, 700)).astype(np.float32)
    layer = (rng.normal(size=(4000, 700)) + 0.5).astype(np.float32)
    labels = rng.integers(0, 4000, 300)
    again = []
    restart = scored.Ranks.restart
    monkeypatch.setattr(scored.Ranks, "restart", lambda self: (again.append(1), restart(self)))
    got = fastloss.score(hidden, labels, top_k=1, linear_weight=layer)
    assert not again
    bounds = scored._bounds

    def wrong(*arguments):
        low, high = bounds(*arguments)
        return low, low

    monkeypatch.setattr(scored, "_bounds", wrong)
    other = fastloss.score(hidden, labels, top_k=1, linear_weight=layer)
    assert again
    np.testing.assert_array_equal(got.rank, other.rank)


WILD = [0.0, -0.0, 88.0, -104.0, 1e4, 1e30, -1e30, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 3, 130, 700])
def test_wild_values(n_classes, dtype, tiles):
    """Any logits at all, which the bias can be: what `score` says of them."""
    rng = generator("wild", n_classes)
    hidden, layer = np.zeros((1, 1), dtype), np.zeros((n_classes, 1), dtype)
    for share in (0.02, 0.3, 1.0):
        for _ in range(6):
            logits = rng.normal(0, rng.choice([1.0, 100.0, 1e4]), (1, n_classes))
            some = rng.choice(WILD, rng.integers(1, 4))
            logits = np.where(rng.random(logits.shape) < share, rng.choice(some, logits.shape), logits).astype(dtype)
            target = rng.integers(0, n_classes, 1)
            got = fastloss.score(hidden, target, top_k=2, linear_weight=layer, linear_bias=logits[0])
            dense = fastloss.score(logits, target, top_k=2)
            for name in ("argmax", "correct", "rank", "in_top_k"):
                np.testing.assert_array_equal(getattr(got, name), getattr(dense, name), err_msg=f"{name} {logits}")
            np.testing.assert_allclose(got.nll, dense.nll, rtol=1e-6)
            np.testing.assert_allclose(got.lse, dense.lse, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_targets_of_no_ordinary_logit(value, tiles):
    """Masked classes, or NaN, in every tile, and the target one of them in the first, a middle, and the last."""
    bias = (np.arange(700) % 5).astype(np.float32)
    bias[::3] = value
    hidden, layer, targets = np.zeros((4, 1), np.float32), np.zeros((700, 1), np.float32), np.array([3, 333, 699, 334])
    got = fastloss.score(hidden, targets, top_k=2, linear_weight=layer, linear_bias=bias)
    best, rank = expected_order(np.tile(bias, (4, 1)), targets, -100)
    np.testing.assert_array_equal(got.argmax, best)
    np.testing.assert_array_equal(got.rank, rank)


@pytest.mark.filterwarnings("error")
def test_special_values_stay_in_their_rows(tiles):
    hidden, layer, labels, _, _ = problem(40, 4, 700)
    clean = fastloss.score(hidden, labels, top_k=3, linear_weight=layer)
    spoilt = hidden.copy()
    spoilt[7, 1], spoilt[9, 1] = np.nan, np.inf
    labels[11] = -100
    spoilt[11] = np.nan
    got = fastloss.score(spoilt, labels, top_k=3, linear_weight=layer)
    assert np.isnan(got.nll[[7, 9]]).all() and got.argmax[7] == 0
    assert got.nll[11] == 0 and got.rank[11] == -1 and np.isnan(got.lse[11])
    others = np.setdiff1d(np.arange(40), [7, 9, 11])
    assert all(same_bits(a[others], b[others]) for a, b in zip(got[:6], clean[:6], strict=True))


def test_shapes_and_index_dtypes():
    hidden, layer, labels, _, _ = problem(12, 6, 300)
    flat = fastloss.score(hidden, labels, top_k=5, linear_weight=layer)
    cube = fastloss.score(hidden.reshape(3, 4, 6), labels.reshape(3, 4), axis=2, top_k=5, linear_weight=layer)
    assert all(same_bits(a.reshape(-1), b) for a, b in zip(cube[:6], flat[:6], strict=True))
    one = fastloss.score(hidden[0], 17, top_k=5, linear_weight=layer)
    assert one.nll.shape == one.rank.shape == ()
    small = np.abs(labels) % 200
    expected = fastloss.score(hidden, small, top_k=5, linear_weight=layer)
    for dtype in (np.uint8, np.int16, np.uint64):
        got = fastloss.score(hidden, small.astype(dtype), top_k=5, linear_weight=layer)
        assert all(same_bits(a, b) for a, b in zip(got[:6], expected[:6], strict=True))


def test_threads(monkeypatch):
    hidden, layer, labels, _, _ = problem(700, 8, 5000)
    results = []
    for threads in (1, 2, 3, 8):
        with fastloss.use_threads(threads):
            results.append(fastloss.score(hidden, labels, top_k=5, linear_weight=layer))
    for other in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(results[0][:6], other[:6], strict=True))


def test_memory():
    """A tile and what is kept of it, where the logits would take 100 MB: also if all logits are equal."""
    hidden, layer = np.zeros((625, 64), np.float32), np.zeros((40_000, 64), np.float32)
    labels = np.full(625, 39_999)
    fastloss.score(hidden[:2], labels[:2], top_k=5, linear_weight=layer)
    tracemalloc.start()
    got = fastloss.score(hidden, labels, top_k=5, linear_weight=layer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert (got.rank == 39_999).all()


def test_errors():
    hidden, layer, good = np.zeros((3, 2)), np.zeros((5, 2)), [0, 1, 2]
    for options, error, what in [
        ({"linear_weight": np.zeros((5, 3))}, ValueError, r"linear_weight: expected shape \(n_classes, 2\)"),
        ({"linear_weight": layer, "linear_bias": np.zeros(4)}, ValueError, r"linear_bias: expected shape \(5,\)"),
        ({"linear_bias": np.zeros(5)}, ValueError, "linear_bias: expected None"),
        ({"linear_weight": layer, "axis": 0}, ValueError, "axis: expected -1"),
        ({"linear_weight": layer, "axis": 2}, ValueError, "axis"),
        ({"linear_weight": layer, "top_k": 0}, ValueError, "top_k"),
        ({"linear_weight": np.zeros((0, 2))}, ValueError, "at least one class"),
        ({"linear_weight": layer.astype(str)}, TypeError, "linear_weight"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.score(hidden, good, **options)
    for target, error, what in [
        ([0, 5, 2], IndexError, r"target\[1\] = 5 "),
        ([0, 1, -1], IndexError, r"target\[2\] = -1 "),
        ([0.0, 1.0, 2.0], TypeError, "target: expected integer"),
        ([0, 1], ValueError, r"target: expected shape \(3,\), that of hidden"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.score(hidden, target, linear_weight=layer)
