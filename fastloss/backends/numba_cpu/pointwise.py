"""Kernels of the pointwise losses: how values and slopes are run over arrays.

Work is cut into blocks that depend on the shape alone.  Each block writes its own sums, so results do not depend on which
thread ran it.  Within a block it goes by spans, which fit in the first-level cache.

Roles: x prediction, y target, z third operand, w weights: arrays, scalars or None.  p: the loss's parameters.
partials: float64 (n_blocks, 2), the block's sum of weight * loss and its sum of weights.
"""

import functools

import numpy as np

from fastloss.backends.numba_cpu._elements import GROUP, WIDTH, sum_with, written
from fastloss.backends.numba_cpu._jit import called, specialise
from fastloss.backends.numba_cpu._load import row, smaller, span, staged, weight
from fastloss.backends.numba_cpu._registers import in_lanes, total

# Elements whose operands and losses fit in the first-level cache.
SPAN = 2048

Real = None  # a hole: the type that is computed in
# and what `sum_with` and `written` make of a loss: for a group or register, and for the elements that are left at the end
add_group = add_rest = put_losses = put_last_losses = put_slopes = put_last_slopes = None


# --- one span: operands are contiguous or scalars ---------------------------------------------------------------------


@called
def weighted_sum(losses, w):
    """Sum of weight * loss and sum of weights, in float64."""
    value = 0.0
    weights = 0.0
    for i in range(losses.size):
        v = weight(w, i)
        value += v * np.float64(losses[i])
        weights += v
    return value, weights


def _each_span(x, y, z, w, p, out):
    whole = out.size // WIDTH * WIDTH
    for at in range(0, whole, WIDTH):
        put_losses(out, x, y, z, w, p, at)
    if whole < out.size:
        put_last_losses(out, x, y, z, w, p, whole, out.size - whole)


def _slope_span(x, y, z, w, p, scale, out):
    whole = out.size // WIDTH * WIDTH
    for at in range(0, whole, WIDTH):
        put_slopes(out, x, y, z, w, p, scale, at)
    if whole < out.size:
        put_last_slopes(out, x, y, z, w, p, scale, whole, out.size - whole)


each_span = slope_span = None  # holes: the two above, compiled for one loss


def _total_span(x, y, z, w, p, size, scratch):
    """Sum of weight * loss and sum of weights over any number of elements; w may be strided."""
    if w is None:
        sums = in_lanes(0.0)
        whole = size // GROUP * GROUP
        for at in range(0, whole, GROUP):
            sums = add_group(sums, x, y, z, p, at)
        for at in range(whole, size, WIDTH):
            sums = add_rest(sums, x, y, z, p, at, size - at)
        value = total(sums)
        if abs(value) < np.inf:
            return value, np.float64(size)
    value = 0.0
    weights = 0.0
    for start in range(0, size, SPAN):
        stop = smaller(start + SPAN, size)
        losses = scratch[: stop - start]
        each_span(span(x, start, stop), span(y, start, stop), span(z, start, stop), None, p, losses)
        t, v = weighted_sum(losses, span(w, start, stop))
        value += t
        weights += v
    return value, weights


total_span = None  # a hole: the above


# --- flat: every operand is contiguous and of one size, or a scalar ----------------------------------------------------


def flat_total(
    x,  # IN (size,)
    y,  # IN (size,) or scalar
    z,  # IN (size,), scalar or None
    w,  # IN (size,) or None
    p,  # IN tuple of parameters
    size,  # IN
    block,  # IN elements a block
    first,  # IN first block
    last,  # IN one past the last block
    partials,  # OUT (n_blocks, 2)
):
    """Sums over blocks [first, last)."""
    scratch = np.empty(SPAN, Real)
    for b in range(first, last):
        start, stop = b * block, smaller((b + 1) * block, size)
        xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
        partials[b, 0], partials[b, 1] = total_span(xs, ys, zs, ws, p, stop - start, scratch)


def flat_small(x, y, p):
    """The sum of one block as a float: what `flat_total` computes, with fewer arguments to unpack."""
    return total_span(x, y, None, None, p, x.size, np.empty(SPAN, Real))[0]


def flat_each(x, y, z, w, p, size, block, first, last, out):
    """out[i] = weight * loss over blocks [first, last)."""
    start = first * block
    stop = smaller(last * block, size)
    each_span(
        span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop), p, out[start:stop]
    )


def flat_slope(
    x,
    y,
    z,
    w,
    p,
    scale,  # IN what the derivative of the sum is multiplied by: 1, or 1 / the mean's denominator
    size,
    block,
    first,
    last,
    gradient,  # OUT (size,)
    partials,  # OUT (n_blocks, 2)
):
    """Sums as `flat_total`, and the gradient while the operands are in L1."""
    scratch = np.empty(SPAN, Real)
    for b in range(first, last):
        value = 0.0
        weights = 0.0
        end = smaller((b + 1) * block, size)
        for start in range(b * block, end, SPAN):
            stop = smaller(start + SPAN, end)
            xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
            t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch)
            slope_span(xs, ys, zs, ws, p, scale, gradient[start:stop])
            value += t
            weights += v
        partials[b, 0] = value
        partials[b, 1] = weights


