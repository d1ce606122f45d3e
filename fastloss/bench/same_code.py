"""What a run can detect, from a run in which both sides are the same code (an A/A run).

The ratios of such a run differ from 1 only by noise.  Their scatter tells which slowdown the actual run will find (its
replicability, in the words of Bouckaert & Frank 2004).  Exchanging the two sides of pairs at random, which makes no
difference as both are the same, shows how often the whole procedure raises a false alarm on this machine's noise: a
permutation test of the test itself (Good 2005).

References
----------
- Bouckaert & Frank, *Evaluating the replicability of significance tests for comparing learning algorithms*, PAKDD 2004.
- Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988.
- Good, *Permutation, Parametric, and Bootstrap Tests of Hypotheses*, 2005.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from . import student
from .estimate import Estimate, medians
from .judge import ALPHA, FASTER, SLOWER, Judge, allowance

# The least probability of finding a slowdown that is called detectable.
POWER = 0.9

# A few pairs estimate their own scatter badly, so an upper bound is used, which it exceeds with this probability.
_UNDERRATED = 0.05

_EXCHANGES = 200


def detectable(
    noise: Sequence[Estimate], *, limit: float, cases: int, pairs: int, look: int = 1, alpha: float = ALPHA
) -> float:
    """The smallest slowdown, as a ratio, that this number of pairs detects with probability `POWER` among this number
    of cases.

    Parameters
    ----------
    noise : sequence of Estimate
        Of the case in the A/A run, and perhaps in the actual run, whose pairs scatter alike.
    limit : float
        The allowed ratio.
    cases : int
        How many are judged together; Holm's first step divides the error by it.
    pairs : int
        The number of pairs in the actual run.
    look : int
        The number of the look at which there are that many pairs; see `judge`.
    """
    known = [each for each in noise if each.pairs > 1]
    degrees = sum(each.pairs - 1 for each in known)
    if not degrees or pairs < 2:
        return math.inf
    # the variance of one pair, pooled
    variance = sum(each.spread**2 * each.pairs * (each.pairs - 1) for each in known) / degrees
    largest = variance * degrees / student.chi_square_lower(_UNDERRATED, degrees)
    spread = math.sqrt(largest / pairs)
    critical = student.upper_quantile(allowance(look, alpha) / (2 * cases), pairs - 1)
    reach = (critical + student.upper_quantile(1 - POWER, pairs - 1)) * spread
    return math.exp(math.log(limit) + reach) if reach < 700 else math.inf


def false_alarm_rate(rounds: Mapping[str, Sequence[Sequence[float]]], *, limit: float, alpha: float = ALPHA) -> float:
    """The fraction of random exchanges of sides after which some case would be called slower or faster.

    Parameters
    ----------
    rounds : mapping of str to sequences of log ratios
        Of the A/A run: by case, pair and round.
    limit : float
        The allowed ratio.
    """
    rng = np.random.default_rng(0)
    found = {name: medians(series) for name, series in rounds.items()}
    n_pairs = max(len(each.values) for each in found.values())
    alarms = 0
    for _ in range(_EXCHANGES):
        # a pair of processes runs all cases, so their sides are exchanged together
        signs = rng.choice((-1.0, 1.0), n_pairs)
        judge = Judge(limit, alpha)
        judge.look(
            {
                name: replace(each, values=signs[: len(each.values)] * each.values).estimate()
                for name, each in found.items()
            }
        )
        alarms += any(verdict in (SLOWER, FASTER) for verdict in judge.verdicts.values())
    return alarms / _EXCHANGES
