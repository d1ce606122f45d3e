"""From the sums of a run to its figures."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

import numpy as np

from fastloss.cli.eval.plan.opened import Opened
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.eval.stats.sums import Sums, Value

from .parts import groups_of, macro_of, resampled


@dataclass(frozen=True)
class Figures:
    """The result; None where a figure does not apply to the loss or was not asked for.

    `value` is what the reduction asked for (None for "none"), `mean` the mean loss in any case. Of each group `groups`
    has a dictionary, `intervals` the ends of each figure's confidence interval. `against` says how another model differs,
    `documents` the means over documents, `macro` those over groups or shards; `calibration` has the errors and the bins.
    """

    value: Value | None
    mean: Value
    perplexity: float | None
    accuracy: float | None
    correct: int | None
    top_k_accuracy: float | None
    top_k_correct: int | None
    mse: Value | None
    rmse: Value | None
    mae: Value | None
    rows: int
    ignored: int
    elements: int | None
    seconds: float
    groups: list[dict[str, Any]] | None = None
    intervals: dict[str, list[float]] = field(default_factory=dict)
    against: dict[str, Any] | None = None
    bits_per_byte: float | None = None
    n_bytes: int | None = None
    documents: dict[str, Any] | None = None
    brier: float | None = None
    entropy: float | None = None
    calibration: dict[str, Any] | None = None
    macro: dict[str, Any] | None = None


@np.errstate(all="ignore")
def figures_of(
    opened: Opened,
    state: State,
    measures: Measures,
    n_rows: int,
    group_names: list[Any] | None,
    table: dict[str, np.ndarray] | None,
    seconds: float,
) -> Figures:
    """The figures of a run over `n_rows` rows that ended in `state`; `table` is that of the documents."""
    sums = state.sums
    against = None
    if measures.against:
        from fastloss.cli.eval.stats.against import figures_against

        against = figures_against(state, measures, opened.has_targets)
    if not opened.has_targets:
        unknown = dict.fromkeys((f.name for f in fields(Figures) if f.default is MISSING), None)
        known = {"rows": sums.counted("counted"), "ignored": 0, "seconds": seconds, "against": against}
        groups = groups_of(opened, state, measures, group_names) if group_names is not None else None
        return Figures(
            **unknown | known | {"groups": groups, "intervals": {}, "macro": macro_of(opened, state, measures)}
        )
    loss, mean = _shaped(opened, sums.total("loss")), _mean(opened, sums)
    if opened.loss.name == "rmse_loss":
        loss = _shaped(opened, sums.root(None))  # as the library: the root of the sum
    classes, counts = opened.loss.family == "classes", opened.loss.family in ("classes", "binary")
    counted = sums.counted("counted")
    divisor = "divisor" if "divisor" in sums else "counted"
    mse, mae = (_shaped(opened, sums.mean(name, divisor)) if name in sums else None for name in ("squared", "absolute"))
    rmse = None if mse is None else _shaped(opened, sums.root(divisor))
    if rmse is not None and ("squared_huge" in sums or "squared_tiny" in sums):
        mse = np.square(rmse)
    top_k = measures.top_k is not None
    documents = None
    if table is not None:
        from fastloss.cli.eval.stats.documents import summary

        documents = summary(table)
    has_bytes = measures.n_bytes is not None
    return Figures(
        value={"mean": mean, "sum": loss, "none": None}[opened.reduction],
        mean=mean,
        perplexity=float(np.exp(mean)) if opened.loss.likelihood else None,
        accuracy=float(sums.mean("correct", "counted")) if counts else None,
        correct=sums.counted("correct") if counts else None,
        top_k_accuracy=float(sums.mean("in_top_k", "counted")) if top_k else None,
        top_k_correct=sums.counted("in_top_k") if top_k else None,
        mse=mse,
        rmse=rmse,
        mae=mae,
        rows=counted if classes else n_rows,
        ignored=sums.counted("ignored"),
        elements=None if classes else counted,
        seconds=seconds,
        groups=groups_of(opened, state, measures, group_names) if group_names is not None else None,
        intervals=_intervals(opened, state, measures) if measures.resampling is not None else {},
        against=against,
        bits_per_byte=_bits(sums) if has_bytes else None,
        n_bytes=int(sums.total("n_bytes")) if has_bytes else None,
        documents=documents,
        brier=float(sums.mean("brier", "counted")) if measures.brier else None,
        entropy=float(sums.mean("entropy", "counted")) if measures.entropy else None,
        calibration=_calibration(state) if measures.bins is not None else None,
        macro=macro_of(opened, state, measures),
    )


def _bits(sums: Sums) -> float:
    """Bits per byte of text."""
    return float(sums.mean("loss", "n_bytes")) / math.log(2.0)


def _shaped(opened: Opened, value: Value) -> Value:
    """One figure for each output where those are apart."""
    return np.reshape(value, opened.layout.shape[1:]) if opened.per_output else value


def _mean(opened: Opened, sums: Sums) -> Value:
    divisor = "divisor" if "divisor" in sums else "counted"
    mean = sums.root(divisor) if opened.loss.name == "rmse_loss" else sums.mean("loss", divisor)
    return _shaped(opened, mean)


def _intervals(opened: Opened, state: State, measures: Measures) -> dict[str, list[float]]:
    """Of the mean and what follows from it, the ends of the confidence interval."""
    from fastloss.cli.eval.stats.bootstrap import interval

    in_each = resampled(opened, state.parts["bootstrap"].whole(), replace(measures, against=False))
    return {name: interval(values) for name, values in in_each.items()}


def _calibration(state: State) -> dict[str, Any]:
    """Both calibration errors, and the bins that hold anything."""
    calibration = state.parts["calibration"]
    bins = calibration.bins()
    n = len(bins)
    table = [
        {"low": i / n, "high": (i + 1) / n, "counted": count, "probability": given, "outcome": share}
        for i, (count, given, share) in enumerate(bins)
        if count
    ]
    errors = {"ece": calibration.error(), "mce": calibration.maximum()}
    return {"bins": n} | {name: math.nan if e is None else e for name, e in errors.items()} | {"table": table}
