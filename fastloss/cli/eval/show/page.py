"""The report page: one file of HTML that loads nothing, light or dark as the reader's system is."""

from __future__ import annotations

import argparse
import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from fastloss.cli import library
from fastloss.cli.eval.plan.plan import Plan
from fastloss.cli.eval.stats.state import State
from fastloss.cli.failure import printable

from . import charts
from .charts import number
from .figures import Figures
from .report import group_cells, group_columns

_SHOWN_GROUPS = 1000

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2127; --soft: #5b6672; --line: #dde2e7; --card: #f5f7f9;
  --mark: #2b6cb0; --point: #9c4221; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --ink: #e6eaee; --soft: #9aa6b2; --line: #333b44; --card: #1d232a; --mark: #63a4e8;
    --point: #f0a56b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; color: var(--soft); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .8rem; color: var(--soft); }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); fill: none; }
.bar rect { fill: var(--mark); }
.bar rect:hover { fill: var(--point); }
.even { stroke: var(--ink); stroke-dasharray: 5 4; fill: none; }
.point circle { fill: var(--point); stroke: var(--card); stroke-width: 1.5; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; cursor: pointer; }
th[aria-sort=descending]::after { content: " \\2193"; }
th[aria-sort=ascending]::after { content: " \\2191"; }
th:first-child, td:first-child, .text { text-align: left; overflow-wrap: anywhere; }
details { margin-top: .5rem; color: var(--soft); }
summary { cursor: pointer; }
"""

# A click on the head of a column, or Enter there, sorts the table by it: numbers as numbers, the other way round the next time.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, i) => {
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      const key = row => row.cells[i].textContent, of = text => text === "" ? NaN : Number(text.split(/[ %]/)[0]);
      const order = (a, b) => {
        const [x, y] = [of(a), of(b)];
        return isNaN(x) && isNaN(y) ? a.localeCompare(b) : isNaN(x) ? 1 : isNaN(y) ? -1 : x - y;
      };
      const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a), key(b)));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
"""

# Nothing is loaded, and no script but this one runs, whatever a file's name holds.
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'"


def page(plan: Plan, figures: Figures, state: State, args: argparse.Namespace) -> str:
    """The whole page."""
    opened = plan.first
    names = [_text(getattr(args, which) or f"listed in {args.manifest}") for which in ("predictions", "targets")]
    sections = [
        _tiles(plan, figures, args),
        _documents(figures),
        _against(figures, args),
        _changes(plan, state) if figures.against is not None else "",
        _distribution(state),
        _calibration(plan, state),
        _macro(figures, args),
        _groups(figures, args),
        _worst(plan, state),
    ]
    title = f"{opened.loss.name}: {number(float(figures.mean))}"
    reason = f", guessed: {opened.reason}" if opened.reason else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{_text(opened.loss.name)}{_text(reason)}</h1>
<p>{names[0]} against {names[1]}</p>
</header>
<main>
{"".join(sections)}
</main>
<footer><p>fastloss {_text(library.version())}, backend {_text(library.backend_in_use())}, {figures.seconds:.3g} s</p></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _text(value: Any) -> str:
    return escape(printable(str(value)))


def _tiles(plan: Plan, figures: Figures, args: argparse.Namespace) -> str:
    """The figures."""
    ends = {name: f"95 %: {number(a)} to {number(b)}" for name, (a, b) in figures.intervals.items()}
    of = figures.rows if figures.elements is None else figures.elements
    tiles: list[tuple[str, Any, str]] = [("mean loss", figures.mean, ends.get("mean", ""))]
    if figures.value is not None and plan.first.reduction == "sum":
        tiles.append(("summed loss", figures.value, ""))
    tiles += [
        ("perplexity", figures.perplexity, ends.get("perplexity", "")),
        ("accuracy", figures.accuracy, ends.get("accuracy", f"{figures.correct} of {of}")),
        (
            f"top-{args.top_k} accuracy",
            figures.top_k_accuracy,
            ends.get("top_k_accuracy", f"{figures.top_k_correct} of {of}"),
        ),
        ("MSE", figures.mse, ""),
        ("RMSE", figures.rmse, ""),
        ("MAE", figures.mae, ""),
        ("bits per byte", figures.bits_per_byte, ends.get("bits_per_byte", f"{figures.n_bytes} bytes")),
        ("Brier score", figures.brier, ends.get("brier", "")),
        ("entropy", figures.entropy, ends.get("entropy", "")),
        ("rows", figures.rows, f"{figures.ignored} ignored" if figures.ignored else ""),
        ("shards", len(plan.shards) if len(plan.shards) > 1 else None, ""),
    ]
    shown = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{value if isinstance(value, int) else number(float(value))}"
        f"{f'<small>{_text(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in tiles
        if value is not None
    )
    note = ""
    if figures.intervals:
        note = f"<p>Intervals: Poisson bootstrap by {_text(args.resample)}, {args.bootstrap} resamples, seed {args.seed}.</p>"
    return f"<dl>{shown}</dl>{note}"


