"""User-defined pointwise losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastloss import _dialect, _errors
from fastloss.losses import Domain
from fastloss.own._definition import Definition, by_name, inside, interval, parameters_of, plain
from fastloss.own._loss import OwnLoss
from fastloss.own._slope import derived, free_in
from fastloss.own._source import Source

_MEANS = {"weights": True, "elements": False}


def pointwise_loss(
    value: Callable[..., Any] | str,
    slope: Callable[..., Any] | str | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    domain: Mapping[str, Any] | None = None,
    mean: str = "weights",
) -> OwnLoss:
    """Make a pointwise loss of a function of prediction and target, with every option of the package's own losses.

    Parameters
    ----------
    value : function or str
        The loss of one element: ``value(x, y)`` of prediction and target, or ``value(x, y, z)`` with a third array,
        followed by the parameters.  A Python function whose source can be read, or its text; it may call other
        functions.  It is not called but translated, so it must keep to a dialect: assignments, ``if`` and ``return``;
        ``+ - * /``, comparisons, ``a if c else b``; ``exp``, ``expm1``, ``log``, ``log1p``, ``sqrt``, ``tanh``,
        ``abs``, ``max`` and ``min``; and constants as ``T(0.5)`` with ``T = type(x)``.
    slope : function or str, optional
        Its derivative with respect to the prediction, a function of the same arguments.  By default it is the function
        in the text that is named like the value plus ``_slope``, if there is one, and is derived from the value
        otherwise.
    parameters : dict, optional
        The arguments after the arrays: names, each with its default, its domain, or both as ``(default, domain)``.  A
        domain is a pair ``(low, high)``, bounds included, or is written as in mathematics: ``"(0, inf)"``.  A parameter
        without a default has to be passed in each call.
    domain : dict, optional
        Domains of the arrays, bounds included, by the names ``"pred"``, ``"target"`` and that of the third argument.
        NaN is allowed; other values outside are errors.
    mean : {"weights", "elements"}
        What a weighted mean divides by: the summed weights, or the number of elements.

    Returns
    -------
    callable
        ``loss(pred, target, *, weight=None, axis=None, reduction="mean", out=None)``, with the third array, if there is
        one, after the target, and the parameters as keywords.  `value_and_grad`, `Accumulator`, Dask arrays, arrays on
        a device, ``fastloss.torch.of`` and ``fastloss.sklearn.get_scorer`` accept it like the package's own losses.  It
        can be pickled, and equals other losses of the same text, name and options.  Its ``text`` is the source of what
        is computed, including the slope.

    Raises
    ------
    SyntaxError
        For a text outside the dialect; names the line and says what is allowed.
    TypeError, ValueError
        For what is not a function or has no source, such as one typed at Python's prompt before 3.13; for arguments
        that don't fit.

    Notes
    -----
    Numba compiles it on first use, and keeps the result on disk for the next process; without Numba, NumPy computes
    it.  The backend ``"cython"`` has no compiler at run time, so Numba, or NumPy, computes it there too.

    A derived slope is that of the branch taken: beware of ``sqrt`` at 0, and of differences whose derivative cancels.
    At 0 the derivative of ``abs`` is 0; where the arguments of ``max`` or ``min`` are equal, theirs is the mean of
    both.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> loss = fastloss.pointwise_loss('''
    ...     def charbonnier(x, y, eps):
    ...         d = x - y
    ...         return sqrt(d * d + eps * eps) - eps
    ... ''', parameters={"eps": (1e-3, "(0, inf)")})
    >>> loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.99950...)
    >>> fastloss.value_and_grad(loss)(np.array([1.0, 2.0]), np.array([1.0, 4.0]), eps=1.0)
    (np.float64(0.61803...), array([ 0.       , -0.4472136]))
    """
    if mean not in _MEANS:
        raise _errors.unknown("mean", mean, tuple(_MEANS))
    source = Source()
    named = source.add(value, "value")
    slope_named = None if slope is None else source.add(slope, "slope")
    functions = source.functions()
    name = meant("value", named)
    known = parameters_of(parameters)
    arguments = functions[name].parameters
    n_arrays = len(arguments) - len(known)
    if {p.name for p in known} != set(arguments[n_arrays:]) or n_arrays not in (2, 3):
        raise _errors.not_a_pointwise_signature(name, arguments, [p.name for p in known])
    by_name = {p.name: p for p in known}
    arrays = ("pred", "target", *arguments[2:n_arrays])
    check_names(name, arrays, by_name)
    text = source.text
    if slope_named is None and f"{name}_slope" in functions and isinstance(value, str):
        slope_name = f"{name}_slope"
    elif slope_named is None:
        slope_name, more = derived(functions, name)
        text = f"{text}\n{more}"
    else:
        slope_name = meant("slope", slope_named)
    if slope_name in functions and len(functions[slope_name].parameters) != len(arguments):
        raise _errors.slope_signature(slope_name, functions[slope_name].parameters, name, arguments)
    domains = _domains(domain, arrays)
    text, value_name = inside(text, functions, name, domains, free_in(_dialect.functions(text)))
    return OwnLoss(
        Definition(
            name,
            "elements",
            arrays,
            plain(text),
            (value_name, slope_name),
            tuple(by_name[p] for p in arguments[n_arrays:]),
            domains,
            _MEANS[mean],
            doc=getattr(value, "__doc__", None) if callable(value) else None,
        )
    )


def meant(role: str, names: Sequence[str]) -> str:
    """The one function that an argument stands for; functions in a text that are slopes of others do not count."""
    slopes = {f"{name}_slope" for name in names}
    values = [name for name in names if name not in slopes] if len(names) > 1 else names
    if len(values) != 1:
        raise _errors.several_functions(role, values)
    return values[0]


def check_names(name: str, arrays: Any, parameters: Any) -> None:
    """Raise if two arguments of a loss have the same name."""
    names = [*arrays, *parameters, "weight", "axis", "reduction", "out"]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise _errors.argument_twice(name, twice)


def _domains(given: Any, arrays: Any) -> Any:
    given = by_name(given, "domain")
    for name in given:
        if name not in arrays:
            raise _errors.unknown("domain", name, arrays)
    found = tuple([_domain(given.get(name), f"domain[{name!r}]") for name in arrays])
    return found if any(found) else ()


def _domain(value: Any, name: str) -> Any:
    if value is None:
        return None
    found = interval(value, name)
    for bound, belongs in ((found.low, found.has_low), (found.high, found.has_high)):
        if math.isfinite(bound) and not belongs:
            raise _errors.open_domain(name, value)
        if math.isfinite(bound) and bound and not _dialect.LEAST <= abs(bound) <= _dialect.MOST:
            raise _errors.out_of_range(name, bound, "bounds within the range of float32")
    return Domain(found.low, found.high) if math.isfinite(found.low) or math.isfinite(found.high) else None
