"""From scalars.py to C: the formulas of the pointwise losses, translated when the extension is built.

What scalars.py calls its dialect is all that is understood; anything else is refused with its line number.  Each function
becomes an inline C function of the type `REAL`, its name wrapped in `NAME(...)`, so that one text serves float and double.
"""

import ast

# Functions that elementary.h has: those imported from math, and those of scalars.py that it has a shorter way for.
ELEMENTARY = ("exp", "expm1", "log", "log1p", "tanh")
REPLACED = ("decay", "log_clamped", "log_complement", "softplus_tail")
BUILT_IN = {"abs": "ABS"}

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_JOINED = {ast.And: "&", ast.Or: "|"}  # no short circuits: a loop without branches is one that vectorises


class Refused(SyntaxError):
    """Something outside the dialect."""


def _refuse(node, what):
    raise Refused(f"line {getattr(node, 'lineno', '?')}: {what} is outside the dialect of scalars.py")


class _Function:
    """One function: its text in C, and its arity."""

    def __init__(self, node, known):
        arguments = node.args
        plain = not (arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults)
        if not plain or arguments.posonlyargs or node.decorator_list:
            _refuse(node, "a decorator, default or special argument")
        self.known = known  # arity of the functions that may be called
        self.parameters = [a.arg for a in arguments.args]
        self.variables = {}  # name: whether it holds a truth value
        self.has_type = False
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lines = [line for statement in body for line in self.statement(statement)]
        if not self.returns(body):
            _refuse(node, "a function that may end without a return")
        declared = [f"{'_Bool' if truth else 'REAL'} {name}_;" for name, truth in self.variables.items()]
        signature = ", ".join(f"REAL {name}_" for name in self.parameters)
        head = f"INLINE REAL NAME({node.name})({signature})"
        self.text = "\n".join([head, "{", *(f"    {line}" for line in declared + lines), "}"])

    def returns(self, statements):
        """Whether every way through them ends in a return."""
        if not statements:
            return False
        last = statements[-1]
        return (
            isinstance(last, ast.Return)
            or isinstance(last, ast.If)
            and all(self.returns(branch) for branch in (last.body, last.orelse))
        )

    # --- statements ---------------------------------------------------------------------------------------------------

    def statement(self, node):
        match node:
            case ast.Return(value=ast.expr()):
                yield f"return {self.number(node.value)};"
            case ast.Assign(targets=[ast.Name(id="T")]):
                match node.value:
                    case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)], keywords=[]) if (
                        name in self.parameters
                    ):
                        self.has_type = True
                    case _:
                        _refuse(node, "T as anything but the type of an argument")
            case ast.Assign(targets=[ast.Name(id=name)]):
                truth = self.is_condition(node.value)
                value = self.condition(node.value) if truth else self.number(node.value)
                if name in self.parameters or self.variables.setdefault(name, truth) != truth:
                    _refuse(node, f"assigning to {name!r}, an argument or a value of another kind,")
                yield f"{name}_ = {value};"
            case ast.If():
                yield f"if ({self.condition(node.test)}) {{"
                for inner in node.body:
                    yield from (f"    {line}" for line in self.statement(inner))
                yield "}"
                if node.orelse:
                    yield "else {"
                    for inner in node.orelse:
                        yield from (f"    {line}" for line in self.statement(inner))
                    yield "}"
            case _:
                _refuse(node, type(node).__name__)

    # --- expressions --------------------------------------------------------------------------------------------------

    def is_condition(self, node):
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.Not)
        return isinstance(node, (ast.Compare, ast.BoolOp))

    def condition(self, node):
        match node:
            case ast.Compare(ops=[op], comparators=[right]) if type(op) in _COMPARED:
                return f"({self.number(node.left)} {_COMPARED[type(op)]} {self.number(right)})"
            case ast.BoolOp():
                return "(" + f" {_JOINED[type(node.op)]} ".join(self.condition(value) for value in node.values) + ")"
            case ast.UnaryOp(op=ast.Not()):
                return f"!{self.condition(node.operand)}"
            case ast.Name(id=name) if self.variables.get(name):
                return f"{name}_"
            case _:
                _refuse(node, "a condition that is no comparison")

    def number(self, node):
        match node:
            case ast.Name(id=name):
                if name not in self.parameters and self.variables.get(name, True):
                    _refuse(node, f"the name {name!r}")
                return f"{name}_"
            case ast.BinOp() if type(node.op) in _BINARY:
                return f"({self.number(node.left)} {_BINARY[type(node.op)]} {self.number(node.right)})"
            case ast.UnaryOp(op=ast.USub()):
                return f"(-{self.number(node.operand)})"
            case ast.IfExp():
                return f"({self.condition(node.test)} ? {self.number(node.body)} : {self.number(node.orelse)})"
            case ast.Call(func=ast.Name(id="T"), args=[constant], keywords=[]):
                if not self.has_type:
                    _refuse(node, "T before T = type(x)")
                return f"((REAL){self.constant(constant)})"
            case ast.Call(func=ast.Name(id=name), keywords=[]) if not any(
                isinstance(a, ast.Starred) for a in node.args
            ):
                if name not in self.known or self.known[name] != len(node.args):
                    _refuse(node, f"calling {name!r} with {len(node.args)} arguments")
                arguments = ", ".join(self.number(a) for a in node.args)
                return f"{BUILT_IN.get(name) or f'NAME({name})'}({arguments})"
            case ast.Constant():
                _refuse(node, f"the bare constant {node.value!r}, which wants T(...) around it,")
            case _:
                _refuse(node, type(node).__name__)

    def constant(self, node):
        match node:
            case ast.Constant(value=float(value)):
                return repr(value)
            case ast.UnaryOp(op=ast.USub()):
                return f"-{self.constant(node.operand)}"
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value="nan")], keywords=[]):
                return "NAN"
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value="inf")], keywords=[]):
                return "INFINITY"
            case _:
                _refuse(node, "T of anything but a float constant")


