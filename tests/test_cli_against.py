"""`fastloss eval --against`: two models' figures on the same rows, exact over shards, workers and resumed runs; paired intervals."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from eval_figures import INCIDENTAL

import fastloss
from fastloss.cli import main
from fastloss.cli.eval.stats.against import Divergences
from fastloss.cli.eval.stats.bootstrap import Bootstrap, Resampling, interval
from fastloss.cli.eval.stats.sums import Place, Rows

N_SHARDS = 40


def models(n, n_classes=9, distance=0.3, seed=0, better=0.0):
    """Targets, the logits of a model that knows something of them, and those of another that is near it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    r = rng.normal(0, 2, (n, n_classes))
    r[np.arange(n), y] += 2
    x = r + rng.normal(0, distance, r.shape)
    x[np.arange(n), y] += better
    return y, r.astype(np.float32), x.astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Shards of two models and of targets, and all of each as one file."""
    monkeypatch.chdir(tmp_path)
    y, r, x = models(4_300)
    y[::17] = -100
    for name, whole in (("x", x.astype(np.float16)), ("y", y), ("r", r)):
        np.save(f"{name}.npy", whole)
        Path(name).mkdir()
        for i in range(N_SHARDS):
            np.save(f"{name}/{name}-{i}.npy", whole[i * 100 : (i + 1) * 100 if i < N_SHARDS - 1 else None])
    return tmp_path


def figures(document):
    """What does not depend on how the data are cut and read."""
    found = {key: value for key, value in document.items() if key not in INCIDENTAL}
    found["against"] = {key: value for key, value in found["against"].items() if key not in ("file", "shape")}
    return found


def loaded():
    x, y, r = (np.load(f"{name}.npy") for name in "xyr")
    counted = y != -100
    return x[counted], y[counted], r[counted]


def test_figures(folder, evaluate):
    """Against what NumPy makes of `compare` and `score`; the new model's own are those of the run without."""
    found = evaluate("x.npy", "y.npy", "--against", "r.npy", "--top-k", 3)
    alone, other = evaluate("x.npy", "y.npy", "--top-k", 3), evaluate("r.npy", "y.npy", "--top-k", 3)
    against = found.pop("against")
    assert {k: v for k, v in found.items() if k not in INCIDENTAL} == {
        k: v for k, v in alone.items() if k not in INCIDENTAL
    }
    names = ("mean", "perplexity", "accuracy", "top_k_accuracy")
    assert against["reference"] == {name: other[name] for name in names} == against["reference"]
    assert against["difference"] == {name: alone[name] - other[name] for name in names}
    assert against["log_perplexity_ratio"] == alone["mean"] - other["mean"]

    x, y, r = loaded()
    comparison = fastloss.compare(r, x, y)
    kl = np.sort(comparison.kl.astype(np.float64))
    assert against["kl"]["mean"] == pytest.approx(kl.mean(), rel=1e-12)
    assert against["kl"]["maximum"] == kl[-1]
    for name, share in (("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999)):
        assert against["kl"][name] == pytest.approx(kl[math.ceil(share * kl.size) - 1], rel=1e-3)
    change = comparison.delta_p.astype(np.float64)
    assert against["delta_p"]["mean"] == pytest.approx(change.mean(), rel=1e-12)
    assert against["delta_p"]["rms"] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-12)
    assert against["same_argmax_count"] == np.count_nonzero(comparison.same_argmax)
    assert against["same_argmax"] == np.mean(comparison.same_argmax)


def test_a_model_against_itself(folder, evaluate):
    against = evaluate("r.npy", "y.npy", "--against", "r.npy", "--bootstrap", 50)["against"]
    assert set(against["kl"].values()) == {0.0}
    assert set(against["difference"].values()) == {0.0} == set(against["delta_p"].values())
    assert against["same_argmax"] == 1 and set(against["better"].values()) == {0.0}
    assert against["intervals"]["difference"]["mean"] == [0.0, 0.0]


def test_without_targets(folder, evaluate, error):
    found = evaluate("x.npy", "--no-targets", "--against", "r.npy", "--per-sample", "kl.npy", "--bootstrap", 100)
    x, r = np.load("x.npy"), np.load("r.npy")
    comparison = fastloss.compare(r, x)
    np.testing.assert_array_equal(np.load("kl.npy"), comparison.kl)
    against = found["against"]
    assert against["kl"]["mean"] == pytest.approx(comparison.kl.astype(float).mean(), rel=1e-12)
    assert against["same_argmax_count"] == np.count_nonzero(comparison.same_argmax)
    assert found["loss"] is found["mean"] is found["targets"] is None and found["rows_counted"] == len(x)
    low, high = against["intervals"]["kl"]
    assert low < against["kl"]["mean"] < high
    assert "difference" not in against and "delta_p" not in against
    assert figures(evaluate("x", "--no-targets", "--against", "r", "--bootstrap", 100)) == figures(found)
    assert "TARGETS are given" in error("x.npy", "y.npy", "--no-targets", "--against", "r.npy")
    assert "--against" in error("x.npy", "--no-targets")
    assert "TARGETS" in error("x.npy", "--against", "r.npy")
    assert "needs targets" in error("x.npy", "--no-targets", "--against", "r.npy", "--top-k", 2)


OPTIONS = ["--bootstrap", 200, "--group-by", "g.npy", "--resample", "group"]


def test_shards_are_one_array(folder, evaluate):
    np.save("g.npy", np.arange(4_300) % 30)
    whole = evaluate("x.npy", "y.npy", "--against", "r.npy", *OPTIONS)
    assert {"reference", "difference", "kl"} < whole["groups"][0].keys()
    for more in ([], ["--chunk-size", 7], ["--threads", 1]):
        assert figures(evaluate("x", "y", "--against", "r", *OPTIONS, *more)) == figures(whole)
    assert figures(evaluate("x/x-*.npy", "y/y-*.npy", "--against", "r/r-*.npy", *OPTIONS)) == figures(whole)
    entries = [
        {"predictions": f"x/x-{i}.npy", "targets": f"y/y-{i}.npy", "reference": f"r/r-{i}.npy"} for i in range(N_SHARDS)
    ]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, entries)))
    assert figures(evaluate("--manifest", "list.jsonl", *OPTIONS)) == figures(whole)
    rows = "".join(f"x/x-{i}.npy,r/r-{i}.npy\n" for i in range(N_SHARDS))
    Path("list.csv").write_text(f"predictions,reference\n{rows}")
    plain = evaluate("x", "--no-targets", "--against", "r")
    assert figures(evaluate("--manifest", "list.csv", "--no-targets")) == figures(plain)


