"""Kernels that transform logits of up to 32 bits, in float64: c tanh(x / c) / T, what its slope makes of others, and x / T.

Unlike the pointwise formula, which takes differences from a row's largest, soft caps are of single logits: where c / T is small,
they lie so near 0 that subtracting them from each other loses nothing that a comparison of two models would show.
"""

import numpy as np
from numba import types

from fastloss.backends.numba_cpu._jit import called, inlined, specialise
from fastloss.backends.numba_cpu._load import smaller, span, span_row, staged
from fastloss.backends.numba_cpu._math import exp, fast_max
from fastloss.backends.numba_cpu._memory import on_stack

# Elements that are widened together: they stay in the first-level cache.
SPAN = 1024
new_span = on_stack(SPAN)


@inlined
def near(x, per_cap, steepness):
    """For |x| <= c: (tanh(u) / u - 1) / u^2 by u^2, to 2^-42 of tanh(u) (Remez)."""
    u = x * per_cap
    v = u * u
    p = 3.9929848931612075e-5 + v * -4.7348577130537475e-6
    p = 0.00053502029060955883 + v * (-0.00017217754251390793 + v * p)
    p = 0.0035798808064097459 + v * (-0.0014244725571259908 + v * p)
    p = 0.021868959206244735 + v * (-0.0088600442614821131 + v * p)
    p = 0.13333333082190978 + v * (-0.053968202509192066 + v * p)
    z = x * steepness
    return z + z * (v * (-0.33333333329049056 + v * p))


@inlined
def decay(x, per_cap):
    """exp(-2 |x| / c); what remains beyond 40 is not seen beside 1."""
    a = abs(x) * (2.0 * per_cap)
    return exp(-(a if a < 80.0 else 80.0))


@inlined
def far(x, per_cap, rise):
    """The same for larger |x|; an infinite x stays infinite."""
    q = decay(x, per_cap)
    size = rise * ((1.0 - q) / (1.0 + q))
    z = -size if x < 0.0 else size
    return z if abs(x) < np.inf else x


@called
def cap_span(x, cap, per_cap, steepness, rise, out):
    """out = capped x.  Few spans have logits beyond the cap."""
    beyond = 0
    for k in range(out.size):
        v = np.float64(x[k])
        out[k] = near(v, per_cap, steepness)
        beyond += 1 if abs(v) > cap else 0
    if beyond > 0:
        for k in range(out.size):
            v = np.float64(x[k])
            z = far(v, per_cap, rise)
            out[k] = z if abs(v) > cap else out[k]


@called
def slope_span(x, cap, per_cap, steepness, rise, slopes, out):
    """out = slopes * (1 - tanh^2) / T; a slope of 0 stays so whatever the logit is."""
    beyond = 0
    for k in range(out.size):
        v = np.float64(x[k])
        t = near(v, per_cap, per_cap)  # tanh
        slope = slopes[k]
        value = slope * ((1.0 - t * t) * steepness)
        out[k] = np.float32(value if slope != 0.0 else 0.0)
        beyond += 1 if not abs(v) <= cap else 0
    if beyond > 0:
        for k in range(out.size):
            v = np.float64(x[k])
            q = decay(v, per_cap)
            slope = slopes[k]
            rest = 0.0 if slope == slope else slope  # of an infinite logit; NaN stays so
            value = slope * (4.0 * q / ((1.0 + q) * (1.0 + q)) * steepness) if abs(v) < np.inf else rest
            value = np.float32(value if slope != 0.0 else 0.0)
            out[k] = value if abs(v) > cap else out[k]


@called
def larger_span(x, is_first, tops):
    for k in range(tops.size):
        tops[k] = x[k] if is_first else fast_max(tops[k], x[k])


@called
def temper_span(x, origin, steepness, out):
    for k in range(out.size):
        out[k] = (np.float64(x[k]) - origin) * steepness


@called
def temper_lanes(x, origins, steepness, out):
    for k in range(out.size):
        out[k] = (np.float64(x[k]) - origins[k]) * steepness


def cap_logits(
    x,  # IN (n, m) of any strides, float32 or the bits of halves
    cap,  # IN float64, and so
    per_cap,  # IN 1 / cap
    steepness,  # IN 1 / temperature
    rise,  # IN cap / temperature
    out,  # OUT (n, m) float64, contiguous
):
    """Cap logits."""
    scratch = new_span(np.float32)
    for i in range(x.shape[0]):
        xr, written = span_row(x, i), out[i]
        for start in range(0, x.shape[1], SPAN):
            stop = smaller(start + SPAN, x.shape[1])
            cap_span(staged(xr, start, stop, scratch), cap, per_cap, steepness, rise, written[start:stop])


def cap_slopes(
    x,  # IN (n, m) of any strides, float32 or the bits of halves
    cap,  # IN, and so the next three, as above
    per_cap,
    steepness,
    rise,
    slopes,  # IN (n, m) float64, contiguous: derivatives with respect to what `cap_logits` makes of x
    out,  # OUT (n, m) float32, of any strides: derivatives with respect to x
):
    """Multiply by the slopes of capped logits."""
    scratch, results = new_span(np.float32), new_span(np.float32)
    for i in range(x.shape[0]):
        xr, given, written = span_row(x, i), slopes[i], out[i]
        for start in range(0, x.shape[1], SPAN):
            stop = smaller(start + SPAN, x.shape[1])
            xs, found = staged(xr, start, stop, scratch), span(results, 0, stop - start)
            slope_span(xs, cap, per_cap, steepness, rise, given[start:stop], found)
            for k in range(stop - start):
                written[start + k] = found[k]


def temper_logits(
    x,  # IN (n, m) of any strides, float32 or the bits of halves
    origins,  # IN (m,) float64 if `across`, else (n,): what to subtract
    across,  # IN
    steepness,  # IN 1 / temperature
    out,  # OUT (n, m) float64, contiguous
):
    """Divide differences from a row's origin by a temperature."""
    scratch = new_span(np.float32)
    for i in range(x.shape[0]):
        xr, written = span_row(x, i), out[i]
        for start in range(0, x.shape[1], SPAN):
            stop = smaller(start + SPAN, x.shape[1])
            xs = staged(xr, start, stop, scratch)
            if across:
                temper_lanes(xs, origins[start:stop], steepness, written[start:stop])
            else:
                temper_span(xs, origins[i], steepness, written[start:stop])


def largest_across(
    x,  # IN (n, m) of any strides, float32 or the bits of halves
    out,  # OUT (m,) float64: the largest of each column, 0 where it is infinite or NaN
):
    """The origins of rows that lie across."""
    scratch, tops = new_span(np.float32), new_span(np.float32)
    for start in range(0, x.shape[1], SPAN):
        stop = smaller(start + SPAN, x.shape[1])
        found = span(tops, 0, stop - start)
        for i in range(x.shape[0]):
            larger_span(staged(span_row(x, i), start, stop, scratch), i == 0, found)
        for k in range(stop - start):
            out[start + k] = np.float64(found[k]) if abs(found[k]) < np.float32(np.inf) else 0.0


TEMPLATES = {f.__name__: f for f in (cap_logits, cap_slopes, temper_logits, largest_across)}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES)."""

    def takes_strides(i, array):  # x, and what is not contiguous of the results
        return array.ndim == 2 and array.dtype != types.float64

    return specialise(TEMPLATES[op], op, takes_strides=takes_strides)
