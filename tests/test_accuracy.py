"""Losses per row and element to within 2 ulp of the exact value, also when they are tiny.

The exact values come from the extended precision of the oracle, which test_reference.py holds against mpmath: an
mpmath exponential of each of 128256 logits of many rows would take minutes.
"""

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp

import fastloss

F32 = np.float32


def check_rows(logits, target, ulp=2, **options):
    """With the classes on the last axis, and on the first, whose loops are others."""
    logits, target = np.asarray(logits), np.asarray(target)
    exact = reference.loss("cross_entropy", logits, target, reduction="none", **options)
    got = fastloss.cross_entropy(logits, target, reduction="none", **options)
    assert_ulp(got, exact, ulp, what="classes on the last axis")
    flipped = np.ascontiguousarray(logits.T)
    target = np.ascontiguousarray(target.T) if target.ndim == 2 else target
    got = fastloss.cross_entropy(flipped, target, axis=0, reduction="none", **options)
    assert_ulp(got, exact, ulp, what="classes on the first axis")


# Where the ways through the kernels part: registers of 8 and 16 lanes, groups of 32 classes, rows from 128 classes on and their
# steps of 128, rows that are finished one by one.
BORDERS = [
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    191,
    192,
    193,
    255,
    256,
    257,
    1024,
    8191,
    8192,
    8193,
]


