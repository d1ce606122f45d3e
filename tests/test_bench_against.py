"""`fastloss bench --against`: the run as a whole on simulated machines, and on processes whose difference is made."""

import json
import math
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from amounts import few_or_many

import fastloss
from fastloss.bench import against, environments, findings, gates, instructions, judge, own, verdicts
from fastloss.bench.cases import CASES
from fastloss.bench.side import Side, this_side
from fastloss.bench.turns import Sitting, Subject
from fastloss.cli import main
from fastloss.cli.bench import sides

HERE = Path(fastloss.__file__).parents[1]
NAMES = ("mse_loss/value/small", "l1_loss/value/small", "score/value/small")
NEW, OLD = Side("new"), Side("old")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Processes:
    """Stands for pairs of processes on a machine of which everything is known; each pair takes ten seconds of the clock."""

    def __init__(self, ratios=(), *, noise=0.01, missing=(), values=()):
        self.ratios, self.noise, self.missing, self.values = dict(ratios), noise, dict(missing), dict(values)
        self.clock, self.random, self.sat = Clock(), random.Random(5), []

    def __call__(self, sides, rng):
        self.sides = sides
        self.own = self.random.gauss(0, self.noise)  # what this pair has for all of its life
        self.workers = [type("", (), {"hello": {"versions": {"numba": side.label}, "modules": 1}})() for side in sides]
        self.clock.now += 10
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def sit(self, subject, threads, clock):
        name, alike = subject.name, self.sides[0] is self.sides[1]
        self.sat.append((name, alike))
        found = Sitting()
        for i, side in enumerate(self.sides):
            found.missing[i] = "this version has no such thing" if self.missing.get(name) == side.label else ""
        if any(found.missing):
            return found
        true = 0.0 if alike else math.log(self.ratios.get(name, 1.0))
        found.log_ratios = [true + self.own + self.random.gauss(0, self.noise) for _ in range(4)]
        found.seconds, found.values = [1e-6 * math.exp(true), 1e-6], [1.0, 1.0]
        if name in self.values and not alike:
            found.values = [self.values[name], 1.0]
        return found


def compared(processes, *, limit=1.05, seconds=1000.0, names=NAMES):
    comparison = against.Comparison(
        [Subject(CASES[name]) for name in names],
        (NEW, OLD),
        limit=limit,
        seconds=seconds,
        threads=1,
        pair=processes,
        clock=processes.clock,
    )
    comparison.same_code()
    return comparison.run()


def code(outcome, *allowed):
    return findings.exit_code(findings.problems(outcome.findings, findings.allowances(allowed), outcome.whole))


# --- verdicts -----------------------------------------------------------------------------------------------------------


def test_each_case_has_its_verdict():
    outcome = compared(Processes({NAMES[0]: 1.3, NAMES[1]: 1 / 1.3}))
    assert [finding.verdict for finding in outcome.findings] == ["slower", "faster", "same"]
    slow = outcome.findings[0]
    low, high = slow.estimate.interval()
    assert 1.25 < low < 1.3 < high < 1.35 and slow.seconds == (pytest.approx(1.3e-6), 1e-6)
    assert 1.05 < slow.detectable < 1.2 and outcome.false_alarm_rate <= 0.05
    assert outcome.versions == [{"numba": "new"}, {"numba": "old"}] and outcome.differences == {"numba": ("new", "old")}
    assert code(outcome) == 1 and code(outcome, "slower") == 0
    assert code(outcome, f"slower:{NAMES[0]}") == 0 and code(outcome, "slower:score/*") == 1


def test_a_kernel_a_tenth_slower_is_found():
    """Wherever the A/A run says that it can be, within the budget: 20 runs on machines of various noise."""
    claimed = found = 0
    for run in range(20):
        processes = Processes({NAMES[0]: 1.1}, noise=0.004 + 0.001 * run)
        processes.random = random.Random(run)
        slow = compared(processes, limit=1.02, seconds=600.0).findings[0]
        if slow.detectable is not None and slow.detectable <= 1.1:
            claimed += 1
            found += slow.verdict == "slower"
        assert processes.clock.now <= 620
    assert claimed >= 10 and found >= 0.9 * claimed


