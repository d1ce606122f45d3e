"""score: everything about a row from one pass, held against the oracle and against NumPy's own order."""

import tracemalloc

import numpy as np
import pytest
import reference
from cases import CASES, generator
from compare import assert_ulp, result_dtype, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KEEPING_DTYPE

import fastloss

DTYPES = [np.float32, np.float64, np.float16, np.int16]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass

INF, NAN = np.inf, np.nan


def wide(logits):
    """Logits as NumPy can sort them."""
    return np.asarray(logits).astype(np.float64)


def expected_order(logits, target, ignore_index):
    """argmax, and the target's rank in descending order: NaN first, the lower class first among equals."""
    x = wide(logits)
    n_classes = x.shape[-1]
    keys = np.where(np.isnan(x), INF, x)
    classes = np.broadcast_to(np.arange(n_classes), x.shape)
    order = np.lexsort((classes, -keys, ~np.isnan(x)), axis=-1)
    rank = np.argsort(order, axis=-1)
    target = np.asarray(target)
    counted = np.array([int(t) != ignore_index for t in target.ravel()], bool).reshape(target.shape)
    own = np.take_along_axis(rank, np.where(counted, target, 0).astype(np.int64)[..., None], -1)[..., 0]
    return x.argmax(axis=-1), np.where(counted, own, -1)


def check(logits, target, *, axis=-1, ignore_index=-100, top_k=3):
    got = fastloss.score(logits, target, axis=axis, ignore_index=ignore_index, top_k=top_k)
    x = np.asarray(logits)
    dtype = result_dtype(x.dtype)
    ulp = CASES[0].tolerance(dtype)  # of cross_entropy with labels
    assert [a.dtype for a in got[:6]] == [dtype, dtype, np.int64, np.bool_, np.int64, np.bool_]
    with np.errstate(all="ignore"):
        exact = reference.score(x, target, axis=axis, ignore_index=ignore_index)
    assert_ulp(got.nll, exact["nll"], ulp, what="nll")
    finite = np.abs(wide(x), where=np.isfinite(wide(x)), out=np.zeros(x.shape)).max(initial=0)
    assert_ulp(got.lse, exact["lse"], ulp, at=float(finite), what="lse")
    best, rank = expected_order(np.moveaxis(x, axis, -1), target, ignore_index)
    np.testing.assert_array_equal(got.argmax, best)
    np.testing.assert_array_equal(got.rank, rank)
    np.testing.assert_array_equal(got.correct, rank == 0)
    np.testing.assert_array_equal(got.in_top_k, (rank >= 0) & (rank < top_k))
    plain = fastloss.score(logits, target, axis=axis, ignore_index=ignore_index)
    assert plain.rank is None and plain.in_top_k is None
    assert all(same_bits(a, b) for a, b in zip(plain[:4], got[:4], strict=True))
    return got


def rows(*shape, dtype=np.float32, spread=3.0):
    rng = generator("score", *shape)
    logits = rng.normal(0, spread, shape).astype(dtype)
    target = rng.integers(0, shape[-1], shape[:-1])
    target[rng.random(shape[:-1]) < 0.2] = -100
    return logits, target


# Few classes, and a step, a few steps, and a last step that overlaps with the one before; short and long rows; and numbers of rows that
# fill strips and groups, or do not.
SHAPES = [
    (7, 1),
    (130, 2),
    (7, 3),
    (81, 6),
    (65, 7),
    (65, 10),
    (16, 31),
    (130, 32),
    (17, 33),
    (20, 127),
    (5, 128),
    (33, 129),
    (40, 1000),
    (17, 1025),
]
SHAPES += [(3, 8191), (3, 8193), (2, 40_001), (0, 5), (0, 500)]


@pytest.mark.any_backend("dtype")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_oracle(shape, dtype):
    logits, target = rows(*shape, dtype=dtype)
    check(logits, target)
    if result_dtype(dtype) == np.float32 or shape[1] < 2000:  # plain float64 sums across rows are not that exact
        check(np.ascontiguousarray(logits.T), target, axis=0)


