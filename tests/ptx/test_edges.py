"""What the matrix has no room for, on the driver without a GPU: grids smaller than the work, the edges of labels, rows of NaN and infinities,
nothing, losses of one's own, and sizes at which rows go another way."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "device")]
import own_losses  # noqa: E402
import own_rows  # noqa: E402
import reference  # noqa: E402
from amounts import mostly_full  # noqa: E402
from compare import assert_ulp, same_bits  # noqa: E402
from on_device import fetched, sent, shifted, transposed  # noqa: E402
from test_matrix import bfloat16, check_rows, generator, twice  # noqa: E402

import fastloss  # noqa: E402
from fastloss.backends.numba_cuda import _launch, softmax  # noqa: E402
from fastloss.places.cuda import repeats  # noqa: E402

INF, NAN = np.inf, np.nan
F32, F64 = np.float32, np.float64


def rows(n_rows, n_classes, dtype=F32, scale=4.0):
    rng = generator("edges", n_rows, n_classes)
    return (rng.normal(size=(n_rows, n_classes)) * scale).astype(dtype), rng.integers(0, n_classes, n_rows)


def there(*arrays):
    return [sent(a) if isinstance(a, np.ndarray) else a for a in arrays]


# --- sizes --------------------------------------------------------------------------------------------------------------

# One lane and two, with vectors; a block; chunks of a row, of which the last is shorter; 128k.
SIZES = [
    (40, 48), (2, 24578), (2, 131072), (1, 131072), (40, 31), (40, 36), (300, 62), (40, 63), (900, 64), (9, 8191), (9, 8193), (3, 16383),
    (3, 16384), (3, 16385), (2500, 16), (1, 128256), (1, 262151),
]  # fmt: skip


@pytest.mark.parametrize(("n_rows", "n_classes"), mostly_full(SIZES, SIZES[:3].__contains__))
def test_where_rows_go_another_way(monkeypatch, n_rows, n_classes):
    check_rows(monkeypatch, "index", "float32", n_rows, n_classes, "rows")


@pytest.mark.parametrize("kind", mostly_full(["softmax", "index slopes", "rank", "smoothed"], {"softmax"}.__contains__))
def test_long_rows(monkeypatch, kind):
    check_rows(monkeypatch, kind, "bfloat16" if kind == "softmax" else "float32", 1, 131072, "rows")


@pytest.mark.parametrize("n_classes", mostly_full([10, 37, 129], (10).__eq__))
def test_rows_that_are_part_of_longer_ones(monkeypatch, n_classes):
    """They start where vectors may, but what is behind them is not theirs."""
    x, y = rows(40, n_classes // 4 * 4 + 4)
    x[:, n_classes:] += 20
    part, labels = sent(x)[:, :n_classes], sent(y % n_classes)
    losses, powers = twice(
        monkeypatch, lambda: [fastloss.cross_entropy(part, labels, reduction="none"), fastloss.softmax(part)]
    )
    assert_ulp(losses, reference.loss("cross_entropy", x[:, :n_classes], y % n_classes, reduction="none"), 2)
    assert_ulp(powers, reference.softmax(x[:, :n_classes]), 4)


# How far a term lies below the largest, every how many-th class is that one, and what a kernel is off by that does without
# the correction: 127 equal terms that a thread adds up, all of which are rounded down; products with log2(e).
FAR_BELOW = {"sums": (2.06365704536438, 128), "products": (7.275749206542969, 16383)}


@pytest.mark.parametrize("corrected", FAR_BELOW)
def test_equal_terms_far_below(monkeypatch, corrected):
    """A thread has 128 of 16383 classes.  The loss is tiny, and nearly twice a power of two, where an ulp is the least of it."""
    gap, among = FAR_BELOW[corrected]
    x = np.full((1, 16383), -gap, F32)
    x[0, : 16383 // among] = 0
    total = np.exp(x.astype(F64)).sum()
    x[0, 16000] = np.log(total / 1.98) + 24 * np.log(2)
    (losses,) = twice(monkeypatch, lambda: [fastloss.cross_entropy(*there(x, np.array([16000])), reduction="none")])
    assert_ulp(losses, reference.loss("cross_entropy", x, np.array([16000]), reduction="none"), 2)


@pytest.mark.parametrize("n_classes", mostly_full([200, 10, 1100, 16386], {200, 1100}.__contains__))
def test_halves_of_any_size(monkeypatch, n_classes):
    """Of one batch per row and of several, by a warp and by a block: far from 0, maxima that come one after the other, and again."""
    monkeypatch.setattr(softmax, "MANY", 0)  # a warp for each row, though they are few
    types = ["float16"] + ["bfloat16"] * (bfloat16 is not None)
    for name in types:
        x, y = rows(9, n_classes, F32, 2.0)
        x += np.array([0, 21, -300, 5000, -6e4, 40, 0, 0, 0])[:, None]
        x[5].sort()
        x[6] = np.repeat(x[6, : -(-n_classes // 5)], 5)[:n_classes]
        x[7, ::2] = -np.inf
        x[8] = np.where(np.arange(n_classes) % 3, -6.5e4, 6.5e4)
        y[::2] = x[::2].argmax(1)
        x = x.astype(name if name == "float16" else bfloat16)
        if name == "bfloat16":
            x[2:4] = (x[2:4].astype(F64) * 6e34).astype(bfloat16)
        (losses,) = twice(monkeypatch, lambda x=x, y=y: [fastloss.cross_entropy(*there(x, y), reduction="none")])
        assert_ulp(losses, reference.loss("cross_entropy", x, y, reduction="none"), 3)


# --- grids smaller than the work ------------------------------------------------------------------------------------------


@pytest.fixture
def two_blocks(monkeypatch):
    """Each block does what several would: on a GPU, grids have thousands of blocks at most."""
    monkeypatch.setattr(_launch, "MAX_BLOCKS", 2)
    repeats._kept.clear()
    yield
    repeats._kept.clear()


@pytest.mark.parametrize(("n_rows", "n_classes"), [(600, 10), (300, 48), (5, 129), (3, 24578)])
def test_rows_on_two_blocks(two_blocks, monkeypatch, n_rows, n_classes):
    x, y = rows(n_rows, n_classes)
    y[::7] = -100
    losses, mean = twice(
        monkeypatch, lambda: [fastloss.cross_entropy(*there(x, y), reduction=r) for r in ("none", "mean")]
    )
    assert_ulp(losses, reference.loss("cross_entropy", x, y, reduction="none"), 2)
    assert_ulp(mean, reference.loss("cross_entropy", x, y), 2)


@pytest.mark.parametrize(("n_rows", "n_classes"), [(600, 10), (5, 129)])
def test_slopes_on_two_blocks(two_blocks, monkeypatch, n_rows, n_classes):
    (x, y), w = rows(n_rows, n_classes, F64), generator("weights", n_classes).uniform(0.5, 2, n_classes)
    moved, weight = there(x, y), sent(w)
    value, slopes = twice(monkeypatch, lambda: fastloss.value_and_grad(fastloss.cross_entropy)(*moved, weight=weight))
    exact, exact_slopes = reference.value_and_grad("cross_entropy", x, y, weight=w)
    assert_ulp(value, exact, 4)
    assert_ulp(slopes, exact_slopes, 8, at=1 / n_rows)


def test_labels_alone_on_two_blocks(two_blocks, monkeypatch):
    x, y = rows(600, 10)
    x, w = -np.abs(x), np.linspace(0.5, 2, 10, dtype=F32)
    value, slopes = twice(monkeypatch, lambda: fastloss.value_and_grad(fastloss.nll_loss)(*there(x, y), weight=sent(w)))
    exact, exact_slopes = reference.value_and_grad("nll_loss", x, y, weight=w)
    assert_ulp(value, exact, 2)
    assert_ulp(slopes, exact_slopes, 4)


LAYOUTS = {"vectors": sent, "shifted": shifted, "strided": transposed}


def elements():
    return generator("two blocks").uniform(0.1, 1, (3, 23, 131)).astype(F32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_elements_on_two_blocks(two_blocks, monkeypatch, reduction, layout):
    x, y, w = elements()
    moved, w = [LAYOUTS[layout](x), sent(y)], w if reduction == "mean" else None
    (got,) = twice(
        monkeypatch, lambda: [fastloss.mse_loss(*moved, reduction=reduction, weight=w if w is None else sent(w))]
    )
    assert_ulp(got, reference.loss("mse_loss", x, y, reduction=reduction, weight=w), 4)


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_along_axes_on_two_blocks(two_blocks, monkeypatch, axis):
    x, y, _ = elements()
    (got,) = twice(monkeypatch, lambda: [fastloss.mse_loss(*there(x, y), axis=axis)])
    assert_ulp(got, reference.loss("mse_loss", x, y, axis=axis), 2)


def test_a_domain_on_two_blocks(two_blocks):
    x, y, _ = elements()
    x[[20, 9], [3, 130]] = 1.5
    with pytest.raises(ValueError, match=r"probs\[9, 130\]"):
        fastloss.binary_cross_entropy(*there(x, y))


def test_details_on_two_blocks(two_blocks, monkeypatch):
    x, _ = rows(5, 40)
    (log_probs,) = twice(monkeypatch, lambda: [fastloss.score(sent(x), top=6).top_log_probs])
    assert_ulp(log_probs, np.take_along_axis(reference.log_softmax(x), reference.descending(x)[:, :6], 1), 2, at=0.1)


def test_comparisons_on_two_blocks(two_blocks, monkeypatch):
    x, y = rows(5, 400)
    other = (x + generator("others").normal(size=x.shape)).astype(F32)
    with fastloss.use_backend("numpy"):
        expected = fastloss.compare(x, other, y)
    got = twice(monkeypatch, lambda: fastloss.compare(*there(x, other, y)))
    for mine, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-9)


# --- sums -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["cross_entropy", "mse_loss"])
def test_sums_of_several_blocks_are_of_doubles(monkeypatch, function):
    arrays = rows(300, 10, F64) if function == "cross_entropy" else generator("doubles").normal(size=(2, 5000))
    moved = there(*arrays)
    (got,) = twice(monkeypatch, lambda: [getattr(fastloss, function)(*moved)])
    assert_ulp(got, reference.loss(function, *arrays), 4)


# --- labels ---------------------------------------------------------------------------------------------------------------

BAD = [
    (5, np.int64),
    (-1, np.int8),
    (2**63 - 1, np.int64),
    (-(2**63), np.int64),
    (2**64 - 100, np.uint64),
    (255, np.uint8),
    (2**31, np.uint32),
]


READERS = {
    "cross_entropy": fastloss.cross_entropy,
    "slopes": fastloss.value_and_grad(fastloss.cross_entropy),
    "nll_loss": fastloss.nll_loss,
    "score": lambda x, y: fastloss.score(x, y, top_k=2),
    "ids": lambda x, y: fastloss.score(x, ids=y.reshape(7, 1)),
    "compare": lambda x, y: fastloss.compare(x, x, y),
}


@pytest.mark.parametrize("n_classes", mostly_full([5, 129], (5).__eq__))
@pytest.mark.parametrize("name", READERS)
def test_labels_that_are_none(name, n_classes):
    """None of them is read from where it would be."""
    x, y = rows(7, n_classes)
    for label, dtype in BAD:
        wrong = np.minimum(y, 100).astype(dtype)
        wrong[4] = label if label != 5 else n_classes
        with pytest.raises(IndexError, match=rf"\[4(, 0)?\] = {wrong[4]} "):
            READERS[name](*there(x, wrong))


def test_the_first_bad_label_of_several_blocks():
    x, y = rows(400, 5)
    for at in (390, 77, 5):
        y[at] = 9
        with pytest.raises(IndexError, match=rf"target\[{at}\] = 9"):
            fastloss.cross_entropy(*there(x, y))


@pytest.mark.parametrize("n_classes", [5, 129])
def test_a_class_that_is_ignored(monkeypatch, n_classes):
    x, y = rows(40, n_classes)
    y[::3] = 3
    w = np.linspace(0.25, 1, n_classes, dtype=F32)
    w[1] = 0
    for options in ({}, {"weight": w}, {"label_smoothing": 0.1}):
        moved = {k: sent(v) if isinstance(v, np.ndarray) else v for k, v in options.items()} | {"ignore_index": 3}
        for name in ("cross_entropy",) if "label_smoothing" in options else ("cross_entropy", "nll_loss"):
            function = getattr(fastloss, name)
            value, slopes = twice(
                monkeypatch, lambda f=function, o=moved: fastloss.value_and_grad(f)(*there(x, y), **o)
            )
            exact, exact_slopes = reference.value_and_grad(name, x, y, ignore_index=3, **options)
            assert_ulp(value, exact, 4, at=0.1)
            assert_ulp(slopes, exact_slopes, 8, at=0.01)


# --- NaN, infinities, ties ------------------------------------------------------------------------------------------------


def special_rows(n_classes):
    x, y = rows(17, n_classes)
    last = n_classes - 1
    x[0, last], x[1, 0], x[2, 1], x[3, 0], x[4], x[5], x[6, ::2] = NAN, NAN, INF, -INF, NAN, -INF, -INF
    x[7, [0, last]], x[8, [1, last]], x[9], x[10, :2] = INF, (NAN, INF), 1.5, x[10].max() + 1
    x[11, [0, last]], x[12] = x[11].max() + 1, np.float32(-3e38)
    x[13, 0], x[14, last] = 100, 300
    x[15] = np.sort(x[15])
    x[16, 4:] = -INF  # all that some lanes have
    y[:4], y[7:12], y[13:15], y[16] = 0, (last, last, 0, 1, last), (0, 0), 1
    return x, y


@pytest.mark.parametrize("n_classes", mostly_full([5, 33, 129], {5, 129}.__contains__))
def test_scores_of_special_values(monkeypatch, n_classes):
    x, y = special_rows(n_classes)
    with fastloss.use_backend("numpy"):
        expected = fastloss.score(x, y, top_k=2)
    scores = twice(monkeypatch, lambda: fastloss.score(*there(x, y), top_k=2)[:6])
    for name, got, right in zip(expected._fields, scores, expected, strict=False):
        np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-30 if name == "nll" else 0, err_msg=name)


SPECIAL = {
    "smoothed": lambda x, y: fastloss.cross_entropy(x, y, label_smoothing=0.1, reduction="none"),
    "softmax": lambda x, y: fastloss.softmax(x),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("n_classes", mostly_full([5, 33, 129], (5).__eq__))
def test_special_values(monkeypatch, name, n_classes):
    x, y = special_rows(n_classes)
    with fastloss.use_backend("numpy"):
        expected = SPECIAL[name](x, y)
    (got,) = twice(monkeypatch, lambda: [SPECIAL[name](*there(x, y))])
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-38)


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_details_of_few_classes(monkeypatch, n_classes):
    """Fewer than the largest that are added in float64; and differences of logits that are no float32."""
    x, _ = rows(8, n_classes)
    x[1:] += generator("fractions").uniform(0, 2.0**-20, x[1:].shape).astype(F32)
    log_probs, entropies = twice(
        monkeypatch, lambda: [(s := fastloss.score(sent(x), top=n_classes, entropy=True)).top_log_probs, s.entropy]
    )
    exact = np.take_along_axis(reference.log_softmax(x), reference.descending(x), 1)
    assert_ulp(log_probs, exact, 2)
    assert_ulp(entropies, reference.entropy(x), 2)


def test_details_that_one_thread_has(monkeypatch):
    """More of the largest elements than a thread keeps at a time, while the next thread has the very largest."""
    x, _ = rows(2, 201)  # which are read one by one
    x[:, 3::32] += 20
    x[:, 4] += 40
    ids, entropies = twice(
        monkeypatch, lambda: [(s := fastloss.score(sent(x), top=9, entropy=True)).top_ids, s.entropy]
    )
    np.testing.assert_array_equal(ids, reference.descending(x)[:, :9])
    assert_ulp(entropies, reference.entropy(x), 2)


ROWS_OF_DETAILS = [(n, kind) for kind in ("normal", "special", "sorted", "equal") for n in (40, 600, 1024)]


@pytest.mark.parametrize(
    ("n_classes", "kind"), mostly_full(ROWS_OF_DETAILS, {(40, "special"), (600, "normal")}.__contains__)
)
@pytest.mark.parametrize("top", [5, pytest.param(40, marks=pytest.mark.full)])
def test_details_of_any_rows(monkeypatch, n_classes, kind, top):
    """Few and many elements at the level, one or several threads' own; NaN, infinities; more wanted than there are groups of threads."""
    x, _ = rows(3, n_classes)
    if kind == "special":
        x[0, n_classes // 2], x[1, n_classes // 3], x[2, 2:] = NAN, INF, -INF
    elif kind == "sorted":
        x = np.sort(x, axis=1)
        x[1] = x[1, ::-1]
    elif kind == "equal":
        x[0], x[1], x[2, n_classes // 2 :] = 1, -INF, x[2].max() + 1
    ids, log_probs, entropies = twice(
        monkeypatch,
        lambda: [(s := fastloss.score(sent(x), top=top, entropy=True)).top_ids, s.top_log_probs, s.entropy],
    )
    order = reference.descending(x)[:, :top]
    np.testing.assert_array_equal(ids, order)
    assert_ulp(log_probs, np.take_along_axis(reference.log_softmax(x), order, 1), 2)
    assert_ulp(entropies, reference.entropy(x), 2)


def test_slopes_of_what_is_nearly_certain(monkeypatch):
    """1 - p, which a difference would lose."""
    x, y = rows(40, 10)
    x[np.arange(40), y] = x.max(axis=1) + np.linspace(5, 15, 40, dtype=F32)
    _, slopes = twice(
        monkeypatch, lambda: fastloss.value_and_grad(fastloss.cross_entropy)(*there(x, y), reduction="sum")
    )
    exact = reference.value_and_grad("cross_entropy", x, y, reduction="sum")[1]
    of_labels = np.arange(40), y
    assert_ulp(slopes[of_labels], exact[of_labels], 8)


def test_weights_of_0_and_losses_that_are_infinite(monkeypatch):
    x, y = rows(6, 5)
    x[2, 1], y[2], w = -INF, 1, np.array([1, 0, 2, 1, 1], F32)
    got, mean = twice(
        monkeypatch,
        lambda: [fastloss.cross_entropy(*there(x, y), weight=sent(w), reduction=r) for r in ("none", "mean")],
    )
    assert got[2] == 0 and np.isfinite(mean)
    assert_ulp(got, reference.loss("cross_entropy", x, y, weight=w, reduction="none"), 2)


def test_compared_rows_that_are_special(monkeypatch):
    r = np.array([[0, -INF], [0, 0], [0, NAN], [0, 0], [0, INF], [-INF, -INF], [0, -INF], [0, -200], [1, 1]], F32)
    x = np.array([[0, 0], [0, -INF], [0, 0], [NAN, 0], [0, 0], [0, 0], [7, -INF], [-200, 0], [2, 2]], F32)
    y = np.zeros(9, np.int64)
    with fastloss.use_backend("numpy"):
        expected = fastloss.compare(r, x, y)
    got = twice(monkeypatch, lambda: fastloss.compare(*there(r, x, y)))
    for mine, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-9)


def test_a_domain_with_its_edges():
    p = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]], F32)
    got = fetched(fastloss.binary_cross_entropy(*there(p, p), reduction="none"))
    assert_ulp(got, reference.loss("binary_cross_entropy", p, p, reduction="none"), 2, at=1e-3)
    got = fetched(fastloss.categorical_cross_entropy(*there(p, np.array([1, 0])), reduction="none"))
    np.testing.assert_array_equal(got, [0, 0])


