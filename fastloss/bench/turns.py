"""Pairs of processes, one of each side, that take turns."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .case import Case
from .side import Side
from .workers import Worker

# Rounds per pair of processes.  More would add little, because each process keeps its own speed.
ROUNDS = 4


@dataclass(frozen=True)
class Subject:
    """A case on a backend, or on the side's default if that is None.  `told_apart` if there are several backends."""

    case: Case
    backend: str | None = None
    told_apart: bool = False

    @property
    def name(self) -> str:
        return f"{self.case.name} [{self.backend}]" if self.told_apart and self.backend else self.case.name


@dataclass
class Sitting:
    """The results of one pair of processes for one subject; lists have one entry per side, the new one first.

    Attributes
    ----------
    log_ratios : log(new time / old time) by round.
    seconds : median time of a call.
    values : the call's result, as one number.
    missing : why a side has no such case; "" if it has.
    error : why a side could not run it; "" if it could.
    """

    log_ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=lambda: ["", ""])
    error: list[str] = field(default_factory=lambda: ["", ""])


class Pair:
    """Two processes that run at the same time; the order of everything they do is random."""

    def __init__(self, sides: Sequence[Side], rng: random.Random) -> None:
        self._rng, self._stack = rng, ExitStack()
        found: dict[int, Worker] = {}
        try:
            for i in self._order():
                found[i] = self._stack.enter_context(Worker(sides[i]))
        except BaseException:
            self._stack.close()
            raise
        self.workers = [found[0], found[1]]

    def _order(self) -> list[int]:
        return self._rng.sample((0, 1), 2)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.close()

    def sit(self, subject: Subject, threads: int, rounds: int = ROUNDS, clock: str = "wall") -> Sitting:
        """Time a subject on fresh inputs, in rounds of ABBA or BAAB: a drift of the machine's speed cancels in each."""
        sitting = Sitting()
        ready = self.prepare(subject, threads, clock=clock)
        for i, answer in enumerate(ready):
            sitting.missing[i], sitting.error[i] = answer.get("missing", ""), answer.get("error", "")
        if any(sitting.missing) or any(sitting.error):
            return sitting
        sitting.values = [answer["value"] for answer in ready]
        repeats = max(answer["repeats"] for answer in ready)
        taken: list[list[float]] = [[], []]
        for turn in range(rounds):
            first, second = self._order()
            found: list[list[float]] = [[], []]
            for i in (first, second, second, first):
                answer = self.workers[i].ask(do="time", repeats=repeats, round=turn)
                if "error" in answer:
                    sitting.error[i] = answer["error"]
                    return sitting
                found[i].append(answer["seconds"])
            new, old = (math.fsum(map(math.log, each)) / 2 for each in found)
            sitting.log_ratios.append(new - old)
            taken[0] += found[0]
            taken[1] += found[1]
        sitting.seconds = [statistics.median(each) for each in taken]
        return sitting

    def prepare(self, subject: Subject, threads: int, **more: Any) -> list[dict[str, Any]]:
        """Ask both sides to prepare a subject; returns their answers."""
        request = {"case": subject.case.as_dict(), "backend": subject.backend, "threads": threads, **more}
        answers: dict[int, dict[str, Any]] = {i: self.workers[i].ask(do="prepare", **request) for i in self._order()}
        return [answers[0], answers[1]]
