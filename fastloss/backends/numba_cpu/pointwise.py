"""Kernels of the pointwise losses: loops that compute values and slopes over arrays.

Work is cut into blocks that depend on the shape alone.  Each block writes its own sums, so results do not depend on
which thread ran it.  A block is processed in spans, which fit in the first-level cache.

Roles: x prediction, y target, z third operand, w weights: arrays, scalars or None.  p: the loss's parameters.
partials: float64 (n_blocks, 2), the block's sum of weight * loss and its sum of weights.
"""

import functools

import numpy as np
from numba.np.numpy_support import from_dtype

from fastloss.backends.numba_cpu._elements import GROUP, WIDTH, sum_with, written
from fastloss.backends.numba_cpu._jit import called, inlined, specialise
from fastloss.backends.numba_cpu._load import row, smaller, span, staged, weight
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._registers import in_lanes, total

# Elements per span: their operands and losses fit in the first-level cache.
SPAN = 2048
new_span, new_pair, new_spans = on_stack(SPAN), on_stack(2, SPAN), on_stack(4, SPAN)

# How many spans are summed before their total is added to that of the block.
FEW = 64

Real = None  # a hole: the type that is computed in
# and the intrinsics that `sum_with` and `written` make of a loss: for a group or register, and for the remaining
# elements
add_group = add_rest = put_losses = put_last_losses = put_slopes = put_last_slopes = None


# --- one span: up to SPAN elements of operands that are contiguous or scalars -----------------------------------------
#
# Where float32 overflows on the way, the result is computed again in float64: an element if its result is not finite, a
# span if its sum is not.


@called
def weighted_sum(losses, w):
    """(sum of weight * loss, sum of weights) in float64; a weight of 0 gives 0 even if the loss is NaN or infinite."""
    value = 0.0
    weights = 0.0
    for i in range(losses.size):
        v = weight(w, i)
        weighed = v * np.float64(losses[i])  # outside the condition, because the loop would not vectorise otherwise
        value += weighed if v != 0.0 else 0.0
        weights += v
    return value, weights


@called
def add_each(losses, w, total, weights):
    """Add each loss and weight to its own sum."""
    for k in range(losses.size):
        v = weight(w, k)
        weighed = v * np.float64(losses[k])
        total[k] += weighed if v != 0.0 else 0.0
        weights[k] += v


def _all_finite(out):
    found = Real(0.0)
    for i in range(out.size):
        found += out[i] * Real(0.0)
    return found == Real(0.0)


def _losses(x, y, z, w, p, out):
    whole = out.size // WIDTH * WIDTH
    for at in range(0, whole, WIDTH):
        put_losses(out, x, y, z, w, p, at)
    if whole < out.size:
        put_last_losses(out, x, y, z, w, p, whole, out.size - whole)


def _slopes(x, y, z, w, p, scale, out):
    whole = out.size // WIDTH * WIDTH
    for at in range(0, whole, WIDTH):
        put_slopes(out, x, y, z, w, p, scale, at)
    if whole < out.size:
        put_last_slopes(out, x, y, z, w, p, scale, whole, out.size - whole)


# The same for few elements, with only the register for remaining elements, which takes less time to compile.


def _few_losses(x, y, z, w, p, out):
    for at in range(0, out.size, WIDTH):
        put_last_losses(out, x, y, z, w, p, at, out.size - at)


def _few_slopes(x, y, z, w, p, scale, out):
    for at in range(0, out.size, WIDTH):
        put_last_slopes(out, x, y, z, w, p, scale, at, out.size - at)


all_finite = losses = slopes = None  # holes: the above
wide_losses = wide_slopes = None  # holes: the last two in float64, where `out` has no finite number


def _each_span(x, y, z, w, p, out):
    losses(x, y, z, w, p, out)
    if not all_finite(out):
        wide_losses(x, y, z, w, p, out)


def _usable(scale):
    """NaN, so that all slopes are computed again in float64, if the factor has too few digits in float32 (or none)."""
    return scale if 2.0**-80 <= abs(scale) <= 2.0**80 or scale == 0.0 else np.nan


def _any(scale):
    return scale


usable = None  # a hole: either of them, for float32 and float64


def _slope_span(x, y, z, w, p, scale, out):
    slopes(x, y, z, w, p, usable(scale), out)
    if not all_finite(out):
        wide_slopes(x, y, z, w, p, scale, out)


