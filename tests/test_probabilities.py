"""Probabilities where kernels read all of them: each is checked, wherever it lies, and Brier scores add up each."""

import functools
import math

import numpy as np
import pytest
from cases import generator
from compare import assert_ulp, result_dtype, same_bits
from layouts import KEEPING_DTYPE

import fastloss

DTYPES = [np.float32, np.float64, np.float16]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)

# (rows, classes): fewer and more than kernels take at a time of either, and than vectors and blocks have.
SHAPES = [
    (1, 1),
    (700, 1),
    (1100, 2),
    (513, 3),
    (129, 16),
    (65, 33),
    (3, 1023),
    (5, 2047),
    (2, 2049),
    (1, 9001),
    (140, 300),
]

both_gradients = fastloss.value_and_grad(fastloss.categorical_cross_entropy)


def drawn(shape, dtype=np.float32):
    """Probabilities, nearly right ones among them, and labels."""
    rng = generator("probabilities", shape)
    n_rows, n_classes = shape
    target = rng.integers(0, n_classes, n_rows)
    probs = rng.random(shape) / n_classes
    probs[::3] *= 1e-4
    probs[np.arange(n_rows), target] += 0.25 * (n_classes > 1)
    return probs.astype(dtype), target


def exact_brier(probs, target, counted=None):
    """The mean over the rows that count, correctly rounded to float64."""
    hot = np.arange(probs.shape[1]) == target[:, None]
    squares = [(p.astype(np.longdouble) - h) ** 2 for p, h in zip(probs.astype(np.float64), hot, strict=True)]
    squares = [row for row, c in zip(squares, counted if counted is not None else [True] * len(hot), strict=True) if c]
    return math.fsum(float(v) for row in squares for v in row) / len(squares)


def placed(probs, axis, after=1):
    """The same rows with their classes along an axis: the last of two, the first of two, or that in the middle."""
    if axis == 0:
        return np.ascontiguousarray(probs.T)
    return probs if axis == -1 else np.ascontiguousarray(probs.reshape(after, -1, probs.shape[1]).transpose(0, 2, 1))


@by_dtype
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_brier_scores_of_many_shapes(shape, axis, dtype):
    probs, target = drawn(shape, dtype)
    ulp = 1 if result_dtype(dtype) == np.float32 else 8
    x, y = placed(probs, axis), target[None] if axis == 1 else target
    assert_ulp(fastloss.brier_score(x, y, axis=axis), exact_brier(probs, target), ulp, what=str(axis))
    if len(target) > 1:
        counted = np.arange(len(target)) % 3 > 0
        left_out = np.where(counted, y, -100)
        damaged = probs.copy()
        damaged[~counted] = np.nan
        got = fastloss.brier_score(placed(damaged, axis), left_out, axis=axis)
        assert_ulp(got, exact_brier(probs, target, counted), ulp, what="some left out")


@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda f: f.__name__)
@by_dtype
def test_brier_scores_however_they_lie(dtype, layout):
    ulp = 1 if result_dtype(dtype) == np.float32 else 8
    for shape in ((90, 3), (70, 40), (6, 2050)):
        probs, target = drawn(shape, dtype)
        x, y = layout(probs), layout(target)
        expected = exact_brier(np.asarray(x), np.asarray(y))
        assert_ulp(fastloss.brier_score(x, y), expected, ulp, what=str(shape))
    p = np.random.default_rng(0).random(3000).astype(dtype)
    hits = np.arange(3000) % 3 == 0
    x, y = layout(p), layout(hits)
    expected = math.fsum((np.asarray(x, np.float64) - np.asarray(y)) ** 2) / 3000
    assert_ulp(fastloss.brier_score(x, y), expected, ulp, what="event")


def test_brier_scores_that_are_tiny():
    """Nothing cancels, and nothing underflows in float32."""
    for n_classes in (2, 5, 100, 3000):
        probs = np.full((200, n_classes), 1e-25, np.float32)
        probs[:, 0] = 1.0
        expected = np.float32((n_classes - 1) * float(np.float32(1e-25)) ** 2)
        for x, axis in ((probs, -1), (np.ascontiguousarray(probs.T), 0)):
            assert_ulp(fastloss.brier_score(x, np.zeros(200, int), axis=axis), expected, 1, what=str(n_classes))


def test_any_number_of_threads():
    for shape in ((300_000, 2), (60_000, 10), (9000, 100), (30, 40_000)):
        probs, target = drawn(shape)
        for x, y, axis in ((probs, target, -1), (placed(probs, 1), target[None], 1)):
            for fn in (fastloss.brier_score, fastloss.categorical_cross_entropy):
                found = []
                for n_threads in (1, 2, 3):
                    with fastloss.use_threads(n_threads):
                        found.append(fn(x, y, axis=axis))
                assert same_bits(found[0], found[1]) and same_bits(found[0], found[2]), (shape, axis)


