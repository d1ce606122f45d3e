"""What is kept of a call for later calls of its kind, in dictionaries that do not grow without end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# How much a dictionary keeps; a new entry then replaces the oldest.
MOST = 1024

# Types of options for which equal values mean the same.
_PLAIN = {int, float, bool, str, type(None), tuple}


def types_of(options: Sequence[Any]) -> tuple[type, ...]:
    """The types of options, and of the axes among them: to a dictionary 1 == True == 1.0, which may not all be accepted."""
    types = tuple(map(type, options))
    return types + tuple(map(type, options[0])) if types and types[0] is tuple else types


def keep(kept: dict[tuple[Any, ...], Any], key: tuple[Any, ...], options: Sequence[Any], value: Any) -> None:
    """Keep a value by the key of a call with these options, if they are of the types that Python itself has."""
    if not all(type(option) in _PLAIN for option in options):
        return
    while len(kept) >= MOST:
        try:
            del kept[next(iter(kept))]
        except (KeyError, StopIteration, RuntimeError):  # another thread was faster
            pass
    kept[key] = value