def _wide_total(x, y, z, w, p, size, wide):
    part = wide[:size]
    part[:] = np.inf
    wide_losses(x, y, z, None, p, part)
    return weighted_sum(part, w)


wide_total = None  # a hole: the above


def _total_span(x, y, z, w, p, size, scratch, wide):
    """(sum of weight * loss, sum of weights) of a span; w may be strided."""
    if w is None:
        sums = in_lanes(0.0)
        whole = size // GROUP * GROUP
        for at in range(0, whole, GROUP):
            sums = add_group(sums, x, y, z, p, at)
        for at in range(whole, size, WIDTH):
            sums = add_rest(sums, x, y, z, p, at, size - at)
        value = total(sums)
        weights = np.float64(size)
    else:
        part = scratch[:size]
        losses(x, y, z, None, p, part)
        value, weights = weighted_sum(part, w)
    if abs(value) < np.inf:
        return value, weights
    return wide_total(x, y, z, w, p, size, wide)


def _lanes_span(x, y, z, w, p, total, weights, scratch):
    """Add each loss and weight of a span to its own sum."""
    part = scratch[: total.size]
    losses(x, y, z, None, p, part)
    add_each(part, w, total, weights)


def _wide_lanes(x, y, z, w, p, total, weights, scratch, wide):
    """The same, with losses in float64 where they are not finite in float32."""
    part, mended = scratch[: total.size], wide[: total.size]
    losses(x, y, z, None, p, part)
    for k in range(mended.size):  # a slice assignment would compile the formatting of its error message
        mended[k] = part[k]
    wide_losses(x, y, z, None, p, mended)
    add_each(mended, w, total, weights)


# in float64 there is nothing to compute again
def _always(out):
    return True


def _same_losses(x, y, z, w, p, out):
    pass


def _same_slopes(x, y, z, w, p, scale, out):
    pass


def _same_lanes(x, y, z, w, p, total, weights, scratch, wide):
    pass


def _same_total(x, y, z, w, p, size, wide):
    part = wide[:size]
    losses(x, y, z, None, p, part)
    return weighted_sum(part, w)


each_span = slope_span = total_span = lanes_span = wide_lanes = sums_finite = None  # holes: the above


@inlined
def counted(sums, value, weights):
    """Add a span's sums to a block's: (losses and weights, those of the last few spans, how many spans these are)."""
    all_values, all_weights, few_values, few_weights, n = sums
    few_values += value
    few_weights += weights
    n += 1
    if n == FEW:
        return all_values + few_values, all_weights + few_weights, 0.0, 0.0, 0
    return all_values, all_weights, few_values, few_weights, n


# --- flat: every operand is contiguous and of one size, or a scalar ---------------------------------------------------


def flat_total(
    x,  # IN (size,)
    y,  # IN (size,) or scalar
    z,  # IN (size,), scalar or None
    w,  # IN (size,) or None
    p,  # IN tuple of parameters
    size,  # IN
    block,  # IN elements per block
    first,  # IN first block
    last,  # IN one past the last block
    partials,  # OUT (n_blocks, 2)
):
    """Sums over blocks [first, last)."""
    scratch, wide = new_span(Real), new_span(np.float64)
    for b in range(first, last):
        sums = (0.0, 0.0, 0.0, 0.0, 0)
        end = smaller((b + 1) * block, size)
        for start in range(b * block, end, SPAN):
            stop = smaller(start + SPAN, end)
            xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
            t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch, wide)
            sums = counted(sums, t, v)
        partials[b, 0] = sums[0] + sums[2]
        partials[b, 1] = sums[1] + sums[3]


def flat_each(x, y, z, w, p, size, block, first, last, out):
    """out[i] = weight * loss over blocks [first, last)."""
    end = smaller(last * block, size)
    for start in range(first * block, end, SPAN):
        stop = smaller(start + SPAN, end)
        xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
        each_span(xs, ys, zs, ws, p, out[start:stop])


