"""One build against another: is it slower, and can that be chance?

With both builds at hand, two worker processes take turns (A B A B ...), each timing its own calls, and the bootstrap
interval of the median paired ratio decides.  With the old build's figures only, times are divided by what the roof
took in the same run; such a comparison is unpaired, and runs of the same code on a shared machine differ, so its
interval is widened before it decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from . import build
from .cases import Case, from_dict
from .contenders import Contender, tolerance
from .measure import Ratio, paired_ratio, unpaired_ratio
from .session import run_case
from .workers import Worker, WorkerError

# Of the intervals that decide.  Above the usual 95 %, as there are many cases and several looks at each.
CONFIDENCE = 0.99

# By how much two runs of the same code may differ after dividing by the roof.
BETWEEN_RUNS = 1.25

# Rounds before the first look, between looks, and at most; and the fewest if time runs out.
_LOOK, _EVERY, _MOST, _FEWEST = 20, 5, 300, 5

# Pairs of processes, unless the first is quicker than the limit by this factor.
_PAIRS, _CLEARLY = 3, 1.1

# Of the new and the old build; the k-th of both belong together.
Rounds = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Verdict:
    """What was found for one contender in one case.  `ratio` is new time over old, None if it could not be had."""

    case: Case
    contender: str
    ratio: Ratio | None
    fail_above: float
    widened: float = 1.0
    note: str = ""

    @property
    def regression(self) -> bool:
        """Whether it is slower by more than allowed, chance excluded."""
        return self.ratio is not None and self.ratio.low / self.widened > self.fail_above

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not compared"
        if self.regression:
            return "REGRESSION"
        return "ok" if self.ratio.high <= self.fail_above else "not excluded"

    def as_dict(self) -> dict[str, Any]:
        return {
            "case": self.case.name,
            "contender": self.contender,
            "ratio": None if self.ratio is None else self.ratio.as_list(),
            "rounds": 0 if self.ratio is None else self.ratio.rounds,
            "verdict": self.word.lower(),
            "note": self.note,
        }

    def __str__(self) -> str:
        figures = ""
        if self.ratio is not None:
            middle, low, high = (f"{value:.3f}" for value in (self.ratio.median, self.ratio.low, self.ratio.high))
            figures = f"{middle} [{low}, {high}], {self.ratio.rounds} rounds"
        note = f"  ({self.note})" if self.note else ""
        return f"{self.case.name:<28} {self.contender:<16} {figures:<36} {self.word}{note}"


# --- the two ways ---------------------------------------------------------------------------------------------------


class Interleaved:
    """Two builds that take turns."""

    def __init__(self, new: Path, old: Path, *, fail_above: float, threads: int) -> None:
        self._folders, self._fail_above, self._threads = (new, old), fail_above, threads
        self._workers: list[Worker] = []
        self._start()
        self.widened = 1.0
        self.description = (
            f"against fastloss {self._workers[1].version} in {old}: both builds take turns; time of this build over "
            f"that one's, median and {CONFIDENCE:.0%} interval of paired rounds, "
            f"{threads} thread{'s' if threads > 1 else ''}"
        )

    def _start(self) -> None:
        self.close()
        try:
            for folder in self._folders:
                self._workers.append(Worker(folder))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers."""
        while self._workers:
            self._workers.pop().close()

    def __enter__(self) -> Interleaved:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def verdict(self, case: Case, contender: Contender, seconds: float) -> Verdict:
        """Measure until the interval is clear of the limit on either side, or time is up.

        Where memory happens to lie makes a process a little slower or faster for all of its life.  So unless the first
        pair of processes is clearly quick enough, two further pairs take part in the verdict.
        """
        verdict = Verdict(case, contender.name, None, self._fail_above)
        rounds: Rounds = ([], [])
        for attempt in range(_PAIRS):
            if attempt:
                self._start()
            note, new = self._sitting(case, contender, seconds / _PAIRS)
            if new is None:
                return replace(verdict, note=note)
            for series, more in zip(rounds, new, strict=True):
                series += more
            verdict = replace(verdict, ratio=paired_ratio(*rounds, confidence=CONFIDENCE), note=note)
            if not attempt and verdict.ratio is not None and verdict.ratio.high < self._fail_above / _CLEARLY:
                break
        return verdict

    def _sitting(self, case: Case, contender: Contender, seconds: float) -> tuple[str, Rounds | None]:
        """Rounds of the two workers on fresh inputs, with a remark; no rounds if one of the builds cannot do the case."""
        backend = contender.name.removeprefix("fastloss-")
        request = {"do": "prepare", "case": case.as_dict(), "backend": backend, "threads": self._threads}
        ready = [worker.ask(**request) for worker in self._workers]
        for answer, which in zip(ready, ("this build", "the baseline"), strict=True):
            if "error" in answer:
                return f"{which}: {answer['error']}", None
        repeats = max(answer["repeats"] for answer in ready)
        note = _difference(case, *(answer["value"] for answer in ready))
        rounds: Rounds = ([], [])
        end = time.perf_counter() + seconds
        while True:
            for worker, series in zip(self._workers, rounds, strict=True):
                answer = worker.ask(do="time", repeats=repeats, round=len(series))
                if "error" in answer:
                    return answer["error"], None
                series.append(answer["seconds"])
            n, late = len(rounds[0]), time.perf_counter() > end
            if n < _FEWEST or (not late and (n < _LOOK or n % _EVERY)):
                continue
            ratio = paired_ratio(*rounds, confidence=CONFIDENCE)
            if late or n >= _MOST or not ratio.low <= self._fail_above < ratio.high:
                return note, rounds


