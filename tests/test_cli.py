"""The command line's figures: real data, every option, chunks against whole files, guesses, output."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss import _info
from fastloss.cli import commands, main
from fastloss.cli.eval.plan.losses import LOSSES
from fastloss.cli.eval.work.best import best_class
from fastloss.cli.printing import as_json

DATA = Path(__file__).parent / "data"
DIGITS = (DATA / "digits_logits.npy", DATA / "digits_labels.npy")
CANCER = (DATA / "cancer_probs.npy", DATA / "cancer_labels.npy")
DIABETES = (DATA / "diabetes_pred.npy", DATA / "diabetes_target.npy")

# float32 losses are rounded once in the library and summed in float64 here, or the other way round
FLOAT32 = 3e-7


def strict(text):
    """Parse JSON that is JSON: no bare NaN, one line, nothing else."""
    assert text.endswith("\n") and text.count("\n") == 1

    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def evaluate(capsys):
    """Run `fastloss eval ... --json` in this process and return the object it printed."""

    def run(*arguments):
        code = main(["eval", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return strict(captured.out)

    return run


@pytest.fixture
def text(capsys):
    """Run `fastloss ...` in this process and return the lines it printed, by their first word."""

    def run(*arguments):
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return {line.split()[0]: line.split(maxsplit=1)[1] for line in captured.out.splitlines()}

    return run


@pytest.fixture
def save(tmp_path):
    """Save an array under a name of its own and return the path."""

    def run(array, name=None):
        path = tmp_path / (name or f"{len(list(tmp_path.iterdir()))}.npy")
        np.save(path, array)
        return path

    return run


# Real data. The figures are scikit-learn's, frozen so that they hold where it is not installed.


def test_digits(evaluate):
    result = evaluate(*DIGITS)
    assert result["loss"] == "cross_entropy" and result["guessed"]
    assert result["value"] == pytest.approx(0.163736144, rel=FLOAT32)
    assert result["perplexity"] == pytest.approx(1.177903477, rel=FLOAT32)
    assert (result["accuracy"], result["correct"]) == (525 / 540, 525)
    assert (result["rows_counted"], result["rows_ignored"]) == (540, 0)


def test_cancer(evaluate):
    result = evaluate(*CANCER)
    assert result["loss"] == "binary_cross_entropy" and result["guessed"]
    assert result["value"] == pytest.approx(0.084565873, abs=1e-9)
    assert (result["accuracy"], result["correct"]) == (164 / 171, 164)
    assert result["perplexity"] is None


def test_diabetes(evaluate):
    result = evaluate(*DIABETES)
    assert result["loss"] == "mse_loss" and result["guessed"]
    assert result["value"] == result["mse"] == pytest.approx(3084.513473483, rel=1e-12)
    assert result["rmse"] == pytest.approx(55.538396389, rel=1e-10)
    assert result["mae"] == pytest.approx(44.553756672, rel=1e-10)
    assert result["accuracy"] is None and result["correct"] is None


@pytest.mark.parametrize("dtype, error", [("f8", 1e200), ("f8", 1e-170), ("f4", 2e20), ("f4", 1e-30)])
def test_roots_outside_the_range_of_squares(evaluate, save, tmp_path, dtype, error):
    """Squares that overflow or vanish do not keep their root from being finite: of the whole, of groups and of outputs."""
    x = save(np.full((4, 2), error, dtype))
    y = save(np.zeros((4, 2), dtype))
    groups = tmp_path / "groups.txt"
    groups.write_text("a\na\nb\nb\n")
    right = pytest.approx(float(np.array(error, dtype)), rel=1e-7)
    result = evaluate(x, y, "--loss", "rmse_loss", "--group-by", groups, "--chunk-size", 1)
    assert result["value"] == result["rmse"] == right
    assert [group["mean"] for group in result["groups"]] == [right, right]
    for loss in ("mse_loss", "l1_loss"):
        assert evaluate(x, y, "--loss", loss)["rmse"] == right
    assert evaluate(x, y, "--loss", "rmse_loss", "--axis", 0)["value"] == [right, right]
    total = evaluate(x, y, "--loss", "rmse_loss", "--reduction", "sum")["value"]
    assert total == pytest.approx(right.expected * 8**0.5, rel=1e-7)


def test_equal_to_scikit_learn(evaluate):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = map(np.load, DIGITS)
    probs = np.exp(logits.astype(float))
    result = evaluate(*DIGITS)
    loss = metrics.log_loss(labels, probs / probs.sum(axis=1, keepdims=True))
    assert result["value"] == pytest.approx(loss, rel=FLOAT32)
    assert result["accuracy"] == metrics.accuracy_score(labels, logits.argmax(axis=1))

    probs, labels = map(np.load, CANCER)
    result = evaluate(*CANCER)
    assert result["value"] == pytest.approx(metrics.log_loss(labels, probs), rel=1e-12)
    assert result["accuracy"] == metrics.accuracy_score(labels, probs > 0.5)

    pred, target = map(np.load, DIABETES)
    result = evaluate(*DIABETES)
    assert result["mse"] == pytest.approx(metrics.mean_squared_error(target, pred), rel=1e-12)
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(target, pred), rel=1e-12)


def test_text_report(text):
    lines = text("eval", *DIGITS)
    assert lines["predictions"].endswith("digits_logits.npy (float32, (540, 10))")
    assert lines["targets"].endswith("digits_labels.npy (int64, (540,))")
    assert lines["loss"] == "cross_entropy (guessed: class labels, rows of logits; --loss overrides)"
    assert lines["cross_entropy"].startswith("0.1637361") and lines["cross_entropy"].endswith("(mean)")
    assert lines["accuracy"] == "0.972222222 (525 of 540)"
    assert lines["rows"] == "540 counted, 0 ignored"
    assert "rows/s" in lines["speed"] and "GB/s" in lines["speed"]
    lines = text("eval", *DIABETES, "--loss", "huber_loss", "--reduction", "sum")
    assert lines["loss"] == "huber_loss" and lines["huber_loss"].endswith("(sum)")
    assert lines["RMSE"].startswith("55.538396")


def test_json_schema(evaluate):
    result = evaluate(*DIGITS)
    numbers = (
        "value",
        "mean",
        "perplexity",
        "accuracy",
        "seconds",
        "rows_per_second",
        "gigabytes_per_second",
    )
    assert all(type(result[key]) is float for key in numbers)
    assert result["fastloss"] == fastloss.__version__
    assert list(result)[1:5] == ["loss", "guessed", "reason", "reduction"]
    assert result["predictions"] == {"file": str(DIGITS[0]), "dtype": "float32", "shape": [540, 10]}
    assert result["targets"] == {"file": str(DIGITS[1]), "dtype": "int64", "shape": [540]}
    assert {key for key, value in result.items() if value is None} == {
        "mse", "rmse", "mae", "elements", "chunk_size", "weight", "output",
    }  # fmt: skip
    assert (result["axis"], result["ignore_index"], result["label_smoothing"]) == (1, -100, 0.0)
    assert result["backend"] == _info.backend_in_use() and result["threads"] >= 1
    assert set(evaluate(*DIABETES)) == set(result)


# Every loss and option: what chunks give is what one call over the arrays gives.


def arrays_for(name, rng, dtype):
    """Predictions and targets in the domain of the loss."""
    if LOSSES[name].family == "classes":
        x, y = rng.normal(size=(101, 7)) * 3, rng.integers(0, 7, 101)
        if name in ("nll_loss", "categorical_cross_entropy"):
            x = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
            x = np.log(x) if name == "nll_loss" else x
    else:
        x, y = rng.normal(size=(101, 3)), rng.normal(size=(101, 3))
        if LOSSES[name].family == "binary":
            x, y = (rng.random((101, 3)) if LOSSES[name].probabilities else x), rng.random((101, 3)) > 0.4
        elif name in ("msle_loss", "poisson_nll_loss", "generalized_kl_div") or "deviance" in name:
            x, y = abs(x), abs(y)
        elif name == "kl_div":
            y = abs(y)
    return x.astype(dtype), y.astype(dtype) if y.dtype.kind == "f" else y


def whole(name, x, y, **options):
    return np.float64(getattr(fastloss, name)(x, y, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_chunks_equal_the_whole(evaluate, save, name, dtype):
    x, y = arrays_for(name, np.random.default_rng(1), dtype)
    tolerance = FLOAT32 if dtype == "float32" else 1e-13
    for chunk in (1, 10, 101, 1000):
        for reduction in ("mean", "sum"):
            result = evaluate(
                save(x),
                save(y),
                "--loss",
                name,
                "--chunk-size",
                chunk,
                "--reduction",
                reduction,
                "--threads",
                2,
            )
            assert not result["guessed"] and result["rows_counted"] == 101
            expected = whole(name, x, y, reduction=reduction)
            assert result["value"] == pytest.approx(expected, rel=tolerance)
            assert result["mean"] == pytest.approx(whole(name, x, y), rel=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_weights(evaluate, save, name):
    rng = np.random.default_rng(2)
    x, y = arrays_for(name, rng, "float64")
    if LOSSES[name].family == "classes":
        weights = [(w := rng.random(7), w)]
    else:
        weights = [
            (w := rng.random((101, 3)), w),
            (w := rng.random(101), w[:, None]),
            (w := rng.random((1, 3)), w),
        ]
    for saved, weight in weights:
        for reduction in ("mean", "sum"):
            result = evaluate(
                save(x),
                save(y),
                "--loss",
                name,
                "--weight",
                save(saved),
                "--chunk-size",
                9,
                "--reduction",
                reduction,
            )
            expected = whole(name, x, y, weight=weight, reduction=reduction)
            assert result["value"] == pytest.approx(expected, rel=1e-13)
            assert result["weight"]["shape"] == list(saved.shape)
        if LOSSES[name].errors:
            assert result["mse"] == pytest.approx(whole("mse_loss", x, y, weight=weight), rel=1e-13)
            assert result["mae"] == pytest.approx(whole("l1_loss", x, y, weight=weight), rel=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [None, 0.1, 1])
@pytest.mark.parametrize("ignore", [None, 2, -1])
def test_class_options(evaluate, save, weighted, smoothing, ignore):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 5, 60)
    y[::7] = -100 if ignore is None else ignore
    arguments, options = [save(x), save(y), "--chunk-size", 11], {}
    if weighted:
        options["weight"] = rng.random(5)
        arguments += ["--weight", save(options["weight"])]
    if smoothing is not None:
        options["label_smoothing"] = smoothing
        arguments += ["--label-smoothing", smoothing]
    if ignore is not None:
        options["ignore_index"] = ignore
        arguments += ["--ignore-index", ignore]
    result = evaluate(*arguments)
    counted = y != options.get("ignore_index", -100)
    assert result["value"] == pytest.approx(whole("cross_entropy", x, y, **options), rel=1e-13)
    assert result["perplexity"] == pytest.approx(np.exp(result["mean"]))
    assert (result["rows_counted"], result["rows_ignored"]) == (counted.sum(), (~counted).sum())
    assert result["correct"] == np.sum((x.argmax(axis=1) == y) & counted)
    assert result["accuracy"] == result["correct"] / counted.sum()


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((6, 5, 4, 3), 1), ((6, 5, 4), 0), ((6, 5, 4), 2), ((1, 5, 12), 1), ((7, 5), 0), ((5,), 0)],
)
def test_class_axis(evaluate, save, tmp_path, shape, axis, order):
    rng = np.random.default_rng(4)
    x = np.asarray(rng.normal(size=shape), order=order)
    labels = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    probs = rng.random(shape)
    probs /= probs.sum(axis=axis, keepdims=True)
    for y in (labels, probs):
        for chunk in (1, 3, 50):
            losses = tmp_path / "losses.npy"
            result = evaluate(
                save(x), save(y), "--loss", "cross_entropy", "--axis", axis - len(shape),
                "--chunk-size", chunk, "--reduction", "none", "--output", losses,
            )  # fmt: skip
            assert (result["axis"], result["value"]) == (axis, None)
            assert result["mean"] == pytest.approx(whole("cross_entropy", x, y, axis=axis), rel=1e-13)
            hits = x.argmax(axis=axis) == (labels if y is labels else probs.argmax(axis=axis))
            assert result["correct"] == hits.sum()
            assert result["rows_counted"] == labels.size
            each = fastloss.cross_entropy(x, y, axis=axis, reduction="none")
            np.testing.assert_array_equal(np.load(losses), each)


def test_one_loss_per_output(evaluate, text, save):
    x, y = arrays_for("mse_loss", np.random.default_rng(5), "float64")
    w = np.random.default_rng(6).random(101)
    for extra, options in ([], {}), (["--weight", save(w)], {"weight": w[:, None]}):
        result = evaluate(save(x), save(y), "--axis", 0, "--chunk-size", 9, *extra)
        np.testing.assert_allclose(result["value"], fastloss.mse_loss(x, y, axis=0, **options), rtol=1e-13)
        np.testing.assert_allclose(result["mae"], fastloss.l1_loss(x, y, axis=0, **options), rtol=1e-13)
        np.testing.assert_allclose(result["rmse"], np.sqrt(result["mse"]), rtol=1e-13)
    assert result["rows_counted"] == 101
    wide = np.zeros((2, 20))
    assert (
        "(20 outputs; --json gives all)"
        in text("eval", save(wide), save(wide + 2), "--loss", "mse_loss", "--axis", 0)["MSE"]
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "rmse_loss"])
def test_rows_written(evaluate, save, tmp_path, name):
    x, y = arrays_for(name, np.random.default_rng(7), "float32")
    losses = tmp_path / "losses.npy"
    result = evaluate(save(x), save(y), "--loss", name, "--reduction", "none", "--output", losses, "--chunk-size", 8)
    each = np.load(losses)
    np.testing.assert_array_equal(each, getattr(fastloss, name)(x, y, reduction="none"))
    assert each.dtype == np.float32 and result["output"] == str(losses)
    assert result["mean"] == pytest.approx(whole(name, x, y), rel=FLOAT32)
    assert len(list(tmp_path.iterdir())) == 3  # no leftovers


def test_report_written(capsys, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("an older one")
    assert main(["eval", *map(str, DIGITS), "--output", str(report)]) == 0
    assert strict(report.read_text())["correct"] == 525
    assert "cross_entropy" in capsys.readouterr().out


def test_all_ignored_is_nan_in_strict_json(evaluate, text, save):
    files = save(np.zeros((3, 2))), save(np.full(3, -100))
    result = evaluate(*files, "--loss", "cross_entropy")
    assert (result["value"], result["perplexity"], result["accuracy"]) == ("NaN", "NaN", "NaN")
    assert (result["rows_counted"], result["rows_ignored"]) == (0, 3)
    assert evaluate(*files, "--reduction", "sum", "--loss", "cross_entropy")["value"] == 0
    assert text("eval", *files)["cross_entropy"] == "nan (mean)"


def test_infinite_loss(evaluate, save):
    result = evaluate(save(np.array([[0.0, -np.inf], [1, 2]])), save(np.array([1, 1])), "--chunk-size", 1)
    assert (result["value"], result["perplexity"]) == ("Infinity", "Infinity")


def test_nan_in_an_ignored_row_does_not_count(evaluate, save):
    result = evaluate(save(np.array([[np.nan, 0], [1, 1]])), save(np.array([-100, 1])))
    assert result["value"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("options", [[], ["--label-smoothing", 0.1], ["--top-k", 2], ["--loss", "nll_loss"]], ids=str)
def test_an_ignored_label_beyond_int64(evaluate, save, capsys, options):
    """The same figures as with -100 in its place; labels near it are as wrong as any other."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 5, 60)
    y[::7] = -100
    options = ["--loss", "cross_entropy", *options]
    expected = evaluate(save(x), save(y), *options)
    largest = y.astype(np.uint64)
    largest[::7] = 2**64 - 1
    result = evaluate(save(x), name := save(largest), "--ignore-index", 2**64 - 1, *options)
    told = {"seconds", "rows_per_second", "gigabytes_per_second", "targets", "predictions", "ignore_index"}
    assert {key: result[key] for key in result.keys() - told} == {key: expected[key] for key in expected.keys() - told}
    assert result["ignore_index"] == 2**64 - 1 and result["rows_ignored"] == 9
    for label in (2**63 - 1, 2**64 - 2):
        largest[21] = label
        np.save(name, largest)
        arguments = ["eval", *map(str, [save(x), name, "--ignore-index", 2**64 - 1, *options])]
        assert main(arguments) == 2
        assert f"label {label} at [21] is out of range: there are 5 classes" in capsys.readouterr().err


