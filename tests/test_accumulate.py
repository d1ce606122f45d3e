"""Accumulator: pieces in any order and grouping give what one call over all data gives."""

import copy
import math
import pickle
import threading
from fractions import Fraction

import numpy as np
import pytest
from cases import CASES, PLAIN_CASES, REGRESSION_CASES, generator
from compare import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocesses import check_python

import fastloss
from fastloss import Accumulator
from fastloss._exact import DIGITS, ExactSum

pytestmark = pytest.mark.any_backend
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = 1000


# --- sums ---------------------------------------------------------------------------------------------------------------


def total(values):
    result = ExactSum()
    for value in values:
        result.add(value)
    return result


@settings(deadline=None, database=None)
@given(st.lists(FINITE, max_size=30))
def test_sums_are_exact(values):
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert float(total(values)) == expected
    assert total(reversed(values)).units == total(values).units


@settings(deadline=None, database=None)
@given(st.lists(FINITE, max_size=10), st.lists(FINITE, min_size=1, max_size=10))
def test_quotients_are_rounded_once(a, b):
    numerator, denominator = sum(map(Fraction, a), Fraction(0)), sum(map(Fraction, b), Fraction(0))
    if denominator:
        try:
            expected = float(numerator / denominator)
        except OverflowError:
            expected = math.inf if numerator / denominator > 0 else -math.inf
        assert total(a).divided_by(total(b)) == expected


@settings(deadline=None, database=None)
@given(st.lists(st.lists(FINITE, max_size=5), min_size=1, max_size=20))
def test_arrays_add_up(parts):
    arrays = [total(part).to_array() for part in parts]
    assert all(array.shape == (DIGITS + 1,) and array.dtype == np.float64 for array in arrays)
    together = total(value for part in parts for value in part)
    assert ExactSum.from_array(np.sum(arrays, axis=0)).units == together.units


def test_many_arrays_add_up():
    """Digits as large as they get, often enough to fill their float64."""
    most = total([np.finfo(np.float64).max] * 3).to_array()
    assert ExactSum.from_array(most * 2**20).units == total([np.finfo(np.float64).max]).units * 3 * 2**20


def test_infinities_and_nan():
    inf, nan = math.inf, math.nan
    assert float(total([1.0, inf])) == inf and float(total([-inf, 1.0])) == -inf
    assert math.isnan(float(total([inf, -inf]))) and math.isnan(float(total([nan, 1.0])))
    assert total([inf]).divided_by(total([2.0])) == inf and total([1.0]).divided_by(total([inf])) == 0
    assert math.isnan(total([1.0]).divided_by(total([nan])))
    assert float(ExactSum.from_array(total([1.0, inf]).to_array())) == inf


# --- every loss -----------------------------------------------------------------------------------------------------------


def pieces_of(arrays, n_pieces):
    return [[a[i::n_pieces] for a in arrays] for i in range(n_pieces)]


def merged(case, pieces, options, groups, rng):
    """The pieces spread over so many accumulators, which are merged in a random order."""
    parts = [Accumulator(getattr(fastloss, case.loss), **options) for _ in range(groups)]
    for i in rng.permutation(len(pieces)):
        parts[rng.integers(groups)].update(*pieces[i])
    parts = [parts[i] for i in rng.permutation(groups)]
    result = parts.pop()
    for part in parts:
        result.merge(part)
    return result


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_call_and_many_pieces(case):
    function, rng = getattr(fastloss, case.loss), generator(case)
    arguments = case.cast(case.arguments(rng, (ROWS, 9)), np.float32)
    for reduction in case.reductions:
        if reduction == "none":
            continue
        options = case.options | {"reduction": reduction}
        expected = function(*arguments, **options)
        one = Accumulator(function, **options)
        one.update(*arguments)
        assert type(one.compute()) is np.float64 and np.float32(one.compute()) == expected
        pieces = pieces_of(arguments, ROWS if case in PLAIN_CASES and reduction == "mean" else 30)
        single = merged(case, pieces, options, 1, rng).compute()
        np.testing.assert_allclose(single, one.compute(), rtol=1e-6)
        for groups in (1, 7, len(pieces)):  # the same updates: the same bits
            got = merged(case, pieces, options, groups, rng)
            assert same_bits(got.compute(), single)
            assert got.count == one.count == (ROWS if case.rowwise else ROWS * 9)


