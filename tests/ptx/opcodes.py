"""The table of PTX's instructions: each form by its full name, with what it does as C.

A form has the types of its results, the types of its operands, and a text.  An expression is the one result; a text that ends with a
semicolon is a statement.  In both a, b, c, d are the operands as values of their types, r0, r1, ... the results, `t` the thread and
`AT` the instruction for reports.  What is not here can't be executed: `translate` says so, and where.

References
----------
NVIDIA. Parallel Thread Execution ISA, version 9.0, chapter 9: instruction set.
"""

from itertools import product
from typing import NamedTuple


class Form(NamedTuple):
    results: tuple
    operands: tuple
    text: str


TABLE = {}

SIGNED = ("s16", "s32", "s64")
UNSIGNED = ("u16", "u32", "u64")
BITS = ("b16", "b32", "b64")
INTEGERS = SIGNED + UNSIGNED
REALS = ("f32", "f64")
SIZES = {f"{letter}{8 * size}": size for letter in "subf" for size in (1, 2, 4, 8)}


def form(name, results, operands, text):
    for alternative in name.split(" "):
        assert alternative not in TABLE, alternative
        TABLE[alternative] = Form(tuple(results.split()), tuple(operands.split()), text)


def forms(name, types, n_operands, text):
    """Forms whose results and operands have one type, the name's `*`."""
    for kind in types:
        form(name.replace("*", kind), kind, f"{kind} " * n_operands, text)


def wider(kind):
    return f"{kind[0]}{2 * int(kind[1:])}"


# --- integers ---------------------------------------------------------------------------------------------------------

forms("add.*", INTEGERS, 2, "a + b")
forms("sub.*", INTEGERS, 2, "a - b")
forms("mul.lo.*", INTEGERS, 2, "a * b")
forms("mad.lo.*", INTEGERS, 3, "a * b + c")
forms("neg.*", SIGNED, 1, "-a")
forms("abs.*", SIGNED, 1, "a < 0 ? -a : a")
forms("min.*", INTEGERS, 2, "a < b ? a : b")
forms("max.*", INTEGERS, 2, "a > b ? a : b")
forms("div.*", SIGNED, 2, "b == 0 ? -1 : b == -1 ? -a : a / b")
forms("div.*", UNSIGNED, 2, "b == 0 ? -1 : a / b")
forms("rem.*", SIGNED, 2, "b == 0 ? a : b == -1 ? 0 : a % b")
forms("rem.*", UNSIGNED, 2, "b == 0 ? a : a % b")
for kind in ("s16", "u16", "s32", "u32"):
    form(f"mul.wide.{kind}", wider(kind), f"{kind} {kind}", f"({wider(kind)})a * b")
    form(f"mad.wide.{kind}", wider(kind), f"{kind} {kind} {wider(kind)}", f"({wider(kind)})a * b + c")
    form(f"mul.hi.{kind}", kind, f"{kind} {kind}", f"({wider(kind)})a * b >> {8 * SIZES[kind]}")
form("mul.hi.u64", "u64", "u64 u64", "(unsigned __int128)a * b >> 64")
form("mul.hi.s64", "s64", "s64 s64", "(__int128)a * b >> 64")

forms("and.*", (*BITS, "pred"), 2, "a & b")
forms("or.*", (*BITS, "pred"), 2, "a | b")
forms("xor.*", (*BITS, "pred"), 2, "a ^ b")
forms("not.*", BITS, 1, "~a")
form("not.pred", "pred", "pred", "!a")
for kind in BITS:
    width = 8 * SIZES[kind]
    form(f"shl.{kind}", kind, f"{kind} u32", f"b < {width} ? ({kind})(a << b) : 0")
    form(f"shr.u{width} shr.b{width}", kind, f"{kind} u32", f"b < {width} ? a >> b : 0")
    form(f"shr.s{width}", f"s{width}", f"s{width} u32", f"a >> (b < {width} ? b : {width - 1})")
for width in (32, 64):
    form(f"bfi.b{width}", f"b{width}", f"b{width} b{width} u32 u32", f"inserted(a, b, c, d, {width})")
    form(f"bfe.u{width}", f"u{width}", f"u{width} u32 u32", f"extracted(a, b, c, {width}, 0)")
    form(f"bfe.s{width}", f"s{width}", f"u{width} u32 u32", f"extracted(a, b, c, {width}, 1)")
