"""Texts in the dialect without branches, for backends that run them on whole arrays or registers.

There a condition is a mask, and both branches are computed.  `a if c else b`, an `if` that returns, and an `if` that
assigns to a variable all become a selection between two values.  `and`, `or`, `not`, `==` and `!=`, which Python would
evaluate to a single truth value, become calls too.
"""

import ast
import functools
import inspect
from pathlib import Path

from fastloss import _dialect, scalars

_JOINED = {ast.And: "both", ast.Or: "either"}
_COMPARED = {ast.Eq: "equal", ast.NotEq: "differ"}
_PRIMITIVES = ("where", "both", "either", "opposite", "equal", "differ")
_OF_ROWS = (scalars.scaled, scalars.mixed_loss, scalars.target_slope)


def formulas(vocabulary, shorter=(), text=None):
    """{name: function} for every function of a text (by default scalars.py), computed with a backend's own operations.

    vocabulary : the dialect's functions by their names, `type`, which gives what makes a constant of a number, and
        where(mask, a, b), both(mask, mask), either(mask, mask), opposite(mask), equal(a, b), differ(a, b).
    shorter : what stands in for functions of scalars.py, by their names.
    """
    shorter = dict(shorter) if text is None else {}
    path = Path(scalars.__file__)
    checked = _dialect.functions(path.read_text(encoding="utf-8") if text is None else text)
    origin = str(path) if text is None else "<formula>"  # what tracebacks name
    module = ast.Module([_branchless(f) for name, f in checked.items() if name not in shorter], [])
    # no name in the dialect begins with an underscore
    namespace = {f"_{name}" if name in _PRIMITIVES else name: function for name, function in vocabulary.items()}
    namespace |= {"float": float, **shorter}
    exec(compile(ast.fix_missing_locations(module), origin, "exec"), namespace)
    return {name: namespace[name] for name in checked}


@functools.cache
def text_of_rows():
    """What scalars.py says about the losses of rows of logits: to translate only this takes a tenth of the time at most."""
    return "\n\n".join(map(inspect.getsource, _OF_ROWS))


def _branchless(function):
    """The definition of a checked function whose only `return` is its last statement."""
    statements = []
    value, _ = _Straightened(statements).run(function.body, {})
    definition = _dialect.parsed(f"def {function.name}({', '.join(function.parameters)}): pass").body[0]
    definition.body = [*statements, ast.Return(value)]
    return definition


class _Straightened:
    """Puts assignments to names of its own into `statements`."""

    def __init__(self, statements):
        self.statements = statements

    def run(self, body, names):
        """(returned expression or None, {variable: its name after the statements}); `names` maps variables to names
        before them."""
        for position, statement in enumerate(body):
            if isinstance(statement, ast.Return):
                return _Expression(names).visit(statement.value), names
            if isinstance(statement, ast.If):
                mask = self.named(_Expression(names).visit(statement.test))
                rest = body[position + 1 :]
                if any(isinstance(node, ast.Return) for node in ast.walk(statement)):
                    yes, _ = self.run([*statement.body, *rest], names)
                    no, _ = self.run([*statement.orelse, *rest], names)
                    return _call("_where", mask, yes, no), names
                names = self.merged(mask, self.run(statement.body, names)[1], self.run(statement.orelse, names)[1])
            elif statement.targets[0].id == "T":
                self.statements.append(statement)
            else:
                value = self.named(_Expression(names).visit(statement.value))
                names = {**names, statement.targets[0].id: value.id}
        return None, names

    def named(self, value):
        """Assign a value to a fresh name; returns the name."""
        name = f"_{len(self.statements)}"
        self.statements.append(ast.Assign([ast.Name(name, ast.Store())], value))
        return ast.Name(name, ast.Load())

    def merged(self, mask, yes, no):
        """{variable: its name after an `if`}; variables assigned in one branch only are not used afterwards, and left
        out."""
        merged = {}
        for name in [name for name in yes if name in no]:
            merged[name] = yes[name]
            if yes[name] != no[name]:
                choice = _call("_where", mask, *(ast.Name(names[name], ast.Load()) for names in (yes, no)))
                merged[name] = self.named(choice).id
        return merged


class _Expression(ast.NodeTransformer):
    """Copies an expression, renaming variables and turning `and`, `or`, `not`, `==` and `!=` into calls."""

    def __init__(self, names):
        self.names = names

    def visit(self, node):
        copy = type(node)(
            **dict(ast.iter_fields(node))
        )  # transformers change what they visit, and a text may be run twice
        return super().visit(copy)

    def generic_visit(self, node):
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                setattr(node, field, self.visit(value))
            elif isinstance(value, list):
                setattr(node, field, [self.visit(v) if isinstance(v, ast.AST) else v for v in value])
        return node

    def visit_Name(self, name):
        name.id = self.names.get(name.id, name.id)
        return name

    def visit_IfExp(self, choice):
        self.generic_visit(choice)
        return _call("_where", choice.test, choice.body, choice.orelse)

    def visit_BoolOp(self, joined):
        self.generic_visit(joined)
        return functools.reduce(lambda a, b: _call(f"_{_JOINED[type(joined.op)]}", a, b), joined.values)

    def visit_UnaryOp(self, operation):
        self.generic_visit(operation)
        return _call("_opposite", operation.operand) if isinstance(operation.op, ast.Not) else operation

    def visit_Compare(self, compared):
        self.generic_visit(compared)
        (operator,), (other,) = compared.ops, compared.comparators
        name = _COMPARED.get(type(operator))
        return _call(f"_{name}", compared.left, other) if name else compared


def _call(name, *arguments):
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
