"""Loads registers from memory and stores them; halves are widened when they are loaded.

No access assumes more alignment than that of an element, so that results don't depend on where an array begins.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastloss.backends.numba_cpu._lanes import (
    DOUBLE,
    FLOAT,
    INT16,
    INT32,
    INT64,
    WIDTH,
    Lanes,
    from_bfloat,
    from_half,
    shaped,
)

_WIDENED = {types.uint16: from_half, types.int16: from_bfloat}  # float16 and bfloat16, as their bits


def _item(array):
    """(the type of an element's bits, the function that widens them, or None)."""
    kind = array.kind.dtype
    if kind in _WIDENED:
        return INT16, _WIDENED[kind]
    item = {types.int32: INT32, types.float32: FLOAT, types.float64: DOUBLE}[kind]
    return INT64 if item == DOUBLE else INT32, lambda bits: bits.new(
        bits.builder.bitcast(bits.value, shaped(item, bits.type))
    )


def load(array, byte_offset, lanes=WIDTH):
    """`lanes` neighbouring elements, widened."""
    builder = array.builder
    item, widen = _item(array)
    # as bits first: LLVM would split a load of halves into scalar loads on CPUs without arithmetic on them
    pointer = builder.bitcast(array.address(byte_offset), ir.VectorType(item, lanes).as_pointer())
    return widen(Lanes(builder, builder.load(pointer, align=item.width // 8)))


def load_some(array, byte_offset, there):
    """Neighbouring elements, widened; lanes outside the mask `there` are 0 and not read."""
    builder = array.builder
    item, widen = _item(array)
    kind = ir.VectorType(item, there.type.count)
    pointer = builder.bitcast(array.address(byte_offset), kind.as_pointer())
    signature = ir.FunctionType(kind, [pointer.type, INT32, there.type, kind])
    name = f"llvm.masked.load.v{kind.count}i{item.width}.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    bits = builder.call(function, [pointer, ir.Constant(INT32, item.width // 8), there.value, ir.Constant(kind, None)])
    return widen(Lanes(builder, bits))


def ask(array, byte_offset):
    """Prefetch a cache line into the second-level cache; the address need not be valid."""
    builder = array.builder
    pointer = array.address(byte_offset.value)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    read, keep, data = (ir.Constant(INT32, number) for number in (0, 2, 1))
    builder.call(function, [pointer, read, keep, data])


# How many bytes ahead of its use a line is prefetched: memory would be idle during exponentials and divisions otherwise.
AHEAD = 16384
LINE = 64  # bytes of a line of the cache


def ask_ahead(array, at, count):
    """Prefetch what will be needed after `count` elements from position `at` on."""
    size = array.kind.dtype.bitwidth // 8
    for k in range(0, count * size, LINE):
        ask(array, at * size + (AHEAD + k))


def store(array, byte_offset, x):
    builder = array.builder
    size = array.kind.dtype.bitwidth // 8
    builder.store(x.value, builder.bitcast(array.address(byte_offset), x.type.as_pointer()), align=size)


def store_some(array, byte_offset, x, there):
    """Store the lanes in a mask, touching no other memory."""
    builder = array.builder
    pointer = builder.bitcast(array.address(byte_offset), x.type.as_pointer())
    signature = ir.FunctionType(ir.VoidType(), [x.type, pointer.type, INT32, there.type])
    name = f"llvm.masked.store.{x.suffix}.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    size = array.kind.dtype.bitwidth // 8
    builder.call(function, [x.value, pointer, ir.Constant(INT32, size), there.value])


def offset(array, i):
    """The byte offset of the i-th of contiguous elements."""
    size = array.kind.dtype.bitwidth // 8
    return array.builder.mul(i.value, i.constant(size).value)


def real_of(array):
    """The type that an array's elements are widened to."""
    return types.float32 if array.dtype in _WIDENED else array.dtype


def on_stack(*shape, zeroed=False):
    """A function (dtype) that makes an array of this shape in the kernel's stack frame.

    numpy.empty and zeros would take a quarter of a second to compile.  As the memory is the frame's, it is the same whenever a
    loop comes by, and no array may be returned.
    """

    @intrinsic
    def new(typingctx, dtype):
        kind = types.Array(dtype.instance_type, len(shape), "C")

        def codegen(context, builder, signature, args):
            item = context.get_data_type(kind.dtype)
            size = context.get_abi_sizeof(item)
            with builder.goto_entry_block():  # cgutils.alloca_once would fill it element by element
                memory = builder.alloca(ir.ArrayType(item, math.prod(shape)))
            memory.align = 64
            if zeroed:
                cgutils.memset(builder, memory, ir.Constant(INT64, size * math.prod(shape)), 0)
            strides = [size * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
            array = context.make_array(kind)(context, builder)
            populate_array(
                array,
                data=builder.bitcast(memory, item.as_pointer()),
                shape=[ir.Constant(INT64, n) for n in shape],
                strides=[ir.Constant(INT64, n) for n in strides],
                itemsize=ir.Constant(INT64, size),
                meminfo=None,
            )
            return array._getvalue()

        return kind(dtype), codegen

    return new
