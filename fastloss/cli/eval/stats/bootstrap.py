"""Confidence intervals by the Poisson bootstrap.

In each resample a unit (a row, or all that belongs to one document, group or shard) occurs as often as a Poisson(1) number
says, which for many units is what drawing with replacement comes to. The numbers come from a counter-based generator
(Philox, Salmon et al., SC 2011), as a function of the seed, the unit and the resample alone: so data may come in any
order, in any pieces, on any number of workers, and a unit may be spread over them. The sums are exact.

References
----------
Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7 (1979).
Hanley & MacGibbon, "Creating non-parametric bootstrap samples using Poisson frequencies" (2006).
Chamandy, Muralidharan, Najmi & Naidu, "Estimating Uncertainty for Massive Data Streams" (2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss import _reduce
from fastloss._exact import ExactSum

from .exactly import finite, levels, units
from .sums import Place, Rows

UNITS = ("row", "sample", "group", "shard")
LEVEL = 0.95

_DRAWS = 16  # one count of the generator gives 256 bits, a draw takes 16 of them
_AT_ONCE = 1 << 17  # draws held in memory, and in the cache


@dataclass(frozen=True)
class Resampling:
    """How often, from which seed, and what is drawn: one of `UNITS`."""

    n: int
    seed: int
    unit: str


# Of 16 uniform bits the number is how many of these they reach: Poisson(1) up to 8, with probabilities right to 2**-17.
_STEPS = [round(65536 * math.exp(-1) * math.fsum(1 / math.factorial(i) for i in range(k + 1))) for k in range(8)]


def frequencies(keys: np.ndarray, resampling: Resampling) -> np.ndarray:
    """How often each of the units `keys` (increasing) occurs in each resample: `(len(keys), n)`."""
    counts = -(-resampling.n // _DRAWS)
    draws = np.empty((len(keys), counts * _DRAWS), np.uint16)
    breaks = np.flatnonzero(np.diff(keys) != 1) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(keys)], strict=True):
        generator = np.random.Philox(key=resampling.seed, counter=int(keys[start]) * counts)
        raw = generator.random_raw((stop - start) * counts * 4)
        draws[start:stop] = raw.astype("<u8", copy=False).view("<u2").reshape(stop - start, -1)
    numbers = np.zeros(draws.shape, np.uint8)
    for step in _STEPS:
        numbers += draws >= np.uint16(step)
    return numbers[:, : resampling.n].astype(np.float64)


class Bootstrap:
    """Sums of each column of the rows in each resample."""

    def __init__(self, resampling: Resampling) -> None:
        self.resampling = resampling
        # column, e -> sums in units of 2**e: whole numbers of any size
        self._sums: dict[tuple[str, int], np.ndarray] = {}

    def add(self, rows: Rows, place: Place) -> None:
        parts = _parts(rows)
        keys = _keys(self.resampling.unit, rows.loss.size, place)
        if self.resampling.unit != "row":
            keys, inverse = np.unique(keys, return_inverse=True)
            parts = [(name, np.bincount(inverse, part, len(keys))) for name, part in parts]
        stacked = np.stack([part for _, part in parts])
        totals = np.zeros((len(parts), self.resampling.n))
        step = max(1, _AT_ONCE // self.resampling.n)
        for start in range(0, len(keys), step):
            cut = slice(start, start + step)
            totals += stacked[:, cut] @ frequencies(keys[cut], self.resampling)
        self.add_totals([name for name, _ in parts], totals)

    def add_totals(self, names: list[tuple[str, int]], totals: np.ndarray) -> None:
        """Add whole numbers, a row of them for each name."""
        for name, total in zip(names, totals, strict=True):
            self._add(name, total.astype(np.int64).astype(object))

    def whole(self) -> Bootstrap:
        """The sums of all rows."""
        return self

    def _add(self, name: tuple[str, int], total: np.ndarray) -> None:
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def merge(self, other: Bootstrap) -> None:
        for column, total in other._sums.items():
            self._add(column, total)

    def column(self, name: str) -> list[ExactSum]:
        """The sums of a column, one for each resample."""
        totals = [ExactSum() for _ in range(self.resampling.n)]
        for (column, e), numbers in self._sums.items():
            for total, number in zip(totals, numbers, strict=True):
                if column == name:
                    total.units += units(number, e)
                elif number and column in (f"{name} +", f"{name} -"):
                    total.special += math.inf if column[-1] == "+" else -math.inf
        return totals

    def means(self, name: str, denominator: str) -> np.ndarray:
        """The quotient of two columns in each resample."""
        above, below = self.column(name), self.column(denominator)
        return np.array([_reduce.mean_of_sums(*pair, rowwise=False) for pair in zip(above, below, strict=True)])

    def __contains__(self, name: str) -> bool:
        return any(column == name for column, _ in self._sums)

    def to_json(self) -> Any:
        return [[*name, [int(number) for number in total]] for name, total in self._sums.items()]

    @classmethod
    def from_json(cls, data: Any, resampling: Resampling) -> Bootstrap:
        new = cls(resampling)
        new._sums = {(name, e): np.array(total, dtype=object) for name, e, total in data}
        return new


class GroupedBootstrap:
    """The same for each group; those of all rows are the sums of these, which are exact."""

    def __init__(self, resampling: Resampling) -> None:
        self.resampling = resampling
        self.groups: dict[int, Bootstrap] = {}

    def add(self, rows: Rows, place: Place) -> None:
        assert place.groups is not None
        parts = _parts(rows)
        names, stacked = [name for name, _ in parts], np.stack([part for _, part in parts])
        keys = _keys(self.resampling.unit, rows.loss.size, place)
        codes, inverse = np.unique(place.groups[: rows.loss.size], return_inverse=True)
        totals = np.zeros((len(codes), len(parts), self.resampling.n))
        step = max(1, _AT_ONCE // self.resampling.n)
        for start in range(0, len(keys), step):
            cut = slice(start, start + step)
            units, of = np.unique(keys[cut], return_inverse=True)
            numbers = frequencies(units, self.resampling)[of]
            for group in np.unique(inverse[cut]):
                mine = np.flatnonzero(inverse[cut] == group)
                totals[group] += stacked[:, cut][:, mine] @ numbers[mine]
        for code, total in zip(codes, totals, strict=True):
            self._of(int(code)).add_totals(names, total)

    def _of(self, code: int) -> Bootstrap:
        return self.groups.setdefault(code, Bootstrap(self.resampling))

    def merge(self, other: GroupedBootstrap) -> None:
        for code, sums in other.groups.items():
            self._of(code).merge(sums)

    def whole(self) -> Bootstrap:
        """The sums of all rows."""
        found = Bootstrap(self.resampling)
        for sums in self.groups.values():
            found.merge(sums)
        return found

    def to_json(self) -> Any:
        return {str(code): sums.to_json() for code, sums in self.groups.items()}

    @classmethod
    def from_json(cls, data: Any, resampling: Resampling) -> GroupedBootstrap:
        new = cls(resampling)
        new.groups = {int(code): Bootstrap.from_json(sums, resampling) for code, sums in data.items()}
        return new


def _parts(rows: Rows) -> list[tuple[tuple[str, int], np.ndarray]]:
    """What is summed of each row: whole numbers, in units of 2**e, by column and e."""
    parts: list[tuple[tuple[str, int], np.ndarray]] = []
    for name, column in rows.columns().items():
        if column.dtype == bool:
            parts.append(((name, 0), column.astype(np.float64)))
            continue
        column, special = finite(column)
        parts += [((name, e), part) for e, part in levels(column)]
        if special is not None:
            parts += [((f"{name} +", 0), (special == np.inf) * 1.0), ((f"{name} -", 0), (special == -np.inf) * 1.0)]
    return parts


def _keys(unit: str, n: int, place: Place) -> np.ndarray:
    """What each of the next `n` losses is drawn with."""
    if unit == "row":
        return place.loss + np.arange(n)
    if unit == "sample":
        return place.samples(n)
    if unit == "shard":
        return np.full(n, place.shard)
    assert place.groups is not None
    return place.groups[:n]


def interval(values: np.ndarray) -> list[float]:
    """The percentile interval; resamples in which nothing was counted say nothing."""
    values = np.sort(values[~np.isnan(values)])
    if not values.size:
        return [math.nan, math.nan]
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return [float(values[min(values.size - 1, int(end * values.size))]) for end in ends]