# --- nothing ----------------------------------------------------------------------------------------------------------------


def test_nothing():
    x, y = np.zeros((0, 5), F32), np.zeros(0, np.int64)
    assert fetched(fastloss.cross_entropy(*there(x, y), reduction="none")).shape == (0,)
    assert fetched(fastloss.cross_entropy(*there(x, y), reduction="sum")) == 0
    assert np.isnan(fetched(fastloss.cross_entropy(*there(x, y))))
    value, slopes = fastloss.value_and_grad(fastloss.cross_entropy)(*there(x, y), reduction="sum")
    assert fetched(value) == 0 and fetched(slopes).shape == (0, 5)
    assert fetched(fastloss.softmax(sent(x))).shape == (0, 5)
    assert fetched(fastloss.mse_loss(*there(x, x), reduction="sum")) == 0
    assert all(fetched(a).shape == (0,) for a in fastloss.score(*there(x, y))[:4])
    assert all(fetched(a).shape == (0,) for a in fastloss.compare(*there(x, x))[:2])


# --- losses of one's own ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mostly_full(own_losses.CASES, {"charbonnier"}.__contains__))
def test_own_losses(monkeypatch, name):
    made, options, _ = own_losses.CASES[name]
    loss, arrays = made(), own_losses.operands(name, "float32")
    values, slopes = own_losses.exact(name, arrays, options)
    moved = there(*arrays)

    def call():
        each = loss(*moved, **options, reduction="none")
        return [each, *fastloss.value_and_grad(loss)(*moved, **options, reduction="sum")]

    each, total, gradient = twice(monkeypatch, call)
    np.testing.assert_allclose(each, values, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(total, values.sum(), rtol=3e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=3e-6, atol=3e-6)


def test_own_losses_of_nan():
    """Those of the elements that are NaN, and no others."""
    x, y = np.array([NAN, 1.0, 0.5], F32), np.array([1.0, NAN, 0.5], F32)
    loss = own_losses.CASES["biweight"][0]()
    np.testing.assert_array_equal(np.isnan(fetched(loss(*there(x, y), reduction="none"))), [True, True, False])


@pytest.mark.parametrize("name", mostly_full(own_rows.CASES, {"focal"}.__contains__))
def test_own_losses_of_rows(monkeypatch, name):
    made, options, _ = own_rows.CASES[name]
    loss = made()
    x, y, w = own_rows.operands((300, 5), -1, "float32")
    losses, gradients, weights = own_rows.exact(name, x, y, w, -1, options)
    moved, options = there(x, y), {"weight": sent(w), **options}

    def call():
        return [loss(*moved, **options, reduction="none"), *fastloss.value_and_grad(loss)(*moved, **options)]

    each, mean, gradient = twice(monkeypatch, call)
    np.testing.assert_allclose(each, losses, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(mean, losses.sum() / weights.sum(), rtol=3e-6)
    np.testing.assert_allclose(gradient, gradients / weights.sum(), rtol=3e-6, atol=3e-6)


def test_the_same_bits_in_any_layout():
    x, y = rows(40, 48)
    results = [fetched(fastloss.cross_entropy(a, sent(y), reduction="none")) for a in (sent(x), shifted(x))]
    assert same_bits(*results)