def _against(figures: Figures, args: argparse.Namespace) -> str:
    """Both models' figures, and how far their distributions are apart."""
    found = figures.against
    if found is None:
        return ""
    intervals = found.get("intervals", {})

    def ends(interval: Sequence[float] | None) -> str:
        return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"

    rows = [
        (
            name.replace("top_k", f"top-{args.top_k}").replace("_", " "),
            number(float(getattr(figures, name))),
            number(found["reference"][name]),
            number(difference),
            ends(intervals.get("difference", {}).get(name)),
        )
        for name, difference in found["difference"].items()
    ]
    kl, change = found["kl"], found["delta_p"]
    names = {"p90": "90 %", "p95": "95 %", "p99": "99 %", "p99_9": "99.9 %"}
    spread = [
        (names.get(name, name), number(value), ends(intervals.get("kl")) if name == "mean" else "")
        for name, value in kl.items()
    ]
    others = [
        (
            "ln of the perplexities' ratio",
            number(found["log_perplexity_ratio"]),
            ends(intervals.get("log_perplexity_ratio")),
        ),
        ("mean change of the target's probability", number(change["mean"]), ends(intervals.get("delta_p"))),
        ("root of its mean square", number(change["rms"]), ends(intervals.get("delta_p_rms"))),
        ("same most likely class", number(found["same_argmax"]), ends(intervals.get("same_argmax"))),
    ]
    return (
        f"<h2>Against {_text(args.against or 'the references')}</h2>"
        f"{_table(['figure', 'these', 'reference', 'difference', '95 %'], rows)}{_table(['', 'value', '95 %'], others)}"
        f"<h2>Kullback-Leibler divergence</h2>{_table(['rows', 'nats', '95 %'], spread)}"
    )


def _changes(plan: Plan, state: State) -> str:
    """How the divergences are distributed, where the target's probability has changed, and which rows changed most."""
    buckets = state.parts["divergence_histogram"].buckets()
    found = ""
    if any(np.isfinite(low) for low, *_ in buckets):
        shown = charts.bars(buckets)
        rows = [
            (charts.span(*ends), f"{count:.0f}")
            for *ends, count in zip(shown.edges, shown.edges[1:], shown.counts, strict=False)
        ]
        if shown.zeros:
            rows.insert(0, ("0", f"{shown.zeros:.0f}"))
        chart = charts.histogram(shown, "divergence in nats", "Kullback-Leibler divergence of rows")
        found += f"<figure>{chart}</figure>{_details('The bars as a table', _table(['divergence', 'rows'], rows))}"
    bins = state.parts["changes"].bins()
    if any(count for count, *_ in bins):
        edges = [f"{i / len(bins):.2f} to {(i + 1) / len(bins):.2f}" for i in range(len(bins))]
        of_bins = [
            (edge, str(count), number(mean) if count else "", number(root) if count else "")
            for edge, (count, mean, root) in zip(edges, bins, strict=True)
        ]
        table = _table(["reference's probability", "rows", "mean change", "RMS change"], of_bins)
        found += (
            f"<h2>Changes of the target's probability</h2><figure>{charts.changes(bins)}<figcaption><p>Dots are mean changes of rows "
            "by the probability that the reference gave the target; bars reach one standard deviation to both sides.</p></figcaption>"
            f"</figure>{_details('The bins as a table', table)}"
        )
    changed = [
        [*_where(plan, shard, position), _plain(target), _plain(before), _plain(after), _plain(change), number(kl)]
        for kl, shard, position, target, before, after, change in state.parts["most_changed"].rows
    ]
    head = ["file", "row", "target", "reference's most likely class", "most likely class", "change of p", "divergence"]
    return found + (f"<h2>The rows that changed most</h2>{_table(head, changed)}" if changed else "")


def _where(plan: Plan, shard: int, position: int) -> list[Any]:
    """The file of a row, and its index in there."""
    found = plan.shards[shard]
    index = [int(i) for i in np.unravel_index(position, found.shape)] if found.shape else []
    return [found.shard.predictions, index]


def _documents(figures: Figures) -> str:
    """Means over documents."""
    found = figures.documents
    if found is None:
        return ""
    names = [name for name in found if name not in ("documents", "greedy_count")]
    rows = [(name.replace("_", " ").replace("log prob", "log-probability"), number(found[name])) for name in names]
    return f"<h2>{found['documents']} documents</h2>{_table(['mean over documents', 'value'], rows)}"