@few_or_many("runs", 40, 200)
def test_the_same_code_raises_no_alarm(runs):
    alarms = 0
    for run in range(runs):
        processes = Processes(noise=0.02)
        processes.random = random.Random(run)
        outcome = compared(processes, limit=1.0, seconds=250.0)
        alarms += any(finding.verdict != "can't tell" for finding in outcome.findings)
    assert alarms <= 0.05 * runs


def test_only_what_is_open_is_measured_further():
    processes = Processes({NAMES[0]: 1.06}, noise=0.012)  # near the limit
    outcome = compared(processes, seconds=2000.0)
    pairs = [finding.estimate.pairs for finding in outcome.findings]
    assert pairs[0] > max(pairs[1:]) >= judge.FIRST_LOOK and outcome.pairs == pairs[0]
    assert sum(alike for _, alike in processes.sat) == judge.FIRST_LOOK * len(NAMES) == outcome.same_code_pairs * 3


def test_time_is_kept_and_what_cannot_be_told_is_said():
    processes = Processes(noise=0.3)
    outcome = compared(processes, seconds=120.0)
    assert processes.clock.now <= 140 and outcome.same_code_pairs == 4
    assert {finding.verdict for finding in outcome.findings} == {"can't tell"}
    assert code(outcome) == 5 and code(outcome, "cant-tell") == 0
    short = compared(Processes(), seconds=1.0)
    assert (short.same_code_pairs, short.pairs) == (2, 2)  # fewer would say nothing


# --- never silent -----------------------------------------------------------------------------------------------------------


def test_a_case_that_one_side_lacks():
    outcome = compared(Processes(missing={NAMES[1]: "old"}))
    lacking = outcome.findings[1]
    assert lacking.verdict == "missing" and lacking.estimate is None
    assert lacking.problems == [("missing", "old side: this version has no such thing")]
    assert code(outcome) == 4 and code(outcome, "missing") == 0 and code(outcome, "missing:score/*") == 4


def test_values_that_differ():
    outcome = compared(Processes(values={NAMES[0]: 1.001}))
    assert outcome.findings[0].problems == [("differs", "1.001 against 1")] and code(outcome) == 3
    assert code(compared(Processes(values={NAMES[0]: 1.00001}))) == 0
    assert code(compared(Processes(values={NAMES[0]: math.nan}))) == 3


def test_nothing_measured():
    outcome = compared(Processes(missing=dict.fromkeys(NAMES, "new")))
    assert code(outcome) == 6 and code(outcome, "nothing") == 4 and code(outcome, "nothing", "missing") == 0


def test_what_pytest_benchmark_reads():
    outcome = compared(Processes({NAMES[0]: 1.3}, missing={NAMES[1]: "old"}))
    document = verdicts.document(outcome, [], [], 0, {"cpu": "x"})
    entries = verdicts.benchmark_json(document)["benchmarks"]
    assert [entry["name"] for entry in entries] == [f"{name}[{side}]" for name in NAMES[::2] for side in ("new", "old")]
    stats = entries[0]["stats"]
    assert stats["rounds"] == outcome.findings[0].estimate.pairs == len(stats["data"])
    assert stats["min"] <= stats["q1"] <= stats["median"] == pytest.approx(1.3e-6) and stats["iterations"] == 1
    reader = pytest.importorskip("pytest_benchmark.stats").Stats()
    for seconds in stats["data"]:
        reader.update(seconds)
    for name in ("min", "max", "mean", "median", "stddev", "total", "ops", "outliers", "ld15iqr", "hd15iqr"):
        assert stats[name] == pytest.approx(getattr(reader, name)), name


def test_the_gravest_problem_comes_first():
    outcome = compared(Processes({NAMES[0]: 1.5}, missing={NAMES[1]: "new"}, values={NAMES[2]: 7.0}))
    listed = findings.problems(outcome.findings, findings.allowances(["differs"]))
    assert [problem.kind for problem in listed] == ["slower", "missing", "differs"] and listed[-1].allowed
    assert findings.exit_code(listed) == 1 and code(outcome) == 3
    text = verdicts.text(outcome, listed, ["a warning"])
    assert (
        text.startswith("SLOWER  mse_loss/value/small: 1.")
        and "DIFFERS  score/value/small: 7 against 1 (allowed)" in text
    )
    assert "warning: a warning" in text and "1 missing, 1 slower, 1 same" in text
    with pytest.raises(ValueError, match="'slow' is not one of nothing, differs, slower"):
        findings.allowances(["slow"])
    assert len({number for number, _ in findings.KINDS.values()} | {0, 2, 74, 130}) == len(findings.KINDS) + 4


