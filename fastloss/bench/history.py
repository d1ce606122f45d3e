"""Stores runs, and shows their history as one page.

Runs are kept as the JSON of `fastloss bench --against`, one file each.  The page draws the ratios of new to old, each
measured within one run: a series of runs against the same old side, such as a release, is meaningful where absolute
times of different days are not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloss._schema import NUMBER, TEXT, check, one_of, optional

from . import changes, history_page
from .verdicts import SCHEMA, VERSION

_STORED = {
    "schema": one_of(SCHEMA),
    "version": one_of(VERSION),
    "time": TEXT,
    "sides": {"new": TEXT, "old": TEXT},
    "limit": NUMBER,
    "cases": [{"name": TEXT, "verdict": TEXT, "ratio": optional(NUMBER), "interval": [optional(NUMBER)]}],
}


@dataclass(frozen=True)
class Point:
    """One run of a series: when, what, the ratio with its interval, and the verdict."""

    time: str
    new: str
    ratio: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Series:
    """All runs of a case against one old side, with the indices at which its level changes."""

    name: str
    old: str
    points: tuple[Point, ...]
    changes: tuple[int, ...]


def keep(folder: str, document: Mapping[str, Any]) -> str:
    """Add a run to the store and redraw its page; returns the page's path."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document)
    stamp = document["time"].replace(":", "").replace("+0000", "Z")
    (place / f"{stamp}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json").write_text(text + "\n")
    page = place / "index.html"
    page.write_text(history_page.drawn(series(stored(folder))), encoding="utf-8")
    return str(page)


def stored(folder: str) -> list[dict[str, Any]]:
    """All runs of a store, oldest first.

    Raises
    ------
    ValueError
        If a file in it is something else; the message names file and place.
    """
    found = []
    for path in Path(folder).glob("*.json"):
        try:
            document = json.loads(path.read_text())
            check(document, _STORED)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} is not what `fastloss bench --store` writes: {error}") from None
        found.append(document)
    return sorted(found, key=lambda document: document["time"])


def series(documents: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Series by case and old side, in order of first appearance."""
    found: dict[tuple[str, str], list[Point]] = {}
    for document in documents:
        for case in document["cases"]:
            if case["ratio"] is None:
                continue
            low, high = (*case["interval"], None, None)[:2]
            point = Point(document["time"], document["sides"]["new"], case["ratio"], low, high, case["verdict"])
            found.setdefault((case["name"], document["sides"]["old"]), []).append(point)
    return [
        Series(name, old, tuple(points), tuple(changes.points([math.log(point.ratio) for point in points])))
        for (name, old), points in found.items()
    ]