@pytest.mark.parametrize("n_classes", [2, 31, 33, 64, 128, 129, 200, 256, 300])
def test_ties_and_every_place(n_classes):
    """The maximum, and the target, in every place; most logits have equals."""
    logits = np.tile(np.arange(n_classes) % 3, (n_classes, 1)).astype(np.float32)
    for top in (2.0, 3.0):
        np.fill_diagonal(logits, top)
        for target in (np.arange(n_classes), np.arange(n_classes)[::-1].copy()):
            check(logits, target)
            check(logits.T.copy(), target, axis=0)


@settings(max_examples=60, deadline=None, database=None)  # compiling takes seconds
@given(st.integers(0, 2**32), st.sampled_from([3, 40, 130, 300]), st.sampled_from([-1, 0]), st.integers(1, 400))
def test_orders_of_few_values(seed, n_classes, axis, top_k):
    rng = np.random.default_rng(seed)
    values = np.array([-INF, -1.0, -0.0, 0.0, 1.0, 30.0])
    logits = rng.choice(values, (9, n_classes)).astype(np.float32)
    logits[:, 0] = 1.0
    check(np.ascontiguousarray(np.moveaxis(logits, -1, axis)), rng.integers(0, n_classes, 9), axis=axis, top_k=top_k)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n_classes", [1, 2, 17, 100, 130, 300])
def test_nan(n_classes, dtype):
    """NaN in every place: beside the target, at the target, twice, beside +inf."""
    logits = np.tile(np.arange(n_classes) % 7, (n_classes, 1)).astype(dtype)
    np.fill_diagonal(logits, NAN)
    for second in (0.0, NAN, INF):
        logits[:, n_classes // 2] = np.where(np.isnan(logits[:, n_classes // 2]), NAN, second)
        for target in (np.zeros(n_classes, np.int64), np.arange(n_classes), np.full(n_classes, -100)):
            for axis, x in ((-1, logits), (0, logits.T.copy())):
                got = fastloss.score(x, target, axis=axis, top_k=1)
                best, rank = expected_order(logits, target, -100)
                np.testing.assert_array_equal(got.argmax, best)
                np.testing.assert_array_equal(got.rank, rank)
                np.testing.assert_array_equal(got.correct, rank == 0)
                assert np.isnan(got.lse).all()
                np.testing.assert_array_equal(got.nll, np.where(target == -100, 0, NAN))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_classes", [3, 150])
def test_infinities(n_classes):
    logits = np.full((5, n_classes), -INF, np.float32)
    logits[0, 1] = INF
    logits[1, 1:] = 1.0
    logits[2, 2] = INF
    logits[2, 1] = INF
    logits[4] = 0
    for axis, x in ((-1, logits), (0, logits.T.copy())):
        got = fastloss.score(x, [0, 0, 1, 0, -100], axis=axis, top_k=1)
        np.testing.assert_array_equal(got.nll, [NAN, INF, NAN, NAN, 0])
        np.testing.assert_array_equal(got.lse[[0, 2, 3]], [INF, INF, -INF])
        np.testing.assert_array_equal(got.argmax, [1, 1, 1, 0, 0])
        np.testing.assert_array_equal(got.rank, [1, n_classes - 1, 0, 0, -1])


WILD = [0.0, -0.0, 1.0, 20.0, 88.0, -104.0, 1e4, -2.5e4, 1e30, -1e30, 3e38, -3e38, 1e-40, INF, -INF, NAN]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 3, 40, 130, 300])
def test_wild_values(n_classes, dtype):
    """Rows with some, or nothing but, values from the ends of the range: in agreement with the functions of one result each."""
    rng = generator("wild", n_classes)
    for share in (0.02, 0.3, 1.0):
        for _ in range(20):
            logits = rng.normal(0, rng.choice([1.0, 100.0, 1e4]), (20, n_classes))
            wild = rng.choice(WILD, rng.integers(1, 4))
            logits = np.where(rng.random(logits.shape) < share, rng.choice(wild, logits.shape), logits).astype(dtype)
            target = rng.integers(0, n_classes, 20)
            target[::7] = -100
            best, rank = expected_order(logits, target, -100)
            for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
                got = fastloss.score(x, target, axis=axis, top_k=2)
                assert same_bits(got.nll, fastloss.cross_entropy(x, target, axis=axis, reduction="none"))
                np.testing.assert_allclose(got.lse, fastloss.logsumexp(x, axis=axis), rtol=1e-6, atol=1e-6)
                np.testing.assert_array_equal(got.argmax, best)
                np.testing.assert_array_equal(got.rank, rank)


