"""Results per group: the file that says which rows belong together, and sums for each."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import numpy as np

from fastloss._schema import LABEL, check
from fastloss.cli.failure import Failure, reading
from fastloss.cli.files import Stored, open_array, open_file, read_text, split

from .exactly import finite, levels, units
from .sums import Place, Rows, Sums

_TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl")


class GroupSums:
    """Sums for each group that has occurred."""

    def __init__(self) -> None:
        self.groups: dict[int, Sums] = {}

    def add(self, rows: Rows, place: Place) -> None:
        codes, inverse = np.unique(self._codes(place, rows.loss.size), return_inverse=True)
        present = [self.groups.setdefault(int(code), Sums()) for code in codes]
        for name, column in rows.columns().items():
            if column.dtype == bool:
                for sums, number in zip(present, np.bincount(inverse, column, len(codes)), strict=True):
                    sums.count(name, number)
                continue
            good, special = finite(column)
            for sums in present:
                sums.add_units(name, 0)
            for e, part in levels(good):
                for sums, number in zip(present, np.bincount(inverse, part, len(codes)), strict=True):
                    sums.add_units(name, units(int(number), e))
            if special is not None:
                with np.errstate(invalid="ignore"):
                    for sums, number in zip(present, np.bincount(inverse, special, len(codes)), strict=True):
                        sums.add_units(name, 0, float(number))

    def _codes(self, place: Place, n: int) -> np.ndarray:
        assert place.groups is not None
        return place.groups[:n]

    def merge(self, other: GroupSums) -> None:
        for code, sums in other.groups.items():
            self.groups.setdefault(code, Sums()).merge(sums)

    def to_json(self) -> Any:
        return {str(code): sums.to_json() for code, sums in self.groups.items()}

    @classmethod
    def from_json(cls, data: Any) -> GroupSums:
        new = cls()
        new.groups = {int(code): Sums.from_json(sums) for code, sums in data.items()}
        return new


class ShardSums(GroupSums):
    """Sums for each shard."""

    def _codes(self, place: Place, n: int) -> np.ndarray:
        return np.full(n, place.shard)


class Grouping:
    """Which group each loss is in: `names` of the groups, and their codes."""

    def __init__(self, labels: np.ndarray | Stored, samples: list[int], losses: list[int], name: str) -> None:
        """`labels` has one entry for each of all losses, or samples, or shards, of which each shard has so many."""
        if labels.ndim != 1:
            raise Failure(name, f"groups are a list of one entry per row or per shard, not of shape {labels.shape}")
        lengths = {len(samples): "shard", sum(samples): "sample", sum(losses): "row"}
        if labels.size not in lengths:
            expected = " or ".join(f"{size} ({what}s)" for size, what in lengths.items())
            raise Failure(name, f"holds {labels.size} entries; expected {expected}")
        self.kind = lengths[labels.size]
        found, codes = np.unique(labels[:], return_inverse=True)
        self.names = [_plain(entry) for entry in found.tolist()]
        self._codes = codes.astype(np.int32)
        self._samples, self._losses = samples, losses
        self._starts = np.concatenate(([0], np.cumsum(losses if self.kind == "row" else samples)))

    def codes(self, shard: int, start: int, stop: int) -> np.ndarray:
        """The codes of losses [start, stop) of a shard."""
        if self.kind == "shard":
            return np.full(stop - start, self._codes[shard])
        own = self._codes[self._starts[shard] : self._starts[shard + 1]]
        if self.kind == "row":
            return own[start:stop]
        return own[np.arange(start, stop) // (self._losses[shard] // self._samples[shard])]

    def firsts(self) -> np.ndarray:
        """Where the first loss of each group lies among all; -1 if it has none."""
        begins = first_losses(self.kind, self._samples, self._losses)
        found = np.full(len(self.names), -1)
        there = np.flatnonzero(begins >= 0)[::-1]
        found[self._codes[there]] = begins[there]  # of a code that is there several times, the first comes last
        return found


def first_losses(kind: str, samples: list[int], losses: list[int]) -> np.ndarray:
    """Where the first loss of each row, sample or shard lies among all; -1 for shards without losses."""
    begins = np.cumsum([0, *losses])[:-1]
    if kind == "row":
        return np.arange(sum(losses))
    if kind == "shard":
        return np.where(np.array(losses) > 0, begins, -1)
    found = [begin + np.arange(n) * (m // n) for begin, n, m in zip(begins, samples, losses, strict=True) if n]
    return np.concatenate(found)


def read_labels(name: str, what: str = "group") -> np.ndarray | Stored:
    """The entries of a file of groups, or of `what` else: integers or strings.

    `.json` holds a list; `.jsonl`, `.txt` and `.csv` one entry per line (of a `.csv` the column called `what`, or the
    only one). Anything else is an array of integers, or a `.npy` file of strings.
    """
    path, _ = split(name)
    if path.lower().endswith(_TEXT):
        text = read_text(path)
        with reading(name):
            entries = _entries(text, path.lower(), name, what)
        return uniform(entries, name, f"{what}s")
    if path.lower().endswith(".npy"):
        labels = _strings(path)
        if labels is not None:
            return labels
    array = open_array(name).array
    if array.dtype.kind not in "biu":
        raise Failure(name, f"{what}s are integers or strings, not {array.dtype}")
    return array


def _strings(path: str) -> np.ndarray | None:
    """A `.npy` file of strings, which hold no objects; None for any other."""
    try:
        with reading(path), open_file(path, path):  # not a pipe, which would block
            labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except Failure:
        return None  # the reader of numbers says what is wrong
    if labels.dtype.kind not in "US":
        return None
    labels = np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    if labels.dtype.kind == "U" and labels.size and labels.reshape(-1).view(np.uint32).max(initial=0) > sys.maxunicode:
        raise Failure(path, "holds strings that are no text")
    return labels


def _entries(text: str, path: str, name: str, what: str) -> list[Any]:
    if path.endswith(".json"):
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise Failure(name, f"a list of {what}s is expected")
        return entries
    lines = io.StringIO(text, newline=None)  # str.splitlines knows many more ends of lines
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in lines if line.strip()]
    if path.endswith(".txt"):
        return [line.removesuffix("\n") for line in lines]
    cells = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.endswith(".tsv") else ",")
    rows = [row for row in cells if row]
    at = 0
    if rows and what in rows[0]:
        at = rows.pop(0).index(what)
    elif any(len(row) != 1 for row in rows):
        raise Failure(name, f"has several columns, none of which is called {what!r}")
    if any(len(row) <= at for row in rows):
        raise Failure(name, f"has lines without a {what}")
    return [row[at] for row in rows]


def uniform(entries: list[Any], name: str, what: str = "groups") -> np.ndarray:
    """The entries as one array: of integers, of any size, if all are; else of strings."""
    with reading(name, what):
        check(entries, [LABEL])
    try:
        numbers = [int(entry) for entry in entries if str(int(entry)) == str(entry)]
    except ValueError:
        numbers = []
    if len(numbers) < len(entries):
        return np.array([str(entry) for entry in entries])
    fits = all(-(1 << 63) <= number < 1 << 63 for number in numbers)
    return np.array(numbers, np.int64 if fits else object)


def _plain(entry: Any) -> Any:
    return entry.decode("utf-8", "backslashreplace") if isinstance(entry, bytes) else entry
