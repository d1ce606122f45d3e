"""Results as a table on a terminal and as plain data for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastloss._schema import TEXT, check, one_of

from .measure import Ratio
from .session import Result

# The version of the JSON's format; `fastloss bench --against` refuses any other.
FORMAT = 2

_COLUMNS = (("contender", 16, "<"), ("time", 9, ">"), ("GB/s", 7, ">"), ("of roof", 8, ">"))
_LAST = (("time / fastloss", 22, ">"), ("peak memory", 12, ">"))


def heading(conditions: Mapping[str, Any]) -> str:
    """The conditions of a run, in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    threads = conditions["threads"]
    where = f"{conditions['cpu']}, {threads} thread{'s' if threads > 1 else ''} of {conditions['cpus']} CPUs"
    return f"{where}, Python {conditions['python']}\n{versions}"


def table(result: Result) -> str:
    """One case as text: a line for the case and its roof, and one per contender."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    case = result.case
    yield f"{case.name}: {case.title} ({case.bound}-bound)"
    if not result.roof_bytes:
        roof = "no bytes declared"
    elif case.bound == "launch":
        roof = f"reading these bytes takes {duration(result.roof_bytes / result.roof_bandwidth)} a call"
    else:
        plural = "s" if result.roof_threads > 1 else ""
        roof = (
            f"roof: {_number(result.roof_bandwidth / 1e9)} GB/s ({result.roof_kind}, {size(result.roof_bytes)}, "
            f"{result.roof_threads} thread{plural})"
        )
    yield f"  {roof}"
    yield "  " + " ".join(f"{title:{side}{width}}" for title, width, side in (*_COLUMNS, *_LAST))
    for name, entry in result.entries.items():
        share, slower = result.of_roof(name), result.slower(name)
        cells = (
            name,
            duration(entry.seconds),
            "-" if share is None else _number(result.bandwidth(name) / 1e9),
            "-" if share is None else f"{share.median:.2f}",
            "-" if slower is None else _with_interval(slower),
            "-" if entry.peak_bytes is None else size(entry.peak_bytes),
        )
        widths = (*_COLUMNS, *_LAST)
        line = " ".join(f"{cell:{side}{width}}" for cell, (_, width, side) in zip(cells, widths, strict=True))
        yield f"  {line}" + ("  DIFFERENT VALUE" if result.disagrees(name) else "")
    for name, reason in result.skipped.items():
        yield f"  {name:<16} {reason}"


def _with_interval(ratio: Ratio) -> str:
    middle, low, high = (f"{value:.3g}" for value in (ratio.median, ratio.low, ratio.high))
    return f"{middle} [{low}, {high}]" if ratio.rounds > 1 else f"{middle} (one round)"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """A duration, with a unit that leaves one to three digits before the decimal point."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def size(n_bytes: float) -> str:
    """A size in kB, MB or GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def document(results: Sequence[Result], conditions: Mapping[str, Any], build: Mapping[str, str]) -> dict[str, Any]:
    """All figures, as `fastloss bench --json` prints them; `--against` reads the build from that."""
    return {
        "format": FORMAT,
        "build": dict(build),
        **conditions,
        "cases": [_case_data(result) for result in results],
    }


def _case_data(result: Result) -> dict[str, Any]:
    return {
        **result.case.as_dict(),
        "roof": {
            "kind": result.roof_kind,
            "threads": result.roof_threads,
            "gigabytes_per_second": result.roof_bandwidth / 1e9,
            "rounds": result.roof_rounds,
        },
        "contenders": [contender_data(result, name) for name in result.entries],
        "skipped": result.skipped,
    }


def contender_data(result: Result, name: str) -> dict[str, Any]:
    """One contender's figures; ratios are [median, low, high]."""
    entry, share, slower = result.entries[name], result.of_roof(name), result.slower(name)
    return {
        "name": name,
        "seconds": entry.seconds,
        "gigabytes_per_second": result.bandwidth(name) / 1e9,
        "of_roof": None if share is None else share.as_list(),
        "times_reference": None if slower is None else slower.as_list(),
        "reference": result.reference,
        "peak_bytes": entry.peak_bytes,
        "value": entry.value,
        "agrees": not result.disagrees(name),
        "rounds": entry.rounds,
    }


# The part of it that is read again.
_SCHEMA = {"format": one_of(FORMAT), "build": {"path": TEXT, "digest": TEXT}}


def read(text: str) -> dict[str, Any]:
    """Parse the JSON that `document` describes.

    Raises
    ------
    ValueError
        If it is anything else; the message names the place.
    """
    what = "is not what `fastloss bench --json` of this version writes"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{what}: not JSON") from None
    try:
        check(data, _SCHEMA)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    return data
