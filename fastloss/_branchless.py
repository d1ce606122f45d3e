"""The formulas of scalars.py without branches, for backends that run them on whole arrays or registers.

There a condition is a mask and both of its outcomes are computed: `a if c else b`, and `if c: return a` before a
`return b`, become where(c, a, b).  `and`, `or`, `not`, `==` and `!=`, which Python keeps for truth values, become calls too.
"""

import ast
import functools
from pathlib import Path

from fastloss import scalars

# What a backend has to define, besides the elementary functions: where(mask, a, b), both(mask, mask), either(mask, mask),
# opposite(mask), equal(a, b), differ(a, b), abs(x), and type(x), which is called with a number to make a constant like x.
_JOINED = {ast.And: "both", ast.Or: "either"}
_COMPARED = {ast.Eq: "equal", ast.NotEq: "differ"}


def formulas(vocabulary):
    """Every function of scalars.py by its name, in terms of `vocabulary`, which may also replace some of them."""
    path = Path(scalars.__file__)
    module = ast.parse(path.read_text(encoding="utf-8"))
    functions = [f for f in module.body if isinstance(f, ast.FunctionDef) and f.name not in vocabulary]
    module.body = [_Branchless().visit(f) for f in functions]
    namespace = dict(vocabulary)
    exec(compile(ast.fix_missing_locations(module), str(path), "exec"), namespace)
    return namespace


class _Branchless(ast.NodeTransformer):
    def visit_FunctionDef(self, function):
        self.generic_visit(function)
        function.body = list(_single_return(function.body))
        return function

    def visit_IfExp(self, choice):
        self.generic_visit(choice)
        return _call("where", choice.test, choice.body, choice.orelse)

    def visit_BoolOp(self, joined):
        self.generic_visit(joined)
        return functools.reduce(lambda a, b: _call(_JOINED[type(joined.op)], a, b), joined.values)

    def visit_UnaryOp(self, operation):
        self.generic_visit(operation)
        return _call("opposite", operation.operand) if isinstance(operation.op, ast.Not) else operation

    def visit_Compare(self, compared):
        self.generic_visit(compared)
        (operator,), (other,) = compared.ops, compared.comparators
        name = _COMPARED.get(type(operator))
        return _call(name, compared.left, other) if name else compared


def _single_return(body):
    """The statements, with all that is returned in the last of them."""
    cases = []
    for statement in body:
        if isinstance(statement, ast.If):
            (returned,) = statement.body
            cases.append((statement.test, returned.value))
        elif isinstance(statement, ast.Return):
            value = statement.value
            for test, outcome in reversed(cases):
                value = _call("where", test, outcome, value)
            yield ast.Return(value)
        else:
            yield statement


def _call(name, *arguments):
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
