"""The definition of a user-defined loss, and the row by which places, accumulators and gradients know it."""

from __future__ import annotations

import ast
import hashlib
import math
import os
import re
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from fastloss import _dialect, _errors, losses

# Names of keywords that every loss has.
KEYWORDS = ("weight", "axis", "reduction", "out", "ignore_index")


class _Nothing:
    """Stands for the value of a parameter without default that a call has not passed."""

    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


NOTHING = _Nothing()


def _nothing() -> _Nothing:
    return NOTHING


# --- domains ----------------------------------------------------------------------------------------------------------

_NUMBER = r"\s*([-+]?(?:inf|[0-9.]+(?:e[-+]?[0-9]+)?))\s*"
_INTERVAL = re.compile(rf"\s*([\[(]){_NUMBER},{_NUMBER}([\])])\s*")


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, each of which may be included or not."""

    low: float
    high: float
    has_low: bool = True
    has_high: bool = True

    def allows(self, value: float) -> bool:
        above = value >= self.low if self.has_low else value > self.low
        return above and (value <= self.high if self.has_high else value < self.high)

    def __str__(self) -> str:
        if self.low == 0.0 and not self.has_low and self.high == math.inf:
            return "a positive number"
        if self.high == math.inf:
            return f"a number {'of at least' if self.has_low else 'above'} {self.low:g}"
        return f"a number in {'[' if self.has_low else '('}{self.low:g}, {self.high:g}{']' if self.has_high else ')'}"


def interval(value: Any, name: str) -> Interval:
    """The Interval that a user has written as (low, high), ends included, or as in mathematics, "(0, 1]"."""
    found = None
    if isinstance(value, str):
        match = _INTERVAL.fullmatch(value)
        if match:
            opening, low, high, closing = match.groups()
            found = _numbers(low, high) and Interval(float(low), float(high), opening == "[", closing == "]")
    elif is_pair(value):
        found = Interval(float(value[0]), float(value[1]))
    if not found or not found.low <= found.high:
        raise _errors.not_an_interval(name, value)
    return found


def _numbers(*texts: str) -> bool:
    try:
        return [float(text) for text in texts] != []
    except ValueError:
        return False


def is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))


def is_number(value: Any) -> bool:
    """Whether it is a number that float64 can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


@dataclass(frozen=True)
class Parameter:
    """A numeric keyword of the loss."""

    name: str
    default: float | _Nothing = NOTHING
    domain: Interval | None = None

    @property
    def option(self) -> losses.Option:
        allows, expected = (self.domain.allows, str(self.domain)) if self.domain else (None, "")
        return losses.Option(self.name, self.default, "number", allows, expected)


def parameters_of(given: Any) -> tuple[Parameter, ...]:
    """Parameters from {name: default, domain, or (default, domain)}."""
    return tuple([_parameter(name, value) for name, value in by_name(given, "parameters").items()])


def by_name(given: Any, name: str) -> dict[Any, Any]:
    """What an argument that has to be a mapping, or None, says."""
    if given is not None and not isinstance(given, Mapping):
        raise _errors.not_a_mapping(name, given)
    return dict(given or {})


def _parameter(name: str, value: Any) -> Parameter:
    whole = f"parameters[{name!r}]"
    if not isinstance(name, str) or not name.isidentifier() or name in KEYWORDS:
        raise _errors.bad_parameter_name(name, KEYWORDS)
    if is_number(value):
        return Parameter(name, float(value))
    if isinstance(value, str) or is_pair(value):
        return Parameter(name, domain=interval(value, whole))
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not is_number(value[0]):
        raise _errors.bad_parameter(name, value)
    default, domain = float(value[0]), interval(value[1], whole)
    if not domain.allows(default):
        raise _errors.out_of_range(whole, default, f"a default that is {domain}")
    return Parameter(name, default, domain)


