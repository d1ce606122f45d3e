"""Draws a sweep as a heat map: functions and ways of calling by size, coloured by the ratio to the best peer, and by the share of the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .grid import FEW
from .plot import caption, require
from .sweep import EQUAL_FACTOR, EQUAL_SECONDS, Outcome
from .sweep_report import tells_share

_MOST_ROWS = 130  # with more of them, each function has one
_ROW_HEIGHT = 0.115  # inches


def rows(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """What shares a row of the map: a function called in one way, few or many classes together; the whole function if that is too many."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(_label(outcome), []).append(outcome)
    if len(found) <= _MOST_ROWS:
        return found
    whole: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        cell = outcome.cell
        whole.setdefault(f"{cell.function}{_classes(outcome)}", []).append(outcome)
    return whole


def _classes(outcome: Outcome) -> str:
    n = outcome.cell.classes
    return "" if not n else f", C ≤ {FEW}" if n <= FEW else f", C > {FEW}"


def _label(outcome: Outcome) -> str:
    cell = outcome.cell
    way = cell.way.removeprefix(f"C={cell.classes}").strip() if cell.classes else cell.way
    return f"{cell.function}{_classes(outcome)} {way}".strip()


def grids(outcomes: Sequence[Outcome]) -> tuple[list[str], list[int], np.ndarray, np.ndarray, np.ndarray]:
    """(labels, sizes, the worst ratio to the best peer, the worst share of the limit, whether some cell loses), NaN where there is none."""
    grouped = rows(outcomes)
    sizes = sorted({outcome.cell.size for outcome in outcomes})
    shape = len(grouped), len(sizes)
    ratios, shares, loses = np.full(shape, math.nan), np.full(shape, math.nan), np.zeros(shape, bool)
    for i, group in enumerate(grouped.values()):
        for outcome in group:
            at = i, sizes.index(outcome.cell.size)
            if outcome.against_best is not None:
                ratios[at] = np.fmax(ratios[at], outcome.against_best)
            if tells_share(outcome) and outcome.share is not None:
                shares[at] = np.fmin(shares[at], outcome.share.median)
            loses[at] |= outcome.loses
    return list(grouped), sizes, ratios, shares, loses


def save(outcomes: Sequence[Outcome], conditions: Mapping[str, Any], path: str, *, dpi: int = 200) -> None:
    """Write the map; the file's suffix determines the format (PNG, SVG, PDF).

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, OSError
        If there is nothing to draw, the format is unknown, or the file cannot be written.
    """
    require()
    from matplotlib import colormaps, rc_context
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    if not outcomes:
        raise ValueError("nothing was measured that could be drawn")
    labels, sizes, ratios, shares, loses = grids(outcomes)
    style: dict[Any, Any] = {"font.size": 7, "font.family": "sans-serif", "svg.fonttype": "none", "pdf.fonttype": 42}
    with rc_context(style):
        figure = Figure(figsize=(8.5, 1.6 + max(_ROW_HEIGHT * len(labels), 1.2)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        # blue: faster; white: equal; red: slower
        logs = np.log2(ratios)
        first = left.imshow(logs, colormaps["RdBu_r"], Normalize(-3, 3), aspect="auto", interpolation="nearest")
        second = right.imshow(shares, colormaps["viridis"], Normalize(0, 1), aspect="auto", interpolation="nearest")
        down, across = np.nonzero(loses)
        left.scatter(across, down, s=5, marker="o", color="black", linewidths=0)
        for ax in (left, right):
            ax.set_facecolor("#E4E4E4")
            ax.set_xticks(range(len(sizes)), [_short(size) for size in sizes], rotation=90, fontsize=6)
            ax.set_xlabel("elements")
            ax.tick_params(length=0)
        left.set_yticks(range(len(labels)), labels, fontsize=5.5)
        within = f"dot: slower by over {EQUAL_FACTOR - 1:.0%}, and longer than {EQUAL_SECONDS * 1e6:.0f} µs"
        left.set_title(f"time by that of the best other library\n({within})", fontsize=7)
        right.set_title("share of this CPU's limit\n(grey: not measured, or a call's overhead)", fontsize=7)
        ticks = range(-3, 4)
        bar = figure.colorbar(first, ax=left, location="bottom", aspect=40, pad=0.01, extend="both")
        bar.set_ticks(list(ticks), labels=[f"{2.0**k:.3g}" for k in ticks])
        figure.colorbar(second, ax=right, location="bottom", aspect=40, pad=0.01, extend="max")
        figure.suptitle(f"{caption(conditions)}\n(each cell: the worst of the calls that share it)", fontsize=6)
        figure.savefig(path, dpi=dpi)


def _short(size: int) -> str:
    return f"{size:g}" if size < 1000 else f"{size:.3g}".replace("e+0", "e") if size >= 10**6 else f"{size // 1000}k"