def test_an_ignored_label_that_no_label_can_be(evaluate, save, capsys):
    """Numbers of any size are compared, not cut."""
    rng = np.random.default_rng(5)
    x, y = save(rng.normal(size=(60, 5))), rng.integers(0, 5, 60)
    expected = evaluate(x, save(y), "--loss", "cross_entropy")
    wrong = y.copy()
    wrong[20] = 2**63 - 1
    wrong, y = save(wrong), save(y)
    for ignored in (2**63, 2**64, 10**30, -(10**30)):
        result = evaluate(x, y, "--loss", "cross_entropy", "--ignore-index", ignored)
        assert (result["mean"], result["rows_ignored"]) == (expected["mean"], 0)
        assert main(["eval", str(x), str(wrong), "--loss", "cross_entropy", "--ignore-index", str(-(2**63) - 1)]) == 2
        assert f"label {2**63 - 1} at [20] is out of range" in capsys.readouterr().err


# What files may be.


def test_archives(evaluate, tmp_path):
    logits, labels = map(np.load, DIGITS)
    np.savez(tmp_path / "both.npz", logits=logits, labels=labels)
    np.savez_compressed(tmp_path / "small.npz", logits=np.asfortranarray(logits), labels=labels)
    np.savez(tmp_path / "one.npz", labels)
    for archive in ("both.npz", "small.npz"):
        result = evaluate(tmp_path / f"{archive}:logits", tmp_path / f"{archive}:labels.npy", "--chunk-size", 100)
        assert result["correct"] == 525
        assert result["value"] == pytest.approx(0.163736144, rel=FLOAT32)
        assert result["targets"]["file"] == str(tmp_path / f"{archive}:labels")
    assert evaluate(DIGITS[0], tmp_path / "one.npz")["targets"]["file"].endswith("one.npz:arr_0")


