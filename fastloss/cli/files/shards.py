"""Which files belong together: patterns, directories and manifests, matched by name."""

from __future__ import annotations

import glob
import io
import json
import os
import re
from dataclasses import dataclass
from typing import Any

from fastloss._schema import LABEL, check, optional
from fastloss.cli.failure import Failure, reading

from . import SUFFIXES, is_zarr, listed, read_text, split

_DIGITS = re.compile(r"(\d+)")

_NAMES = ("predictions", "targets", "group", "reference")  # of a manifest's columns


@dataclass(frozen=True)
class Shard:
    """A file of predictions, its targets, the group it belongs to if a manifest says so, and what it is compared with."""

    predictions: str
    targets: str | None
    group: Any = None
    reference: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """The names of its files, by what they hold."""
        named = {"predictions": self.predictions, "targets": self.targets, "reference": self.reference}
        return {what: name for what, name in named.items() if name is not None}


def find(predictions: str, targets: str | None, reference: str | None = None) -> list[Shard]:
    """What belongs together of two or three names: files, directories, or patterns with `*`, `?` and `[...]`.

    Names are matched by what tells them apart, such as numbers, in natural order.

    Raises
    ------
    Failure
        Nothing is found, or a file has no partner.
    """
    first = _expand(predictions)
    second, third = (_partners(predictions, first, *pair) for pair in ((targets, "targets"), (reference, "reference")))
    return [Shard(name, second.get(name), reference=third.get(name)) for name in first]


def _partners(predictions: str, first: list[str], name: str | None, what: str) -> dict[str, str]:
    """Of each file of predictions the one of these that it goes with."""
    if name is None:
        return {}
    second = _expand(name)
    if len(first) == len(second) == 1:
        return {first[0]: second[0]}
    by_key, other = _keyed(first), _keyed(second)
    if by_key.keys() != other.keys():
        raise _unmatched(predictions, name, by_key, other, what)
    return {found: other[key] for key, found in by_key.items()}


def read_manifest(path: str, has_targets: bool = True) -> list[Shard]:
    """The files a manifest lists, relative to it.

    JSON lines (`.jsonl`, `.json`, `.ndjson`) of objects with `predictions`, `targets` and perhaps `group` and `reference`; or CSV
    (`.tsv`: separated by tabs) with these names in its first line, or without: then the first three, in this order.
    """
    text = read_text(path)
    is_json = path.lower().endswith((".jsonl", ".json", ".ndjson")) or text.lstrip()[:1] == "{"
    with reading(path):
        entries = _json_lines(text, path) if is_json else _table(text, path)
    if not entries:
        raise Failure(path, "the manifest lists nothing")
    shards, folder = [], os.path.dirname(path)
    for number, entry in entries:
        where = f"{path}, line {number}"
        if unknown := set(entry) - set(_NAMES):
            raise Failure(where, f"unknown: {listed(sorted(map(str, unknown)))}; expected {', '.join(_NAMES)}")
        x, y, group, r = (entry.get(name) for name in _NAMES)
        if not has_targets:
            if y:
                raise Failure(where, "names targets, and --no-targets was given")
            if not (isinstance(x, str) and isinstance(r, str) and x and r):
                raise Failure(where, "predictions and reference are expected")
        elif not (isinstance(x, str) and isinstance(y, str) and x and y):
            raise Failure(where, "predictions and targets are expected")
        if r is not None and not isinstance(r, str):
            raise Failure(where, "reference is expected to be the name of a file")
        with reading(where, "group"):
            check(group, optional(LABEL))
        x, y, r = (os.path.join(folder, name) if name else None for name in (x, y, r))
        assert x is not None
        shards.append(Shard(x, y, group, r))
    if len({shard.reference is None for shard in shards}) > 1:
        raise Failure(path, "some shards have a reference, others have none")
    if len({shard.group is None for shard in shards}) > 1:
        raise Failure(path, "some shards have a group, others have none")
    return shards


