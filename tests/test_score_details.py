"""score's entropies, most likely classes, and log-probabilities of chosen classes; and scores without targets."""

import mpmath
import numpy as np
import pytest
import reference
from amounts import mostly_full
from cases import generator
from compare import assert_ulp, result_dtype, same_bits, to_mpf
from layouts import KEEPING_DTYPE

import fastloss
from fastloss.places.host import layer as tiled

pytestmark = pytest.mark.any_backend("dtype")
DTYPES = [np.float32, np.float64, np.float16, np.int16]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass

INF, NAN = np.inf, np.nan
ULP = {np.dtype(np.float32): 2, np.dtype(np.float64): 4}


def check(logits, *, target=None, axis=-1, top=None, n_ids=3, top_k=None):
    """Everything that is found of these rows against the oracle."""
    x = np.asarray(logits)
    rows_shape = np.moveaxis(x, axis, -1).shape[:-1]
    n_classes = x.shape[axis]
    top = min(n_classes, 5) if top is None else top
    ids = generator("ids", x.shape, axis).integers(0, n_classes, (*rows_shape, n_ids))
    got = fastloss.score(logits, target, axis=axis, top=top, ids=ids, entropy=True, top_k=top_k)
    dtype = result_dtype(x.dtype)
    ulp = ULP[dtype]
    kinds = [got.top_ids.dtype, got.top_log_probs.dtype, got.id_log_probs.dtype, got.entropy.dtype, got.lse.dtype]
    assert kinds == [np.int64, dtype, dtype, dtype, dtype] and got.argmax.dtype == np.int64
    with np.errstate(all="ignore"):
        log_probs = np.moveaxis(reference.log_softmax(x, axis=axis), axis, -1)
        assert_ulp(got.entropy, reference.entropy(x, axis=axis), ulp, what="entropy")
    order = reference.descending(x, axis=axis)[..., :top]
    np.testing.assert_array_equal(got.top_ids, order)
    assert_ulp(got.top_log_probs, np.take_along_axis(log_probs, order, -1), ulp, what="top")
    assert_ulp(got.id_log_probs, np.take_along_axis(log_probs, ids, -1), ulp, what="ids")
    assert not np.any(got.entropy < 0.0)
    np.testing.assert_array_equal(got.argmax, order[..., 0])
    plain = fastloss.score(logits, target, axis=axis, top_k=top_k)
    names = ("argmax", "correct", "rank", "in_top_k")
    for name in names if target is not None else names[:1]:
        np.testing.assert_array_equal(getattr(got, name), getattr(plain, name), err_msg=name)
    for name in ("nll", "lse") if target is not None else ("lse",):
        assert_ulp(
            getattr(got, name), getattr(plain, name), 2 * ulp, at=float(np.abs(x[np.isfinite(x)]).max(initial=1.0))
        )
    alone = fastloss.score(logits, target, axis=axis, top_k=top_k, entropy=True)
    assert alone.entropy.dtype == dtype and alone.top_ids is None and not np.any(alone.entropy < 0.0)
    assert_ulp(alone.entropy, reference.entropy(x, axis=axis), ulp, what="nothing but entropy")
    for name in names if target is not None else names[:1]:
        np.testing.assert_array_equal(getattr(alone, name), getattr(plain, name), err_msg=name)
    return got


def rows(*shape, dtype=np.float32, seed="details"):
    """From flat to peaked."""
    rng = generator(seed, *shape)
    spread = rng.choice([0.0, 0.1, 1.0, 4.0, 20.0], (*shape[:-1], 1))
    return (rng.normal(0, 1, shape) * spread).astype(dtype)


