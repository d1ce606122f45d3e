"""Checks data read from a file against a schema.

The schema is data, too: a dictionary stands for an object with at least these keys, `[entry]` for a list of such
entries, `[entry, ...]` for one that is not empty, and a `Rule` says what a single value must be.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must be, as words and as a predicate."""

    words: str
    test: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and abs(value) < math.inf


TEXT = Rule("a string", lambda value: isinstance(value, str))
INTEGER = Rule("an integer", _is_integer)
SIZE = Rule("an integer of at least 0", lambda value: _is_integer(value) and value >= 0)
COUNT = Rule("an integer of at least 1", lambda value: _is_integer(value) and value >= 1)
NUMBER = Rule("a number", _is_finite)
POSITIVE = Rule("a number above 0", lambda value: _is_finite(value) and value > 0)
LABEL = Rule("an integer or a string", lambda value: isinstance(value, str) or _is_integer(value))


def one_of(*choices: Any) -> Rule:
    """One of these strings or numbers."""
    return Rule(" or ".join(map(repr, choices)), lambda value: type(value) in map(type, choices) and value in choices)


def optional(rule: Rule) -> Rule:
    """The same, or None."""
    return Rule(f"{rule.words} or null", lambda value: value is None or rule.test(value))


def check(value: Any, expected: Any, where: str = "") -> None:
    """Raise ValueError if `value` does not match; the message names the place, such as `cases[2].roof`."""
    if isinstance(expected, Rule):
        if not expected.test(value):
            raise _unexpected(where, expected.words, value)
    elif isinstance(expected, dict):
        if not isinstance(value, dict):
            raise _unexpected(where, "an object", value)
        for key, inner in expected.items():
            place = f"{where}.{key}" if where else key
            if key not in value:
                raise ValueError(f"{place} is missing")
            check(value[key], inner, place)
    else:
        if not isinstance(value, list):
            raise _unexpected(where, "a list", value)
        if not value and ... in expected:
            raise _unexpected(where, "a list of at least one entry", value)
        for i, entry in enumerate(value):
            check(entry, expected[0], f"{where}[{i}]")


def _unexpected(where: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{f'{where}: ' if where else ''}expected {expected}, got {reprlib.repr(value)}")
