"""A run's plan: its shards, and the pieces they are cut into. A piece's result depends on its data and options alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fastloss.cli.eval.stats.state import Measures
from fastloss.cli.eval.stats.sums import Place
from fastloss.cli.files import Source
from fastloss.cli.files.shards import Shard

from .opened import Opened, Part, Request, open_shard, weighted


@dataclass(frozen=True)
class Surveyed:
    """A shard that has been looked at: where it lies in the whole, its pieces, and what tells whether it has changed."""

    shard: Shard
    shape: tuple[int, ...]  # of its losses
    predictions: tuple[str, list[int]]  # dtype and shape
    targets: tuple[str, list[int]]
    n_bytes: int
    n_rows: int  # as progress and --chunk-size count them
    first_loss: int
    first_sample: int
    bounds: list[int]  # of the pieces, in slices
    losses_per_slice: int
    losses_per_sample: int
    dtype: np.dtype | None  # of its losses, if they are wanted
    stamps: dict[str, list[int]]  # of its files
    reference: tuple[str, list[int]] | None = None

    @property
    def n_losses(self) -> int:
        return self.losses_per_slice * self.bounds[-1]

    @property
    def n_samples(self) -> int:
        return self.n_losses // self.losses_per_sample


@dataclass(frozen=True)
class Piece:
    """A range of slices of a shard, with all that is needed to score it anywhere."""

    number: int
    request: Request
    reason: str | None
    part: Part | None
    start: int
    stop: int
    chunk_rows: int | None
    place: Place
    measures: Measures
    backend: str | None = None  # None leaves what is in force
    threads: int | None = None


@dataclass
class Plan:
    """All shards and their pieces.

    `first` is the first shard that holds data, which settles the loss; `weight` belongs to all shards. Those that the survey
    has left open are `kept`, without their weights.
    """

    first: Opened
    request: Request
    weight: Source | None
    shards: list[Surveyed] = field(default_factory=list)
    kept: dict[int, Opened] = field(default_factory=dict)

    def part(self, index: int) -> Part | None:
        if len(self.shards) == 1:
            return None
        shard = self.shards[index]
        last = self.shards[-1]
        return Part(shard.first_sample, shard.n_samples, last.first_sample + last.n_samples)

    def pieces(
        self,
        chunk_rows: int | None,
        measures: Measures,
        marks: Callable[[int, int, int], dict[str, np.ndarray]],
        done: set[int],
    ) -> Iterator[Piece]:
        """The pieces that are not `done`, in order; `marks(shard, start, stop)` tells what losses belong to."""
        number = -1
        for i, shard in enumerate(self.shards):
            for start, stop in zip(shard.bounds, shard.bounds[1:], strict=False):
                number += 1
                if number in done:
                    continue
                at, end = start * shard.losses_per_slice, stop * shard.losses_per_slice
                place = Place(
                    i, at, shard.first_loss + at, shard.first_sample, shard.losses_per_sample, **marks(i, at, end)
                )
                yield Piece(
                    number, self.named(shard.shard), self.first.reason, self.part(i), start, stop, chunk_rows, place,
                    measures,
                )  # fmt: skip

    @property
    def n_pieces(self) -> int:
        return sum(len(shard.bounds) - 1 for shard in self.shards)

    def opened(self, index: int) -> Opened:
        """A shard, open: as the survey has left it, or opened again."""
        if len(self.shards) == 1:
            return self.first
        if index not in self.kept:
            return open_shard(self.named(self.shards[index].shard), self.first.reason, self.part(index))
        opened = self.kept.pop(index)  # its pieces come one after the other; what holds them keeps it open
        return opened if self.weight is None else weighted(opened, self.weight, self.part(index))

    def named(self, shard: Shard) -> Request:
        """The request for one shard, with the loss and class axis that were settled."""
        opened = self.first
        return replace(
            self.request,
            predictions=shard.predictions,
            targets=shard.targets,
            reference=shard.reference,
            loss=opened.loss.name,
            axis=opened.axis if opened.loss.family == "classes" else self.request.axis,
        )
