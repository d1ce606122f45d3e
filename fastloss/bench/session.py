"""One case, all contenders and the roof, in one sitting."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import Case
from .contenders import Call, Contender, Unsupported, tolerance, value_of
from .measure import Ratio, interleave, paired_ratio, peak_bytes
from .roof import Roof

# Peers whose calls take longer are not called again just to measure their memory.
_SLOW = 1.0

# Growth of resident memory below this means nothing: a C++ library may reuse memory that it has kept.
_VISIBLE = 1_000_000

ROOF = "roof"  # among the names of contenders


@dataclass(frozen=True)
class Entry:
    """One contender's figures in one case."""

    name: str
    rounds: list[float]  # seconds per call; the k-th of all entries and of the roof belong together
    value: float
    peak_bytes: int | None

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds)


@dataclass
class Result:
    """One case's figures."""

    case: Case
    threads: int
    roof_kind: str
    roof_threads: int
    roof_bytes: int
    roof_rounds: list[float]
    entries: dict[str, Entry] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # contender -> why

    @property
    def roof_bandwidth(self) -> float:
        """Bytes per second."""
        return self.roof_bytes / statistics.median(self.roof_rounds)

    def bandwidth(self, name: str) -> float:
        """Bytes of the arrays per second of a call."""
        return self.case.moved_bytes / self.entries[name].seconds

    def of_roof(self, name: str) -> Ratio | None:
        """Share of the roof; None if the call is not limited by moving data."""
        return None if self.case.bound == "launch" else paired_ratio(self.roof_rounds, self.entries[name].rounds)

    @property
    def reference(self) -> str | None:
        """The contender that others are compared with: the first fastloss backend."""
        return next((name for name in self.entries if name.startswith("fastloss")), None)

    def slower(self, name: str) -> Ratio | None:
        """The ratio of a contender's time to the reference's; None for the reference itself, and if there is none."""
        if self.reference is None or name == self.reference:
            return None
        return paired_ratio(self.entries[name].rounds, self.entries[self.reference].rounds)

    def disagrees(self, name: str) -> bool:
        """Whether a contender's value differs from the reference's, so that its time means nothing."""
        if self.reference is None:
            return False
        mine, theirs = self.entries[self.reference].value, self.entries[name].value
        nothing = math.isnan(mine) and math.isnan(theirs)  # of a user's own case, whose calls may return no numbers
        return not nothing and not math.isclose(mine, theirs, rel_tol=tolerance(self.case), abs_tol=1e-7)


def run_case(case: Case, who: Sequence[Contender], *, seconds: float, threads: int, memory: bool = True) -> Result:
    """Measure one case: the roof and all contenders take turns for about that many seconds, preparations included.

    Preparing (inputs, compilation, first calls) takes what it takes; a quarter of the time at least is left to
    measure in.

    Raises
    ------
    ImportError
        If the case's dtype needs a package that is not installed.
    """
    import fastloss

    start = time.perf_counter()
    arrays = case.inputs()
    with fastloss.use_threads(threads), Roof(case, arrays, threads) as roof:
        calls: dict[str, Call] = {ROOF: roof}
        values: dict[str, float] = {}
        known: dict[str, float] = {}
        skipped: dict[str, str] = {}
        for contender in who:
            try:
                call = contender.prepare(case, arrays, threads)
                began = time.perf_counter()
                values[contender.name] = value_of(call())
                if not contender.compiles:
                    known[contender.name] = time.perf_counter() - began
            except Unsupported as reason:
                skipped[contender.name] = str(reason)
            except Exception as error:
                if contender.is_fastloss:
                    raise
                skipped[contender.name] = _one_line(error)  # a peer that breaks is no reason to stop
            else:
                calls[contender.name] = call
        left = seconds - (time.perf_counter() - start)
        rounds = interleave(calls, max(left, seconds / 4), known=known)
        result = Result(case, threads, roof.kind, roof.threads, roof.n_bytes, rounds.pop(ROOF), skipped=skipped)
        for contender in who:
            if (series := rounds.get(contender.name)) is None:
                continue
            peak = peak_bytes(calls[contender.name]) if memory and statistics.median(series) < _SLOW else None
            if contender.native and peak is not None and peak < _VISIBLE:
                peak = None
            result.entries[contender.name] = Entry(contender.name, series, values[contender.name], peak)
    return result


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"failed: {type(error).__name__}: {text[:120]}".rstrip(": ")


def conditions(who: Sequence[Contender], threads: int) -> dict[str, Any]:
    """What figures depend on: machine, threads, versions."""
    versions: dict[str, str] = {}
    for contender in who:
        versions.update(contender.versions())
    return {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or sys.platform
