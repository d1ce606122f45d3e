"""Sums of floats without rounding: the order and grouping of the terms make no difference."""

from __future__ import annotations

import math
from typing import SupportsFloat

import numpy as np
from numpy.typing import NDArray

# The unit is the smallest positive double, 2^-1074; every double is a whole number of units.
LOWEST = 1074

# The array form of a sum holds its digits in base 2^32, each a whole number in float64.  Adding such arrays element by
# element adds the sums, exactly for up to 2^20 arrays.  DIGITS digits are enough for 2^64 times the largest double.
BASE = 32
DIGITS = (LOWEST + 1024 + 64) // BASE + 1


class ExactSum:
    """A sum of floats.  Infinities and NaN are summed separately, as floats."""

    __slots__ = ("special", "units")

    def __init__(self, units: int = 0, special: float = 0.0) -> None:
        self.units, self.special = units, special

    def add(self, value: SupportsFloat) -> None:
        value = float(value)
        if math.isfinite(value):
            numerator, denominator = value.as_integer_ratio()
            self.units += numerator << (LOWEST + 1 - denominator.bit_length())
        else:
            self.special += value

    def merge(self, other: ExactSum) -> None:
        self.units += other.units
        self.special += other.special

    def copy(self) -> ExactSum:
        return ExactSum(self.units, self.special)

    def __float__(self) -> float:
        return self.divided_by(ExactSum(1 << LOWEST))

    def divided_by(self, other: ExactSum) -> float:
        """This sum divided by another, which is not 0, rounded once."""
        if self.special or other.special:  # true for NaN
            finite = [float(ExactSum(s.units)) if not s.special else s.special for s in (self, other)]
            return finite[0] / finite[1] if finite[1] else math.nan
        try:
            return self.units / other.units
        except OverflowError:
            return math.inf if (self.units > 0) == (other.units > 0) else -math.inf

    def to_array(self) -> NDArray[np.float64]:
        """DIGITS numbers of one sign, then the sum of infinities and NaN."""
        digits = np.frombuffer(abs(self.units).to_bytes(DIGITS * BASE // 8, "little"), "<u4").astype(np.float64)
        return np.append(digits if self.units >= 0 else 0.0 - digits, self.special)

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> ExactSum:
        return cls(sum(int(digit) << (BASE * i) for i, digit in enumerate(array[:-1])), float(array[-1]))
