"""Reads elements of operands, which may be arrays of any supported dtype, scalars, or None.

On the CPU, Numba has neither float16 nor bfloat16.  They are passed as their bits, float16 as uint16 and bfloat16 as
int16, and are widened when they are read.  A scalar stands for an array that is the same everywhere; None for an absent
one.  Numba compiles a kernel for its operands' types, so that none of these decisions remains in a loop.
"""

import numpy as np
from numba import types
from numba.extending import overload

from fastloss.backends.numba_cpu._jit import inlined
from fastloss.backends.numba_cpu._math import bfloat_to_float, half_to_float

_INLINED = {"jit_options": {"forceinline": True}}


@inlined
def smaller(a, b):
    """min of two integers; Numba's own takes a tenth of a second to compile."""
    return a if a < b else b


def load(operand, i):
    """The i-th element, widened to the type that is computed in."""


@overload(load, **_INLINED)
def _load(operand, i):
    if not isinstance(operand, types.Array):
        return lambda operand, i: operand
    if operand.dtype == types.uint16:
        return lambda operand, i: half_to_float(operand[i])
    if operand.dtype == types.int16:
        return lambda operand, i: bfloat_to_float(operand[i])
    return lambda operand, i: operand[i]


def span(operand, start, stop):
    """operand[start:stop]; scalars and None are returned as they are."""


@overload(span, **_INLINED)
def _span(operand, start, stop):
    if isinstance(operand, types.Array):
        return lambda operand, start, stop: operand[start:stop]
    return lambda operand, start, stop: operand


def staged(operand, start, stop, scratch):
    """operand[start:stop] as a contiguous array: copied to `scratch` unless its type says that it is contiguous."""


@overload(staged, **_INLINED)
def _staged(operand, start, stop, scratch):
    if not isinstance(operand, types.Array):
        return lambda operand, start, stop, scratch: operand
    if operand.layout == "C":
        return lambda operand, start, stop, scratch: operand[start:stop]

    def copied(operand, start, stop, scratch):
        for k in range(stop - start):
            scratch[k] = load(operand, start + k)
        return scratch[: stop - start]

    return copied


def row(operand, i, j):
    """operand[i, j] of a three-dimensional operand: one row."""


@overload(row, **_INLINED)
def _row(operand, i, j):
    if isinstance(operand, types.Array):
        return lambda operand, i, j: operand[i, j]
    return lambda operand, i, j: operand


def span_row(operand, i):
    """operand[i] of a two-dimensional operand."""


@overload(span_row, **_INLINED)
def _span_row(operand, i):
    if isinstance(operand, types.Array):
        return lambda operand, i: operand[i]
    return lambda operand, i: operand


def weigh(w, i, value):
    """`value` times the i-th weight."""


@overload(weigh, **_INLINED)
def _weigh(w, i, value):
    if isinstance(w, types.NoneType):
        return lambda w, i, value: value
    return lambda w, i, value: load(w, i) * value


def weight(w, i):
    """The i-th weight in float64; 1 where there are no weights."""


@overload(weight, **_INLINED)
def _weight(w, i):
    if isinstance(w, types.NoneType):
        return lambda w, i: 1.0
    return lambda w, i: np.float64(load(w, i))


def blend(y, i, keep, spread):
    """keep * y[i] + spread: a smoothed target."""


@overload(blend, **_INLINED)
def _blend(y, i, keep, spread):
    if isinstance(y, types.NoneType):
        return lambda y, i, keep, spread: spread
    return lambda y, i, keep, spread: keep * load(y, i) + spread
