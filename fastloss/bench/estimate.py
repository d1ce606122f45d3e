"""How many times as long one side takes as the other, and how well that is known.

A round gives the logarithm of new time over old, both taken within milliseconds of each other.  Rounds of one pair of processes are
not independent: where memory happens to lie, and in which order things were compiled, makes a process a little slower or faster for all
of its life (Mytkowicz et al. 2009; Kalibera & Jones 2013).  So what is drawn at random are first pairs of processes, then rounds within each: the
cluster bootstrap (Davison & Hinkley 1997, section 3.8; Ren et al. 2010).

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

# Of the interval that is shown.
CONFIDENCE = 0.95

# Resamples of the rounds of each pair.
_RESAMPLES = 200

# No clock tells times apart that are closer than this, as a share of them.
_RESOLUTION = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A ratio of times as a logarithm, with its standard error.

    Attributes
    ----------
    log_ratio : mean over pairs of processes of the median over rounds of log(new time / old time).
    spread : standard error of `log_ratio` by the cluster bootstrap; infinite for a single pair.
    pairs, rounds : how many of both, rounds counted over all pairs.
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
        """Ends of the ratio's interval; 0 and infinity for a single pair."""
        if self.pairs < 2:
            return 0.0, math.inf
        reach = student.upper_quantile((1 - confidence) / 2, self.pairs - 1) * self.spread
        return math.exp(self.log_ratio - reach), math.exp(min(self.log_ratio + reach, 700.0))

    def tail(self, bound: float) -> float:
        """How likely `log_ratio` would be at least this large if the true one were `bound`."""
        if self.pairs < 2:
            return 1.0
        return float(student.upper_tail((self.log_ratio - bound) / self.spread, self.pairs - 1))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None for ends that are not known."""
        ends = [end if 0 < end < math.inf else None for end in self.interval()]
        return {"ratio": self.ratio, "interval": ends, "pairs": self.pairs, "rounds": self.rounds}


@dataclass(frozen=True)
class Medians:
    """What the rounds of each pair come to: the first stage's data, and what the second says of them.

    Attributes
    ----------
    values : (pairs,) medians of the log ratios of each pair's rounds.
    variance : of such a median, given its pair, by resampling rounds; median over the pairs, as one of them may hold what the machine did beside.
    rounds : how many there are in all.
    """

    values: np.ndarray
    variance: float
    rounds: int

    def estimate(self) -> Estimate:
        """Mean and standard error.

        A resample is the mean of as many independent draws as there are pairs, so the first stage needs no random numbers: its variance is that
        of the medians over n - 1.  That holds the scatter of rounds as well, and adding the second stage to it would count it twice.  But a few pairs
        may agree by chance, and then the second stage is the least that the error can be.
        """
        n = len(self.values)
        if n < 2:
            return Estimate(float(self.values.mean()), math.inf, n, self.rounds)
        variance = max(float(self.values.var()) / (n - 1), self.variance / n)
        return Estimate(float(self.values.mean()), max(math.sqrt(variance), _RESOLUTION), n, self.rounds)


def medians(rounds: Sequence[Sequence[float]]) -> Medians:
    """Of the log ratios of each pair's rounds."""
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
    """Of each row's median, by the bootstrap; 0 for a single round, which says nothing of it."""
    n_rounds = stacked.shape[1]
    picks = np.random.default_rng(0).integers(0, n_rounds, (_RESAMPLES, n_rounds))
    return np.median(stacked[:, picks], axis=2).var(axis=1)