# --- counting instructions ----------------------------------------------------------------------------------------------------

PERF = """#!/bin/sh
# a counter that sees 1000 instructions in a call, beside those of starting
shift 5
input=$(cat)
printf '%s' "$input" | "$@" > /dev/null
calls=$(printf '%s' "$input" | sed -n 's/.*"repeats": \\([0-9]*\\).*/\\1/p')
echo "$((1000000 + 1000 * ${calls:-0})),,instructions:u,1,100.00,," >&2
"""


def test_instructions(monkeypatch, tmp_path):
    if not shutil.which("sh"):
        pytest.skip("needs a shell")
    (tmp_path / "perf").write_text(PERF)
    (tmp_path / "perf").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(instructions, "_ONE_THREAD", (("FASTLOSS_NUM_THREADS", "1"),))
    instructions.counter.cache_clear()
    try:
        assert instructions.counter() == "perf"
        assert instructions.of(Subject(CASES[NAMES[0]]), this_side(), 0.1) == 1000
        monkeypatch.setattr(instructions, "counter", lambda: "")
        assert instructions.of(Subject(CASES[NAMES[0]]), this_side(), 0.1) is None
    finally:
        monkeypatch.undo()
        instructions.counter.cache_clear()


def test_how_many_calls_are_counted(monkeypatch, tmp_path):
    """No more than take a second at full speed, whether or not a case says how many elements it has."""
    path = tmp_path / "bench_mine.py"
    path.write_text("CASES = {'own': {'call': print}, 'large': {'call': print, 'elements': 10_000_000}}")
    asked = []

    def whole(subject, side, repeats, before):
        asked.append(repeats)
        return subprocess.CompletedProcess([], 0, "", f"{500 + 7 * repeats},,instructions:u,1,100.00,,")

    monkeypatch.setattr(instructions, "counter", lambda: "perf")
    monkeypatch.setattr(instructions, "_whole", whole)
    cases = own.cases_from(str(path))
    for name, seconds, more in (("own", 1e-6, 10_000), ("own", 0.01, 100), ("own", 5.0, 10), ("large", 1e-3, 10)):
        assert instructions.of(Subject(cases[name]), this_side(), seconds) == 7
        assert asked[-1] - asked[-2] == more


def test_gates_have_tolerances():
    def told(name, new, old, **most):
        finding = findings.Finding(Subject(CASES[NAMES[0]]))
        gates._note(finding, name, (new, old), gates.tolerances([f"{key}={value}" for key, value in most.items()]))
        return finding.problems

    assert told("memory", 1_300_000, 1_000_000) == [
        ("gate", "memory: 1300000 against 1000000, 1.3 times (tolerated: 1.1)")
    ]
    assert not told("memory", 1_300_000, 1_000_000, memory=1.31) and not told("memory", 1_090_000, 1_000_000)
    assert not told("memory", 60_000, 10_000)  # a few kilobytes are Python's
    assert told("memory", 100_000, 0) == [("gate", "memory: 100000 against 0 (tolerated: 1.1)")]
    assert told("instructions", 103_000, 100_000) and not told("instructions", 101_000, 100_000)
    assert told("instructions", None, 100) == [("missing", "instructions could not be counted")]
    assert told("calls", 200, 100) and told("modules", 40, 30)
    # of vectors, less is worse
    assert told("vector-bits", 256, 512) == [("gate", "vector-bits: 256 against 512, 0.5 times (tolerated: 1.05)")]
    assert not told("vector-bits", 512, 256) and not told("vector-bits", 500, 512)
    assert told("stack", 20, 10) and not told("stack", 13, 10) and not told("stack", 0, 10)


def test_tolerances_of_cases():
    """The last that matches counts; names of cases may contain what separates the parts of a word."""
    most = gates.tolerances(["memory=1.3", "memory:*/small=2", "calls:own/n=500=4", "memory:mse_loss/*=3"])
    assert [most.of("memory", name) for name in (NAMES[0], NAMES[1], "score/value/middle")] == [3, 2, 1.3]
    assert most.of("calls", "own/n=500") == 4 and most.of("calls", NAMES[0]) == 1.1 and most.of("modules") == 1.05


