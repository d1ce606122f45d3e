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


COMPARED = ("same_argmax", "log_perplexity_ratio")


@pytest.fixture
def against(folder):
    """Another model: hidden states of another size, with a layer, and their logits; and hidden states for the same layer."""
    rng = np.random.default_rng(1)
    h, a, b = (np.load(f"{name}.npy") for name in ("h", "a", "b"))
    r = h + rng.normal(size=h.shape).astype(np.float32) / 10
    wide = np.concatenate([h, rng.normal(size=(N_ROWS, 3)).astype(np.float32)], axis=1)
    own, own_bias = (rng.normal(size=shape).astype(np.float32) for shape in ((N_CLASSES, N_FEATURES + 3), (N_CLASSES,)))
    own[:, :N_FEATURES] = a
    arrays = {"r": r, "wide": wide, "own": own, "ownb": own_bias}
    arrays["xr"] = r.astype(float) @ a.T.astype(float) + b
    arrays["xw"] = wide.astype(float) @ own.T.astype(float) + own_bias
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    Path("rs").mkdir()
    for i in range(4):
        np.save(f"rs/{i}.npy", wide[i * 100 : (i + 1) * 100 if i < 3 else None])
    return folder


OWN = ["--against-linear-weight", "own.npy", "--against-linear-bias", "ownb.npy"]
ALONE = ["--linear-weight", "own.npy", "--linear-bias", "ownb.npy"]


@pytest.mark.parametrize("hidden, own, logits", [("r", [], "xr"), ("wide", OWN, "xw")])
def test_against(against, evaluate, hidden, own, logits):
    """Two models' hidden states give what their logits give, to rounding."""
    options = ["y.npy", "--top-k", 3, "--bootstrap", 30, "--report", "page.html"]
    found = evaluate("h.npy", *options, *LAYER, "--against", f"{hidden}.npy", *own)
    expected = evaluate("x.npy", *options, "--against", f"{logits}.npy")
    ours, theirs = found["against"], expected["against"]
    for name in COMPARED:
        assert same(ours[name], theirs[name], 1e-4), name
    assert ours["kl"] == pytest.approx(theirs["kl"], rel=2e-3)  # quantiles are right to 0.1 %
    assert ours["kl"]["mean"] == pytest.approx(theirs["kl"]["mean"], rel=1e-5)
    for name in ("reference", "delta_p"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    assert ours["intervals"]["kl"] == pytest.approx(theirs["intervals"]["kl"], rel=1e-4)
    assert ours["better"] == theirs["better"]
    assert ours.get("linear_weight", {}).get("file") == ("own.npy" if own else None)
    alone = evaluate(f"{hidden}.npy", "y.npy", *(ALONE if own else LAYER))
    assert ours["reference"]["mean"] == pytest.approx(alone["mean"], rel=1e-6)
    without = evaluate("h.npy", "--no-targets", *LAYER, "--against", f"{hidden}.npy", *own)
    assert without["against"]["kl"]["mean"] == pytest.approx(ours["kl"]["mean"], rel=1e-1)  # of all rows
    logits_alone = evaluate("x.npy", "--no-targets", "--against", f"{logits}.npy")
    assert without["against"]["kl"]["mean"] == pytest.approx(logits_alone["against"]["kl"]["mean"], rel=1e-5)


def test_against_itself(against, evaluate):
    found = evaluate("h.npy", "y.npy", *LAYER, "--against", "h.npy")["against"]
    assert set(found["kl"].values()) == {0.0} and found["same_argmax"] == 1.0 and found["log_perplexity_ratio"] == 0.0


def test_against_in_shards(against, evaluate, capsys):
    whole = evaluate("h.npy", "y.npy", *LAYER, "--against", "wide.npy", *OWN)["against"]
    found = evaluate("hs", "ys", *LAYER, "--against", "rs", *OWN)["against"]
    assert found["kl"] == pytest.approx(whole["kl"], rel=2e-3)
    assert found["kl"]["mean"] == pytest.approx(whole["kl"]["mean"], rel=1e-6)
    shape = (N_ROWS // 10, 10, -1)
    for name in ("h", "wide", "y"):
        array = np.load(f"{name}.npy")
        np.save(f"{name}3.npy", array.reshape(shape if array.ndim > 1 else shape[:2]))
    found = evaluate("h3.npy", "y3.npy", *LAYER, "--against", "wide3.npy", *OWN, "--chunk-size", 70)["against"]
    assert found["kl"]["mean"] == pytest.approx(whole["kl"]["mean"], rel=1e-6)
    assert main(["eval", "h.npy", "y.npy", *LAYER, "--against", "wide.npy", *OWN]) == 0
    assert "its layer" in (text := capsys.readouterr().out) and "own.npy (float32, (23, 15))" in text


def test_errors_against(against, error):
    command = ["h.npy", "y.npy", *LAYER, "--against", "wide.npy"]
    assert (
        error(*command)
        == "a.npy: shape (23, 12) does not go with hidden states of shape (410, 15); expected (n_classes, n_features)"
    )
    assert "own.npy: shape (23, 15) does not go with hidden states" in error(*command[:-1], "r.npy", *OWN)
    np.save("few.npy", np.load("own.npy")[:-1])
    assert error(*command, "--against-linear-weight", "few.npy") == (
        "few.npy: shape (22, 15) does not go with (23, 12) of a.npy: both need the same classes"
    )
    wrong = error(*command, *OWN[:2], "--against-linear-bias", "a.npy")
    assert wrong == "a.npy: shape (23, 12) does not go with (23, 15) of own.npy"
    assert error("h.npy", "y.npy", *LAYER, *OWN) == "--against-linear-weight: needs --against REFERENCE"
    assert "needs --linear-weight FILE" in error("x.npy", "y.npy", "--against", "wide.npy", *OWN)
    assert "needs --against-linear-weight FILE" in error(*command, *OWN[2:])
    np.save("short.npy", np.load("wide.npy")[1:])
    assert "short.npy: shape (409, 15) does not go with (410, 12) of h.npy" in error(*command[:-1], "short.npy", *OWN)
    assert "also an input" in error(*command, *OWN, "--output", "own.npy")
    for name, at in (("wide", [5, 2]), ("own", [3, 1]), ("ownb", [4])):
        whole = np.load(f"{name}.npy")
        holes = whole.copy()
        holes[tuple(at)] = np.nan
        np.save(f"{name}.npy", holes)
        assert error(*command, *OWN) == f"{name}.npy: NaN at {at}"
        assert error("h.npy", "--no-targets", *LAYER, "--against", "wide.npy", *OWN) == f"{name}.npy: NaN at {at}"
        np.save(f"{name}.npy", whole)


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
