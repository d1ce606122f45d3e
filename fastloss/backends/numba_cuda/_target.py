"""Everything that depends on the compiler for CUDA: raw memory, shuffles, the hardware's exponential.

Kernels and device functions elsewhere in this package use nothing of Numba except local and shared arrays; to move to
another compiler for CUDA, replace this file.  An address is an integer on a GPU.  In Numba's simulator, which has
neither addresses nor shuffles, it is an object that refuses accesses outside its memory (`_simulated.py`).
"""

import functools

import numpy as np

from fastloss.backends.numba_cuda._compiler import MLIR, SIMULATED

# Element types by name: size in bytes, and how to convert a value to a float.
SIZES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}

# Codes by which labels of any integer type are read.
LABEL_KINDS = {
    "bool": 0,
    "uint8": 0,
    "int8": 1,
    "uint16": 2,
    "int16": 3,
    "uint32": 4,
    "int32": 5,
    "uint64": 6,
    "int64": 7,
}

VECTOR = 16  # bytes of the widest load

# 2^f for |f| <= 0.5005 to 2e-8, the highest power first: least squares of the relative error, weighted until its extrema are equal.
EXP2 = (
    0.00015353258640971035, 0.0013399003073573112, 0.00961843878030777, 0.05550331994891167, 0.24022647738456726,
    0.6931471824645996, 1.0,
)  # fmt: skip


def horner(coefficients):
    """The PTX of a polynomial of $1 to $0, in float32."""
    words = [f"0f{np.float32(c).view(np.uint32):08X}" for c in coefficients]
    steps = "".join(f"fma.rn.f32 p, p, $1, {word}; " for word in words[1:])
    return f"{{ .reg .f32 p; mov.f32 p, {words[0]}; {steps}mov.f32 $0, p; }}"


# Words of which all elements are -inf, and the registers they go to.
LOWEST = {
    "float16": ("0xFC00FC00", "b32", "r"),
    "bfloat16": ("0xFF80FF80", "b32", "r"),
    "float32": ("0xFF800000", "b32", "f"),
    "float64": ("0xFFF0000000000000", "b64", "d"),
}


def masked_load(name):
    """The PTX that loads 16 bytes from an address into words if a condition holds, otherwise those above; and its
    constraints."""
    bits, kind, letter = LOWEST[name]
    n_words = VECTOR // max(SIZES[name], 4)
    outs = [f"${k}" for k in range(n_words)]
    text = "".join(
        (
            f"{{ .reg .pred inside; setp.ne.s32 inside, ${n_words + 1}, 0; ",
            *(f"mov.{kind} {out}, {bits}; " for out in outs),
            f"@inside ld.global.v{n_words}.{kind} {{{', '.join(outs)}}}, [${n_words}]; }}",
        )
    )
    return text, ",".join([f"=&{letter}"] * n_words + ["l", "r"])


if SIMULATED:
    from fastloss.backends.numba_cuda._simulated import (
        WARP,
        address,
        any_lane,
        block,
        elementary,
        exp,
        fence,
        fma,
        fresh_reader,
        hardware_exp,
        inlined,
        lane,
        larger,
        log,
        log1p,
        masked_reader,
        n_blocks,
        quotient,
        raw_reader,
        read_label,
        reader,
        shuffle,
        shuffle_xor,
        sync,
        sync_warp,
        take_ticket,
        thread,
        two_to,
        two_to_fraction,
        vector_reader,
        vector_writer,
        writer,
    )
elif MLIR:
    from fastloss.backends.numba_cuda._target_mlir import (
        WARP,
        address,
        any_lane,
        block,
        elementary,
        exp,
        fence,
        fma,
        fresh_reader,
        hardware_exp,
        inlined,
        lane,
        larger,
        log,
        log1p,
        masked_reader,
        n_blocks,
        quotient,
        raw_reader,
        read_label,
        reader,
        shuffle,
        shuffle_xor,
        sync,
        sync_warp,
        take_ticket,
        thread,
        two_to,
        two_to_fraction,
        vector_reader,
        vector_writer,
        writer,
    )