@pytest.mark.one_backend
@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_other_pieces_of_the_same_data(case):
    """In float64 nothing but the order of additions within a piece differs."""
    arguments, rng = case.arguments(generator(case), (ROWS, 9)), generator(case)
    results = [merged(case, pieces_of(arguments, n), {}, 3, rng).compute() for n in (1, 7, 100)]
    np.testing.assert_allclose(results, results[0], rtol=1e-14)
    np.testing.assert_allclose(results[0], getattr(fastloss, case.loss)(*arguments), rtol=1e-14)


@pytest.mark.one_backend
def test_class_weights_and_ignored_targets():
    rng = generator("weights")
    logits, target = rng.normal(size=(200, 5)), rng.integers(0, 5, 200)
    target[::3] = 7
    target[:20] = 7  # a piece of nothing but ignored targets
    options = {"weight": rng.random(5), "ignore_index": 7, "label_smoothing": 0.1}
    loss = Accumulator(fastloss.cross_entropy, axis=1, **options)
    for start in range(0, 200, 20):
        loss.update(logits[start : start + 20], target[start : start + 20])
    np.testing.assert_allclose(loss.compute(), fastloss.cross_entropy(logits, target, **options), rtol=1e-14)
    assert loss.count == np.count_nonzero(target != 7)


@pytest.mark.parametrize("case", [case for case in REGRESSION_CASES if not case.options], ids=str)
def test_weights_of_elements(case):
    """With each update, or once for all: the mean divides by their sum."""
    rng = generator(case, "weights")
    arguments, weight = case.arguments(rng, (60, 4)), rng.random((60, 1))
    function = getattr(fastloss, case.loss)
    loss = Accumulator(function)
    for start in range(0, 60, 7):
        piece = slice(start, start + 7)
        loss.update(*(a[piece] for a in arguments), weight=weight[piece])
    np.testing.assert_allclose(loss.compute(), function(*arguments, weight=weight), rtol=1e-14)
    outputs = rng.random(4)
    loss = Accumulator(function, weight=outputs)
    for start in range(0, 60, 7):
        loss.update(*(a[start : start + 7] for a in arguments))
    np.testing.assert_allclose(loss.compute(), function(*arguments, weight=outputs), rtol=1e-14)


