"""Differentiates a text in the dialect; the result is a text in the dialect.

Forward differentiation, statement by statement: each variable that depends on the prediction gets a companion that
holds its derivative. Conditions are kept, so that at every point the derivative is that of the branch taken there.  At
0 the derivative of abs is 0; where the arguments of max or min are equal, it is the mean of both derivatives, as in
torch and JAX.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from fastloss import _dialect

# Derivatives that are added to the text as functions; {name} becomes a name that is not in use there.
_ABS = """
def {name}(u, du):
    T = type(u)
    return du if u > T(0.0) else (-du if u < T(0.0) else u * T(0.0))
"""
_MAX = """
def {name}(a, b, da, db):
    T = type(a)
    return da if a > b else (db if a < b else (T(0.5) * (da + db) if a == b else a + b))
"""
_MIN = """
def {name}(a, b, da, db):
    T = type(a)
    return da if a < b else (db if a > b else (T(0.5) * (da + db) if a == b else a + b))
"""
# 1 - tanh(u)^2 cancels
_TANH = """
def {name}(u):
    T = type(u)
    e = exp(-(abs(u) + abs(u)))
    return T(4.0) * e / ((T(1.0) + e) * (T(1.0) + e))
"""

ZERO, ONE = "T(0.0)", "T(1.0)"


def derived(functions: Any, name: str) -> Any:
    """(text, name) of the derivative of a function with respect to its first argument.

    functions : all functions of a checked text, by name; the returned text calls them without repeating them.
    """
    slopes = Slopes(functions)
    return slopes.of(name, (0,), with_respect=True), slopes.text


class Slopes:
    """The functions that make up a derivative, each made when it is first needed."""

    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.texts: dict[Any, str] = {}
        self.names: dict[Any, str] = {}
        self.used = set(functions) | _dialect.RESERVED
        for function in functions.values():
            self.used |= {*function.parameters, *function.variables}

    @property
    def text(self) -> str:
        return "\n".join(self.texts.values())

    def free(self, name: str) -> str:
        """`name`, or a similar one if that is in use in the text."""
        while name in self.used:
            name += "_"
        self.used.add(name)
        return name

    def of(self, name: str, active: Any, with_respect: Any = False) -> Any:
        """The name of the derivative of a function along some of its arguments, given by position.

        Its arguments are the function's, then the derivatives of the active ones; `with_respect` leaves the latter out,
        as they are 1.
        """
        key = (name, active, with_respect)
        if key not in self.names:
            self.names[key] = self.free(f"{name}_slope")
            self.texts[key] = _Slope(self, self.functions[name], active, with_respect).text(self.names[key])
        return self.names[key]

    def elementary(self, name: str, template: Any) -> Any:
        """The name of one of the derivatives above, after adding it."""
        if name not in self.names:
            self.names[name] = self.free(f"{name}_slope")
            self.texts[name] = template.format(name=self.names[name])
        return self.names[name]


class _Slope:
    """Differentiates one function: statements to text, and expressions to the text of their derivative, or None for
    0."""

    def __init__(self, slopes: Any, function: Any, active: Any, with_respect: Any) -> None:
        self.slopes, self.function = slopes, function
        arguments = [function.parameters[i] for i in active]
        self.given = {} if with_respect else {name: slopes.free(f"{name}_slope") for name in arguments}
        self.along = dict.fromkeys(arguments, ONE) | self.given  # {variable: its derivative's name or text}
        assignments = [a for s in function.body for a in ast.walk(s) if isinstance(a, ast.Assign)]
        growing = True
        while growing:  # a variable may depend on one that is assigned further down, in another branch
            before = len(self.along)
            for assignment in assignments:
                (target,) = assignment.targets
                assert isinstance(target, ast.Name)  # as in all of the dialect
                name = target.id
                if name not in self.along and self.function.variables.get(name) is False:
                    if self.depends(assignment.value):
                        self.along[name] = slopes.free(f"{name}_slope")
            growing = len(self.along) > before

    def text(self, name: str) -> str:
        first, *_ = self.function.parameters
        head = f"def {name}({', '.join((*self.function.parameters, *self.given.values()))}):"
        body = "\n".join(self.block(self.function.body, "    "))
        return f"{head}\n    T = type({first})\n{body}\n"

    # --- statements ---------------------------------------------------------------------------------------------------

    def block(self, statements: Any, indent: Any) -> Iterator[Any]:
        for node in statements:
            match node:
                case ast.Assign(targets=[ast.Name(id="T")]):
                    continue
                case ast.Assign(targets=[ast.Name(id=name)]):
                    if name in self.along:  # first, because the new value may be computed from the old one
                        yield f"{indent}{self.along[name]} = {self.slope(node.value) or ZERO}"
                    yield indent + ast.unparse(node)
                case ast.Return():
                    yield f"{indent}return {self.slope(node.value) or ZERO}"
                case ast.If():
                    yield f"{indent}if {ast.unparse(node.test)}:"
                    yield from self.filled(node.body, indent)
                    if node.orelse:
                        yield f"{indent}else:"
                        yield from self.filled(node.orelse, indent)

    def filled(self, statements: Any, indent: Any) -> Any:
        return self.block(statements, indent + "    ")

    # --- expressions --------------------------------------------------------------------------------------------------

    def depends(self, node: Any) -> Any:
        """Whether an expression depends on an active argument."""
        match node:
            case ast.Name(id=name):
                return name in self.along
            case ast.IfExp():
                return self.depends(node.body) or self.depends(node.orelse)
            case ast.Call(func=ast.Name(id="T")):
                return False
            case ast.Call():
                return any(map(self.depends, node.args))
            case ast.BinOp():
                return self.depends(node.left) or self.depends(node.right)
            case ast.UnaryOp():
                return self.depends(node.operand)
        return False

    def slope(self, node: Any) -> Any:
        """The derivative of an expression."""
        if not self.depends(node):
            return None
        match node:
            case ast.Name(id=name):
                return self.along[name]
            case ast.UnaryOp():
                return f"-({self.slope(node.operand)})"
            case ast.IfExp():
                yes, no = self.slope(node.body) or ZERO, self.slope(node.orelse) or ZERO
                return f"(({yes}) if {ast.unparse(node.test)} else ({no}))"
            case ast.BinOp():
                return self.arithmetic(node.op, node.left, node.right)
            case ast.Call(func=ast.Name(id=name)) if name in self.slopes.functions:
                slopes = [self.slope(a) for a in node.args]
                active = tuple(i for i, slope in enumerate(slopes) if slope is not None)
                arguments = [*map(ast.unparse, node.args), *(slopes[i] for i in active)]
                return f"{self.slopes.of(name, active)}({', '.join(arguments)})"
            case ast.Call(func=ast.Name(id=name)):
                return self.elementary(name, *node.args)

    def arithmetic(self, operator: Any, left: Any, right: Any) -> Any:
        a, b = f"({ast.unparse(left)})", f"({ast.unparse(right)})"
        da, db = self.slope(left), self.slope(right)
        match operator:
            case ast.Add():
                return _sum(da, "+", db)
            case ast.Sub():
                return _sum(da, "-", db)
            case ast.Mult():
                return _sum(_product(da, b), "+", _product(db, a))
        quotient = _sum(da, "-", _product(db, f"({a} / {b})"))
        return f"({quotient}) / {b}"

    def elementary(self, name: str, first: Any, second: Any = None) -> Any:
        u, du = ast.unparse(first), self.slope(first)
        match name:
            case "exp" | "expm1":
                return _product(du, f"exp({u})")
            case "log":
                return f"({du}) / ({u})"
            case "log1p":
                return f"({du}) / (T(1.0) + ({u}))"
            case "sqrt":
                return f"({du}) / (T(2.0) * sqrt({u}))"
            case "tanh":
                return _product(du, f"{self.slopes.elementary(name, _TANH)}({u})")
            case "abs":
                return f"{self.slopes.elementary(name, _ABS)}({u}, {du})"
        v, dv = ast.unparse(second), self.slope(second)
        template = {"max": _MAX, "min": _MIN}[name]
        return f"{self.slopes.elementary(name, template)}({u}, {v}, {du or ZERO}, {dv or ZERO})"


def _sum(a: Any, sign: Any, b: Any) -> Any:
    if b is None:
        return a
    if a is None:
        return b if sign == "+" else f"-({b})"
    return f"({a}) {sign} ({b})"


def _product(slope: Any, factor: Any) -> Any:
    if slope is None or slope == ONE:
        return slope and factor
    return f"({slope}) * {factor}"


def free_in(functions: Any) -> Any:
    """A function that turns a name into one that is not in use in a text of these functions."""
    return Slopes(functions).free