form("prmt.b32", "b32", "b32 b32 b32", "permuted(a, b, c)")
form("popc.b32", "u32", "b32", "__builtin_popcount(a)")
form("popc.b64", "u32", "b64", "__builtin_popcountll(a)")
form("clz.b32", "u32", "b32", "a ? __builtin_clz(a) : 32")
form("clz.b64", "u32", "b64", "a ? __builtin_clzll(a) : 64")
form("shf.l.wrap.b32", "b32", "b32 b32 u32", "((u64)b << 32 | a) << (c & 31) >> 32")
form("shf.r.wrap.b32", "b32", "b32 b32 u32", "((u64)b << 32 | a) >> (c & 31)")

# --- floats -------------------------------------------------------------------------------------------------------------

for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*")):
    for kind in REALS:
        form(f"{name}.{kind} {name}.rn.{kind}", kind, f"{kind} {kind}", f"a {sign} b")
    form(f"{name}.ftz.f32 {name}.rn.ftz.f32", "f32", "f32 f32", f"flushed(flushed(a) {sign} flushed(b))")
forms("div.rn.*", REALS, 2, "a / b")
forms("sqrt.rn.*", REALS, 1, "sqrt(a)")  # of a float32 by way of float64, which rounds to the same
forms("rcp.rn.*", REALS, 1, "1 / a")
form("fma.rn.f32", "f32", "f32 f32 f32", "__builtin_fmaf(a, b, c)")
form("fma.rn.f64", "f64", "f64 f64 f64", "__builtin_fma(a, b, c)")
form("fma.rn.ftz.f32", "f32", "f32 f32 f32", "flushed(__builtin_fmaf(flushed(a), flushed(b), flushed(c)))")
for name, mode in (("rm", "DOWNWARDS"), ("rp", "UPWARDS"), ("rz", "TO_ZERO")):
    form(f"fma.{name}.f32", "f32", "f32 f32 f32", f"fma_towards(a, b, c, {mode})")
    form(f"add.{name}.f32", "f32", "f32 f32", f"fma_towards(a, 1, b, {mode})")
    form(f"mul.{name}.f32", "f32", "f32 f32", f"fma_towards(a, b, -0.0f, {mode})")
forms("neg.*", REALS, 1, "-a")
form("abs.f32", "f32", "f32", "fabsf(a)")
form("abs.f64", "f64", "f64", "fabs(a)")
forms("min.*", REALS, 2, "least(a, b)")
forms("max.*", REALS, 2, "most(a, b)")
forms("copysign.*", REALS, 2, "copysign(b, a)")
form("testp.infinite.f32", "pred", "f32", "isinf(a)")
form("testp.infinite.f64", "pred", "f64", "isinf(a)")

# Approximations, with the errors in ulp that the ISA documents; 2^0 is 1.
form("ex2.approx.f32", "f32", "f32", "a ? approximate((f32)exp2((f64)a), 2) : 1")
form("ex2.approx.ftz.f32", "f32", "f32", "a ? flushed(approximate((f32)exp2((f64)flushed(a)), 2)) : 1")
form("lg2.approx.f32", "f32", "f32", "approximate((f32)log2((f64)a), 1)")
form("lg2.approx.ftz.f32", "f32", "f32", "flushed(approximate((f32)log2((f64)flushed(a)), 1))")
form("rcp.approx.f32", "f32", "f32", "approximate(1 / a, 1)")
form("rcp.approx.ftz.f32", "f32", "f32", "flushed(approximate(1 / flushed(a), 1))")
form("div.approx.f32 div.full.f32", "f32", "f32 f32", "approximate(a / b, 2)")
form("div.approx.ftz.f32 div.full.ftz.f32", "f32", "f32 f32", "flushed(approximate(flushed(a) / flushed(b), 2))")
form("sqrt.approx.f32", "f32", "f32", "approximate(sqrtf(a), 1)")
form("sqrt.approx.ftz.f32", "f32", "f32", "flushed(approximate(sqrtf(flushed(a)), 1))")
form("rsqrt.approx.f32", "f32", "f32", "approximate((f32)(1 / sqrt((f64)a)), 2)")
form("rsqrt.approx.ftz.f32", "f32", "f32", "flushed(approximate((f32)(1 / sqrt((f64)flushed(a))), 2))")
form("tanh.approx.f32", "f32", "f32", "approximate((f32)tanh((f64)a), 64)")
form("rcp.approx.ftz.f64", "f64", "f64", "upper_half(1 / flushed_f64(a))")
form("rsqrt.approx.ftz.f64", "f64", "f64", "upper_half(1 / sqrt(flushed_f64(a)))")

