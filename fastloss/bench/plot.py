"""Draws results: each case's share of the memory roof, contenders side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastloss import _optional

from .session import Result

# Okabe & Ito (2008): colours that the colour-blind can distinguish.  One per contender, the same in every plot.
_COLOURS = {
    "numpy": "#999999",
    "scipy": "#E69F00",
    "scikit-learn": "#F0E442",
    "torch": "#56B4E9",
    "torch.compile": "#009E73",
    "jax": "#CC79A7",
}
_OURS = ("#0072B2", "#D55E00", "#000000")  # fastloss, by backend

_ROOF = "memory roof"
_PER_ROW = 5  # groups of bars side by side
# figures on bars, with a background that interrupts the roof's line
_ABOVE: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 5.5, "zorder": 4}
_ABOVE["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
_SHORT = {"binary_cross_entropy_with_logits": "BCE with logits", "binary_cross_entropy": "BCE"}


def require() -> None:
    """Raise an ImportError that names the extra if matplotlib is missing."""
    _optional.require("matplotlib", "plot", "a plot")


def save(results: Sequence[Result], conditions: Mapping[str, Any], path: str, *, dpi: int = 200) -> None:
    """Write the plot; the file's suffix determines the format (PNG, SVG, PDF).

    Cases limited by memory or cache show the share of the roof, with GB/s above each bar; cases limited by the call's
    overhead show time.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, OSError
        If there is nothing to draw, the format is unknown, or the file cannot be written.
    """
    require()
    # Without pyplot: no windows, no state shared with the caller's own plots.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    results = [result for result in results if result.entries]
    if not results:
        raise ValueError("nothing was measured that could be drawn")
    present = {name for result in results for name in result.entries}
    names = sorted(present - _COLOURS.keys()) + [name for name in _COLOURS if name in present]
    colours = _colours(names)
    panels = _panels(results)
    n_rows = 1 + max(row for row, _, _ in panels)
    style: dict[Any, Any] = {
        "font.size": 8,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
    }
    with rc_context(style):
        figure = Figure(figsize=(7.2, 0.75 + 2.35 * n_rows), layout="constrained")
        n_columns = max(column + len(chunk) for _, column, chunk in panels)
        grid = figure.add_gridspec(n_rows, n_columns)
        axes = []
        for row, column, chunk in panels:
            ax = figure.add_subplot(grid[row, column : column + len(chunk)])
            draw = _draw_times if chunk[0].case.bound == "launch" else _draw_shares
            draw(ax, chunk, names, colours)
            ax.set_xlim(-0.5, len(chunk) - 0.5)
            ax.tick_params(axis="x", length=0, labelsize=6.5)
            axes.append(ax)
        handles, labels = _legend(axes, names)
        look: dict[str, Any] = {"frameon": False, "fontsize": 7, "handlelength": 1.6, "columnspacing": 1.4}
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 9), **look)
        figure.supxlabel(caption(conditions), fontsize=6, color="#555555")
        figure.savefig(path, dpi=dpi)


def _colours(names: Sequence[str]) -> dict[str, str]:
    ours = [name for name in names if name not in _COLOURS]
    return {**_COLOURS, **{name: _OURS[i % len(_OURS)] for i, name in enumerate(ours)}}


def _panels(results: Sequence[Result]) -> list[tuple[int, int, Sequence[Result]]]:
    """(row, first column, results) of each panel; panels of call times go into the last row of shares if they fit."""
    streaming = [result for result in results if result.case.bound != "launch"]
    launching = [result for result in results if result.case.bound == "launch"]
    panels: list[tuple[int, int, Sequence[Result]]]
    panels = [(i // _PER_ROW, 0, streaming[i : i + _PER_ROW]) for i in range(0, len(streaming), _PER_ROW)]
    used = len(panels[-1][2]) if panels else _PER_ROW
    for i in range(0, len(launching), _PER_ROW):
        chunk = launching[i : i + _PER_ROW]
        fits = used + len(chunk) <= _PER_ROW
        row = panels[-1][0] + (not fits) if panels else 0
        panels.append((row, used if fits else 0, chunk))
        used = _PER_ROW
    return panels


def _bars(result: Result, names: Sequence[str], group: int) -> Iterator[tuple[float, float, str]]:
    """(position, width, name) of each bar of a group, whose width is divided among the bars present."""
    present = [name for name in names if name in result.entries]
    width = 0.84 / max(len(present), 3)
    for i, name in enumerate(present):
        yield group + (i - (len(present) - 1) / 2) * width, width * 0.92, name


def _draw_shares(ax: Any, results: Sequence[Result], names: Sequence[str], colours: Mapping[str, str]) -> None:
    for group, result in enumerate(results):
        for x, width, name in _bars(result, names, group):
            share = result.of_roof(name)
            assert share is not None
            ax.bar(x, share.median, width, color=colours[name], label=name, zorder=2)
            ax.text(x, share.median + 0.015, _gigabytes(result.bandwidth(name)), **_ABOVE)
    ax.axhline(1, color="black", linewidth=1, linestyle=(0, (4, 2)), zorder=3, label=_ROOF)
    shares = [share.median for result in results for name in result.entries if (share := result.of_roof(name))]
    ax.set_ylim(0, 1.12 * max([1.0, *shares]))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "50 %", "", "100 %"])
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.5, zorder=0)
    ax.set_ylabel("share of the roof\n(above bars: GB/s)")
    labels = [f"{_label(result)}, roof {_gigabytes(result.roof_bandwidth)} GB/s" for result in results]
    ax.set_xticks(range(len(results)), labels)


def _draw_times(ax: Any, results: Sequence[Result], names: Sequence[str], colours: Mapping[str, str]) -> None:
    for group, result in enumerate(results):
        for x, width, name in _bars(result, names, group):
            seconds = result.entries[name].seconds
            ax.bar(x, seconds * 1e6, width, color=colours[name], label=name, zorder=2)
            ax.text(x, seconds * 1.1e6, f"{seconds * 1e6:.2g}" if seconds < 1e-4 else f"{seconds * 1e6:.0f}", **_ABOVE)
    times = [entry.seconds * 1e6 for result in results for entry in result.entries.values()]
    ax.set_yscale("log")
    ax.set_ylim(min(times) / 4, max(times) * 3)
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.5, zorder=0)
    ax.set_ylabel("time of a call, µs\n(shorter is better)")
    ax.set_xticks(range(len(results)), [_label(result) for result in results])


def _legend(axes: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], list[str]]:
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = [name for name in (*names, _ROOF) if name in found]
    return [found[label] for label in labels], labels


def _label(result: Result) -> str:
    case = result.case
    loss = _SHORT.get(case.loss, case.loss.removesuffix("_loss").replace("_", " "))
    loss = {"mse": "MSE", "l1": "L1"}.get(loss, loss) + (" + gradient" if case.op == "grad" else "")
    shape = "×".join(f"{n:.3g}".replace("e+0", "e") if n >= 1e6 else str(n) for n in case.shape)
    return f"{loss}\n{shape}\n{case.dtype}"


def _gigabytes(bandwidth: float) -> str:
    amount = bandwidth / 1e9
    return f"{amount:.1f}" if amount < 10 else f"{amount:.0f}"


def caption(conditions: Mapping[str, Any]) -> str:
    """The CPU, threads and versions of a run, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    threads = conditions["threads"]
    instructions = f" ({conditions['instruction_set']})" if conditions.get("instruction_set") else ""
    return f"{conditions['cpu']}{instructions}, {threads} thread{'s' if threads > 1 else ''}; {versions}"