def flat_slope(
    x,
    y,
    z,
    w,
    p,
    scale,  # IN factor of the sum's derivative, float64: 1, or 1 / the mean's denominator
    size,
    block,
    first,
    last,
    gradient,  # OUT (size,)
    partials,  # OUT (n_blocks, 2)
):
    """The sums of `flat_total`, and the gradient while the operands are in L1."""
    scratch, wide = new_span(Real), new_span(np.float64)
    for b in range(first, last):
        sums = (0.0, 0.0, 0.0, 0.0, 0)
        end = smaller((b + 1) * block, size)
        for start in range(b * block, end, SPAN):
            stop = smaller(start + SPAN, end)
            xs, ys, zs, ws = span(x, start, stop), span(y, start, stop), span(z, start, stop), span(w, start, stop)
            t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch, wide)
            slope_span(xs, ys, zs, ws, p, scale, gradient[start:stop])
            sums = counted(sums, t, v)
        partials[b, 0] = sums[0] + sums[2]
        partials[b, 1] = sums[1] + sums[3]


# --- rows: three-dimensional operands with any strides, including 0 for broadcast axes --------------------------------


def rows_total(x, y, z, w, p, shape, block, first, last, partials):
    """Sums over blocks of `block` rows; a row is x[i, j, :], rows in C order."""
    scratch, wide = new_spans(Real), new_span(np.float64)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        sums = (0.0, 0.0, 0.0, 0.0, 0)
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j)
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                xs = staged(xr, start, stop, scratch[0])
                ys = staged(yr, start, stop, scratch[1])
                zs = staged(zr, start, stop, scratch[2])
                t, v = total_span(xs, ys, zs, span(wr, start, stop), p, stop - start, scratch[3], wide)
                sums = counted(sums, t, v)
        partials[b, 0] = sums[0] + sums[2]
        partials[b, 1] = sums[1] + sums[3]


def rows_each(x, y, z, w, p, shape, block, first, last, out):
    """out[i, j, k] = weight * loss over blocks of rows."""
    scratch, weights = new_spans(Real), new_span(np.float64)
    middle, size = shape[1], shape[2]
    for r in range(first * block, smaller(last * block, shape[0] * middle)):
        i, j = r // middle, r % middle
        xr, yr, zr, wr, written = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), out[i, j]
        for start in range(0, size, SPAN):
            stop = smaller(start + SPAN, size)
            xs = staged(xr, start, stop, scratch[0])
            ys = staged(yr, start, stop, scratch[1])
            zs = staged(zr, start, stop, scratch[2])
            each_span(xs, ys, zs, staged(wr, start, stop, weights), p, written[start:stop])


def rows_slope(x, y, z, w, p, scale, shape, block, first, last, gradient, partials):
    """The sums of `rows_total`, and the gradient in the broadcast shape."""
    scratch, wide, weights = new_spans(Real), new_span(np.float64), new_span(np.float64)
    n_rows, middle, size = shape[0] * shape[1], shape[1], shape[2]
    for b in range(first, last):
        sums = (0.0, 0.0, 0.0, 0.0, 0)
        for r in range(b * block, smaller((b + 1) * block, n_rows)):
            i, j = r // middle, r % middle
            xr, yr, zr, wr, gr = row(x, i, j), row(y, i, j), row(z, i, j), row(w, i, j), gradient[i, j]
            for start in range(0, size, SPAN):
                stop = smaller(start + SPAN, size)
                xs = staged(xr, start, stop, scratch[0])
                ys = staged(yr, start, stop, scratch[1])
                zs = staged(zr, start, stop, scratch[2])
                ws = staged(wr, start, stop, weights)
                t, v = total_span(xs, ys, zs, ws, p, stop - start, scratch[3], wide)
                slope_span(xs, ys, zs, ws, p, scale, gr[start:stop])
                sums = counted(sums, t, v)
        partials[b, 0] = sums[0] + sums[2]
        partials[b, 1] = sums[1] + sums[3]


# --- lanes: sums over the middle axis, one result for each (i, k) -----------------------------------------------------


