"""Looking at all shards before any is scored: what they hold, whether they fit together, where each lies in the whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fastloss.cli.failure import Failure
from fastloss.cli.files import open_array, shape_text, split
from fastloss.cli.files.shards import Shard

from .opened import Empty, Opened, Request, open_shard, weighted
from .plan import Plan, Surveyed

_PIECE_BYTES = 256 << 20  # of predictions
_MOST_PIECES = 1 << 16  # of a shard: beyond 16 TiB they grow
_MOST_KEPT = 64  # shards that stay open: a process may have some 1,000 files open


def survey(shards: list[Shard], request: Request, losses_dtype: Callable[[Opened], np.dtype] | None) -> Plan:
    """Look at all files, choose the loss, and check that everything fits, before anything is scored.

    `losses_dtype` tells the dtype of a shard's single losses; None if nobody wants them.
    """
    if len(shards) == 1:
        first = open_shard(_for_shard(request, shards[0]))
        return Plan(first, request, first.weight, [_surveyed(shards[0], first, 0, 0, losses_dtype)])
    weight, weights = request.weight, None if request.weight is None else open_array(request.weight)
    # Weights are of all rows: they are looked at when the number of rows is known.
    request = replace(request, weight=None)
    found = _ends(request, shards)
    first = next(iter(found.values()))
    plan = Plan(first, request, weights)
    losses = samples = 0
    for i, shard in enumerate(shards):
        try:
            opened = found.pop(i, None) or open_shard(plan.named(shard), first.reason)
        except Empty:
            plan.shards.append(_without_rows(shard, first, losses, samples))
            continue
        _check_alike(opened, first)
        plan.shards.append(looked_at := _surveyed(shard, opened, losses, samples, losses_dtype))
        losses += looked_at.n_losses
        samples += looked_at.n_samples
        if opened is first or opened.is_light and len(plan.kept) < _MOST_KEPT:
            plan.kept[i] = opened
    plan.request = replace(request, weight=weight)
    if weights is not None:
        filled = [i for i, shard in enumerate(plan.shards) if shard.n_rows]
        for i in {filled[0], filled[-1]}:  # the weights fit the whole
            weighted(plan.kept.get(i) or open_shard(replace(plan.named(shards[i]), weight=None)), weights, plan.part(i))
    return plan


def _ends(request: Request, shards: list[Shard]) -> dict[int, Opened]:
    """{index: opened shard} of the first shard that holds data; if the loss is guessed, also of the last one, from which
    the same loss must follow."""
    i, first = _first_filled(request, shards, range(len(shards)))
    if request.loss is not None:
        return {i: first}
    j, last = _first_filled(request, shards, range(len(shards) - 1, i, -1), (i, first))
    if (first.loss, first.axis) != (last.loss, last.axis):
        guesses = f"{first.loss.name} for {first.predictions.name}, {last.loss.name} for {last.predictions.name}"
        raise Failure("--loss", f"cannot be guessed ({guesses}): name it")
    return {i: first, j: last} if last.is_light else {i: first}


def _first_filled(
    request: Request, shards: list[Shard], indices: Iterable[int], other: tuple[int, Opened] | None = None
) -> tuple[int, Opened]:
    """The first of these shards that holds data, with its index; the `other` if none does."""
    empty: Empty | None = None
    for i in indices:
        try:
            return i, open_shard(_for_shard(request, shards[i]))
        except Empty as found:
            empty = empty or found
    if other is not None:
        return other
    assert empty is not None
    raise empty


def _for_shard(request: Request, shard: Shard) -> Request:
    return replace(request, predictions=shard.predictions, targets=shard.targets, reference=shard.reference)


def _check_alike(opened: Opened, first: Opened) -> None:
    """Shards are pieces of one array: they differ in the number of rows, and of positions within rows."""
    x, y = opened.predictions.array, first.predictions.array
    fits = x.ndim == y.ndim
    if opened.loss.family == "classes":
        fits = fits and x.shape[opened.axis or 0] == y.shape[opened.axis or 0] and opened.labels == first.labels
    elif opened.per_output:
        fits = x.shape[1:] == y.shape[1:]
    if not fits:
        problem = f"shape {shape_text(x.shape)} does not go with {shape_text(y.shape)} of {first.predictions.name}"
        raise Failure(opened.predictions.name, problem)


def _surveyed(
    shard: Shard, opened: Opened, first_loss: int, first_sample: int, losses_dtype: Callable[[Opened], np.dtype] | None
) -> Surveyed:
    layout = opened.layout
    n_pieces = min(layout.n_slices, -(-layout.predictions.nbytes // _PIECE_BYTES), _MOST_PIECES)
    bounds = [layout.n_slices * i // n_pieces for i in range(n_pieces + 1)]
    predictions, targets = ((str(s.array.dtype), list(s.array.shape)) for s in (opened.predictions, opened.targets))
    return Surveyed(
        shard=shard,
        shape=layout.shape,
        predictions=predictions,
        targets=targets,
        n_bytes=opened.n_bytes,
        n_rows=layout.n_rows,
        first_loss=first_loss,
        first_sample=first_sample,
        bounds=bounds,
        losses_per_slice=layout.losses_per_slice,
        losses_per_sample=layout.losses_per_sample,
        dtype=None if losses_dtype is None else losses_dtype(opened),
        stamps=_stamps(shard),
        reference=None if (r := opened.reference) is None else (str(r.array.dtype), list(r.array.shape)),
    )


def _without_rows(shard: Shard, first: Opened, first_loss: int, first_sample: int) -> Surveyed:
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