def natural(name: str) -> list[Any]:
    """A key for sorting: numbers in names count as numbers."""
    return [(1, int(part), part) if part.isdecimal() else (0, part) for part in _parts(name)]


def _expand(name: str) -> list[str]:
    """The files that a name stands for, in natural order."""
    path, member = split(name)
    if os.path.isdir(path) and not is_zarr(path):
        found = [os.path.join(path, entry) for entry in os.listdir(path) if not entry.startswith(".")]
        found = [entry for entry in found if entry.lower().endswith(SUFFIXES)]
        if not found:
            raise Failure(name, f"the directory holds no arrays ({', '.join(SUFFIXES)})")
    elif os.path.exists(path) or not glob.has_magic(path):
        return [name]
    else:
        found = glob.glob(path, recursive=True)
        if not found:
            raise Failure(name, "no file matches the pattern")
    found.sort(key=natural)
    return found if member is None else [f"{path}:{member}" for path in found]


def _parts(name: str) -> list[str]:
    return [part for part in _DIGITS.split(name) if part]


def _keyed(names: list[str]) -> dict[tuple[Any, ...], str]:
    """Names by what is left of them without what they all begin and end with; numbers are taken as a whole."""
    split_names = [tuple(natural(_stem(name))) for name in names]
    head = _shared(split_names)
    tail = _shared([parts[head:][::-1] for parts in split_names])
    # 1 and 01 are one number
    keys = [tuple(part[:2] for part in parts[head : len(parts) - tail]) for parts in split_names]
    keyed = dict(zip(keys, names, strict=True))
    if len(keyed) < len(names):
        twice = next(name for key, name in zip(keys, names, strict=True) if keyed[key] != name)
        raise Failure(twice, "several files have names of the same number; say what belongs together with --manifest")
    return keyed


def _stem(name: str) -> str:
    path, _ = split(name)
    lowered = path.lower()
    return path[: -len(suffix)] if (suffix := next((s for s in SUFFIXES if lowered.endswith(s)), "")) else path


def _shared(names: list[tuple[Any, ...]]) -> int:
    """How many parts all names begin with."""
    count = 0
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        count += 1
    return count if len(names) > 1 else len(names[0])


def _unmatched(
    predictions: str,
    other: str,
    first: dict[tuple[Any, ...], str],
    second: dict[tuple[Any, ...], str],
    other_holds: str,
) -> Failure:
    without = [name for key, name in first.items() if key not in second]
    others = [name for key, name in second.items() if key not in first]
    told = [
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} no {what}"
        for names, what in ((without, other_holds), (others, "predictions"))
        if names
    ]
    counts = f"{len(first)} of predictions, {len(second)} of {other_holds}"
    hint = "; --manifest says what belongs together whatever the names" if len(first) == len(second) else ""
    return Failure(f"{predictions}, {other}", f"files do not match ({counts}): {'; '.join(told)}{hint}")


def _json_lines(text: str, path: str) -> list[tuple[int, dict[str, Any]]]:
    entries = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):  # str.splitlines knows many more ends of lines
        if not line.strip():
            continue
        with reading(f"{path}, line {number}", "not JSON"):
            entry = json.loads(line)
        if not isinstance(entry, dict):
            raise Failure(f"{path}, line {number}", "an object is expected")
        entries.append((number, entry))
    return entries


def _table(text: str, path: str) -> list[tuple[int, dict[str, Any]]]:
    import csv

    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.lower().endswith(".tsv") else ",")
    names = list(_NAMES[:3])
    entries: list[tuple[int, dict[str, Any]]] = []
    for line in reader:
        line = [cell.strip(" \t") for cell in line]
        if not any(line):
            continue
        if not entries and "predictions" in line:
            names = line
        elif len(line) > len(names):
            raise Failure(f"{path}, line {reader.line_num}", f"{len(line)} columns; expected {', '.join(names)}")
        else:
            entries.append((reader.line_num, dict(zip(names, line, strict=False))))
    return entries
