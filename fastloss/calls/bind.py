"""Sorts the arguments of a public function into operands and options, without calling it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fastloss.losses import Function


def bind(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(operands, options) of ``function(*args, **kwargs)``, as `evaluate` takes them; TypeError if the call would raise
    one."""
    places, defaults = _places(function, len(args), tuple(kwargs))
    given = (*args, *kwargs.values(), None)
    operands = tuple([given[place] for place in places])
    get = kwargs.get
    return operands, tuple([get(name, default) for name, default in defaults]) if kwargs else _values(function)


# Calls of the same kind follow one another; how many kinds there are has no limit, as losses may be a user's own.
@functools.lru_cache(1024)
def _places(
    function: Function, n_args: int, names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[tuple[str, Any], ...]]:
    """Where each operand is among the arguments, those by name last, -1 if absent; and the options' names and defaults."""
    arrays, defaults = function.arrays, {option.name: option.default for option in function.options}
    if n_args > len(arrays):
        raise TypeError(f"{function.name}() takes {len(arrays)} positional arguments but {n_args} were given")
    given = arrays[:n_args]
    for name in names:
        if name in given:
            raise TypeError(f"{function.name}() got multiple values for argument {name!r}")
        if name not in defaults and name not in function.operands:
            raise TypeError(f"{function.name}() got an unexpected keyword argument {name!r}")
    given += names
    missing = [name for name in arrays if name not in function.optional and name not in given]
    if missing:
        raise TypeError(f"{function.name}() missing required arguments: {', '.join(map(repr, missing))}")
    return tuple(given.index(name) if name in given else -1 for name in function.operands), tuple(defaults.items())


@functools.lru_cache(1024)
def _values(function: Function) -> tuple[Any, ...]:
    """The options' defaults."""
    return tuple(option.default for option in function.options)
