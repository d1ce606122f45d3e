"""Gates other than time: counts that are the same in every run, so that a single run decides.

- ``memory``: the most bytes that a call allocates beyond what existed before it;
- ``calls``: how many Python and C functions the first call of a case in a process enters, which is the cost of resolving and planning;
- ``modules``: how many modules `import fastloss` and its first function import;
- ``instructions``: of a warm call on one thread, by `perf stat`, or by Valgrind on virtual machines without counters (see `instructions`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from . import instructions
from .findings import GATE, MISSING, Finding
from .side import Side
from .turns import Pair

# By gate: the tolerated ratio of new to old, and the difference below which nothing is reported.
GATES = {
    "memory": (1.1, 1 << 16),
    "calls": (1.1, 20),
    "modules": (1.05, 2),
    "instructions": (1.02, 500),
}

# Counted only on request: Valgrind takes a minute.
DEFAULT = ("memory", "calls", "modules")


def tolerances(texts: Sequence[str]) -> dict[str, float]:
    """The default tolerances, updated from texts ``NAME=RATIO``.

    Raises
    ------
    ValueError
        If there is no such gate, or the ratio is not at least 1.
    """
    found = {name: ratio for name, (ratio, _) in GATES.items()}
    for text in texts:
        name, _, ratio = text.partition("=")
        if name not in GATES:
            raise ValueError(f"{name!r} is not one of {', '.join(GATES)}")
        try:
            found[name] = float(ratio)
        except ValueError:
            found[name] = 0.0
        if not 1 <= found[name] < float("inf"):
            raise ValueError(f"{name}: expected a ratio of at least 1, got {ratio!r}")
    return found


def check(
    found: Sequence[Finding], sides: Sequence[Side], most: Mapping[str, float], names: Sequence[str], threads: int
) -> list[tuple[str, str]]:
    """Count on both sides, for the subjects of these findings; returns the problems that concern no single case."""
    timed = [finding for finding in found if finding.estimate]
    whole = []
    with Pair(sides, random.Random(0)) as pair:
        if "modules" in names:
            new, old = (worker.hello["modules"] for worker in pair.workers)
            whole = [(GATE, what)] if (what := _exceeded("modules", new, old, most["modules"])) else []
        for finding in timed:
            if not {"memory", "calls"} & set(names):
                break
            ready = pair.prepare(finding.subject, threads, count=True)
            if "calls" in names:
                _note(finding, "calls", [answer.get("calls") for answer in ready], most)
            if "memory" in names:
                counted = [worker.ask(do="memory").get("bytes") for worker in pair.workers]
                _note(finding, "memory", counted, most)
    if "instructions" in names:
        for finding in timed:
            _note(finding, "instructions", [instructions.of(finding.subject, side) for side in sides], most)
    return whole


def _note(finding: Finding, gate: str, counted: Sequence[int | None], most: Mapping[str, float]) -> None:
    new, old = counted
    if new is None or old is None:
        finding.problems.append((MISSING, f"{gate} could not be counted"))
        return
    finding.gates[gate] = (new, old, most[gate])
    if what := _exceeded(gate, new, old, most[gate]):
        finding.problems.append((GATE, what))


def _exceeded(gate: str, new: int, old: int, most: float) -> str:
    """The description of a count that is too large; "" if it is not."""
    if new <= old * most or new - old <= GATES[gate][1]:
        return ""
    return f"{gate}: {new} against {old}" + (f", {new / old:.3g} times" if old else "") + f" (tolerated: {most:g})"
