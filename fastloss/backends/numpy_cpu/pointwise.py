"""The pointwise losses: formulas of scalars.py on slabs of the operands.

Arguments are those of the compiled kernels: x prediction, y target, z third operand, w weights: arrays, scalars or None;
p the loss's parameters; partials (n_blocks, 2), a block's sum of weight * loss and its sum of weights.
"""

import functools

import numpy as np

from fastloss import _branchless
from fastloss.backends.numpy_cpu._widen import SPAN, quietly, slabs, wide

_VOCABULARY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "where": np.where,
    "both": np.logical_and,
    "either": np.logical_or,
    "opposite": np.logical_not,
    "equal": np.equal,
    "differ": np.not_equal,
    "type": lambda x: np.float64,
}


@functools.cache
def _formulas():
    return _branchless.formulas(_VOCABULARY)


def _evaluated(name, index, x, y, z, p):
    """The formula on one slab."""
    operands = (wide(_part(a, index)) for a in (x, y, z))
    return _formulas()[name](*(a for a in operands if a is not None), *map(np.float64, p))


def _part(a, index):
    return a[index] if isinstance(a, np.ndarray) else a


def _weights(w, index):
    """The slab's weights, or 1."""
    return 1.0 if w is None else wide(_part(w, index))


def _spans(size, block, first, last):
    """Blocks [first, last) of a flat array in pieces, each with its block's number."""
    for b in range(first, last):
        stop = min((b + 1) * block, size)
        for start in range(b * block, stop, SPAN):
            yield b, slice(start, min(start + SPAN, stop))


@quietly
def _add(partials, b, losses, weights):
    partials[b, 0] += np.sum(weights * losses)
    partials[b, 1] += np.sum(np.broadcast_to(weights, losses.shape))


@quietly
def flat_total(loss, x, y, z, w, p, size, block, first, last, partials):
    partials[first:last] = 0.0
    for b, index in _spans(size, block, first, last):
        _add(partials, b, _evaluated(loss.value, index, x, y, z, p), _weights(w, index))


def flat_small(loss, x, y, p):
    partials = np.zeros((1, 2))
    flat_total(loss, x, y, None, None, p, x.size, x.size, 0, 1, partials)
    return float(partials[0, 0])


@quietly
def flat_each(loss, x, y, z, w, p, size, block, first, last, out):
    for _, index in _spans(size, block, first, last):
        out[index] = _weights(w, index) * _evaluated(loss.value, index, x, y, z, p)


@quietly
def flat_slope(loss, x, y, z, w, p, scale, size, block, first, last, gradient, partials):
    flat_total(loss, x, y, z, w, p, size, block, first, last, partials)
    for _, index in _spans(size, block, first, last):
        gradient[index] = _weights(w, index) * scale * _evaluated(loss.slope, index, x, y, z, p)


def _row_slabs(shape, block, first, last):
    return slabs(min(last * block, shape[0] * shape[1]), shape[1], shape[2], first * block)


@quietly
def rows_total(loss, x, y, z, w, p, shape, block, first, last, partials):
    partials[first:last] = 0.0
    for index in _row_slabs(shape, block, first, last):
        losses = _evaluated(loss.value, index, x, y, z, p)
        weights = _weights(w, index)
        i, rows, _ = index
        blocks = (i * shape[1] + np.arange(rows.start, rows.stop)) // block
        np.add.at(partials[:, 0], blocks, np.sum(weights * losses, axis=1))
        np.add.at(partials[:, 1], blocks, np.sum(np.broadcast_to(weights, losses.shape), axis=1))


@quietly
def rows_each(loss, x, y, z, w, p, shape, block, first, last, out):
    for index in _row_slabs(shape, block, first, last):
        out[index] = _weights(w, index) * _evaluated(loss.value, index, x, y, z, p)


@quietly
def rows_slope(loss, x, y, z, w, p, scale, shape, block, first, last, gradient, partials):
    rows_total(loss, x, y, z, w, p, shape, block, first, last, partials)
    for index in _row_slabs(shape, block, first, last):
        gradient[index] = _weights(w, index) * scale * _evaluated(loss.slope, index, x, y, z, p)


@quietly
def lanes_total(loss, x, y, z, w, p, shape, block, first, last, partials):
    outer, n, inner = shape
    for b in range(first, last):
        i, c = b % outer, b // outer
        partials[c, :, i] = 0.0
        for _, rows, k in slabs(min((c + 1) * block, n), n, inner, c * block):
            losses = _evaluated(loss.value, (i, rows, k), x, y, z, p)
            weights = _weights(w, (i, rows, k))
            partials[c, 0, i, k] += np.sum(weights * losses, axis=0)
            partials[c, 1, i, k] += np.sum(np.broadcast_to(weights, losses.shape), axis=0)


KERNELS = {
    f.__name__: f
    for f in (flat_total, flat_small, flat_each, flat_slope, rows_total, rows_each, rows_slope, lanes_total)
}