SHAPES = [
    (7, 1),
    (40, 2),
    (70, 3),
    (65, 10),
    (37, 9),
    (131, 33),
    (20, 64),
    (20, 127),
    (9, 128),
    (9, 300),
    (9, 1000),
    (5, 1025),
    (3, 9000),
    (0, 5),
    (0, 500),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_oracle(shape, dtype):
    logits = rows(*shape, dtype=dtype)
    target = generator("labels", shape).integers(0, shape[1], shape[0])
    target[::4] = -100
    check(logits, target=target, top_k=2)
    check(np.ascontiguousarray(logits.T), axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_vocabulary(dtype):
    """A row of an LLM: much in few classes, and little in very many."""
    rng = generator("vocabulary")
    logits = (rng.normal(0, 2, (6, 128_256)) - rng.exponential(4, (6, 128_256))).astype(dtype)
    logits[1, 77] = 40.0
    logits[2, [5, 128_255]] = 30.0, 29.0
    logits[3, 1000:] = -INF
    logits[4] = 0.25
    logits[5] = np.sort(logits[5])
    check(logits, top=20, n_ids=20)


@pytest.mark.parametrize("n_classes", mostly_full([2, 10, 1000, 128_256], lambda n: n < 100_000))
def test_against_mpmath(n_classes):
    """The oracle's numbers too: in 40 digits, of a flat and of a peaked row."""
    rng = generator("mpmath", n_classes)
    for spread in (1.0, 9.0) if n_classes < 100_000 else (3.0,):
        x = (rng.normal(0, spread, (1, n_classes))).astype(np.float32)
        with mpmath.workdps(40):
            values = [to_mpf(v) for v in x[0]]
            top = max(values)
            powers = [mpmath.exp(v - top) for v in values]
            total = mpmath.fsum(powers)
            exact = (
                mpmath.fsum(p * (mpmath.log(total) - (v - top)) for p, v in zip(powers, values, strict=True)) / total
            )
            got = fastloss.score(x, entropy=True, top=1)
            for value, expected in ((got.entropy[0], exact), (got.top_log_probs[0, 0], -mpmath.log(total))):
                assert abs(to_mpf(value) - expected) <= 2 * to_mpf(np.spacing(np.abs(value)))


@pytest.mark.parametrize("n_classes", [2, 3, 10, 200, 5000])
def test_tiny_entropies(n_classes):
    """All but nothing in one class: relative accuracy down to the smallest numbers, and then 0."""
    gaps = np.array([1.0, 10.0, 15.0, 17.0, 30.0, 60.0, 80.0, 87.0, 100.0, 120.0, 1e4, 3e4, 1e30, INF])
    logits = np.zeros((len(gaps), n_classes))
    logits[:, 1:] = -gaps[:, None]
    for shift in (0.0, 0.3, -1000.0):
        got = check((logits + shift).astype(np.float32), top=2)
        assert got.entropy[-1] == 0.0 and got.top_log_probs[-1, 0] == 0.0 and got.top_log_probs[-1, 1] == -INF
    check(np.where(logits > -1e5, 8 * logits, logits), top=2)  # float64


@pytest.mark.parametrize("n_classes", [1, 4, 5, 40, 128, 300, 2000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_ugly_rows(n_classes, dtype):
    rng = generator("ugly", n_classes)
    logits = rng.normal(0, 2, (16, n_classes)).astype(dtype)
    last = n_classes - 1
    logits[0, last] = NAN
    logits[1, 0] = INF
    logits[2, [0, last]] = INF
    logits[3] = -INF
    logits[4] = NAN
    logits[5] = 1.5
    logits[6, ::2] = -INF
    logits[7, :last] = -INF
    logits[8] = INF
    logits[9, [0, last // 2]], logits[9, last] = NAN, INF
    logits[10] = np.where(np.arange(n_classes) % 2, -0.0, 0.0)
    logits[11] = np.sort(logits[11])
    logits[12] = np.sort(logits[12])[::-1]
    logits[13] = 60000.0
    logits[14] -= dtype(30000.0)
    logits[15] = rng.integers(0, 3, n_classes)
    for top in {1, min(3, n_classes), min(40, n_classes), n_classes}:
        for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
            numbers = [1, 2, 3, 5, 6, 7, 8, *range(10, 16)]  # several rows at a time, where there is no NaN
            check(np.take(x, numbers, axis=-1 - axis), axis=axis, top=top)
            got = check(x, axis=axis, top=top)
            for row in (0, 1, 2, 3, 4, 8, 9):
                assert np.isnan(got.entropy[row]) and np.isnan(got.top_log_probs[row]).all()
                assert np.isnan(got.id_log_probs[row]).all()
    if n_classes > 1:
        assert np.isfinite(got.entropy[[5, 6, 7, 10, 11, 12, 13, 14, 15]]).all()


@pytest.mark.parametrize("n_classes, top", [(300, 299), (5000, 31), (5000, 33), (20_000, 1000), (700, 64)])
def test_many_of_the_first(n_classes, top):
    rng = generator("first", n_classes)
    logits = rng.integers(-40, 40, (4, n_classes)).astype(np.float32)  # with many equals
    logits[2] = np.arange(n_classes)
    logits[3] = -np.arange(n_classes)
    check(logits, top=top)


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
def test_layouts(layout):
    for shape, axis in (((6, 21), 1), ((21, 6), 0), ((6, 200), 1), ((3, 5, 7), 1), ((2, 9, 4, 3), 1), ((3, 4, 140), 2)):
        logits = layout(generator("layouts", shape).normal(0, 3, shape).astype(np.float32))
        check(logits, axis=axis)


def test_wide_and_long_columns():
    """More rows than a tile has, and more classes than many rows are copied of at a time."""
    check(rows(130, 21).T.copy(), axis=0)
    check(rows(70, 6000).T.copy(), axis=0)
    check(np.moveaxis(rows(3, 70, 40), -1, 1).copy(), axis=1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.bool_])
def test_ids(dtype):
    logits = rows(20, 200)
    ids = (np.arange(60).reshape(20, 3) % 2).astype(dtype)
    got = fastloss.score(logits, ids=ids).id_log_probs
    expected = np.take_along_axis(reference.log_softmax(logits), ids.astype(np.int64), -1)
    assert_ulp(got, expected, 2)
    if dtype == np.int8:
        ids[3, 1] = -100
        expected[3, 1] = NAN
        assert_ulp(fastloss.score(logits, ids=ids).id_log_probs, expected, 2)
        ids[3, 1] = 7
        expected[3, 1] = NAN
        assert_ulp(fastloss.score(logits, ids=ids, ignore_index=7).id_log_probs, expected, 2)
    assert fastloss.score(logits, ids=ids[:, :0]).id_log_probs.shape == (20, 0)


def test_bad_ids():
    logits, ids = np.zeros((40, 6), np.float32), np.zeros((40, 3), np.int64)
    for bad in (6, -1, 2**62, -(2**63)):
        ids[33, 2] = bad
        with pytest.raises(IndexError, match=rf"ids\[33, 2\] = {bad} is not in \[0, 6\)"):
            fastloss.score(logits, ids=ids)
        with pytest.raises(IndexError, match=rf"ids\[33, 2\] = {bad} "):
            fastloss.score(logits, linear_weight=np.zeros((6, 6), np.float32), ids=ids)
        fastloss.score(logits, ids=ids, ignore_index=bad)
    target = np.zeros(40, np.int64)
    target[39] = 6
    with pytest.raises(IndexError, match=r"target\[39\] = 6 "):
        fastloss.score(logits, target, entropy=True)
    with pytest.raises(IndexError, match=r"target\[39\] = 6 "):
        fastloss.score(logits.T, target, entropy=True, axis=0)


def test_errors():
    x = np.zeros((3, 4))
    for options, error, what in [
        ({"top": 0}, ValueError, "top: expected an integer of at least 1"),
        ({"top": 5}, ValueError, "top: expected at most 4, the number of classes, got 5"),
        ({"top": 1.5}, TypeError, "top"),
        ({"entropy": 1}, TypeError, "entropy"),
        ({"ids": np.zeros((3, 2))}, TypeError, "ids: expected integer class indices"),
        ({"ids": np.zeros((4, 2), int)}, ValueError, r"ids: expected shape \(3, n_ids\)"),
        ({"ids": np.zeros(3, int)}, ValueError, r"ids: expected shape \(3, n_ids\)"),
        ({"ids": np.zeros((3, 1, 1), int)}, ValueError, "ids: expected shape"),
    ]:
        for more in ({}, {"linear_weight": np.zeros((4, 4))}):
            with pytest.raises(error, match=what):
                fastloss.score(x, **options, **more)
    with pytest.raises(ValueError, match="logits: expected at least one class"):
        fastloss.score(np.zeros((3, 0)), entropy=True)
    assert fastloss.score(np.zeros((0, 0)), entropy=True).entropy.shape == (0,)


def test_without_a_target():
    for shape in ((60, 10), (60, 300), (0, 7)):
        logits = rows(*shape)
        got, zeros = fastloss.score(logits, top_k=3), fastloss.score(logits, np.zeros(shape[0], int))
        assert same_bits(got.lse, zeros.lse) and same_bits(got.argmax, zeros.argmax)
        assert all(a is None for name, a in got._asdict().items() if name not in ("lse", "argmax"))


def test_one_row():
    got = fastloss.score([1.0, 3.0, 2.0], 2, top=2, ids=[0, 1, 1], entropy=True)
    assert all(type(a) is np.ndarray for a in got if a is not None)
    assert (
        got.entropy.shape == got.nll.shape == () and got.top_ids.tolist() == [1, 2] and got.id_log_probs.shape == (3,)
    )


@pytest.mark.parametrize("shape", [(37, 20_001), (40_003, 9), (300, 200)], ids=str)
def test_threads_and_batches(shape):
    """The same bits for any number of threads; of contiguous rows, whichever rows come with them."""
    logits = rows(*shape)
    logits[20, 1] = NAN  # its neighbours must not notice
    ids = generator("ids").integers(0, shape[1], (shape[0], 2))
    for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
        results = []
        for threads in (1, 2, 5):
            with fastloss.use_threads(threads):
                results.append(fastloss.score(x, axis=axis, top=4, ids=ids, entropy=True))
        for other in results[1:]:
            assert all(same_bits(a, b) for a, b in zip(results[0], other, strict=True) if a is not None)
    whole = fastloss.score(logits, top=4, ids=ids, entropy=True)
    for part in (slice(0, 1), slice(5, 8), slice(17, None)):
        some = fastloss.score(logits[part], top=4, ids=ids[part], entropy=True)
        assert all(same_bits(a[part], b) for a, b in zip(whole, some, strict=True) if a is not None)
        assert same_bits(
            fastloss.score(logits[part], entropy=True).entropy, fastloss.score(logits, entropy=True).entropy[part]
        )


@pytest.mark.parametrize("tiles", ["one tile", "many tiles"])
def test_hidden_states(tiles, monkeypatch):
    """Of products that are exact: what the logits themselves have."""
    if tiles == "many tiles":
        monkeypatch.setattr(tiled, "ROWS", 16)
        monkeypatch.setattr(tiled, "TILE", 16 * 150)
        monkeypatch.setattr(tiled, "CONVERTED", 16 * 140)
    rng = generator("hidden")
    for dtype in (np.float32, np.float64, np.float16):
        hidden = (rng.integers(-8, 8, (40, 6)) / 8).astype(dtype)
        layer, bias = ((rng.integers(-8, 8, shape) / 4).astype(dtype) for shape in ((500, 6), (500,)))
        bias[7] = -INF
        ids, target = rng.integers(0, 500, (40, 3)), rng.integers(0, 500, 40)
        logits = hidden.astype(np.float64) @ layer.T.astype(np.float64) + bias
        logits = logits.astype(result_dtype(dtype))
        options = {"top": 9, "ids": ids, "entropy": True}
        for y in (None, target):
            dense = fastloss.score(logits, y, **options)
            got = fastloss.score(hidden, y, linear_weight=layer, linear_bias=bias, **options)
            np.testing.assert_array_equal(got.top_ids, dense.top_ids)
            np.testing.assert_array_equal(got.argmax, dense.argmax)
            for name in ("top_log_probs", "id_log_probs", "entropy"):
                assert_ulp(getattr(got, name), getattr(dense, name), 2 * ULP[dense.lse.dtype], what=name)
            assert (got.nll is None) == (got.correct is None) == (y is None)
    got = fastloss.score(hidden, linear_weight=layer)
    assert same_bits(got.lse, fastloss.score(hidden, target, linear_weight=layer).lse) and got.nll is None


@pytest.mark.any_backend
@pytest.mark.parametrize("chunks", [(13, 300), (13, 70), (40, 3)], ids=str)
def test_dask(chunks):
    dask, da = pytest.importorskip("dask"), pytest.importorskip("dask.array")
    logits = rows(40, 300)
    logits[3, 5], logits[4, 100:], logits[5] = NAN, -INF, -INF
    rng = generator("dask")
    ids, target = rng.integers(0, 300, (40, 4)), rng.integers(0, 300, 40)
    ids[2, 1], target[7] = -100, -100
    for y, options in (
        (target, {"top_k": 3, "top": 6, "ids": ids, "entropy": True}),
        (None, {"entropy": True}),
        (None, {}),
    ):
        expected = fastloss.score(logits, y, **options)
        transposed = da.from_array(logits.T, chunks=chunks[::-1])
        for lazy in (
            fastloss.score(da.from_array(logits, chunks=chunks), y, **options),
            fastloss.score(transposed, None if y is None else da.from_array(y, chunks=9), axis=0, **options),
        ):
            with dask.config.set(scheduler="synchronous"):
                (computed,) = dask.compute(lazy._asdict())
            for name, exact in expected._asdict().items():
                found, promised = computed[name], getattr(lazy, name)
                assert (found is None) == (promised is None) == (exact is None), name
                if exact is None:
                    continue
                assert promised.dtype == found.dtype == exact.dtype
                assert promised.shape == found.shape == exact.shape
                if exact.dtype.kind == "f":
                    np.testing.assert_allclose(found, exact, rtol=5e-7, err_msg=name)
                else:
                    np.testing.assert_array_equal(found, exact, err_msg=name)
    ids[29, 3] = 300
    with pytest.raises(IndexError, match=r"ids\[29, 3\] = 300 "):
        fastloss.score(da.from_array(logits, chunks=chunks), ids=da.from_array(ids, chunks=(7, 2))).lse.compute(
            scheduler="synchronous"
        )


def test_dask_of_hidden_states():
    da = pytest.importorskip("dask.array")
    rng = generator("dask", "hidden")
    hidden, layer = rng.normal(size=(21, 5)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32)
    options = {"top": 3, "ids": rng.integers(0, 90, (21, 2)), "entropy": True, "linear_weight": layer}
    expected = fastloss.score(hidden, **options)
    for lazy, at in (
        (fastloss.score(da.from_array(hidden, chunks=(8, 5)), **options), slice(None)),
        (fastloss.score(da.from_array(hidden[4], chunks=5), **options | {"ids": options["ids"][4]}), 4),
    ):
        for name in ("lse", "top_log_probs", "id_log_probs", "entropy"):
            found = getattr(lazy, name).compute(scheduler="synchronous")
            np.testing.assert_allclose(found, getattr(expected, name)[at], rtol=1e-6)
        np.testing.assert_array_equal(lazy.top_ids.compute(scheduler="synchronous"), expected.top_ids[at])


def test_torch():
    torch = pytest.importorskip("torch")
    logits = torch.from_numpy(rows(30, 777)).bfloat16()
    ids = torch.from_numpy(generator("torch").integers(0, 777, (30, 4)))
    got = fastloss.score(logits, ids=ids, top=20, entropy=True)
    log_probs = torch.log_softmax(logits.double(), -1)
    np.testing.assert_allclose(got.id_log_probs, log_probs.gather(1, ids).numpy(), rtol=3e-7)
    np.testing.assert_allclose(got.top_log_probs, log_probs.topk(20).values.numpy(), rtol=3e-7)
    np.testing.assert_allclose(got.top_log_probs, log_probs.gather(1, torch.from_numpy(got.top_ids)).numpy(), rtol=3e-7)
    entropy = torch.distributions.Categorical(logits=logits.double()).entropy()
    np.testing.assert_allclose(got.entropy, entropy.numpy(), rtol=3e-7)


def test_accumulated():
    """The mean of entropies, of rows whose targets count; in pieces, without targets, and of Dask arrays."""
    logits = rows(50, 40)
    target = generator("accumulated").integers(0, 40, 50)
    target[::3] = -100
    exact = reference.entropy(logits)
    for given, mean in (((logits, target), exact[target != -100].mean()), ((logits,), exact.mean())):
        one, two = fastloss.Accumulator("entropy"), fastloss.Accumulator("entropy")
        one.update(*given)
        for part in (slice(0, 7), slice(7, None)):
            two.update(*(a[part] for a in given))
        np.testing.assert_allclose([one.compute(), two.compute()], float(mean), rtol=1e-6)
        assert one.count == two.count == (50 if len(given) == 1 else np.count_nonzero(target != -100))
    lazily = fastloss.Accumulator("entropy")
    da = pytest.importorskip("dask.array")
    lazily.update(da.from_array(logits, chunks=(20, 40)))
    np.testing.assert_allclose(lazily.compute(), float(exact.mean()), rtol=1e-6)
    with pytest.raises(TypeError, match="top"):
        fastloss.Accumulator("entropy", top=3)