# --- definitions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definition:
    """A loss as plain values, which is what gets pickled.

    Attributes
    ----------
    name : of the loss.
    family : "elements" or "rows", as of any loss.
    arrays : names of the positional arguments.
    text : the source of its functions.
    functions : the names of its value and slope there; for rows, of the functions in `losses.RowFormula`.
    parameters : in the order of the functions' arguments.
    domains : of its arrays, see `losses.Formula`.
    weighted_mean : whether means divide by the summed weights.
    with_lse : for rows: whether the loss depends on logsumexp.
    doc : its docstring.
    """

    name: str
    family: str
    arrays: tuple[str, ...]
    text: str
    functions: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    domains: tuple[losses.Domain | None, ...] = ()
    weighted_mean: bool = True
    with_lse: bool = False
    doc: str | None = field(default=None, compare=False)

    def formula(self) -> Any:
        """The Formula or RowFormula that backends know it by."""
        if self.family == "elements":
            return self._formula(self.functions)
        value, factor, own = (self._formula((name, name)) for name in self.functions)
        return losses.RowFormula(value, factor, own, self.with_lse)

    def _formula(self, functions: Any) -> Any:
        digest = hashlib.sha256(repr((self.text, functions)).encode()).hexdigest()[:16]
        return losses.Formula(
            f"own_{self.name[:40]}_{digest}",
            len(self.arrays),  # for rows: nll and lse
            tuple(p.name for p in self.parameters),
            self.domains,
            ns=_cost(self.text, functions[0]),
            text=self.text,
            functions=functions,
        )


# Nanoseconds per call of an elementary function, see `_costs`, and per element of a formula that is only arithmetic.
_CALL, _ARITHMETIC = 0.25, 0.1


def _cost(text: str, name: str) -> float:
    """Nanoseconds per element, estimated from the functions that are called."""
    functions = _dialect.functions(text)

    def calls(name: str) -> int:
        called = [f.id for statement in functions[name].body for f in _dialect.callees(statement)]
        return sum(calls(f) if f in functions else f in _dialect.IMPORTED for f in called)

    return _ARITHMETIC + _CALL * calls(name)


@dataclass(frozen=True, eq=False)
class Row(losses.Loss):
    """The row of a user-defined loss.  It is not in the table, so it is pickled as its definition."""

    definition: Definition | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return row_of, (self.definition,)


_rows: weakref.WeakValueDictionary[Definition, Row] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _renew() -> None:
    """Replace the lock in a forked child: a thread that does not exist there may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def row_of(definition: Definition) -> Row:
    """The row of a definition; equal definitions share one, because plans and accumulators compare losses by their
    rows."""
    with _lock:
        row = _rows.get(definition)
        if row is None:
            row = _rows[definition] = _row(definition)
    return row


def _row(definition: Definition) -> Row:
    formula = definition.formula()
    names = [p.name for p in definition.parameters]
    of_rows = definition.family == "rows"
    common = (losses.AXIS, losses.REDUCTION, losses.IGNORE_INDEX) if of_rows else (losses.AXES, losses.REDUCTION)
    return Row(
        definition.name,
        definition.family,
        definition.arrays,
        ("weight",),
        (*common, *(p.option for p in definition.parameters)),
        formula=lambda values, third: (formula, tuple(values[name] for name in names)),
        weighted_mean=definition.weighted_mean,
        op="known" if of_rows else "",
        kind="classes" if of_rows else "regression",
        definition=definition,
    )


# --- texts ------------------------------------------------------------------------------------------------------------


def inside(text: str, functions: Any, name: str, domains: Any, free: Any) -> tuple[str, str]:
    """Add a function to a text: the value, but NaN where an operand is outside its domain.

    Returns the text and the name of that function; `free(name)` returns a name that is not in use in the text.
    """
    parameters = functions[name].parameters
    conditions = []
    for x, domain in zip(parameters, domains, strict=False):
        low, high, _ = domain or losses.Domain(-math.inf, math.inf)
        conditions += [f"{x} >= T({low!r})"] * (low > -math.inf) + [f"{x} <= T({high!r})"] * (high < math.inf)
    if not conditions:
        return text, name
    arguments, wrapped = ", ".join(parameters), free(f"{name}_inside")
    call = f"{name}({arguments})"
    body = f'{call} if {" and ".join(conditions)} else {call} * T(float("nan"))'
    return f"{text}\n\ndef {wrapped}({arguments}):\n    T = type({parameters[0]})\n    return {body}\n", wrapped


def plain(text: str) -> str:
    """A text without comments and docstrings, so that losses that compute the same are equal."""
    module = _dialect.parsed(text)
    for function in module.body:
        if isinstance(function, ast.FunctionDef) and ast.get_docstring(function) is not None:
            del function.body[0]
    return ast.unparse(ast.Module([f for f in module.body if isinstance(f, ast.FunctionDef)], []))