@pytest.mark.one_backend
def test_other_operands():
    rng = generator("operands")
    pred, target, var = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), rng.uniform(1, 2, 30)
    gaussian = Accumulator(fastloss.gaussian_nll_loss, full=True)
    layer, labels = rng.normal(size=(8, 3)), rng.integers(0, 8, 30)
    linear = Accumulator(fastloss.linear_cross_entropy, linear_bias=np.ones(8), label_smoothing=0.1)
    positive = Accumulator(fastloss.binary_cross_entropy_with_logits, pos_weight=[1.0, 2.0, 3.0])
    for start in range(0, 30, 10):
        piece = slice(start, start + 10)
        gaussian.update(pred[piece], target[piece], var[piece])
        linear.update(pred[piece], layer, labels[piece])
        positive.update(pred[piece], target[piece] > 0)
    np.testing.assert_allclose(gaussian.compute(), fastloss.gaussian_nll_loss(pred, target, var, full=True), rtol=1e-14)
    expected = fastloss.linear_cross_entropy(pred, layer, labels, linear_bias=np.ones(8), label_smoothing=0.1)
    np.testing.assert_allclose(linear.compute(), expected, rtol=1e-14)
    expected = fastloss.binary_cross_entropy_with_logits(pred, target > 0, pos_weight=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(positive.compute(), expected, rtol=1e-14)


# --- metrics ----------------------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
def test_metrics():
    rng = generator("metrics")
    logits, target = rng.normal(0, 2, (300, 2, 50)), rng.integers(0, 50, (300, 2))
    target[::5] = -1
    logits = np.ascontiguousarray(np.moveaxis(logits, -1, 1))
    options = {"axis": 1, "ignore_index": -1}
    metrics = {name: Accumulator(name, **options) for name in ("perplexity", "bits_per_byte", "accuracy")}
    metrics["top"] = Accumulator("accuracy", top_k=5, **options)
    n_bytes = rng.integers(1, 9, (300, 2))
    for start in range(0, 300, 40):
        piece = slice(start, start + 40)
        for name, metric in metrics.items():
            metric.update(logits[piece], target[piece], *([n_bytes[piece]] if name == "bits_per_byte" else []))
    loss, kept = fastloss.cross_entropy(logits, target, reduction="sum", **options), target != -1
    n = np.count_nonzero(kept)
    got = {name: metric.compute() for name, metric in metrics.items()}
    np.testing.assert_allclose(got["perplexity"], np.exp(loss / n), rtol=1e-13)
    np.testing.assert_allclose(got["bits_per_byte"], loss / np.log(2) / n_bytes.sum(), rtol=1e-13)
    order = np.argsort(-logits, axis=1)
    hits = order == target[:, None]
    assert got["accuracy"] == np.count_nonzero(hits[:, 0] & kept) / n
    assert got["top"] == np.count_nonzero(hits[:, :5].any(axis=1) & kept) / n
    assert all(metric.count == n for metric in metrics.values())


def test_bytes_as_a_number_and_lists():
    metric = Accumulator("bits_per_byte")
    metric.update([[0.0, 0.0]], [1], 1)
    metric.update([[0.0, 0.0]], [0], [3])
    np.testing.assert_allclose(metric.compute(), 0.5, rtol=1e-15)
    accuracy = Accumulator("accuracy")
    accuracy.update([[0.0, 1.0], [1.0, 0.0]], [1, 1])
    assert accuracy.compute() == 0.5


@pytest.mark.filterwarnings("error")
def test_large_and_undefined_values():
    perplexity = Accumulator("perplexity")
    perplexity.update(np.array([[0.0, 2000.0]]), [0])
    assert perplexity.compute() == np.inf
    loss = Accumulator(fastloss.mse_loss)
    loss.update([1.0, np.nan], [1.0, 1.0])
    assert np.isnan(loss.compute()) and loss.count == 2
    loss = Accumulator(fastloss.l1_loss, reduction="sum")
    for value in (1e308, 1e308, -np.inf):
        loss.update([value], [0.0])
    assert loss.compute() == np.inf
    for weights in ([0.0, 0.0], [1.0, -1.0]):
        loss = Accumulator(fastloss.l1_loss, weight=weights)
        loss.update([3.0, 1.0], [0.0, 0.0])
        expected = fastloss.l1_loss([3.0, 1.0], [0.0, 0.0], weight=weights)
        np.testing.assert_array_equal(loss.compute(), expected)


def test_squares_outside_the_range_of_float64():
    errors = [np.array(e) for e in ([1e200, 3e-200], [2.0, 1e-170], [5e-200], [0.0], [1e160, 1e308])]
    whole = np.concatenate(errors)
    for reduction in ("mean", "sum"):
        for part in (slice(None), slice(1, 4), slice(2, 4), slice(0, 1)):
            found = [Accumulator(fastloss.rmse_loss, reduction=reduction) for _ in range(2)]
            for own, order in zip(found, (1, -1), strict=True):
                for e in errors[part][::order]:
                    own.update(e, np.zeros_like(e))
            values = [own.compute() for own in found] + [found[0].from_array(found[1].to_array()).compute()]
            assert same_bits(values[0], values[1]) and same_bits(values[0], values[2])
            wide = np.concatenate(errors[part]).astype(np.longdouble)
            expected = np.sqrt(np.sum(wide**2) / (wide.size if reduction == "mean" else 1))
            assert values[0] == pytest.approx(float(expected), rel=4e-16)
    assert fastloss.rmse_loss(whole, np.zeros_like(whole)) == pytest.approx(1e308 / np.sqrt(whole.size), rel=4e-16)


# --- the object ---------------------------------------------------------------------------------------------------------------


def filled(**options):
    rng = generator("filled")
    loss = Accumulator(fastloss.cross_entropy, **options)
    loss.update(rng.normal(size=(50, 4)), rng.integers(0, 4, 50))
    return loss


def test_empty_and_reset():
    for loss in (Accumulator(fastloss.cross_entropy), Accumulator(fastloss.rmse_loss), Accumulator("perplexity")):
        assert np.isnan(loss.compute()) and loss.count == 0
    assert Accumulator(fastloss.mse_loss, reduction="sum").compute() == 0
    loss = filled()
    loss.reset()
    assert np.isnan(loss.compute()) and loss.count == 0
    loss.update(np.zeros((0, 4)), np.zeros(0, int))
    loss.update(np.zeros((3, 4)), [-100] * 3)
    assert np.isnan(loss.compute()) and loss.count == 0


@pytest.mark.parametrize("copied", [lambda a: pickle.loads(pickle.dumps(a)), copy.deepcopy], ids=["pickle", "copy"])
def test_copies(copied):
    for loss in (filled(weight=np.ones(4), ignore_index=1), Accumulator("accuracy", top_k=2)):
        other = copied(loss)
        assert same_bits(other.compute(), loss.compute()) and other.count == loss.count
        other.merge(loss)
        other.update(np.zeros((2, 4)), [0, 2])
        assert other.count == 2 * loss.count + 2
    assert len(pickle.dumps(filled())) < 1000


def test_another_process_unpickles():
    loss = filled()
    code = f"""
        import pickle
        loss = pickle.loads({pickle.dumps(loss)!r})
        assert loss.count == {loss.count} and str(loss.compute()) == "{loss.compute()}"
        print("fine")
    """
    check_python(code)


def test_arrays_of_processes():
    """As MPI sums them: one array per process, element by element."""
    parts = [filled() for _ in range(5)]
    for i, part in enumerate(parts):
        part.update(np.full((i + 1, 4), 0.1 * i), np.zeros(i + 1, int))
    reduced = np.sum([part.to_array() for part in parts], axis=0)
    result = Accumulator(fastloss.cross_entropy).from_array(reduced)
    for part in parts[1:]:
        parts[0].merge(part)
    assert same_bits(result.compute(), parts[0].compute()) and result.count == parts[0].count
    assert same_bits(result.to_array(), parts[0].to_array())
    with pytest.raises(ValueError, match="array"):
        result.from_array(reduced[:-1])
    for value in (np.inf, np.nan, 0.5):
        for place in (0, 1, 40):  # the count, the digits of one sum, those of another
            spoilt = reduced.copy()
            spoilt[place] = value
            with pytest.raises(ValueError, match=f"array: expected sums of arrays .* got {value}"):
                result.from_array(spoilt)


def test_threads():
    rng = generator("threads")
    pieces = [(rng.normal(size=(5, 4)), rng.integers(0, 4, 5)) for _ in range(400)]
    expected = Accumulator(fastloss.cross_entropy)
    for piece in pieces:
        expected.update(*piece)
    loss, start = Accumulator(fastloss.cross_entropy), threading.Barrier(8)

    def work(number):
        start.wait()
        for piece in pieces[number::8]:
            loss.update(*piece)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same_bits(loss.compute(), expected.compute()) and loss.count == 2000


def test_a_refused_update_adds_nothing():
    loss = filled()
    before = loss.to_array()
    with pytest.raises(IndexError, match=r"target\[1\] = 9"):
        loss.update(np.zeros((2, 4)), [0, 9])
    with pytest.raises(ValueError):
        loss.update(np.zeros((2, 4)), [0, 1, 2])
    assert same_bits(loss.to_array(), before)


def test_errors():
    for fn in (np.mean, "nix", None, fastloss.softmax, fastloss.score, 3):
        with pytest.raises(TypeError, match="Accumulator: expected a loss of fastloss or one of 'perplexity'"):
            Accumulator(fn)
    for fn, options, error, what in [
        (fastloss.cross_entropy, {"nix": 1}, TypeError, "cross_entropy has no option 'nix'"),
        (fastloss.cross_entropy, {"out": np.zeros(())}, TypeError, "out"),
        (fastloss.cross_entropy, {"reduction": "none"}, ValueError, "reduction: .*'none'"),
        (fastloss.cross_entropy, {"reduction": "avg"}, ValueError, "reduction"),
        (fastloss.cross_entropy, {"label_smoothing": 2}, ValueError, "label_smoothing"),
        (fastloss.cross_entropy, {"weight": np.ones((2, 2))}, ValueError, "weight"),
        (fastloss.cross_entropy, {"axis": "x"}, TypeError, "axis"),
        (fastloss.nll_loss, {"ignore_index": 1.5}, TypeError, "ignore_index"),
        (fastloss.mse_loss, {"axis": 0}, TypeError, "axis"),
        (fastloss.mse_loss, {"reduction": "batchmean"}, ValueError, "reduction"),
        (fastloss.huber_loss, {"delta": -1}, ValueError, "delta"),
        (fastloss.gaussian_nll_loss, {"eps": 0}, ValueError, "eps"),
        (fastloss.linear_cross_entropy, {"linear_bias": np.ones((2, 2))}, ValueError, "linear_bias"),
        ("accuracy", {"top_k": 0}, ValueError, "top_k"),
        ("accuracy", {"weight": np.ones(2)}, TypeError, "weight"),
        ("perplexity", {"reduction": "sum"}, TypeError, "reduction"),
    ]:
        with pytest.raises(error, match=what):
            Accumulator(fn, **options)
    with pytest.raises(ValueError, match="same loss and options"):
        filled().merge(filled(ignore_index=3))
    with pytest.raises(ValueError, match="same loss and options"):
        filled().merge(Accumulator("perplexity"))
    with pytest.raises(ValueError, match="n_bytes"):
        Accumulator("bits_per_byte").update(np.zeros((1, 2)), [0], -1)
    with pytest.raises(TypeError, match="weight"):
        Accumulator("accuracy").update(np.zeros((1, 2)), [0], weight=[1.0])
