"""The softmax family on a device against the oracle: every way in which rows are shared out to threads."""

import numpy as np
import pytest
import reference
from cases import ROW_CASES, generator
from compare import assert_ulp, result_dtype
from on_device import LAYOUTS, fetched, sent

import fastloss

try:
    from ml_dtypes import bfloat16

    HALVES = [np.float16, bfloat16]
except ImportError:  # an optional package
    HALVES = [np.float16]
FLOATS = [np.float32, np.float64, *HALVES]

# (n_rows, n_classes): one thread per row, some lanes, a warp, a block, several blocks; vectors that fit and that do not
SIZES = [(5, 1), (5, 2), (9, 8), (3, 13), (7, 24), (6, 30), (5, 60), (4, 61), (6, 200), (2, 203), (1, 200), (0, 4)]

TOLERANCE = {"ulp": 3, "at": 1e-3}

# Each size and each type by default, not each pair of them: the simulator takes as long for an instruction as a CPU for thousands.
pytestmark = pytest.mark.expensive


def logits_of(rng, n_rows, n_classes, dtype, scale=4.0):
    return (rng.normal(size=(n_rows, n_classes)) * scale).astype(dtype)


def labels_of(rng, n_rows, n_classes, dtype=np.int64, ignore=None):
    labels = rng.integers(0, n_classes, n_rows).astype(dtype)
    if ignore is not None and n_rows:
        labels[rng.integers(0, n_rows)] = ignore
    return labels


def check(name, arguments, options, *, layout=sent, gradient=True, ulp=0):
    """Value for each reduction, and gradient, against the oracle; `ulp` are allowed where that is more than for cross-entropy."""
    plain = TOLERANCE | {"ulp": max(TOLERANCE["ulp"], ulp)}
    expected_dtype = result_dtype(*(a.dtype for a in arguments if a.dtype.kind not in "iub"))
    function = getattr(fastloss, name)
    there = [layout(a) for a in arguments]
    moved = {key: sent(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    for reduction in ("none", "mean", "sum"):
        got = function(*there, reduction=reduction, **moved)
        exact = reference.loss(name, *arguments, reduction=reduction, **options)
        assert got.shape == np.shape(exact) and got.dtype == expected_dtype
        exactly = reduction == "none" and arguments[0].dtype == np.float32 and not options
        tolerance = {"ulp": max(2, ulp)} if exactly else plain
        assert_ulp(fetched(got), exact, **tolerance, what=f"{name} {reduction} {options}")
        if gradient and reduction != "none":
            got, slopes = fastloss.value_and_grad(function)(*there, reduction=reduction, **moved)
            exact, exact_slopes = reference.value_and_grad(name, *arguments, reduction=reduction, **options)
            assert_ulp(fetched(got), exact, **plain, what="value with gradient")
            assert slopes.dtype == expected_dtype
            assert_ulp(fetched(slopes), exact_slopes, 12, at=0.5, what=f"gradient {reduction} {options}")


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_indices(size, dtype):
    rng = generator("indices", size)
    check("cross_entropy", (logits_of(rng, *size, dtype), labels_of(rng, *size, ignore=-100)), {})


@pytest.mark.parametrize("size", [(5, 2), (7, 24), (4, 61), (6, 200), (1, 200)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{"label_smoothing": 0.1}, {"weight": True}, {"weight": True, "label_smoothing": 0.3, "ignore_index": 1}],
    ids=str,
)
def test_options(size, options):
    rng = generator("options", size)
    if options.get("weight"):
        options = options | {"weight": rng.uniform(0, 2, size[1]).astype(np.float32)}
    check("cross_entropy", (logits_of(rng, *size, np.float32), labels_of(rng, *size)), options)


@pytest.mark.parametrize("size", [(5, 1), (5, 2), (7, 24), (6, 30), (4, 61), (6, 200), (1, 200)], ids=str)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": True}], ids=str)
def test_probabilities(size, options):
    rng = generator("probabilities", size)
    if options.get("weight"):
        options = {"weight": rng.uniform(0, 2, size[1]).astype(np.float32)}
    y = rng.dirichlet(np.ones(size[1]), size[0]).astype(np.float32)
    check("cross_entropy", (logits_of(rng, *size, np.float32), y), options)


def steep(case):
    """How many ulp are allowed of formulas that multiply what a row's likelihood is off by."""
    return case.tolerance(np.float32) if case.loss == "focal_loss" else 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", ROW_CASES, ids=str)
def test_layouts(case, layout):
    for size in [(5, 8), (3, 70)]:
        arguments = case.cast(case.arguments(generator(case, size), size), np.float32)
        check(case.loss, arguments, case.options, layout=layout, ulp=steep(case))


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("case", ROW_CASES, ids=str)
def test_axes(case, axis):
    shape = (3, 4, 5)
    moved = np.moveaxis(np.zeros(shape), axis, -1).shape
    arguments = case.cast(case.arguments(generator(case, axis), moved), np.float32)
    arguments = [np.moveaxis(a, -1, axis) if a.ndim == 3 else a for a in arguments]
    check(case.loss, arguments, case.options | {"axis": axis}, ulp=steep(case))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, np.bool_])
