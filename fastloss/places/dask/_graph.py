"""Tasks over chunks: operands with chunks that fit together, arrays of what tasks give, and the merging of it."""

import itertools

import dask.array as da
import numpy as np

from fastloss import _arrays, _errors
from fastloss.places import is_dask
from fastloss.places.dask import _sums, _tasks


def taken(value, name):
    """An argument: a Dask array, an ndarray, or None."""
    if value is None:
        return None
    if not is_dask(value):
        return _arrays.asarray(value, name)
    kind = type(value._meta)
    if issubclass(kind, np.ma.MaskedArray):
        raise _errors.masked_array(name)
    if not issubclass(kind, (np.ndarray, np.generic)):
        raise _errors.not_numpy_chunks(name, kind)
    if any(length != length for length in value.shape):
        raise _errors.unknown_chunks(name, value.shape)
    return value


def taken_operand(value, name):
    """Likewise of a pointwise loss, where Python numbers stay what they are: they take the type of the arrays they meet."""
    return value if type(value) in (bool, int, float) else taken(value, name)


# --- chunks -------------------------------------------------------------------------------------------------------------


def common_chunks(shape, operands):
    """Chunks of what the operands broadcast to: along each axis those of the first Dask array that is that long."""
    chunks = []
    for axis, length in enumerate(shape, -len(shape)):
        candidates = [a for a in operands if is_dask(a) and a.ndim >= -axis and a.shape[axis] == length]
        chunks.append(candidates[0].chunks[axis] if candidates else (length,))
    return tuple(chunks)


def chunked(operand, shape, chunks):
    """The operand as a Dask array whose chunks meet those of the common shape; numbers and None as they are."""
    if not hasattr(operand, "shape"):
        return operand
    skipped = len(shape) - operand.ndim
    own = tuple(
        chunks[skipped + i] if length == shape[skipped + i] else (length,) for i, length in enumerate(operand.shape)
    )
    if is_dask(operand):
        return operand if operand.chunks == own else operand.rechunk(own)
    return da.from_array(operand, chunks=own)


def whole(operand):
    """The operand as a Dask array of one chunk, or None."""
    if operand is None:
        return None
    return operand.rechunk(-1) if is_dask(operand) else da.from_array(np.asarray(operand), chunks=-1)


def without(array, axis):
    """The array without an axis of length 1."""
    return array[(slice(None),) * axis + (0,)]


def starts_of(operand):
    """Where the chunks of an operand begin, along each axis."""
    if not hasattr(operand, "chunks"):
        return None
    return tuple(map(_beginnings, operand.chunks))


def _beginnings(lengths):
    """A range where chunks are even: every task carries them along."""
    even = range(0, sum(lengths), max(lengths[0], 1))
    every = (0, *itertools.accumulate(lengths[:-1]))
    return even if tuple(even) == every else every


# --- tasks --------------------------------------------------------------------------------------------------------------


def over(function, *operands, chunks, dtype, **options):
    """An array of what a task gives for the chunks of its operands, which have as many axes or broadcast."""
    return da.map_blocks(
        function,
        *operands,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        backend=_tasks.host_backend(),
        **options,
    )


def ones(chunks, axes=None):
    """Chunks of length 1 along these axes, or along all."""
    return tuple(
        (1,) * len(lengths) if axes is None or axis in axes else lengths for axis, lengths in enumerate(chunks)
    )


def merged(parts, merge, axes, keepdims=False):
    """Parts merged along axes: a tree of tasks."""
    if not axes:
        return parts
    meta = np.empty((0,) * (parts.ndim - (0 if keepdims else len(axes))), parts.dtype)
    return da.reduction(
        parts,
        chunk=_same,
        aggregate=merge,
        axis=axes,
        keepdims=keepdims,
        dtype=parts.dtype,
        meta=meta,
        name=merge.__name__,
    )


def _same(parts, axis, keepdims):
    return parts


def total(function, *operands, chunks, **options):
    """One `Part`, of all the chunks' parts."""
    parts = over(function, *operands, chunks=ones(chunks), dtype=object, **options)
    return merged(parts, _sums.merge_parts, tuple(range(parts.ndim)))


def reduced(function, sums, dtype, **options):
    """A result from merged sums."""
    return da.map_blocks(
        function, sums, chunks=sums.chunks, dtype=dtype, meta=np.empty((0,) * sums.ndim, dtype), **options
    )
