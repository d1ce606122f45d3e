"""Verdicts (slower, faster, the same within the limit, can't tell) whose error rates are controlled over all cases and
all looks.

Three questions are asked for each case: is it slower than the limit allows, faster by as much, or certainly within the
limit (two one-sided tests; Schuirmann 1987)?  Many cases are many chances to be wrong, so the p-values of each question
go through Holm's procedure: the probability of even one false alarm is at most `ALPHA`, and so is that of even one
false all-clear.  Looking again as data accumulates adds chances; the k-th look may spend `ALPHA` / (k (k + 1)), a
series whose sum is `ALPHA` however many looks there are (a spending function in the sense of Lan & DeMets 1983).

References
----------
- Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6, 1979.
- Lan & DeMets, *Discrete sequential boundaries for clinical trials*, Biometrika 70, 1983.
- Schuirmann, *A comparison of the two one-sided tests procedure and the power approach*, J. Pharmacokinetics Biopharm. 15, 1987.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .estimate import Estimate

SLOWER, FASTER, SAME, UNCERTAIN = "slower", "faster", "same", "can't tell"

# The probability of at least one false alarm in a whole run, and that of at least one false all-clear.
ALPHA = 0.05

# Pairs of processes at the first look, and the factor by which they grow until the next.
FIRST_LOOK, GROWTH = 6, 1.5


def allowance(look: int, alpha: float = ALPHA) -> float:
    """The part of alpha that a look, counted from 1, may spend."""
    return alpha / (look * (look + 1))


def pairs_at(look: int) -> int:
    """How many pairs of processes there are at a look, counted from 1."""
    n = FIRST_LOOK
    for _ in range(look - 1):
        n = math.ceil(n * GROWTH)
    return n


def holm(p: np.ndarray, alpha: float) -> np.ndarray:
    """Which hypotheses are rejected: those with the smallest p-values, until the first that exceeds alpha / (hypotheses
    left)."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    passes = p[order] <= alpha / np.arange(len(p), 0, -1)
    fallen = np.zeros(len(p), bool)
    fallen[order[: len(p) if passes.all() else int(np.argmin(passes))]] = True
    return fallen


class Judge:
    """Verdicts over several looks at growing data.

    Parameters
    ----------
    limit : float
        The ratio of times, at least 1, up to which the sides count as the same.  At 1 nothing is ever called the same.
    """

    def __init__(self, limit: float, alpha: float = ALPHA) -> None:
        self.limit, self.alpha = limit, alpha
        self.looks = 0
        self.verdicts: dict[str, str] = {}

    def look(self, estimates: Mapping[str, Estimate]) -> list[str]:
        """Judge all cases on the data so far; returns the names of those without a verdict.

        `estimates` has the same cases at each look.  Verdicts are final.
        """
        self.looks += 1
        alpha, bound = allowance(self.looks, self.alpha), math.log(self.limit)
        names = list(estimates)
        slower = np.array([estimates[name].tail(bound) for name in names])
        faster = np.array([_mirrored(estimates[name]).tail(bound) for name in names])
        alarms = holm(np.minimum(1.0, 2 * np.minimum(slower, faster)), alpha)
        # the same, if both "slower by the limit or more" and "faster by the limit or more" are rejected
        within = np.array([max(_mirrored(e).tail(-bound), e.tail(-bound)) for e in estimates.values()])
        same = holm(within, alpha) & (self.limit > 1)
        for i, name in enumerate(names):
            if self.verdicts.get(name, UNCERTAIN) != UNCERTAIN:
                continue
            alarm = SLOWER if slower[i] < faster[i] else FASTER
            self.verdicts[name] = alarm if alarms[i] else SAME if same[i] else UNCERTAIN
        return [name for name in names if self.verdicts[name] == UNCERTAIN]


def _mirrored(estimate: Estimate) -> Estimate:
    """The estimate with old and new exchanged."""
    return Estimate(-estimate.log_ratio, estimate.spread, estimate.pairs, estimate.rounds)
