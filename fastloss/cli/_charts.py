"""The report's two charts, as SVG whose colours the page's style sets. Every mark has a title, every chart a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

N_BARS = 40
_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 46
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

Bucket = tuple[float, float, float]  # lower edge, upper edge, count


@dataclass(frozen=True)
class Bars:
    """A histogram of few bars; on a logarithmic axis if losses spread far. The last bars take what lies beyond them."""

    edges: list[float]
    counts: list[float]
    logarithmic: bool


def number(value: float) -> str:
    """A number for people."""
    return f"{value:.4g}"


def quantiles(buckets: list[Bucket]) -> list[tuple[float, float]]:
    """Pairs (share, loss): as exact as the buckets, some 3 %."""
    total, found = sum(count for *_, count in buckets), []
    for share in _QUANTILES if total else ():
        before = 0.0
        for low, high, count in buckets:
            if before + count >= share * total:
                found.append((share, low + (high - low) * (share * total - before) / count))
                break
            before += count
    return found


def bars(buckets: list[Bucket]) -> Bars:
    """Few bars of one width from many buckets; the count of one that is wider than a bar is spread evenly over it."""
    total = sum(count for *_, count in buckets)
    low, high = _reach(buckets, total * 0.001), -_reach([(-b, -a, n) for a, b, n in buckets[::-1]], total * 0.001)
    logarithmic = low > 0 and high / low > 50
    if high - low <= max(0.05 * max(abs(low), abs(high)), 1e-30):  # all alike, within a bucket
        high = low + max(abs(low), 1.0)
    scale = math.log if logarithmic else float
    ends = scale(low), scale(high)
    places = [ends[0] + (ends[1] - ends[0]) * i / N_BARS for i in range(N_BARS + 1)]
    counts = [0.0] * N_BARS
    for a, b, n in buckets:
        start, stop = (_clipped(scale, edge, low, high, ends) for edge in (a, b))
        width = (ends[1] - ends[0]) / N_BARS
        first, last = (min(N_BARS - 1, int((p - ends[0]) / width)) for p in (start, stop))
        if stop - start < width:  # whole, where it mostly is
            counts[min(N_BARS - 1, int(((start + stop) / 2 - ends[0]) / width))] += n
            continue
        for i in range(first, last + 1):
            share = (min(stop, places[i + 1]) - max(start, places[i])) / (stop - start)
            counts[i] += n * max(0.0, share)
    edges = [math.exp(place) for place in places] if logarithmic else places
    return Bars(edges, counts, logarithmic)


def _reach(buckets: list[Bucket], ignored: float) -> float:
    """Where the buckets begin, but for `ignored` of the count; 0 is taken for the least positive bucket of a weight."""
    before = 0.0
    for low, _, count in buckets:
        before += count
        if before > ignored and low != 0:
            return low
    return buckets[-1][0]


def _clipped(scale, edge: float, low: float, high: float, ends: tuple[float, float]) -> float:
    return ends[0] if edge <= low else ends[1] if edge >= high else scale(edge)


def histogram(shown: Bars) -> str:
    """The distribution of losses."""
    top = max(shown.counts) or 1.0
    ticks = _ticks(0, top, 4)
    top = max(top, ticks[-1])
    width = (_WIDTH - _LEFT - _RIGHT) / N_BARS
    marks = []
    for i, count in enumerate(shown.counts):
        height = (_HEIGHT - _TOP - _BOTTOM) * count / top
        title = f"{number(shown.edges[i])} to {number(shown.edges[i + 1])}: {count:.0f}"
        place = f'x="{_LEFT + i * width + 0.75:.2f}" y="{_HEIGHT - _BOTTOM - height:.2f}"'
        marks.append(
            f'<rect {place} width="{width - 1.5:.2f}" height="{height:.2f}"><title>{escape(title)}</title></rect>'
        )
    step = N_BARS // 5
    x_labels = [(_LEFT + i * width, f"{shown.edges[i]:.3g}") for i in range(0, N_BARS + 1, step)]
    axis = "loss (logarithmic)" if shown.logarithmic else "loss"
    y_labels = [(_y(tick, 0, top), _short(tick)) for tick in ticks]
    body = _frame(x_labels, y_labels, axis, "rows") + f'<g class="bar">{"".join(marks)}</g>'
    return _svg("Distribution of losses", f"Histogram of {N_BARS} bars.", body)


def reliability(bins: list[tuple[int, float, float]], outcome: str) -> str:
    """Given probabilities against shares that came true: on the diagonal where they are calibrated."""
    width = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    most = max((count for count, *_ in bins), default=0) or 1
    marks, points = [], []
    for i, (count, given, share) in enumerate(bins):
        if not count:
            continue
        height = _HEIGHT - _BOTTOM - _y(share, 0, 1)
        title = f"{count} rows given {number(given)} on average: {outcome} {number(share)}"
        place = f'x="{_LEFT + i * width + 1:.2f}" y="{_y(share, 0, 1):.2f}"'
        marks.append(
            f'<rect {place} width="{width - 2:.2f}" height="{height:.2f}" style="opacity:{0.35 + 0.65 * count / most:.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )
        x = _LEFT + given * (_WIDTH - _LEFT - _RIGHT)
        points.append(f'<circle cx="{x:.2f}" cy="{_y(share, 0, 1):.2f}" r="4"><title>{escape(title)}</title></circle>')
    tenths = [i / 5 for i in range(6)]
    x_labels = [(_LEFT + t * (_WIDTH - _LEFT - _RIGHT), number(t)) for t in tenths]
    y_labels = [(_y(t, 0, 1), number(t)) for t in tenths]
    diagonal = f'<path class="even" d="M{_LEFT} {_y(0, 0, 1)}L{_WIDTH - _RIGHT} {_y(1, 0, 1)}"/>'
    body = _frame(x_labels, y_labels, "probability given", outcome) + f'<g class="bar">{"".join(marks)}</g>{diagonal}'
    body += f'<g class="point">{"".join(points)}</g>'
    return _svg(
        "Calibration",
        "Shares that came true against the probability given; a calibrated model is on the diagonal.",
        body,
    )


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)


def _frame(x_labels: list[tuple[float, str]], y_labels: list[tuple[float, str]], x_title: str, y_title: str) -> str:
    """Lines and labels behind the marks."""
    parts = []
    for y, label in y_labels:
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.2f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.2f}" text-anchor="end">{escape(label)}</text>')
    for x, label in x_labels:
        anchor = "end" if x > _WIDTH - _RIGHT - 1 else "middle"  # the last one would be cut off
        parts.append(f'<text x="{x:.2f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="{anchor}">{escape(label)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    )
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    return f'<g class="frame">{"".join(parts)}</g>'


def _svg(title: str, description: str, body: str) -> str:
    name = title.split()[0].lower()
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(description)}</desc>{body}</svg>'
    )


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers from `low` to at least `high`."""
    raw = (high - low) / wanted
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    return [low + step * i for i in range(math.ceil((high - low) / step - 1e-9) + 1)]


def _short(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{letter}"
    return f"{count:.4g}"
