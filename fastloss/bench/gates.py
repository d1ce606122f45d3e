"""Gates other than time: counts that are the same in every run, so that a single run decides.

- ``memory``: the most bytes that a call allocates beyond what existed before it;
- ``calls``: how many Python and C functions the first call of a case in a process enters, which is the cost of resolving and planning;
- ``modules``: how many modules `import fastloss` and its first function import;
- ``instructions``: of a warm call on one thread, by `perf stat`, or by Valgrind on virtual machines without counters (see `instructions`);
- ``vector-bits`` and ``stack``: how wide the arithmetic in the innermost loops is on average, and how often these access the stack for lack
  of registers (see `machine_code`).
"""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Sequence

from . import instructions, machine_code
from .findings import GATE, MISSING, Finding
from .side import Side
from .turns import Pair

# By gate: the tolerated ratio of new to old (of old to new, where less is worse), and the difference below which nothing is reported.
GATES = {
    "memory": (1.1, 1 << 16),
    "calls": (1.1, 20),
    "modules": (1.05, 2),
    "instructions": (1.02, 500),
    "vector-bits": (1.05, 0),
    "stack": (1.1, 4),
}
_LESS_IS_WORSE = ("vector-bits",)

# The others are counted only on request: Valgrind takes a minute, and kernels have to be compiled anew for their text.
DEFAULT = ("memory", "calls", "modules")
CODE = ("vector-bits", "stack")


class Tolerances:
    """The tolerated ratios by gate and case: of those that match, the last."""

    def __init__(self, given: Sequence[tuple[str, str, float]] = ()) -> None:
        self._given = [*((gate, "*", ratio) for gate, (ratio, _) in GATES.items()), *given]

    def of(self, gate: str, name: str = "") -> float:
        """For a case, or for the run."""
        return next(
            ratio
            for its, pattern, ratio in reversed(self._given)
            if its == gate and (pattern == "*" or fnmatch.fnmatchcase(name, pattern))
        )


def tolerances(texts: Sequence[str]) -> Tolerances:
    """The default tolerances, updated from texts ``NAME=RATIO`` or ``NAME:PATTERN=RATIO``, with a pattern of cases.

    Raises
    ------
    ValueError
        If there is no such gate, or the ratio is not at least 1.
    """
    given = []
    for text in texts:
        left, equals, right = text.rpartition("=")
        name, _, pattern = left.partition(":")
        if not equals:
            raise ValueError(f"expected NAME=RATIO or NAME:PATTERN=RATIO, got {text!r}")
        if name not in GATES:
            raise ValueError(f"{name!r} is not one of {', '.join(GATES)}")
        try:
            ratio = float(right)
        except ValueError:
            ratio = 0.0
        if not 1 <= ratio < float("inf"):
            raise ValueError(f"{name}: expected a ratio of at least 1, got {right!r}")
        given.append((name, pattern or "*", ratio))
    return Tolerances(given)


def check(
    found: Sequence[Finding], sides: Sequence[Side], most: Tolerances, names: Sequence[str], threads: int
) -> list[tuple[str, str]]:
    """Count on both sides, for the subjects of these findings; returns the problems that concern no single case."""
    timed = [finding for finding in found if finding.estimate]
    whole = []
    with Pair(sides, random.Random(0)) as pair:
        if "modules" in names:
            new, old = (worker.hello["modules"] for worker in pair.workers)
            whole = [(GATE, what)] if (what := _exceeded("modules", new, old, most.of("modules"))) else []
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
            assert finding.seconds is not None  # it was timed
            longest = max(finding.seconds)
            _note(finding, "instructions", [instructions.of(finding.subject, side, longest) for side in sides], most)
    if read := [name for name in CODE if name in names]:
        for finding in timed:
            codes = [machine_code.of(finding.subject, side) for side in sides]
            why = next((code["missing"] for code in codes if "missing" in code), "")
            for name in read:
                _note(finding, name, [code.get(name) for code in codes], most, why)
    return whole


def _note(finding: Finding, gate: str, counted: Sequence[int | None], most: Tolerances, why: str = "") -> None:
    new, old = counted
    if new is None or old is None:
        finding.problems.append((MISSING, f"{gate} could not be counted" + (f": {why}" if why else "")))
        return
    tolerated = most.of(gate, finding.name)
    finding.gates[gate] = (new, old, tolerated)
    if what := _exceeded(gate, new, old, tolerated):
        finding.problems.append((GATE, what))


def _exceeded(gate: str, new: int, old: int, most: float) -> str:
    """The description of a count that is too large; "" if it is not."""
    more, less = (old, new) if gate in _LESS_IS_WORSE else (new, old)
    if more <= less * most or more - less <= GATES[gate][1]:
        return ""
    return f"{gate}: {new} against {old}" + (f", {new / old:.3g} times" if old else "") + f" (tolerated: {most:g})"
