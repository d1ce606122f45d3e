"""Figures of parts of the data, groups or shards: of each, with its intervals, and their mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastloss.cli.eval.plan.opened import Opened
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.eval.stats.sums import Sums

# What is not averaged over groups: names, counts, intervals, and what follows from a mean.
_NOT_AVERAGED = ("group", "counted", "intervals", "perplexity")


def entry_of(opened: Opened, sums: Sums, measures: Measures) -> dict[str, Any]:
    """The figures of a part: mean loss, what follows from it, and how much was counted."""
    if not opened.has_targets:
        found = {"kl": float(sums.mean("kl", "counted")), "same_argmax": float(sums.mean("same", "counted"))}
        return found | {"counted": sums.counted("counted")}
    divisor = "divisor" if "divisor" in sums else "counted"
    mean = sums.root(divisor) if opened.loss.name == "rmse_loss" else sums.mean("loss", divisor)
    found = {"mean": float(mean)}
    if opened.loss.likelihood:
        found["perplexity"] = float(np.exp(mean))
    if opened.loss.family in ("classes", "binary"):
        found["accuracy"] = float(sums.mean("correct", "counted"))
    if measures.top_k is not None:
        found["top_k_accuracy"] = float(sums.mean("in_top_k", "counted"))
    if measures.n_bytes is not None:
        found["bits_per_byte"] = float(sums.mean("loss", "n_bytes")) / math.log(2.0)
    for name in ("brier", "entropy"):
        if getattr(measures, name):
            found[name] = float(sums.mean(name, "counted"))
    if measures.against:
        reference = float(sums.mean("reference_loss", "counted"))
        found |= {"reference": reference, "difference": found["mean"] - reference}
        found |= {"kl": float(sums.mean("kl", "counted"))}
    return found | {"counted": sums.counted("counted")}


def resampled(opened: Opened, bootstrap: Any, measures: Measures) -> dict[str, np.ndarray]:
    """The same figures in each resample."""
    if not opened.has_targets:
        return {"kl": bootstrap.means("kl", "counted"), "same_argmax": bootstrap.means("same", "counted")}
    means = bootstrap.means("loss", "divisor" if "divisor" in bootstrap else "counted")
    found = {"mean": np.sqrt(means) if opened.loss.name == "rmse_loss" else means}
    if opened.loss.likelihood:
        found["perplexity"] = np.exp(means)
    columns = [("accuracy", "correct"), ("top_k_accuracy", "in_top_k"), ("brier", "brier"), ("entropy", "entropy")]
    found |= {name: bootstrap.means(column, "counted") for name, column in columns if column in bootstrap}
    if measures.n_bytes is not None:
        found["bits_per_byte"] = bootstrap.means("loss", "n_bytes") / math.log(2.0)
    if measures.against:
        found["reference"] = bootstrap.means("reference_loss", "counted")
        found |= {"difference": found["mean"] - found["reference"], "kl": bootstrap.means("kl", "counted")}
    return found


def groups_of(opened: Opened, state: State, measures: Measures, names: list[Any]) -> list[dict[str, Any]]:
    """Of each group that occurs: its name and figures, and their intervals where those are kept."""
    found = []
    for code, sums in sorted(state.parts["groups"].groups.items()):
        entry = {"group": names[code]} | entry_of(opened, sums, measures)
        if measures.group_intervals:
            from fastloss.cli.eval.stats.bootstrap import interval

            in_each = resampled(opened, state.parts["bootstrap"].groups[code], measures)
            entry["intervals"] = {name: interval(values) for name, values in in_each.items()}
        found.append(entry)
    return found


def macro_of(opened: Opened, state: State, measures: Measures) -> dict[str, Any] | None:
    """The mean of each figure over groups or shards in which anything was counted, each of the same weight.

    The perplexity is that of the macro mean.  Intervals are there where groups or shards are what is drawn, or where each group has
    intervals of its own.
    """
    unit = measures.macro
    if unit is None:
        return None
    parts = sorted(state.parts[f"{unit}s"].groups.items())
    entries = {code: entry for code, sums in parts if (entry := entry_of(opened, sums, measures))["counted"]}
    found: dict[str, Any] = {"unit": unit, "units": len(entries)}
    if not entries:
        return found
    names = [name for name in next(iter(entries.values())) if name not in _NOT_AVERAGED]
    found |= {name: _mean([entry[name] for entry in entries.values()]) for name in names}
    in_each: dict[str, np.ndarray] = {}
    if measures.resampling is not None and measures.resampling.unit == unit:
        from fastloss.cli.eval.stats.bootstrap import frequencies

        drawn = frequencies(np.array(list(entries)), measures.resampling)
        in_each = {name: np.array([entry[name] for entry in entries.values()]) @ drawn / drawn.sum(0) for name in names}
    elif unit == "group" and measures.group_intervals:
        each = [resampled(opened, state.parts["bootstrap"].groups[code], measures) for code in entries]
        in_each = {name: _means([values[name] for values in each]) for name in names}
    if opened.has_targets and opened.loss.likelihood:
        found["perplexity"] = float(np.exp(found["mean"]))
        if in_each:
            in_each["perplexity"] = np.exp(in_each["mean"])
    if in_each:
        from fastloss.cli.eval.stats.bootstrap import interval

        found["intervals"] = {name: interval(values) for name, values in in_each.items()}
    return found


def _mean(values: list[float]) -> float:
    """The mean, rounded in a way that does not depend on the order; NaN where something is unknown."""
    if not all(map(math.isfinite, values)):
        return float(np.sum(values))
    return math.fsum(values) / len(values)


def _means(values: list[np.ndarray]) -> np.ndarray:
    """In each resample the mean over groups of which it drew anything."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    return np.where(known, stacked, 0.0).sum(axis=0) / known.sum(axis=0)
