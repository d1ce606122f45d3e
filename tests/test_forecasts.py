"""`brier_score` and `calibration_error`: against exact arithmetic, scikit-learn, and by their definitions."""

import bisect
import itertools
import math
import pickle
import threading
from fractions import Fraction

import layouts
import numpy as np
import pytest
from amounts import few_or_many
from cases import generator
from compare import assert_ulp, result_dtype, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastloss
from fastloss import Accumulator
from fastloss.places.host import forecasts

FLOATS = [np.float32, np.float64, np.float16]
try:
    from ml_dtypes import bfloat16

    FLOATS.append(bfloat16)
except ImportError:  # an optional package
    pass
LABELS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)] + [np.dtype(">i4"), np.dtype(">u8")]
NORMS = ("l1", "l2", "max")
# Few classes and many lie differently in a batch.
by_width = pytest.mark.parametrize("n_classes", [2, forecasts.LONG_ROW - 1, forecasts.LONG_ROW])


# --- the oracle: rational numbers, a row at a time ----------------------------------------------------------------------


def rows_of(probs, target, axis=-1, ignore_index=-100):
    """The rows that count, as lists of Fractions, and their labels.  Of one event they are the two classes' probabilities."""
    probs, target = np.asarray(probs), np.asarray(target)
    if probs.ndim > target.ndim:
        probs = np.moveaxis(probs, axis, -1).reshape(-1, probs.shape[axis])
    for p, label in zip(probs, target.reshape(-1).tolist(), strict=True):
        if label != ignore_index:
            yield [Fraction(float(value)) for value in np.atleast_1d(p)], label


def exact_brier(probs, target, **options):
    scores = []
    for p, label in rows_of(probs, target, **options):
        hot = [label] if np.ndim(probs) == 1 == np.ndim(target) else [c == label for c in range(len(p))]
        scores.append(sum(((a - b) ** 2 for a, b in zip(p, hot, strict=True)), Fraction(0)))
    return sum(scores, Fraction(0)) / len(scores)


def exact_calibration(probs, target, bins=15, norm="l1", **options):
    one_event = np.ndim(probs) == 1 == np.ndim(target)
    dtype = np.asarray(probs).dtype
    edges = [Fraction(float(np.float64(m / bins).astype(dtype))) for m in range(1, bins + 1)]
    held = {}
    for p, label in rows_of(probs, target, **options):
        confidence = max(p)
        hit = label if one_event else p.index(confidence) == label
        held.setdefault(bisect.bisect_left(edges, confidence), []).append((confidence, int(hit)))
    n = sum(map(len, held.values()))
    gaps = [(abs(sum(c - h for c, h in rows)) / len(rows), Fraction(len(rows), n)) for rows in held.values()]
    if norm == "max":
        return float(max(gap for gap, _ in gaps))
    if norm == "l2":
        return math.sqrt(sum(gap**2 * share for gap, share in gaps))
    return float(sum(gap * share for gap, share in gaps))


def drawn(rng, n_rows, n_classes, dtype=np.float64):
    """Probabilities that are often right, and labels."""
    target = rng.integers(0, n_classes, n_rows)
    logits = rng.normal(0, 2, (n_rows, n_classes))
    logits[np.arange(n_rows), target] += rng.exponential(2, n_rows)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(dtype), target


def check(probs, target, **options):
    """Both functions, all norms, within the last place of what is exact."""
    dtype = result_dtype(np.asarray(probs).dtype)
    got = fastloss.brier_score(probs, target, **options)
    assert type(got) is dtype.type
    assert_ulp(got, float(exact_brier(probs, target, **options)), 1 if dtype == np.float32 else 8, what="brier")
    for norm, bins in itertools.product(NORMS, (1, 10, 15)):
        got = fastloss.calibration_error(probs, target, norm=norm, bins=bins, **options)
        assert type(got) is dtype.type
        # a difference of sums in [0, 1]
        expected = exact_calibration(probs, target, bins, norm, **options)
        assert_ulp(got, expected, 1 if dtype == np.float32 else 16, at=1e-3 if dtype == np.float32 else 1.0, what=norm)