def test_a_colon_in_a_file_name(evaluate, tmp_path, save):
    assert evaluate(save(np.load(DIGITS[0]), "a.npz:b.npy"), DIGITS[1])["correct"] == 525


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", "i4"])
def test_dtypes(evaluate, save, dtype):
    logits = (np.load(DIGITS[0])).astype(dtype)
    for labels in ("u1", ">i2", "u8"):
        result = evaluate(save(logits), save(np.load(DIGITS[1]).astype(labels)), "--chunk-size", 99)
        assert result["loss"] == "cross_entropy"
        expected = whole("cross_entropy", logits.astype("f8"), np.load(DIGITS[1]))
        assert result["value"] == pytest.approx(expected, rel=FLOAT32)


def test_bfloat16(evaluate, save, monkeypatch, capsys):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    logits = np.load(DIGITS[0]).astype(bfloat16)
    path = save(logits)
    result = evaluate(path, DIGITS[1])
    assert result["predictions"]["dtype"] == "bfloat16"
    expected = whole("cross_entropy", logits.astype("f8"), np.load(DIGITS[1]))
    assert result["value"] == pytest.approx(expected, rel=FLOAT32)
    assert result["correct"] == np.sum(logits.astype("f8").argmax(axis=1) == np.load(DIGITS[1]))

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main(["eval", str(path), str(DIGITS[1])]) == 2
    assert "install the package ml_dtypes" in capsys.readouterr().err


