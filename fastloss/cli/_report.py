"""The result as a person reads it, and as a program does."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

from . import _library
from ._evaluate import Figures, Value
from ._failure import printable
from ._files import Source, shape_text
from ._job import Job

_SHOWN_OUTPUTS = 8


def as_json(document: dict[str, Any]) -> str:
    """One line of strict JSON. A number that is not finite becomes "NaN", "Infinity" or "-Infinity"."""
    return json.dumps(_plain(document), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def document(job: Job, figures: Figures, chunk_rows: int | None, output: str | None) -> dict[str, Any]:
    """All of the result, as what `--json` prints."""
    rows = figures.rows + figures.ignored
    return {
        "fastloss": _library.version(),
        "loss": job.loss.name,
        "guessed": job.reason is not None,
        "reason": job.reason,
        "reduction": job.reduction,
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
        "gigabytes_per_second": _rate(job.n_bytes / 1e9, figures.seconds),
        "axis": job.axis,
        "ignore_index": job.ignore_index if job.loss.ignores else None,
        "label_smoothing": job.label_smoothing if job.loss.smooths else None,
        "chunk_size": chunk_rows,
        "backend": _library.backend_in_use(),
        "threads": _library.n_threads(),
        "predictions": _described(job.predictions),
        "targets": _described(job.targets),
        "weight": _described(job.weight),
        "output": output,
    }


def text(job: Job, figures: Figures, output: str | None) -> str:
    """The result as aligned lines: what was evaluated, what came out, how fast."""
    rows = figures.rows + figures.ignored
    chosen = f"{job.loss.name} (guessed: {job.reason}; --loss overrides)" if job.reason else job.loss.name
    lines = [("predictions", _source_text(job.predictions)), ("targets", _source_text(job.targets))]
    if job.weight is not None:
        lines.append(("weight", _source_text(job.weight)))
    lines.append(("loss", chosen))
    if job.reduction == "none":
        lines.append((job.loss.name, f"{_number(figures.mean)} (mean; each written to {printable(output or '')})"))
    else:
        lines.append((job.loss.name, f"{_number(figures.value)} ({job.reduction})"))
    if figures.perplexity is not None:
        lines.append(("perplexity", _number(figures.perplexity)))
    if figures.accuracy is not None:
        of = figures.rows if figures.elements is None else figures.elements
        lines.append(("accuracy", f"{_number(figures.accuracy)} ({figures.correct} of {of})"))
    for name, value in (("MSE", figures.mse), ("RMSE", figures.rmse), ("MAE", figures.mae)):
        if value is not None:
            lines.append((name, _number(value)))
    lines.append(("rows", f"{figures.rows} counted, {figures.ignored} ignored"))
    rates = f"{_rate(rows, figures.seconds):.3g} rows/s, {_rate(job.n_bytes / 1e9, figures.seconds):.3g} GB/s"
    lines.append(("speed", f"{rates} ({figures.seconds:.3g} s)"))
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines)


def show(line: str) -> None:
    """Print to stdout, escaping what its encoding lacks: a file's name must not end in a traceback."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _rate(amount: float, seconds: float) -> float:
    return amount / max(seconds, 1e-9)  # a clock may not have moved


def _described(source: Source | None) -> dict[str, Any] | None:
    if source is None:
        return None
    return {"file": source.name, "dtype": str(source.array.dtype), "shape": list(source.array.shape)}


def _source_text(source: Source) -> str:
    return f"{printable(source.name)} ({source.array.dtype}, {shape_text(source.array.shape)})"


def _number(value: Value | None) -> str:
    assert value is not None
    if np.ndim(value) == 0:
        return f"{value:.9g}"
    numbers = np.ravel(value)
    rest = f" ... ({numbers.size} outputs; --json gives all)" if numbers.size > _SHOWN_OUTPUTS else ""
    return " ".join(f"{number:.9g}" for number in numbers[:_SHOWN_OUTPUTS]) + rest
