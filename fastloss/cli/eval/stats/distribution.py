"""What the report page shows of single losses, in fixed memory: their distribution, the calibration, the worst of them."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from .sums import Place, Rows

# A loss's bucket is the top of its float64 pattern: exponent and five bits of mantissa, so buckets are 1/32 of an octave.
_DROPPED = 47
_INFINITE = 0x7FF0000000000000 >> _DROPPED

BINS = 15  # of the calibration, as in Guo et al. 2017
_CONFIDENCE_UNIT = 2.0**-30
_CHANGE_UNIT = 2.0**-36

WORST = 20

CHANGE_BINS = 20  # of the probability that the other model gives the target


class Histogram:
    """Counts of losses in buckets of about 3 % width, of either sign; 0 and the infinities have buckets of their own."""

    def __init__(self) -> None:
        # By key: 0 for a loss of 0, else one more than the pattern's top, with the loss's sign. Keys are in the losses' order.
        self.counts: dict[int, int] = {}
        self.low, self.high = math.inf, -math.inf  # of the finite losses

    def _values(self, rows: Rows) -> np.ndarray:
        return rows.loss

    def add(self, rows: Rows, place: Place) -> None:
        values = self._values(rows)
        loss = (values if rows.counted is None else values[rows.counted]).astype(np.float64)
        keys = (np.abs(loss).view(np.int64) >> _DROPPED) + 1
        keys = np.where(loss < 0, -keys, np.where(loss == 0, 0, keys))
        for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
            self._add(int(key), int(count))
        finite = loss[np.isfinite(loss)]
        self.low = min(self.low, float(finite.min(initial=math.inf)))
        self.high = max(self.high, float(finite.max(initial=-math.inf)))

    def _add(self, key: int, count: int) -> None:
        self.counts[key] = self.counts.get(key, 0) + count

    def merge(self, other: Histogram) -> None:
        for key, count in other.counts.items():
            self._add(key, count)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def buckets(self) -> list[tuple[float, float, int]]:
        """Lower edge, upper edge and count, ascending. Edges lie within what occurred; those of 0 and an infinity are equal."""

        def edges(key: int) -> tuple[float, float]:
            if key < 0:
                low, high = edges(-key)
                return -high, -low
            if key == 0 or key - 1 >= _INFINITE:
                return (math.inf, math.inf) if key else (0.0, 0.0)
            low, high = (float(np.int64(top << _DROPPED).view(np.float64)) for top in (key - 1, key))
            return low, min(high, sys.float_info.max)

        found = []
        for key, count in sorted(self.counts.items()):
            low, high = edges(key)
            if low < high:
                low, high = max(low, self.low), min(high, self.high)
            found.append((low, high, count))
        return found

    def to_json(self) -> Any:
        return [{str(key): count for key, count in self.counts.items()}, self.low, self.high]

    @classmethod
    def from_json(cls, data: Any) -> Histogram:
        new = cls()
        counts, new.low, new.high = data
        new.counts = {int(key): count for key, count in counts.items()}
        return new


class DivergenceHistogram(Histogram):
    """The same of divergences from another model."""

    def _values(self, rows: Rows) -> np.ndarray:
        assert rows.kl is not None
        return rows.kl


class Calibration:
    """How often what was given a probability came true, in bins of that probability.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sections 2 and 3.
    """

    def __init__(self, n_bins: int = BINS) -> None:
        self.table = np.zeros((3, n_bins), np.int64)  # counts, hits, and probabilities in units of 2**-30

    def add(self, rows: Rows, place: Place) -> None:
        if rows.probability is None or rows.outcome is None:
            return
        p, outcome = rows.probability, rows.outcome
        if rows.counted is not None:
            p, outcome = p[rows.counted], outcome[rows.counted]
        n_bins = self.table.shape[1]
        # float32's 0.2 is on the edge 0.2, although it is larger than float64's
        edges = (np.arange(1, n_bins + 1) / n_bins).astype(p.dtype if p.dtype.kind not in "biu" else np.float64)
        p = np.clip(p.astype(np.float64), 0.0, 1.0)
        bins = np.minimum(np.searchsorted(edges.astype(np.float64), p, side="left"), n_bins - 1)
        columns = (None, outcome, np.rint(p / _CONFIDENCE_UNIT))
        self.table += np.stack([np.bincount(bins, column, n_bins) for column in columns]).astype(np.int64)

    def merge(self, other: Calibration) -> None:
        self.table += other.table

    def bins(self) -> list[tuple[int, float, float]]:
        """Of each bin: count, mean probability, share that came true (the last two 0 in an empty one)."""
        n, hits, total = self.table
        divisor = np.maximum(n, 1)
        return [
            (int(a), float(b), float(c))
            for a, b, c in zip(n, total / divisor * _CONFIDENCE_UNIT, hits / divisor, strict=True)
        ]

    def error(self) -> float | None:
        """The expected calibration error: the mean distance of the two, weighted by the bins' counts."""
        n = int(self.table[0].sum())
        return sum(count * abs(p - share) for count, p, share in self.bins()) / n if n else None

    def maximum(self) -> float | None:
        """The maximum calibration error: that distance in the bin where it is the largest."""
        return max((abs(p - share) for count, p, share in self.bins() if count), default=None)

    def to_json(self) -> Any:
        return self.table.tolist()

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        new = cls(len(data[0]))
        new.table = np.array(data, np.int64)
        return new


