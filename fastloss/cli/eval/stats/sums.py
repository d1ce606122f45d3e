"""Everything a run adds up, as data that merge: in any order, to the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss import _reduce
from fastloss._exact import ExactSum

from .exactly import BLOCK, add_all, decode, encode

Value = float | np.ndarray  # a figure, or one for each output


@dataclass(frozen=True)
class Place:
    """Where losses lie in the whole run.

    Parameters
    ----------
    shard, position
        The shard, and the first loss's flat index in it.
    loss, sample : int
        The first loss's flat index in all shards; the first index of its shard in all shards' first axes.
    losses_per_sample : int
        How many losses one index of the first axis has: the tokens of a document.
    groups, documents : array or None
        The groups of these losses, and their documents, as codes.
    n_bytes : array or None
        How many bytes of text these losses stand for.
    """

    shard: int
    position: int
    loss: int
    sample: int
    losses_per_sample: int
    groups: np.ndarray | None = None
    documents: np.ndarray | None = None
    n_bytes: np.ndarray | None = None

    def samples(self, n: int) -> np.ndarray:
        """Of the next `n` losses, the index into all shards' first axes."""
        return self.sample + (self.position + np.arange(n)) // self.losses_per_sample

    def after(self, n: int) -> Place:
        """Where the loss `n` further on lies."""
        marks = (None if of is None else of[n:] for of in (self.groups, self.documents, self.n_bytes))
        return Place(self.shard, self.position + n, self.loss + n, self.sample, self.losses_per_sample, *marks)


# Columns of what a model is compared with.
AGAINST = ("kl", "same", "reference_loss", "reference_correct", "reference_in_top_k", "delta_p", "delta_p_squared")

# Columns of squared errors, of which a root is taken: those outside float64's range are apart, see `calls.want.Squares`.
SQUARES = ("squared", "squared_huge", "squared_tiny")


@dataclass(frozen=True)
class Rows:
    """Single losses and what is known of them, all of one axis and length; None where it does not apply.

    Parameters
    ----------
    loss : array
        0 where a row is ignored.
    divisor : array or None
        What each adds to the mean's denominator, if that is not 1 for each that is counted.
    counted, correct, in_top_k : bool array or None
        None for `counted` where all are.
    probability, outcome : array or None
        For the calibration: the probability that was given, and whether it came true.
    target, prediction : array or None
        What is shown of the worst rows.
    n_bytes : array or None
        Bytes of text; 0 where a row is ignored.
    brier, entropy : array or None
        Squared distances to the outcome, and entropies; 0 where a row is ignored.
    reference_prediction : array or None
        The other model's most likely class, shown of the rows that changed most.
    kl, same, reference_loss, reference_correct, reference_in_top_k, delta_p, delta_p_squared : array or None
        Against another model's: divergences (0 where a row is ignored), whether the most likely class is the same, that model's
        own results, and by how much the target's probability is above it.
    squared, squared_huge, squared_tiny : array or None
        Weighted squares of errors where a root is taken of their mean.
    """

    loss: np.ndarray
    divisor: np.ndarray | None = None
    counted: np.ndarray | None = None
    correct: np.ndarray | None = None
    in_top_k: np.ndarray | None = None
    probability: np.ndarray | None = None
    outcome: np.ndarray | None = None
    target: np.ndarray | None = None
    prediction: np.ndarray | None = None
    kl: np.ndarray | None = None
    same: np.ndarray | None = None
    reference_loss: np.ndarray | None = None
    reference_correct: np.ndarray | None = None
    reference_in_top_k: np.ndarray | None = None
    delta_p: np.ndarray | None = None
    delta_p_squared: np.ndarray | None = None
    n_bytes: np.ndarray | None = None
    brier: np.ndarray | None = None
    entropy: np.ndarray | None = None
    squared: np.ndarray | None = None
    squared_huge: np.ndarray | None = None
    squared_tiny: np.ndarray | None = None
    reference_prediction: np.ndarray | None = None

    def blocks(self, place: Place) -> Iterator[tuple[Rows, Place]]:
        """Pieces of which sums are exact."""
        for start in range(0, self.loss.size, BLOCK):
            cut = slice(start, start + BLOCK)
            cuts: dict[str, Any] = {
                name: None if column is None else column[cut] for name, column in vars(self).items()
            }
            yield Rows(**cuts), place.after(start)

    def columns(self) -> dict[str, np.ndarray]:
        """What is added up of the rows, by name."""
        counted = np.ones(self.loss.size, bool) if self.counted is None else self.counted
        named = {
            "loss": self.loss,
            "divisor": self.divisor,
            "counted": counted,
            "correct": self.correct,
            "in_top_k": self.in_top_k,
            "n_bytes": self.n_bytes,
            "brier": self.brier,
            "entropy": self.entropy,
            **{name: getattr(self, name) for name in AGAINST + SQUARES},
        }
        return {name: column for name, column in named.items() if column is not None}


