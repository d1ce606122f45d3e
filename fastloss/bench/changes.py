"""Finds where the level of a series changes: E-divisive with a permutation test.

References
----------
- Matteson & James, *A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data*, JASA 109, 2014.
- Daly, Brown, Ingo, O'Leary & Bradford, *The Use of Change Point Detection to Identify Software Performance Regressions in a
  Continuous Integration System*, ICPE 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The least number of points on each side of a change.
_FEWEST = 3

_PERMUTATIONS, _SIGNIFICANT = 199, 0.05


def points(values: Sequence[float]) -> list[int]:
    """The indices at which a new level begins."""
    x = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    found: list[int] = []

    def divide(start: int, stop: int) -> None:
        at, strength = _strongest(x[start:stop])
        if at == 0:
            return
        larger = sum(_strongest(rng.permutation(x[start:stop]))[1] >= strength for _ in range(_PERMUTATIONS))
        if (larger + 1) / (_PERMUTATIONS + 1) > _SIGNIFICANT:
            return
        divide(start, start + at)
        found.append(start + at)
        divide(start + at, stop)

    divide(0, len(x))
    return found


def _strongest(x: np.ndarray) -> tuple[int, float]:
    """(index, distance) where the energy distance between before and after, scaled by n m / (n + m), is largest; 0 if x
    is too short."""
    n = len(x)
    best = (0, -1.0)
    distance = np.abs(x[:, None] - x[None, :])
    for at in range(_FEWEST, n - _FEWEST + 1):
        m = n - at
        within = distance[:at, :at].sum() / (at * (at - 1)) + distance[at:, at:].sum() / (m * (m - 1))
        energy = (2 * distance[:at, at:].mean() - within) * at * m / n
        if energy > best[1]:
            best = (at, float(energy))
    return best
