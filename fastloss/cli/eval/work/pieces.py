"""Carrying out a plan: here or on a cluster, with its journal, its single losses written as they come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastloss.cli import library
from fastloss.cli.eval.plan.opened import Opened, open_shard
from fastloss.cli.eval.plan.plan import Piece, Plan
from fastloss.cli.eval.plan.survey import stamp_of
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.files.output import LossWriter, OutputFile

from .chunks import Sink, add_chunks, warm_up
from .progress import Progress

if TYPE_CHECKING:
    from .journal import Journal


@dataclass(frozen=True)
class Result:
    """What came of a piece."""

    number: int
    state: State
    losses: np.ndarray | None


def run_piece(
    piece: Piece, opened: Opened | None = None, sink: Sink | None = None, advance: Callable[[int], None] | None = None
) -> Result:
    """Score a piece; without a `sink` its single losses, if they are wanted, come back with the result."""
    state = State(piece.measures)
    kept: list[np.ndarray] = []
    if sink is None and piece.measures.losses:
        sink = kept.append
    with library.settings(piece.backend, piece.threads):
        add_chunks(
            opened or open_shard(piece.request, piece.reason, piece.part), piece.start, piece.stop, piece.chunk_rows, piece.place,
            state, piece.measures, sink, advance or (lambda n_rows: None),
        )  # fmt: skip
    return Result(piece.number, state, np.concatenate([part.reshape(-1) for part in kept]) if kept else None)


def loss_writer(plan: Plan, file: OutputFile) -> LossWriter:
    """The losses of all shards as one array, flat if shards differ in more than their first axis."""
    shapes = [shard.shape for shard in plan.shards]
    shape = shapes[0]
    if len(shapes) > 1:
        alike = len({shape[1:] for shape in shapes}) == 1
        shape = (sum(shape[0] for shape in shapes), *shape[1:]) if alike else (sum(s.n_losses for s in plan.shards),)
    return LossWriter(file, shape, np.result_type(*(shard.dtype for shard in plan.shards if shard.dtype is not None)))


def run_pieces(
    plan: Plan,
    measures: Measures,
    marks: Callable[[int, int, int], dict[str, np.ndarray]],
    chunk_rows: int | None,
    cluster: Any,
    journal: Journal | None,
    state: State,
    done: set[int],
    writer: LossWriter | None,
    progress: Progress,
) -> float:
    """Add the pieces that are not `done` to `state`; returns the seconds that took."""
    pieces = plan.pieces(chunk_rows, measures, marks, done)
    if cluster is None:
        warm_up(plan.first, chunk_rows, measures)
    progress.finished(len(done))
    begin = time.perf_counter()
    results = (
        _here(plan, pieces, writer, progress) if cluster is None else _there(plan, cluster, pieces, writer, progress)
    )
    # Closed at once, should this loop end early: a cluster's pieces are given up.
    with contextlib.closing(results):
        for result, checksum in results:
            if journal is not None:
                if writer is not None:
                    writer.file.sync()
                journal.finished(result.number, result.state, checksum)
            state.merge(result.state)
            progress.finished()
    return time.perf_counter() - begin


def intact(plan: Plan, writer: LossWriter, finished: dict[int, int | None]) -> set[int]:
    """The pieces whose losses, written by an earlier process, are still what they were; `finished` has their checksums."""
    places = list(_places(plan))
    return {piece for piece, checksum in finished.items() if writer.holds(*places[piece], checksum)}


def _places(plan: Plan) -> Iterator[tuple[int, int]]:
    """Of each piece, where its losses begin and end among all."""
    for shard in plan.shards:
        yield from pairwise(shard.first_loss + end * shard.losses_per_slice for end in shard.bounds)


# Each result, with the checksum of the losses that were written.
_Results = Generator[tuple[Result, int | None], None, None]


def _here(plan: Plan, pieces: Iterator[Piece], writer: LossWriter | None, progress: Progress) -> _Results:
    """Score in this process, piece by piece."""
    shard, opened = -1, None
    for piece in pieces:
        sink = None if writer is None else _Sink(writer, piece.place.loss)
        if piece.place.shard != shard:
            opened = None  # before the next is opened: never two of those that are read as a whole
            shard, opened = piece.place.shard, plan.opened(piece.place.shard)
        result = run_piece(piece, opened, sink, progress.advance)
        yield result, None if sink is None else sink.checksum


def _there(
    plan: Plan, cluster: Any, pieces: Iterator[Piece], writer: LossWriter | None, progress: Progress
) -> _Results:
    """Score on a cluster."""
    places = list(_places(plan))
    rows = [(stop - start) * s.n_rows // s.bounds[-1] for s in plan.shards for start, stop in pairwise(s.bounds)]
    for result in cluster.results(pieces):
        checksum = None
        if writer is not None and result.losses is not None:
            checksum = writer.write(result.losses, places[result.number][0])
        progress.advance(rows[result.number])
        yield result, checksum


class _Sink:
    """Takes a piece's losses in order; `checksum` is that of all it took."""

    def __init__(self, writer: LossWriter, first: int) -> None:
        self._writer, self._next = writer, first
        self.checksum = 0

    def __call__(self, losses: np.ndarray) -> None:
        self.checksum = self._writer.write(losses, self._next, self.checksum)
        self._next += losses.size


def run_description(
    plan: Plan, measures: Measures, chunk_rows: int | None, files: dict[str, str | None]
) -> dict[str, Any]:
    """What must be the same for a run to go on: options, backend, shards; a file is its name and what tells whether it has changed."""
    opened = plan.first
    resampling = measures.resampling
    return {
        "version": library.version(),
        "backend": library.backend_in_use(),
        "loss": opened.loss.name,
        "axis": opened.axis,
        "ignore_index": opened.ignore_index if opened.ignore_given else None,
        "label_smoothing": opened.label_smoothing,
        "chunk_size": chunk_rows,
        "top_k": measures.top_k,
        "report": measures.report,
        "brier": measures.brier,
        "entropy": measures.entropy,
        "calibration": measures.bins,
        "macro": measures.macro,
        "against": measures.against,
        "targets": plan.first.has_targets,
        "bootstrap": None if resampling is None else resampling.n,
        "seed": None if resampling is None else resampling.seed,
        "resample": None if resampling is None else resampling.unit,
        **{option: None if name is None else [name, *stamp_of(name)] for option, name in files.items()},
        "shards": [
            [shard.bounds, shard.shard.group, *([name, *stamp] for name, stamp in shard.stamps.items())]
            for shard in plan.shards
        ],
    }