class Sums:
    """Exact sums and counts, by name. A sum has one entry, or one for each output."""

    def __init__(self) -> None:
        self._sums: dict[str, list[ExactSum]] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Value) -> None:
        """Add a number, or one for each output."""
        values = np.ravel(np.asarray(value, np.float64))
        for total, number in zip(self._named(name, values.size), values, strict=True):
            total.add(number)

    def add_all(self, name: str, values: np.ndarray) -> None:
        """Add all of an array to one sum."""
        add_all(self._named(name, 1)[0], values)

    def add_units(self, name: str, units: int, special: float = 0.0) -> None:
        """Add what has been summed already."""
        total = self._named(name, 1)[0]
        total.units += units
        total.special += special

    def count(self, name: str, number: int | np.integer) -> None:
        """Add to a count."""
        self._counts[name] = self._counts.get(name, 0) + int(number)

    def _named(self, name: str, size: int) -> list[ExactSum]:
        return self._sums.setdefault(name, [ExactSum() for _ in range(size)])

    def __contains__(self, name: str) -> bool:
        return name in self._sums or name in self._counts

    def counted(self, name: str) -> int:
        """A count; 0 if nothing was added."""
        return self._counts.get(name, 0)

    def total(self, name: str) -> Value:
        """A sum, rounded once."""
        totals = self._sums.get(name, [ExactSum()])
        return float(totals[0]) if len(totals) == 1 else np.array([float(total) for total in totals])

    def mean(self, name: str, denominator: str) -> Value:
        """The quotient of a sum and of another sum or count, rounded once; NaN where nothing was counted."""
        totals = self._sums.get(name) or [counting(self._counts.get(name, 0))]
        below = self._sums.get(denominator) or [counting(self._counts.get(denominator, 0))]
        ratios = [_reduce.mean_of_sums(total, below[i % len(below)], rowwise=False) for i, total in enumerate(totals)]
        return ratios[0] if len(ratios) == 1 else np.array(ratios)

    def root(self, denominator: str | None) -> Value:
        """The root of the mean of "squared", or without denominator of its sum: of what "squared_huge" and "squared_tiny" have, too."""
        totals = self._sums["squared"]
        none = [ExactSum()] * len(totals)
        huge, tiny = (self._sums.get(f"squared_{name}", none) for name in ("huge", "tiny"))
        below: list[ExactSum | None] = [None]
        if denominator is not None:
            below = [*(self._sums.get(denominator) or [counting(self._counts.get(denominator, 0))])]
        parts = zip(totals, huge, tiny, strict=True)
        roots = [
            _reduce.root_of_sums(total, below[i % len(below)], above, under)
            for i, (total, above, under) in enumerate(parts)
        ]
        return roots[0] if len(roots) == 1 else np.array(roots)

    def merge(self, other: Sums) -> None:
        """Add what another has."""
        for name, totals in other._sums.items():
            for mine, its in zip(self._named(name, len(totals)), totals, strict=True):
                mine.merge(its)
        for name, number in other._counts.items():
            self.count(name, number)

    def to_json(self) -> Any:
        return [{name: [encode(total) for total in totals] for name, totals in self._sums.items()}, self._counts]

    @classmethod
    def from_json(cls, data: Any) -> Sums:
        new = cls()
        new._sums = {name: [decode(total) for total in totals] for name, totals in data[0].items()}
        new._counts = dict(data[1])
        return new


def counting(number: int) -> ExactSum:
    """A count as an exact sum."""
    total = ExactSum()
    total.add(number)
    return total