def test_label_dtypes(dtype):
    rng = generator("labels", dtype)
    n_classes = 2 if dtype is np.bool_ else 9
    check(
        "cross_entropy",
        (logits_of(rng, 6, n_classes, np.float32), labels_of(rng, 6, n_classes, dtype)),
        {},
        gradient=False,
    )


@pytest.mark.parametrize("size", [(5, 1), (5, 2), (7, 24), (4, 61), (6, 200), (1, 200)], ids=str)
@pytest.mark.parametrize("name", ["logsumexp", "log_softmax", "softmax"])
def test_normalise(name, size):
    rng = generator(name, size)
    for dtype in (np.float32, np.float64):
        x = logits_of(rng, *size, dtype)
        got = getattr(fastloss, name)(sent(x))
        assert got.dtype == dtype
        assert_ulp(fetched(got), getattr(reference, name)(x), 8, at=1e-3)
        got = getattr(fastloss, name)(sent(x.T), axis=0)
        assert_ulp(fetched(got), getattr(reference, name)(x.T, axis=0), 8, at=1e-3)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("size", [(5, 1), (5, 2), (9, 8), (7, 24), (4, 61), (6, 200), (1, 200)], ids=str)
def test_scores(size, dtype):
    rng = generator("score", size)
    x = np.rint(logits_of(rng, *size, np.float32)).astype(dtype)  # with ties
    y = labels_of(rng, *size, ignore=-100)
    got = fastloss.score(sent(x), sent(y), top_k=3)
    expected = fastloss.score(x, y, top_k=3)
    counted = y >= 0
    for name in ("argmax", "correct", "rank", "in_top_k"):
        np.testing.assert_array_equal(fetched(getattr(got, name)), getattr(expected, name), err_msg=name)
    assert_ulp(fetched(got.lse), reference.logsumexp(x), 3)
    nll = reference.loss("cross_entropy", x, y, reduction="none")
    assert_ulp(fetched(got.nll)[counted], nll[counted], **TOLERANCE)
    assert fastloss.score(sent(x), sent(y)).rank is None


