"""Pointwise losses of Dask arrays, by the host's plans for chunks."""

import math

import numpy as np

from fastloss._reduce import inverse
from fastloss.places import is_dask
from fastloss.places.dask import _sums, _tasks
from fastloss.places.dask._calls import check_no_out, delivered, scale_from
from fastloss.places.dask._graph import (
    chunked,
    common_chunks,
    merged,
    ones,
    over,
    reduced,
    starts_of,
    total,
)


def elements(resolved):
    """What makes the graph of an `Elements`."""

    def graph(operands, out, scale):
        check_no_out(out)
        x, y, z, w = operands
        if z is not None and resolved.shapes[2] and resolved.shapes[2] != np.shape(z):
            z = z[..., None]  # the same along the last axis
        shape, real = resolved.shape, np.dtype(resolved.real)
        operands = [x, y, z, w]
        chunks = common_chunks(shape, operands)
        operands = [chunked(a, shape, chunks) for a in operands]
        options = {"loss": resolved.loss, "values": resolved.values, "starts": tuple(map(starts_of, operands))}
        if resolved.reduction == "none":
            return over(_tasks.each_of, *operands, call=_tasks.pointwise, chunks=chunks, dtype=real, **options)
        # of a sum of weights the mean's divisor is known with the sums
        divisor = None if resolved.divisor is None else float(resolved.divisor)
        finish = {"reduction": resolved.reduction, "divisor": divisor, "root": resolved.root}
        axes = resolved.axes
        if not resolved.is_scalar:
            lanes = over(
                _tasks.pointwise_lanes, *operands, chunks=ones(chunks, axes), dtype=_sums.LANES, axis=axes, **options
            )
            lanes = merged(lanes, _sums.merge_lanes, axes)
            return reduced(_sums.lanes_result_of, lanes, real, real=real, **finish)
        sums = total(_tasks.total_of, *operands, call=_tasks.pointwise, chunks=chunks, **options)
        gradients = None
        if resolved.want.what == "slopes":
            scale = _scale(sums, operands[3], math.prod(shape), **finish)
            gradients = (_gradient(operands, scale, shape, chunks, real, options),)
        return delivered(sums, resolved, gradients, divisor, resolved.root, rowwise=False)

    return graph


def _scale(sums, w, size, *, reduction, divisor, root):
    """What the gradient of the sum is multiplied by; only a root needs the loss itself."""
    if root:
        return scale_from(sums, reduction=reduction, divisor=divisor, root=root)
    if reduction == "sum":
        return 1.0
    if divisor is None and is_dask(w):
        weights = total(_tasks.weight_sum, w, chunks=w.chunks, copies=size // max(w.size, 1))
        return scale_from(weights, reduction=reduction, divisor=None, root=False)
    return inverse(size * float(w) if divisor is None else divisor)


def _gradient(operands, scale, shape, chunks, real, options):
    """The gradient with the shape of the first operand: what it was broadcast along is summed over."""
    own = np.shape(operands[0])
    lead = len(shape) - len(own)
    axes = tuple(i for i, n in enumerate(shape) if i < lead or own[i - lead] != n)
    slopes = over(
        _tasks.slopes_of, *operands, scale, chunks=ones(chunks, axes), dtype=real, call=_tasks.pointwise, **options
    )
    if not axes:
        return slopes
    return slopes.sum(axis=axes, keepdims=True, dtype=np.float64).astype(real)[(0,) * lead]