def _distribution(state: State) -> str:
    buckets = state.parts["histogram"].buckets()
    n_infinite = sum(count for low, _, count in buckets if np.isinf(low))
    n_finite = sum(count for *_, count in buckets) - n_infinite
    infinite = f"{n_infinite} {'loss is' if n_infinite == 1 else 'losses are'} infinite" if n_infinite else ""
    if not n_finite:
        return f"<h2>Distribution of losses</h2><p>No finite loss was counted{f'; {infinite}' if infinite else ''}.</p>"
    shown = charts.bars(buckets)
    quantiles = _table(
        ["share of rows", "loss at most"],
        [(f"{share:.0%}", number(loss)) for share, loss in charts.quantiles(buckets)],
    )
    rows = [
        (charts.span(*ends), f"{count:.0f}")
        for *ends, count in zip(shown.edges, shown.edges[1:], shown.counts, strict=False)
    ]
    if shown.zeros:
        rows.insert(0, ("0", f"{shown.zeros:.0f}"))
    if infinite:
        rows.append(("infinite", str(n_infinite)))
    note = f" {infinite}: counted in the quantiles, not drawn." if infinite else ""
    return (
        f"<h2>Distribution of losses</h2><figure>{charts.histogram(shown)}"
        "<figcaption><p>Rows by loss; the first and the last bar take what lies beyond. Quantiles are right to 3 %."
        f"{note}</p>{quantiles}</figcaption></figure>{_details('The bars as a table', _table(['loss', 'rows'], rows))}"
    )


def _calibration(plan: Plan, state: State) -> str:
    calibration = state.parts["calibration"]
    error = calibration.error()
    if error is None:
        return ""
    binary = plan.first.loss.family == "binary"
    outcome, given = ("share of ones", "of a one") if binary else ("accuracy", "of the most likely class")
    bins = calibration.bins()
    edges = [f"{i / len(bins):.2f} to {(i + 1) / len(bins):.2f}" for i in range(len(bins))]
    rows = [
        (edge, count, number(p) if count else "", number(share) if count else "")
        for edge, (count, p, share) in zip(edges, bins, strict=True)
    ]
    table = _table(["probability", "rows", "mean probability", outcome], rows)
    return (
        f"<h2>Calibration</h2><figure>{charts.reliability(bins, outcome)}"
        f"<figcaption><p>Expected calibration error {number(error)}, maximum {number(calibration.maximum())}, over {len(bins)} bins of the probability {given} "
        "(Guo et al. 2017). Bars of more rows are stronger; dots are at the mean probability.</p></figcaption></figure>"
        f"{_details('The bins as a table', table)}"
    )


def _groups(figures: Figures, args: argparse.Namespace) -> str:
    if not figures.groups:
        return ""
    head = group_columns(figures.groups, args.top_k)
    rows = [group_cells(entry, number) for entry in figures.groups[:_SHOWN_GROUPS]]
    rest = len(figures.groups) - _SHOWN_GROUPS
    note = f"<p>{rest} more groups; --json gives all.</p>" if rest > 0 else ""
    if "intervals" in figures.groups[0]:
        note += f"<p>Intervals are those of the {head[1]}.</p>"
    return f"<h2>Groups</h2>{_table(head, rows)}{note}"


def _macro(figures: Figures, args: argparse.Namespace) -> str:
    """Means over groups or shards, beside those over rows."""
    found = figures.macro
    if not found or not found["units"]:
        return ""
    intervals = found.get("intervals", {})
    micro = (figures.against or {}).get("difference", {})
    micro = {"difference": micro.get("mean"), "kl": (figures.against or {}).get("kl", {}).get("mean")}
    micro["reference"] = (figures.against or {}).get("reference", {}).get("mean")
    rows = []
    for name, value in found.items():
        if name in ("unit", "units", "intervals"):
            continue
        of_rows = micro[name] if name in micro else getattr(figures, name)
        ends = f"{number(intervals[name][0])} to {number(intervals[name][1])}" if name in intervals else ""
        rows.append(
            (name.replace("top_k", f"top-{args.top_k}").replace("_", " "), number(float(of_rows)), number(value), ends)
        )
    head = ["figure", "over rows", f"over {found['unit']}s", "95 %"]
    return f"<h2>Averages over {found['units']} {found['unit']}s</h2>{_table(head, rows)}"


def _worst(plan: Plan, state: State) -> str:
    classes = plan.first.loss.family == "classes"
    rows = []
    for loss, shard, position, target, prediction, probability in state.parts["worst"].rows:
        row = [*_where(plan, shard, position), _plain(target), _plain(prediction)]
        rows.append([*row, *([] if probability is None else [number(probability)]), number(loss)])
    if not rows:
        return ""
    head = ["file", "row", "target", "most likely class" if classes else "prediction"]
    head += ["probability"] if len(rows[0]) == len(head) + 2 else []
    return f"<h2>The worst rows</h2>{_table([*head, 'loss'], rows)}"


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table that scrolls by itself where it is too wide."""
    top = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{_text(summary)}</summary>{body}</details>"
