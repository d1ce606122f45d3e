"""Cases of every public function, derived from the table of functions, so that a new function has cases at once.

Names are ``function/what/size``, such as ``huber_loss/grad/middle``.  `small` shows the cost of a call, `middle` fits
in a cache, `large` does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastloss import losses
from fastloss.losses import Function, Loss, Option

from .arrays import INDEX, Array
from .case import Case

# Numbers of elements; of rows and classes; for layers of rows, inputs and classes.
_ELEMENTS = {"small": (10,), "middle": (30_000,), "large": (8_000_000,)}
_ROWS = {"small": (1, 10), "middle": (64, 1000), "large": (16_384, 1000)}
_LAYERS = {"small": (2, 8, 10), "middle": (32, 64, 1000), "large": (128, 256, 64_000)}
_BOUND = {"small": "launch", "middle": "cache", "large": "memory"}

# Values of options, each in a case of its own; flags are inverted.
_OTHERWISE: dict[str, Any] = {
    "label_smoothing": 0.1,
    "temperature": 0.7,
    "softcap": 30.0,
    "top_k": 5,
    "top": 5,
    "delta": 0.5,
    "beta": 0.5,
    "q": 0.9,
    "gamma": 3.0,
    "epsilon": 1.0,
    "z_loss": 1e-4,
    "norm": "max",
    "reduction": "none",
}

_CHOSEN = 8  # how many ids there are per row


def catalogue() -> dict[str, Case]:
    """All cases by name, function by function."""
    return {case.name: case for function in losses.FUNCTIONS for case in _cases(function)}


def _cases(function: Function) -> Iterator[Case]:
    for size in _BOUND:
        yield _case(function, "value", size)
        if isinstance(function, Loss):
            yield _case(function, "grad", size, op="grad")
    for name in function.more_arrays:
        if name in _KEYWORDS:
            yield _case(function, name, "middle", keywords=_together(function, name))
    for option in function.options:
        if option.kind in ("axis", "axes"):
            if function.family != "layer":
                yield _case(function, "axis", "middle", options=(("axis", 0),))
            continue
        other = _other(option)
        if other is not None:
            yield _case(function, option.name, "middle", options=((option.name, other),))
    if isinstance(function, Loss):
        yield _case(function, "accumulator", "middle", op="accumulate")
        if function is next(loss for loss in losses.LOSSES if loss.kind == function.kind):
            # one loss of each kind is enough: everything around the kernels is the same
            yield _case(function, "dask", "middle", op="dask")
            yield _case(function, "eval", "middle", op="eval")


def _other(option: Option) -> Any:
    """A value that is not the default, or None if none is known."""
    if option.kind == "flag":
        return not option.default
    value = _OTHERWISE.get(option.name)
    return None if option.choices and value not in option.choices else value


def _case(
    function: Function,
    what: str,
    size: str,
    *,
    op: str = "value",
    options: tuple[tuple[str, Any], ...] = (),
    keywords: tuple[str, ...] = (),
) -> Case:
    shape, axis = _shape(function, size), dict(options).get("axis", -1)
    names = (*((name, False) for name in function.arrays), *((name, True) for name in keywords))
    found = tuple(_array(function, name, keyword, shape, axis) for name, keyword in names)
    wide = op == "grad" or function.name in ("softmax", "log_softmax")
    rows = function.family == "elements" and dict(options).get("reduction") == "none"
    written = 4 * math.prod(found[0].shape) if wide or rows else 0
    return Case(f"{function.name}/{what}/{size}", function.name, found, _BOUND[size], op, options, written)


def _shape(function: Function, size: str) -> tuple[int, ...]:
    if function.family == "elements":
        return _ELEMENTS[size]
    return _LAYERS[size] if function.family == "layer" else _ROWS[size]


def _array(function: Function, name: str, keyword: bool, shape: tuple[int, ...], axis: int) -> Array:
    if keyword:
        return _KEYWORDS[name](function, name, shape)
    if function.family == "layer":
        n_rows, n_inputs, n_classes = shape
        if name == "target":
            return Array(name, "indices", (n_rows,), INDEX, classes=n_classes)
        return Array(name, "values", (n_classes if name == "linear_weight" else n_rows, n_inputs))
    if function.family == "elements":
        return Array(name, _content(function, name), shape)
    if name == "target":
        n_classes = shape[axis]
        return Array(name, "indices", tuple(n for i, n in enumerate(shape) if i != axis % 2), INDEX, classes=n_classes)
    return Array(name, _content(function, name), shape, axis=axis)


def _content(function: Function, name: str) -> str:
    """The content of the array of this name, chosen so that it is in the function's domain."""
    binary = getattr(function, "kind", "") == "binary"
    if name == "target":
        return "labels" if binary else "positive"
    if name == "probs":
        return "probabilities" if function.family == "elements" else "distributions"
    if name == "log_probs":
        return "log distributions"
    return "positive" if function.family == "elements" and not binary else "logits"


# --- arrays given by name ---------------------------------------------------------------------------------------------


def _weight(function: Function, name: str, shape: tuple[int, ...]) -> Array:
    """Weights per class, or per element."""
    return Array(name, "positive", shape if function.family == "elements" else shape[-1:], keyword=True)


def _linear_weight(function: Function, name: str, shape: tuple[int, ...]) -> Array:
    """The weights of a layer whose inputs replace the logits; square, so that targets stay in range."""
    return Array(name, "values", (shape[-1], shape[-1]), keyword=True)


def _ids(function: Function, name: str, shape: tuple[int, ...]) -> Array:
    return Array(name, "indices", (*shape[:-1], _CHOSEN), INDEX, keyword=True, classes=shape[-1])


_KEYWORDS = {
    "weight": _weight,
    "pos_weight": _weight,
    "linear_bias": _weight,
    "linear_weight": _linear_weight,
    "ids": _ids,
}


def _together(function: Function, name: str) -> tuple[str, ...]:
    """Names of the arrays that are passed together: there is no bias without a layer."""
    return ("linear_weight", name) if name == "linear_bias" and "linear_weight" not in function.arrays else (name,)