else:
    import math

    from llvmlite import ir
    from numba import cuda
    from numba.cuda import types
    from numba.cuda.extending import intrinsic, register_jitable

    WARP = 32

    def inlined(function):
        """`function` for use in kernels."""
        return register_jitable(forceinline=True)(function)

    def address(array):
        """The address of a Numba device array."""
        return array.device_ctypes_pointer.value or 0

    # --- threads ----------------------------------------------------------------------------------------------------

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

    @inlined
    def fence():
        cuda.threadfence()

    @inlined
    def shuffle_xor(value, mask):
        """The value in the lane whose number differs by these bits; all lanes of a warp must call it."""
        return cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)

    @inlined
    def any_lane(condition):
        """Whether the condition holds in any lane; all lanes of a warp must call it."""
        return cuda.any_sync(0xFFFFFFFF, condition)

    @inlined
    def shuffle(value, source):
        """The value in lane `source`."""
        return cuda.shfl_sync(0xFFFFFFFF, value, source)

    # --- arithmetic -------------------------------------------------------------------------------------------------

    exp, log, log1p = math.exp, math.log, math.log1p
    elementary = {name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh")}

    def _maximum(a, b):
        return a if a > b or a != a else b

    def _minimum(a, b):
        return a if a < b or a != a else b

    # NaN if either is NaN; Numba's own keep or drop NaN depending on its position
    elementary |= {"max": inlined(_maximum), "min": inlined(_minimum)}

    @intrinsic
    def larger(typingctx, a, b):
        """The larger of two floats of one type; if one is NaN, the other."""

        def emit(context, builder, signature, args):
            name = "llvm.maxnum.f32" if signature.return_type == types.float32 else "llvm.maxnum.f64"
            kind = args[0].type
            function = builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, args)

        return a(a, b), emit

    def _divider(bits):
        @intrinsic
        def divide(typingctx, a, b):
            def emit(context, builder, signature, args):
                kind = ir.IntType(bits)
                a, b = (builder.trunc(v, kind) if bits < 64 else v for v in args)
                found = builder.udiv(a, b)
                return builder.zext(found, ir.IntType(64)) if bits < 64 else found

            return types.int64(types.int64, types.int64), emit

        return divide

    _divide_words, _divide_longs = _divider(32), _divider(64)

    @inlined
    def quotient(a, b):
        """a // b of integers that are not negative, b not 0, without what Python does for others."""
        return _divide_words(a, b) if (a | b) < 2**32 else _divide_longs(a, b)  # a fifth of the instructions

    @intrinsic
    def hardware_exp(typingctx, x):
        """2^x in float32 to about 2^-22.5; a result below the smallest normal number is 0."""

        def emit(context, builder, signature, args):
            function = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
            return builder.call(ir.InlineAsm(function, "ex2.approx.ftz.f32 $0, $1;", "=f,f"), args)

        return types.float32(types.float32), emit

    @intrinsic
    def two_to(typingctx, z):
        """2^n for z = 1.5 * 2^23 + n in float32, n from -126 to 127."""

        def emit(context, builder, signature, args):
            word = ir.IntType(32)
            shifted = builder.shl(builder.bitcast(args[0], word), ir.Constant(word, 23))
            return builder.bitcast(builder.add(shifted, ir.Constant(word, 127 << 23)), ir.FloatType())

        return types.float32(types.float32), emit

    @intrinsic
    def two_to_fraction(typingctx, f):
        """2^f for |f| <= 1/2 in float32; in one piece, as loops of more are not unrolled and their registers would be memory."""

        def emit(context, builder, signature, args):
            function = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
            return builder.call(ir.InlineAsm(function, horner(EXP2), "=f,f"), args)

        return types.float32(types.float32), emit

    @intrinsic
    def fma(typingctx, a, b, c):
        """a * b + c of floats of one type, rounded once."""

        def emit(context, builder, signature, args):
            return builder.fma(*args)

        return a(a, a, a), emit

    # --- memory -----------------------------------------------------------------------------------------------------

    _INTEGERS = {1: ir.IntType(8), 2: ir.IntType(16), 4: ir.IntType(32), 8: ir.IntType(64)}
    _FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}

    def _pointer(builder, base, index, kind, size):
        """Address of an element in global memory."""
        offset = builder.mul(index, ir.Constant(ir.IntType(64), size))
        return builder.inttoptr(builder.add(base, offset), kind.as_pointer(1))

    def _floating(builder, value, name, real):
        """A loaded value, converted to a float."""
        target = _FLOATS[real]
        if name == "bfloat16":
            wide = builder.shl(builder.zext(value, ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
            value, name = builder.bitcast(wide, ir.FloatType()), "float32"
        elif name == "float16":
            value = builder.fpext(builder.bitcast(value, ir.HalfType()), ir.FloatType())
            name = "float32"
        if name in _FLOATS:
            if name == real:
                return value
            return builder.fpext(value, target) if real == "float64" else builder.fptrunc(value, target)
        return builder.sitofp(value, target) if name.startswith("int") else builder.uitofp(value, target)

    @functools.cache
    def reader(name, real):
        """read(address, i): element i of memory of type `name`, as a float of type `real`."""
        size = SIZES[name]
        kind = _FLOATS.get(name, _INTEGERS[size])

        @intrinsic
        def read(typingctx, base, i):
            def emit(context, builder, signature, args):
                value = builder.load(_pointer(builder, *args, kind, size), align=size)
                return _floating(builder, value, name, real)

            return getattr(types, real)(types.int64, types.int64), emit

        return read

    def _vector_type(name):
        """The type that 16 bytes are loaded as: 32-bit words if elements are smaller, because LLVM would split longer
        vectors."""
        return _FLOATS.get(name, _INTEGERS[max(SIZES[name], 4)]), VECTOR // max(SIZES[name], 4)

    def _unpacked(builder, words, name, real):
        """The floats contained in the words of a vector."""
        word = words[0].type
        if name == "bfloat16":  # the upper half is a float already, once the lower one's bits are masked out
            low = [builder.shl(w, ir.Constant(word, 16)) for w in words]
            high = [builder.and_(w, ir.Constant(word, 0xFFFF0000)) for w in words]
            pairs = [half for both in zip(low, high, strict=True) for half in both]
            return [_floating(builder, builder.bitcast(p, ir.FloatType()), "float32", real) for p in pairs]
        size = SIZES[name]
        parts = [
            builder.trunc(builder.lshr(w, ir.Constant(word, 8 * size * k)), _INTEGERS[size]) if size < 4 else w
            for w in words
            for k in range(max(1, 4 // size))
        ]
        return [_floating(builder, part, name, real) for part in parts]

    @functools.cache
    def vector_reader(name, real):
        """read(address, i, out, at): load 16 aligned bytes, from element i on, into a local array."""
        size = SIZES[name]
        n = VECTOR // size
        word, n_words = _vector_type(name)

        @intrinsic
        def load(typingctx, base, i):
            result = types.UniTuple(getattr(types, real), n)

            def emit(context, builder, signature, args):
                vector = builder.load(_pointer(builder, *args, ir.VectorType(word, n_words), size), align=VECTOR)
                words = [builder.extract_element(vector, ir.Constant(ir.IntType(32), k)) for k in range(n_words)]
                return context.make_tuple(builder, signature.return_type, _unpacked(builder, words, name, real))

            return result(types.int64, types.int64), emit

        @inlined
        def read(base, i, out, at):
            values, start = load(base, i), np.uint64(at)  # without a sign, see `_staging.read_staged`
            for k in range(n):
                out[start + np.uint64(k)] = values[k]

        return read

    @functools.cache
    def masked_reader(name, real):
        """read(address, i, out, at, inside): as `vector_reader` if `inside`, otherwise all -inf, without a branch."""
        n = VECTOR // SIZES[name]
        whole = vector_reader(name, real)
        if name not in LOWEST:
            lowest = getattr(np, real)(-np.inf)

            @inlined
            def read(base, i, out, at, inside):
                if inside:
                    whole(base, i, out, at)
                else:
                    for k in range(n):
                        out[at + k] = lowest

            return read

        word, n_words = _vector_type(name)
        text, constraints = masked_load(name)

        @intrinsic
        def load(typingctx, base, i, inside):
            result = types.UniTuple(getattr(types, real), n)

            def emit(context, builder, signature, args):
                base, i, inside = args
                wide = ir.IntType(64)
                at = builder.add(base, builder.mul(i, ir.Constant(wide, SIZES[name])))
                function = ir.FunctionType(ir.LiteralStructType([word] * n_words), [wide, ir.IntType(32)])
                found = builder.call(
                    ir.InlineAsm(function, text, constraints), [at, builder.zext(inside, ir.IntType(32))]
                )
                words = [builder.extract_value(found, k) for k in range(n_words)]
                return context.make_tuple(builder, signature.return_type, _unpacked(builder, words, name, real))

            return result(types.int64, types.int64, types.boolean), emit

        @inlined
        def read(base, i, out, at, inside):
            values = load(base, i, inside)
            for k in range(n):
                out[at + k] = values[k]

        return read

    @functools.cache
    def writer(name):
        """write(address, i, value): store a value; float32 is rounded to the nearest half."""
        size = SIZES[name]
        kind = _FLOATS.get(name, _INTEGERS[size])
        given = types.float32 if name.endswith("float16") else getattr(types, "int8" if name == "bool" else name)

        def narrowed(builder, value):
            if name == "float16":
                return builder.bitcast(builder.fptrunc(value, ir.HalfType()), kind)
            wide = ir.IntType(32)
            bits = builder.bitcast(value, wide)
            even = builder.and_(builder.lshr(bits, ir.Constant(wide, 16)), ir.Constant(wide, 1))
            rounded = builder.add(bits, builder.add(even, ir.Constant(wide, 0x7FFF)))
            quiet = builder.or_(bits, ir.Constant(wide, 0x400000))
            chosen = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
            return builder.trunc(builder.lshr(chosen, ir.Constant(wide, 16)), kind)

        @intrinsic
        def write(typingctx, base, i, value):
            def emit(context, builder, signature, args):
                value = narrowed(builder, args[2]) if name.endswith("float16") else args[2]
                builder.store(value, _pointer(builder, *args[:2], kind, size), align=size)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, given), emit

        return write

    @functools.cache
    def raw_reader(name):
        """read(address, i): element i of memory of an integer type, as it is."""
        size = SIZES[name]

        @intrinsic
        def read(typingctx, base, i):
            def emit(context, builder, signature, args):
                return builder.load(_pointer(builder, *args, _INTEGERS[size], size), align=size)

            return getattr(types, name)(types.int64, types.int64), emit

        return read

    @functools.cache
    def vector_writer(name):
        """write(address, i, values, at): store 16 aligned bytes from a local array, from element i on."""
        size = SIZES[name]
        n = VECTOR // size

        @intrinsic
        def store(typingctx, base, i, values):
            def emit(context, builder, signature, args):
                base, i, values = args
                vector = ir.Constant(ir.VectorType(_FLOATS[name], n), ir.Undefined)
                for k in range(n):
                    item = builder.extract_value(values, k)
                    vector = builder.insert_element(vector, item, ir.Constant(ir.IntType(32), k))
                builder.store(vector, _pointer(builder, base, i, vector.type, size), align=VECTOR)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, types.UniTuple(getattr(types, name), n)), emit

        if n == 4:

            @inlined
            def write(base, i, values, at):
                store(base, i, (values[at], values[at + 1], values[at + 2], values[at + 3]))

        else:

            @inlined
            def write(base, i, values, at):
                store(base, i, (values[at], values[at + 1]))

        return write

    @functools.cache
    def fresh_reader():
        """read(address, i) of float64 that other blocks have written: bypasses caches that are not coherent."""

        @intrinsic
        def read(typingctx, base, i):
            def emit(context, builder, signature, args):
                at = builder.add(args[0], builder.mul(args[1], ir.Constant(ir.IntType(64), 8)))
                function = ir.FunctionType(ir.DoubleType(), [ir.IntType(64)])
                # volatile loads are not served from the multiprocessor's own cache
                load = ir.InlineAsm(function, "ld.volatile.global.f64 $0, [$1];", "=d,l,~{memory}", side_effect=True)
                return builder.call(load, [at])

            return types.float64(types.int64, types.int64), emit

        return read

    @intrinsic
    def read_label(typingctx, base, i, code):
        """Element i of an integer array whose type has code `code`; -1 if int64 can't hold it."""

        def emit(context, builder, signature, args):
            base, i, code = args
            wide = ir.IntType(64)
            end = builder.append_basic_block("label")
            switch = builder.switch(code, end)
            before = builder.block
            found = []
            for number in range(8):
                size, signed = 1 << number // 2, number % 2
                case = builder.append_basic_block("kind")
                switch.add_case(ir.Constant(code.type, number), case)
                builder.position_at_end(case)
                value = builder.load(_pointer(builder, base, i, _INTEGERS[size], size), align=size)
                if size < 8:
                    value = builder.sext(value, wide) if signed else builder.zext(value, wide)
                elif not signed:
                    large = builder.icmp_signed("<", value, ir.Constant(wide, 0))
                    value = builder.select(large, ir.Constant(wide, -1), value)
                found.append((value, builder.block))
                builder.branch(end)
            builder.position_at_end(end)
            label = builder.phi(wide)
            label.add_incoming(ir.Constant(wide, -1), before)
            for value, origin in found:
                label.add_incoming(value, origin)
            return label

        return types.int64(types.int64, types.int64, types.int64), emit

    @intrinsic
    def take_ticket(typingctx, base, i):
        """Add 1 atomically to an int32 in memory; returns its previous value."""

        def emit(context, builder, signature, args):
            pointer = _pointer(builder, *args, ir.IntType(32), 4)
            return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(32), 1), "monotonic")

        return types.int32(types.int64, types.int64), emit