def functions(source):
    """{name: (number of arguments, text in C)} for the text of scalars.py, in its order."""
    body = ast.parse(source).body
    known = dict.fromkeys(BUILT_IN, 1)
    known.update({node.name: len(node.args.args) for node in body if isinstance(node, ast.FunctionDef)})
    found = {}
    for position, node in enumerate(body):
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if position == 0:
                pass
            case ast.ImportFrom(module="math", level=0):
                for imported in node.names:
                    if imported.name not in ELEMENTARY or imported.asname:
                        _refuse(node, f"importing {imported.name!r}")
                    known[imported.name] = 1
            case ast.FunctionDef():
                text = _Function(node, known).text
                if node.name not in REPLACED:
                    found[node.name] = (known[node.name], text)
            case _:
                _refuse(node, type(node).__name__)
    return found


# Loops take whole blocks, so that every element goes through the same vector code wherever it stands.
_LOOP = """\
static void NAME({name}_loop)(
    const REAL *RESTRICT x, const REAL *RESTRICT y, const REAL *RESTRICT z, const REAL *RESTRICT p, Py_ssize_t n_blocks,
    REAL *RESTRICT out)
{{
{unpacked}    for (Py_ssize_t i = 0; i < BLOCK * n_blocks; i++)
        out[i] = {expression};
}}
"""

# 16 sums in float64; two of the additions are in REAL.
_SUMS = """\
static void NAME({name}_sums)(
    const REAL *RESTRICT x, const REAL *RESTRICT y, const REAL *RESTRICT z, const REAL *RESTRICT p, Py_ssize_t n_blocks,
    double *RESTRICT sums)
{{
{unpacked}    for (Py_ssize_t b = 0; b < n_blocks; b++, {steps})
        for (int i = 0; i < 16; i++)
            sums[i] += (double)({expression});
}}
"""


def _unpacked(n_parameters):
    """Parameters as variables, which do not change in a loop."""
    return "".join(f"    const REAL p{k} = p[{k}];\n" for k in range(n_parameters))


def _called(name, operands, n_parameters, at="i"):
    """A formula's value at a position: arrays first, then parameters."""
    return f"NAME({name})({', '.join([*(f'{a}[{at}]' for a in operands), *(f'p{k}' for k in range(n_parameters))])})"


def _loops(value, slope, operands, n_parameters, odds):
    """Loops over a loss's value, its slope times the number after the parameters, and the sums of its value."""
    yield _LOOP.format(name=value, unpacked=_unpacked(n_parameters), expression=_called(value, operands, n_parameters))
    scaled = f"p{n_parameters} * {_called(slope, operands, n_parameters)}"
    yield _LOOP.format(name=slope, unpacked=_unpacked(n_parameters + 1), expression=scaled)

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
    steps = ", ".join(f"{array} += BLOCK" for array in operands)
    yield _SUMS.format(name=value, unpacked=_unpacked(n_parameters), steps=steps, expression=expression)


def header(source, losses):
    """The C text of every formula, loops over each loss's value, slope and sums, and the table of them.

    losses : (name of the value, name of the slope, number of operands that are arrays, whether the value is a linear part and
        log1p of odds, of which sums may then take one logarithm) of each loss.
    """
    found = functions(source)
    declared = [text.splitlines()[0] + ";" for _, text in found.values()]
    parts = ["/* Generated from scalars.py: see translate.py. */", "\n".join(declared)]
    parts += [text for _, text in found.values()]
    rows = []
    for value, slope, operands, odds in losses:
        n_parameters = found[value][0] - operands
        parts += _loops(value, slope, "xyz"[:operands], n_parameters, odds)
        loops = f"(Loop)NAME({value}_loop), (Loop)NAME({slope}_loop), (Loop)NAME({value}_sums)"
        rows.append(f'    {{"{value}", {operands}, {n_parameters}, {loops}}},')
    table = ["static const Formula NAME(FORMULAS)[] = {", *rows, "    {NULL, 0, 0, NULL, NULL, NULL}", "};"]
    return "\n\n".join([*parts, "\n".join(table)]) + "\n"
