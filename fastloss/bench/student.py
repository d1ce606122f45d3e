"""Student's t distribution for integer degrees of freedom, without SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np


def upper_tail(t: Any, degrees: int) -> Any:
    """P(T >= t), by the finite series of Abramowitz & Stegun (1964), 26.7.3 and 26.7.4; elementwise."""
    t = np.asarray(t, np.float64)
    theta = np.arctan(t / math.sqrt(degrees))
    cosine, sine = np.cos(theta), np.sin(theta)
    squared = cosine * cosine
    if degrees % 2:
        term = total = cosine * (degrees > 1)
        for k in range(3, degrees, 2):
            term = term * squared * ((k - 1) / k)
            total = total + term
        within = (theta + sine * total) * (2 / math.pi)
    else:
        term = total = np.ones_like(cosine)
        for k in range(2, degrees, 2):
            term = term * squared * ((k - 1) / k)
            total = total + term
        within = sine * total
    return np.clip((1 - within) / 2, 0.0, 1.0)[()]


def upper_quantile(tail: float, degrees: int) -> float:
    """The t with P(T >= t) = tail, for a tail in (0, 0.5]."""
    high = 1.0
    while upper_tail(high, degrees) > tail:
        high *= 2
        if high > 1e12:  # the tail is too small for the series to tell it from 0
            return math.inf
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if upper_tail(middle, degrees) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def chi_square_lower(tail: float, degrees: int) -> float:
    """The x with P(X <= x) = tail of the chi-square distribution, as Wilson & Hilferty (1931) approximate it."""
    ninth = 2 / (9 * degrees)
    return degrees * max(1 - ninth + NormalDist().inv_cdf(tail) * math.sqrt(ninth), 0.0) ** 3
