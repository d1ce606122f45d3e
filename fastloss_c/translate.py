"""Translates the formulas of the pointwise losses in scalars.py to C, when the extension is built.

The text is checked by `fastloss/_dialect.py`, as for every backend.  Each function becomes an inline C function of the type `REAL`, so
that one text serves float and double.  Names get an underscore at the end, so that they differ from all names in C.
"""

import ast
import importlib.util
import sys
from pathlib import Path

# Functions for which elementary.h and powers.h have a faster or more accurate implementation.
REPLACED = (
    "decay",
    "log_clamped",
    "log_complement_rest",
    "log_near",
    "log_ratio",
    "short_divergence",
    "short_focal",
    "short_focal_slope",
    "short_focal_squared",
    "short_focal_squared_slope",
    "short_log_excess",
    "short_tweedie",
    "short_tweedie_slope",
    "sign",
    "softplus_added",
    "softplus_tail",
    "times_decay",
    "times_exp",
    "weighted_sum",
)
BUILT_IN = {"abs": "ABS", "max": "NAME(maximum)", "min": "NAME(minimum)", "sqrt": "SQRT"}

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_JOINED = {ast.And: "&", ast.Or: "|"}  # no short-circuit evaluation: only loops without branches vectorise

# The largest number of arrays and of parameters that kernels take.
MOST_OPERANDS, MOST_PARAMETERS = 3, 7


def _dialect():
    """The checker, loaded by its path, because the package can't be imported during a build."""
    name = "_fastloss_dialect"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "fastloss" / "_dialect.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class _Writer:
    """Writes one checked function as C."""

    def __init__(self, function, known, replaced):
        self.known, self.replaced = known, replaced
        lines = [line for statement in function.body for line in self.statement(statement)]
        declared = [f"{'_Bool' if truth else 'REAL'} {name}_;" for name, truth in function.variables.items()]
        signature = ", ".join(f"REAL {name}_" for name in function.parameters)
        head = f"INLINE REAL NAME({function.name}_)({signature})"
        self.text = "\n".join([head, "{", *(f"    {line}" for line in declared + lines), "}"])

    def statement(self, node):
        match node:
            case ast.Return():
                yield f"return {self.expression(node.value)};"
            case ast.Assign(targets=[ast.Name(id="T")]):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield f"{name}_ = {self.expression(node.value)};"
            case ast.If():
                yield f"if ({self.expression(node.test)}) {{"
                yield from self.indented(node.body)
                yield "}"
                if node.orelse:
                    yield "else {"
                    yield from self.indented(node.orelse)
                    yield "}"

    def indented(self, statements):
        return [f"    {line}" for statement in statements for line in self.statement(statement)]

    def expression(self, node):
        of = self.expression
        match node:
            case ast.Name(id=name):
                return f"{name}_"
            case ast.BinOp():
                return f"({of(node.left)} {_BINARY[type(node.op)]} {of(node.right)})"
            case ast.Compare(ops=[op], comparators=[right]):
                return f"({of(node.left)} {_COMPARED[type(op)]} {of(right)})"
            case ast.BoolOp():
                return "(" + f" {_JOINED[type(node.op)]} ".join(map(of, node.values)) + ")"
            case ast.UnaryOp(op=ast.Not()):
                return f"!{of(node.operand)}"
            case ast.UnaryOp():
                return f"(-{of(node.operand)})"
            case ast.IfExp():
                return f"({of(node.test)} ? {of(node.body)} : {of(node.orelse)})"
            case ast.Call(func=ast.Name(id="T"), args=[constant]):
                return f"((REAL){self.constant(constant)})"
            case ast.Call(func=ast.Name(id=name)):
                return f"{self.called(name)}({', '.join(map(of, node.args))})"

    def called(self, name):
        if name in BUILT_IN:
            return BUILT_IN[name]
        return f"NAME({name}_)" if name in self.known and name not in self.replaced else f"NAME({name})"

    def constant(self, node):
        match node:
            case ast.UnaryOp():
                return f"-{self.constant(node.operand)}"
            case ast.Constant(value=value):
                return repr(value)
            case ast.Call(args=[ast.Constant(value=value)]):
                return {"nan": "NAN", "inf": "INFINITY"}[value]


def functions(source, replaced=REPLACED):
    """{name: (number of arguments, C code)} for a text in the dialect, in order.

    replaced : functions that are taken from elementary.h and powers.h instead.
    """
    found = _dialect().functions(source)
    return {
        name: (len(function.parameters), _Writer(function, found, replaced).text)
        for name, function in found.items()
        if name not in replaced
    }


