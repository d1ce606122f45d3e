"""Pointwise losses of Dask arrays, by the host's plans on chunks."""

import math

import numpy as np

from fastloss._reduce import inverse
from fastloss.places import is_dask
from fastloss.places.dask import _sums, _tasks
from fastloss.places.dask._calls import check_no_out, lazy_result, scale_from
from fastloss.places.dask._graph import (
    chunked,
    common_chunks,
    mapped,
    merged,
    reduced,
    rounded,
    starts_of,
    total,
    unit_chunks,
)


def elements(resolved):
    """A function that makes the graph of an `Elements` call."""

    def graph(operands, out, scale):
        check_no_out(out)
        x, y, z, w = operands
        if z is not None and resolved.shapes[2] and resolved.shapes[2] != np.shape(z):
            z = z[..., None]  # broadcast along the last axis
        shape, real = resolved.shape, np.dtype(resolved.real)
        operands = [x, y, z, w]
        chunks = common_chunks(shape, operands)
        operands = [chunked(a, shape, chunks) for a in operands]
        options = {"loss": resolved.loss, "values": resolved.values, "starts": tuple(map(starts_of, operands))}
        if resolved.reduction == "none":
            return mapped(_tasks.each_of, *operands, call=_tasks.pointwise, chunks=chunks, dtype=real, **options)
        # a mean that divides by the summed weights gets that from the sums
        divisor = None if resolved.divisor is None else float(resolved.divisor)
        finish = {"reduction": resolved.reduction, "divisor": divisor, "root": resolved.root}
        axes = resolved.axes
        if not resolved.is_scalar:
            lanes = mapped(
                _tasks.pointwise_lanes,
                *operands,
                chunks=unit_chunks(chunks, axes),
                dtype=_sums.LANES,
                axis=axes,
                **options,
            )
            lanes = merged(lanes, _sums.merge_lanes, axes)
            return reduced(_sums.lanes_result_of, lanes, real, real=real, **finish)
        sums = total(_tasks.total_of, *operands, call=_tasks.pointwise, chunks=chunks, **options)
        gradients = None
        if resolved.want.what == "slopes":
            scale = _scale(sums, operands[3], math.prod(shape), **finish)
            gradients = (_gradient(operands, scale, shape, chunks, real, options),)
        return lazy_result(sums, resolved, gradients, divisor, resolved.root, rowwise=False)

    return graph


def _scale(sums, w, size, *, reduction, divisor, root):
    """The factor of the sum's gradient; only a root needs the value of the loss for it."""
    if root:
        return scale_from(sums, reduction=reduction, divisor=divisor, root=True)
    if reduction == "sum":
        return 1.0
    if divisor is None and is_dask(w):
        weights = total(_tasks.weight_sum, w, chunks=w.chunks, copies=size // max(w.size, 1))
        return scale_from(weights, reduction=reduction, divisor=None)
    return inverse(size * float(w) if divisor is None else divisor)


def _gradient(operands, scale, shape, chunks, real, options):
    """The gradient in the shape of the first operand, summed over the axes along which that was broadcast."""
    own = np.shape(operands[0])
    lead = len(shape) - len(own)
    axes = tuple(i for i, n in enumerate(shape) if i < lead or own[i - lead] != n)
    slopes = mapped(
        _tasks.slopes_of,
        *operands,
        scale,
        chunks=unit_chunks(chunks, axes),
        dtype=real,
        call=_tasks.pointwise,
        **options,
    )
    if not axes:
        return slopes
    return rounded(slopes.sum(axis=axes, keepdims=True, dtype=np.float64), real)[(0,) * lead]