def lanes_total(
    x,  # IN (outer, n, inner), and so y, z, w
    y,
    z,
    w,
    p,
    shape,  # IN (outer, n, inner)
    block,  # IN positions of the middle axis per block
    first,  # IN blocks count through outer first, then through the middle axis
    last,
    partials,  # OUT (blocks along the middle axis, 2, outer, inner)
):
    """Sums over the middle axis; the lanes of a register are neighbours along the last one."""
    outer, n, inner = shape
    scratch, wide, few = new_spans(Real), new_span(np.float64), new_pair(np.float64)
    for b in range(first, last):
        i, c = b % outer, b // outer
        end = smaller((c + 1) * block, n)
        for start in range(0, inner, SPAN):
            stop = smaller(start + SPAN, inner)
            total, weights = partials[c, 0, i, start:stop], partials[c, 1, i, start:stop]
            total[:] = 0.0
            weights[:] = 0.0
            part, part_weights = few[0, : stop - start], few[1, : stop - start]
            for row_of_few in range(c * block, end, 2 * FEW):
                part[:] = 0.0
                part_weights[:] = 0.0
                for j in range(row_of_few, smaller(row_of_few + 2 * FEW, end)):
                    xs = staged(row(x, i, j), start, stop, scratch[0])
                    ys = staged(row(y, i, j), start, stop, scratch[1])
                    zs = staged(row(z, i, j), start, stop, scratch[2])
                    lanes_span(xs, ys, zs, span(row(w, i, j), start, stop), p, part, part_weights, scratch[3])
                if not sums_finite(part):
                    part[:] = 0.0
                    part_weights[:] = 0.0
                    for j in range(row_of_few, smaller(row_of_few + 2 * FEW, end)):
                        xs = staged(row(x, i, j), start, stop, scratch[0])
                        ys = staged(row(y, i, j), start, stop, scratch[1])
                        zs = staged(row(z, i, j), start, stop, scratch[2])
                        ws = span(row(w, i, j), start, stop)
                        wide_lanes(xs, ys, zs, ws, p, part, part_weights, scratch[3], wide)
                for k in range(part.size):
                    total[k] += part[k]
                    weights[k] += part_weights[k]


# --- filling the holes ------------------------------------------------------------------------------------------------

TEMPLATES = {f.__name__: f for f in (flat_total, flat_each, flat_slope, rows_total, rows_each, rows_slope, lanes_total)}


@functools.cache
def _spans(loss, real):
    """The loops over a span, with a loss's formulas in them; compiled once per process and type."""
    add_group, add_rest = sum_with(loss)
    purpose = f"{loss.name}_{np.dtype(real).name}"
    losses = _loops(_losses, purpose, "losses", written(loss, loss.value, scaled=False))
    slopes = _loops(_slopes, purpose, "slopes", written(loss, loss.slope, scaled=True))
    if real is np.float32:
        all_finite, usable = called(_all_finite, purpose, Real=real), called(_usable, purpose)
        wide_losses = _loops(
            _few_losses, f"{purpose}_wide", "losses", written(loss, loss.value, scaled=False, wide=True)
        )
        wide_slopes = _loops(
            _few_slopes, f"{purpose}_wide", "slopes", written(loss, loss.slope, scaled=True, wide=True)
        )
        wide_total = called(_wide_total, purpose, wide_losses=wide_losses)
        wide_lanes = called(_wide_lanes, purpose, losses=losses, wide_losses=wide_losses)
        sums_finite = called(_all_finite, f"{purpose}_sums", Real=np.float64)
    else:
        all_finite, usable = called(_always, purpose), called(_any, purpose)
        wide_losses, wide_slopes = called(_same_losses, purpose), called(_same_slopes, purpose)
        wide_total = called(_same_total, purpose, losses=losses)
        wide_lanes, sums_finite = called(_same_lanes, purpose), all_finite
    given = {"losses": losses, "all_finite": all_finite, "wide_losses": wide_losses}
    return {
        "each_span": called(_each_span, purpose, **given),
        "total_span": called(
            _total_span, purpose, add_group=add_group, add_rest=add_rest, losses=losses, wide_total=wide_total
        ),
        "slope_span": called(
            _slope_span, purpose, slopes=slopes, usable=usable, all_finite=all_finite, wide_slopes=wide_slopes
        ),
        "lanes_span": called(_lanes_span, purpose, losses=losses),
        "wide_lanes": wide_lanes,
        "sums_finite": sums_finite,
    }


def _loops(template, purpose, name, intrinsics):
    """A loop over a span that writes losses or slopes."""
    put, put_last = intrinsics
    return called(template, purpose, **{f"put_{name}": put, f"put_last_{name}": put_last})


def kernel(loss, op, real):
    """The kernel `op` (a name in TEMPLATES) of a pointwise loss, computing in `real`."""

    def staged(i, array):  # x, y and z, see `_load`
        return i < 3 and array.ndim == 3 and array.dtype == from_dtype(np.dtype(real))

    name = f"{loss.name}_{op}_{np.dtype(real).name}"
    return specialise(TEMPLATES[op], name, takes_strides=staged, Real=real, **_spans(loss, real))
