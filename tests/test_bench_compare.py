"""`fastloss bench --compare`: a kernel made slower on purpose is caught, the same code is not, chance is told apart."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss.bench import build, compare, contenders, measure, report
from fastloss.bench.cases import CASES
from fastloss.cli import main

pytest.importorskip("numba")  # the backend of the builds that are compared

HERE = Path(fastloss.__file__).parents[1]

# Each call of mse_loss takes this much longer than it would, whatever it would.
SLOWER = """
def _slower(loss, factor):
    import time

    def slow(*args, **kwargs):
        start = time.perf_counter()
        result = loss(*args, **kwargs)
        end = start + factor * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return result

    return slow

from fastloss.functional import mse_loss

mse_loss = _slower(mse_loss, {factor})
"""


def copied(folder, factor=None):
    """A second build: this one's sources in `folder`, mse_loss made slower by `factor`."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "fastloss", folder / "fastloss", ignore=ignored)
    if factor:
        with open(folder / "fastloss" / "__init__.py", "a") as file:
            file.write(SLOWER.format(factor=factor))
    return folder


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Folders of the same code and of a slower one."""
    folder = tmp_path_factory.mktemp("builds")
    return {"same": copied(folder / "same"), "slow": copied(folder / "slow", 1.3)}


@pytest.fixture(scope="module")
def baseline(builds, tmp_path_factory):
    """What the build in `same` measured of itself."""
    path = tmp_path_factory.mktemp("baseline") / "baseline.json"
    command = ["--cases", "mse_f32_1e5", "l1_f32_1e5", "--contenders", "fastloss-numba", "--seconds", "2", "--json"]
    process = bench(builds["same"], *command)
    assert process.returncode == 0, process.stderr
    path.write_text(process.stdout)
    assert json.loads(process.stdout)["build"]["path"] == str(builds["same"])
    return path


def bench(folder, *arguments):
    """`fastloss bench` of the build in `folder`."""
    command = [sys.executable, "-P", "-m", "fastloss", "bench", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, cwd=folder)


def test_slower_build_is_caught(builds, baseline):
    # 1.15: tests run on machines that do other things as well
    options = ["--cases", "mse_f32_1e5", "--fail-above", "1.15", "--seconds", "10", "--json"]
    process = bench(builds["slow"], "--compare", baseline, *options)
    assert process.returncode == 1, process.stdout + process.stderr
    document = json.loads(process.stdout)
    assert document["method"] == "interleaved" and document["regressions"] == 1
    (entry,) = document["cases"]
    assert entry["verdict"] == "regression"
    median, low, high = entry["ratio"]
    assert 1.15 < low <= median <= high and median < 1.7


def test_same_code_stays_quiet(builds, baseline, capsys):
    for _ in range(2):
        arguments = ["--compare", str(baseline), "--baseline-path", str(builds["same"]), "--seconds", "3"]
        assert main(["bench", *arguments, "--cases", "mse_f32_1e5"]) == 0
    out = capsys.readouterr().out
    assert out.count("regressions above 1.25: 0 of 1") == 2
    assert "both builds take turns" in out and str(builds["same"]) in out


def test_build_named_by_the_baseline_is_used_while_it_is_unchanged(builds, baseline):
    data = report.read(baseline.read_text())
    with compare.method(data, path=None, fail_above=1.25, threads=1) as way:
        assert isinstance(way, compare.Interleaved)
    data["build"]["digest"] = "another"
    way = compare.method(data, path=None, fail_above=1.25, threads=1)
    assert isinstance(way, compare.AgainstFigures) and "no longer there" in way.description
    data["build"] = build.this_build()
    way = compare.method(data, path=None, fail_above=1.25, threads=1)
    assert isinstance(way, compare.AgainstFigures) and "where this build lies now" in way.description


def altered(baseline, tmp_path, factor=1.0):
    """The baseline without its build, its fastloss times multiplied."""
    data = json.loads(baseline.read_text())
    data["build"]["path"] = str(tmp_path / "gone")
    for case in data["cases"]:
        for entry in case["contenders"]:
            entry["rounds"] = [seconds * factor for seconds in entry["rounds"]]
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(data))
    return path


def test_figures_alone_find_what_is_gross(baseline, tmp_path, capsys):
    arguments = ["--cases", "mse_f32_1e5", "--seconds", "2", "--json"]
    assert main(["bench", "--compare", str(altered(baseline, tmp_path, 0.01)), *arguments]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["method"] == "roof" and document["widened"] == compare.BETWEEN_RUNS
    assert "further factor of 1.25" in document["description"]
    assert [entry["verdict"] for entry in document["cases"]] == ["regression"]
    assert main(["bench", "--compare", str(altered(baseline, tmp_path, 100)), *arguments]) == 0


def test_the_interval_decides():
    def verdict(low, high, widened=1.0):
        ratio = measure.Ratio((low + high) / 2, low, high, 30)
        return compare.Verdict(CASES["mse_f32_10"], "fastloss-numba", ratio, 1.25, widened)

    assert verdict(1.26, 1.4).regression and verdict(1.26, 1.4).word == "REGRESSION"
    assert not verdict(1.24, 3.0).regression and verdict(1.24, 3.0).word == "not excluded"
    assert verdict(0.9, 1.1).word == "ok"
    assert not verdict(1.3, 1.5, widened=1.25).regression
    assert verdict(1.6, 1.9, widened=1.25).regression
    few = measure.Ratio(9.0, np.nan, np.nan, 1)
    assert not compare.Verdict(CASES["mse_f32_10"], "fastloss-numba", few, 1.25).regression


def test_what_a_build_cannot_do_is_said(builds):
    ours = contenders.select(["fastloss"])[0]
    with compare.Interleaved(HERE, builds["same"], fail_above=9.0, threads=1) as way:
        lacking = replace(CASES["mse_f32_10"], name="lacking", axis=5, loss="cross_entropy")
        found = way.verdict(lacking, ours, 1.0)
        assert found.ratio is None and found.word == "not compared" and found.note.startswith("this build: ")
        assert way.verdict(CASES["mse_f32_10"], ours, 0.5).ratio is not None  # the workers live on


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[" * 100_000, '{"format": 1}', '{"format": 1, "build": {"digest": "x"}}']
)
def test_files_that_are_no_baseline(capsys, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    assert main(["bench", "--compare", str(path)]) == 2
    captured = capsys.readouterr()
    assert "is not what `fastloss bench --json` of this version writes" in captured.err and not captured.out


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["cases", 0, "roof", "rounds", 1], 0.0, "cases[0].roof.rounds[1]: expected a number above 0, got 0.0"),
        (["cases", 0, "roof", "rounds", 0], "1e-5", "cases[0].roof.rounds[0]: expected a number above 0, got '1e-5'"),
        (["cases", 0, "roof", "rounds"], [], "cases[0].roof.rounds: expected a list of at least one entry, got []"),
        (["cases", 0, "roof"], None, "cases[0].roof: expected an object, got None"),
        (
            ["cases", 0, "contenders", 0, "rounds", 2],
            None,
            "cases[0].contenders[0].rounds[2]: expected a number above 0,",
        ),
        (
            ["cases", 0, "contenders", 0, "rounds", 2],
            -1e-5,
            "cases[0].contenders[0].rounds[2]: expected a number above 0,",
        ),
        (["cases", 0, "contenders", 0, "rounds"], {}, "cases[0].contenders[0].rounds: expected a list, got {}"),
        (["cases", 0, "contenders", 0, "value"], "Infinity", "cases[0].contenders[0].value: expected a number, got"),
        (
            ["cases", 0, "contenders", 0, "value"],
            float("nan"),
            "cases[0].contenders[0].value: expected a number, got nan",
        ),
        (["cases", 0, "contenders", 0, "name"], 3, "cases[0].contenders[0].name: expected a string, got 3"),
        (["cases", 1, "loss"], "eval", "cases[1].loss: expected 'cross_entropy' or "),
        (["cases", 1, "loss"], ["mse_loss"], "cases[1].loss: expected 'cross_entropy' or "),
        (["cases", 1, "shape"], [0], "cases[1].shape[0]: expected an integer of at least 1, got 0"),
        (["cases", 1, "shape"], [True], "cases[1].shape[0]: expected an integer of at least 1, got True"),
        (["cases", 1, "axis"], 1, "cases[1].axis: expected one of 1 axes, got 1"),
        (["cases", 1, "axis"], 0.0, "cases[1].axis: expected an integer, got 0.0"),
        (["cases"], {"a": 1}, "cases: expected a list, got {'a': 1}"),
        (["build", "path"], 3, "build.path: expected a string, got 3"),
        (["build"], {}, "build.path is missing"),
        (["threads"], 0, "threads: expected an integer of at least 1, got 0"),
        (["threads"], "2", "threads: expected an integer of at least 1, got '2'"),
        (["format"], 0, "format: expected 1, got 0"),
        (["format"], True, "format: expected 1, got True"),
    ],
)
def test_a_baseline_is_checked_in_every_place(capsys, baseline, tmp_path, path, value, problem):
    data = json.loads(baseline.read_text())
    *parents, last = path
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    (tmp_path / "bent.json").write_text(json.dumps(data))
    assert main(["bench", "--compare", str(tmp_path / "bent.json")]) == 2
    message = capsys.readouterr().err
    what = "is not what `fastloss bench --json` of this version writes"
    assert message.startswith(f"fastloss: error: {tmp_path}/bent.json: {what}: {problem}") and message.count("\n") == 1


def test_bad_arguments(capsys, baseline, tmp_path):
    def refused(*arguments):
        assert main(["bench", "--compare", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "absent.json: no such file or directory" in refused(tmp_path / "absent.json")
    assert "no package fastloss in this directory" in refused(baseline, "--baseline-path", tmp_path)
    assert "does not go with --compare" in refused(baseline, "--plot", "x.png")
    assert "has none of these cases" in refused(baseline, "--cases", "huber")
    assert "the baseline's figures are for" in refused(altered(baseline, tmp_path), "--threads", "37")
    assert "must be at least 1" in refused(baseline, "--fail-above", "0.5")
    broken = tmp_path / "broken" / "fastloss"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('not today')")
    assert "not today" in refused(baseline, "--baseline-path", broken.parent)
