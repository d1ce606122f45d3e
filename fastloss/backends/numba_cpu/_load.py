"""Reads elements of operands, which may be arrays of any supported dtype, scalars, or None.

On the CPU, Numba has neither float16 nor bfloat16.  They are passed as their bits, float16 as uint16 and bfloat16 as
int16, and are widened when they are read.  A scalar stands for an array that is the same everywhere; None for an absent
one.  Numba compiles a kernel for its operands' types, so that none of these decisions remains in a loop.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload
from numba.np.arrayobj import populate_array

from fastloss.backends.numba_cpu._jit import inlined
from fastloss.backends.numba_cpu._math import bfloat_to_float, half_to_float
from fastloss.backends.numba_cpu._passes import PART

INLINED = {"jit_options": {"forceinline": True, **PART}}


@inlined
def smaller(a, b):
    """min of two integers; Numba's own takes a tenth of a second to compile."""
    return a if a < b else b


def _part(n_indices, sliced, together=False):
    """A function that makes a view of an array, without any of the checks that Numba's own indexing takes time to compile.

    It takes n_indices indices, all within the array, and then, if `sliced`, where to start and stop along the next axis, which must
    be the last.  `together`: the view is contiguous, even if its type can't tell.  Scalars and None are returned as they are.
    """

    def typing(operand, indices):
        if not isinstance(operand, types.Array):
            return operand(operand, *indices), lambda context, builder, signature, args: args[0]
        kind = operand.copy(ndim=operand.ndim - n_indices, layout="C" if together or operand.layout == "C" else "A")

        def codegen(context, builder, signature, args):
            value, *at = args
            array = context.make_array(operand)(context, builder, value)
            shape = cgutils.unpack_tuple(builder, array.shape, operand.ndim)
            strides = cgutils.unpack_tuple(builder, array.strides, operand.ndim)
            data = array.data
            for index, stride in zip(at, strides, strict=False):
                data = cgutils.pointer_add(builder, data, builder.mul(index, stride))
            if sliced:
                shape[-1] = builder.sub(at[-1], at[-2])
            view = context.make_array(kind)(context, builder)
            populate_array(
                view, data, shape[n_indices:], strides[n_indices:], array.itemsize, array.meminfo, array.parent
            )
            return impl_ret_borrowed(context, builder, kind, view._getvalue())

        return kind(operand, *indices), codegen

    return typing


_span, _row, _span_row = _part(0, sliced=True), _part(2, sliced=False), _part(1, sliced=False)
_contiguous_span = _part(0, sliced=True, together=True)


@intrinsic
def span(typingctx, operand, start, stop):
    """operand[start:stop], which must lie within the operand."""
    return _span(operand, (start, stop))


@intrinsic
def contiguous_span(typingctx, operand, start, stop):
    """The same where the elements are known to be neighbours."""
    return _contiguous_span(operand, (start, stop))


@intrinsic
def row(typingctx, operand, i, j):
    """operand[i, j] of a three-dimensional operand: one row."""
    return _row(operand, (i, j))


@intrinsic
def span_row(typingctx, operand, i):
    """operand[i] of a two-dimensional operand."""
    return _span_row(operand, (i,))


def load(operand, i):
    """The i-th element, widened to the type that is computed in."""


@overload(load, **INLINED)
def _load(operand, i):
    if not isinstance(operand, types.Array):
        return lambda operand, i: operand
    if operand.dtype == types.uint16:
        return lambda operand, i: half_to_float(operand[i])
    if operand.dtype == types.int16:
        return lambda operand, i: bfloat_to_float(operand[i])
    return lambda operand, i: operand[i]


def staged(operand, start, stop, scratch):
    """operand[start:stop] as a contiguous array: copied to `scratch` unless it is contiguous."""


@overload(staged, jit_options={**INLINED["jit_options"], "_nrt": True})  # without, no function may return a new array
def _staged(operand, start, stop, scratch):
    if not isinstance(operand, types.Array):
        return lambda operand, start, stop, scratch: operand
    if operand.layout == "C":
        return lambda operand, start, stop, scratch: span(operand, start, stop)

    def copied(operand, start, stop, scratch):
        for k in range(stop - start):
            scratch[k] = load(operand, start + k)
        return span(scratch, 0, stop - start)

    def copied_if_strided(operand, start, stop, scratch):
        if operand.strides[0] == operand.itemsize:
            return contiguous_span(operand, start, stop)
        for k in range(stop - start):
            scratch[k] = load(operand, start + k)
        return span(scratch, 0, stop - start)

    return copied_if_strided if operand.dtype == scratch.dtype and operand.aligned else copied


def weigh(w, i, value):
    """`value` times the i-th weight."""


@overload(weigh, **INLINED)
def _weigh(w, i, value):
    if isinstance(w, types.NoneType):
        return lambda w, i, value: value
    return lambda w, i, value: load(w, i) * value


def weight(w, i):
    """The i-th weight in float64; 1 where there are no weights."""


@overload(weight, **INLINED)
def _weight(w, i):
    if isinstance(w, types.NoneType):
        return lambda w, i: 1.0
    return lambda w, i: np.float64(load(w, i))


def blend(y, i, keep, spread):
    """keep * y[i] + spread: a smoothed target."""


@overload(blend, **INLINED)
def _blend(y, i, keep, spread):
    if isinstance(y, types.NoneType):
        return lambda y, i, keep, spread: spread
    return lambda y, i, keep, spread: keep * load(y, i) + spread