def test_tiny_and_large_losses():
    for n_classes in (2, 3, 500):
        for margin in (20.0, 60.0, 200.0, 3e4):
            logits = np.zeros((2, n_classes), np.float32)
            logits[:, 1] = margin
            check(logits, [1, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nll_has_the_bits_of_cross_entropy(dtype):
    for shape in SHAPES:
        logits, target = rows(*shape, dtype=dtype)
        for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
            each = fastloss.cross_entropy(x, target, axis=axis, reduction="none")
            assert same_bits(fastloss.score(x, target, axis=axis).nll, each)


def test_ignored_rows_are_scored_without_a_target():
    for shape in ((60, 10), (60, 300)):
        logits, target = rows(*shape)
        kept = target != -100
        got = check(logits, target)
        other = check(logits, np.where(kept, target, 0))
        assert same_bits(got.argmax, other.argmax)
        np.testing.assert_allclose(got.lse, other.lse, rtol=3e-7)
        check(logits, np.where(kept, target, 5), ignore_index=5)


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_layouts(layout, dtype):
    for shape, axis in (((6, 21), 1), ((21, 6), 0), ((6, 200), 1), ((3, 5, 7), 1), ((2, 9, 4, 3), 1), ((3, 4, 140), 2)):
        rng = generator("score", shape)
        logits = layout(rng.normal(0, 3, shape).astype(dtype))
        target = layout(rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :]))
        check(logits, target, axis=axis)


@pytest.mark.one_backend  # Numba compiles for each
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.bool_])
def test_index_dtypes(dtype):
    for n_classes in (2, 200):
        logits = generator(n_classes).normal(0, 1, (50, n_classes)).astype(np.float32)
        check(logits, (np.arange(50) % 2).astype(dtype))


def test_one_row_and_lists():
    got = fastloss.score([1.0, 3.0, 2.0], 2, top_k=2)
    assert got.nll.shape == () and got.rank == 1 and got.in_top_k and not got.correct
    assert fastloss.score(np.zeros((0, 4)), []).nll.shape == (0,)


@pytest.mark.parametrize("layer", [{}, {"linear_weight": np.eye(3)}], ids=["logits", "hidden"])
def test_one_row_without_axes(layer):
    scores = fastloss.score([1.0, 3.0, 2.0], 2, top_k=2, **layer)
    assert all(type(array) is np.ndarray and array.shape == () for array in scores[:6])
    assert (scores.argmax, scores.rank, scores.in_top_k) == (1, 1, True)


@pytest.mark.one_backend
def test_torch():
    torch = pytest.importorskip("torch")
    logits, target = rows(50, 777, dtype=np.float32)
    got = fastloss.score(torch.from_numpy(logits).bfloat16(), torch.from_numpy(target), top_k=5)
    x = torch.from_numpy(logits).bfloat16().double()
    y = torch.from_numpy(target)
    nll = torch.nn.functional.cross_entropy(x, y, reduction="none")
    np.testing.assert_allclose(got.nll, nll.numpy(), rtol=3e-7)
    np.testing.assert_allclose(got.lse, torch.logsumexp(x, 1).numpy(), rtol=3e-7)
    np.testing.assert_array_equal(x.gather(1, torch.from_numpy(got.argmax)[:, None])[:, 0], x.max(dim=1).values)