@pytest.mark.parametrize("gap", [0, 30, -30], ids=["any", "confident", "wrong"])
@pytest.mark.parametrize("n_classes", BORDERS)
def test_shapes_at_borders(n_classes, gap):
    """Targets in the first, the last and other places; as many rows as leave a part of every tile over."""
    rng = generator("borders", n_classes, gap)
    n_rows = 67
    logits = rng.normal(0, 4, (n_rows, n_classes)).astype(F32)
    target = np.concatenate([[0, n_classes - 1, n_classes // 2], rng.integers(0, n_classes, n_rows - 3)])
    logits[np.arange(n_rows), target] += gap
    check_rows(logits, target)
    hot = np.zeros_like(logits)
    hot[np.arange(n_rows), target] = 1
    check_rows(logits, hot)


def test_sums_that_begin_low():
    """Maxima that rise along the row, by little and by much, and masked beginnings."""
    n_classes = 1500
    ramps = [np.linspace(0, top, n_classes) for top in (1, 29, 31, 100, 3000, 25000)]
    steps = [np.repeat([-1e4, -50.0, 0.0], 500), np.repeat([-np.inf, 0.0, 40.0], 500)]
    logits = np.array([*ramps, *steps, *(row[::-1] for row in (*ramps, *steps))]).astype(F32)
    for label in (0, 700, 1499):
        finite = np.isfinite(logits[:, label])
        check_rows(logits[finite], np.full(finite.sum(), label))


def test_the_first_example():
    got = fastloss.cross_entropy(np.array([[20, 0, 0]], F32), np.array([0]))
    assert type(got) is F32
    exact = np.longdouble("4.1223072363804072e-9")  # log(1 + 2 exp(-20))
    assert_ulp(got, exact, 2)
    assert_ulp(fastloss.cross_entropy(np.array([[20, 0, 0]], F32), np.array([[1, 0, 0]], F32)), exact, 2)


@pytest.mark.parametrize("scale", [0.1, 1, 3, 10, 30])
@pytest.mark.parametrize("n_classes, n_rows", [(2, 3000), (10, 3000), (1000, 100), (32000, 8), (128256, 3)])
def test_random_rows(n_classes, n_rows, scale):
    rng = generator("random", n_classes, scale)
    logits = rng.normal(0, scale, (n_rows, n_classes)).astype(F32)
    check_rows(logits, rng.integers(0, n_classes, n_rows))
    check_rows(logits, logits.argmax(axis=1))  # the smallest losses of the rows


@pytest.mark.parametrize("n_classes", [2, 3, 10, 17, 1000, 32000, 128256])
def test_tiny_losses(n_classes):
    """The target's logit stands 15 to 100 above the rest: down to 1e-44, where single precision ends."""
    rng = generator("tiny", n_classes)
    gaps = np.array([15, 16, 16.5, 17, 20, 30, 50, 80, 86, 87.5, 90, 100], F32)
    gaps = gaps if n_classes < 10000 else gaps[::4]
    target = rng.integers(0, n_classes, len(gaps))
    target[:2] = [0, n_classes - 1]
    for spread in (0, 1):
        logits = rng.normal(0, spread, (len(gaps), n_classes)).astype(F32)
        logits[np.arange(len(gaps)), target] = gaps
        check_rows(logits, target)


def test_tiny_losses_in_double_precision():
    for n_classes in (3, 1000):
        gaps = np.array([15, 30, 36, 37, 40, 100, 300, 700, 740], np.float64)
        logits = np.zeros((len(gaps), n_classes))
        logits[:, n_classes // 2] = gaps
        # float64 sums are plain ones: equal terms may round the same way at each addition
        check_rows(logits, np.full(len(gaps), n_classes // 2), ulp=4 + n_classes)


@pytest.mark.any_backend("dtype")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits(dtype):
    """They are read as they are: the error is that of float32 arithmetic on exact input."""
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.float16
    rng = generator("half")
    for n_classes, n_rows in [(10, 500), (1000, 50), (32000, 3)]:
        logits = rng.normal(0, 3, (n_rows, n_classes)).astype(dtype)
        check_rows(logits, rng.integers(0, n_classes, n_rows))
    check_rows(np.array([[20, 0, 0], [0, 100, 0]], dtype), np.array([0, 1]))


@pytest.mark.parametrize("n_classes", [2, 3, 16, 1000, 32000])
def test_ties(n_classes):
    """Several classes attain the maximum, the target among them or not."""
    rows = np.zeros((4, n_classes), F32)
    rows[1, : n_classes // 2] = 25  # half of them
    rows[2, [0, -1]] = 60  # two
    rows[3] = -7.25
    for label in (0, n_classes - 1):
        check_rows(rows, np.full(4, label))


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6, -1e30, 3e38, -3e38])
def test_large_offsets(offset):
    """The loss sees differences only. The oracle gets the rounded logits."""
    rng = generator("offset")
    logits = (rng.normal(0, 5, (50, 100)) + offset).astype(F32)
    check_rows(logits, rng.integers(0, 100, 50))
    check_rows(logits, logits.argmax(axis=1))


def test_wide_range():
    """Differences beyond what exp can take, up to the ends of single precision."""
    logits = np.array([[0, 500, -500, 3e38], [3e38, 0, 0, 0], [-1e5, 0, 1e5, 0], [88, 0, -88, 89]], F32)
    for label in range(4):
        check_rows(logits, np.full(4, label))


@pytest.mark.parametrize("n_classes", [2, 10, 1000])
def test_masked_classes(n_classes):
    """-inf is a class of probability 0: the loss is that of the other classes."""
    rng = generator("masked", n_classes)
    logits = rng.normal(0, 3, (20, n_classes)).astype(F32)
    target = rng.integers(0, n_classes, 20)
    masked = rng.random(logits.shape) < 0.5
    masked[np.arange(20), target] = False
    masked[:2] = np.arange(n_classes) != target[:2, None]  # nothing but the target is left: the loss is 0
    check_rows(np.where(masked, F32(-np.inf), logits), target)
    assert fastloss.cross_entropy(np.where(masked, F32(-np.inf), logits)[:2], target[:2]) == 0


@pytest.mark.parametrize("n_classes", [3, 1000])
def test_probabilities_and_smoothing(n_classes):
    """Sums of positive terms, so as good as their terms but for the rounding of the targets' weights."""
    rng = generator("soft", n_classes)
    logits = rng.normal(0, 3, (50, n_classes)).astype(F32)
    target = rng.dirichlet(np.ones(n_classes), 50).astype(F32)
    check_rows(logits, target, ulp=4)
    check_rows(logits, target, ulp=4, label_smoothing=0.1)
    check_rows(logits, rng.integers(0, n_classes, 50), ulp=4, label_smoothing=0.1)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("n_classes", [2, 5, 128, 1000])
def test_gradients_of_smoothed_rows(n_classes, smoothing):
    """Also where they take the logits' place.  The share that is taken from all classes cancels by its nature."""
    rng = generator("gradients of smoothed rows", n_classes)
    n_rows = max(2000 // n_classes, 24)
    x = rng.normal(size=(n_rows, n_classes)) * rng.choice([0.1, 3, 300], (n_rows, 1)) + rng.choice(
        [0, 1e5], (n_rows, 1)
    )
    x = x.astype(F32)
    target = np.where(rng.random(n_rows) < 0.5, x.argmax(axis=1), rng.integers(0, n_classes, n_rows))
    target[3], x[3, 0] = -100, np.nan
    x[5, (target[5] + 1) % n_classes] = -np.inf
    options = {"label_smoothing": smoothing, "reduction": "sum"}
    finite = np.arange(n_rows) != 5  # its loss is infinite
    exact = reference.value_and_grad("cross_entropy", x[finite], target[finite], **options)
    rows = fastloss.value_and_grad(fastloss.cross_entropy)(x[finite], target[finite], **options)
    across = x[finite].T.copy()
    columns = fastloss.value_and_grad(fastloss.cross_entropy)(across, target[finite], axis=0, out=across, **options)
    for value, slopes in (rows, (columns[0], columns[1].T)):
        assert_ulp(value, exact[0], 4)
        assert_ulp(slopes, exact[1], 4, at=smoothing)
        assert not slopes[3].any()
    masked = fastloss.value_and_grad(fastloss.cross_entropy)(x, target, **options)[1]
    assert np.isfinite(masked).all()


@pytest.mark.parametrize("name, ulp, at", [("log_softmax", 2, 0), ("softmax", 64, 0), ("logsumexp", 2, 1)])
@pytest.mark.parametrize("n_classes", [10, 32000])
def test_softmax_functions(name, ulp, at, n_classes):
    """softmax far from the maximum inherits the rounding of x - max, here up to 60 wide."""
    x = generator(name).normal(0, 8, (5, n_classes)).astype(F32)
    x[0, 0] += 30
    assert_ulp(getattr(fastloss, name)(x), getattr(reference, name)(x), ulp, at=at)
    assert_ulp(getattr(fastloss, name)(x.T.copy(), axis=0).T, getattr(reference, name)(x), ulp, at=at)
