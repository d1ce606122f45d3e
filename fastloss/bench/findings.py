"""The findings of a comparison, and which of them lead to a nonzero exit code.

Nothing passes just because it could not be examined: a case that one side lacks, values that differ, and verdicts that
noise does not allow are problems like a slowdown, each with its own exit code, unless they are allowed by name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .estimate import Estimate
from .judge import SLOWER, UNCERTAIN
from .turns import Subject

NOTHING, DIFFERS, MISSING, GATE = "nothing", "differs", "missing", "gate"
CANT_TELL = "cant-tell"

# Kinds of problems, the gravest first, with their exit codes and what they mean.  2 is bad input everywhere in the
# command line.
KINDS = {
    NOTHING: (6, "nothing was measured"),
    DIFFERS: (3, "the sides compute different values"),
    SLOWER: (1, "slower than the limit allows"),
    GATE: (7, "a count or memory exceeds its tolerance"),
    MISSING: (4, "one side cannot do the case, or something could not be counted"),
    CANT_TELL: (5, "noise allows no verdict"),
}


@dataclass
class Finding:
    """The finding for one subject.

    Attributes
    ----------
    verdict : "slower", "faster", "same", "can't tell", or "missing" if a side has no such case.
    estimate : the ratio of times; None if nothing was timed.
    seconds : time of a call on the new and the old side, medians over pairs.
    by_pair : the same for each pair of processes.
    values : the results on both sides.
    detectable : the slowdown, as a ratio, that can be detected according to the A/A run; None without one.
    gates : counts on both sides by gate, with the tolerated ratio.
    problems : (kind, description).
    """

    subject: Subject
    verdict: str = UNCERTAIN
    estimate: Estimate | None = None
    seconds: tuple[float, float] | None = None
    by_pair: list[list[float]] = field(default_factory=list)
    values: tuple[float, float] | None = None
    detectable: float | None = None
    gates: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.subject.name

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.estimate.as_dict() if self.estimate else {"ratio": None, "interval": [None, None], "pairs": 0}
        return {
            "name": self.name,
            "case": self.subject.case.as_dict(),
            "backend": self.subject.backend,
            "verdict": self.verdict,
            **found,
            "seconds": _sides(self.seconds),
            "seconds_by_pair": {"new": [new for new, _ in self.by_pair], "old": [old for _, old in self.by_pair]},
            "values": _sides(self.values),
            "detectable": self.detectable,
            "gates": {
                name: {"new": new, "old": old, "tolerance": most} for name, (new, old, most) in self.gates.items()
            },
            "problems": [{"kind": kind, "what": what} for kind, what in self.problems],
        }


def _sides(pair: tuple[float, float] | None) -> dict[str, float | None] | None:
    if pair is None:
        return None
    new, old = (value if value == value and abs(value) != float("inf") else None for value in pair)
    return {"new": new, "old": old}


@dataclass(frozen=True)
class Allowance:
    """Allows problems of one kind in cases whose names match."""

    kind: str
    pattern: str = "*"

    def covers(self, kind: str, name: str) -> bool:
        return kind == self.kind and fnmatch.fnmatchcase(name, self.pattern)


def allowances(texts: Iterable[str]) -> list[Allowance]:
    """Allowances from texts ``KIND`` or ``KIND:PATTERN``.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    found = []
    for text in texts:
        kind, _, pattern = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not one of {', '.join(KINDS)}")
        found.append(Allowance(kind, pattern or "*"))
    return found


@dataclass(frozen=True)
class Problem:
    """A problem of a case ("" for the whole run), and whether it is allowed."""

    kind: str
    name: str
    what: str
    allowed: bool

    def __str__(self) -> str:
        return f"{self.kind.upper()}  {self.name or 'the run'}: {self.what}" + (" (allowed)" if self.allowed else "")


def problems(
    found: Sequence[Finding], allowed: Sequence[Allowance], others: Sequence[tuple[str, str]] = ()
) -> list[Problem]:
    """All problems, the gravest first and allowed ones last; `others` concern the whole run."""
    told = [(kind, finding.name, what) for finding in found for kind, what in finding.problems]
    told += [(kind, "", what) for kind, what in others]
    if not any(finding.estimate for finding in found):
        told.append((NOTHING, "", KINDS[NOTHING][1]))
    listed = [Problem(kind, name, what, any(each.covers(kind, name) for each in allowed)) for kind, name, what in told]
    order = list(KINDS)
    return sorted(listed, key=lambda problem: (problem.allowed, order.index(problem.kind)))


def exit_code(listed: Sequence[Problem]) -> int:
    """The exit code of the gravest problem that is not allowed; 0 if there is none."""
    return next((KINDS[problem.kind][0] for problem in listed if not problem.allowed), 0)
