"""The dialect that losses are written in, and the check that every text passes before any compiler sees it.

    from math import sqrt

    def charbonnier(x, y, scale):
        T = type(x)
        d = (x - y) / scale
        return scale * (sqrt(d * d + T(1.0)) - T(1.0))

A function takes numbers of one floating type and returns one.  Its statements are assignments, `if`, `elif`, `else` and
`return`; its expressions are `+ - * /`, comparisons joined by `and`, `or` and `not`, `a if condition else b`, calls to
the functions listed below and to one another, and `T(c)` for constants, with `T = type(x)`: a bare 0.5 would turn
float32 arithmetic into float64.  A text that passes means the same to every backend, but that some round
a product and a sum once; whatever one of them would get wrong is refused here, by line number.

Where Python's functions raise, these return what NumPy does: log(0) is -inf, sqrt(-1) NaN, 1 / 0 inf.  `max` and `min`
are NaN if either operand is; for 0 and -0 they may return either.

This file imports nothing of the package, so that the build of the compiled kernels can load it by its path.
"""

from __future__ import annotations

import ast
import math
import textwrap
from dataclasses import dataclass
from typing import Any

# Number of arguments of the functions that may be imported from math, and of the built-in ones.
IMPORTED = {"exp": 1, "expm1": 1, "log": 1, "log1p": 1, "sqrt": 1, "tanh": 1}
BUILT_IN = {"abs": 1, "max": 2, "min": 2}

# Names that C and the array backends use themselves.
RESERVED = {"T", "type", "float", *IMPORTED, *BUILT_IN}

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)

# Constants that float32 rounds to 0 or infinity are refused: the text would mean one loss in float32 and another in
# float64.
LEAST, MOST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127

# How deep statements and expressions may be nested: a slope is nested deeper than its value, and Python's parser and the compilers have limits.
DEEPEST = 100

_ATTEMPTS = 100  # to parse while other threads parse too, see `parsed`

_CALLABLE = ", ".join([*BUILT_IN, *IMPORTED])

# Every reason to refuse a text; {} is what was found there.
REFUSALS = {
    "syntax": "{}",
    "outside": "{} stands between the functions; only a docstring, `from math import ...` and `def` may",
    "import": "{} can't be imported; `from math import` takes " + ", ".join(IMPORTED),
    "alias": "{} is imported by another name; use the function's own",
    "twice": "{} is defined twice",
    "decorator": "decorators are not allowed; write plain functions",
    "async": "a function must not be asynchronous; write plain `def`",
    "argument": "{} is no plain argument; write f(x, y) without defaults, *, / or annotations",
    "annotation": "annotations are not allowed; all arguments and results are numbers of one type",
    "no arguments": "{} has no arguments; there has to be one for T = type(x) to look at",
    "reserved": "{} is the name of something else here; choose another one",
    "private": "names must not begin with an underscore, as {} does",
    "ascii": "the name {} must consist of the letters a to z, digits and underscores",
    "shadow": "{} is a function already; choose another name",
    "statement": "{} is not allowed; statements are `name = expression`, if, elif, else and return",
    "target": "only a single name may be assigned to, `d = x - y`",
    "to argument": "the argument {} must not be assigned to; choose a new name",
    "kind": "{} is a number in one place and a truth value in another; choose two names",
    "unset": "{} may have no value here; assign to it in every branch before",
    "unknown": "the name {} means nothing here; there are the arguments and what was assigned",
    "no return": "not every way through {} ends in a return; add one at the end",
    "bare return": "a return needs a value",
    "unreachable": "this statement is never reached, as every way before it returns",
    "T": "T may only be the type of an argument: T = type({}), as a statement of its own at the top of the function",
    "no T": "T is used before T = type(x)",
    "T is no number": "T is a type; write T(0.5) for a constant",
    "bare constant": "the bare constant {}; write T({}), with T = type(x) before",
    "constant": 'T takes a float constant: T(0.5), T(-2.0), T(float("inf")), T(float("nan"))',
    "integer": "T takes a float constant: T({}.0)",
    "range": "the constant {} is 0 or infinite in float32; scale the formula so that it needs none beyond 1.2e-38 to 3.4e38",
    "condition": "{} is no condition; conditions are comparisons, joined by and, or, not",
    "number": "{} is a truth value where a number has to be; write T(1.0) if condition else T(0.0)",
    "chain": "a chain of comparisons; write a < b and b < c",
    "comparison": "the comparison {}; there are < <= > >= == !=",
    "operator": "the operator {}; there are + - * /, and for powers x * x",
    "call": "{} can't be called; there are the text's own functions, " + _CALLABLE,
    "arity": "{} takes {} argument(s), here it gets {}",
    "keyword": "arguments of calls must be plain, without names or *",
    "recursion": "{} calls itself, here or through others; functions are put in where they are called",
    "deep": f"this is nested more than {DEEPEST} deep; give names to parts of it",
    "expression": "{} is not allowed in an expression; there are + - * /, comparisons, `a if c else b`, calls and T(0.5)",
}


