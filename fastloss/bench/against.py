"""Compares two sides: the A/A run, looks at a growing number of process pairs, verdicts, gates."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from . import gates, same_code
from .estimate import Estimate, estimate
from .findings import CANT_TELL, DIFFERS, MISSING, Finding
from .judge import FIRST_LOOK, SLOWER, UNCERTAIN, Judge, pairs_at
from .side import Side
from .turns import Pair, Sitting, Subject

# The fraction of the time that the A/A run may use.
_SAME_CODE = 1 / 3

# Fewer pairs say nothing about their scatter.
_FEWEST = 2

# The largest allowed difference between the values of two sides, relative to the larger.
TOLERANCE = 1e-4

# A detectable ratio above this means that there are too few data to say what is detectable.
_ABSURD = 10.0

Say = Callable[[str], None]


@dataclass
class Outcome:
    """The outcome of a comparison.

    Attributes
    ----------
    findings : by subject, in the order of the request.
    versions : of Python and packages, on the new and the old side.
    limit : the ratio of times that is allowed.
    pairs : the largest number of process pairs of any subject.
    same_code_pairs : process pairs of the A/A run; 0 if there was none.
    false_alarm_rate : how often its data raise an alarm when sides are exchanged at random; None if there was none.
    whole : problems that concern no single subject.
    """

    findings: list[Finding]
    sides: tuple[Side, Side]
    limit: float
    versions: list[dict[str, str]] = field(default_factory=list)
    pairs: int = 0
    same_code_pairs: int = 0
    false_alarm_rate: float | None = None
    whole: list[tuple[str, str]] = field(default_factory=list)

    @property
    def differences(self) -> dict[str, tuple[str, str]]:
        """{name: (new, old)} of the versions that differ between the sides."""
        new, old = self.versions or ({}, {})
        names = [*new, *(name for name in old if name not in new)]
        found = {name: (new.get(name, "absent"), old.get(name, "absent")) for name in names}
        return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


class Comparison:
    """New against old, within a time budget.

    Parameters
    ----------
    subjects : sequence of Subject
        What to compare.
    sides : (new, old)
    limit : float
        The ratio of times that is allowed.
    seconds : float
        No more pairs of processes are started after this time.
    cpu_time : bool
        Whether to measure the CPU time of the process rather than wall-clock time.
    say : callable
        Called with progress messages.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        sides: tuple[Side, Side],
        *,
        limit: float,
        seconds: float,
        threads: int,
        seed: int = 0,
        cpu_time: bool = False,
        say: Say = lambda text: None,
        pair: Callable[[Sequence[Side], random.Random], Pair] = Pair,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subjects, self._sides, self._limit = {each.name: each for each in subjects}, sides, limit
        self._seconds, self._threads, self._rng = seconds, threads, random.Random(seed)
        self._say, self._pair, self._clock = say, pair, clock
        self._timed_by = "cpu" if cpu_time else "wall"
        self._start = clock()
        self._noise: dict[str, Estimate] = {}  # of the A/A run
        self.outcome = Outcome([Finding(each) for each in subjects], sides, limit)
        self._findings = {finding.name: finding for finding in self.outcome.findings}

    def _spent(self) -> float:
        return self._clock() - self._start

    # --- the A/A run --------------------------------------------------------------------------------------------------

    def same_code(self) -> None:
        """Run the old side against itself; records what can be detected, and how often that raises a false alarm."""
        old = self._sides[1]
        rounds: dict[str, list[list[float]]] = {}
        n = 0
        while n < FIRST_LOOK and (n < _FEWEST or self._spent() < _SAME_CODE * self._seconds):
            n += 1
            self._say(f"the same code on both sides: pair {n} of {FIRST_LOOK}")
            for name, sitting in self._sit((old, old), list(self._subjects)).items():
                if sitting.log_ratios:
                    rounds.setdefault(name, []).append(sitting.log_ratios)
        self.outcome.same_code_pairs = n
        if not rounds:
            return
        self._noise = {name: estimate(series) for name, series in rounds.items()}
        look, pairs = self._affordable(self._spent() / n)
        for name in rounds:
            self._note_detectable(name, [self._noise[name]], pairs, look)
        self.outcome.false_alarm_rate = same_code.false_alarm_rate(rounds, limit=self._limit)

    def _note_detectable(self, name: str, noise: Sequence[Estimate], pairs: int, look: int) -> None:
        smallest = same_code.detectable(noise, limit=self._limit, cases=len(self._noise), pairs=pairs, look=look)
        self._findings[name].detectable = smallest if smallest < _ABSURD else None

    def _affordable(self, seconds_per_pair: float) -> tuple[int, int]:
        """(look, pairs) of the last look that fits into the remaining time."""
        most, look = (self._seconds - self._spent()) / seconds_per_pair, 1
        while pairs_at(look + 1) <= most:
            look += 1
        return look, max(_FEWEST, min(pairs_at(look), int(most)))

    # --- the run proper -----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Collect data, look by look, until every subject has a verdict or time is up."""
        judge, rounds = Judge(self._limit), {name: list[list[float]]() for name in self._subjects}
        undecided = list(self._subjects)
        n = 0
        while undecided:
            late = False
            while n < pairs_at(judge.looks + 1) and not late:
                n += 1
                self._say(f"pair {n} of processes, {len(undecided)} case{'s' * (len(undecided) > 1)} to be told")
                for name, sitting in self._sit(self._sides, undecided).items():
                    if self._noted(self._findings[name], sitting):
                        rounds[name].append(sitting.log_ratios)
                        self._findings[name].by_pair.append(sitting.seconds)
                late = n >= _FEWEST and self._spent() > self._seconds
            measured = {name: estimate(series) for name, series in rounds.items() if series}
            undecided = judge.look(measured)
            if late:
                break
        self.outcome.pairs = n
        self._conclude(judge, {name: estimate(series) for name, series in rounds.items() if series})
        return self.outcome

    def _sit(self, sides: Sequence[Side], names: Sequence[str]) -> dict[str, Sitting]:
        with self._pair(sides, self._rng) as pair:
            if sides is self._sides and not self.outcome.versions:
                self.outcome.versions = [worker.hello["versions"] for worker in pair.workers]
            # in a new order each time, so that what a case leaves behind in a process affects different cases
            order = self._rng.sample(list(names), len(names))
            return {name: pair.sit(self._subjects[name], self._threads, clock=self._timed_by) for name in order}

    def _noted(self, finding: Finding, sitting: Sitting) -> bool:
        """Copy the sitting's values and errors to the finding; returns whether it has times."""
        for which, missing, error in zip(("new", "old"), sitting.missing, sitting.error, strict=True):
            what = f"{which} side: {missing or error}"
            if (missing or error) and (MISSING, what) not in finding.problems:
                finding.problems.append((MISSING, what))
        if sitting.values and finding.values is None:
            new, old = finding.values = (sitting.values[0], sitting.values[1])
            close = math.isclose(new, old, rel_tol=TOLERANCE, abs_tol=1e-7) or (new != new and old != old)
            if not close:
                finding.problems.append((DIFFERS, f"{new:.9g} against {old:.9g}"))
        return bool(sitting.log_ratios)

    def _conclude(self, judge: Judge, found: Mapping[str, Estimate]) -> None:
        for name, finding in self._findings.items():
            if name not in found:
                finding.verdict = MISSING
                continue
            finding.estimate, finding.verdict = found[name], judge.verdicts[name]
            if name in self._noise:  # now the noise, and the final number of pairs, are known better
                look = next(look for look in range(1, 99) if pairs_at(look) >= finding.estimate.pairs)
                self._note_detectable(name, [self._noise[name], finding.estimate], finding.estimate.pairs, look)
            new, old = map(statistics.median, zip(*finding.by_pair, strict=True))
            finding.seconds = (new, old)
            low, high = (f"{end:.3f}" for end in finding.estimate.interval())
            ratio = f"{finding.estimate.ratio:.3f} [{low}, {high}] times as long"
            if finding.verdict == SLOWER:
                finding.problems.append((SLOWER, ratio))
            elif finding.verdict == UNCERTAIN:
                finding.problems.append((CANT_TELL, f"{ratio}, limit {self._limit:g}"))

    def check_gates(self, most: gates.Tolerances, names: Sequence[str]) -> None:
        """Compare the counts that are deterministic."""
        self._say("counting " + ", ".join(names))
        self.outcome.whole += gates.check(self.outcome.findings, self._sides, most, names, self._threads)
