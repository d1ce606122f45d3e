"""`_target` for numba-cuda-mlir, where a lowering makes operations of MLIR instead of LLVM's.

Below compute capability 10.0 they are translated to an older dialect, which lacks some (`llvm.intr.fma`).  The
compiler's own shuffles silently drop half of what has 64 bits, its `threadfence` can't be lowered, and for it NaN == NaN.
"""

import functools
import math
import operator

import numpy as np
from numba_cuda_mlir import cuda, extending, types
from numba_cuda_mlir._mlir import ir
from numba_cuda_mlir._mlir.dialects import arith, llvm
from numba_cuda_mlir._mlir.dialects import math as operations
from numba_cuda_mlir._mlir.extras import types as kinds
from numba_cuda_mlir.extending import intrinsic

from fastloss.backends.numba_cuda import _target

WARP = 32


def inlined(function):
    """`function` for use in kernels."""
    return cuda.jit(device=True, inline="always")(function)


def address(array):
    """The address of a Numba device array."""
    return array.device_ctypes_pointer.value or 0


def _integer(bits):
    return ir.IntegerType.get_signless(bits)


def _kind(name):
    """The type by which MLIR knows what is called `name` in memory."""
    if name in ("float32", "float64"):
        return kinds.f32() if name == "float32" else kinds.f64()
    return _integer(8 * _target.SIZES[name])


def _constant(value, kind):
    return arith.constant(kind, value)


def _lowered(wanted, function):
    """A lowering: `function` of the arguments' values, which are converted to these types, unless that is None."""

    def emit(builder, target, args, kwargs):
        values = [builder.load_var(a) for a in args]
        values = [
            v if kind is None else builder.mlir_convert(v, kind()) for v, kind in zip(values, wanted, strict=True)
        ]
        builder.store_var(target, function(*values))

    return emit


_LONGS = [kinds.i64, kinds.i64]


def _asm(result, text, constraints, operands, effects=False):
    return llvm.inline_asm(result, operands, text, constraints, has_side_effects=effects)


@extending.lower_builtin(type, types.Any)
def _lower_type(builder, target, args, kwargs):
    """type(x), which formulas call: it has a type, and no value."""
    builder.store_var(target, None)


@extending.lower_builtin(operator.ne, types.Float, types.Float)
@extending.lower_builtin(operator.ne, types.Float, types.Integer)
@extending.lower_builtin(operator.ne, types.Integer, types.Float)
def _lower_differ(builder, target, args, kwargs):
    """a != b, also where one is NaN: the compiler's own is false then."""
    is_single = all(builder.get_numba_type(a.name) == types.float32 for a in args)
    kind = kinds.f32() if is_single else kinds.f64()
    values = [builder.load_var(a) for a in args]
    values = [builder.mlir_convert(v, kind) if isinstance(v, ir.Value) else _constant(float(v), kind) for v in values]
    builder.store_var(target, arith.cmpf(arith.CmpFPredicate.UNE, *values))


extending.refresh_registries(typing=False, target=True)


# --- threads ----------------------------------------------------------------------------------------------------------


@inlined
def thread():
    return cuda.threadIdx.x


@inlined
def lane():
    return cuda.threadIdx.x & 31


@inlined
def block():
    return np.int64(cuda.blockIdx.x)


@inlined
def n_blocks():
    return np.int64(cuda.gridDim.x)


@inlined
def sync():
    cuda.syncthreads()


@inlined
def sync_warp():
    cuda.syncwarp()


@intrinsic
def fence(typingctx):
    """What this thread has written is seen by others on the device before what it writes afterwards."""

    def fenced():
        _asm(None, "membar.gl;", "~{memory}", [], effects=True)

    return types.void(), _lowered([], fenced)


