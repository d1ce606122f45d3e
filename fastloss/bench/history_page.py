"""The history of stored runs as one HTML page that loads nothing, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .history import Series

_WIDTH, _HEIGHT, _MARGIN = 640, 110, 8

_STYLE = """
:root { color-scheme: light dark; --line: #0072b2; --bad: #d55e00; --good: #009e73; --soft: #8888; }
body { font: 14px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1rem; margin: 2rem 0 0; font-weight: 600; }
p { margin: 0; color: color-mix(in srgb, currentColor 70%, transparent); }
svg { width: 100%; height: auto; display: block; }
.same, .uncertain { fill: var(--line); stroke: var(--line); } .slower { fill: var(--bad); stroke: var(--bad); }
.faster { fill: var(--good); stroke: var(--good); } .uncertain { fill-opacity: 0; }
.one { stroke: var(--soft); stroke-dasharray: 4 3; } .change { stroke: var(--bad); }
text { fill: currentColor; font-size: 10px; }
"""


def drawn(series: Sequence[Series]) -> str:
    """The page; cases whose level has changed come first."""
    ordered = sorted(series, key=lambda each: (not each.changes, each.points[-1].verdict not in ("slower", "faster")))
    body = "\n".join(map(_section, ordered)) or "<p>No runs yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>fastloss bench: history</title>'
        f"<style>{_STYLE}</style></head><body><h1>fastloss bench: history</h1>"
        "<p>Time of the new side over the old one's in each run, with 95 % intervals; hollow where it can't be told. "
        f"Vertical lines: the level changes (E-divisive).</p>{body}</body></html>\n"
    )


def _section(series: Series) -> str:
    last = series.points[-1]
    changed = "".join(
        f" Level changes at {html.escape(series.points[i].time)} ({html.escape(series.points[i].new)})."
        for i in series.changes
    )
    return (
        f"<section><h2>{html.escape(series.name)}</h2><p>against {html.escape(series.old)}: "
        f"{last.ratio:.3f}, {html.escape(last.verdict)}.{changed}</p>{_chart(series)}</section>"
    )


def _chart(series: Series) -> str:
    logs = [
        math.log(value) for p in series.points for value in (p.ratio, p.low, p.high) if value is not None and value > 0
    ]
    reach = max(0.05, *(abs(value) for value in logs))

    def y(ratio: float) -> float:
        return _HEIGHT / 2 - math.log(ratio) / reach * (_HEIGHT / 2 - _MARGIN)

    def x(i: float) -> float:
        return 40 + (i + 0.5) * (_WIDTH - 48) / len(series.points)

    marks = [f'<line class="one" x1="40" x2="{_WIDTH}" y1="{y(1):.1f}" y2="{y(1):.1f}"/>']
    marks += [
        f'<line class="change" x1="{x(i - 0.5):.1f}" x2="{x(i - 0.5):.1f}" y1="0" y2="{_HEIGHT}"/>'
        for i in series.changes
    ]
    for ratio in (math.exp(reach), 1.0, math.exp(-reach)):
        marks.append(f'<text x="0" y="{y(ratio) + 3:.1f}">{ratio:.3g}</text>')
    for i, point in enumerate(series.points):
        kind = point.verdict if point.verdict in ("same", "slower", "faster") else "uncertain"
        if point.low and point.high:
            marks.append(
                f'<line class="{kind}" x1="{x(i):.1f}" x2="{x(i):.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"/>'
            )
        shown = html.escape(f"{point.time} {point.new}: {point.ratio:.3f}, {point.verdict}")
        marks.append(
            f'<circle class="{kind}" cx="{x(i):.1f}" cy="{y(point.ratio):.1f}" r="3"><title>{shown}</title></circle>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(marks)}</svg>'