@pytest.mark.parametrize("axis", [1, 2])
def test_several_axes(folder, evaluate, axis):
    """Rows that lie in more than one axis, the classes not last; dtypes differ."""
    rng = np.random.default_rng(5)
    r = rng.normal(size=(6, 5, 7)).astype(np.float64)
    x = (r + rng.normal(0, 0.1, r.shape)).astype(np.float32)
    y = rng.integers(0, r.shape[axis], np.delete(r.shape, axis))
    for name, array in (("a", x), ("b", y), ("c", r)):
        np.save(f"{name}.npy", array)
    found = evaluate("a.npy", "b.npy", "--against", "c.npy", "--axis", axis)["against"]
    assert found["kl"]["mean"] == pytest.approx(fastloss.compare(r, x, axis=axis).kl.mean(), rel=1e-9)


def start(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastloss", "eval", *map(str, options), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out)


def test_killed_and_resumed(folder, evaluate):
    command = ["x", "y", "--against", "r", "--bootstrap", 300, "--per-sample", "each.npy"]
    undisturbed = evaluate(*command)
    losses = Path("each.npy").read_bytes()
    os.unlink("each.npy")
    journal = Path("each.npy.journal")
    for wanted in (8, 20):
        process = start(*command, "--resume")
        while not journal.exists() or journal.read_bytes().count(b"\n") < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    os.utime("r/r-3.npy", (1, 1))
    assert "r/r-3.npy has changed" in start(*command, "--resume").communicate(timeout=240)[1]
    os.unlink(journal)
    os.unlink(".each.npy.part")
    process = start(*command)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 15:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    result = finished(start(*command, "--resume"))
    assert result["pieces_resumed"] >= 14
    assert figures(result) == figures(undisturbed)
    assert Path("each.npy").read_bytes() == losses


def test_workers(folder, evaluate):
    pytest.importorskip("distributed")
    command = ["x", "y", "--against", "r", "--bootstrap", 100]
    assert figures(finished(start(*command, "--workers", 2))) == figures(evaluate(*command))


def test_errors(folder, error, evaluate):
    np.save("short.npy", np.zeros((3, 9), np.float32))
    assert "(3, 9)" in error("x.npy", "y.npy", "--against", "short.npy")
    assert "missing.npy" in error("x.npy", "y.npy", "--against", "missing.npy")
    r = np.load("r.npy")
    r[17 * 3] = np.nan  # of an ignored row: padding
    np.save("padded.npy", r)
    evaluate("x.npy", "y.npy", "--against", "padded.npy")
    r[5, 2] = np.nan
    np.save("holes.npy", r)
    assert error("x.npy", "y.npy", "--against", "holes.npy").startswith("holes.npy: NaN at [5, 2]")
    assert error("x.npy", "--no-targets", "--against", "holes.npy").startswith("holes.npy: NaN at [5, 2]")
    p = np.exp(np.load("r.npy"))
    np.save("probs.npy", p / p.sum(1, keepdims=True))
    assert "from logits" in error("probs.npy", "y.npy", "--against", "probs.npy")
    assert "from logits" in error("x.npy", "r.npy", "--against", "r.npy", "--loss", "mse_loss")
    np.save("w.npy", np.ones(9))
    assert "--weight" in error("x.npy", "y.npy", "--against", "r.npy", "--weight", "w.npy")
    assert "references" in error("x", "y", "--against", "r.npy") or "reference" in error("x", "y", "--against", "r.npy")
    os.unlink("r/r-7.npy")
    assert "x-7.npy has no reference" in error("x", "y", "--against", "r")
    assert "also an input" in error("x.npy", "y.npy", "--against", "r.npy", "--output", "r.npy")


def test_text(folder, capsys):
    assert main(["eval", "x.npy", "y.npy", "--against", "r.npy", "--bootstrap", "100"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "reference",
        "Δ mean",
        "Δ accuracy",
        "better in",
        "ln PPL ratio",
        "KL divergence",
        "99.9 %",
        "same arg max",
    ):
        assert expected in shown, shown
    assert main(["eval", "x.npy", "--no-targets", "--against", "r.npy"]) == 0
    assert "cross_entropy" not in capsys.readouterr().out


def test_paired_intervals_see_what_unpaired_ones_do_not(folder, evaluate):
    """A small improvement of every row, in losses that vary much more."""
    y, r, x = models(2_000, distance=0.05, better=0.05, seed=3)
    for name, array in (("a", x), ("b", y), ("c", r)):
        np.save(f"{name}.npy", array)
    new, old = (evaluate(name, "b.npy", "--bootstrap", 500)["intervals"]["mean"] for name in ("a.npy", "c.npy"))
    assert new[0] < old[1] and old[0] < new[1]  # they overlap
    against = evaluate("a.npy", "b.npy", "--against", "c.npy", "--bootstrap", 500)["against"]
    low, high = against["intervals"]["difference"]["mean"]
    assert low < against["difference"]["mean"] < high < 0
    assert against["better"]["mean"] == 1.0


def test_false_alarms():
    """Of 200 pairs without a difference about 5 % have a paired interval that excludes 0."""
    rng = np.random.default_rng(11)
    n, alarms = 300, 0
    place = Place(0, 0, 0, 0, 1)
    for trial in range(200):
        common = rng.exponential(1.0, n)
        new, old = (np.maximum(common + rng.normal(0, 0.2, n), 0.0) for _ in range(2))
        bootstrap = Bootstrap(Resampling(400, trial, "row"))
        bootstrap.add(Rows(loss=new, reference_loss=old, same=np.ones(n, bool)), place)
        low, high = interval(bootstrap.means("loss", "counted") - bootstrap.means("reference_loss", "counted"))
        alarms += not low <= 0 <= high
    assert 4 <= alarms <= 16


def test_divergences_merge_in_any_order():
    rng = np.random.default_rng(4)
    kl = rng.exponential(0.1, 5_000).astype(np.float32)
    kl[:3] = 0.0, np.inf, 1e-30
    place = Place(0, 0, 0, 0, 1)
    whole, parts = Divergences(), [Divergences() for _ in range(5)]
    whole.add(Rows(loss=kl, kl=kl), place)
    for k, part in enumerate(parts):
        part.add(Rows(loss=kl[k::5], kl=kl[k::5]), place)
    merged = Divergences()
    for part in parts[::-1]:
        merged.merge(Divergences.from_json(json.loads(json.dumps(part.to_json()))))
    for share in (0.0001, 0.1, 0.5, 0.9, 0.9999):
        found = whole.quantile(share)
        assert merged.quantile(share) == found
        exact = np.sort(kl)[max(0, math.ceil(share * kl.size) - 1)]
        assert found == pytest.approx(exact, rel=1e-3)
    assert whole.quantile(1.0) == math.inf
    assert math.isnan(Divergences().quantile(0.5))