# --- comparisons, choices -------------------------------------------------------------------------------------------------

INTEGER_RELATIONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED_RELATIONS = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
# With a NaN a relation does not hold, `ne` included; those that end with u do.
REAL_RELATIONS = {name: f"a {sign} b" for name, sign in INTEGER_RELATIONS.items()} | {
    "ne": "a < b || a > b",
    "equ": "!(a < b || a > b)",
    "neu": "a != b",
    "ltu": "!(a >= b)",
    "leu": "!(a > b)",
    "gtu": "!(a <= b)",
    "geu": "!(a < b)",
    "num": "a == a && b == b",
    "nan": "a != a || b != b",
}


def comparison(relation, kind, text):
    form(f"setp.{relation}.{kind}", "pred", f"{kind} {kind}", text)
    for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
        form(f"setp.{relation}.{name}.{kind}", "pred", f"{kind} {kind} pred", f"({text}) {sign} c")


for kind in (*INTEGERS, *BITS):
    for relation, sign in INTEGER_RELATIONS.items():
        if kind[0] != "b" or relation in ("eq", "ne"):
            comparison(relation, kind, f"a {sign} b")
    for relation, sign in UNSIGNED_RELATIONS.items() if kind[0] == "u" else ():
        comparison(relation, kind, f"a {sign} b")
for kind, (relation, text) in product(("f16", *REALS), REAL_RELATIONS.items()):
    comparison(relation, kind, text)
for kind in (*INTEGERS, *BITS, *REALS):
    form(f"selp.{kind}", kind, f"{kind} {kind} pred", "c ? a : b")

# --- moves and conversions ------------------------------------------------------------------------------------------------

for kind in (*INTEGERS, *BITS, *REALS, "pred"):
    form(f"mov.{kind}", kind, kind, "a")
for whole, half in (("b64", "b32"), ("b32", "b16")):
    width = 8 * SIZES[half]
    form(f"mov.{whole}.pack", whole, f"{half} {half}", f"({whole})b << {width} | a")
    form(f"mov.{whole}.unpack", f"{half} {half}", whole, f"r0 = a, r1 = a >> {width};")
form("cvta.to.global.u64 cvta.to.shared.u64 cvta.to.local.u64", "u64", "u64", "a")  # all spaces are the host's
form("cvta.global.u64 cvta.shared.u64 cvta.local.u64", "u64", "u64", "a")

for to, source in product(("s8", "u8", *INTEGERS), repeat=2):
    form(f"cvt.{to}.{source}", to, source, "a")
ROUNDINGS = {"rni": "nearbyint(a)", "rzi": "trunc(a)", "rmi": "floor(a)", "rpi": "ceil(a)"}
for integer, real in product(("s8", "u8", *INTEGERS), REALS):
    form(f"cvt.rn.{real}.{integer}", real, integer, "a")
    for name, rounded in ROUNDINGS.items():
        form(f"cvt.{name}.{integer}.{real}", integer, real, f"whole_{integer}({rounded})")
for real, (name, rounded) in product(REALS, ROUNDINGS.items()):
    form(f"cvt.{name}.{real}.{real}", real, real, rounded)
form("cvt.f64.f32", "f64", "f32", "a")
form("cvt.rn.f32.f64", "f32", "f64", "a")
form("cvt.f32.f16", "f32", "f16", "a")
form("cvt.f64.f16", "f64", "f16", "a")
form("cvt.rn.f16.f32", "f16", "f32", "a")
form("cvt.rn.f16.f64", "f16", "f64", "a")
form("cvt.sat.f32.f32", "f32", "f32", "saturated(a)")

# --- memory -------------------------------------------------------------------------------------------------------------

SPACES = {"": "GENERIC", ".global": "GLOBAL", ".shared": "SHARED", ".local": "LOCAL"}
MEMORY = [f"{letter}{width}" for letter in "sub" for width in (8, 16, 32, 64)] + ["f16", "f32", "f64"]
LOADS = {"": "", ".volatile": " | VOLATILE", ".relaxed.gpu": " | VOLATILE", ".acquire.gpu": " | VOLATILE"}
CACHED = ("", ".nc", ".ca", ".cg", ".cs", ".L1::no_allocate", ".nc.L1::no_allocate")