SPECIAL = [
    [np.nan, 1.0, 2.0],
    [-np.inf, 1.0, 2.0],
    [1.0, -np.inf, -np.inf],
    [-np.inf, -np.inf, -np.inf],
    [np.inf, 1.0, 2.0],
    [1.0, np.inf, 2.0],
    [np.inf, np.inf, 0.0],
    [np.inf, np.inf, np.nan],
    [20.0, 0.0, 0.0],
    [80.0, 0.0, 1.0],
    [3e38, -3e38, 0.0],
    [0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("row", SPECIAL, ids=str)
def test_special_values(row, wide):
    """Each alone, and as part of a long row of -inf."""
    x = np.full((1, 130 if wide else 3), -np.inf, np.float32)
    x[0, :3] = row
    for label in range(3):
        y = np.array([label])
        got = fastloss.cross_entropy(sent(x), sent(y), reduction="none")
        assert_ulp(fetched(got), reference.loss("cross_entropy", x, y, reduction="none"), 2)
        scores, expected = fastloss.score(sent(x), sent(y), top_k=2), fastloss.score(x, y, top_k=2)
        for name in ("argmax", "correct", "rank", "lse"):
            np.testing.assert_allclose(fetched(getattr(scores, name)), getattr(expected, name), rtol=1e-6, err_msg=name)
    for name in ("logsumexp", "log_softmax", "softmax"):
        assert_ulp(fetched(getattr(fastloss, name)(sent(x))), getattr(fastloss, name)(x), 2, at=1e-6, what=name)


def test_tiny_loss_keeps_its_accuracy():
    x = np.array([[20.0, 0.0, 0.0], [0.0, 30.0, 0.123]], np.float32)
    y = np.array([0, 1])
    got = fastloss.cross_entropy(sent(x), sent(y), reduction="none")
    assert_ulp(fetched(got), reference.loss("cross_entropy", x, y, reduction="none"), 2)


def test_positions_of_libraries_without_int64(monkeypatch):
    from fastloss.places.cuda.arrays import Numba

    monkeypatch.setattr(Numba, "index_type", staticmethod(lambda: "int32"), raising=False)
    rng = generator("int32")
    for n_classes in (5, 200):
        x, y = logits_of(rng, 6, n_classes, np.float32), labels_of(rng, 6, n_classes)
        got, expected = fastloss.score(sent(x), sent(y), top_k=2), fastloss.score(x, y, top_k=2)
        for name in ("argmax", "rank", "correct", "in_top_k"):
            np.testing.assert_array_equal(fetched(getattr(got, name)), getattr(expected, name), err_msg=name)
        assert got.argmax.dtype == got.rank.dtype == np.int32


TRANSFORMS = [{"temperature": 0.7}, {"softcap": 2.0, "temperature": 1.5}, {"softcap": 3.0, "temperature": 1e-280}]


@pytest.mark.parametrize("options", TRANSFORMS, ids=str)
@pytest.mark.parametrize("size", [(5, 2), (7, 24), (6, 200), (1, 200), (0, 4)], ids=str)
def test_transforms(size, options):
    """A soft cap and a temperature in everything that is made of logits."""
    rng = generator("transforms", size)
    for dtype in FLOATS:
        x, y = logits_of(rng, *size, dtype), labels_of(rng, *size, ignore=-100)
        for name in ("logsumexp", "log_softmax", "softmax"):
            function = getattr(fastloss, name)
            for a, axis in ((x, -1), (x.T.copy(), 0)):
                got, expected = fetched(function(sent(a), axis=axis, **options)), function(a, axis=axis, **options)
                assert got.dtype == result_dtype(x.dtype)
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        got, expected = fastloss.score(sent(x), sent(y), top_k=3, **options), fastloss.score(x, y, top_k=3, **options)
        for name in ("argmax", "correct", "rank", "in_top_k"):
            np.testing.assert_array_equal(fetched(getattr(got, name)), getattr(expected, name), err_msg=name)
        if options["temperature"] > 1e-3:
            check("cross_entropy", (x, y), options)
            more = options | {"top": min(2, size[1]), "entropy": True}
            details, wanted = fastloss.score(sent(x), **more), fastloss.score(x, **more)
            for name in ("top_ids", "top_log_probs", "entropy"):
                np.testing.assert_allclose(fetched(getattr(details, name)), getattr(wanted, name), rtol=1e-5, atol=1e-6)
            assert_ulp(fetched(got.nll), expected.nll, 4, at=1e-3)
            assert_ulp(fetched(got.lse), reference.logsumexp(x, **options), 8, at=1e-3)


def test_results_of_transforms_go_where_they_are_wanted():
    rng = generator("out")
    x, y = logits_of(rng, 6, 20, np.float32), labels_of(rng, 6, 20)
    options = {"softcap": 2.0, "temperature": 1.5}
    for dtype in (np.float32, np.float64):
        out = sent(np.zeros(6, dtype))
        assert fastloss.cross_entropy(sent(x), sent(y), reduction="none", out=out, **options) is out
        assert_ulp(fetched(out).astype(np.float32), fastloss.cross_entropy(x, y, reduction="none", **options), 3)
        out = sent(np.zeros((6, 20), dtype))
        assert fastloss.value_and_grad(fastloss.cross_entropy)(sent(x), sent(y), out=out, **options)[1] is out
        expected = fastloss.value_and_grad(fastloss.cross_entropy)(x, y, **options)[1]
        np.testing.assert_allclose(fetched(out), expected, rtol=1e-5, atol=1e-8)
        out = sent(np.zeros((6, 20), dtype))
        assert fastloss.softmax(sent(x), out=out, **options) is out
        np.testing.assert_allclose(fetched(out), fastloss.softmax(x, **options), rtol=1e-5)
    with pytest.raises(IndexError, match="20"):
        fastloss.cross_entropy(sent(x), sent(np.full(6, 20)), **options)
