"""A run cut into pieces: shards, or ranges of large ones. A piece's result depends on its data and options alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fastloss.cli.eval.stats.state import Measures
from fastloss.cli.eval.stats.sums import Place
from fastloss.cli.eval.work.chunks import losses_dtype
from fastloss.cli.failure import Failure
from fastloss.cli.files import Source, open_array, shape_text, split
from fastloss.cli.files.shards import Shard

from .opened import Empty, Job, Part, Request, prepare

_PIECE_BYTES = 256 << 20  # of predictions
_MOST_PIECES = 1 << 16  # of a shard: beyond 16 TiB they grow


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
class Task:
    """A piece, with all that is needed to evaluate it anywhere."""

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

    `first` is the job of the first shard, which settles the loss; `weight` belongs to all shards.
    """

    first: Job
    request: Request
    weight: Source | None
    shards: list[Surveyed] = field(default_factory=list)

    def part(self, index: int) -> Part | None:
        if len(self.shards) == 1:
            return None
        shard = self.shards[index]
        last = self.shards[-1]
        return Part(shard.first_sample, shard.n_samples, last.first_sample + last.n_samples)

    def tasks(
        self,
        chunk_rows: int | None,
        measures: Measures,
        codes: Callable[[int, int, int], np.ndarray] | None,
        done: set[int],
    ) -> Iterator[Task]:
        """The pieces that are not `done`, in order; `codes(shard, start, stop)` gives the groups of losses."""
        number = -1
        for i, shard in enumerate(self.shards):
            for start, stop in zip(shard.bounds, shard.bounds[1:], strict=False):
                number += 1
                if number in done:
                    continue
                at, end = start * shard.losses_per_slice, stop * shard.losses_per_slice
                place = Place(
                    i, at, shard.first_loss + at, shard.first_sample, shard.losses_per_sample,
                    None if codes is None else codes(i, at, end),
                )  # fmt: skip
                yield Task(
                    number, self.named(shard.shard), self.first.reason, self.part(i), start, stop, chunk_rows, place,
                    measures,
                )  # fmt: skip

    @property
    def n_pieces(self) -> int:
        return sum(len(shard.bounds) - 1 for shard in self.shards)

    def named(self, shard: Shard) -> Request:
        """The request for one shard, with the loss and class axis that were settled."""
        job = self.first
        return replace(
            self.request,
            predictions=shard.predictions,
            targets=shard.targets,
            reference=shard.reference,
            loss=job.loss.name,
            axis=job.axis if job.loss.family == "classes" else self.request.axis,
        )


def survey(shards: list[Shard], request: Request, losses_wanted: bool) -> Plan:
    """Look at all files, choose the loss, and check that everything fits, before anything is evaluated."""
    job = _first_job(request, shards)
    weight = job.weight if len(shards) == 1 or request.weight is None else open_array(request.weight)
    plan = Plan(job, request, weight)
    if len(shards) == 1:
        plan.shards.append(_surveyed(shards[0], plan.first, 0, 0, losses_wanted))
        return plan
    losses = samples = 0
    for shard in shards:
        try:
            job = prepare(replace(plan.named(shard), weight=None), plan.first.reason)
        except Empty:
            plan.shards.append(_without_rows(shard, plan.first, losses, samples))
            continue
        _check_alike(job, plan.first)
        plan.shards.append(found := _surveyed(shard, job, losses, samples, losses_wanted))
        losses += found.n_losses
        samples += found.n_samples
    filled = [i for i, shard in enumerate(plan.shards) if shard.n_rows]
    for i in {filled[0], filled[-1]}:  # the weights fit the whole
        prepare(plan.named(shards[i]), part=plan.part(i))
    return plan