def _shuffler(mode):
    text = f"shfl.sync.{mode}.b32 $0, $1, $2, 31, 0xffffffff;"

    def word_of(word, number):
        return _asm(kinds.i32(), text, "=r,r,r", [word, number], effects=True)

    def moved(value, number):
        kind = value.type
        is_float = isinstance(kind, ir.F32Type | ir.F64Type)
        bits = llvm.bitcast(_integer(kind.width), value) if is_float else value
        if kind.width == 64:
            low = word_of(arith.trunci(kinds.i32(), bits), number)
            high = word_of(arith.trunci(kinds.i32(), arith.shrui(bits, _constant(32, kinds.i64()))), number)
            high = arith.shli(arith.extui(kinds.i64(), high), _constant(32, kinds.i64()))
            bits = arith.ori(arith.extui(kinds.i64(), low), high)
        elif kind.width == 32:
            bits = word_of(bits, number)
        else:
            bits = arith.trunci(kind, word_of(arith.extui(kinds.i32(), bits), number))
        return llvm.bitcast(kind, bits) if is_float else bits

    @intrinsic
    def shuffled(typingctx, value, number):
        return value(value, types.int32), _lowered([None, kinds.i32], moved)

    return shuffled


# The value in the lane whose number differs by these bits; in lane `source`.  All lanes of a warp must call them.
shuffle_xor, shuffle = _shuffler("bfly"), _shuffler("idx")


@inlined
def any_lane(condition):
    """Whether the condition holds in any lane; all lanes of a warp must call it."""
    return cuda.any_sync(0xFFFFFFFF, condition)


# --- arithmetic -------------------------------------------------------------------------------------------------------