# --- rows: three-dimensional operands of any strides, which hold broadcast ones (stride 0) too --------------------------


def rows_total(x, y, z, w, p, shape, block, first, last, partials):
    """Sums over blocks of `block` rows; a row is x[i, j, :], rows in C order."""
    scratch = np.empty((4, SPAN), Real)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        value = 0.0
        weights = 0.0
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j)
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                xs = staged(xr, start, stop, scratch[0])
                ys = staged(yr, start, stop, scratch[1])
                zs = staged(zr, start, stop, scratch[2])
                t, v = total_span(xs, ys, zs, span(wr, start, stop), p, stop - start, scratch[3])
                value += t
                weights += v
        partials[b, 0] = value
        partials[b, 1] = weights


def rows_each(x, y, z, w, p, shape, block, first, last, out):
    """out[i, j, k] = weight * loss over blocks of rows."""
    scratch, wide = np.empty((3, SPAN), Real), np.empty(SPAN)
    middle, size = shape[1], shape[2]
    for r in range(first * block, smaller(last * block, shape[0] * middle)):
        i, j = r // middle, r % middle
        xr, yr, zr, wr, written = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), out[i, j]
        for start in range(0, size, SPAN):
            stop = smaller(start + SPAN, size)
            xs = staged(xr, start, stop, scratch[0])
            ys = staged(yr, start, stop, scratch[1])
            zs = staged(zr, start, stop, scratch[2])
            each_span(xs, ys, zs, staged(wr, start, stop, wide), p, written[start:stop])


def rows_slope(x, y, z, w, p, scale, shape, block, first, last, gradient, partials):
    """Sums as `rows_total`, and the gradient, of the broadcast shape."""
    scratch, wide = np.empty((4, SPAN), Real), np.empty(SPAN)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        value = 0.0
        weights = 0.0
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr, gr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), gradient[i, j]
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                xs = staged(xr, start, stop, scratch[0])
                ys = staged(yr, start, stop, scratch[1])
                zs = staged(zr, start, stop, scratch[2])
                ws = staged(wr, start, stop, wide)
                t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch[3])
                slope_span(xs, ys, zs, ws, p, scale, gr[start:stop])
                value += t
                weights += v
        partials[b, 0] = value
        partials[b, 1] = weights


# --- lanes: sums over the middle axis, one result for each (i, k) --------------------------------------------------------


def lanes_total(
    x,  # IN (outer, n, inner), and so y, z, w
    y,
    z,
    w,
    p,
    shape,  # IN (outer, n, inner)
    block,  # IN positions of the middle axis a block
    first,  # IN blocks count through outer first, then through the middle axis
    last,
    partials,  # OUT (blocks along the middle axis, 2, outer, inner)
):
    """Sums over the middle axis; the lanes of a register are neighbours along the last one."""
    outer, n, inner = shape
    scratch = np.empty((4, smaller(SPAN, inner)), Real)
    for b in range(first, last):
        i, c = b % outer, b // outer
        total = partials[c, 0, i]
        weights = partials[c, 1, i]
        total[:] = 0.0
        weights[:] = 0.0
        for j in range(c * block, smaller((c + 1) * block, n)):
            xr, yr, zr, wr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j)
            for start in range(0, inner, SPAN):
                stop = smaller(start + SPAN, inner)
                xs = staged(xr, start, stop, scratch[0])
                ys = staged(yr, start, stop, scratch[1])
                zs = staged(zr, start, stop, scratch[2])
                losses, ws = scratch[3, : stop - start], span(wr, start, stop)
                each_span(xs, ys, zs, None, p, losses)
                for k in range(losses.size):
                    v = weight(ws, k)
                    total[start + k] += v * np.float64(losses[k])
                    weights[start + k] += v


# --- filling the holes ---------------------------------------------------------------------------------------------------

TEMPLATES = {
    f.__name__: f
    for f in (flat_total, flat_small, flat_each, flat_slope, rows_total, rows_each, rows_slope, lanes_total)
}


@functools.cache
def _spans(loss, real):
    """The loops over a span, with a loss's formulas in them; compiled once a process and type."""
    add_group, add_rest = sum_with(loss)
    put_losses, put_last_losses = written(loss.value, scaled=False)
    put_slopes, put_last_slopes = written(loss.slope, scaled=True)
    purpose = f"{loss.name}_{np.dtype(real).name}"
    each_span = called(_each_span, purpose, put_losses=put_losses, put_last_losses=put_last_losses)
    return {
        "each_span": each_span,
        "total_span": called(_total_span, purpose, add_group=add_group, add_rest=add_rest, each_span=each_span),
        "slope_span": called(_slope_span, purpose, put_slopes=put_slopes, put_last_slopes=put_last_slopes),
    }


def kernel(loss, op, real):
    """The kernel `op` (a name in TEMPLATES) of a pointwise loss, computing in `real`."""
    return specialise(TEMPLATES[op], f"{loss.name}_{op}_{np.dtype(real).name}", Real=real, **_spans(loss, real))
