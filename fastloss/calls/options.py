"""Checks the values of a call's options against the table of losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastloss import _errors
from fastloss.losses import Option


def checked(option: Option, value: Any) -> Any:
    """`value` converted to the option's kind (a float, an int, a bool, a name); TypeError or ValueError if it can't
    be."""
    if option.optional and value is None:
        return None
    result = _KINDS[option.kind](option, value)
    if option.allows is not None and not option.allows(result):
        raise _errors.out_of_range(option.name, value, option.expected)
    return result


def _number(option: Option, value: Any) -> float:
    return number(value, option.name)


def _integer(option: Option, value: Any) -> int:
    return integer(value, option.name)


def _flag(option: Option, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise _errors.not_a_flag(option.name, value)


def _reduction(option: Option, value: Any) -> str:
    if not isinstance(value, str) or value not in option.choices:
        if isinstance(value, str) and value == "none":
            raise _errors.no_elementwise()
        raise _errors.unknown(option.name, value, option.choices)
    return str(value)


def _choice(option: Option, value: Any) -> str:
    if not isinstance(value, str) or value not in option.choices:
        raise _errors.unknown(option.name, value, option.choices)
    return str(value)


def _unchecked(option: Option, value: Any) -> Any:
    """The value as it is: axes can be checked only once the number of dimensions is known."""
    return value


_KINDS = {
    "number": _number,
    "integer": _integer,
    "flag": _flag,
    "reduction": _reduction,
    "choice": _choice,
    "axis": _unchecked,
    "axes": _unchecked,
}


def number(value: Any, name: str) -> float:
    """A real scalar as a float."""
    if type(value) is float:
        return value
    if isinstance(value, (str, bytes, complex, np.complexfloating)) or np.ndim(value) != 0:
        raise _errors.not_a_number(name, value)
    try:
        return float(value)
    except OverflowError:
        raise _errors.beyond_float(name) from None
    except (TypeError, ValueError):
        raise _errors.not_a_number(name, value) from None


def integer(value: Any, name: str) -> int:
    """An integral scalar as an int."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise _errors.not_integer(name, value)
    try:
        return int(value.__index__())
    except TypeError:
        raise _errors.not_integer(name, value) from None


def one_axis(axis: Any, ndim: int) -> int:
    """The class axis, counted from the front."""
    found = integer(axis, "axis")
    if not -ndim <= found < ndim:
        raise _errors.bad_axis(found, ndim)
    return found % ndim


def some_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes to reduce over, counted from the front and sorted; None for all."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = [integer(a, "axis") for a in axes]
    if not all(-ndim <= a < ndim for a in found) or len({a % ndim for a in found}) != len(found):
        raise _errors.bad_axis(axis, ndim)
    return tuple(sorted(a % ndim for a in found))
