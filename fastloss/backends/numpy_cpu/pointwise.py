"""The pointwise losses: formulas on slabs of the operands.

Arguments are those of the compiled kernels: x prediction, y target, z third operand, w weights: arrays, scalars or
None; p the loss's parameters; partials (n_blocks, 2), a block's sum of weight * loss and its sum of weights.
"""

import numpy as np

from fastloss._array_formulas import formulas
from fastloss.backends.numpy_cpu._widen import SPAN, quietly, slabs, wide


def _values(loss, index, x, y, z, p):
    """The formula on one slab."""
    return _evaluated(formulas(loss.text)[loss.value], index, x, y, z, p)


def _slopes(loss, index, x, y, z, p):
    return _evaluated(formulas(loss.text)[loss.slope], index, x, y, z, p)


def _evaluated(formula, index, x, y, z, p):
    operands = [wide(_part(a, index)) for a in (x, y, z) if a is not None]
    values = formula(*operands, *map(np.float64, p))
    if np.ndim(values):
        return values
    # it need not depend on what are arrays here; each element counts all the same
    return np.broadcast_to(values, max(map(np.shape, operands), key=len))


def _part(a, index):
    return a[index] if isinstance(a, np.ndarray) else a


def _weights(w, index):
    """The slab's weights, or None."""
    return None if w is None else wide(_part(w, index))


def _weighed(weights, values):
    """weights * values, but 0 for a weight of 0 even if the value is NaN or infinite."""
    return values if weights is None else np.where(weights != 0.0, weights * values, 0.0)


def _weight_of(weights, losses):
    """The weights of all elements of a slab."""
    return np.broadcast_to(1.0 if weights is None else weights, losses.shape)


def _spans(size, block, first, last):
    """Blocks [first, last) of a flat array in pieces; yields each with its block's number."""
    for b in range(first, last):
        stop = min((b + 1) * block, size)
        for start in range(b * block, stop, SPAN):
            yield b, slice(start, min(start + SPAN, stop))


@quietly
def flat_total(loss, x, y, z, w, p, size, block, first, last, partials):
    pieces = {b: ([], []) for b in range(first, last)}
    for b, index in _spans(size, block, first, last):
        losses = _values(loss, index, x, y, z, p)
        weights = _weights(w, index)
        pieces[b][0].append(np.sum(_weighed(weights, losses)))
        pieces[b][1].append(np.sum(_weight_of(weights, losses)))
    for b, sums in pieces.items():
        partials[b] = np.sum(sums, axis=1)


@quietly
def flat_each(loss, x, y, z, w, p, size, block, first, last, out):
    for _, index in _spans(size, block, first, last):
        out[index] = _weighed(_weights(w, index), _values(loss, index, x, y, z, p))


@quietly
def flat_slope(loss, x, y, z, w, p, scale, size, block, first, last, gradient, partials):
    flat_total(loss, x, y, z, w, p, size, block, first, last, partials)
    for _, index in _spans(size, block, first, last):
        slopes = _slopes(loss, index, x, y, z, p)
        gradient[index] = _weighed(_weights(w, index), np.float64(scale) * slopes)


def _row_slabs(shape, block, first, last):
    return slabs(min(last * block, shape[0] * shape[1]), shape[1], shape[2], first * block)


@quietly
def rows_total(loss, x, y, z, w, p, shape, block, first, last, partials):
    n_pieces = -(-shape[2] // SPAN)
    sums = np.zeros((2, last - first, block, n_pieces))  # of the pieces of rows
    rows_of = sums.reshape(2, -1, n_pieces)
    for index in _row_slabs(shape, block, first, last):
        losses = _values(loss, index, x, y, z, p)
        weights = _weights(w, index)
        i, rows, k = index
        start = i * shape[1] + rows.start - first * block
        piece = slice(start, start + rows.stop - rows.start), k.start // SPAN
        rows_of[0][piece] = np.sum(_weighed(weights, losses), axis=1)
        rows_of[1][piece] = np.sum(_weight_of(weights, losses), axis=1)
    partials[first:last] = np.sum(sums.reshape(2, last - first, -1), axis=2).T


@quietly
def rows_each(loss, x, y, z, w, p, shape, block, first, last, out):
    for index in _row_slabs(shape, block, first, last):
        out[index] = _weighed(_weights(w, index), _values(loss, index, x, y, z, p))


@quietly
def rows_slope(loss, x, y, z, w, p, scale, shape, block, first, last, gradient, partials):
    rows_total(loss, x, y, z, w, p, shape, block, first, last, partials)
    for index in _row_slabs(shape, block, first, last):
        slopes = _slopes(loss, index, x, y, z, p)
        gradient[index] = _weighed(_weights(w, index), np.float64(scale) * slopes)


@quietly
def lanes_total(loss, x, y, z, w, p, shape, block, first, last, partials):
    outer, n, inner = shape
    for b in range(first, last):
        i, c = b % outer, b // outer
        partials[c, :, i] = 0.0
        for _, rows, k in slabs(min((c + 1) * block, n), n, inner, c * block):
            losses = _values(loss, (i, rows, k), x, y, z, p)
            weights = _weights(w, (i, rows, k))
            partials[c, 0, i, k] += _lane_sums(_weighed(weights, losses))
            partials[c, 1, i, k] += _lane_sums(_weight_of(weights, losses))


def _lane_sums(values):
    """Pairwise sums along the first axis, which `np.sum` would add one after the other."""
    while len(values) > 8:
        half = len(values) // 2
        odd = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        if len(odd):
            values = np.concatenate([values, odd])
    return np.sum(values, axis=0)


KERNELS = {f.__name__: f for f in (flat_total, flat_each, flat_slope, rows_total, rows_each, rows_slope, lanes_total)}
