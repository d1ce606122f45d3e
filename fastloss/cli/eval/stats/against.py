"""One model against another on the same rows: how far apart their distributions are, and what the sums of both come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .state import Measures, State
from .sums import Place, Rows

# A divergence's bucket is the top of its float64 pattern: exponent and ten bits of mantissa, so buckets are 0.1 % wide.
_DROPPED = 42

QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


class Divergences:
    """Counts of divergences in buckets of about 0.1 % width, and the largest."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.high = -math.inf

    def add(self, rows: Rows, place: Place) -> None:
        assert rows.kl is not None
        kl = (rows.kl if rows.counted is None else rows.kl[rows.counted]).astype(np.float64)
        for key, count in zip(*np.unique(kl.view(np.int64) >> _DROPPED, return_counts=True), strict=True):
            self._add(int(key), int(count))
        self.high = max(self.high, float(kl.max(initial=-math.inf)))

    def _add(self, key: int, count: int) -> None:
        self.counts[key] = self.counts.get(key, 0) + count

    def merge(self, other: Divergences) -> None:
        for key, count in other.counts.items():
            self._add(key, count)
        self.high = max(self.high, other.high)

    def quantile(self, share: float) -> float:
        """The least divergence that so many of the rows do not exceed: the middle of its bucket."""
        wanted = share * sum(self.counts.values())
        seen = 0
        for key, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                low, next_one = (float(np.int64(top << _DROPPED).view(np.float64)) for top in (key, key + 1))
                middle = low if key == 0 or math.isinf(low) else 0.5 * low + 0.5 * next_one
                return min(middle, self.high)
        return math.nan

    def to_json(self) -> Any:
        return [{str(key): count for key, count in self.counts.items()}, self.high]

    @classmethod
    def from_json(cls, data: Any) -> Divergences:
        new = cls()
        counts, new.high = data
        new.counts = {int(key): count for key, count in counts.items()}
        return new


@np.errstate(all="ignore")
def figures_against(state: State, measures: Measures, has_targets: bool) -> dict[str, Any]:
    """What is known of both models beside the new one's own figures."""
    sums, divergences = state.sums, state.parts["divergences"]
    kl = {"mean": float(sums.mean("kl", "counted"))}
    kl |= {name: divergences.quantile(share) for name, share in QUANTILES.items()}
    found: dict[str, Any] = {
        "kl": kl | {"maximum": divergences.high if divergences.counts else math.nan},
        "same_argmax": float(sums.mean("same", "counted")),
        "same_argmax_count": sums.counted("same"),
    }
    if has_targets:
        # of each figure: the reference's, and how much the new one's is above it
        pairs: dict[str, tuple[Any, Any]] = {
            "mean": (sums.mean("loss", "counted"), sums.mean("reference_loss", "counted")),
            "accuracy": (sums.mean("correct", "counted"), sums.mean("reference_correct", "counted")),
        }
        if measures.top_k is not None:
            pairs["top_k_accuracy"] = sums.mean("in_top_k", "counted"), sums.mean("reference_in_top_k", "counted")
        new, old = pairs["mean"]
        pairs["perplexity"] = float(np.exp(new)), float(np.exp(old))
        found |= {
            "reference": {name: float(old) for name, (_, old) in pairs.items()},
            "difference": {name: float(new - old) for name, (new, old) in pairs.items()},
            "log_perplexity_ratio": float(np.subtract(*pairs["mean"])),
            "delta_p": {
                "mean": float(sums.mean("delta_p", "counted")),
                "rms": math.sqrt(sums.mean("delta_p_squared", "counted")),
            },
        }
    if measures.resampling is not None:
        found |= _resampled(state.parts["bootstrap"].whole(), measures, has_targets)
    return found


def _resampled(bootstrap: Any, measures: Measures, has_targets: bool) -> dict[str, Any]:
    """Paired intervals: in each resample both models have the same rows; and how often the new one is better."""
    from .bootstrap import interval

    def means(name: str) -> np.ndarray:
        return bootstrap.means(name, "counted")

    intervals: dict[str, Any] = {"kl": interval(means("kl")), "same_argmax": interval(means("same"))}
    if not has_targets:
        return {"intervals": intervals}
    new, old = means("loss"), means("reference_loss")
    differences = {"mean": new - old, "perplexity": np.exp(new) - np.exp(old)}
    differences["accuracy"] = means("correct") - means("reference_correct")
    if measures.top_k is not None:
        differences["top_k_accuracy"] = means("in_top_k") - means("reference_in_top_k")
    intervals |= {
        "difference": {name: interval(values) for name, values in differences.items()},
        "log_perplexity_ratio": interval(new - old),
        "delta_p": interval(means("delta_p")),
        "delta_p_rms": interval(np.sqrt(means("delta_p_squared"))),
    }
    better = {
        name: _share(values < 0 if name in ("mean", "perplexity") else values > 0, values)
        for name, values in differences.items()
    }
    return {"intervals": intervals, "better": better}


def _share(better: np.ndarray, values: np.ndarray) -> float:
    """Of the resamples in which something was counted."""
    known = ~np.isnan(values)
    return float(np.count_nonzero(better & known) / np.count_nonzero(known)) if known.any() else math.nan
