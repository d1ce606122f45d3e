"""Times calls in turn, and estimates ratios of their times.

Machines are shared and drift, so times are never compared across minutes: contenders take turns (A B C A B C ...),
and what is reported is the median over rounds of the ratio within each round, with a bootstrap interval (Efron 1979;
the percentile method).
"""

from __future__ import annotations

import gc
import itertools
import math
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]

# The least duration of a timed batch: short calls are repeated, because the clock and the loop have costs of their own.
SHORTEST_BATCH = 2e-3
# How long the call runs untimed before that: the last contender's data leave the cache, and its idle threads stop
# spinning (OpenMP's spin for some milliseconds).  For calls longer than LONG such effects are negligible.
SETTLE, LONG = 3e-3, 50e-3

# The number of rounds that everyone takes part in if time allows, and the largest number of rounds.
LEAST_ROUNDS, MOST_ROUNDS = 3, 300


class Batch:
    """A call that is timed in batches of enough repeats to be measurable.

    The call should be warm.  If it is known to take LONG or more, pass `seconds` to avoid measuring that again.
    """

    def __init__(self, call: Call, *, seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._call, self._clock = call, clock
        n = 1
        if seconds < LONG:
            while (seconds := self._run(n)) < SHORTEST_BATCH / 4:
                n *= 4
        once = max(seconds / n, 1e-9)
        self.repeats = max(1, math.ceil(SHORTEST_BATCH / once))
        self.settling = 0 if once > LONG else max(1, math.ceil(SETTLE / once))
        # the approximate duration of a round
        self.cost = once * (self.repeats + self.settling)

    def _run(self, repeats: int) -> float:
        call, turns = self._call, itertools.repeat(None, repeats)
        start = self._clock()
        for _ in turns:
            call()
        return self._clock() - start

    def time(self, repeats: int | None = None, *, settle: bool = True) -> float:
        """Seconds per call, after settling."""
        repeats = repeats or self.repeats
        collecting = gc.isenabled()
        gc.disable()
        try:
            if settle and self.settling:
                self._run(self.settling)
            return self._run(repeats) / repeats
        finally:
            if collecting:
                gc.enable()


def interleave(
    calls: Mapping[str, Call],
    seconds: float,
    *,
    known: Mapping[str, float] | None = None,
    least: int = LEAST_ROUNDS,
    most: int = MOST_ROUNDS,
) -> dict[str, list[float]]:
    """Seconds per call of each of `calls`, round by round.

    All have an equal share of the time.  A call that has used up its share takes no further part, so that the k-th
    figures of two calls always come from the same round; a call that is longer than its whole share takes part once.
    `known` holds the seconds that warm calls have taken before.
    """
    known = known or {}
    batches = {name: Batch(call, seconds=known.get(name, 0.0)) for name, call in calls.items()}
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    share = seconds / max(len(calls), 1)
    owed = {name: 1 if batch.cost > share else least for name, batch in batches.items()}
    spent = dict.fromkeys(calls, 0.0)
    taking_part = list(calls)
    while taking_part:
        for name in list(taking_part):
            start = time.perf_counter()
            rounds[name].append(batches[name].time())
            spent[name] += (last := time.perf_counter() - start)
            done = len(rounds[name])
            if done >= most or (done >= owed[name] and spent[name] + last > share):
                taking_part.remove(name)
    return rounds


@dataclass(frozen=True)
class Ratio:
    """A median ratio with the ends of its bootstrap interval, which are NaN if there are too few rounds for one."""

    median: float
    low: float
    high: float
    rounds: int

    def as_list(self) -> list[float | None]:
        """[median, low, high] as plain numbers; None for unknown ends."""
        return [value if math.isfinite(value) else None for value in (self.median, self.low, self.high)]


def paired_ratio(
    above: Sequence[float], below: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000
) -> Ratio:
    """The median of above[i] / below[i] over the rounds that both took part in."""
    n = min(len(above), len(below))
    ratios = np.divide(above[:n], below[:n])

    def resample(pick: Callable[[int], np.ndarray]) -> np.ndarray:
        return np.median(ratios[pick(n)], axis=1)

    return _interval(resample, float(np.median(ratios)), n, confidence, resamples)


def unpaired_ratio(
    above: Sequence[float], below: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000
) -> Ratio:
    """The ratio of the medians of two samples that were not taken in turn."""
    a, b = np.asarray(above), np.asarray(below)
    median = float(np.median(a) / np.median(b))

    def resample(pick: Callable[[int], np.ndarray]) -> np.ndarray:
        return np.median(a[pick(len(a))], axis=1) / np.median(b[pick(len(b))], axis=1)

    return _interval(resample, median, min(len(a), len(b)), confidence, resamples)


def _interval(
    statistic: Callable[[Callable[[int], np.ndarray]], np.ndarray],
    median: float,
    n: int,
    confidence: float,
    resamples: int,
) -> Ratio:
    """Percentiles of `statistic` over resamples; `statistic` is called with a function that draws indices."""
    if n < 2:
        return Ratio(median, math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    figures = statistic(lambda size: rng.integers(0, size, (resamples, size)))
    low, high = np.quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Ratio(median, float(low), float(high), n)


def peak_bytes(call: Call) -> int | None:
    """The most memory that one call allocates beyond what existed before it.

    NumPy reports to tracemalloc; what C++ libraries allocate shows in the peak of resident memory, which Linux lets a
    process reset.  The larger of the two is returned, or None if neither is available.
    """
    gc.collect()
    resident = _status_bytes("VmRSS") if _forget_peak() else None
    own = not tracemalloc.is_tracing()  # otherwise somebody else has started it, and we must not reset it
    if own:
        tracemalloc.start()
    try:
        call()
        traced = tracemalloc.get_traced_memory()[1] if own else None
    finally:
        if own:
            tracemalloc.stop()
    high = _status_bytes("VmHWM")
    grown = None if resident is None or high is None else max(0, high - resident)
    return max((n for n in (traced, grown) if n is not None), default=None)


def _forget_peak() -> bool:
    """Reset Linux's peak of resident memory, if permitted."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def work(call: Call) -> int:
    """How many Python and C functions one call enters: a count that other load on the machine does not change."""
    entered = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal entered
        entered += event in ("call", "c_call")

    def counted() -> None:
        sys.setprofile(count)
        try:
            call()
        finally:
            sys.setprofile(None)

    # not on the main thread, where Numba's compiler would run on another one, which is not counted
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, counted).result()
    return entered
