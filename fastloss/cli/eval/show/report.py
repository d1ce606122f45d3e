"""The result as a person reads it, and as a program does."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastloss.cli import library
from fastloss.cli.eval.plan.guess import other_axis
from fastloss.cli.eval.plan.opened import LinearLayer
from fastloss.cli.eval.plan.plan import Plan
from fastloss.cli.eval.stats.sums import Value
from fastloss.cli.failure import printable
from fastloss.cli.files import shape_text

from .figures import Figures

LEVEL = "95 %"  # of the confidence intervals
_SHOWN_OUTPUTS, _SHOWN_GROUPS = 8, 40


def document(plan: Plan, figures: Figures, args: argparse.Namespace, n_resumed: int) -> dict[str, Any]:
    """All of the result, as what `--json` prints."""
    opened = plan.first
    rows = figures.rows + figures.ignored
    output = {
        "fastloss": library.version(),
        "loss": opened.loss.name if opened.has_targets else None,
        "guessed": opened.reason is not None,
        "reason": opened.reason,
        "reduction": opened.reduction,
        "value": figures.value,
        "mean": figures.mean,
        "perplexity": figures.perplexity,
        "accuracy": figures.accuracy,
        "correct": figures.correct,
        "mse": figures.mse,
        "rmse": figures.rmse,
        "mae": figures.mae,
        "rows_counted": figures.rows,
        "rows_ignored": figures.ignored,
        "elements": figures.elements,
        "seconds": figures.seconds,
        "rows_per_second": _rate(rows, figures.seconds),
        "gigabytes_per_second": _rate(_n_bytes(plan) / 1e9, figures.seconds),
        "axis": opened.axis,
        "ignore_index": opened.ignore_index if opened.loss.ignores else None,
        "label_smoothing": opened.label_smoothing if opened.loss.smooths else None,
        "chunk_size": args.chunk_size,
        "backend": library.backend_in_use(),
        "threads": library.n_threads(),
        "predictions": _described(*_input(plan, "predictions", args)),
        "targets": _described(*_input(plan, "targets", args)) if opened.has_targets else None,
        "weight": None if (w := plan.weight) is None else _described(w.name, w.array.dtype, w.array.shape),
        "output": args.output,
        "shards": len(plan.shards),
    }
    output |= _layer_described(opened.layer)
    # These are there only where they were asked for.
    if args.top_k is not None:
        output |= {
            "top_k": args.top_k,
            "top_k_accuracy": figures.top_k_accuracy,
            "top_k_correct": figures.top_k_correct,
        }
    if figures.n_bytes is not None:
        output |= {"bits_per_byte": figures.bits_per_byte, "bytes": figures.n_bytes}
    if figures.documents is not None:
        output["documents"] = {"file": args.documents} | figures.documents
    output |= {
        name: value for name in ("brier", "entropy", "calibration") if (value := getattr(figures, name)) is not None
    }
    if figures.intervals:
        asked = {"level": 0.95, "resamples": args.bootstrap, "seed": args.seed, "unit": args.resample}
        output["intervals"] = asked | figures.intervals
    if figures.groups is not None:
        output["groups"] = figures.groups
    if figures.macro is not None:
        output["macro"] = figures.macro
    if figures.against is not None:
        of_layer = {} if opened.reference_layer is opened.layer else _layer_described(opened.reference_layer)
        output["against"] = _described(*_input(plan, "reference", args)) | of_layer | figures.against
    output |= {
        option: value
        for option in ("workers", "scheduler", "per_sample", "per_document", "report")
        if (value := getattr(args, option)) is not None
    }
    if args.resume:
        output["pieces_resumed"] = n_resumed
    return output


def text(plan: Plan, figures: Figures, args: argparse.Namespace) -> str:
    """The result as aligned lines: what was read, what came out, how fast."""
    opened = plan.first
    rows = figures.rows + figures.ignored
    inputs = ["predictions", *(["targets"] if opened.has_targets else []), *(["reference"] if figures.against else [])]
    lines = [(name, _input_text(*_input(plan, name, args))) for name in inputs]
    if len(plan.shards) > 1:
        lines.append(("shards", str(len(plan.shards))))
    if plan.weight is not None:
        lines.append(("weight", _input_text(plan.weight.name, plan.weight.array.dtype, plan.weight.array.shape)))
    if (layer := opened.layer) is not None:
        lines.append(("layer", _input_text(layer.weight.name, layer.weight.array.dtype, layer.weight.array.shape)))
    if (own := opened.reference_layer) is not None and own is not layer:
        lines.append(("its layer", _input_text(own.weight.name, own.weight.array.dtype, own.weight.array.shape)))
    lines += _loss_lines(plan, figures, args) if opened.has_targets else []
    lines += [(name, value) for name, value in _derived(figures, args)]
    lines += [] if figures.macro is None else _macro_lines(figures.macro, args.top_k)
    lines += [] if figures.against is None else _compared(figures, args)
    lines.append(("rows", f"{figures.rows} counted, {figures.ignored} ignored"))
    rates = f"{_rate(rows, figures.seconds):.3g} rows/s, {_rate(_n_bytes(plan) / 1e9, figures.seconds):.3g} GB/s"
    lines.append(("speed", f"{rates} ({figures.seconds:.3g} s)"))
    written = {"losses": args.per_sample, "documents": args.per_document, "report": args.report}
    for name, path in written.items():
        if path is not None:
            lines.append((name, f"written to {printable(path)}"))
    width = max(len(name) for name, _ in lines) + 2
    shown = "\n".join(f"{name:<{width}}{value}" for name, value in lines)
    return shown if figures.groups is None else f"{shown}\n\n{_group_table(figures.groups, args.top_k)}"


def _loss_lines(plan: Plan, figures: Figures, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Which loss it is, and what it came to."""
    opened = plan.first
    yield (
        "loss",
        f"{opened.loss.name} (guessed: {opened.reason}; --loss overrides)" if opened.reason else opened.loss.name,
    )
    if opened.loss.family == "classes" and args.axis is None and opened.layer is None:
        other = other_axis(opened.predictions.array.shape, opened.targets.array.shape, opened.axis or 0)
        if other is not None:
            yield "class axis", f"{opened.axis} (--axis {other} would fit, too)"
    if opened.reduction == "none":
        written = f"(mean; each written to {printable(args.output or '')})"
        yield opened.loss.name, f"{_number(figures.mean)} {written}"
    else:
        yield opened.loss.name, f"{_number(figures.value)} ({opened.reduction})"


