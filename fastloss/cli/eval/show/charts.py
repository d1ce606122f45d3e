"""The report's charts, as SVG whose colours the page's style sets. Every mark has a title, every chart a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from itertools import pairwise

N_BARS = 40
_ZEROS_WIDTH = 40  # with the gap to the others
_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 46
_LOGARITHMIC = 50  # so many times the least loss is far
_LEAST_SPAN = 0.25  # of the largest loss: eight buckets
_FAR = sys.float_info.max / 4
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

Bucket = tuple[float, float, float]  # lower edge, upper edge, count


@dataclass(frozen=True)
class Bars:
    """A histogram of few bars; the first and the last take what lies beyond them.

    On a logarithmic axis, for losses that spread far, those of 0 are `zeros`, a bar of their own.
    """

    edges: list[float]
    counts: list[float]
    logarithmic: bool
    zeros: float = 0.0


def number(value: float) -> str:
    """A number for people."""
    return f"{value:.4g}"


def quantiles(buckets: list[Bucket]) -> list[tuple[float, float]]:
    """Pairs (share, loss): as exact as the buckets, some 3 %; of all losses, infinite ones included."""
    total, found = sum(count for *_, count in buckets), []
    for share in _QUANTILES if total else ():
        before = 0.0
        for low, high, count in buckets:
            if before + count >= share * total:
                inside = low if low == high else low + (high - low) * (share * total - before) / count
                found.append((share, inside))
                break
            before += count
    return found


def bars(buckets: list[Bucket]) -> Bars:
    """Few bars of one width from many buckets, of which one is finite at least.

    The count of a bucket that is wider than a bar is spread evenly over it. Infinite losses are not drawn.
    """
    buckets = [bucket for bucket in buckets if math.isfinite(bucket[0])]
    ignored = sum(count for *_, count in buckets) * 0.001
    low, high = _reach(buckets, ignored)
    zeros, logarithmic = 0.0, False
    if 0 <= low and 0 < high:
        positive = [bucket for bucket in buckets if bucket[1] > 0]
        start = _reach(positive, ignored)[0] if low == 0 else low
        start = max(start, sys.float_info.min)  # what is smaller has few bits left
        if logarithmic := high / start > _LOGARITHMIC:
            zeros, low = (sum(n for _, b, n in buckets if b <= 0), start) if low == 0 else (0.0, start)
            buckets = positive if zeros else buckets
    if not logarithmic:
        low, high = _widened(low, high)
    scale: Callable[[float], float] = math.log if logarithmic else float
    ends = scale(low), scale(high)
    width = (ends[1] - ends[0]) / N_BARS
    places = [ends[0] + width * i for i in range(N_BARS)] + [ends[1]]
    counts = [0.0] * N_BARS
    for a, b, n in buckets:
        start, stop = (_clipped(scale, edge, low, high, ends) for edge in (a, b))
        first, last = (min(N_BARS - 1, int((place - ends[0]) / width)) for place in (start, stop))
        if stop - start < width:  # whole, where it mostly is
            counts[min(N_BARS - 1, int(((start + stop) / 2 - ends[0]) / width))] += n
            continue
        for i in range(first, last + 1):
            share = (min(stop, places[i + 1]) - max(start, places[i])) / (stop - start)
            counts[i] += n * max(0.0, share)
    edges = [math.exp(place) for place in places] if logarithmic else places
    return Bars(edges, counts, logarithmic, zeros)


def _reach(buckets: list[Bucket], ignored: float) -> tuple[float, float]:
    """Where the buckets begin and end, but for `ignored` of the count at either end."""
    ends = []
    for ordered, end in ((buckets, 0), (buckets[::-1], 1)):
        before = 0.0
        for bucket in ordered:
            before += bucket[2]
            if before > ignored:
                ends.append(bucket[end])
                break
    return ends[0], ends[1]


def _widened(low: float, high: float) -> tuple[float, float]:
    """The axis of losses in [low, high]: no narrower than a few buckets, as these are all that is known of them."""
    low, high = max(low, -_FAR), min(high, _FAR)
    least = _LEAST_SPAN * max(abs(low), abs(high))
    if least < sys.float_info.min:  # nothing but 0, or all but 0
        return 0.0, 1.0
    if high - low >= least:
        return low, high
    middle = low + (high - low) / 2
    return middle - least / 2, middle + least / 2


def _clipped(scale: Callable[[float], float], edge: float, low: float, high: float, ends: tuple[float, float]) -> float:
    return ends[0] if edge <= low else ends[1] if edge >= high else scale(edge)


def histogram(shown: Bars, what: str = "loss", name: str = "Distribution of losses") -> str:
    """The distribution of losses, or of `what` else; no two charts of a page begin with the same word."""
    top = max(*shown.counts, shown.zeros) or 1.0
    ticks = _ticks(0, top, 4, whole=True)
    top = max(top, ticks[-1])
    begin = _LEFT + (_ZEROS_WIDTH if shown.zeros else 0)
    width = (_WIDTH - begin - _RIGHT) / N_BARS
    places = [(begin + i * width, width, low, high) for i, (low, high) in enumerate(pairwise(shown.edges))]
    slots = list(zip(places, shown.counts, strict=True))
    if shown.zeros:
        slots.insert(0, ((_LEFT, 2 * width, 0.0, 0.0), shown.zeros))
    marks = []
    for (x, wide, low, high), count in slots:
        height = (_HEIGHT - _TOP - _BOTTOM) * count / top
        title = f"{span(low, high)}: {count:.0f}"
        place = f'x="{x + 0.75:.2f}" y="{_HEIGHT - _BOTTOM - height:.2f}"'
        marks.append(
            f'<rect {place} width="{wide - 1.5:.2f}" height="{height:.2f}"><title>{escape(title)}</title></rect>'
        )
    scale = math.log if shown.logarithmic else float
    first, last = scale(shown.edges[0]), scale(shown.edges[-1])
    x_labels = [
        (begin + (scale(tick) - first) / (last - first) * (_WIDTH - begin - _RIGHT), f"{tick:.6g}")
        for tick in _x_ticks(shown)
    ]
    if shown.zeros:
        x_labels.insert(0, (_LEFT + width, "0"))
    axis = f"{what} (logarithmic)" if shown.logarithmic else what
    y_labels = [(_y(tick, 0, top), _short(tick)) for tick in ticks]
    body = _frame(x_labels, y_labels, axis, "rows") + f'<g class="bar">{"".join(marks)}</g>'
    return _svg(name, f"Histogram of {len(slots)} bars.", body)


def span(low: float, high: float) -> str:
    """What a bar stands for."""
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _x_ticks(shown: Bars) -> list[float]:
    """Round numbers on the axis of losses: multiples of 1, 2 or 5 times a power of ten, or powers of ten themselves."""
    low, high = shown.edges[0], shown.edges[-1]
    if not shown.logarithmic:
        return [tick for tick in _ticks(low, high, 6) if low <= tick <= high]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    n_decades = math.log10(high) - math.log10(low)
    step = math.ceil(n_decades / 7)
    factors = (1, 2, 5) if n_decades < 3 else (1,)
    powers = range(-(-first // step) * step, last + 1, step)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


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


def changes(bins: list[tuple[int, float, float]]) -> str:
    """Changes of the target's probability, against the one that the reference gave it: the mean, within one standard deviation."""
    width = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    spreads = [math.sqrt(max(0.0, root * root - mean * mean)) for _, mean, root in bins]
    most = max((abs(mean) + spread for (_, mean, _), spread in zip(bins, spreads, strict=True)), default=0.0) or 1.0
    ticks = _ticks(-most, most, 4)
    low, high = min(ticks[0], -most), max(ticks[-1], most)
    marks, points = [], []
    for i, ((count, mean, root), spread) in enumerate(zip(bins, spreads, strict=True)):
        if not count:
            continue
        title = f"{count} rows given {number(i / len(bins))} to {number((i + 1) / len(bins))}: mean change {number(mean)}, RMS {number(root)}"
        top, bottom = _y(mean + spread, low, high), _y(mean - spread, low, high)
        marks.append(
            f'<rect x="{_LEFT + i * width + 1:.2f}" y="{top:.2f}" width="{width - 2:.2f}" height="{max(bottom - top, 1):.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )
        place = f'cx="{_LEFT + (i + 0.5) * width:.2f}" cy="{_y(mean, low, high):.2f}"'
        points.append(f'<circle {place} r="4"><title>{escape(title)}</title></circle>')
    x_labels = [(_LEFT + i / 5 * (_WIDTH - _LEFT - _RIGHT), number(i / 5)) for i in range(6)]
    y_labels = [(_y(t, low, high), number(t)) for t in ticks]
    zero = f'<path class="even" d="M{_LEFT} {_y(0, low, high):.2f}H{_WIDTH - _RIGHT}"/>'
    body = _frame(x_labels, y_labels, "probability given by the reference", "change")
    body += f'<g class="bar">{"".join(marks)}</g>{zero}<g class="point">{"".join(points)}</g>'
    return _svg("Changes of the target's probability", "Mean changes, and one standard deviation on both sides.", body)


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


def _ticks(low: float, high: float, wanted: int, whole: bool = False) -> list[float]:
    """Round numbers from below `low`, or at it, to `high` at least; `whole` ones where rows are counted."""
    raw = (high - low) / wanted
    power = math.floor(math.log10(raw))
    factor = next(factor for factor in (1, 2, 5, 10) if float(f"{factor}e{power}") >= raw)
    step = float(f"{factor}e{power}")
    if whole:
        step = max(step, 1.0)
    first = math.floor(low / step + 1e-9)
    return [step * i for i in range(first, math.ceil(high / step - 1e-9) + 1)]


def _short(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{letter}"
    return f"{count:.4g}"