class Refused(SyntaxError):
    """A text outside the dialect: `key` is one of REFUSALS, `line` the line number."""


@dataclass(frozen=True)
class Function:
    """A checked function: its name, its arguments' names, its statements without docstring, and which of its variables
    hold truth values."""

    name: str
    parameters: tuple[str, ...]
    body: tuple[ast.stmt, ...]
    variables: dict[str, bool]


def functions(text: str, origin: Any = "scalars.py", first_line: int = 1) -> dict[str, Any]:
    """{name: Function} for every function of a text, in order.  Raises `Refused` for the first thing outside the
    dialect.

    origin, first_line : the file and line where the text begins, for messages.  For a text assembled from several
        files, `origin` is a function that maps a line of it, counted from 1, to (file, line there).
    """
    return _Text(text, origin, first_line).functions()


def callees(node: ast.AST) -> list[Any]:
    """Names of the functions called anywhere in a node, except `T` and `float`."""
    return [n.func for n in ast.walk(node) if isinstance(n, ast.Call) and n.func.id not in ("T", "type", "float")]


def special(node):
    """Whether an expression is float("nan") or float("inf")."""
    match node:
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value="nan" | "inf")], keywords=[]):
            return True
    return False


def parsed(text: str) -> ast.Module:
    """The syntax tree of a text, even while other threads parse.

    CPython 3.11 keeps the recursion depth of the conversion to a tree in one counter for all threads.  If a garbage
    collection lets another thread in that parses too, both see a wrong depth and raise SystemError.  That does no
    lasting damage, so we try again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(text)
        except SystemError as error:
            failure = error
    raise failure


class _Text:
    """A text that is being checked."""

    def __init__(self, text, origin, first_line):
        self.text, self.origin, self.first_line = textwrap.dedent(text), origin, first_line
        self.lines = self.text.splitlines()

    def refuse(self, key, node, *found):
        line = getattr(node, "lineno", 1) or 1
        shown = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
        origin, number = self.origin(line) if callable(self.origin) else (self.origin, line + self.first_line - 1)
        error = Refused(f"{origin}, line {number}: {REFUSALS[key].format(*found)}\n    {shown}")
        error.key, error.line = key, number
        raise error

    def functions(self):
        try:
            body = parsed(self.text).body
        except (SyntaxError, ValueError) as error:  # not even Python, or null bytes
            self.refuse("syntax", error, getattr(error, "msg", error))
        except (RecursionError, MemoryError):
            self.refuse("deep", None)
        self.check_depth(body)
        definitions = {}
        # whether imported or not: the text of a function alone does not show its module's imports
        self.known = BUILT_IN | IMPORTED
        for position, node in enumerate(body):
            match node:
                case ast.Expr(value=ast.Constant(value=str())) if position == 0:
                    pass
                case ast.ImportFrom(module="math", level=0):
                    self.check_imports(node)
                case ast.FunctionDef():
                    if node.name in definitions:
                        self.refuse("twice", node, repr(node.name))
                    definitions[node.name] = node
                case ast.AsyncFunctionDef():
                    self.refuse("async", node)
                case _:
                    self.refuse("outside", node, _shown(node))
        self.known |= {name: len(node.args.args) for name, node in definitions.items()}
        for node in definitions.values():
            self.check_head(node, definitions)
        found = {name: _Body(self, node, definitions).function for name, node in definitions.items()}
        self.check_recursion(found)
        return found

    def check_depth(self, body):
        below = [(node, 1) for node in body]
        while below:
            node, depth = below.pop()
            if depth > DEEPEST:
                self.refuse("deep", node)
            below += [(child, depth + isinstance(child, (ast.stmt, ast.expr))) for child in ast.iter_child_nodes(node)]

    def check_imports(self, node):
        for imported in node.names:
            if imported.name not in IMPORTED:
                self.refuse("import", node, repr(imported.name))
            if imported.asname:
                self.refuse("alias", node, repr(imported.name))

    def check_name(self, node, name, definitions=()):
        """Refuse names that the text must not define."""
        if name in RESERVED:
            self.refuse("reserved", node, repr(name))
        if name.startswith("_"):
            self.refuse("private", node, repr(name))
        if not name.isascii():
            self.refuse("ascii", node, repr(name))
        if name in definitions:
            self.refuse("shadow", node, repr(name))

    def check_head(self, node, definitions):
        arguments = node.args
        self.check_name(node, node.name)
        if node.decorator_list:
            self.refuse("decorator", node)
        special = [*arguments.posonlyargs, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in [a for a in special if a is not None]:
            self.refuse("argument", node, repr(argument.arg))
        if arguments.defaults:
            self.refuse("argument", node, repr(arguments.args[-1].arg))
        if node.returns or any(a.annotation for a in arguments.args):
            self.refuse("annotation", node)
        if not arguments.args:
            self.refuse("no arguments", node, repr(node.name))
        names = [argument.arg for argument in arguments.args]
        for position, argument in enumerate(arguments.args):
            self.check_name(argument, argument.arg, definitions)
            if argument.arg in names[:position]:
                self.refuse("twice", node, repr(argument.arg))

    def check_recursion(self, found):
        called = {name: [c for s in f.body for c in callees(s) if c.id in found] for name, f in found.items()}
        done = set()

        def visit(name, way):
            for call in called[name] if name not in done else ():
                if call.id in (*way, name):
                    self.refuse("recursion", call, repr(call.id))
                visit(call.id, (*way, name))
            done.add(name)

        for name in found:
            visit(name, ())


class _Body:
    """The statements of one function that are being checked."""

    def __init__(self, text, node, definitions):
        self.refuse, self.text, self.definitions = text.refuse, text, definitions
        self.parameters = tuple(a.arg for a in node.args.args)
        self.variables = {}
        self.has_type = False
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if self.block(body, frozenset(), top=True) is not None:
            self.refuse("no return", node, repr(node.name))
        self.function = Function(node.name, self.parameters, tuple(body), self.variables)

    # --- statements: each is given the names that have a value before it, and returns those after it, or None after a r

    def block(self, statements, given, top=False):
        for statement in statements:
            if given is None:
                self.refuse("unreachable", statement)
            given = self.statement(statement, given, top)
        return given

    def statement(self, node, given, top):
        match node:
            case ast.Return(value=None):
                self.refuse("bare return", node)
            case ast.Return():
                self.number(node.value, given)
                return None
            case ast.Assign(targets=[ast.Name(id="T")]):
                match node.value:
                    case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)], keywords=[]) if (
                        top and name in self.parameters
                    ):
                        self.has_type = True
                    case _:
                        self.refuse("T", node, self.parameters[0])
                return given
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.check_target(node, name)
                truth = self.is_condition(node.value)
                self.condition(node.value, given) if truth else self.number(node.value, given)
                if self.variables.setdefault(name, truth) != truth:
                    self.refuse("kind", node, repr(name))
                return given | {name}
            case ast.Assign():
                self.refuse("target", node)
            case ast.If():
                self.condition(node.test, given)
                ends = [self.block(branch, given) for branch in (node.body, node.orelse)]
                ends = [end for end in ends if end is not None]
                return frozenset.intersection(*ends) if ends else None
        self.refuse("statement", node, _shown(node))

    def check_target(self, node, name):
        if name in self.parameters:
            self.refuse("to argument", node, repr(name))
        self.text.check_name(node, name, self.definitions)

    # --- expressions --------------------------------------------------------------------------------------------------

    def is_condition(self, node):
        match node:
            case ast.UnaryOp():
                return isinstance(node.op, ast.Not)
            case ast.Name(id=name):
                return self.variables.get(name, False)
        return isinstance(node, (ast.Compare, ast.BoolOp))

    def condition(self, node, given):
        match node:
            case ast.Compare(ops=[operator], comparators=[right]):
                if not isinstance(operator, COMPARISONS):
                    self.refuse("comparison", node, _shown(operator))
                self.number(node.left, given)
                self.number(right, given)
            case ast.Compare():
                self.refuse("chain", node)
            case ast.BoolOp():
                for value in node.values:
                    self.condition(value, given)
            case ast.UnaryOp(op=ast.Not()):
                self.condition(node.operand, given)
            case ast.Name(id=name) if self.variables.get(name):
                self.check_given(node, given)
            case _:
                self.refuse("condition", node, _shown(node))

    def number(self, node, given):
        match node:
            case ast.Name(id="T"):
                self.refuse("T is no number", node)
            case ast.Name():
                self.check_given(node, given)
                if self.is_condition(node):
                    self.refuse("number", node, _shown(node))
            case ast.BinOp():
                if not isinstance(node.op, ARITHMETIC):
                    self.refuse("operator", node, _shown(node.op))
                self.number(node.left, given)
                self.number(node.right, given)
            case ast.UnaryOp(op=ast.USub()):
                self.number(node.operand, given)
            case ast.UnaryOp(op=ast.Not()) | ast.Compare() | ast.BoolOp():
                self.refuse("number", node, _shown(node))
            case ast.UnaryOp():
                self.refuse("operator", node, _shown(node.op))
            case ast.IfExp():
                self.condition(node.test, given)
                self.number(node.body, given)
                self.number(node.orelse, given)
            case ast.Call(func=ast.Name(id="T")):
                self.check_constant(node)
            case ast.Call():
                self.check_call(node, given)
            case ast.Constant():
                shown = ast.unparse(node)
                self.refuse("bare constant", node, shown, f"{shown}.0" if type(node.value) is int else shown)
            case _:
                self.refuse("expression", node, _shown(node))

    def check_given(self, node, given):
        if node.id in self.variables and node.id not in given:
            self.refuse("unset", node, repr(node.id))
        if node.id not in self.parameters and node.id not in self.variables:
            self.refuse("unknown", node, repr(node.id))

    def check_constant(self, node):
        if not self.has_type:
            self.refuse("no T", node)
        match node:
            case ast.Call(args=[constant], keywords=[]):
                while isinstance(constant, ast.UnaryOp) and isinstance(constant.op, ast.USub):
                    constant = constant.operand
                if special(constant):
                    return
                value = constant.value if isinstance(constant, ast.Constant) else None
                if type(value) is int:
                    self.refuse("integer", node, value)
                if type(value) is float:
                    if math.isinf(value) or value and not LEAST <= value <= MOST:
                        self.refuse("range", node, value)
                    return
        self.refuse("constant", node)

    def check_call(self, node, given):
        if not isinstance(node.func, ast.Name) or node.func.id not in self.text.known:
            self.refuse("call", node, _shown(node.func))
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.refuse("keyword", node)
        wanted = self.text.known[node.func.id]
        if len(node.args) != wanted:
            self.refuse("arity", node, repr(node.func.id), wanted, len(node.args))
        for argument in node.args:
            self.number(argument, given)


_SYMBOLS = {
    ast.Pow: "**",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.MatMult: "@",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.UAdd: "+ before a value",
    ast.Invert: "~",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


def _shown(node):
    """A node as source code, for messages."""
    if type(node) in _SYMBOLS:
        return _SYMBOLS[type(node)]
    line = ast.unparse(node).splitlines()[0]
    return repr(line if len(line) < 60 else f"{line[:57]}...")
