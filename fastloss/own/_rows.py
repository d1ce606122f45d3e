"""User-defined losses of rows of logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastloss import _dialect, _errors
from fastloss.own._definition import Definition, parameters_of, plain
from fastloss.own._loss import OwnLoss
from fastloss.own._pointwise import check_names, meant
from fastloss.own._slope import Slopes
from fastloss.own._source import Source

KNOWN = ("nll", "lse", "p")


def row_loss(
    value: Callable[..., Any] | str,
    slope: Mapping[str, Callable[..., Any] | str] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
) -> OwnLoss:
    """Make a loss of rows of logits from a function of a row's likelihood, logsumexp and target probability.

    Parameters
    ----------
    value : function or str
        The loss of one row.  Its arguments are any of ``nll``, ``lse`` and ``p``, by these names, then the parameters.
        With x the row's logits and t its target, ``lse = log(sum(exp(x)))``, ``nll = lse - x[t]`` and
        ``p = exp(-nll)``.  It is written in the dialect that `pointwise_loss` describes.
    slope : dict, optional
        Its derivatives with respect to ``nll``, ``lse`` and ``p``, by name, each a function of the same arguments as
        `value`; those that are not given are derived.
    parameters : dict, optional
        As for `pointwise_loss`.

    Returns
    -------
    callable
        ``loss(logits, target, *, weight=None, axis=-1, reduction="mean", ignore_index=-100, out=None)``, with the
        parameters as keywords and class indices as targets; the options are those of `cross_entropy`.  Otherwise it is
        like what `pointwise_loss` returns.

    Raises
    ------
    SyntaxError
        For a text outside the dialect; names the line and says what is allowed.
    TypeError, ValueError
        For what is not a function or has no source; for arguments that don't fit.

    Notes
    -----
    The value takes one pass over the logits, and stores a few numbers per row.  With a and b the derivatives with
    respect to nll (including that through p) and lse, the gradient is ``(a + b) softmax(x)[j]`` for class j, except for
    the target, where it is ``b p - a (1 - p)``.  nll and lse are rounded to the result's dtype before `value` gets
    them.

    Write ``1 - p`` as ``-expm1(-nll)``: the difference would cancel for likely targets.

    References
    ----------
    Lin, T.-Y. et al. (2017). Focal Loss for Dense Object Detection. ICCV, eq. 4.
    Chowdhery, A. et al. (2022). PaLM: Scaling Language Modeling with Pathways. arXiv:2204.02311, section 5: the z-loss.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> loss = fastloss.row_loss('''
    ...     def cross_entropy_with_z(nll, lse, z):
    ...         return nll + z * lse * lse
    ... ''', parameters={"z": (1e-4, "[0, inf)")})
    >>> loss(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [0, 1])
    np.float64(0.16796...)
    """
    source = Source()
    named = source.add(value, "value")
    given = dict(slope or {}) if isinstance(slope, Mapping) or slope is None else None
    if given is None or any(name not in KNOWN for name in given):
        raise _errors.unknown_slope(slope, KNOWN)
    slopes_named = {name: source.add(one, f"slope[{name!r}]") for name, one in given.items()}
    functions = source.functions()
    name = meant("value", named)
    known = {p.name: p for p in parameters_of(parameters)}
    arguments = functions[name].parameters
    quantities = [a for a in arguments if a in KNOWN]
    numbers = [a for a in arguments if a not in KNOWN]
    if set(numbers) != set(known) or not quantities:
        raise _errors.not_a_row_signature(name, arguments, list(known), KNOWN)
    check_names(name, ("logits", "target"), known)
    slopes = Slopes(functions)
    partial = {}
    for quantity in quantities:
        if quantity in given:
            partial[quantity] = meant(f"slope[{quantity!r}]", slopes_named[quantity])
            its = functions[partial[quantity]].parameters
            if len(its) != len(arguments):
                raise _errors.slope_signature(partial[quantity], its, name, arguments)
        else:
            partial[quantity] = slopes.of(name, (arguments.index(quantity),), with_respect=True)
    names, texts = _of_nll_and_lse(name, arguments, numbers, partial, slopes.free)
    text = plain("\n".join((source.text, slopes.text, *texts)))
    _dialect.functions(text)
    return OwnLoss(
        Definition(
            name,
            "rows",
            ("logits", "target"),
            text,
            names,
            tuple(known[number] for number in numbers),
            with_lse="lse" in quantities,
            doc=getattr(value, "__doc__", None) if callable(value) else None,
        )
    )


def _of_nll_and_lse(name: str, arguments: Any, numbers: Any, partial: Any, free: Any) -> Any:
    """Names and texts of the functions `value`, `factor` and `at_target` of nll, lse and the parameters, see
    `losses.RowFormula`."""
    call = {q: f"{slope}({', '.join(arguments)})" for q, slope in partial.items()}
    direct, through = call.get("nll"), f"-(p * {call['p']})" if "p" in call else None
    a = " + ".join(filter(None, (direct, through))) or "T(0.0)"
    b = call.get("lse")
    bodies = {
        "rows": f"{name}({', '.join(arguments)})",
        "rows_factor": f"{a} + {b}" if b else a,
        "rows_at_target": f"{f'{b} * p + ' if b else ''}({a}) * expm1(-nll)",
    }
    names = tuple(free(f"{name}_{kind}") for kind in bodies)
    head = f"({', '.join(('nll', 'lse', *numbers))}):\n    T = type(nll)\n    p = exp(-nll)\n    return "
    return names, [f"\ndef {function}{head}{body}\n" for function, body in zip(names, bodies.values(), strict=True)]