def _first_job(request: Request, shards: list[Shard]) -> Job:
    """The job of the first shard that holds data; the last one must call for the same loss."""
    if len(shards) == 1:
        return prepare(_for_shard(request, shards[0]))
    # Weights are of all rows: they are looked at when the number of rows is known.
    request = replace(request, weight=None)
    job = _first_filled(request, shards)
    if request.loss is None:
        other = _first_filled(request, shards[::-1])
        if (job.loss, job.axis) != (other.loss, other.axis):
            guesses = f"{job.loss.name} for {job.predictions.name}, {other.loss.name} for {other.predictions.name}"
            raise Failure("--loss", f"cannot be guessed ({guesses}): name it")
    return job


def _first_filled(request: Request, shards: list[Shard]) -> Job:
    """The job of the first of these shards that holds data."""
    empty: Empty | None = None
    for shard in shards:
        try:
            return prepare(_for_shard(request, shard))
        except Empty as found:
            empty = empty or found
    assert empty is not None
    raise empty


def _for_shard(request: Request, shard: Shard) -> Request:
    return replace(request, predictions=shard.predictions, targets=shard.targets, reference=shard.reference)


def _check_alike(job: Job, first: Job) -> None:
    """Shards are pieces of one array: they differ in the number of rows, and of positions within rows."""
    x, y = job.predictions.array, first.predictions.array
    fits = x.ndim == y.ndim
    if job.loss.family == "classes":
        fits = fits and x.shape[job.axis or 0] == y.shape[job.axis or 0] and job.labels == first.labels
    elif job.per_output:
        fits = x.shape[1:] == y.shape[1:]
    if not fits:
        problem = f"shape {shape_text(x.shape)} does not go with {shape_text(y.shape)} of {first.predictions.name}"
        raise Failure(job.predictions.name, problem)


def _surveyed(shard: Shard, job: Job, first_loss: int, first_sample: int, losses_wanted: bool) -> Surveyed:
    layout = job.layout
    n_pieces = min(layout.n_slices, -(-layout.predictions.nbytes // _PIECE_BYTES), _MOST_PIECES)
    bounds = [layout.n_slices * i // n_pieces for i in range(n_pieces + 1)]
    predictions, targets = ((str(s.array.dtype), list(s.array.shape)) for s in (job.predictions, job.targets))
    return Surveyed(
        shard=shard,
        shape=layout.shape,
        predictions=predictions,
        targets=targets,
        n_bytes=job.n_bytes,
        n_rows=layout.n_rows,
        first_loss=first_loss,
        first_sample=first_sample,
        bounds=bounds,
        losses_per_slice=layout.losses_per_slice,
        losses_per_sample=layout.losses_per_sample,
        dtype=losses_dtype(job) if losses_wanted else None,
        stamps=_stamps(shard),
        reference=None if (r := job.reference) is None else (str(r.array.dtype), list(r.array.shape)),
    )


def _without_rows(shard: Shard, first: Job, first_loss: int, first_sample: int) -> Surveyed:
    """A shard that holds no data: no pieces, and the shape of a part of `first` of no rows."""
    predictions, targets = ((str(s.array.dtype), [0, *s.array.shape[1:]]) for s in (first.predictions, first.targets))
    return Surveyed(
        shard=shard,
        shape=(0, *first.layout.shape[1:]),
        predictions=predictions,
        targets=targets,
        n_bytes=0,
        n_rows=0,
        first_loss=first_loss,
        first_sample=first_sample,
        bounds=[0],
        losses_per_slice=0,
        losses_per_sample=1,
        dtype=None,
        stamps=_stamps(shard),
        reference=None if (r := first.reference) is None else (str(r.array.dtype), [0, *r.array.shape[1:]]),
    )


def _stamps(shard: Shard) -> dict[str, list[int]]:
    return {name: stamp_of(name) for name in shard.files.values()}


def stamp_of(name: str) -> list[int]:
    """Size and time of the last change of a file; of a directory those of all files in it."""
    path, _ = split(name)
    if not os.path.isdir(path):
        found = os.stat(path)
        return [found.st_size, found.st_mtime_ns]
    stats = [os.stat(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]
