"""The state of a run: what was asked for, added up so far. A few kilobytes, whatever has been added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .sums import Place, Rows, Sums


@dataclass(frozen=True)
class Measures:
    """What is wanted beside loss and accuracy.

    Parameters
    ----------
    top_k : int or None
        Count targets among the k largest scores.
    groups, report : bool
        Sums for each group; what the report page shows.
    resampling : Resampling or None
        Of the bootstrap.
    losses : bool
        Single losses are written down.
    against : bool
        The rows are compared with another model's.
    documents : bool
        Sums for each document.
    n_bytes : {"row", "unit"} or None
        Bytes of text are counted: those of each row, if it is not ignored, or of whole documents, samples or shards.
    brier, entropy : bool
        Brier scores, and entropies.
    bins : int or None
        Of the calibration.
    macro : {"group", "shard"} or None
        What has the same weight in a second mean, however many rows it has.
    group_intervals : bool
        Sums of the resamples are kept for each group.
    """

    top_k: int | None = None
    groups: bool = False
    report: bool = False
    resampling: Any = None
    losses: bool = False
    against: bool = False
    documents: bool = False
    n_bytes: str | None = None
    brier: bool = False
    entropy: bool = False
    bins: int | None = None
    macro: str | None = None
    group_intervals: bool = False

    @property
    def rows(self) -> bool:
        """Whether single losses are looked at."""
        return (
            self.groups
            or self.report
            or self.resampling is not None
            or self.against
            or self.documents
            or self.bins is not None
            or self.macro is not None
        )


class State:
    """Sums, and the statistics that `measures` asks for."""

    def __init__(self, measures: Measures) -> None:
        self.sums = Sums()
        self.parts: dict[str, Any] = {name: make() for name, (make, _) in _kinds(measures).items()}

    def add(self, rows: Rows, place: Place) -> None:
        """Add single losses to all statistics but the sums."""
        for block, where in rows.blocks(place):
            for part in self.parts.values():
                part.add(block, where)

    def merge(self, other: State) -> None:
        """Add what another state, of the same measures, has."""
        self.sums.merge(other.sums)
        for name, part in self.parts.items():
            part.merge(other.parts[name])

    def to_json(self) -> Any:
        return {"sums": self.sums.to_json()} | {name: part.to_json() for name, part in self.parts.items()}

    @classmethod
    def from_json(cls, data: Any, measures: Measures) -> State:
        new = cls(measures)
        new.sums = Sums.from_json(data["sums"])
        new.parts = {name: read(data[name]) for name, (_, read) in _kinds(measures).items()}
        return new


def _kinds(measures: Measures) -> dict[str, tuple[Any, Any]]:
    """Of each statistic how it is made, and made from JSON. Only what is wanted is imported."""
    kinds: dict[str, tuple[Any, Any]] = {}
    if measures.groups:
        from .groups import GroupSums

        kinds["groups"] = GroupSums, GroupSums.from_json
    if measures.report:
        from .distribution import Histogram, Worst

        kinds |= {
            "histogram": (Histogram, Histogram.from_json),
            "worst": (Worst, Worst.from_json),
        }
    if measures.report and measures.against:
        from .distribution import Changes, DivergenceHistogram, MostChanged

        kinds |= {
            "divergence_histogram": (DivergenceHistogram, DivergenceHistogram.from_json),
            "changes": (Changes, Changes.from_json),
            "most_changed": (MostChanged, MostChanged.from_json),
        }
    if measures.report or measures.bins is not None:
        from .distribution import BINS, Calibration

        n_bins = measures.bins or BINS
        kinds["calibration"] = (lambda: Calibration(n_bins)), Calibration.from_json
    if measures.macro == "shard":
        from .groups import ShardSums

        kinds["shards"] = ShardSums, ShardSums.from_json
    if measures.documents:
        from .documents import DocumentSums

        kinds["documents"] = DocumentSums, DocumentSums.from_json
    if measures.against:
        from .against import Divergences

        kinds["divergences"] = Divergences, Divergences.from_json
    if resampling := measures.resampling:
        from .bootstrap import Bootstrap, GroupedBootstrap

        kind = GroupedBootstrap if measures.group_intervals else Bootstrap
        kinds["bootstrap"] = (lambda: kind(resampling)), (lambda data: kind.from_json(data, resampling))
    return kinds
