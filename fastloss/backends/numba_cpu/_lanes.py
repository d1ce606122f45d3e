"""Formulas on LLVM values, in which the elementary functions and the inner loops of the softmax family are written.

A `Lanes` wraps one LLVM value, a scalar or a vector of any length, and gives it Python's operators; running a formula
on it emits the formula's instructions.  So one text serves float32 and float64, a scalar inside a loop that LLVM
vectorises, and a vector of WIDTH rows or elements held in registers.  Such vectors, a `Register` in Numba, do what the
loop vectoriser can't be made to do: keep sums in float64 next to terms in float32 without halving the width of both.
LLVM splits them into whatever registers the CPU has.

Every operation carries the flag `contract` and no other: `reassoc` would cancel the rounding constant that `exp` adds
and subtracts again, and `nnan` and `ninf` would delete the handling of special values.
"""

import operator
from inspect import Parameter, Signature

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

WIDTH = 16  # lanes of a Register: one AVX-512 register of float32, two of AVX2, four of NEON

FLAGS = ("contract",)

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)

_AS_INT = {FLOAT: INT32, DOUBLE: INT64}
_AS_FLOAT = {INT32: FLOAT, INT64: DOUBLE}
_SUFFIX = {FLOAT: "f32", DOUBLE: "f64"}


class Register(types.Type):
    """The Numba type of WIDTH numbers in a local variable, which LLVM keeps in registers."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Register({dtype})")


@register_model(Register)
class _RegisterModel(PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), WIDTH))


def element(kind):
    """The type of one lane."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def shaped(kind, like):
    """The LLVM type of `kind` with the same number of lanes as the type `like`."""
    return ir.VectorType(kind, like.count) if isinstance(like, ir.VectorType) else kind


class Lanes:
    """An LLVM value with operators.  Python numbers are converted to its type."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def type(self):
        return self.value.type

    @property
    def is_double(self):
        return element(self.type) == DOUBLE

    @property
    def suffix(self):
        """The suffix of the names of LLVM's intrinsics for this type."""
        kind = self.type
        return f"v{kind.count}{_SUFFIX[kind.element]}" if isinstance(kind, ir.VectorType) else _SUFFIX[kind]

    def new(self, value):
        return Lanes(self.builder, value)

    def constant(self, number):
        """The number in every lane."""
        kind = element(self.type)
        number = int(number) if isinstance(kind, ir.IntType) else float(number)
        if isinstance(self.type, ir.VectorType):
            return self.new(ir.Constant(self.type, [ir.Constant(kind, number)] * self.type.count))
        return self.new(ir.Constant(kind, number))

    def _with(self, other, on_floats, on_ints, swap=False):
        other = other if isinstance(other, Lanes) else self.constant(other)
        a, b = (other.value, self.value) if swap else (self.value, other.value)
        if isinstance(element(self.type), ir.IntType):
            return self.new(on_ints(a, b))
        return self.new(on_floats(a, b, flags=FLAGS))

    def __add__(self, other):
        return self._with(other, self.builder.fadd, self.builder.add)

    def __sub__(self, other):
        return self._with(other, self.builder.fsub, self.builder.sub)

    def __rsub__(self, other):
        return self._with(other, self.builder.fsub, self.builder.sub, swap=True)

    def __mul__(self, other):
        return self._with(other, self.builder.fmul, self.builder.mul)

    def __truediv__(self, other):
        return self._with(other, self.builder.fdiv, None)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        is_int = isinstance(element(self.type), ir.IntType)
        return self.new((self.builder.neg if is_int else self.builder.fneg)(self.value))

    def __lshift__(self, count):
        return self.new(self.builder.shl(self.value, self.constant(count).value))

    def __rshift__(self, count):
        return self.new(self.builder.ashr(self.value, self.constant(count).value))

    def _compared(self, other, operator):
        other = other if isinstance(other, Lanes) else self.constant(other)
        if isinstance(element(self.type), ir.IntType):
            return self.new(self.builder.icmp_signed(operator, self.value, other.value))
        return self.new(self.builder.fcmp_ordered(operator, self.value, other.value))

    def __lt__(self, other):
        return self._compared(other, "<")

    def __le__(self, other):
        return self._compared(other, "<=")

    def __gt__(self, other):
        return self._compared(other, ">")

    def __ge__(self, other):
        return self._compared(other, ">=")

    def equals(self, other):
        return self._compared(other, "==")

    def call(self, name, *others, flags=()):
        """The LLVM intrinsic `name` for this type."""
        signature = ir.FunctionType(self.type, [self.type] * (1 + len(others)))
        name = f"llvm.{name}.{self.suffix}"
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, signature, name)
        return self.new(self.builder.call(function, [self.value, *(o.value for o in others)], fastmath=flags))

    # --- between types ------------------------------------------------------------------------------------------------

    def bits(self):
        """The bits of floats, as integers."""
        return self.new(self.builder.bitcast(self.value, shaped(_AS_INT[element(self.type)], self.type)))

    def floats(self):
        """The floats with these integers as bits."""
        return self.new(self.builder.bitcast(self.value, shaped(_AS_FLOAT[element(self.type)], self.type)))

    def to_int(self):
        return self.new(self.builder.fptosi(self.value, shaped(_AS_INT[element(self.type)], self.type)))

    def to_float(self):
        return self.new(self.builder.sitofp(self.value, shaped(_AS_FLOAT[element(self.type)], self.type)))

    def to(self, kind):
        """Floats converted to another width."""
        if element(self.type) == kind:
            return self
        convert = self.builder.fpext if kind == DOUBLE else self.builder.fptrunc
        return self.new(convert(self.value, shaped(kind, self.type)))

    # --- vectors ------------------------------------------------------------------------------------------------------

    def spread(self, like):
        """A scalar copied to every lane of a vector of the type of `like`."""
        kind = ir.VectorType(self.type, like.type.count)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(empty, self.value, ir.Constant(INT32, 0))
        lanes = ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count)
        return self.new(self.builder.shuffle_vector(first, empty, lanes))

    def shuffled(self, other, lanes):
        """A selection of the lanes of both vectors; `lanes` continues counting with the other's."""
        lanes = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
        return self.new(self.builder.shuffle_vector(self.value, other.value, lanes))

    def folded(self, combine):
        """All lanes reduced to one: halves are combined until one lane is left."""
        x, n = self, self.type.count
        while n > 1:
            n //= 2
            x = combine(x.shuffled(x, range(n)), x.shuffled(x, range(n, 2 * n)))
        return self.new(self.builder.extract_element(x.value, ir.Constant(INT32, 0)))