class Worst:
    """The rows of the largest losses; of equal ones the first."""

    def __init__(self) -> None:
        # (loss, shard, flat index in the shard, and what is shown beside them), the worst first
        self.rows: list[tuple[Any, ...]] = []

    def _values(self, rows: Rows) -> np.ndarray:
        return rows.loss

    def _shown(self, rows: Rows) -> tuple[np.ndarray | None, ...]:
        return rows.target, rows.prediction, rows.probability

    def add(self, rows: Rows, place: Place) -> None:
        values = self._values(rows)
        at = np.arange(values.size) if rows.counted is None else np.flatnonzero(rows.counted)
        loss = values[at]
        if loss.size > WORST:
            least = np.partition(loss, loss.size - WORST)[loss.size - WORST]
            at = np.concatenate((at[loss > least], at[loss == least][:WORST]))
        for i in at:
            shown = (None if column is None else column[i].item() for column in self._shown(rows))
            self.rows.append((float(values[i]), place.shard, place.position + int(i), *shown))
        self._cut()

    def _cut(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: (-row[0], row[1], row[2]))[:WORST]

    def merge(self, other: Worst) -> None:
        self.rows += other.rows
        self._cut()

    def to_json(self) -> Any:
        return self.rows

    @classmethod
    def from_json(cls, data: Any) -> Worst:
        new = cls()
        new.rows = [tuple(row) for row in data]
        return new


class MostChanged(Worst):
    """The rows of the largest divergences from another model."""

    def _values(self, rows: Rows) -> np.ndarray:
        assert rows.kl is not None
        return rows.kl

    def _shown(self, rows: Rows) -> tuple[np.ndarray | None, ...]:
        return rows.target, rows.reference_prediction, rows.prediction, rows.delta_p


class Changes:
    """Changes of the target's probability, in bins of the probability that the other model gave it."""

    def __init__(self) -> None:
        # counts; changes and their squares in units of 2**-36: exact sums of a block of rows, and of any number of blocks
        self.table = np.zeros((3, CHANGE_BINS), object)

    def add(self, rows: Rows, place: Place) -> None:
        assert rows.reference_loss is not None and rows.delta_p is not None and rows.delta_p_squared is not None
        counted = slice(None) if rows.counted is None else rows.counted
        p = np.exp(-rows.reference_loss[counted].astype(np.float64))
        bins = np.clip((p * CHANGE_BINS).astype(np.int64), 0, CHANGE_BINS - 1)
        columns = [np.rint(column[counted] / _CHANGE_UNIT) for column in (rows.delta_p, rows.delta_p_squared)]
        found = [np.bincount(bins, column, CHANGE_BINS) for column in (None, *columns)]
        self.table += np.stack(found).astype(np.int64).astype(object)

    def merge(self, other: Changes) -> None:
        self.table += other.table

    def bins(self) -> list[tuple[int, float, float]]:
        """Of each bin: count, mean change, and the root of its mean square (the last two 0 in an empty one)."""
        return [
            (n, change / (n or 1) * _CHANGE_UNIT, math.sqrt(square / (n or 1) * _CHANGE_UNIT))
            for n, change, square in self.table.T.tolist()
        ]

    def to_json(self) -> Any:
        return self.table.tolist()

    @classmethod
    def from_json(cls, data: Any) -> Changes:
        new = cls()
        new.table = np.array(data, object)
        return new