# --- checks -------------------------------------------------------------------------------------------------------------


def calls(x, y, axis):
    """All calls that look at each probability, by name."""
    yield "brier", functools.partial(fastloss.brier_score, x, y, axis=axis)
    for reduction in ("mean", "sum", "none"):
        yield reduction, functools.partial(fastloss.categorical_cross_entropy, x, y, axis=axis, reduction=reduction)
    yield "gradient", functools.partial(both_gradients, x, y, axis=axis)


@by_dtype
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_probability_is_checked(shape, axis, dtype):
    rng = generator("every", shape)
    probs, target = drawn(shape, dtype)
    x, y = placed(probs, axis), target[None] if axis == 1 else target
    for call in dict(calls(x, y, axis)).values():
        call()
    above = (np.ones(1, x.dtype).view(f"u{x.itemsize}") + np.ones(1, f"u{x.itemsize}")).view(x.dtype)  # the next number
    least = np.ones(1, f"u{x.itemsize}").view(x.dtype)
    for at in {0, 1, 63, 64, x.size - 1, int(rng.integers(x.size)), int(rng.integers(x.size))}:
        if at >= x.size:
            continue
        place = np.unravel_index(at, x.shape)
        kept = x[place]
        shown = ", ".join(map(str, place))
        for value in (above[0], -least[0], np.inf, -np.inf):
            x[place] = value
            for name, call in calls(x, y, axis):
                with pytest.raises(ValueError, match=rf"probs: expected values in \[0, 1\], got probs\[{shown}\] = "):
                    call()
                    pytest.fail(f"{name}: {value} at {place}")
        for value, fine in ((-0.0, 0.0), (1.0, 1.0)):
            results = []
            for v in (value, fine):
                x[place] = v
                results.append(fastloss.brier_score(x, y, axis=axis))
            assert same_bits(*results)
        x[place] = np.nan
        assert np.isnan(fastloss.brier_score(x, y, axis=axis))
        fastloss.categorical_cross_entropy(x, y, axis=axis)
        x[place] = kept


@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda f: f.__name__)
def test_every_probability_is_checked_however_it_lies(layout):
    for shape in ((7, 3), (70, 5), (3, 700)):
        probs, target = drawn(shape)
        for at in (0, probs.size // 2, probs.size - 1):
            for value in (1.5, -1e-40):
                damaged = probs.copy()
                damaged.reshape(-1)[at] = value
                x, y = layout(damaged), layout(target)
                if not np.any((np.asarray(x) < 0) | (np.asarray(x) > 1)):  # some layouts leave out elements
                    continue
                for name, call in calls(x, y, -1):
                    with pytest.raises(ValueError, match="probs"):
                        call()
                        pytest.fail(name)


def test_nothing_is_written_before_all_has_been_checked():
    probs, target = drawn((4000, 12))
    probs[3999, 11] = 1.5
    losses, slopes = np.full(4000, 7.0, np.float32), np.full((4000, 12), 7.0, np.float32)
    with pytest.raises(ValueError, match=r"probs\[3999, 11\] = 1.5"):
        fastloss.categorical_cross_entropy(probs, target, reduction="none", out=losses)
    with pytest.raises(ValueError, match=r"probs\[3999, 11\] = 1.5"):
        both_gradients(probs, target, out=slopes)
    assert np.all(losses == 7.0) and np.all(slopes == 7.0)
    probs[3999, 11], target[5] = 0.5, 12
    with pytest.raises(IndexError, match=r"target\[5\] = 12"):
        fastloss.categorical_cross_entropy(probs, target, reduction="none", out=losses)
    with pytest.raises(IndexError, match=r"target\[5\] = 12"):
        both_gradients(probs, target, out=slopes)
    assert np.all(losses == 7.0) and np.all(slopes == 7.0)
    target[5] = 11
    expected = fastloss.categorical_cross_entropy(probs, target, reduction="none")
    assert same_bits(fastloss.categorical_cross_entropy(probs, target, reduction="none", out=losses), expected)
    _, gradient = both_gradients(probs, target)
    assert same_bits(both_gradients(probs, target, out=slopes)[1], gradient)
    own = probs[np.arange(4000), target].astype(np.float64)
    np.testing.assert_allclose(gradient[np.arange(4000), target], -1.0 / own / 4000, rtol=1e-6)
    assert np.count_nonzero(gradient) == 4000