def from_half(bits):
    """float16, given as its bits, to float32: one conversion instruction where the CPU has it."""
    halves = bits.builder.bitcast(bits.value, shaped(ir.HalfType(), bits.type))
    return bits.new(bits.builder.fpext(halves, shaped(FLOAT, bits.type)))


def from_bfloat(bits):
    """bfloat16, given as its bits, to float32."""
    return (bits.new(bits.builder.zext(bits.value, shaped(INT32, bits.type))) << 16).floats()


def where(mask, a, b):
    """a in the lanes where the mask is set, otherwise b; one of them may be a Python number."""
    a, b = (a, a.constant(b)) if not isinstance(b, Lanes) else (a if isinstance(a, Lanes) else b.constant(a), b)
    return mask.new(mask.builder.select(mask.value, a.value, b.value))


def both(a, b):
    """The masks' logical and."""
    return a.new(a.builder.and_(a.value, b.value))


def either(a, b):
    """The masks' logical or."""
    return a.new(a.builder.or_(a.value, b.value))


def smallest(a, b):
    """The smaller of two integers."""
    return where(a < b, a, b)


def opposite(mask):
    """The mask's logical not."""
    return mask.new(mask.builder.not_(mask.value))


def differ(a, b):
    """A mask of the lanes in which two floats differ; NaN differs from everything."""
    return a.new(a.builder.fcmp_unordered("!=", a.value, b.value))


def absolute(x):
    return x.call("fabs")


def root(x):
    return x.call("sqrt")


def maximum(a, b):
    """The larger of two floats, NaN where one is NaN."""
    return a.call("maximum", b)


def minimum(a, b):
    """The smaller of two floats, NaN where one is NaN."""
    return a.call("minimum", b)


def larger(a, b):
    """The larger of two floats; may drop a NaN, and so is one instruction.

    The flags apply to this operation only.  A dropped NaN still shows in the exponentials computed afterwards.
    """
    return a.call("maxnum", b, flags=("nnan", "nsz"))


def tree(values, combine):
    """Combine neighbours, then neighbouring results, and so on: pairwise summation, which has the least error."""
    while len(values) > 1:
        values = [combine(*pair) if len(pair) == 2 else pair[0] for pair in _pairs(values)]
    return values[0]


def _pairs(values):
    return [values[i : i + 2] for i in range(0, len(values), 2)]


# --- from formulas to functions of Numba ------------------------------------------------------------------------------


def emitted(resolve, arity):
    """An intrinsic with `arity` arguments; resolve(*types) returns None, or (result type, formula).

    The formula gets Lanes for a number or register, a list of Lanes for a tuple, an `Array`, or None.  It may return a
    tuple.
    """

    def typed(*argument_types):
        found = resolve(*argument_types)
        if found is None:
            return None
        result, formula = found

        def codegen(context, builder, signature, args):
            value = formula(*(_argument(context, builder, t, a) for t, a in zip(signature.args, args, strict=True)))
            if value is None:
                return context.get_dummy_value()
            if isinstance(value, tuple):
                return context.make_tuple(builder, signature.return_type, [v.value for v in value])
            return value.value

        return result(*argument_types)(*argument_types), codegen

    def typing(typingctx, *argument_types):
        return typed(*argument_types)

    # Numba reads the number of arguments from the signature
    names = ("typingctx", *(f"argument{i}" for i in range(arity)))
    typing.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names])
    return intrinsic(typing)


def emitted_as(formula, arity, result, where=lambda *kinds: True):
    """`emitted` with one formula for all argument types for which `where` is true."""
    return emitted(lambda *kinds: (result, formula) if where(*kinds) else None, arity)


def _operator_of_registers(function):
    """Numba's `function` for two registers of one type."""

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Register) and args[0] == args[1]:
                return signature(args[0], *args)

    @lower_builtin(function, Register, Register)
    def lower(context, builder, sig, args):
        return function(*(Lanes(builder, a) for a in args)).value


for _operator in (operator.add, operator.sub, operator.mul):
    _operator_of_registers(_operator)


def _argument(context, builder, kind, value):
    """A lowered argument, wrapped for formulas."""
    if isinstance(kind, (types.Number, Register)):
        return Lanes(builder, value)
    if isinstance(kind, types.BaseTuple):
        parts = enumerate(kind.types)
        return [_argument(context, builder, t, builder.extract_value(value, i)) for i, t in parts]
    return Array(context, builder, kind, value) if isinstance(kind, types.Array) else None


class Array:
    """An array argument, whose memory formulas address."""

    def __init__(self, context, builder, kind, value):
        self.builder, self.kind = builder, kind
        self._array = context.make_array(kind)(context, builder, value)

    def address(self, byte_offset):
        """A byte pointer, `byte_offset` after the first element."""
        data = self.builder.bitcast(self._array.data, ir.IntType(8).as_pointer())
        return self.builder.gep(data, [byte_offset])