for (space, where), (kind, size) in product(SPACES.items(), [(kind, SIZES[kind]) for kind in MEMORY]):
    # a signed value fills a wider register with its sign
    plain = kind if kind[0] == "s" else f"b{8 * size}"
    for (strength, how), cached in product(LOADS.items(), CACHED if space == ".global" else ("",)):
        if how and cached:
            continue
        load = f"ld{strength}{space}{cached}"
        form(f"{load}.{kind}", plain, "address", f"load(t, AT, {where}{how}, a, {size})")
        for n in (2, 4):
            parts = ", ".join(f"r{k} = v[{k}]" for k in range(n))
            text = f"u64 v[{n}]; load_vector(t, AT, {where}{how}, a, {size}, {n}, v); {parts};"
            form(f"{load}.v{n}.{kind}", f"{plain} " * n, "address", text)
    for (strength, how), cached in product(
        (("", ""), (".volatile", " | VOLATILE"), (".relaxed.gpu", " | VOLATILE"), (".release.gpu", " | VOLATILE")),
        ("", ".wb", ".cg", ".cs") if space == ".global" else ("",),
    ):
        if how and cached:
            continue
        store = f"st{strength}{space}{cached}"
        form(f"{store}.{kind}", "", f"address b{8 * size}", f"store(t, AT, {where}{how}, a, {size}, b);")
        for n in (2, 4):
            text = f"const u64 v[] = {{{', '.join('bcde'[:n])}}}; store_vector(t, AT, {where}{how}, a, {size}, {n}, v);"
            form(f"{store}.v{n}.{kind}", "", "address" + f" b{8 * size}" * n, text)

for kind in MEMORY:
    plain = kind if kind[0] == "s" else f"b{8 * SIZES[kind]}"
    form(f"ld.param.{kind}", plain, "parameter", f"*(const {plain} *)(parameters + a)")

CHANGES = {
    "add": "*p = old + b",
    "min": "*p = old < b ? old : b",
    "max": "*p = old > b ? old : b",
    "exch": "*p = b",
}
KINDS = {"add": ("u32", "s32", "u64", *REALS), "min": INTEGERS[1:], "max": INTEGERS[1:], "exch": ("b32", "b64")}
for (space, where), (name, change) in product(SPACES.items(), CHANGES.items()):
    for kind in [] if space == ".local" else [k for k in KINDS[name] if k[1:] != "16"]:
        text = f"{kind} *p = atomic(t, AT, {where}, a, {SIZES[kind]}), old = *p; {change};"
        for scope in ("", ".relaxed.gpu", ".acq_rel.gpu"):
            form(f"atom{scope}{space}.{name}.{kind}", kind, f"address {kind}", text + " r0 = old;")
            form(f"red{scope}{space}.{name}.{kind}", "", f"address {kind}", text)
for (space, where), kind in product(list(SPACES.items())[:3], ("b32", "b64")):
    text = f"{kind} *p = atomic(t, AT, {where}, a, {SIZES[kind]}); r0 = *p; if (r0 == b) *p = c;"
    form(f"atom{space}.cas.{kind}", kind, f"address {kind} {kind}", text)
form("membar.gl membar.sys fence.acq_rel.gpu fence.sc.gpu", "", "", "fence();")
form("membar.cta fence.acq_rel.cta", "", "", ";")

# --- threads ------------------------------------------------------------------------------------------------------------

form("bar.sync barrier.sync barrier.sync.aligned", "", "u32", "barrier(t, AT, a);")
form("bar.warp.sync", "", "u32", "warp_barrier(t, AT, a);")
for name in ("up", "down", "bfly", "idx"):
    text = f"pred found; r0 = shuffle(t, AT, {name.upper()}, a, b, c, d, &found);"
    form(f"shfl.sync.{name}.b32", "b32", "b32 u32 u32 u32", text)
    form(f"shfl.sync.{name}.b32.pair", "b32 pred", "b32 u32 u32 u32", text + " r1 = found;")
for name in ("all", "any", "uni"):
    form(f"vote.sync.{name}.pred", "pred", "pred u32", f"vote(t, AT, {name.upper()}, a, b)")
form("vote.sync.ballot.b32", "b32", "pred u32", "vote(t, AT, BALLOT, a, b)")

form("bra bra.uni", "", "label", "goto a;")
form("ret exit ret.uni", "", "", "return;")
