"""Results per document: which rows are one, sums for each, and what follows from these."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss import _reduce
from fastloss._exact import ExactSum
from fastloss.cli.failure import Failure
from fastloss.cli.files import Stored

from .exactly import finite, levels, units
from .groups import Grouping, first_losses
from .sums import Place, Rows, counting

_COLUMNS = ("loss", "counted", "correct", "n_bytes", "reference_loss", "reference_correct")
_MOST_ROWS = 1 << 30  # of a document: sums of so many numbers of up to 2**32 units fit into an int64

_MOST_BYTES = 1 << 53  # of a row: what float64 can count


class Documents:
    """Which document each row is in.

    Offsets say where documents begin among the rows of all shards, and at the end where the last one ends: a list that begins with
    0, never falls and ends with the number of rows.  Any other list names the document of each row, of each index of the first
    axis, or of each shard.
    """

    def __init__(self, entries: np.ndarray | Stored, samples: list[int], losses: list[int], name: str) -> None:
        self._begins = np.cumsum([0, *losses])
        self._offsets = offsets = _offsets(entries, sum(losses))
        if offsets is not None:
            self.kind = "offset"
            self.names: list[Any] | np.ndarray = np.arange(len(offsets) - 1)
            longest = int(np.diff(offsets).max(initial=0))
        else:
            whole = np.asarray(entries[:])
            try:
                self._grouping = Grouping(whole, samples, losses, name)
            except Failure as failure:
                problem = f"{failure.problem}; offsets begin with 0 and end with {sum(losses)}".replace(
                    "groups", "documents"
                )
                raise Failure(name, problem) from None
            self.kind, self.names = self._grouping.kind, self._grouping.names
            longest = sum(losses)
        if longest >= _MOST_ROWS and self._longest() >= _MOST_ROWS:
            raise Failure(name, f"a document has {_MOST_ROWS} rows or more; --group-by sums up any number")

    def _longest(self) -> int:
        if self._offsets is not None:
            return int(np.diff(self._offsets).max())
        lengths = np.zeros(len(self.names), np.int64)
        for shard, n in enumerate(np.diff(self._begins)):
            lengths += np.bincount(self.codes(shard, 0, int(n)), minlength=len(lengths))
        return int(lengths.max())

    def codes(self, shard: int, start: int, stop: int) -> np.ndarray:
        """The documents of losses [start, stop) of a shard, as codes."""
        if self._offsets is None:
            return self._grouping.codes(shard, start, stop)
        first = self._begins[shard]
        # of documents without rows, which begin where another does, the last one takes the row
        return np.searchsorted(self._offsets, np.arange(first + start, first + stop), side="right") - 1

    def firsts(self) -> np.ndarray:
        """Where the first row of each lies among all; -1 if it has none."""
        if self._offsets is None:
            return self._grouping.firsts()
        return np.where(np.diff(self._offsets) > 0, self._offsets[:-1], -1)


def _offsets(entries: np.ndarray | Stored, n_rows: int) -> np.ndarray | None:
    """The entries, if they are offsets."""
    if entries.ndim != 1 or entries.dtype.kind not in "iu" or entries.shape[0] < 2:
        return None
    found = np.asarray(entries[:])
    if found[0] != 0 or found[-1] != n_rows or (found[1:] < found[:-1]).any():
        return None
    return found.astype(np.int64)


class Bytes:
    """How many bytes of text the rows stand for: `kind` says whether those of each, or of what holds it as a whole.

    The bytes of whole documents, samples or shards are counted with their first row.
    """

    def __init__(
        self,
        entries: np.ndarray | Stored,
        samples: list[int],
        losses: list[int],
        documents: Documents | None,
        name: str,
    ) -> None:
        amounts = np.asarray(entries[:])
        if amounts.dtype.kind not in "iu" or amounts.ndim != 1 or (amounts < 0).any() or (amounts >= _MOST_BYTES).any():
            raise Failure(name, "numbers of bytes are a list of whole numbers of at least 0")
        lengths: dict[int, tuple[str, Callable[[], np.ndarray]]] = {}
        for kind, n in (("shard", len(samples)), ("sample", sum(samples)), ("row", sum(losses))):
            lengths[n] = (kind, lambda kind=kind: first_losses(kind, samples, losses))  # type: ignore[misc]
        if documents is not None and len(documents.names) != sum(losses):
            lengths[len(documents.names)] = ("document", documents.firsts)
        if amounts.size not in lengths:
            expected = " or ".join(f"{n} ({kind}s)" for n, (kind, _) in lengths.items())
            raise Failure(name, f"holds {amounts.size} entries; expected {expected}")
        self.kind, firsts = lengths[amounts.size]
        first = firsts()
        if (lost := (first < 0) & (amounts > 0)).any():
            at = int(np.argmax(lost))
            raise Failure(name, f"{self.kind} {at} has {amounts[at]} bytes, but no rows")
        order = np.argsort(first[first >= 0], kind="stable")
        self._first, self._amounts = first[first >= 0][order], amounts[first >= 0][order].astype(np.int64)
        self._begins = np.cumsum([0, *losses])

    def amounts(self, shard: int, start: int, stop: int) -> np.ndarray:
        """Those of losses [start, stop) of a shard."""
        begin = int(self._begins[shard]) + start
        found = np.zeros(stop - start, np.int64)
        here = slice(*np.searchsorted(self._first, [begin, begin + stop - start]))
        found[self._first[here] - begin] = self._amounts[here]
        return found


_Part = tuple[np.ndarray, np.ndarray]  # codes of documents, increasing, and their sums


class DocumentSums:
    """Exact sums for each document that has occurred, as arrays: there may be millions."""

    def __init__(self) -> None:
        # column, e -> sums in units of 2**e, in parts that are yet to be added up
        self._parts: dict[tuple[str, int], list[_Part]] = {}

    def add(self, rows: Rows, place: Place) -> None:
        assert place.documents is not None
        codes, inverse = np.unique(place.documents[: rows.loss.size], return_inverse=True)

        def sums(part: np.ndarray) -> _Part:
            return codes, np.bincount(inverse, part, len(codes)).astype(np.int64)

        for name, column in rows.columns().items():
            if name not in _COLUMNS:
                continue
            if column.dtype == bool:
                self._add((name, 0), sums(column))
                continue
            good, special = finite(column)
            for e, part in levels(good):
                self._add((name, e), sums(part))
            if special is not None:
                self._add((f"{name} +", 0), sums(special == np.inf))
                self._add((f"{name} -", 0), sums(special == -np.inf))

    def _add(self, name: tuple[str, int], part: _Part) -> None:
        parts = self._parts.setdefault(name, [])
        parts.append(part)
        # added up when there is as much of the new as of the old: so in all it costs little more than one time
        if sum(len(codes) for codes, _ in parts[1:]) >= len(parts[0][0]):
            self._parts[name] = [_added(parts)]

    def merge(self, other: DocumentSums) -> None:
        for name, parts in other._parts.items():
            for part in parts:
                self._add(name, part)

    def column(self, name: str, n: int) -> list[ExactSum] | None:
        """The sums of a column, one for each of `n` documents; None if nothing was added to it."""
        found = [
            (key, *_added(parts))
            for key, parts in self._parts.items()
            if key[0].removesuffix(" +").removesuffix(" -") == name
        ]
        if not found:
            return None
        totals = [ExactSum() for _ in range(n)]
        for (column, e), codes, numbers in found:
            for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
                if column == name:
                    totals[code].units += units(number, e)
                elif number:
                    totals[code].special += math.inf if column[-1] == "+" else -math.inf
        return totals

    def counts(self, name: str, n: int) -> np.ndarray:
        """The counts of a column of flags."""
        found = np.zeros(n, np.int64)
        for codes, numbers in self._parts.get((name, 0), ()):
            found[codes] += numbers
        return found

    def to_json(self) -> Any:
        added = {name: _added(parts) for name, parts in self._parts.items()}
        return [[*name, codes.tolist(), numbers.tolist()] for name, (codes, numbers) in added.items()]

    @classmethod
    def from_json(cls, data: Any) -> DocumentSums:
        new = cls()
        for name, e, codes, numbers in data:
            new._parts[name, e] = [(np.array(codes, np.int64), np.array(numbers, np.int64))]
        return new


def _added(parts: list[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    codes, inverse = np.unique(np.concatenate([codes for codes, _ in parts]), return_inverse=True)
    numbers = np.zeros(len(codes), np.int64)
    np.add.at(numbers, inverse, np.concatenate([numbers for _, numbers in parts]))
    return codes, numbers


def table_of(
    sums: DocumentSums, names: list[Any] | np.ndarray, has_bytes: bool, against: bool
) -> dict[str, np.ndarray]:
    """What is known of each document, as columns: its name, how many rows counted, and its log-probability in several forms.

    A document of which no row counted has the log-probability 0, and NaN where that is divided by its length.
    """
    n = len(names)
    counted = sums.counts("counted", n)
    found: dict[str, np.ndarray] = {"document": _names(names), "tokens": counted}
    n_bytes = (sums.column("n_bytes", n) or [ExactSum()] * n) if has_bytes else None
    for before in ("", "reference_") if against else ("",):
        loss = sums.column(f"{before}loss", n) or [ExactSum()] * n
        found[f"{before}log_prob"] = np.array([0.0 - float(total) for total in loss], np.float64)
        each = (_ratio(total, counting(m)) for total, m in zip(loss, counted.tolist(), strict=True))
        found[f"{before}log_prob_per_token"] = np.array([0.0 - mean for mean in each], np.float64)
        found[f"{before}is_greedy"] = sums.counts(f"{before}correct", n) == counted
        if n_bytes is not None:
            per_byte = np.array([_ratio(*pair) for pair in zip(loss, n_bytes, strict=True)], np.float64)
            found[f"{before}log_prob_per_byte"] = 0.0 - per_byte
            found[f"{before}bits_per_byte"] = per_byte / math.log(2.0)
    if n_bytes is not None:
        found["bytes"] = np.array([int(float(total)) for total in n_bytes], np.int64)
    return found


def _ratio(above: ExactSum, below: ExactSum) -> float:
    return float(_reduce.mean_of_sums(above, below, rowwise=False))


def _names(names: list[Any] | np.ndarray) -> np.ndarray:
    if isinstance(names, np.ndarray):
        return names
    if all(isinstance(name, int) and -(1 << 63) <= name < 1 << 63 for name in names):
        return np.array(names, np.int64)
    return np.array([str(name) for name in names])


def summary(table: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of all documents: how many, and the means over them, each of the same weight whatever its length."""
    n = len(table["tokens"])
    greedy = int(np.count_nonzero(table["is_greedy"]))
    found: dict[str, Any] = {"documents": n, "is_greedy": greedy / n, "greedy_count": greedy}
    for name, column in table.items():
        if column.dtype == np.float64:
            known = column[~np.isnan(column)]
            found[name] = _mean(known)
        elif name == "reference_is_greedy":
            found[name] = float(np.count_nonzero(column) / n)
    return found


def _mean(values: np.ndarray) -> float:
    if not values.size:
        return math.nan
    if np.isinf(values).any():
        return float(np.sum(values[np.isinf(values)]))
    return math.fsum(values.tolist()) / values.size