def _derived(figures: Figures, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """What follows from the mean loss, and what is counted beside it."""
    ends = {name: f", {LEVEL} in [{low:.6g}, {high:.6g}]" for name, (low, high) in figures.intervals.items()}
    if ends:
        yield "interval", f"mean{ends['mean']} ({args.bootstrap} resamples by {args.resample}, seed {args.seed})"
    if figures.perplexity is not None:
        yield "perplexity", _number(figures.perplexity) + ends.get("perplexity", "")
    of = figures.rows if figures.elements is None else figures.elements
    if figures.accuracy is not None:
        yield "accuracy", f"{_number(figures.accuracy)} ({figures.correct} of {of})" + ends.get("accuracy", "")
    if figures.top_k_accuracy is not None:
        counts = f"({figures.top_k_correct} of {of})"
        yield f"top-{args.top_k}", f"{_number(figures.top_k_accuracy)} {counts}" + ends.get("top_k_accuracy", "")
    if figures.n_bytes is not None:
        shown = f"{_number(figures.bits_per_byte)} ({figures.n_bytes} bytes)"
        yield "bits per byte", shown + ends.get("bits_per_byte", "")
    if figures.brier is not None:
        yield "Brier score", _number(figures.brier) + ends.get("brier", "")
    if figures.entropy is not None:
        yield "entropy", _number(figures.entropy) + ends.get("entropy", "")
    if (found := figures.calibration) is not None:
        yield "calibration", f"ECE {found['ece']:.6g}, MCE {found['mce']:.6g} ({found['bins']} bins)"
    if figures.documents is not None:
        yield from _of_documents(figures.documents)
    for name, value in (("MSE", figures.mse), ("RMSE", figures.rmse), ("MAE", figures.mae)):
        if value is not None:
            yield name, _number(value)


def _macro_lines(found: dict[str, Any], top_k: int | None) -> list[tuple[str, str]]:
    """The mean over groups or shards, each of the same weight."""
    names = [name for name in found if name not in ("unit", "units", "intervals")]
    shown = ", ".join(f"{_column(name, top_k)} {found[name]:.6g}" for name in names)
    lines = [("macro average", f"{shown} ({found['units']} {found['unit']}s)")]
    if "intervals" in found:
        first = names[0]
        low, high = found["intervals"][first]
        lines.append(("interval", f"macro {_column(first, top_k)}, {LEVEL} in [{low:.6g}, {high:.6g}]"))
    return lines


def _of_documents(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Means over documents."""
    yield "documents", f"{found['documents']}, greedy {found['is_greedy']:.6g} ({found['greedy_count']})"
    forms = [("sum", "log_prob"), ("per token", "log_prob_per_token"), ("per byte", "log_prob_per_byte")]
    shown = ", ".join(f"{found[name]:.9g} {form}" for form, name in forms if name in found)
    yield "log-prob", f"{shown} (means over documents)"


# What the lines of the figures of both models are called.
_BOTH = {"mean": "mean", "perplexity": "perplexity", "accuracy": "accuracy", "top_k_accuracy": "top-{}"}


def _compared(figures: Figures, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """How the predictions differ from what they are compared with."""
    found = figures.against or {}
    intervals, better = found.get("intervals", {}), found.get("better", {})

    def ends(interval: Sequence[float] | None) -> str:
        return "" if interval is None else f", {LEVEL} in [{interval[0]:.6g}, {interval[1]:.6g}]"

    for name, shown in _BOTH.items():
        if name not in found.get("difference", {}):
            continue
        text = f"{found['difference'][name]:+.6g} from {found['reference'][name]:.9g} of the reference"
        text += ends(intervals.get("difference", {}).get(name))
        if name in better:
            text += f", better in {better[name]:.1%} of resamples"
        yield f"Δ {shown.format(args.top_k)}", text
    if "log_perplexity_ratio" in found:
        ratio = found["log_perplexity_ratio"]
        yield "ln PPL ratio", f"{ratio:+.6g}{ends(intervals.get('log_perplexity_ratio'))}"
    kl = found["kl"]
    yield "KL divergence", f"{kl['mean']:.6g} (mean){ends(intervals.get('kl'))}"
    shares = (("median", "median"), ("90 %", "p90"), ("95 %", "p95"), ("99 %", "p99"), ("99.9 %", "p99_9"))
    spread = ", ".join(f"{name} {kl[key]:.4g}" for name, key in (*shares, ("maximum", "maximum")))
    yield "KL quantiles", spread
    if "delta_p" in found:
        change = found["delta_p"]
        rms = f", RMS {change['rms']:.6g}{ends(intervals.get('delta_p_rms'))}"
        yield "Δp", f"{change['mean']:+.6g} (mean){ends(intervals.get('delta_p'))}{rms}"
    same = f"{found['same_argmax']:.9g} ({found['same_argmax_count']} of {figures.rows})"
    yield "same arg max", same + ends(intervals.get("same_argmax"))


def group_columns(groups: list[dict[str, Any]], top_k: int | None) -> list[str]:
    """What the columns of a table of groups are called."""
    return [_column(name, top_k) for name in groups[0]]


def group_cells(entry: dict[str, Any], number: Callable[[float], str]) -> list[str]:
    """A row of that table: what is in its cells; of the intervals that of the first figure."""
    cells = []
    for name, value in entry.items():
        if name == "intervals":
            low, high = next(iter(value.values()))
            cells.append(f"{number(low)} to {number(high)}")
        else:
            cells.append(number(value) if isinstance(value, float) else str(value))
    return cells


def _column(name: str, top_k: int | None) -> str:
    if name == "intervals":
        return LEVEL
    return f"top-{top_k}" if name == "top_k_accuracy" else name.replace("_", " ")


def _group_table(groups: list[dict[str, Any]], top_k: int | None) -> str:
    """Aligned columns, numbers to the right."""
    names = group_columns(groups, top_k)
    cells = [names]
    for entry in groups[:_SHOWN_GROUPS]:
        cells.append([printable(cell) for cell in group_cells(entry, "{:.6g}".format)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    rest = len(groups) - _SHOWN_GROUPS
    return "\n".join([*lines, f"... ({rest} more groups; --json gives all)"] if rest > 0 else lines)


def _rate(amount: float, seconds: float) -> float:
    return amount / max(seconds, 1e-9)  # a clock may not have moved


def _n_bytes(plan: Plan) -> int:
    weight = 0 if plan.weight is None else plan.weight.array.nbytes
    layers = {id(layer): layer for layer in (plan.first.layer, plan.first.reference_layer) if layer is not None}
    weight += sum(layer.n_bytes for layer in layers.values())
    return weight + sum(shard.n_bytes for shard in plan.shards)


def _input(plan: Plan, which: str, args: argparse.Namespace) -> tuple[str, Any, list[int] | None]:
    """Predictions or targets: their name, dtype, and the shape of all shards as one, if they would make one."""
    parts = [getattr(shard, which) for shard in plan.shards]
    dtypes, shapes = sorted({dtype for dtype, _ in parts}), [shape for _, shape in parts]
    if len(parts) == 1:
        return getattr(plan.first, which).name, dtypes[0], shapes[0]
    alike = len({tuple(shape[1:]) for shape in shapes}) == 1 and all(shapes)
    whole = [sum(shape[0] for shape in shapes), *shapes[0][1:]] if alike else None
    return getattr(args, {"reference": "against"}.get(which, which)) or args.manifest, ", ".join(dtypes), whole


def _described(name: str, dtype: Any, shape: Sequence[int] | None) -> dict[str, Any]:
    return {"file": name, "dtype": str(dtype), "shape": None if shape is None else list(shape)}


def _layer_described(layer: LinearLayer | None) -> dict[str, Any]:
    named = {} if layer is None else {"linear_weight": layer.weight, "linear_bias": layer.bias}
    return {
        name: _described(source.name, source.array.dtype, source.array.shape)
        for name, source in named.items()
        if source is not None
    }


def _input_text(name: str, dtype: Any, shape: Sequence[int] | None) -> str:
    return f"{printable(name)} ({dtype}, {'various shapes' if shape is None else shape_text(shape)})"


def _number(value: Value | None) -> str:
    assert value is not None
    if np.ndim(value) == 0:
        return f"{value:.9g}"
    numbers = np.ravel(value)
    rest = f" ... ({numbers.size} outputs; --json gives all)" if numbers.size > _SHOWN_OUTPUTS else ""
    return " ".join(f"{number:.9g}" for number in numbers[:_SHOWN_OUTPUTS]) + rest
