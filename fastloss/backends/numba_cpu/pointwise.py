"""Kernels of the pointwise losses: how `value(x, y, ...)` and `slope(x, y, ...)` are run over arrays.

The holes `point_value` and `point_slope` are filled by `_jit.specialise` with a loss's scalars; `Real` with the type that is computed
in.  Work is cut into blocks that depend on the shape alone.  Each block writes its own sums, so results do not depend
on which thread ran it.

Roles: x prediction, y target, z third operand, w weights: arrays, scalars or None.  p: the loss's parameters.
partials: float64 (n_blocks, 2), the block's sum of weight * loss and its sum of weights.
"""

import functools

import numpy as np

from fastloss.backends.numba_cpu._jit import called, inlined, scalar, specialise
from fastloss.backends.numba_cpu._load import load, row, smaller, span, weigh, weight
from fastloss.backends.numba_cpu._registers import STEP, sum_of_step

# Elements that are summed in Real before their sum goes into float64.  They are added into PLACES places, one after the other,
# and these pairwise in float64: an order that does not depend on how loops were compiled.
PLACES = 4 * STEP
SPAN = 4 * PLACES

Real = point_value = point_slope = formula = None  # holes


# --- one span: consecutive elements that fit in L1 ------------------------------------------------------------------


@called
def _weighted_sum(losses, w):
    """Sum of weight * loss and sum of weights over one span, in float64."""
    total = 0.0
    weights = 0.0
    for i in range(losses.size):
        v = weight(w, i)
        total += v * np.float64(losses[i])
        weights += v
    return total, weights


def _each_span(x, y, z, w, p, out):
    for i in range(out.size):
        out[i] = weigh(w, i, point_value(load(x, i), load(y, i), load(z, i), p))


def _total_span(x, y, z, w, p, size, scratch):
    """Sum of weight * loss and sum of weights over one span of so many elements."""
    if w is None:
        places = scratch[:PLACES]
        places[:] = 0.0
        for start in range(0, size, PLACES):
            stop = smaller(start + PLACES, size)
            xs, ys, zs = span(x, start, stop), span(y, start, stop), span(z, start, stop)
            for i in range(stop - start):
                places[i] += point_value(load(xs, i), load(ys, i), load(zs, i), p)
        total = 0.0
        for at in range(0, PLACES, STEP):
            total += sum_of_step(places, at)
        if abs(total) < np.inf:
            return total, np.float64(size)
    for i in range(size):
        scratch[i] = point_value(load(x, i), load(y, i), load(z, i), p)
    return _weighted_sum(scratch[:size], w)


def _slope_span(x, y, z, w, p, scale, out):
    for i in range(out.size):
        out[i] = weigh(w, i, scale * point_slope(load(x, i), load(y, i), load(z, i), p))


each_span = total_span = slope_span = None  # holes: the three above, compiled for one loss


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
        total = 0.0
        weights = 0.0
        end = smaller((b + 1) * block, size)
        for start in range(b * block, end, SPAN):
            stop = smaller(start + SPAN, end)
            t, v = total_span(
                span(x, start, stop),
                span(y, start, stop),
                span(z, start, stop),
                span(w, start, stop),
                p,
                stop - start,
                scratch,
            )
            total += t
            weights += v
        partials[b, 0] = total
        partials[b, 1] = weights


def flat_small(x, y, p):
    """The sum of one block as a float: what `flat_total` computes, with fewer arguments to unpack."""
    scratch = np.empty(SPAN, Real)
    total = 0.0
    for start in range(0, x.size, SPAN):
        stop = smaller(start + SPAN, x.size)
        xs, ys = span(x, start, stop), span(y, start, stop)
        total += total_span(xs, ys, None, None, p, stop - start, scratch)[0]
    return total


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
        total = 0.0
        weights = 0.0
        end = smaller((b + 1) * block, size)
        for start in range(b * block, end, SPAN):
            stop = smaller(start + SPAN, end)
            xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
            t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch)
            slope_span(xs, ys, zs, ws, p, scale, gradient[start:stop])
            total += t
            weights += v
        partials[b, 0] = total
        partials[b, 1] = weights


# --- rows: three-dimensional operands of any strides, which hold broadcast ones (stride 0) too --------------------------


def rows_total(x, y, z, w, p, shape, block, first, last, partials):
    """Sums over blocks of `block` rows; a row is x[i, j, :], rows in C order."""
    scratch = np.empty(SPAN, Real)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        total = 0.0
        weights = 0.0
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j)
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                t, v = total_span(
                    span(xr, start, stop),
                    span(yr, start, stop),
                    span(zr, start, stop),
                    span(wr, start, stop),
                    p,
                    stop - start,
                    scratch,
                )
                total += t
                weights += v
        partials[b, 0] = total
        partials[b, 1] = weights


def rows_each(x, y, z, w, p, shape, block, first, last, out):
    """out[i, j, k] = weight * loss over blocks of rows."""
    middle = shape[1]
    for r in range(first * block, smaller(last * block, shape[0] * middle)):
        i, j = r // middle, r % middle
        each_span(row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), p, out[i, j])


def rows_slope(x, y, z, w, p, scale, shape, block, first, last, gradient, partials):
    """Sums as `rows_total`, and the gradient, of the broadcast shape."""
    scratch = np.empty(SPAN, Real)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        total = 0.0
        weights = 0.0
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr, gr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), gradient[i, j]
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                xs, ys, zs, ws = (
                    span(xr, start, stop),
                    span(yr, start, stop),
                    span(zr, start, stop),
                    span(wr, start, stop),
                )
                t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch)
                slope_span(xs, ys, zs, ws, p, scale, gr[start:stop])
                total += t
                weights += v
        partials[b, 0] = total
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
    scratch = np.empty(smaller(SPAN, inner), Real)
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
                ws = span(wr, start, stop)
                losses = scratch[: stop - start]
                each_span(span(xr, start, stop), span(yr, start, stop), span(zr, start, stop), None, p, losses)
                for k in range(losses.size):
                    v = weight(ws, k)
                    total[start + k] += v * np.float64(losses[k])
                    weights[start + k] += v


# --- filling the holes ---------------------------------------------------------------------------------------------------


def _two(x, y, z, p):
    return formula(x, y, *p)


def _three(x, y, z, p):
    return formula(x, y, z, *p)


TEMPLATES = {
    f.__name__: f
    for f in (flat_total, flat_small, flat_each, flat_slope, rows_total, rows_each, rows_slope, lanes_total)
}


@functools.cache
def _spans(loss):
    """The loops over a span, with a loss's scalars in them; compiled once a process and type."""
    adapter = _three if loss.operands == 3 else _two
    value = inlined(adapter, formula=scalar(loss.value))
    slope = inlined(adapter, formula=scalar(loss.slope))
    return {
        "each_span": called(_each_span, point_value=value),
        "total_span": called(_total_span, point_value=value),
        "slope_span": called(_slope_span, point_slope=slope),
    }


def kernel(loss, op, real):
    """The kernel `op` (a name in TEMPLATES) of a pointwise loss, computing in `real`."""
    return specialise(TEMPLATES[op], f"{loss.name}_{op}_{np.dtype(real).name}", Real=real, **_spans(loss))