# --- real processes -----------------------------------------------------------------------------------------------------------

CHANGED = """
import functools
from fastloss import functional as _functional

def _changed(loss):
    @functools.wraps(loss)
    def changed(*args, **kwargs):
        {before}
        return {result}
    return changed

{name} = _changed(_functional.{name})
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Other builds: functions of this one's with something done to them."""
    folder = tmp_path_factory.mktemp("builds")

    def made(name, *changes):
        shutil.copytree(HERE / "fastloss", folder / name / "fastloss", ignore=shutil.ignore_patterns("__pycache__"))
        if (HERE / "fastloss_c").is_dir():
            (folder / name / "fastloss_c").symlink_to(HERE / "fastloss_c")
        with open(folder / name / "fastloss" / "__init__.py", "a") as file:
            file.writelines(changes)
        return str(folder / name)

    def changed(name, before="pass", result="loss(*args, **kwargs)"):
        return CHANGED.format(name=name, before=before, result=result)

    hungry = changed("mse_loss", "args[0].copy() if len(args[0]) > 1000 else None")
    wrong = changed("l1_loss", result="loss(*args, **kwargs) * 2")
    return {
        "same": made("same"),
        "slow": made("slow", changed("mse_loss", "sum(range(3000))")),
        "bad": made("bad", hungry, wrong, "\nhuber_loss = None\n"),
    }


