"""The path of every call: to the plan kept for calls of its kind, or through `resolve` to a new plan.

A plan's key holds every fact that `resolve` and the host look at, including the types of the options: to a dictionary 1
== True == 1.0, but one of them may be an error where another is not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fastloss import _config, places
from fastloss.calls.kept import keep, types_of
from fastloss.calls.resolve import resolve
from fastloss.calls.want import VALUE, Want
from fastloss.losses import Function

_plans: dict[tuple[Any, ...], Callable[..., Any]] = {}

_ndarray = np.ndarray
_backend = _config.backend


def evaluate(
    function: Function,
    operands: Sequence[Any],
    options: Sequence[Any],
    out: Any = None,
    want: Want = VALUE,
    scale: float | None = None,
) -> Any:
    """Evaluate a call of a public function.

    function : its row in `losses`.
    operands, options : in the order of the row.
    out : the array for the result, or for "slopes" a tuple with one per gradient; None for new arrays.
    scale : for "slopes": a factor of the sum's gradient, in place of the one that follows from the reduction.

    Returns the value; (value, gradients) for "slopes"; `Sums` for "sums".
    """
    key = key_of(function, operands, options, out, want) if type(operands[0]) is _ndarray else None
    if key is not None:
        try:
            plan = _plans.get(key)
        except TypeError:  # an option that can't be hashed
            key = plan = None
        if plan is not None:
            return plan(operands, out, scale)
    place = places.of(operands)
    planned = functools.partial(_planned, place, function, operands, options, out, want, scale, key)
    is_fresh = out is None or type(out) is tuple and all(a is None for a in out)
    if place.repeated is None or scale is not None or not is_fresh:
        return planned()
    return place.repeated(planned, function, operands, options, want)


def key_of(
    function: Function, operands: Sequence[Any], options: Sequence[Any], out: Any, want: Want
) -> tuple[Any, ...] | None:
    """The key of a call whose operands are all NumPy arrays; otherwise None."""
    facts = [function, want, _backend.get(), options, types_of(options)]
    for a in operands:
        if a is None:
            facts.append(None)
        elif type(a) is _ndarray:
            facts += (a.dtype, a.shape, a.strides, a.flags.aligned)
        else:
            return None
    if out is not None:
        for a in out if type(out) is tuple else (out,):
            if a is None:
                facts.append(None)
            elif type(a) is _ndarray:
                facts += (a.dtype, a.shape, a.strides, a.flags.num)
            else:
                return None
    return tuple(facts)


def _planned(
    place: ModuleType,
    function: Function,
    operands: Sequence[Any],
    options: Sequence[Any],
    out: Any,
    want: Want,
    scale: float | None,
    key: tuple[Any, ...] | None,
) -> Any:
    """Evaluate the call by a new plan, which is kept if similar calls may follow."""
    arrays, weak = place.as_arrays(function, operands)
    if key is None and place.KEEPS:  # lists, tensors and numbers have become arrays, so there is a key now
        key = key_of(function, arrays, options, out, want)
        if key is not None:
            key += (weak,)  # numbers take the type of the arrays they meet
            try:
                plan = _plans.get(key)
            except TypeError:
                key = plan = None
            if plan is not None:
                return plan(arrays, out, scale)
    signatures = [None if a is None else place.signature(a, i in weak) for i, a in enumerate(arrays)]
    plan = place.plan(resolve(function, signatures, options, want), arrays, out)
    if key is not None and place.KEEPS:
        keep(_plans, key, options, plan)
    return plan(arrays, out, scale)
