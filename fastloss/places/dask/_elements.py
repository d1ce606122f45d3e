"""Pointwise losses of Dask arrays, by the host's function on chunks."""

import math

import numpy as np

from fastloss import _errors, _pointwise
from fastloss._places import is_dask
from fastloss._reduce import inverse
from fastloss.dask import _sums, _tasks
from fastloss.dask._calls import checked, delivered, requested, scale_from
from fastloss.dask._graph import (
    chunked,
    common_chunks,
    merged,
    ones,
    over,
    reduced,
    stand_in,
    starts_of,
    taken_operand,
    total,
)


def pointwise(
    loss,
    pred,
    target,
    third=None,
    parameters=(),
    weight=None,
    axis=None,
    reduction="mean",
    out=None,
    *,
    names,
    third_of_rows=False,
    divisor=None,
    batch_mean=False,
    root=False,
    **options,
):
    operands = [
        taken_operand(a, name) for a, name in zip((pred, target, third, weight), (*names, "weight"), strict=True)
    ]
    x, y, z, w = map(stand_in, operands)
    options["names"] = names
    more = {"third_of_rows": third_of_rows, "batch_mean": batch_mean}
    checks = checked(_pointwise.evaluate, loss, x, y, z, parameters, w, axis, reduction, **more, **options)
    real, shape, axes, divisor = checks.real, checks.shape, checks.axes, checks.divisor
    whole_axes = axes is None or len(axes) == len(shape)
    request = requested(out, reduction)
    if request and not whole_axes:
        raise _errors.vector_gradient(f"axis={axis!r}")
    if third_of_rows and z is not None and z.ndim and z.shape == x.shape[:-1]:
        operands[2] = operands[2][..., None]
    chunks = common_chunks(shape, operands)
    operands = [chunked(a, shape, chunks) for a in operands]
    options |= {"loss": loss, "parameters": parameters, "starts": tuple(map(starts_of, operands))}
    if reduction == "none":
        return over(_tasks.each_of, *operands, call=_tasks.pointwise, chunks=chunks, dtype=real, **options)
    finish = {"reduction": reduction, "divisor": divisor, "root": root}
    if not whole_axes:
        lanes = over(
            _tasks.pointwise_lanes, *operands, chunks=ones(chunks, axes), dtype=_sums.LANES, axis=axes, **options
        )
        lanes = merged(lanes, _sums.merge_lanes, axes)
        return reduced(_sums.lanes_result_of, lanes, real, real=real, **finish)
    sums = total(_tasks.total_of, *operands, call=_tasks.pointwise, chunks=chunks, **options)
    if request:
        scale = _pointwise_scale(sums, operands[3], math.prod(shape), options["weighted_mean"], **finish)
        request.array = _pointwise_gradient(operands, scale, shape, chunks, real, options)
    return delivered(sums, out, real, rowwise=False, **finish)


def _pointwise_scale(sums, w, size, weighted_mean, *, reduction, divisor, root):
    """What the gradient of the sum is multiplied by; only a root needs the loss itself."""
    if root:
        return scale_from(sums, reduction=reduction, divisor=divisor, root=root)
    if reduction == "sum":
        return 1.0
    if divisor is None and weighted_mean and is_dask(w):
        weights = total(_tasks.weight_sum, w, chunks=w.chunks, copies=size // max(w.size, 1))
        return scale_from(weights, reduction=reduction, divisor=None, root=False)
    factor = 1.0 if w is None or not weighted_mean else float(w)
    return inverse(size * factor if divisor is None else divisor)


def _pointwise_gradient(operands, scale, shape, chunks, real, options):
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