# Loops process complete blocks, so that every element goes through the same vector code wherever it is.
_LOOP = """\
static int NAME({name}_loop)(
    const REAL *RESTRICT x, const REAL *RESTRICT y, const REAL *RESTRICT z, const REAL *RESTRICT p, Py_ssize_t n_blocks,
    REAL *RESTRICT out)
{{
{unpacked}    UINT found[16] = {{0}};
    for (Py_ssize_t b = 0; b < n_blocks; b++, {steps}, out += BLOCK) {{
{asked}        for (int i = 0; i < BLOCK; i++)
            out[i] = {expression};
        for (int i = 0; i < 16; i++)
            found[i] = NAME(most_of)(found[i], out + i);
    }}
    return NAME(were_finite)(found);
}}
"""

# 16 sums in float64; two of the additions are in REAL.
_SUMS = """\
static void NAME({name}_sums)(
    const REAL *RESTRICT x, const REAL *RESTRICT y, const REAL *RESTRICT z, const REAL *RESTRICT p, Py_ssize_t n_blocks,
    double *RESTRICT sums)
{{
{unpacked}    for (Py_ssize_t b = 0; b < n_blocks; b++, {steps}) {{
{asked}        for (int i = 0; i < 16; i++)
            sums[i] += (double)({expression});
    }}
}}
"""


# gcc's partial redundancy elimination moves operations into one of two branches, and a loop with long branches does not
# vectorise.
_PLAIN = """\
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("no-tree-pre")
#endif"""
_AGAIN = """\
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif"""


def _unpacked(n_parameters):
    """C code that copies parameters to variables, which do not change in a loop."""
    return "".join(f"    const REAL p{k} = p[{k}];\n" for k in range(n_parameters))


def _called(name, operands, n_parameters, at="i"):
    """C code that calls a formula at position `at`: arrays first, then parameters."""
    return f"NAME({name}_)({', '.join([*(f'{a}[{at}]' for a in operands), *(f'p{k}' for k in range(n_parameters))])})"


def _loops(value, slope, operands, n_parameters, odds, asks):
    """Loops for a loss's values, for its slopes times a factor, which follows the parameters, and for sums of its values."""
    steps = ", ".join(f"{array} += BLOCK" for array in operands)

    def asked(*arrays):
        return "".join(f"        ask_ahead({array}, BLOCK * sizeof(REAL));\n" for array in arrays if asks)

    looped = {"steps": steps, "asked": asked(*operands, "out")}
    expression = _called(value, operands, n_parameters)
    yield _LOOP.format(name=value, unpacked=_unpacked(n_parameters), expression=expression, **looped)
    scaled = f"p{n_parameters} * {_called(slope, operands, n_parameters)}"
    yield _LOOP.format(name=f"{value}_slope", unpacked=_unpacked(n_parameters + 1), expression=scaled, **looped)

    def four(name):
        return [_called(name, operands, n_parameters, f"i + {at}") for at in (0, 16, 32, 48)]

    def added(name):
        return "({} + {}) + ({} + {})".format(*four(name))

    if odds:
        first, *others = four(f"{value}_odds")
        for other in others:
            first = f"NAME(joined)({first}, {other})"
        expression = f"({added(f'{value}_linear')}) + NAME(log1p_moderate)({first})"
    else:
        expression = added(value)
    yield _SUMS.format(
        name=value, unpacked=_unpacked(n_parameters), expression=expression, steps=steps, asked=asked(*operands)
    )


def header(source, losses):
    """The C text of every formula, loops over each loss's value, slope and sums, and the table of them.

    losses : for each (name of the value, name of the slope, number of array operands, whether the value is a linear part plus log1p of odds,
        so that a sum may take one logarithm of several odds, whether memory is to be asked for ahead).
    """
    found = functions(source)
    declared = [text.splitlines()[0] + ";" for _, text in found.values()]
    parts = ["/* Generated from scalars.py: see translate.py. */", "\n".join(declared)]
    parts += [text for _, text in found.values()]
    rows = []
    for value, slope, operands, odds, asks in losses:
        n_parameters = found[value][0] - operands
        if operands > MOST_OPERANDS or not 0 <= n_parameters <= MOST_PARAMETERS or found[slope][0] != found[value][0]:
            raise ValueError(
                f"{value}: expected at most {MOST_OPERANDS} arrays and {MOST_PARAMETERS} parameters, the slope's alike"
            )
        parts += _loops(value, slope, "xyz"[:operands], n_parameters, odds, asks)
        loops = f"(Loop)NAME({value}_loop), (Loop)NAME({value}_slope_loop), (Adding)NAME({value}_sums)"
        rows.append(f'    {{"{value}", {operands}, {n_parameters}, {loops}}},')
    parts = [*parts[:1], _PLAIN, *parts[1:], _AGAIN]
    table = ["static const Formula NAME(FORMULAS)[] = {", *rows, "    {NULL, 0, 0, NULL, NULL, NULL}", "};"]
    return "\n\n".join([*parts, "\n".join(table)]) + "\n"
