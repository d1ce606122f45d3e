"""Maps tasks over chunks: makes the operands' chunks match, builds arrays of the tasks' results, and merges them."""

import itertools

import dask.array as da
import numpy as np

from fastloss import _arrays, _errors
from fastloss.places import is_dask
from fastloss.places.dask import _sums, _tasks


def operand_array(value, name):
    """An argument as a Dask array, an ndarray, or None."""
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


def operand_or_number(value, name):
    """Likewise for pointwise losses, except that Python numbers stay numbers: they take the dtype of the arrays they
    are combined with."""
    return value if type(value) in (bool, int, float) else operand_array(value, name)


# --- chunks -----------------------------------------------------------------------------------------------------------


def common_chunks(shape, operands):
    """Chunks of the shape that the operands broadcast to: along each axis those of the first Dask array of that
    length."""
    chunks = []
    for axis, length in enumerate(shape, -len(shape)):
        candidates = [a for a in operands if is_dask(a) and a.ndim >= -axis and a.shape[axis] == length]
        chunks.append(candidates[0].chunks[axis] if candidates else (length,))
    return tuple(chunks)


def chunked(operand, shape, chunks):
    """The operand as a Dask array whose chunks match those of the common shape; numbers and None are returned as they
    are."""
    if not hasattr(operand, "shape"):
        return operand
    skipped = len(shape) - operand.ndim
    own = tuple(
        chunks[skipped + i] if length == shape[skipped + i] else (length,) for i, length in enumerate(operand.shape)
    )
    if is_dask(operand):
        return operand if operand.chunks == own else operand.rechunk(own)
    return da.from_array(operand, chunks=own)


def as_one_chunk(operand):
    """The operand as a Dask array of one chunk, or None."""
    if operand is None:
        return None
    return operand.rechunk(-1) if is_dask(operand) else da.from_array(np.asarray(operand), chunks=-1)


def drop_axis(array, axis):
    """The array without an axis of length 1."""
    return array[(slice(None),) * axis + (0,)]


def starts_of(operand):
    """Where the chunks of an operand begin, along each axis."""
    if not hasattr(operand, "chunks"):
        return None
    return tuple(map(_beginnings, operand.chunks))


def _beginnings(lengths):
    """Where chunks of these lengths begin; a range if they are even, because every task carries a copy."""
    even = range(0, sum(lengths), max(lengths[0], 1))
    every = (0, *itertools.accumulate(lengths[:-1]))
    return even if tuple(even) == every else every


# --- tasks ------------------------------------------------------------------------------------------------------------


def mapped(function, *operands, chunks, dtype, **options):
    """The Dask array of a task's results for the chunks of its operands, which have the same number of axes or
    broadcast."""
    return da.map_blocks(
        function,
        *operands,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        backend=_tasks.host_backend(),
        **options,
    )


def rounded(array, real):
    """A Dask array of sums in float64 in the result's dtype."""
    return array if array.dtype == real else mapped(_tasks.rounded, array, chunks=array.chunks, dtype=real, real=real)


def unit_chunks(chunks, axes=None):
    """The same chunks, but of length 1 along these axes, or along all."""
    return tuple(
        (1,) * len(lengths) if axes is None or axis in axes else lengths for axis, lengths in enumerate(chunks)
    )


def merged(parts, merge, axes, keepdims=False):
    """Merge the elements of an array along axes, by a tree of tasks."""
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
    """The merged `Part` of all chunks."""
    parts = mapped(function, *operands, chunks=unit_chunks(chunks), dtype=object, **options)
    return merged(parts, _sums.merge_parts, tuple(range(parts.ndim)))


def reduced(function, sums, dtype, **options):
    """The result that `function` computes from merged sums, lazily."""
    return da.map_blocks(
        function, sums, chunks=sums.chunks, dtype=dtype, meta=np.empty((0,) * sums.ndim, dtype), **options
    )
