"""`fastloss bench` and `pytest bench`: what they print, write and refuse."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastloss.bench import case as described
from fastloss.bench import cases, contenders, plot, report, session
from fastloss.bench.cases import CASES
from fastloss.cli import main

ROOT = Path(__file__).parents[1]
QUICK = ["--cases", "mse_f32_1e5", "ce_f32_1x10", "--contenders", "fastloss", "numpy", "--seconds", "0.2"]


def test_json(capsys, tmp_path):
    output = tmp_path / "figures.json"
    assert main(["bench", *QUICK, "--threads", "1", "--json", "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.count("\n") == 1 and output.read_text() == captured.out
    document = json.loads(captured.out, parse_constant=lambda constant: pytest.fail(constant))
    assert document["format"] == report.FORMAT and document["threads"] == 1
    assert set(document["build"]) == {"version", "path", "digest"} and document["build"]["path"]
    assert {"fastloss", "numpy"} <= set(document["versions"]) and document["cpu"]
    assert [case["name"] for case in document["cases"]] == ["ce_f32_1x10", "mse_f32_1e5"]  # the table's order
    for case in document["cases"]:
        assert (
            described.from_dict(case).name == case["name"] and case["roof"]["kind"] == "read" and case["roof"]["rounds"]
        )
        for entry in case["contenders"]:
            assert entry["agrees"] and entry["seconds"] > 0 and entry["rounds"]
            assert (entry["of_roof"] is None) == (case["bound"] == "launch")
            assert (entry["times_reference"] is None) == (entry["name"] == entry["reference"])
            assert entry["peak_bytes"] >= 0


def test_text(capsys):
    assert main(["bench", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "mse_f32_1e5: mse_loss, float32 100000 (cache-bound)" in out
    assert re.search(r"^  numpy +[\d.]+ us +[\d.]+ +[\d.]+ +[\d.]+ (\[|\(one round)", out, re.MULTILINE)
    assert max(map(len, out.splitlines()[2:])) < 120


def test_cases_of_ones_own(capsys, tmp_path):
    path = tmp_path / "bench_mine.py"
    path.write_text(
        "CASES = {'own': {'call': lambda n: sum(range(n)), 'parameters': {'n': [9]}, 'bytes': lambda n: 8 * n},"
        " 'nothing': {'call': lambda: None}}"
    )
    arguments = ["--cases-from", str(path), "--contenders", "fastloss", "numpy", "--seconds", "0.1"]
    assert main(["bench", *arguments]) == 0
    out = capsys.readouterr().out
    assert f"own/n=9: own of {path}, n=9 (launch-bound)" in out and "has no counterpart here" in out
    assert "no bytes declared" in out and "DIFFERENT" not in out
    assert main(["bench", *arguments[:2], "--list"]) == 0
    assert "  own/n=9 " in capsys.readouterr().out


def test_list(capsys):
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*CASES, *contenders.contenders()))
    assert main(["bench", "--list", "--json", "--cases", "1e5"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in listed["cases"]] == [name for name in CASES if "1e5" in name]


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--cases", "nonesuch"], "--cases: 'nonesuch' matches no case"),
        (["--contenders", "abacus"], "--contenders: 'abacus' is not one of fastloss-"),
        (["--seconds", "0"], "must be above 0"),
        (["--threads", "0"], "must be at least 1"),
        (["--plot", "figure.xyz"], "figure.xyz: expected a name that ends in"),
        (["--plot", "/nowhere/figure.png"], "cannot be written"),
        (["--output", "/nowhere/figures.json"], "cannot be written"),
        (["--with", "."], "--with: goes with --against"),
        (["--allow", "slower"], "--allow: goes with --against"),
        (["--gates", "memory=2"], "--gates: goes with --against"),
        (["--instructions"], "--instructions: goes with --against"),
        (["--machine-code"], "--machine-code: goes with --against"),
        (["--cpu-time"], "--cpu-time: goes with --against"),
        (["--markdown", "x.md"], "--markdown: goes with --against"),
        (["--pytest-benchmark", "x.json"], "--pytest-benchmark: goes with --against"),
        (["--store", "x"], "--store: goes with --against"),
        (["--case", "x"], "--case: goes with --bisect"),
        (["--functions", "mse_loss"], "--functions: goes with --sweep"),
        (["--sizes", "10"], "--sizes: goes with --sweep"),
        (["--sweep", "--sizes", "0.5"], "must be a whole number in [1, 1e+09], not 0.5"),
        (["--sweep", "--functions", "nonesuch"], "--functions: 'nonesuch' matches no function at these sizes"),
        (["--sweep", "--cases", "all"], "--cases: does not go with --sweep"),
        (["--sweep", "--against", "main"], "--against: does not go with --sweep"),
        (["--sweep", "--store", "x"], "--store: goes with --against"),
        (["--sweep", "--contenders", "numpy"], "--contenders: a backend of fastloss has to be among them"),
        (["--cases-from", "/nowhere.py"], "/nowhere.py: no such file"),
    ],
)
def test_bad_arguments(capsys, arguments, problem):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_former_names(capsys, tmp_path):
    seen = []
    for against, limit in (("--against", "--limit"), ("--compare", "--fail-above")):
        code = main(["bench", against, str(tmp_path / "missing.json"), limit, "1.2"])
        seen.append((code, capsys.readouterr().err))
    assert seen[0] == seen[1] and seen[0][0] == 2 and "missing.json" in seen[0][1]


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    png, svg = tmp_path / "figure.png", tmp_path / "figure.svg"
    assert main(["bench", *QUICK, "--plot", str(png)]) == 0
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 10_000
    who = contenders.select(["fastloss", "numpy"])
    results = [session.run_case(case, who, seconds=0.1, threads=1) for case in cases.select(["?s?_f32_1*"])]
    plot.save(results, session.conditions(who, 1), str(svg))
    drawn = svg.read_text()
    for text in ("memory roof", who[0].name, "numpy", "share of the roof", "time of a call", "MSE", "float32"):
        assert text in drawn, text


def test_plot_without_matplotlib_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", *QUICK, "--plot", "figure.png"]) == 2
    assert "pip install 'fastloss[plot]'" in capsys.readouterr().err


def test_import_stays_light():
    code = (
        "import sys, fastloss.cli.bench.arguments;"
        "print([m for m in ('numba', 'matplotlib', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# --- pytest bench ---------------------------------------------------------------------------------------------------------------


def test_pytest_bench(tmp_path):
    pytest.importorskip("pytest_benchmark")
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider", "--case-seconds", "0.2"]
    command += [
        "--cases",
        "mse_f32_1e5,ce_f32_64x1000",
        "--contenders",
        "fastloss,numpy",
        f"--benchmark-json={figures}",
    ]
    # pytest-benchmark measures nothing in a worker of pytest-xdist, which this process is not
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "roof: " in process.stdout
    found = {entry["name"]: entry for entry in json.loads(figures.read_text())["benchmarks"]}
    n_backends = len(contenders.select(["fastloss"]))
    assert len(found) == 2 * (n_backends + 1)
    entry = found["test_case[mse_f32_1e5-numpy]"]
    info = entry["extra_info"]
    assert entry["stats"]["median"] == pytest.approx(info["seconds"])  # the interleaved rounds, handed over
    assert entry["group"].startswith("mse_f32_1e5") and info["case"] == "mse_f32_1e5"
    assert info["gigabytes_per_second"] == pytest.approx(800_000 / info["seconds"] / 1e9)
    assert info["of_roof"][0] > 0 and info["times_reference"][0] > 0 and info["peak_bytes"] > 0


def test_benchmarks_are_no_part_of_the_tests():
    assert 'testpaths = ["tests"]' in (ROOT / "pyproject.toml").read_text()