exp, log, log1p = math.exp, math.log, math.log1p
elementary = {name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh")}


def _maximum(a, b):
    return a if a > b or a != a else b


def _minimum(a, b):
    return a if a < b or a != a else b


# NaN if either is NaN
elementary |= {"max": inlined(_maximum), "min": inlined(_minimum)}


@intrinsic
def larger(typingctx, a, b):
    """The larger of two floats of one type; if one is NaN, the other."""
    return a(a, b), _lowered([None, None], llvm.intr_maxnum)


def _divider(bits):
    def divided(a, b):
        if bits == 64:
            return arith.divui(a, b)
        a, b = (arith.trunci(_integer(bits), v) for v in (a, b))
        return arith.extui(kinds.i64(), arith.divui(a, b))

    @intrinsic
    def divide(typingctx, a, b):
        return types.int64(types.int64, types.int64), _lowered(_LONGS, divided)

    return divide


_divide_words, _divide_longs = _divider(32), _divider(64)


@inlined
def quotient(a, b):
    """a // b of integers that are not negative, b not 0, without what Python does for others."""
    return _divide_words(a, b) if (a | b) < 2**32 else _divide_longs(a, b)  # a fifth of the instructions


@intrinsic
def hardware_exp(typingctx, x):
    """2^x in float32 to about 2^-22.5; a result below the smallest normal number is 0."""
    return types.float32(types.float32), _lowered(
        [kinds.f32], lambda x: _asm(kinds.f32(), "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x])
    )


def _two_to(z):
    word = kinds.i32()
    shifted = arith.shli(llvm.bitcast(word, z), _constant(23, word))
    return llvm.bitcast(kinds.f32(), arith.addi(shifted, _constant(127 << 23, word)))


@intrinsic
def two_to(typingctx, z):
    """2^n for z = 1.5 * 2^23 + n in float32, n from -126 to 127."""
    return types.float32(types.float32), _lowered([kinds.f32], _two_to)


@intrinsic
def two_to_fraction(typingctx, f):
    """2^f for |f| <= 1/2 in float32."""
    return types.float32(types.float32), _lowered(
        [kinds.f32], lambda f: _asm(kinds.f32(), _target.horner(_target.EXP2), "=f,f", [f])
    )


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c of floats of one type, rounded once."""
    kind = kinds.f32 if a == types.float32 else kinds.f64
    return a(a, a, a), _lowered([kind] * 3, operations.fma)


# --- memory -----------------------------------------------------------------------------------------------------------


def _at(base, index, size):
    return arith.addi(base, arith.muli(index, _constant(size, kinds.i64())))


def _pointer(base, index, size):
    """Address of an element in global memory."""
    return llvm.inttoptr(llvm.PointerType.get(address_space=1), _at(base, index, size))


def _floating(value, name, real):
    """A loaded value, converted to a float."""
    target = _kind(real)
    if name == "bfloat16":
        wide = arith.shli(arith.extui(kinds.i32(), value), _constant(16, kinds.i32()))
        value, name = llvm.bitcast(kinds.f32(), wide), "float32"
    elif name == "float16":
        value, name = arith.extf(kinds.f32(), llvm.bitcast(kinds.f16(), value)), "float32"
    if name in ("float32", "float64"):
        if name == real:
            return value
        return arith.extf(target, value) if real == "float64" else arith.truncf(target, value)
    return arith.sitofp(target, value) if name.startswith("int") else arith.uitofp(target, value)


@functools.cache
def reader(name, real):
    """read(address, i): element i of memory of type `name`, as a float of type `real`."""
    size = _target.SIZES[name]

    def found(base, i):
        return _floating(llvm.load(_kind(name), _pointer(base, i, size), alignment=size), name, real)

    @intrinsic
    def read(typingctx, base, i):
        return getattr(types, real)(types.int64, types.int64), _lowered(_LONGS, found)

    return read


def _vector_type(name):
    """The type that 16 bytes are loaded as: 32-bit words if elements are smaller, because LLVM would split longer
    vectors."""
    size = max(_target.SIZES[name], 4)
    return _kind(name) if name in ("float32", "float64") else _integer(8 * size), _target.VECTOR // size


def _unpacked(words, name, real):
    """The floats contained in the words of a vector."""
    word = words[0].type
    if name == "bfloat16":  # the upper half is a float already, once the lower one's bits are masked out
        low = [arith.shli(w, _constant(16, word)) for w in words]
        high = [arith.andi(w, _constant(0xFFFF0000 - 2**32, word)) for w in words]
        pairs = [half for both in zip(low, high, strict=True) for half in both]
        return [_floating(llvm.bitcast(kinds.f32(), p), "float32", real) for p in pairs]
    size = _target.SIZES[name]
    parts = [
        arith.trunci(_integer(8 * size), arith.shrui(w, _constant(8 * size * k, word))) if size < 4 else w
        for w in words
        for k in range(max(1, 4 // size))
    ]
    return [_floating(part, name, real) for part in parts]


@functools.cache
def vector_reader(name, real):
    """read(address, i, out, at): load 16 aligned bytes, from element i on, into a local array."""
    size = _target.SIZES[name]
    n = _target.VECTOR // size

    def found(base, i):
        word, n_words = _vector_type(name)
        vector = llvm.load(ir.VectorType.get([n_words], word), _pointer(base, i, size), alignment=_target.VECTOR)
        words = [llvm.extractelement(vector, _constant(k, kinds.i32())) for k in range(n_words)]
        return tuple(_unpacked(words, name, real))

    @intrinsic
    def load(typingctx, base, i):
        return types.UniTuple(getattr(types, real), n)(types.int64, types.int64), _lowered(_LONGS, found)

    @inlined
    def read(base, i, out, at):
        values, start = load(base, i), np.uint64(at)  # without a sign, see `_staging.read_staged`
        for k in range(n):
            out[start + np.uint64(k)] = values[k]

    return read


@functools.cache
def masked_reader(name, real):
    """read(address, i, out, at, inside): as `vector_reader` if `inside`, otherwise all -inf, without a branch."""
    size = _target.SIZES[name]
    n = _target.VECTOR // size
    whole = vector_reader(name, real)
    if name not in _target.LOWEST:
        lowest = getattr(np, real)(-np.inf)

        @inlined
        def read(base, i, out, at, inside):
            if inside:
                whole(base, i, out, at)
            else:
                for k in range(n):
                    out[at + k] = lowest

        return read

    text, constraints = _target.masked_load(name)

    def found(base, i, inside):
        word, n_words = _vector_type(name)
        struct = llvm.StructType.get_literal([word] * n_words)
        got = _asm(struct, text, constraints, [_at(base, i, size), arith.extui(kinds.i32(), inside)])
        return tuple(_unpacked([llvm.extractvalue(word, got, [k]) for k in range(n_words)], name, real))

    @intrinsic
    def load(typingctx, base, i, inside):
        result = types.UniTuple(getattr(types, real), n)
        return result(types.int64, types.int64, types.boolean), _lowered([*_LONGS, lambda: _integer(1)], found)

    @inlined
    def read(base, i, out, at, inside):
        values = load(base, i, inside)
        for k in range(n):
            out[at + k] = values[k]

    return read


@functools.cache
def writer(name):
    """write(address, i, value): store a value; float32 is rounded to the nearest half."""
    size = _target.SIZES[name]
    given = "float32" if name.endswith("float16") else "int8" if name == "bool" else name

    def narrowed(value):
        if name == "float16":
            return llvm.bitcast(kinds.i16(), arith.truncf(kinds.f16(), value))
        wide = kinds.i32()
        bits = llvm.bitcast(wide, value)
        even = arith.andi(arith.shrui(bits, _constant(16, wide)), _constant(1, wide))
        rounded = arith.addi(bits, arith.addi(even, _constant(0x7FFF, wide)))
        quiet = arith.ori(bits, _constant(0x400000, wide))
        chosen = arith.select(arith.cmpf(arith.CmpFPredicate.UNO, value, value), quiet, rounded)
        return arith.trunci(kinds.i16(), arith.shrui(chosen, _constant(16, wide)))

    def stored(base, i, value):
        llvm.store(narrowed(value) if name.endswith("float16") else value, _pointer(base, i, size), alignment=size)

    @intrinsic
    def write(typingctx, base, i, value):
        signature = types.void(types.int64, types.int64, getattr(types, given))
        return signature, _lowered([*_LONGS, lambda: _kind(given)], stored)

    return write


@functools.cache
def raw_reader(name):
    """read(address, i): element i of memory of an integer type, as it is."""
    size = _target.SIZES[name]

    def found(base, i):
        return llvm.load(_kind(name), _pointer(base, i, size), alignment=size)

    @intrinsic
    def read(typingctx, base, i):
        return getattr(types, name)(types.int64, types.int64), _lowered(_LONGS, found)

    return read


@functools.cache
def vector_writer(name):
    """write(address, i, values, at): store 16 aligned bytes from a local array, from element i on."""
    size = _target.SIZES[name]
    n = _target.VECTOR // size

    def stored(base, i, *values):
        vector = llvm.mlir_undef(ir.VectorType.get([n], _kind(name)))
        for k, value in enumerate(values):
            vector = llvm.insertelement(vector, value, _constant(k, kinds.i32()))
        llvm.store(vector, _pointer(base, i, size), alignment=_target.VECTOR)

    emit = _lowered([*_LONGS, *[lambda: _kind(name)] * n], stored)
    number = getattr(types, name)
    signature = types.void(types.int64, types.int64, *[number] * n)
    if n == 4:

        @intrinsic
        def store_four(typingctx, base, i, a, b, c, d):
            return signature, emit

        @inlined
        def write(base, i, values, at):
            store_four(base, i, values[at], values[at + 1], values[at + 2], values[at + 3])

    else:

        @intrinsic
        def store_two(typingctx, base, i, a, b):
            return signature, emit

        @inlined
        def write(base, i, values, at):
            store_two(base, i, values[at], values[at + 1])

    return write


@functools.cache
def fresh_reader():
    """read(address, i) of float64 that other blocks have written: bypasses caches that are not coherent."""

    def found(base, i):
        # volatile loads are not served from the multiprocessor's own cache
        text = "ld.volatile.global.f64 $0, [$1];"
        return _asm(kinds.f64(), text, "=d,l,~{memory}", [_at(base, i, 8)], effects=True)

    @intrinsic
    def read(typingctx, base, i):
        return types.float64(types.int64, types.int64), _lowered(_LONGS, found)

    return read


_u8, _i8, _u16, _i16, _u32, _i32, _i64 = map(
    raw_reader, ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
)


@inlined
def read_label(base, i, code):
    """Element i of an integer array whose type has code `code`; -1 if int64 can't hold it."""
    label = np.int64(-1)
    if code == 0:
        label = np.int64(_u8(base, i))
    elif code == 1:
        label = np.int64(_i8(base, i))
    elif code == 2:
        label = np.int64(_u16(base, i))
    elif code == 3:
        label = np.int64(_i16(base, i))
    elif code == 4:
        label = np.int64(_u32(base, i))
    elif code == 5:
        label = np.int64(_i32(base, i))
    elif code == 6:
        label = max(_i64(base, i), np.int64(-1))
    elif code == 7:
        label = _i64(base, i)
    return label


@intrinsic
def take_ticket(typingctx, base, i):
    """Add 1 atomically to an int32 in memory; returns its previous value."""

    def taken(base, i):
        one = _constant(1, kinds.i32())
        return llvm.atomicrmw(llvm.AtomicBinOp.add, _pointer(base, i, 4), one, llvm.AtomicOrdering.monotonic)

    return types.int32(types.int64, types.int64), _lowered(_LONGS, taken)