def test_memory_is_a_chunk(save, capsys):
    rng = np.random.default_rng(8)
    files = [
        str(save(rng.random((1 << 17, 32), dtype=np.float32))),
        str(save(rng.integers(0, 32, 1 << 17))),
    ]  # 16 MiB
    arguments = ["eval", *files, "--chunk-size", "1024"]
    assert main(arguments) == 0  # whatever is compiled is compiled now
    tracemalloc.start()
    try:
        assert main(arguments) == 0
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


# What is guessed.

PROBS = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
LOGITS = np.array([[1.5, -2], [0.5, 3], [-1, 0]])


@pytest.mark.parametrize(
    ("predictions", "targets", "loss", "axis"),
    [
        (LOGITS, np.array([0, 1, 1]), "cross_entropy", 1),
        (PROBS, np.array([0, 1, 1]), "categorical_cross_entropy", 1),
        (PROBS.astype("f2"), np.array([True, False, True]), "categorical_cross_entropy", 1),
        (np.vstack([PROBS, [[0, 0]]]), np.array([0, 1, 1, -100]), "categorical_cross_entropy", 1),
        (LOGITS.T[None], np.array([[0, 1, 1]]), "cross_entropy", 1),
        (LOGITS, PROBS, "cross_entropy", 1),
        (PROBS, PROBS, "categorical_cross_entropy", 1),
        (PROBS[:, 0], np.array([0, 1, 1]), "binary_cross_entropy", None),
        (PROBS[:, 0], np.array([0.0, 1, 1]), "binary_cross_entropy", None),
        (PROBS[:, :1], np.array([0, 1, 1]), "binary_cross_entropy", None),
        (LOGITS[:, 0], np.array([0, 1, 1], "u1"), "binary_cross_entropy_with_logits", None),
        (LOGITS[:, 0], np.array([0.0, 1, 1]), "binary_cross_entropy_with_logits", None),
        (LOGITS, np.array([[0, 0], [1, 1], [0, 1]]), "binary_cross_entropy_with_logits", None),
        (LOGITS, np.array([[0, 1], [1, 0], [0, 1]]), "cross_entropy", 1),
        (LOGITS[:, 0], np.array([0.3, 1, 1]), "mse_loss", None),
        (LOGITS[:, 0], np.zeros(3), "mse_loss", None),
        (LOGITS, LOGITS + 1, "mse_loss", None),
        (np.arange(3), np.arange(3), "mse_loss", None),
        (np.float64(3), np.float64(5), "mse_loss", None),
    ],
)
def test_guesses(evaluate, save, predictions, targets, loss, axis):
    result = evaluate(save(predictions), save(targets))
    assert (result["loss"], result["axis"], result["guessed"]) == (loss, axis, True)
    assert result["reason"]