class AgainstFigures:
    """This build against the figures of another run."""

    def __init__(self, baseline: Mapping[str, Any], *, fail_above: float, threads: int, why: str) -> None:
        self._figures = {
            (case["name"], entry["name"]): (entry["rounds"], case["roof"]["rounds"], entry["value"])
            for case in baseline["cases"]
            for entry in case["contenders"]
        }
        self._fail_above, self._threads = fail_above, threads
        self.widened = BETWEEN_RUNS
        self.description = (
            f"against the figures alone, as {why}: times are divided by the roof's in the same run; new over old, "
            f"median and {CONFIDENCE:.0%} interval; unpaired, so a regression must exceed the limit by a further "
            f"factor of {BETWEEN_RUNS}"
        )

    def verdict(self, case: Case, contender: Contender, seconds: float) -> Verdict:
        """Measure beside the roof and compare with what the baseline measured beside its own."""
        verdict = Verdict(case, contender.name, None, self._fail_above, self.widened)
        old, old_roof, old_value = self._figures[case.name, contender.name]
        result = run_case(case, [contender], seconds=seconds, threads=self._threads, memory=False)
        if contender.name in result.skipped:
            return replace(verdict, note=result.skipped[contender.name])
        entry = result.entries[contender.name]
        ratio = unpaired_ratio(
            _normalised(entry.rounds, result.roof_rounds), _normalised(old, old_roof), confidence=CONFIDENCE
        )
        return replace(verdict, ratio=ratio, note=_difference(case, entry.value, old_value))

    def __enter__(self) -> AgainstFigures:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _normalised(rounds: Sequence[float], roof: Sequence[float]) -> list[float]:
    return [seconds / by for seconds, by in zip(rounds, roof, strict=False)]


def _difference(case: Case, new: float, old: float) -> str:
    close = math.isclose(new, old, rel_tol=tolerance(case), abs_tol=1e-7)
    return "" if close else f"values differ: {new:.9g}, baseline {old:.9g}"


# --- a whole comparison --------------------------------------------------------------------------------------------


def method(
    baseline: Mapping[str, Any], *, path: str | None, fail_above: float, threads: int
) -> Interleaved | AgainstFigures:
    """How to compare with that baseline: in turns with its build if that can be had.

    Raises
    ------
    WorkerError
        If a build cannot be started.
    """
    here = build.this_build()
    if path is not None:
        if not build.digest(Path(path)):
            raise WorkerError(f"{path}: there is no package fastloss in this directory")
        return Interleaved(Path(here["path"]), Path(path), fail_above=fail_above, threads=threads)
    named = baseline["build"]
    if named["path"] == here["path"]:
        why = "the baseline was measured where this build lies now"
    elif build.digest(Path(named["path"])) != named["digest"]:
        why = "the build it was measured with is no longer there"
    else:
        return Interleaved(Path(here["path"]), Path(named["path"]), fail_above=fail_above, threads=threads)
    return AgainstFigures(baseline, fail_above=fail_above, threads=threads, why=why)


def pairs(
    baseline: Mapping[str, Any], cases: Sequence[Case] | None, who: Sequence[Contender]
) -> list[tuple[Case, Contender]]:
    """Which cases and fastloss contenders of the baseline to compare, limited to `cases` if given."""
    names = None if cases is None else {case.name for case in cases}
    ours = {contender.name: contender for contender in who if contender.is_fastloss}
    return [
        (from_dict(case), ours[entry["name"]])
        for case in baseline["cases"]
        for entry in case["contenders"]
        if entry["name"] in ours and (names is None or case["name"] in names)
    ]


def verdicts(
    way: Interleaved | AgainstFigures, todo: Sequence[tuple[Case, Contender]], seconds: float
) -> Iterator[Verdict]:
    """Each in turn, within that many seconds in all; time that one leaves over goes to the next."""
    end = time.perf_counter() + seconds
    for i, (case, contender) in enumerate(todo):
        share = max(0.5, (end - time.perf_counter()) / (len(todo) - i))
        yield way.verdict(case, contender, share)


def document(
    baseline: str, way: Interleaved | AgainstFigures, found: Sequence[Verdict], fail_above: float
) -> dict[str, Any]:
    """The outcome as plain data."""
    return {
        "baseline": baseline,
        "method": "interleaved" if isinstance(way, Interleaved) else "roof",
        "description": way.description,
        "fail_above": fail_above,
        "widened": way.widened,
        "confidence": CONFIDENCE,
        "regressions": sum(verdict.regression for verdict in found),
        "cases": [verdict.as_dict() for verdict in found],
    }