def bench(capsys, *arguments):
    """Exit code and document of a comparison."""
    status = main(["bench", *arguments, "--threads", "1", "--cpu-time", "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out, parse_constant=lambda constant: pytest.fail(constant))


@pytest.mark.full  # many pairs of processes
def test_a_slower_build(capsys, builds):
    """A loop of Python takes many times the call's time: no machine is too busy for that."""
    status, document = bench(
        capsys, "--with", builds["slow"], "--against", builds["same"], "--cases", NAMES[0], "--seconds", "60"
    )
    (case,) = document["cases"]
    assert status == document["exit_code"] == 1 and case["verdict"] == "slower" and case["interval"][0] > 1.05
    assert document["problems"][0]["kind"] == "slower" and document["same_code"]["pairs"] >= 2


# What is wrong with the build "bad": memory, values, and a function that is missing.
WRONG = ["mse_loss/value/middle", "l1_loss/value/small", "huber_loss/value/small"]


def shortest(capsys, builds, *allowed):
    """The shortest of runs, whatever its times say."""
    arguments = ["--with", builds["bad"], "--against", builds["same"], "--cases", *WRONG, "--seconds", "1"]
    return bench(capsys, *arguments, "--allow", "slower", "cant-tell", *allowed)


def test_memory_values_and_missing_cases(capsys, builds):
    status, document = shortest(capsys, builds)
    refused = [(problem["kind"], problem["name"]) for problem in document["problems"] if not problem["allowed"]]
    assert status == 3 and refused == [("differs", WRONG[1]), ("gate", WRONG[0]), ("missing", WRONG[2])]
    assert (document["schema"], document["version"]) == ("fastloss-bench-comparison", 1)
    assert document["sides"] == {"new": builds["bad"], "old": builds["same"]}
    assert document["versions"]["new"]["numpy"] == document["versions"]["old"]["numpy"]
    found = {case["name"]: case for case in document["cases"]}
    assert found[WRONG[0]]["gates"]["memory"]["new"] >= found[WRONG[0]]["gates"]["memory"]["old"] + 100_000
    assert found[WRONG[2]]["verdict"] == "missing" and found[WRONG[2]]["ratio"] is None


@pytest.mark.full
def test_what_is_allowed(capsys, builds):
    assert shortest(capsys, builds, "differs", "missing", "--gates", "memory=1e9")[0] == 0


@pytest.mark.full  # many pairs of processes
def test_ones_own_cases_and_variables(capsys, tmp_path):
    path = tmp_path / "bench_mine.py"
    path.write_text(
        "import os\n"
        "CASES = {'own': {'call': lambda n: sum(range(n * int(os.environ.get('TIMES', 1)))) * 0, 'parameters': {'n': [500]}}}\n"
    )
    arguments = ["--cases-from", str(path), "--with", "TIMES=9", "--against", "TIMES=1", "--seconds", "60"]
    status, document = bench(capsys, *arguments)
    (case,) = document["cases"]
    assert status == 1 and case["name"] == "own/n=500" and case["ratio"] > 3 and case["backend"] is None


def test_files(capsys, tmp_path, builds, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    output, figures, store = tmp_path / "out.json", tmp_path / "figures.json", tmp_path / "store"
    arguments = ["--markdown", str(summary), "--output", str(output), "--pytest-benchmark", str(figures)]
    arguments += ["--store", str(store), "--cases", *NAMES[:2], "--seconds", "1", "--allow", "cant-tell", "slower"]
    status, document = bench(capsys, "--against", builds["same"], *arguments)
    assert status == 0 and json.loads(output.read_text()) == document
    text = summary.read_text()
    assert text.startswith("before\n### fastloss bench: no problems") and "| mse\\_loss/value/small | " in text
    entries = json.loads(figures.read_text())["benchmarks"]
    assert [entry["name"] for entry in entries[:2]] == [f"{NAMES[0]}[new]", f"{NAMES[0]}[old]"] and len(entries) == 4
    page = (store / "index.html").read_text()
    assert len(list(store.glob("*.json"))) == 1 and "mse_loss/value/small" in page and "http" not in page


def test_bisect(capsys, monkeypatch):
    """The command over revisions that are made up."""
    monkeypatch.setattr(environments, "commits", lambda good, bad: [f"{good}{i}" for i in range(6)] + [bad])
    monkeypatch.setattr(environments, "side", lambda words, *_: Side(words[0]))

    def comparison(subjects, sides, **options):
        ratio = 1.3 if sides[0].label in ("v4", "v5", "w") and sides[1].label == "v" else 1.0
        processes = Processes({NAMES[0]: ratio})
        assert options.pop("seed") == 7
        return against.Comparison(subjects, sides, **options, pair=processes, clock=processes.clock)

    monkeypatch.setattr(sides, "Comparison", comparison)
    arguments = ["--bisect", "v..w", "--case", NAMES[0], "--seed", "7", "--seconds", "500"]
    assert main(["bench", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.out == "slower since v4\n" and "fastloss: v4: slower, 1." in captured.err
    assert main(["bench", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suspects"] == ["v4"]
    assert main(["bench", "--bisect", "w..v", *arguments[2:]]) == 6
    assert "the last revision is not slower: same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--against", "/nowhere"], "--against: '/nowhere' is not a folder with an installed fastloss, a wheel, "),
        (["--against", "nowhere.whl"], "--against: nowhere.whl: no such file"),
        (["--against", "nowhere.json"], "nowhere.json: no such file or directory"),
        (["--against", "/tmp"], "--against: /tmp: there is no package fastloss in this directory"),
        (["--against", ".", "--with", "A=1", "/tmp"], "--with: /tmp: there is no package fastloss"),
        (["--against", "A=1", "--allow", "nonesuch"], "--allow: 'nonesuch' is not one of nothing, differs, slower"),
        (["--against", "A=1", "--gates", "speed=2"], "--gates: 'speed' is not one of memory, calls, modules,"),
        (["--against", "A=1", "--gates", "memory"], "--gates: expected NAME=RATIO or NAME:PATTERN=RATIO, got 'memory'"),
        (["--against", "A=1", "--gates", "stack:*=x"], "--gates: stack: expected a ratio of at least 1, got 'x'"),
        (["--against", "A=1", "--gates", "memory=0.5"], "--gates: memory: expected a ratio of at least 1, got '0.5'"),
        (["--against", "A=1", "--limit", "0.9"], "must be at least 1"),
        (["--against", "A=1", "--plot", "x.png"], "--plot: does not go with --against"),
        (["--against", "A=1", "--contenders", "numpy"], "--contenders: two sides are compared on backends of fastloss"),
        (["--bisect", "HEAD"], "--bisect: expected GOOD..BAD, got 'HEAD'"),
        (["--bisect", "HEAD..HEAD"], "--bisect: needs --case NAME"),
        (["--bisect", "HEAD..HEAD", "--case", "mse_loss"], "--case: 'mse_loss' names "),
    ],
)
def test_bad_arguments(capsys, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fastloss").mkdir()
    (tmp_path / "fastloss" / "__init__.py").touch()
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err and captured.err.count("\n") == 1 and captured.out == ""
