"""Sorts the arguments of a public function into operands and options, without calling it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fastloss.losses import Function


def bind(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(operands, options) of ``function(*args, **kwargs)``, as `evaluate` takes them; TypeError if the call would raise
    one."""
    arrays, operands, defaults = _layout(function)
    required = [name for name in arrays if name not in function.optional]
    if len(args) > len(arrays):
        raise TypeError(f"{function.name}() takes {len(arrays)} positional arguments but {len(args)} were given")
    given = dict(zip(arrays, args, strict=False))
    for name in kwargs:
        if name in given:
            raise TypeError(f"{function.name}() got multiple values for argument {name!r}")
        if name not in defaults and name not in operands:
            raise TypeError(f"{function.name}() got an unexpected keyword argument {name!r}")
    given |= kwargs
    missing = [name for name in required if name not in given]
    if missing:
        raise TypeError(f"{function.name}() missing required arguments: {', '.join(map(repr, missing))}")
    get = given.get
    return tuple([get(name) for name in operands]), tuple([get(name, default) for name, default in defaults.items()])


@functools.cache
def _layout(function: Function) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """Names of positional arguments and of operands, and the options' defaults by name."""
    return function.arrays, function.operands, {option.name: option.default for option in function.options}
