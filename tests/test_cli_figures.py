"""`fastloss eval` beyond loss and accuracy: Brier score, calibration, entropy, intervals of groups, macro averages, sorted tables."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from eval_figures import figures

import fastloss
from fastloss.cli import main

SIZES = (300, 1, 120, 479)
N_ROWS = sum(SIZES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Logits, probabilities and labels, some of them ignored, as one file and as shards; logits of an event; groups of uneven size."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (N_ROWS, 6)).astype(np.float32)
    y = rng.integers(0, 6, N_ROWS)
    x[np.arange(N_ROWS), y] += 1.5
    y[::13] = -100
    p = np.exp(x.astype(float))
    arrays = {"x": x, "y": y, "p": (p / p.sum(1, keepdims=True)).astype(np.float32), "z": x[:, 0], "b": y > 2}
    arrays["q"] = (1 / (1 + np.exp(-arrays["z"].astype(float)))).astype(np.float32)
    arrays["q"][:8] = np.float32(0.2)  # an edge of three of 15 bins
    for name, whole in arrays.items():
        np.save(f"{name}.npy", whole)
        Path(name).mkdir()
        for i, part in enumerate(np.split(whole, np.cumsum(SIZES)[:-1])):
            np.save(f"{name}/{i}.npy", part)
    np.save("g.npy", np.minimum(rng.geometric(0.3, N_ROWS), 6))
    return tmp_path


def loaded(*names):
    counted = np.load("y.npy") != -100
    return [np.load(f"{name}.npy")[counted] for name in names]


ASKED = ["--brier", "--calibration"]


def test_scores_are_the_librarys(folder, evaluate):
    x, p, y = loaded("x", "p", "y")
    found = evaluate("x.npy", "y.npy", *ASKED, "--entropy", "--bins", 10)
    brier, error = (
        fastloss.Accumulator(name, **options) for name, options in (("brier", {}), ("calibration", {"bins": 10}))
    )
    for accumulator in (brier, error):
        accumulator.update(x, y)
    assert found["brier"] == pytest.approx(brier.compute(), rel=1e-13)
    assert found["calibration"]["ece"] == pytest.approx(error.compute(), rel=1e-5)
    assert found["entropy"] == math.fsum(fastloss.score(x, entropy=True).entropy.tolist()) / len(y)
    table = found["calibration"]["table"]
    assert found["calibration"]["bins"] == 10 and sum(row["counted"] for row in table) == len(y)
    gaps = [(row["counted"], abs(row["probability"] - row["outcome"])) for row in table]
    assert found["calibration"]["ece"] == pytest.approx(sum(n * gap for n, gap in gaps) / len(y), rel=1e-12)
    assert found["calibration"]["mce"] == max(gap for _, gap in gaps)
    assert all(row["low"] <= row["probability"] <= row["high"] for row in table)

    found = evaluate("p.npy", "y.npy", *ASKED, "--loss", "categorical_cross_entropy")
    assert found["brier"] == pytest.approx(fastloss.brier_score(p.astype(float), y), rel=1e-13)
    for name, norm in (("ece", "l1"), ("mce", "max")):
        assert found["calibration"][name] == pytest.approx(fastloss.calibration_error(p, y, norm=norm), rel=1e-6)


def test_scores_of_events(folder, evaluate):
    for name, kind in (("z", "binary_cross_entropy_with_logits"), ("q", "binary_cross_entropy")):
        found = evaluate(f"{name}.npy", "b.npy", *ASKED, "--loss", kind)
        x, b = np.load(f"{name}.npy"), np.load("b.npy")
        measures = [fastloss.Accumulator("brier"), fastloss.Accumulator("calibration")]
        if name == "q":
            measures = [fastloss.Accumulator(f) for f in (fastloss.brier_score, fastloss.calibration_error)]
        for measure in measures:
            measure.update(x, b.astype(int))
        assert found["brier"] == pytest.approx(measures[0].compute(), rel=1e-7)
        assert found["calibration"]["ece"] == pytest.approx(measures[1].compute(), rel=1e-6)


def test_intervals_of_groups(folder, evaluate):
    """Those of a group are those of its rows alone, and those of all rows do not change."""
    options = ["x.npy", "y.npy", "--brier", "--entropy", "--top-k", 2, "--bootstrap", 300]
    found = evaluate(*options, "--group-by", "g.npy")
    assert found["intervals"] == evaluate(*options)["intervals"]
    assert {"mean", "perplexity", "accuracy", "top_k_accuracy", "brier", "entropy"} < found["intervals"].keys()
    y, g = np.load("y.npy"), np.load("g.npy")
    for entry in found["groups"]:
        np.save("y-of-group.npy", np.where(g == entry["group"], y, -100))
        alone = evaluate("x.npy", "y-of-group.npy", *options[2:])
        for name, (low, high) in entry["intervals"].items():
            assert [low, high] == alone["intervals"][name] and low <= entry[name] <= high
    assert "intervals" not in evaluate(*options, "--group-by", "g.npy", "--resample", "group")["groups"][0]


@pytest.mark.parametrize("unit", ["row", "sample", "shard"])
def test_resamples_of_groups_add_up(folder, evaluate, unit):
    options = ["x", "y", "--bootstrap", 50, "--resample", unit]
    assert evaluate(*options, "--group-by", "g.npy")["intervals"] == evaluate(*options)["intervals"]


def test_many_groups_have_no_intervals(folder, evaluate):
    np.save("many.npy", np.arange(N_ROWS))
    found = evaluate("x.npy", "y.npy", "--bootstrap", 300, "--group-by", "many.npy")
    assert "intervals" not in found["groups"][0] and "intervals" in found


def test_macro_averages(folder, evaluate):
    found = evaluate("x.npy", "y.npy", "--brier", "--top-k", 2, "--group-by", "g.npy", "--bootstrap", 200)
    macro, groups = found["macro"], found["groups"]
    assert (macro["unit"], macro["units"]) == ("group", 6)
    for name in ("mean", "accuracy", "top_k_accuracy", "brier"):
        assert macro[name] == pytest.approx(np.mean([group[name] for group in groups]), rel=1e-14)
        assert macro[name] != found[name]
        low, high = macro["intervals"][name]
        assert low < macro[name] < high
    assert macro["perplexity"] == math.exp(macro["mean"]) and "counted" not in macro

    by_shard = evaluate("x", "y", "--macro", "shard")
    means = [evaluate(f"x/{i}.npy", f"y/{i}.npy")["mean"] for i in (0, 2, 3)]  # the one row of the second is counted
    means.append(evaluate("x/1.npy", "y/1.npy")["mean"])
    assert by_shard["macro"]["mean"] == pytest.approx(np.mean(means), rel=1e-14) and by_shard["macro"]["units"] == 4
    assert "groups" not in by_shard


@pytest.mark.parametrize("unit", ["group", "shard"])
def test_macro_intervals_draw_groups_or_shards(folder, evaluate, unit):
    """Of two groups of one loss each, a resample has the mean of those drawn: the interval ends at the two."""
    x = np.zeros((20, 2), np.float32)
    x[10:, 0] = 3.0
    for i in range(2):
        Path(f"two{i}").mkdir()
    np.save("two0/0.npy", x[:10]), np.save("two0/1.npy", x[10:])
    np.save("two1/0.npy", np.zeros(10, int)), np.save("two1/1.npy", np.zeros(10, int))
    np.save("two.npy", np.repeat([5, 7], 10))
    options = ["--group-by", "two.npy"] if unit == "group" else []
    macro = evaluate("two0", "two1", "--macro", unit, "--resample", unit, "--bootstrap", 200, *options)["macro"]
    ends = [math.log1p(math.exp(-3.0)), math.log(2.0)]
    assert macro["intervals"]["mean"] == pytest.approx(ends, rel=1e-6)
    assert macro["mean"] == pytest.approx(np.mean(ends), rel=1e-6)


def test_groups_without_anything_counted(folder, evaluate):
    y = np.load("y.npy")
    g = np.where(y == -100, 99, 1)
    np.save("g.npy", g)
    found = evaluate("x.npy", "y.npy", "--group-by", "g.npy", "--bootstrap", 20)
    assert found["macro"]["units"] == 1 and found["macro"]["mean"] == found["mean"]
    assert found["groups"][1]["mean"] == "NaN" == found["groups"][1]["intervals"]["mean"][0]


EVERYTHING = [*ASKED, "--entropy", "--group-by", "g.npy", "--bootstrap", 60, "--top-k", 2]


def test_shards_and_chunks_are_one_array(folder, evaluate):
    whole = evaluate("x.npy", "y.npy", *EVERYTHING)
    for more in ([], ["--chunk-size", 7], ["--threads", 1]):
        assert figures(evaluate("x", "y", *EVERYTHING, *more)) == figures(whole)


def test_workers_and_resume(folder, evaluate, error):
    pytest.importorskip("distributed")
    command = ["x", "y", *EVERYTHING, "--macro", "shard"]
    here = evaluate(*command)
    assert figures(evaluate(*command, "--workers", 2)) == figures(here)
    labels = np.load("y/3.npy")
    np.save("y/3.npy", np.full_like(labels, 77))
    assert "77" in error(*command, "--journal", "run.journal")
    lines = Path("run.journal").read_text().splitlines()
    assert len(lines) == 4  # the run, and three shards
    np.save("y/3.npy", labels)
    journal = [json.loads(line) for line in lines]
    assert journal[0]["brier"] and journal[0]["macro"] == "shard"
    assert "y/3.npy has changed" in error(*command, "--journal", "run.journal", "--resume")


def test_against_with_groups(folder, evaluate):
    rng = np.random.default_rng(2)
    np.save("r.npy", np.load("x.npy") + rng.normal(0, 0.3, (N_ROWS, 6)).astype(np.float32))
    options = ["--against", "r.npy", "--group-by", "g.npy", "--bootstrap", 100]
    found = evaluate("x.npy", "y.npy", *options)
    for entry in found["groups"]:
        for name in ("difference", "kl"):
            low, high = entry["intervals"][name]
            assert low <= entry[name] <= high
    assert found["macro"]["difference"] == pytest.approx(np.mean([g["difference"] for g in found["groups"]]), rel=1e-12)
    found = evaluate("x.npy", "--no-targets", *options)
    assert found["macro"]["kl"] == pytest.approx(np.mean([g["kl"] for g in found["groups"]]), rel=1e-14)
    low, high = found["groups"][0]["intervals"]["kl"]
    assert low < found["groups"][0]["kl"] < high


def test_text(folder, capsys):
    assert main(["eval", "x.npy", "y.npy", *map(str, EVERYTHING)]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "Brier score",
        "entropy",
        "calibration",
        "ECE",
        "(15 bins)",
        "macro average",
        "(6 groups)",
        " to ",
    ):
        assert expected in shown, shown


def test_errors(folder, error):
    assert "--bins" in error("x.npy", "y.npy", "--bins", 4)
    assert "--brier" in error("x.npy", "p.npy", "--brier")
    assert "--brier" in error("z.npy", "q.npy", "--brier", "--loss", "binary_cross_entropy_with_logits")
    assert "--calibration" in error("z.npy", "q.npy", "--calibration", "--loss", "mse_loss")
    assert "--entropy" in error("p.npy", "y.npy", "--entropy", "--loss", "categorical_cross_entropy")
    assert "--macro group" in error("x.npy", "y.npy", "--macro", "group")
    assert "needs targets" in error("x.npy", "--no-targets", "--against", "x.npy", "--brier")


DOM = """
class Cell {
  constructor(text) { this.textContent = text; this.attributes = {}; this.listeners = {}; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
}
const data = JSON.parse(process.argv[2]);
const heads = data[0].map(text => new Cell(text));
const body = { rows: data.slice(1).map(row => ({ cells: row.map(text => new Cell(text)) })), append(...rows) { this.rows = rows; } };
const document = { querySelectorAll: () => [{ tHead: { rows: [{ cells: heads }] }, tBodies: [body] }] };
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_tables_are_sorted(folder, evaluate):
    """The page's script, run on a table of a minimal document."""
    evaluate("x.npy", "y.npy", "--report", "page.html")
    script = re.search(r"<script>(.*?)</script>", Path("page.html").read_text(), re.DOTALL)[1]
    table = [["name", "value"], ["b", "2"], ["a10", "-1e-05"], ["c", "10 to 12"], ["d", "nan"], ["a9", "3%"]]
    clicks = [(1, "click"), (1, "click"), (0, "click"), (0, "keydown")]
    steps = "".join(
        f"heads[{i}].listeners.{name}({{key: 'Enter'}});"
        f"console.log(JSON.stringify([heads[{i}].attributes['aria-sort'], body.rows.map(row => row.cells[0].textContent)]));"
        for i, name in clicks
    )
    Path("run.js").write_text(DOM + script + steps)
    out = subprocess.run(["node", "run.js", json.dumps(table)], capture_output=True, text=True, check=True).stdout
    found = [json.loads(line) for line in out.splitlines()]
    assert found == [
        ["descending", ["d", "c", "a9", "b", "a10"]],
        ["ascending", ["a10", "b", "a9", "c", "d"]],
        ["descending", ["d", "c", "b", "a9", "a10"]],
        ["ascending", ["a10", "a9", "b", "c", "d"]],
    ]
