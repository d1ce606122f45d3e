"""What a caller asks for: the value, gradients, or the sums that a mean is computed from."""

from __future__ import annotations

from typing import Any, NamedTuple


class Want(NamedTuple):
    """Part of a call's key.

    Attributes
    ----------
    what : "value", "slopes" (a value with gradients) or "sums".
    wrt : names of the arrays whose gradients are wanted.
    """

    what: str
    wrt: tuple[str, ...] = ()


VALUE = Want("value")
SUMS = Want("sums")


def slopes(*wrt: str) -> Want:
    return Want("slopes", wrt)


class Sums(NamedTuple):
    """The sums that a mean is computed from.

    Attributes
    ----------
    total : the summed loss.
    weight : the mean's denominator.
    count : how many rows or elements were counted.

    They are floats and an int; if an axis leaves several results they are arrays, and `count` is None.
    """

    total: Any
    weight: Any
    count: int | None

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers that accumulators add up."""
        return self.total, self.weight


class Squares(NamedTuple):
    """What a root of a mean of squares is made of: `Sums` of squares that may be outside float64's range.

    Attributes
    ----------
    total, weight, count : as of `Sums`.
    huge, tiny : sums of squares that belong to the total too, divided by `_reduce.FAR` and times it.
    """

    total: Any
    weight: Any
    count: int | None
    huge: Any
    tiny: Any

    @property
    def numbers(self) -> tuple[Any, ...]:
        """What accumulators add up."""
        return self.total, self.weight, self.huge, self.tiny


class Bins(NamedTuple):
    """The sums that a calibration error is computed from: float64 arrays of one number per bin of confidences.

    Attributes
    ----------
    confidence : the summed confidences of its rows.
    hits : how many of its rows were predicted correctly.
    counts : how many rows it has.
    """

    confidence: Any
    hits: Any
    counts: Any

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers that accumulators add up: all confidences, then all hits, then all counts."""
        return (*self.confidence.tolist(), *self.hits.tolist(), *self.counts.tolist())

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.counts.sum())
