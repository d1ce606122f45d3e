"""What is around a comparison: change points, stored runs, bisection, warnings about the machine."""

import json

import numpy as np
import pytest

from fastloss.bench import bisect, changes, history, machine

# --- change points --------------------------------------------------------------------------------------------------------


def test_change_points():
    rng = np.random.default_rng(3)
    level = np.repeat([0.0, 0.1, -0.05], [12, 15, 10])
    assert changes.points(level + rng.normal(0, 0.01, level.size)) == [12, 27]
    assert changes.points([0.0, 0.0, 5.0, 5.0]) == changes.points([]) == []  # too short for two levels
    false = sum(bool(changes.points(rng.standard_t(3, 20))) for _ in range(60))
    assert false <= 8  # 5 % of 60 are 3


# --- stored runs ------------------------------------------------------------------------------------------------------------


def run(day, ratio, *, name="mse_loss/value/small", old="v1", verdict="same"):
    interval = [None, None] if ratio is None else [ratio * 0.98, ratio * 1.02]
    case = {"name": name, "verdict": verdict, "ratio": ratio, "interval": interval}
    sides = {"new": f"<commit {day}>", "old": old}
    base = {"schema": "fastloss-bench-comparison", "version": 1, "time": f"2030-01-{day:02}T00:00:00+00:00"}
    return {**base, "sides": sides, "limit": 1.05, "cases": [case]}


def test_a_history(tmp_path):
    rng = np.random.default_rng(5)
    for day in range(1, 21):
        path = history.keep(str(tmp_path), run(day, float(np.exp(rng.normal(0.2 * (day > 12), 0.01)))))
    history.keep(str(tmp_path), run(21, None, verdict="missing"))
    history.keep(str(tmp_path), run(21, 1.3, old="v2", verdict="slower"))
    documents = history.stored(str(tmp_path))
    assert len(documents) == 22 and [d["time"] for d in documents] == sorted(d["time"] for d in documents)
    first, second = history.series(documents)
    assert (first.name, first.old, len(first.points), first.changes) == ("mse_loss/value/small", "v1", 20, (12,))
    assert second.old == "v2" and second.changes == ()
    page = (tmp_path / "index.html").read_text()
    assert path == str(tmp_path / "index.html") and page.count("<svg") == 2 and page.count('class="change"') == 1
    assert "Level changes at 2030-01-13" in page and "&lt;commit 13&gt;" in page and "<commit" not in page
    assert "http" not in page and "<script" not in page


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps(run(1, 1.0) | {"version": 2}), '{"schema": "x"}'])
def test_a_store_of_something_else(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match="other.json is not what `fastloss bench --store` writes"):
        history.stored(str(tmp_path))


# --- bisection ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_bisection(n):
    revisions = [f"r{i}" for i in range(n)]
    for bad in range(n):
        asked = []

        def verdict(revision, bad=bad, asked=asked):
            asked.append(revision)
            return "slower" if int(revision[1:]) >= bad else "same"

        result = bisect.search(revisions, verdict)
        assert result.suspects == (f"r{bad}",) and result.exit_code == 0 and str(result) == f"slower since r{bad}"
        assert len(asked) == len(set(asked)) <= n.bit_length() + 1


def test_revisions_that_cannot_be_told():
    verdicts = ["same", "faster", "can't tell", "missing", "slower", "slower"]
    result = bisect.search(list("abcdef"), lambda revision: verdicts["abcdef".index(revision)])
    assert result.suspects == ("c", "d", "e") and str(result).splitlines() == ["slower since one of", "c", "d", "e"]
    assert result.as_dict()["suspects"] == ("c", "d", "e")
    for verdict, code in (("same", 6), ("can't tell", 5), ("missing", 4)):
        result = bisect.search(["a", "b"], lambda _, verdict=verdict: verdict)
        assert result.suspects == () and result.exit_code == code and verdict in str(result)
    assert bisect.search([], lambda _: "slower").exit_code == 6


# --- the machine ---------------------------------------------------------------------------------------------------------------


def test_warnings(tmp_path):
    def told(**files):
        for path, text in files.items():
            file = tmp_path / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return machine.warnings(str(tmp_path), load=0.0)

    assert told() == []
    cpu = "sys__devices__system__cpu"
    assert told(**{f"{cpu}__cpu0__cpufreq__scaling_governor": "performance\n", f"{cpu}__smt__active": "0\n"}) == []
    (governor,) = told(**{f"{cpu}__cpu1__cpufreq__scaling_governor": "powersave\n"})
    assert governor.startswith("CPU frequency governor powersave:")
    assert "turbo is on" in told(**{f"{cpu}__intel_pstate__no_turbo": "0\n"})[1]
    assert "SMT is on" in told(**{f"{cpu}__smt__active": "1\n"})[2]
    assert "virtual machine" in told(proc__cpuinfo="model name : x\nflags : fpu hypervisor\n")[3]
    assert "ASLR" in told(proc__sys__kernel__randomize_va_space="2\n")[4]
    assert any("load 99.0" in warning for warning in machine.warnings(str(tmp_path), load=99.0))
    assert isinstance(machine.warnings(), list)
