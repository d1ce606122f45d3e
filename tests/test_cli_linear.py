"""`fastloss eval --linear-weight`: figures from hidden states are those of the logits that their layer would make."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss.cli import main

N_ROWS, N_FEATURES, N_CLASSES = 410, 12, 23
FIGURES = (
    "mean",
    "perplexity",
    "accuracy",
    "correct",
    "top_k_accuracy",
    "rows_counted",
    "rows_ignored",
    "bits_per_byte",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Hidden states with their layer, and the logits that it makes of them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    h, a, b = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((N_ROWS, N_FEATURES), (N_CLASSES, N_FEATURES), (N_CLASSES,))
    )
    y = rng.integers(0, N_CLASSES, N_ROWS)
    y[::3] = (h[::3] @ a.T + b).argmax(axis=1)
    y[::11] = -100
    arrays = {"h": h, "a": a, "b": b, "y": y, "x": h.astype(float) @ a.T.astype(float) + b, "h8": h.astype(float)}
    arrays |= {"bytes": np.arange(N_ROWS) % 7, "w": rng.random(N_CLASSES), "offsets": np.arange(0, N_ROWS + 1, 10)}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    for name, whole in (("hs", h), ("ys", y)):
        Path(name).mkdir()
        for i in range(4):
            np.save(f"{name}/{i}.npy", whole[i * 100 : (i + 1) * 100 if i < 3 else None])
    return tmp_path


def same(found, expected, rel):
    return found is expected is None or found == pytest.approx(expected, rel=rel)


LAYER = ["--linear-weight", "a.npy", "--linear-bias", "b.npy"]


@pytest.mark.parametrize("hidden, rel", [("h", 1e-5), ("h8", 1e-13)])
@pytest.mark.parametrize("extra", [[], ["--weight", "w.npy"], ["--label-smoothing", 0.1]])
def test_figures_are_those_of_the_logits(folder, evaluate, hidden, rel, extra):
    options = ["y.npy", "--top-k", 3, *extra, *([] if extra else ["--bytes", "bytes.npy"])]
    found = evaluate(f"{hidden}.npy", *options, *LAYER, "--per-sample", "each.npy")
    logits = evaluate("x.npy", *options, "--per-sample", "each-x.npy")
    for name in FIGURES:
        assert same(found.get(name), logits.get(name), rel), name
    np.testing.assert_allclose(np.load("each.npy"), np.load("each-x.npy"), rtol=10 * rel, atol=rel)
    assert found["linear_weight"] == {"file": "a.npy", "dtype": "float32", "shape": [N_CLASSES, N_FEATURES]}
    assert found["linear_bias"]["file"] == "b.npy" and found["loss"] == "cross_entropy" and not found["guessed"]


def test_without_bias(folder, evaluate):
    found = evaluate("h.npy", "y.npy", "--linear-weight", "a.npy")
    scores = fastloss.score(np.load("h.npy"), np.load("y.npy"), linear_weight=np.load("a.npy"))
    assert found["mean"] == math.fsum(scores.nll.tolist()) / found["rows_counted"]
    assert found["correct"] == scores.correct.sum() and "linear_bias" not in found


def test_shards_agree_and_several_axes(folder, evaluate):
    """To rounding: how a BLAS rounds may depend on how many rows it is given."""
    whole = evaluate("h.npy", "y.npy", *LAYER, "--top-k", 3)
    np.save("h3.npy", np.load("h.npy").reshape(41, 10, N_FEATURES)), np.save("y3.npy", np.load("y.npy").reshape(41, 10))
    for files in (["hs", "ys"], ["h3.npy", "y3.npy"], ["h.npy", "y.npy", "--chunk-size", 7]):
        found = evaluate(*files, *LAYER, "--top-k", 3)
        for name in FIGURES:
            assert same(found.get(name), whole.get(name), 1e-6), name


def reported_error():
    text = Path("page.html").read_text().split("Expected calibration error ")[1]
    return float(re.match(r"[\d.e-]+", text)[0])


def test_report_and_documents(folder, evaluate):
    options = ["y.npy", "--documents", "offsets.npy", "--bootstrap", 50, "--report", "page.html", "--per-document"]
    found = evaluate("h.npy", *options, "d.npy", *LAYER)
    error = reported_error()
    logits = evaluate("x.npy", *options, "e.npy")
    assert error == pytest.approx(reported_error(), rel=1e-3)
    np.testing.assert_allclose(np.load("d.npy")["log_prob"], np.load("e.npy")["log_prob"], rtol=1e-5)
    np.testing.assert_allclose(found["intervals"]["mean"], logits["intervals"]["mean"], rtol=1e-5)
    assert found["documents"]["greedy_count"] == logits["documents"]["greedy_count"]


def test_workers(folder, evaluate):
    pytest.importorskip("distributed")
    found, here = (evaluate("hs", "ys", *LAYER, *more) for more in (["--workers", 2], []))
    assert found["mean"] == pytest.approx(here["mean"], rel=1e-6) and found["correct"] == here["correct"]


def test_resume_refuses_another_layer(folder, evaluate, error):
    """A journal of one layer is none of another's."""
    command = ["hs", "ys", *LAYER, "--journal", "run.journal"]
    wild = np.load("ys/3.npy")
    np.save("ys/3.npy", wild + 1000)
    assert "out of range: there are 23 classes" in error(*command)
    np.save("ys/3.npy", wild)
    np.save("a.npy", 2 * np.load("a.npy"))
    assert "a.npy has changed" in error(*command, "--resume")


def test_text(folder, capsys):
    assert main(["eval", "h.npy", "y.npy", *LAYER]) == 0
    assert "layer          a.npy (float32, (23, 12))" in capsys.readouterr().out


def test_errors(folder, error):
    np.save("narrow.npy", np.zeros((N_CLASSES, 5), np.float32))
    assert "narrow.npy: shape (23, 5)" in error("h.npy", "y.npy", "--linear-weight", "narrow.npy")
    assert "narrow.npy: shape" in error("h.npy", "y.npy", "--linear-weight", "a.npy", "--linear-bias", "narrow.npy")
    assert "--linear-weight" in error("h.npy", "y.npy", "--linear-bias", "b.npy")
    assert "--axis" in error("h.npy", "y.npy", *LAYER, "--axis", 0)
    assert "--loss" in error("h.npy", "y.npy", *LAYER, "--loss", "mse_loss")
    assert "compared by their logits" in error("h.npy", "y.npy", *LAYER, "--against", "h.npy")
    assert "(410,) for class labels" in error("h.npy", "h.npy", *LAYER)
    np.save("h3.npy", np.zeros((41, 10, N_FEATURES), np.float32)), np.save("along.npy", np.zeros((41, N_FEATURES), int))
    assert "(41, 10) for class labels" in error("h3.npy", "along.npy", *LAYER)
    assert "23 classes" in error("h.npy", "y.npy", *LAYER, "--top-k", 24)
    assert "also an input" in error("h.npy", "y.npy", *LAYER, "--output", "b.npy")
    for name, at in (("h", [5, 2]), ("a", [3, 1]), ("b", [4])):
        whole = np.load(f"{name}.npy")
        holes = whole.copy()
        holes[tuple(at)] = np.nan
        np.save(f"{name}.npy", holes)
        assert error("h.npy", "y.npy", *LAYER) == f"{name}.npy: NaN at {at}"
        np.save(f"{name}.npy", whole)