@pytest.mark.parametrize("shape", [(37, 40_001), (140_003, 9)], ids=str)
def test_threads(shape):
    logits, target = rows(*shape)
    for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
        results = []
        for threads in (1, 2, 3, 8):
            with fastloss.use_threads(threads):
                results.append(fastloss.score(x, target, axis=axis, top_k=5))
        for other in results[1:]:
            assert all(same_bits(a, b) for a, b in zip(results[0][:6], other[:6], strict=True))


@pytest.mark.parametrize("shape, axis", [((500, 20_000), 1), ((100, 1000, 100), 1), ((20_000, 500), 0)])
def test_memory(shape, axis, backend):
    """Nothing of the logits' size: results of 25 bytes a row, and what is fixed; without kernels, arrays of a few rows."""
    logits = np.zeros(shape, np.float16)
    target = np.zeros(shape[:axis] + shape[axis + 1 :], np.int64)
    fastloss.score(logits, target, axis=axis, top_k=5)
    tracemalloc.start()
    fastloss.score(logits, target, axis=axis, top_k=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows = 16 * 8 * max(shape[axis], 8192) if backend == "numpy" else 0
    assert peak < 40 * target.size + 200_000 + rows < logits.nbytes


@pytest.mark.parametrize("n_classes", [5, 300])
def test_bad_labels(n_classes):
    logits, target = np.zeros((70, n_classes), np.float32), np.zeros(70, np.int64)
    for bad in (n_classes, -1, 2**62, -(2**63)):
        target[65] = bad
        for axis, x in ((-1, logits), (0, logits.T)):
            with pytest.raises(IndexError, match=rf"target\[65\] = {bad} "):
                fastloss.score(x, target, axis=axis)
        fastloss.score(logits, target, ignore_index=bad)


def test_errors():
    x = np.zeros((3, 4))
    for target, error, what in [
        ([0.0, 1.0, 2.0], TypeError, "target: expected integer"),
        ([0, 1], ValueError, r"target: expected shape \(3,\)"),
        (np.zeros((3, 4), int), ValueError, r"target: expected shape \(3,\)"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.score(x, target)
    for options, error, what in [
        ({"top_k": 0}, ValueError, "top_k"),
        ({"top_k": 1.5}, TypeError, "top_k"),
        ({"top_k": True}, TypeError, "top_k"),
        ({"axis": 2}, ValueError, "axis"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.score(x, [0, 1, 2], **options)
    with pytest.raises(ValueError, match="logits: expected at least one class"):
        fastloss.score(np.zeros((3, 0)), [0, 1, 2])
    with pytest.raises(TypeError, match="logits"):
        fastloss.score(x.astype(complex), [0, 1, 2])


@pytest.mark.any_backend("n_classes")
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("n_classes", range(1, 8))
def test_few_classes_agree_with_the_functions_of_their_own(n_classes, softcap):
    transform = {"temperature": 0.7, "softcap": softcap}
    logits, target = rows(300, n_classes, spread=8.0)
    logits[::7, 0], logits[::11, -1], logits[40] = -INF, NAN, -INF
    for axis, x in ((-1, logits), (0, np.ascontiguousarray(logits.T))):
        got = fastloss.score(x, target, axis=axis, **transform)
        each = fastloss.cross_entropy(x, target, axis=axis, reduction="none", **transform)
        assert same_bits(got.nll, each)
        lse = wide(fastloss.logsumexp(x, axis=axis, **transform))
        np.testing.assert_allclose(got.lse, lse, rtol=0, atol=1e-6 * np.abs(lse[np.isfinite(lse)]).max())
        np.testing.assert_array_equal(got.argmax, expected_order(logits, target, -100)[0])
