"""An outcome as text, Markdown, plain data, and JSON that pytest-benchmark reads."""

from __future__ import annotations

import datetime
import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .against import Outcome
from .findings import Finding, Problem
from .judge import ALPHA, SLOWER, UNCERTAIN
from .report import duration

# The version of the JSON's format.  New keys don't change it; changed and removed ones do.
SCHEMA, VERSION = "fastloss-bench-comparison", 1

_ORDER = ("missing", SLOWER, UNCERTAIN, "faster", "same")


def listed(outcome: Outcome) -> list[Finding]:
    """Findings with problems first, then the slowest first."""

    def rank(finding: Finding) -> tuple[bool, int, float]:
        ratio = finding.estimate.log_ratio if finding.estimate else 0.0
        return not finding.problems, _ORDER.index(finding.verdict), -ratio

    return sorted(outcome.findings, key=rank)


def counts(outcome: Outcome) -> str:
    """How many of each verdict, in words."""
    found = [finding.verdict for finding in outcome.findings]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in _ORDER if verdict in found) or "no cases"


def heading(outcome: Outcome, warnings: Sequence[str]) -> Iterator[str]:
    """What was compared, what else differs, and what could be detected at all."""
    new, old = outcome.sides
    yield f"new: {new.label}"
    yield f"old: {old.label}"
    for name, (mine, theirs) in outcome.differences.items():
        yield f"  {name}: {mine} against {theirs}"
    if outcome.same_code_pairs:
        yield sensitivity(outcome)
    yield (
        f"{outcome.pairs} pairs of processes; time of the new side over the old one's, 95 % intervals; slower and faster: beyond "
        f"{outcome.limit:g}; each kind of verdict is wrong anywhere with a probability of at most {ALPHA:.0%}"
    )
    for warning in warnings:
        yield f"warning: {warning}"


def sensitivity(outcome: Outcome) -> str:
    """The result of the A/A run, in a sentence."""
    rate = "" if outcome.false_alarm_rate is None else f"; false alarms in {outcome.false_alarm_rate:.1%} of exchanges"
    known = [finding for finding in outcome.findings if finding.detectable is not None]
    if not known:
        return f"A/A run of {outcome.same_code_pairs} pairs: too few to say what can be detected{rate}"
    middle = statistics.median(finding.detectable for finding in known if finding.detectable)
    worst = max(known, key=lambda finding: finding.detectable or 0)
    return (
        f"A/A run of {outcome.same_code_pairs} pairs: a slowdown of {middle:.3f} is detectable in the median case, of "
        f"{worst.detectable:.3f} in the worst ({worst.name}){rate}"
    )


def text(outcome: Outcome, problems: Sequence[Problem], warnings: Sequence[str]) -> str:
    """The outcome for a terminal: problems first."""
    lines = [str(problem) for problem in problems]
    lines += [""] * bool(lines)
    lines += heading(outcome, warnings)
    width = max((len(finding.name) for finding in outcome.findings), default=4)
    lines.append("")
    lines.append(
        f"{'case':<{width}} {'verdict':<10} {'new / old':<22} {'detectable':>10} {'new':>9} {'old':>9} {'pairs':>5}"
    )
    for finding in listed(outcome):
        cells = _cells(finding)
        lines.append(
            f"{finding.name:<{width}} {finding.verdict:<10} {cells[0]:<22} {cells[1]:>10} {cells[2]:>9} {cells[3]:>9} {cells[4]:>5}"
        )
    lines += ["", counts(outcome)]
    return "\n".join(lines)


def _cells(finding: Finding) -> tuple[str, ...]:
    """Ratio with its interval, what is detectable, times, pairs."""
    found = finding.estimate
    if found is None or finding.seconds is None:
        return "-", "-", "-", "-", "-"
    low, high = (f"{end:.3f}" if 0 < end < math.inf else "?" for end in found.interval())
    smallest = "-" if finding.detectable is None else f"{finding.detectable:.3f}"
    new, old = map(duration, finding.seconds)
    return f"{found.ratio:.3f} [{low}, {high}]", smallest, new, old, str(found.pairs)


