"""Estimates the ratio of the two sides' times, and its error.

A round gives the logarithm of new time over old, both measured within milliseconds of each other.  Rounds of one pair
of processes are not independent: memory layout, or the order in which things were compiled, can make a process a little
slower or faster throughout its life (Mytkowicz et al. 2009; Kalibera & Jones 2013).  So resampling draws pairs of
processes first, then rounds within each: the cluster bootstrap (Davison & Hinkley 1997, section 3.8; Ren et al. 2010).

References
----------
- Davison & Hinkley, *Bootstrap Methods and Their Application*, 1997.
- Hesterberg, *What Teachers Should Know About the Bootstrap*, The American Statistician 69, 2015: intervals of the form estimate ± t·spread,
  with the spread from the bootstrap and its factor n/(n − 1) for few clusters.
- Kalibera & Jones, *Rigorous Benchmarking in Reasonable Time*, ISMM 2013.
- Mytkowicz, Diwan, Hauswirth & Sweeney, *Producing Wrong Data Without Doing Anything Obviously Wrong!*, ASPLOS 2009.
- Ren, Lai, Tong et al., *Nonparametric bootstrapping for hierarchical data*, Journal of Applied Statistics 37, 2010.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import student

# The confidence level of the intervals that are shown.
CONFIDENCE = 0.95

# The number of resamples of each pair's rounds.
_RESAMPLES = 200

# The smallest relative difference that a clock can resolve.
_RESOLUTION = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A ratio of times as a logarithm, with its standard error.

    Attributes
    ----------
    log_ratio : mean over pairs of processes of the median over rounds of log(new time / old time).
    spread : standard error of `log_ratio` by the cluster bootstrap; infinite for a single pair.
    pairs, rounds : their numbers; rounds of all pairs together.
    """

    log_ratio: float
    spread: float
    pairs: int
    rounds: int

    @property
    def ratio(self) -> float:
        """New time over old."""
        return math.exp(self.log_ratio)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """(low, high) ends of the ratio's confidence interval; 0 and infinity for a single pair."""
        if self.pairs < 2:
            return 0.0, math.inf
        reach = student.upper_quantile((1 - confidence) / 2, self.pairs - 1) * self.spread
        return math.exp(self.log_ratio - reach), math.exp(min(self.log_ratio + reach, 700.0))

    def tail(self, bound: float) -> float:
        """The probability of a `log_ratio` at least this large if the true one were `bound`."""
        if self.pairs < 2:
            return 1.0
        return float(student.upper_tail((self.log_ratio - bound) / self.spread, self.pairs - 1))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; None for unknown ends."""
        ends = [end if 0 < end < math.inf else None for end in self.interval()]
        return {"ratio": self.ratio, "interval": ends, "pairs": self.pairs, "rounds": self.rounds}


@dataclass(frozen=True)
class Medians:
    """Medians over each pair's rounds: the data of the bootstrap's first stage, and their variance from the second.

    Attributes
    ----------
    values : (pairs,) medians of the log ratios of each pair's rounds.
    variance : of such a median within its pair, by resampling rounds; the median over pairs, because one may have been
        disturbed.
    rounds : the number of rounds of all pairs together.
    """

    values: np.ndarray
    variance: float
    rounds: int

    def estimate(self) -> Estimate:
        """The Estimate: mean and standard error.

        A resample is the mean of as many independent draws as there are pairs, so the first stage needs no random
        numbers: its variance is the variance of the medians divided by n - 1.  That includes the scatter of rounds, so
        adding the second stage would count it twice.  But a few pairs may agree by chance; then the second stage is a
        lower bound of the error.
        """
        n = len(self.values)
        if n < 2:
            return Estimate(float(self.values.mean()), math.inf, n, self.rounds)
        variance = max(float(self.values.var()) / (n - 1), self.variance / n)
        return Estimate(float(self.values.mean()), max(math.sqrt(variance), _RESOLUTION), n, self.rounds)


def medians(rounds: Sequence[Sequence[float]]) -> Medians:
    """The Medians of the log ratios of each pair's rounds."""
    series = [np.asarray(pair, np.float64) for pair in rounds if len(pair)]
    if not series:
        raise ValueError("no rounds were measured")
    values, variances = np.empty(len(series)), np.empty(len(series))
    lengths = np.array(list(map(len, series)))
    for length in np.unique(lengths):
        (those,) = np.nonzero(lengths == length)
        stacked = np.stack([series[i] for i in those])
        values[those], variances[those] = np.median(stacked, axis=1), _variances(stacked)
    return Medians(values, float(np.median(variances)), int(lengths.sum()))


def estimate(rounds: Sequence[Sequence[float]]) -> Estimate:
    """The ratio and its standard error, from the log ratios of each pair's rounds."""
    return medians(rounds).estimate()


def _variances(stacked: np.ndarray) -> np.ndarray:
    """The bootstrap variance of each row's median; 0 for a single round, from which it can't be estimated."""
    n_rounds = stacked.shape[1]
    picks = np.random.default_rng(0).integers(0, n_rounds, (_RESAMPLES, n_rounds))
    return np.median(stacked[:, picks], axis=2).var(axis=1)