def test_the_guess_looks_beyond_the_head(evaluate, save):
    x = np.full(1 << 20, 0.5)
    x[-1000:] = 7
    assert evaluate(save(x), save(np.arange(1 << 20) % 2))["loss"] == "binary_cross_entropy_with_logits"


# The program around it.


@pytest.mark.parametrize(
    ("shape", "targets", "taken", "other"),
    [
        ((6, 8, 8), (6, 8), 2, 1),
        ((8, 8, 8), (8, 8), 2, 1),
        ((6, 8, 4), (6, 4), 1, None),  # as torch lays out; nothing else fits
        ((6, 4, 8), (6, 4), 2, None),
        ((8, 8), (8,), 1, None),
        ((5, 6, 8), (5, 6, 8), 2, 1),  # distributions
        ((6, 8), (6, 8), 1, None),
    ],
)
def test_which_class_axis_was_taken(tmp_path, capsys, shape, targets, taken, other):
    rng = np.random.default_rng(70)
    x = rng.normal(size=shape)
    y = rng.integers(0, 4, targets) if shape != targets else fastloss.softmax(rng.normal(size=shape))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    names = [str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    note = re.compile(rf"^class axis +{taken} \(--axis {other} would fit, too\)$", re.MULTILINE)
    for options in [], ["--loss", "cross_entropy"]:
        assert main(["eval", *names, *options]) == 0
        out = capsys.readouterr().out
        assert bool(note.search(out)) == (other is not None) == ("would fit" in out)
        assert (f", class axis {taken};" in out) == (not options and (other is not None or taken != len(shape) - 1))
        assert main(["eval", *names, *options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["axis"] == taken
    assert main(["eval", *names, "--axis", str(taken)]) == 0
    assert "class axis" not in capsys.readouterr().out


def test_info(text, capsys):
    lines = text("info")
    assert lines["fastloss"].startswith(fastloss.__version__)
    assert lines["backend:"].endswith(f"in use: {_info.backend_in_use()}")
    assert main(["info", "--json"]) == 0
    result = strict(capsys.readouterr().out)
    assert result["fastloss"] == fastloss.__version__ and result["packages"]["numpy"] == np.__version__
    assert result["backends"][result["backend_in_use"]] == "available"
    assert result["threads"] >= 1 and result["python"] and result["cache"]


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastloss {fastloss.__version__}\n"
    for arguments in (["--help"], *([command, "--help"] for command in commands.COMMANDS)):
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith("usage: fastloss")


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def test_module_runs_as_a_program():
    done = python("-m", "fastloss", "eval", *DIGITS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert strict(done.stdout)["correct"] == 525
    done = python("-m", "fastloss", "eval", "missing.npy", DIGITS[1])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastloss: error: missing.npy: no such file or directory\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from fastloss.cli import main; main(['eval', '--help']); main(['--help']);"
        "sys.exit(', '.join({'numba', 'llvmlite', 'tqdm', 'fastloss.cli.eval.work.chunks'} & set(sys.modules)) or 0)"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastloss", "eval", *map(str, DIABETES)],
            stdout=writer, stderr=subprocess.PIPE, timeout=300,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


class Terminal:
    """A stderr that says it is a terminal."""

    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text
        return len(text)

    def flush(self):
        pass


def test_progress_on_a_terminal(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    arguments = ["eval", *map(str, DIGITS), "--chunk-size", "50"]
    for extra, shown in ([], True), (["--json"], False):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main([*arguments, *extra]) == 0
        assert ("rows" in terminal.written) is shown
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert main(arguments) == 0
    assert terminal.written == ""


def test_no_progress_in_a_pipe(capsys):
    assert main(["eval", *map(str, DIGITS)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("axis", [0, 1])
def test_best_class_of_half_precision(dtype, axis):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    special = [0.0, -0.0, np.inf, -np.inf, 1, -1, 1e-7, -1e-7, 65504, -65504]
    for shape in (300, 4), (70_000, 9), (9, 70_000):  # the larger ones are taken in pieces
        scores = np.random.default_rng(9).choice(special, shape).astype(dtype)
        np.testing.assert_array_equal(best_class(scores, axis), scores.astype(np.float64).argmax(axis=axis))


def test_json_of_long_doubles():
    assert as_json({"value": np.longdouble(0.5), "each": np.full(2, np.longdouble(np.inf))}) == (
        '{"value": 0.5, "each": ["Infinity", "Infinity"]}'
    )


def test_only_likelihoods_have_a_perplexity(evaluate, error):
    for loss in ("focal_loss", "poly_loss_cross_entropy"):
        found = evaluate(*DIGITS, "--loss", loss, "--bootstrap", 20)
        assert found["perplexity"] is None and "perplexity" not in found["intervals"]
        assert "log-probabilities of class labels" in error(*DIGITS, "--loss", loss, "--bytes", DIGITS[1])
    assert evaluate(*DIGITS, "--loss", "nll_loss")["perplexity"] is not None