def markdown(outcome: Outcome, problems: Sequence[Problem], warnings: Sequence[str]) -> str:
    """The outcome as Markdown, for a pull request or a job's summary; the table is folded."""
    refused = [problem for problem in problems if not problem.allowed]
    title = f"{len(refused)} problem{'s' * (len(refused) != 1)}" if refused else "no problems"
    lines = [f"### fastloss bench: {title} ({counts(outcome)})", ""]
    lines += [f"- {_escaped(str(problem))}" for problem in problems]
    lines += [""] * bool(problems)
    lines += [f"{_escaped(line)}  " for line in heading(outcome, warnings)]
    lines += ["", "<details><summary>all cases</summary>", ""]
    lines += [
        "| case | verdict | new / old | detectable | new | old | pairs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for finding in listed(outcome):
        lines.append("| " + " | ".join((_escaped(finding.name), finding.verdict, *_cells(finding))) + " |")
    return "\n".join([*lines, "", "</details>", ""])


def _escaped(text: str) -> str:
    for character in "\\`*_|<>":
        text = text.replace(character, "\\" + character)
    return text


def document(
    outcome: Outcome, problems: Sequence[Problem], warnings: Sequence[str], code: int, conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """The outcome as plain data, for `--json`, `--output` and `--store`."""
    new, old = outcome.sides
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "exit_code": code,
        "problems": [problem.__dict__ for problem in problems],
        "sides": {"new": new.label, "old": old.label},
        "versions": dict(zip(("new", "old"), outcome.versions, strict=False)),
        "limit": outcome.limit,
        "alpha": ALPHA,
        "pairs": outcome.pairs,
        "same_code": {"pairs": outcome.same_code_pairs, "false_alarm_rate": outcome.false_alarm_rate},
        "warnings": list(warnings),
        "conditions": dict(conditions),
        "cases": [finding.as_dict() for finding in outcome.findings],
    }


def benchmark_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the format of pytest-benchmark, for `pytest-benchmark compare`, dashboards and bots.

    Each case has one entry per side, whose rounds are pairs of processes.
    """
    entries = []
    for case in document["cases"]:
        for which, series in case["seconds_by_pair"].items():
            if not series:
                continue
            entries.append(
                {
                    "group": case["name"],
                    "name": f"{case['name']}[{which}]",
                    "fullname": f"fastloss bench::{case['name']}[{which}]",
                    "params": {"side": which},
                    "param": which,
                    "extra_info": {key: case[key] for key in ("verdict", "ratio", "interval", "detectable")},
                    "options": {},
                    "stats": _stats(series),
                }
            )
    return {
        "machine_info": {
            "node": platform.node(),
            "machine": platform.machine(),
            "python_version": platform.python_version(),
            "cpu": {"brand_raw": document["conditions"].get("cpu", "")},
        },
        "commit_info": {"id": document["sides"]["new"], "project": "fastloss", "dirty": False},
        "benchmarks": entries,
        "datetime": document["time"],
        "version": "5.0.0",
    }


def _stats(series: Sequence[float]) -> dict[str, Any]:
    """The statistics that pytest-benchmark stores for a series."""
    low, middle, high = statistics.quantiles(series, n=4, method="inclusive") if len(series) > 1 else 3 * [series[0]]
    mean, reach = statistics.fmean(series), 1.5 * (high - low)
    spread = statistics.stdev(series) if len(series) > 1 else 0.0
    near = [seconds for seconds in series if low - reach <= seconds <= high + reach]
    far = sum(abs(seconds - mean) > spread for seconds in series)
    return {
        "min": min(series),
        "max": max(series),
        "mean": mean,
        "stddev": spread,
        "rounds": len(series),
        "median": middle,
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": len(series) - len(near),
        "stddev_outliers": far,
        "outliers": f"{far};{len(series) - len(near)}",
        "ld15iqr": min(near),
        "hd15iqr": max(near),
        "ops": 1 / mean,
        "total": sum(series),
        "data": list(series),
        "iterations": 1,
    }