# --- values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (300, 2), (200, 10), (30, 127), (30, 128), (20, 1000)])
def test_classes(shape, dtype):
    check(*drawn(generator("classes", shape), *shape, dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("n", [1, 7, 500])
def test_one_event(n, dtype):
    rng = generator("event", n)
    p = rng.uniform(size=n).astype(dtype)
    y = (rng.uniform(size=n) < p.astype(float)).astype(np.int64)
    check(p, y)
    check(p, y.astype(bool))
    check(p[::-1], y, axis=0)


def test_integer_probabilities_are_those_of_the_certain():
    target = np.array([0, 2, 1, 1])
    for dtype in (np.int8, np.uint16, np.bool_):
        check(np.eye(3, dtype=dtype)[[0, 1, 1, 2]], target)
    assert fastloss.brier_score(np.array([True, False, True]), [True, True, False]) == np.float64(2 / 3)


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_labels_of_all_types(dtype):
    probs, target = drawn(generator("labels"), 100, 5)
    ignored = int(np.iinfo(dtype).max)
    target = target.astype(dtype)
    check(probs, target)
    target[::7] = ignored
    check(probs, target, ignore_index=ignored)
    target[3] = 6
    with pytest.raises(IndexError, match=rf"target\[3\] = 6 is not in \[0, 5\) and not ignore_index \({ignored}\)"):
        fastloss.brier_score(probs, target, ignore_index=ignored)


@pytest.mark.parametrize("layout", layouts.KEEPING_DTYPE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_layouts(layout, axis):
    """The same values have the same bits, however they lie."""
    rng = generator("layouts", axis)
    probs, target = drawn(rng, 4 * 6, 5, np.float32)
    probs = np.ascontiguousarray(np.moveaxis(probs.reshape(4, 6, 5), -1, axis))
    target = target.reshape(4, 6)
    x, y = layout(probs), layout(target)
    check(x, y, axis=axis)
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.int64)
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        assert same_bits(fn(layout(probs), layout(target), axis=axis), fn(x, y, axis=axis))


@pytest.mark.one_backend  # Numba compiles for each type
@settings(deadline=None, database=None, max_examples=150)
@given(st.data())
def test_any_shape_dtype_and_bins(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype, label_dtype = data.draw(st.sampled_from(FLOATS)), data.draw(st.sampled_from(LABELS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    steps = data.draw(st.sampled_from([2, 10, 15, 1 << 40]))  # on edges, and off them
    probs = (rng.integers(0, steps, shape, endpoint=True) / steps).astype(dtype)
    rows = shape[:axis] + shape[axis % len(shape) + 1 :]
    target = rng.integers(0, shape[axis], rows).astype(label_dtype)
    ignored = data.draw(st.integers(0, 3))
    if np.any(target != ignored):
        check(probs, target, axis=axis, ignore_index=ignored)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_large_arrays_and_threads(n_threads):
    """More than a block, whatever the shape; the same bits for any number of threads."""
    probs, target = drawn(generator("large"), 240_000, 5, np.float32)
    target[::11] = -100
    kept = target >= 0
    hot = np.arange(5) == target[:, None]
    brier = np.square(probs.astype(float) - hot).sum(axis=1)[kept].mean()
    best, confidence = probs.argmax(axis=1)[kept], probs.max(axis=1)[kept].astype(np.float64)
    bins = np.ceil(confidence * 15).astype(int)
    gaps = np.bincount(bins, confidence - (best == target[kept]), 16)
    ece = np.abs(gaps).sum() / kept.sum()
    for shape in ((240_000,), (3, 80_000), (80_000, 3), (2, 60_000, 2), (40, 30, 200)):
        x, y = probs.reshape(*shape, 5).astype(np.float64), target.reshape(shape)
        with fastloss.use_threads(n_threads):
            got = fastloss.brier_score(x, y), fastloss.calibration_error(x, y)
        with fastloss.use_threads(1):
            assert got == (fastloss.brier_score(x, y), fastloss.calibration_error(x, y))
        np.testing.assert_allclose(got, (brier, ece), rtol=1e-13)
    with fastloss.use_threads(n_threads):
        event = fastloss.brier_score(probs[:, 0].repeat(5), (target == 0).repeat(5))
    np.testing.assert_allclose(event, np.square(probs[:, 0].astype(float) - (target == 0)).mean(), rtol=1e-7)


def test_batches_are_all_of_an_array_once():
    for shape in ((), (1,), (7,), (3, 4), (4, 3, 5), (2, 1, 9), (5, 2, 2, 3), (1, 1)):
        for most in (1, 2, 3, 4, 6, 7, 15, 100):
            batches = forecasts.Batches(shape, most)
            a = np.arange(math.prod(shape)).reshape(shape)
            pieces = [a[batches[k]].reshape(-1) for k in range(len(batches))]
            assert all(0 < piece.size <= most for piece in pieces)
            np.testing.assert_array_equal(np.concatenate(pieces), np.arange(a.size))


def test_nothing_of_the_arrays_size_is_held():
    tracemalloc = pytest.importorskip("tracemalloc")
    n_rows = 400_000
    calls = [
        (np.full((n_rows, 10), 0.1, np.float32), np.zeros(n_rows, np.int8)),
        (np.full((10, n_rows), 0.1, ">f2").T, np.zeros(n_rows, ">i2")),
        (np.full(n_rows * 10, 0.5), np.zeros(n_rows * 10, bool)),
    ]
    for x, y in calls:
        for fn, options in itertools.product((fastloss.brier_score, fastloss.calibration_error), ({}, {"bins": 1000})):
            options = options if fn is fastloss.calibration_error else {}
            with fastloss.use_threads(1):
                fn(x, y, **options)
                tracemalloc.start()
                fn(x, y, **options)
                most = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert most < 4 << 20, (fn.__name__, x.dtype, most)


# --- against others -----------------------------------------------------------------------------------------------------


def test_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    rng = generator("sklearn")
    for n_classes in (3, 10):
        probs, target = drawn(rng, 500, n_classes)
        expected = metrics.brier_score_loss(target, probs, labels=range(n_classes))
        np.testing.assert_allclose(fastloss.brier_score(probs, target), expected, rtol=1e-12)
    p = rng.uniform(size=2000)
    y = (rng.uniform(size=2000) < p**2).astype(int)
    np.testing.assert_allclose(fastloss.brier_score(p, y), metrics.brier_score_loss(y, p), rtol=1e-12)
    np.testing.assert_allclose(
        fastloss.brier_score(np.column_stack([1 - p, p]), y),
        metrics.brier_score_loss(y, p, scale_by_half=False),
        rtol=1e-12,
    )
    shares, means = calibration.calibration_curve(y, p, n_bins=15)
    np.testing.assert_allclose(fastloss.calibration_error(p, y, norm="max"), np.abs(shares - means).max(), rtol=1e-12)


def test_the_sum_of_all_classes_does_not_cancel():
    """Where all is nearly right, Σ p² − 2 p[y] + 1 would leave nothing."""
    small = 2.0**-20
    probs = np.array([[1 - small, small / 2, small / 2]], np.float32)
    assert fastloss.brier_score(probs, [0]) == np.float32(1.5 * small**2)


# --- bins ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("bins", [1, 2, 5, 10, 15, 64])
def test_edges_belong_to_the_bin_below(bins, dtype):
    """(lo, hi]: a confidence on an edge goes with those just below it, the next number with those above."""
    for m in range(1, bins):
        edge = np.float64(m / bins).astype(dtype)
        above = np.nextafter(np.float32(edge), np.float32(2)).astype(dtype) if dtype is not np.float64 else None
        above = np.nextafter(edge, dtype(2)) if dtype in (np.float32, np.float64, np.float16) else above
        below = np.float64((m - 0.5) / bins).astype(dtype)
        # in one bin the two gaps offset one another; in two they add up
        together = fastloss.calibration_error(np.array([edge, below]), [1, 0], bins=bins)
        np.testing.assert_allclose(together, abs(float(edge) + float(below) - 1) / 2, rtol=1e-3)
        if above > edge:
            apart = fastloss.calibration_error(np.array([above, edge]), [1, 0], bins=bins)
            np.testing.assert_allclose(apart, (1 - float(above) + float(edge)) / 2, rtol=1e-3)


def test_0_belongs_to_the_first_bin_and_1_to_the_last():
    p = np.array([0.0, 0.05, 0.95, 1.0])
    assert fastloss.calibration_error(p, [1, 0, 1, 0], bins=10) == np.float64((0.95 + 0.95) / 4)


@by_width
def test_equal_probabilities_predict_the_first_class(n_classes):
    probs, logits = np.full((2, n_classes), 1 / n_classes), np.zeros((2, n_classes))
    for label, expected in ((0, 1 - 1 / n_classes), (1, 1 / n_classes), (n_classes - 1, 1 / n_classes)):
        assert fastloss.calibration_error(probs, [label] * 2) == expected
        score = Accumulator("calibration")
        score.update(logits, [label] * 2)
        assert score.compute() == expected


def test_perfectly_calibrated():
    probs = np.repeat([[0.75, 0.25]], 8, axis=0)
    for norm in NORMS:
        assert fastloss.calibration_error(probs, [0] * 6 + [1] * 2, norm=norm) == 0.0


@few_or_many("n", 10_000, 100_000)
def test_most_bins(n):
    rng = generator("bins")
    p, y = rng.uniform(size=n), rng.integers(0, 2, n)
    np.testing.assert_allclose(
        fastloss.calibration_error(p, y, bins=1 << 16), exact_calibration(p, y, 1 << 16), rtol=1e-12
    )


# --- special values and errors ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_nan():
    """In a row that counts it is the result; in one that is left out it is nothing."""
    probs = np.array([[0.5, 0.5], [np.nan, 0.5], [0.25, 0.75]])
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        assert np.isnan(fn(probs, [0, 0, 1])) and np.isnan(fn(probs, [0, 1, 1]))
        assert fn(probs, [0, -100, 1]) == fn(probs[::2], [0, 1])
        assert np.isnan(fn(np.array([0.5, np.nan]), [0, 1]))
    for norm in NORMS:
        assert np.isnan(fastloss.calibration_error(probs, [0, 0, 1], norm=norm))


@pytest.mark.filterwarnings("error")
def test_nothing_that_counts():
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        for dtype in (np.float32, np.float64):
            for x, y in (
                (np.zeros((0, 3), dtype), []),
                (np.zeros(0, dtype), []),
                (np.zeros((2, 0, 3), dtype), [[], []]),
            ):
                got = fn(x, y)
                assert np.isnan(got) and got.dtype == dtype
            got = fn(np.full((2, 3), 0.5, dtype), [-100, -100])
            assert np.isnan(got) and got.dtype == dtype


def test_errors():
    half = np.full((2, 3), 0.5)
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        for value, shown in (
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (np.inf, "inf"),
            (np.nextafter(1, 2), "1.0000000000000002"),
        ):
            probs = half.copy()
            probs[1, 2] = value
            with pytest.raises(ValueError, match=rf"probs: expected values in \[0, 1\], got probs\[1, 2\] = {shown}"):
                fn(probs, [0, -100])
            with pytest.raises(ValueError, match=rf"probs\[2, 1\] = {shown}"):
                fn(probs.T, [0, 9], axis=0)  # probabilities are looked at first
        fn(-0.0 * half, [0, 1])
        with pytest.raises(IndexError, match=r"target\[1\] = 3 is not in \[0, 3\) and not ignore_index \(-100\)"):
            fn(half, [0, 3])
        with pytest.raises(IndexError, match=r"target\[1, 0\] = -1 is not in \[0, 2\)"):
            fn(np.full((2, 2, 2), 0.5), [[0, 1], [-1, 0]])
        with pytest.raises(IndexError, match=r"target\[2\] = 2 is not in \[0, 2\)"):
            fn(half[0], [0, 1, 2])
        with pytest.raises(TypeError, match="target: expected integer class indices, got dtype float64"):
            fn(half[0], [0.0, 1.0, 1.0])
        with pytest.raises(
            ValueError, match=r"target: expected shape \(2,\), that of probs without the class axis, got \(2, 3\)"
        ):
            fn(half, np.zeros((2, 3), int))
        with pytest.raises(
            ValueError, match=r"target: expected shape \(\), .*, or \(3,\) for predictions of one event, got \(2,\)"
        ):
            fn(half[0], [0, 1])
        with pytest.raises(ValueError, match="probs: expected at least one dimension"):
            fn(0.5, 1)
        with pytest.raises(ValueError, match="probs: expected at least one class"):
            fn(np.zeros((2, 0)), [0, 0])
        with pytest.raises(ValueError, match="axis"):
            fn(half[0], [0, 1, 1], axis=1)
        with pytest.raises(TypeError, match="complex"):
            fn(half.astype(complex), [0, 0])
    for bins in (0, -1, 65537):
        with pytest.raises(ValueError, match=rf"bins: expected an integer in \[1, 65536\], got {bins}"):
            fastloss.calibration_error(half, [0, 0], bins=bins)
    with pytest.raises(ValueError, match="norm: expected one of 'l1', 'l2', 'max', got 'l3'"):
        fastloss.calibration_error(half, [0, 0], norm="l3")
    with pytest.raises(TypeError, match="value_and_grad: expected a loss"):
        fastloss.value_and_grad(fastloss.brier_score)


def test_errors_of_large_arrays_name_the_first():
    probs, target = np.full((300_000, 4), 0.25), np.zeros(300_000, int)
    target[[200_000, 250_000]] = 4
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        with pytest.raises(IndexError, match=r"target\[200000\] = 4"):
            fn(probs, target)
    probs[[70_000, 290_000], 1] = 2.0
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        with pytest.raises(ValueError, match=r"probs\[70000, 1\] = 2.0"):
            fn(probs, target)


# --- accumulators -------------------------------------------------------------------------------------------------------

SCORES = [
    (fastloss.brier_score, {}),
    (fastloss.calibration_error, {}),
    (fastloss.calibration_error, {"bins": 7, "norm": "l2"}),
    (fastloss.calibration_error, {"bins": np.int64(40), "norm": "max"}),
]
by_score = pytest.mark.parametrize(("fn", "options"), SCORES, ids=lambda value: getattr(value, "__name__", str(value)))


@by_score
def test_pieces(fn, options):
    """In any order and grouping the same bits, and the value of one call."""
    rng = generator("pieces")
    probs, target = drawn(rng, 600, 6)
    target[::5] = 9
    options = options | {"axis": 1, "ignore_index": 9}
    expected, results = fn(probs, target, **options), []
    pieces = np.split(rng.permutation(600), np.sort(rng.integers(0, 600, 40)))
    for n_parts in (1, 3, 41):
        parts = [Accumulator(fn, **options) for _ in range(n_parts)]
        for i in rng.permutation(len(pieces)):
            parts[rng.integers(n_parts)].update(probs[pieces[i]], target[pieces[i]])
        arrays = [part.to_array() for part in parts]
        first, *others = parts
        for part in others:
            first.merge(pickle.loads(pickle.dumps(part)))
        assert same_bits(first.from_array(np.sum(arrays, axis=0)).compute(), first.compute())
        assert first.count == np.count_nonzero(target != 9)
        assert len({array.shape for array in arrays}) == 1
        results.append(first.compute())
    assert len(set(results)) == 1
    np.testing.assert_allclose(results[0], expected, rtol=1e-13)
    first.reset()
    assert np.isnan(first.compute()) and first.count == 0


@pytest.mark.parametrize("axis", [-1, 1])
def test_logits(axis):
    """Of logits what the functions say of their softmax."""
    rng = generator("logits", axis)
    logits, target = rng.normal(0, 3, (50, 4, 6)), rng.integers(0, 6 if axis == -1 else 4, (50, 4 if axis == -1 else 6))
    target[::7] = -1
    options = {"axis": axis, "ignore_index": -1}
    probs = fastloss.softmax(logits, axis=axis)
    for name, fn, more in (
        ("brier", fastloss.brier_score, {}),
        ("calibration", fastloss.calibration_error, {}),
        ("calibration", fastloss.calibration_error, {"bins": 4, "norm": "max"}),
    ):
        score = Accumulator(name, **options, **more)
        for start in range(0, 50, 9):
            score.update(logits[start : start + 9], target[start : start + 9])
        np.testing.assert_allclose(score.compute(), fn(probs, target, **options, **more), rtol=1e-12)
        assert score.count == np.count_nonzero(target != -1)
        assert repr(score).startswith(f"Accumulator({name}, axis={axis}")


def exactly(logits, label):
    """Brier score and confidence of one row, to enough digits for 1 - p."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(400):
        powers = [mpmath.exp(mpmath.mpf(float(x))) for x in logits]
        probs = [power / mpmath.fsum(powers) for power in powers]
        score = mpmath.fsum((p - (c == label)) ** 2 for c, p in enumerate(probs))
        return float(score), float(max(probs))


def test_logits_against_mpmath():
    """Relative accuracy, also where the score is tiny."""
    rng = generator("mpmath")
    rows = [(rng.normal(0, scale, n), int(rng.integers(n))) for scale in (0.1, 3, 30) for n in (1, 2, 7, 200)]
    rows += [([20.0, 0.0, 0.0], 0), ([20.0, 0.0, 0.0], 1), ([0.0, -300.0], 0), ([1e4, 1e4 + 2], 1), ([-1e300, 5.0], 1)]
    rows += [([-np.inf, 0.0, 1.0], 2), ([-np.inf, 0.0, 1.0], 0), ([700.0, -700.0], 1)]
    for logits, label in rows:
        score, confidence = exactly(logits, label)
        got = Accumulator("brier")
        got.update(np.array([logits]), [label])
        np.testing.assert_allclose(got.compute(), score, rtol=2e-15, atol=1e-300)
        got = Accumulator("calibration", bins=1)
        got.update(np.array([logits]), [label])
        hit = np.argmax(logits) == label
        np.testing.assert_allclose(got.compute(), abs(confidence - hit), rtol=1e-14, atol=2e-16)


def test_logits_of_one_event():
    """By the logistic function, whose square is not 1 minus something."""
    mpmath = pytest.importorskip("mpmath")
    for x, label in itertools.product([-800.0, -300.0, -30.0, -1.0, 0.0, 2.0, 40.0, 300.0, 800.0], [0, 1]):
        with mpmath.workdps(400):
            p = 1 / (1 + mpmath.exp(-mpmath.mpf(x)))
            score, gap = float((p - label) ** 2), float(abs(p - label))
        brier, calibration = Accumulator("brier"), Accumulator("calibration")
        brier.update(np.array([x]), [label])
        calibration.update(np.array([x]), np.array([label], bool))
        np.testing.assert_allclose(brier.compute(), score, rtol=2e-15, atol=1e-300)
        np.testing.assert_allclose(calibration.compute(), gap, rtol=1e-15, atol=2e-16)


def test_equal_logits_lie_on_an_edge():
    """One of 5 classes is 0.2 sure, which ends the second bin of 10."""
    score = Accumulator("calibration", bins=10)
    score.update(np.zeros((3, 5), np.float32), [0, 1, 2])
    score.update(np.log([[0.15, 0.15, 0.15, 0.11, 0.11, 0.11, 0.11, 0.11]]), [7])  # in the same bin
    np.testing.assert_allclose(score.compute(), abs(3 * 0.2 + 0.15 - 1) / 4, rtol=1e-12)


@pytest.mark.filterwarnings("error")
@by_width
def test_odd_logits(n_classes):
    inf, nan = np.inf, np.nan
    for row in ([inf, 0.0], [0.0, inf], [nan, 0.0], [-inf, -inf], [nan, nan], [inf, inf], [inf, -inf]):
        for name, label in itertools.product(("brier", "calibration"), (0, 1)):
            logits = np.full((2, n_classes), -inf)
            logits[:, -2:] = row, [1.0, 2.0]
            label += n_classes - 2
            score = Accumulator(name)
            score.update(logits, [label, 1])
            assert np.isnan(score.compute()) and score.count == 2, (name, row)
            score = Accumulator(name)
            score.update(logits, [-100, label])
            assert np.isfinite(score.compute()) and score.count == 1
    for name in ("brier", "calibration"):
        score = Accumulator(name)
        score.update(np.array([[nan], [inf]]), [0, 0])
        assert np.isnan(score.compute())
        with pytest.raises(IndexError, match=r"target\[0\] = 2"):
            score.update(np.array([[1.0, 5.0]]), [2])
        assert score.count == 2


def test_accumulators_that_do_not_go_together():
    for other in (Accumulator("calibration", bins=16), Accumulator("calibration", norm="l2"), Accumulator("brier")):
        with pytest.raises(ValueError, match="same loss and options"):
            Accumulator("calibration", bins=15).merge(other)
    with pytest.raises(ValueError, match="array: expected shape"):
        Accumulator("calibration").from_array(Accumulator("calibration", bins=14).to_array())
    for name, options, error in [
        ("brier", {"bins": 3}, TypeError),
        (fastloss.brier_score, {"norm": "l1"}, TypeError),
        ("calibration", {"bins": 0}, ValueError),
        ("calibration", {"bins": 2.0}, TypeError),
        (fastloss.calibration_error, {"norm": "l3"}, ValueError),
        ("calibration", {"weight": [1.0]}, TypeError),
    ]:
        with pytest.raises(error, match=next(iter(options))):
            Accumulator(name, **options)


def test_accumulating_in_threads():
    probs, target = drawn(generator("threads"), 2000, 4)
    pieces = [slice(i, i + 10) for i in range(0, 2000, 10)]
    expected, score = Accumulator(fastloss.calibration_error), Accumulator(fastloss.calibration_error)
    for piece in pieces:
        expected.update(probs[piece], target[piece])

    def work(number):
        for piece in pieces[number::4]:
            score.update(probs[piece], target[piece])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same_bits(score.to_array(), expected.to_array())


# --- Dask ---------------------------------------------------------------------------------------------------------------


@by_score
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_dask(fn, options, dtype):
    da = pytest.importorskip("dask.array")
    rng = generator("dask", dtype)
    probs, target = drawn(rng, 60, 5, dtype)
    target[::9] = -100
    rtol = 1e-13 if dtype is np.float64 else 1e-6
    expected = fn(probs, target, **options)
    for chunks in ((60, 5), (7, 5), (7, 2), ((1, 0, 59), (3, 0, 2))):
        x = da.from_array(probs, chunks=chunks)
        for y in (target, da.from_array(target, chunks=13), target.tolist()):
            got = fn(x, y, **options)
            assert isinstance(got, da.Array) and got.shape == () and got.dtype == expected.dtype
            got = got.compute(scheduler="synchronous")
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=rtol)
        np.testing.assert_allclose(
            fn(x.T, da.from_array(target, chunks=50), axis=0, **options).compute(), expected, rtol=rtol
        )
        score = Accumulator(fn, **options)
        score.update(x, target)
        np.testing.assert_allclose(score.compute(), expected, rtol=rtol)
        assert score.count == np.count_nonzero(target >= 0)
    event, happened = probs[:, 0], target == 0
    got = fn(da.from_array(event, chunks=11), da.from_array(happened, chunks=7), **options)
    np.testing.assert_allclose(got.compute(), fn(event, happened, **options), rtol=rtol)


def test_dask_is_exact_over_chunks():
    da = pytest.importorskip("dask.array")
    probs, target = drawn(generator("chunks"), 200, 3)
    x = da.from_array(probs, chunks=(9, 3))
    for name, fn in (("brier", fastloss.brier_score), ("calibration", fastloss.calibration_error)):
        pieces = Accumulator(fn)
        for start in range(0, 200, 9):
            pieces.update(probs[start : start + 9], target[start : start + 9])
        np.testing.assert_allclose(fn(x, target).compute(), pieces.compute(), rtol=4e-16)
        score = Accumulator(name)
        score.update(np.log(x), target)
        np.testing.assert_allclose(score.compute(), pieces.compute(), rtol=1e-12)


def test_dask_errors():
    da = pytest.importorskip("dask.array")
    probs, target = np.full((30, 4), 0.25), np.zeros(30, int)
    target[[17, 22]] = 4
    for fn in (fastloss.brier_score, fastloss.calibration_error):
        with pytest.raises(IndexError, match=r"target\[17\] = 4 is not in \[0, 4\)"):
            fn(da.from_array(probs, chunks=(5, 2)), target).compute()
        with pytest.raises(IndexError, match=r"target\[17\] = 4 is not in \[0, 2\)"):
            fn(da.from_array(probs[:, 0], chunks=5), target).compute()
        wrong = probs.copy()
        wrong[21, 3] = 2.0
        with pytest.raises(ValueError, match=r"probs\[21, 3\] = 2.0"):
            fn(da.from_array(wrong, chunks=(5, 2)), target).compute()
        with pytest.raises(ValueError, match=r"probs\[21\] = 2.0"):
            fn(da.from_array(wrong[:, 3], chunks=4), target).compute()
        with pytest.raises(ValueError, match="target: expected shape"):
            fn(da.from_array(probs, chunks=5), target[:3])
    with pytest.raises(ValueError, match="bins"):
        fastloss.calibration_error(da.from_array(probs, chunks=5), target, bins=0)
    assert np.isnan(fastloss.brier_score(da.zeros((0, 3)), da.zeros(0, dtype=int)).compute())


# --- kept plans ---------------------------------------------------------------------------------------------------------


def test_kept_plans_know_their_options():
    probs, target = drawn(generator("plans"), 50, 3)
    for norm, bins, ignored in itertools.product(NORMS, (2, 3, 15), (-100, 0, 1)):
        for _ in range(2):
            got = fastloss.calibration_error(probs, target, norm=norm, bins=bins, ignore_index=ignored)
            expected = exact_calibration(probs, target, bins, norm, ignore_index=ignored)
            np.testing.assert_allclose(got, expected, rtol=1e-12)
    for bad in (True, 15.0):
        with pytest.raises(TypeError, match="bins: expected an integer"):
            fastloss.calibration_error(probs, target, bins=bad)
