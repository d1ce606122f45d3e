"""A sweep as plain data for JSON, and as text: how often fastloss loses, where by most, and where it is furthest from the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .grid import Cell
from .report import duration
from .sweep import EQUAL_FACTOR, EQUAL_SECONDS, Outcome

SCHEMA = "fastloss-bench-sweep"
VERSION = 1

TARGET = 0.7  # share of the limit
_WORST = 25  # lines of each table
_SLOWEST_TOLD = 20e-6  # shares of shorter calls are those of their overhead


def document(
    outcomes: Sequence[Outcome], n_cells: int, conditions: Mapping[str, Any], build: Mapping[str, str]
) -> dict[str, Any]:
    """All figures.  Within a version keys are only added."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "build": dict(build),
        **conditions,
        "equal": {"seconds": EQUAL_SECONDS, "factor": EQUAL_FACTOR},
        "summary": summary(outcomes, n_cells),
        "cells": [cell_data(outcome) for outcome in outcomes],
    }


def summary(outcomes: Sequence[Outcome], n_cells: int) -> dict[str, int]:
    """How many cells there are of each kind."""
    told = [outcome for outcome in outcomes if tells_share(outcome)]
    return {
        "cells": n_cells,
        "measured": len(outcomes),
        "compared": sum(outcome.against_best is not None for outcome in outcomes),
        "slower": sum(outcome.loses for outcome in outcomes),
        "limited": len(told),
        "below_target": sum(share_of(outcome) < TARGET for outcome in told),
    }


def tells_share(outcome: Outcome) -> bool:
    """Whether the share of the limit says something: it is known, and the call takes longer than its overhead."""
    return outcome.share is not None and outcome.median(outcome.reference) >= _SLOWEST_TOLD


def share_of(outcome: Outcome) -> float:
    assert outcome.share is not None
    return outcome.share.median


def cell_data(outcome: Outcome) -> dict[str, Any]:
    """One cell; ratios are [median, low, high]."""
    cell, share = outcome.cell, outcome.share
    return {
        "name": cell.name,
        "function": cell.function,
        "way": cell.way,
        "size": cell.size,
        "classes": cell.classes,
        "shape": list(cell.case.shape),
        "dtype": cell.case.dtype,
        "options": dict(cell.case.options),
        "op": cell.case.op,
        "contenders": {
            name: {
                "seconds": outcome.median(name),
                "rounds": len(outcome.seconds[name]),
                "fastloss_by_it": None if name == outcome.reference else outcome.ratio(name).as_list(),
                "agrees": name not in outcome.differing,
            }
            for name in outcome.seconds
        },
        "skipped": outcome.skipped,
        "best_peer": outcome.best,
        "by_best_peer": outcome.against_best,
        "slower": outcome.loses,
        "limit": {
            "bound": outcome.bound,
            "arithmetic_seconds": outcome.part(outcome.arithmetic),
            "memory_seconds": outcome.part(outcome.moving),
            "share": None if share is None else share.as_list(),
        },
    }


# --- text -------------------------------------------------------------------------------------------------------------


def text(outcomes: Sequence[Outcome], n_cells: int) -> str:
    """The summary and two tables of the worst cells."""
    return "\n".join(_lines(outcomes, n_cells))


def _lines(outcomes: Sequence[Outcome], n_cells: int) -> Iterator[str]:
    counts = summary(outcomes, n_cells)
    if counts["measured"] < n_cells:
        yield f"{counts['measured']} of {n_cells} cells, spread over all of them; --seconds allows for more"
    yield (
        f"slower than the best of the others: {counts['slower']} of {counts['compared']} "
        f"(within {EQUAL_FACTOR - 1:.0%}, or in less than {duration(EQUAL_SECONDS)}, counts as equal)"
    )
    losing = sorted((each for each in outcomes if each.loses), key=lambda each: -(each.against_best or 0))
    if losing:
        yield f"  {'cell':<52} {'fastloss':>9} {'best other':>25} {'ratio':>6}"
    for outcome in losing[:_WORST]:
        assert outcome.best is not None
        other = f"{outcome.best} {duration(outcome.median(outcome.best))}"
        mine = duration(outcome.median(outcome.reference))
        yield f"  {outcome.cell.name:<52} {mine:>9} {other:>25} {outcome.against_best:6.2f}"
    yield from _more(len(losing))
    told = sorted((each for each in outcomes if tells_share(each)), key=share_of)
    below = [each for each in told if share_of(each) < TARGET]
    if not told:
        yield "shares of the limit: none of these calls takes long enough, or nothing to measure it with was built"
        return
    yield f"below {TARGET} of the limit: {len(below)} of {len(told)} that take {duration(_SLOWEST_TOLD)} or longer"
    if below:
        yield f"  {'cell':<52} {'fastloss':>9} {'limit':>25} {'share':>6}"
    for outcome in below[:_WORST]:
        limit = max(outcome.part(outcome.arithmetic) or 0.0, outcome.part(outcome.moving) or 0.0)
        mine = duration(outcome.median(outcome.reference))
        yield f"  {outcome.cell.name:<52} {mine:>9} {f'{outcome.bound} {duration(limit)}':>25} {share_of(outcome):6.2f}"
    yield from _more(len(below))
    differing = [outcome for outcome in outcomes if outcome.differing]
    if differing:
        names = sorted({name for outcome in differing for name in outcome.differing})
        yield f"other values than fastloss's, and not compared: {', '.join(names)} in {len(differing)} cells"


def _more(n: int) -> Iterator[str]:
    if n > _WORST:
        yield f"  ... and {n - _WORST} more; --json has all"


def listing(cells: Sequence[Cell]) -> str:
    """Functions with their ways of calling and the number of their cells."""
    ways: dict[str, dict[str, int]] = {}
    for cell in cells:
        counts = ways.setdefault(cell.function, {})
        counts[cell.way] = counts.get(cell.way, 0) + 1
    lines = [f"{len(cells)} cells"]
    for function, counts in ways.items():
        lines.append(f"  {function}: {sum(counts.values())}")
        lines += [f"    {function}/{way}" for way in counts]
    return "\n".join(lines)
