"""Decides what a call means, from types, shapes and options alone.

`resolve` raises every error that does not depend on the values in arrays.  It touches no data, and knows nothing of
places: the host, CUDA devices and Dask graphs all use it.  dtypes are names here, because not every place has NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastloss import _errors
from fastloss.calls import options as _options
from fastloss.calls import transforms
from fastloss.calls.want import VALUE, Want
from fastloss.losses import CATEGORICAL, LEAST, Formula, Function, Loss

FLOATS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
INTEGERS = {f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"bool": 1}
# dtypes that no kernel reads, and that NumPy converts to float64.
EXTENDED = frozenset(("longdouble", "float96", "float128"))


class Signature(NamedTuple):
    """Everything about an array that decisions depend on."""

    dtype: str
    shape: tuple[int, ...]
    weak: bool = False  # a Python number, which takes the dtype of the arrays it is combined with

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_integer(self) -> bool:
        return self.dtype in INTEGERS

    @property
    def is_wide(self) -> bool:
        """Whether this array alone requires computing in float64."""
        return not self.weak and (self.dtype == "float64" or self.dtype in EXTENDED)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def signature(a: Any, weak: bool = False) -> Signature:
    """The Signature of an array with a NumPy dtype."""
    name = a.dtype.name
    known = name in FLOATS or name in INTEGERS or name in EXTENDED
    return Signature(name if known else str(a.dtype), tuple(a.shape), weak)


def resolve(function: Function, signatures: Sequence[Any], options: Sequence[Any], want: Want) -> Any:
    """The meaning of a call: `Elements`, `Rows`, `Layer`, `Normalised`, `Scores`, `Comparisons` or `Forecasts`, by the
    function's family.

    signatures : of the arrays, in the order of ``function.operands``; None for those that are absent.
    options : values in the order of ``function.options``, unchecked.
    """
    for name, signature in zip(function.operands, signatures, strict=True):
        if signature is None and name in function.arrays and name not in function.optional:
            raise _errors.not_an_array(name, None)
        if signature is not None and not (
            signature.dtype in FLOATS or signature.dtype in INTEGERS or signature.dtype in EXTENDED
        ):
            raise _errors.not_numeric(name, signature.dtype)
    values = {o.name: _options.checked(o, value) for o, value in zip(function.options, options, strict=True)}
    if want.what == "slopes" and values.get("reduction") == "none":
        raise _errors.vector_gradient("reduction='none'")
    return _FAMILIES[function.family](function, signatures, values, want)


def real_of(*signatures: Any) -> str:
    """The dtype to compute in: float64 if any of the arrays is, or if the first holds integers; otherwise float32."""
    first = signatures[0]
    if first.is_integer and not first.weak or any(s is not None and s.is_wide for s in signatures):
        return "float64"
    strong = any(s is not None and not s.weak and not s.is_integer for s in signatures)
    return "float32" if strong else "float64"


def cast_of(signature: Signature | None, real: str) -> str | None:
    """The dtype that an operand has to be converted to for a kernel that computes in `real`, or None if it can be read
    as it is."""
    if signature is None or signature.dtype == real:
        return None
    readable = signature.dtype in FLOATS and real == "float32" and signature.dtype != "float64"
    return None if readable else real


def weights_cast(signature: Signature | None) -> str | None:
    """Likewise for weights, which kernels read in any floating dtype and use in float64."""
    return None if signature is None or signature.dtype in FLOATS else "float64"


# --- pointwise losses -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Elements:
    """A call of a pointwise loss.  Operands are prediction, target, third operand and weight; those that are absent are
    None."""

    loss: Loss
    want: Want
    formula: Formula
    parameters: tuple[float, ...]
    names: tuple[str, ...]
    casts: tuple[str | None, ...]
    real: str  # the dtype of the result
    arithmetic: str  # that of the formula: float64 for parameters, too, that float32 can't hold
    shapes: tuple[
        tuple[int, ...] | None, ...
    ]  # of the operands; the third one's after `third_of_rows` has been applied
    shape: tuple[int, ...]  # what they broadcast to
    axes: tuple[int, ...]  # the reduced axes, sorted
    reduction: str  # "none", "mean" or "sum"
    divisor: int | None  # what the mean divides by, or None for the sum of weights
    root: bool
    count: int  # how many elements or rows are counted
    values: dict[str, Any]  # of the options, checked

    @property
    def is_scalar(self) -> bool:
        """Whether the result is one number."""
        return self.reduction != "none" and len(self.axes) == len(self.shape)

    @property
    def result_shape(self) -> tuple[int, ...]:
        if self.reduction == "none":
            return self.shape
        return tuple(n for i, n in enumerate(self.shape) if i not in self.axes)


def _parameter(value: float, real: str) -> float:
    """What a parameter is rounded to a type from: not -0.0, which is equal to 0.0 and thus has the same plan; and what
    is not 0 does not become it, as formulas divide by it."""
    return math.copysign(LEAST[real], value) if 0.0 < abs(value) < LEAST[real] else value + 0.0


def _arithmetic(parameters: tuple[float, ...], real: str) -> str:
    """The dtype that a formula with these parameters is computed in: float32 has few digits of what is below its smallest normal
    number, and none of what is above its largest."""
    held = all(v == 0.0 or LEAST_NORMAL <= abs(v) <= MOST or abs(v) == math.inf for v in parameters)
    return real if held else "float64"


LEAST_NORMAL, MOST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127  # of float32


def _elements(loss: Loss, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Elements:
    x, y, z, w = signatures
    if loss.same_shape and x.shape != y.shape:
        raise _errors.wrong_shape(loss.arrays[1], y.shape, f"{x.shape}, that of {loss.arrays[0]}")
    if loss.third_of_rows and z.ndim and z.shape == x.shape[:-1]:
        z = z._replace(shape=(*z.shape, 1))
    assert loss.formula is not None
    chosen = loss.formula(values, z is not None)
    assert chosen is not None
    formula, parameters = chosen
    assert isinstance(formula, Formula)
    reduction, axis = values["reduction"], values.get("axis")
    batch_mean = reduction == "batchmean"
    if batch_mean and axis is not None:
        raise _errors.batch_mean_axis(axis)
    arrays = (x, y, z, w)
    shape = broadcast(loss.operands, arrays)
    axes = _options.some_axes(axis, len(shape))
    reduction = "mean" if batch_mean else reduction
    real = real_of(x, y, z) if z is not None else real_of(x, y)
    arithmetic = _arithmetic(parameters, real)
    if batch_mean:
        divisor = x.shape[0] if x.shape else 1
    elif loss.weighted_mean and w is not None:
        divisor = None
    else:
        divisor = math.prod(shape[i] for i in axes)
    found = Elements(
        loss,
        want,
        formula,
        tuple(_parameter(value, arithmetic) for value in parameters),
        loss.operands,
        (cast_of(x, real), cast_of(y, real), None if z is None else cast_of(z, real), weights_cast(w)),
        real,
        arithmetic,
        tuple(None if a is None else a.shape for a in arrays),
        shape,
        axes,
        reduction,
        divisor,
        loss.root,
        math.prod(shape),
        values,
    )
    if want.what == "slopes" and not found.is_scalar:
        raise _errors.vector_gradient(f"axis={axis!r}")
    return found


def broadcast(names: Sequence[str], signatures: Sequence[Any]) -> tuple[int, ...]:
    """The shape that arrays broadcast to."""
    present = [(name, s.shape) for name, s in zip(names, signatures, strict=True) if s is not None]
    shapes: set[tuple[int, ...]] = {shape for _, shape in present}
    if len(shapes) == 1:
        return shapes.pop()
    ndim = max(map(len, shapes))
    result = []
    for i in range(-ndim, 0):
        lengths = {shape[i] for shape in shapes if len(shape) >= -i and shape[i] != 1}
        if len(lengths) > 1:
            raise _errors.not_broadcastable(present)
        result.append(lengths.pop() if lengths else 1)
    return tuple(result)


# --- losses of rows ---------------------------------------------------------------------------------------------------


class _RowOptions:
    """Access to the options in `values` that losses of rows share."""

    values: dict[str, Any]

    @property
    def reduction(self) -> str:
        return str(self.values["reduction"])

    @property
    def ignore_index(self) -> int:
        return int(self.values["ignore_index"])

    @property
    def smoothing(self) -> float:
        return float(self.values.get("label_smoothing", 0.0))

    @property
    def transform(self) -> transforms.Transform | None:
        return transforms.of(self.values)


@dataclass(frozen=True)
class Rows(_RowOptions):
    """A call of a loss of rows of classes.  Operands are predictions, target and weight."""

    loss: Loss
    want: Want
    # "index" or "dense" (of logits, with class indices or probabilities), "gather" or "categorical" (of
    # (log-)probabilities), or "known" (a RowFormula, of nll and lse of rows of logits)
    op: str
    names: tuple[str, ...]
    casts: tuple[str | None, ...]
    real: str
    shape: tuple[int, ...]  # of the predictions
    axis: int  # the class axis, counted from the front
    values: dict[str, Any]  # of the options, checked

    @property
    def n_classes(self) -> int:
        return self.shape[self.axis]

    @property
    def rows_shape(self) -> tuple[int, ...]:
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    @property
    def n_rows(self) -> int:
        return math.prod(self.rows_shape)

    @property
    def is_index(self) -> bool:
        return self.op in ("index", "gather", "known")

    @property
    def transform(self) -> transforms.Transform | None:
        # parameters of user-defined losses may have the same names
        return super().transform if self.loss.op == "softmax" else None

    @property
    def row_formula(self) -> Any:
        """For "known": (RowFormula, its parameters)."""
        assert self.loss.formula is not None
        return self.loss.formula(self.values, False)

    @property
    def result_shape(self) -> tuple[int, ...]:
        return self.rows_shape if self.reduction == "none" else ()

    @property
    def weight_shape(self) -> Any:
        """The shape in which class weights broadcast with the predictions."""
        return (self.n_classes,) + (1,) * (len(self.shape) - self.axis - 1)

    def of_known(
        self,
        formula: Formula,
        parameters: tuple[float, ...],
        reduction: str,
        *,
        weighted: bool = True,
        fine: bool = False,
        wide: bool = False,
    ) -> Any:
        """For "known": the pointwise call on nll and lse that computes a formula of them.

        weighted : whether there is a weight per row.
        fine : whether to compute it in float64, whatever the logits are.
        wide : whether the result is float64, too.
        """
        rows = self.rows_shape
        real = "float64" if wide else self.real
        arithmetic = "float64" if fine else _arithmetic(parameters, real)
        return Elements(
            self.loss,
            self.want if self.want.what == "sums" else VALUE,
            formula,
            tuple(_parameter(value, arithmetic) for value in parameters),
            ("nll", "lse", "", "weight"),
            (None,) * 4,
            real,
            arithmetic,
            (rows, rows, None, rows if weighted else None),
            rows,
            tuple(range(len(rows))),
            reduction,
            None,
            False,
            self.n_rows,
            self.values,
        )

    def elements(self, has_weight: bool) -> Any:
        """For "categorical": the pointwise loss that is summed over the classes."""
        whole = tuple(range(len(self.shape)))
        rows = self.reduction == "none"
        return Elements(
            self.loss,
            self.want,
            CATEGORICAL,
            (),
            ("probs", "target", "", "weight"),
            (*self.casts[:2], None, self.casts[2]),
            self.real,
            self.real,
            (self.shape, self.shape, None, self.weight_shape if has_weight else None),
            self.shape,
            (self.axis,) if rows else whole,
            "sum" if rows else self.reduction,
            self.n_rows,
            False,
            self.n_rows,
            self.values,
        )


def _rows(loss: Loss, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Rows:
    x, y, w = signatures
    name = loss.arrays[0]
    gathers = loss.op == "gather"
    if loss.only_indices and not y.is_integer and y.size:
        raise _errors.not_index_dtype("target", y.dtype)
    if not x.ndim:
        raise _errors.no_axis(name)
    axis = _options.one_axis(values["axis"], x.ndim)
    is_index = holds_indices(y, x.shape, axis)
    ignore_index = values["ignore_index"]
    real = real_of(x) if is_index else real_of(x, y)
    n_classes, n_rows = x.shape[axis], math.prod(x.shape[:axis] + x.shape[axis + 1 :])
    check_class_weights(w, n_classes)
    if n_classes == 0 and n_rows:
        raise _errors.no_classes(name, x.shape)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    if loss.op == "known" and not is_index:
        raise _errors.not_index_dtype("target", y.dtype)
    op = ("gather" if is_index else "categorical") if gathers else ("index" if is_index else "dense")
    if loss.formula is not None and loss.formula(values, False) is not None:
        if op == "dense" or loss.op == "softmax" and values["label_smoothing"]:
            raise _errors.z_loss_of_one_class(values["z_loss"])
        op = "known"
    target_cast = index_cast(y) if is_index else cast_of(y, real)
    return Rows(
        loss,
        want,
        op,
        loss.operands,
        (cast_of(x, real), target_cast, weights_cast(w)),
        real,
        x.shape,
        axis,
        values,
    )


def holds_indices(y: Any, shape: tuple[int, ...], axis: int) -> bool:
    """Whether the targets of logits of this shape are class indices, rather than probabilities."""
    rows = shape[:axis] + shape[axis + 1 :]
    if y.is_integer and y.shape == rows:
        return True
    if not y.is_integer and y.shape == shape:
        return False
    if y.size == 0 and y.shape == rows:  # an empty list is float64
        return True
    if y.shape == rows:
        raise _errors.floating_indices(y.shape, y.dtype)
    raise _errors.two_forms(shape, y.shape, y.dtype, axis)


def index_cast(y: Any) -> Any:
    """The dtype that labels are converted to, if any: an empty list of them has arrived as float64."""
    return None if y.is_integer else "int64"


def check_class_weights(w: Any, n_classes: int) -> None:
    if w is not None and w.shape != (n_classes,):
        raise _errors.wrong_shape("weight", w.shape, f"({n_classes},), one weight per class")


# --- linear layers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer(_RowOptions):
    """A call of `linear_cross_entropy`.  Operands are hidden states, the layer's weights, target, bias and class
    weights."""

    loss: Loss
    want: Want
    names: tuple[str, ...]
    casts: tuple[str | None, ...]
    real: str
    rows_shape: tuple[int, ...]
    n_features: int
    n_classes: int
    is_index: bool
    values: dict[str, Any]  # of the options, checked

    @property
    def n_rows(self) -> int:
        return math.prod(self.rows_shape)

    @property
    def result_shape(self) -> tuple[int, ...]:
        return self.rows_shape if self.reduction == "none" else ()


def check_layer(
    h: Any, a: Any, b: Any, names: tuple[str, str, str] = ("hidden", "linear_weight", "linear_bias")
) -> None:
    """Raise if the shapes of hidden states, weights and bias do not fit."""
    hidden, weight, bias = names
    if not h.ndim:
        raise _errors.no_axis(hidden)
    if a.ndim != 2 or a.shape[1] != h.shape[-1]:
        raise _errors.wrong_shape(weight, a.shape, f"(n_classes, {h.shape[-1]}), as {hidden} has shape {h.shape}")
    if b is not None and b.shape != a.shape[:1]:
        raise _errors.wrong_shape(bias, b.shape, f"({a.shape[0]},), one per class")
    if a.shape[0] == 0 and math.prod(h.shape[:-1]):
        raise _errors.no_classes(weight, a.shape)


def _layer(loss: Loss, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Layer:
    h, a, y, b, w = signatures
    check_layer(h, a, b)
    rows_shape, n_classes = h.shape[:-1], a.shape[0]
    is_index = holds_indices(y, (*rows_shape, n_classes), len(rows_shape))
    ignore_index = values["ignore_index"]
    real = real_of(h, a, b) if is_index else real_of(h, a, b, y)
    check_class_weights(w, n_classes)
    if not is_index and ignore_index >= 0:
        raise _errors.ignored_probabilities(ignore_index)
    if "linear_bias" in want.wrt and b is None:
        raise _errors.gradient_of_nothing("linear_bias")
    return Layer(
        loss,
        want,
        loss.operands,
        (None, None, index_cast(y) if is_index else None, None, weights_cast(w)),
        real,
        rows_shape,
        h.shape[-1],
        n_classes,
        is_index,
        values,
    )


# --- functions that are not losses ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalised:
    """A call of logsumexp, log-softmax or softmax along an axis."""

    name: str
    want: Want
    casts: tuple[str | None, ...]
    real: str
    shape: tuple[int, ...]
    axis: int
    keepdims: bool
    transform: transforms.Transform | None
    names: tuple[str, ...] = ("x",)

    @property
    def result_shape(self) -> tuple[int, ...]:
        if self.name != "logsumexp":
            return self.shape
        return self.shape[: self.axis] + (1,) * self.keepdims + self.shape[self.axis + 1 :]


def _normalised(function: Function, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Normalised:
    (x,) = signatures
    if not x.ndim:
        raise _errors.no_axis("x")
    axis = _options.one_axis(values["axis"], x.ndim)
    real = real_of(x)
    keepdims = values.get("keepdims", False)
    return Normalised(function.name, want, (cast_of(x, real),), real, x.shape, axis, keepdims, transforms.of(values))


@dataclass(frozen=True)
class Scores:
    """A call of `score`, on logits or on a linear layer's inputs.

    Operands are logits (or hidden states), target, the layer's weights and its bias, and ids.  Without a target there
    is no rank, and `top_k` has no effect.
    """

    want: Want
    names: tuple[str, ...]
    casts: tuple[str | None, ...]
    real: str
    shape: tuple[int, ...]  # of the logits, or of the hidden states
    axis: int
    n_classes: int
    from_layer: bool
    has_target: bool
    n_ids: int | None  # how many ids there are per row
    ignore_index: int
    top_k: int | None
    top: int | None
    entropy: bool
    transform: transforms.Transform | None
    result_shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "result_shape", self.shape[: self.axis] + self.shape[self.axis + 1 :])

    @property
    def rows_shape(self) -> tuple[int, ...]:
        return self.result_shape

    @property
    def n_rows(self) -> int:
        return math.prod(self.result_shape)

    @property
    def has_details(self) -> bool:
        """Whether entropies, top classes or ids are asked for."""
        return self.entropy or self.top is not None or self.n_ids is not None


def _scores(function: Function, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Scores:
    x, y, a, b, ids = signatures
    if a is None and b is not None:
        raise _errors.layer_alone("linear_bias")
    name, whose = (
        ("logits", "logits without the class axis") if a is None else ("hidden", "hidden without the last axis")
    )
    if a is not None:
        check_layer(x, a, b)
    if not x.ndim:
        raise _errors.no_axis(name)
    axis = _options.one_axis(values["axis"], x.ndim)
    if a is not None and axis != x.ndim - 1:
        raise _errors.out_of_range("axis", values["axis"], "-1 or the last, as hidden states have no class axis")
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    for label, s in (("target", y), ("ids", ids)):
        if s is not None and not s.is_integer and s.size:
            raise _errors.not_index_dtype(label, s.dtype)
    if y is not None and y.shape != rows:
        raise _errors.wrong_shape("target", y.shape, f"{rows}, that of {whose}")
    if ids is not None and (not ids.ndim or ids.shape[:-1] != rows):
        listed = "".join(f"{n}, " for n in rows)
        raise _errors.wrong_shape("ids", ids.shape, f"({listed}n_ids), that of {whose} and one axis more")
    n_classes = x.shape[axis] if a is None else a.shape[0]
    if n_classes == 0 and math.prod(rows):
        raise _errors.no_classes(name, x.shape)
    top = values["top"]
    if top is not None and top > n_classes:
        raise _errors.out_of_range("top", top, f"at most {n_classes}, the number of classes")
    real = real_of(x) if a is None else real_of(x, a, b)
    return Scores(
        want,
        function.operands,
        (
            cast_of(x, real) if a is None else None,
            None if y is None else index_cast(y),
            None,
            None,
            None if ids is None else index_cast(ids),
        ),
        real,
        x.shape,
        axis,
        n_classes,
        a is not None,
        y is not None,
        None if ids is None else ids.shape[-1],
        values["ignore_index"],
        values["top_k"] if y is not None else None,
        top,
        values["entropy"],
        transforms.of(values),
    )


@dataclass(frozen=True)
class Comparisons:
    """A call of `compare`, on logits or on two layers' inputs.

    Operands are the reference's logits (or hidden states), the other model's, target, the other model's layer (weights
    and bias) and the reference's, if it has one of its own.
    """

    function: Function
    want: Want
    names: tuple[str, ...]
    casts: tuple[str | None, ...]
    real: str
    shape: tuple[int, ...]  # of the logits, or of the hidden states
    axis: int
    n_classes: int
    from_layer: bool
    has_target: bool
    ignore_index: int
    transform: transforms.Transform | None
    result_shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "result_shape", self.shape[: self.axis] + self.shape[self.axis + 1 :])

    @property
    def rows_shape(self) -> tuple[int, ...]:
        return self.result_shape

    @property
    def n_rows(self) -> int:
        return math.prod(self.result_shape)


def _comparison(function: Function, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Comparisons:
    r, x, y, a, *layer = signatures
    if a is None:
        for name, s in zip(function.more_arrays[1:], layer, strict=True):
            if s is not None:
                raise _errors.layer_alone(name)
    for name, s in (("reference", r), ("logits", x)):
        if not s.ndim:
            raise _errors.no_axis(name)
    if a is None and x.shape != r.shape:
        raise _errors.wrong_shape("logits", x.shape, f"{r.shape}, that of reference")
    axis = _options.one_axis(values["axis"], x.ndim)
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    of_reference: tuple[Any, ...] = ()
    if a is not None:
        of_reference = _check_layers(r, x, a, *layer)
        if axis != x.ndim - 1:
            raise _errors.out_of_range("axis", values["axis"], "-1 or the last, as hidden states have no class axis")
    if y is not None:
        if not y.is_integer and y.size:
            raise _errors.not_index_dtype("target", y.dtype)
        if y.shape != rows:
            whose = "logits without the class axis" if a is None else "logits without the last axis"
            raise _errors.wrong_shape("target", y.shape, f"{rows}, that of {whose}")
    n_classes = x.shape[axis] if a is None else a.shape[0]
    if n_classes == 0 and math.prod(rows):
        raise _errors.no_classes("logits", x.shape)
    sides = (real_of(r), real_of(x)) if a is None else (real_of(r, *of_reference), real_of(x, a, layer[0]))
    real = "float64" if "float64" in sides else "float32"
    logits_casts = (cast_of(r, real), cast_of(x, real)) if a is None else (None, None)
    return Comparisons(
        function,
        want,
        function.operands,
        (*logits_casts, None if y is None else index_cast(y), None, None, None, None),
        real,
        x.shape,
        axis,
        n_classes,
        a is not None,
        y is not None,
        values["ignore_index"],
        transforms.of(values),
    )


def reference_layer(weight: Any, bias: Any, own_weight: Any, own_bias: Any) -> tuple[Any, Any]:
    """The weights and bias that make logits of the reference's hidden states: its own, or those of the other model."""
    return (weight, bias if own_bias is None else own_bias) if own_weight is None else (own_weight, own_bias)


def _check_layers(r: Any, x: Any, a: Any, b: Any, own_a: Any, own_b: Any) -> tuple[Any, Any]:
    """Raise if two models' hidden states and layers do not fit; the weights and bias of the reference's layer."""
    weight, bias = "linear_weight", "linear_bias"
    check_layer(x, a, b, ("logits", weight, bias))
    if r.shape[:-1] != x.shape[:-1]:
        listed = "".join(f"{n}, " for n in r.shape[:-1])
        raise _errors.wrong_shape("logits", x.shape, f"({listed}n_features), as reference has shape {r.shape}")
    of_reference = reference_layer(a, b, own_a, own_b)
    names = (
        "reference",
        weight if own_a is None else f"reference_{weight}",
        bias if own_b is None else f"reference_{bias}",
    )
    check_layer(r, *of_reference, names)
    if own_a is not None and own_a.shape[0] != a.shape[0]:
        problem = f"({a.shape[0]}, {own_a.shape[1]}), as {weight} has shape {a.shape}"
        raise _errors.wrong_shape(f"reference_{weight}", own_a.shape, problem)
    return of_reference


@dataclass(frozen=True)
class Forecasts:
    """A call of `brier_score` or `calibration_error`, or of the same on logits.

    Operands are probabilities or logits, and target.  Predictions of a binary event, rather than of classes, have the
    target's shape.
    """

    function: Function
    want: Want
    names: tuple[str, ...]
    real: str
    shape: tuple[int, ...]  # of the predictions
    axis: int | None  # the class axis; None for predictions of a binary event
    values: dict[str, Any]  # of the options, checked
    result_shape: tuple[int, ...] = ()

    @property
    def from_logits(self) -> bool:
        return self.names[0] == "logits"

    @property
    def bins(self) -> int | None:
        """The number of bins of confidences; None for Brier scores."""
        return self.values.get("bins")

    @property
    def ignore_index(self) -> int:
        return int(self.values["ignore_index"])

    @property
    def n_classes(self) -> int:
        return 2 if self.axis is None else self.shape[self.axis]

    @property
    def rows_shape(self) -> tuple[int, ...]:
        return self.shape if self.axis is None else self.shape[: self.axis] + self.shape[self.axis + 1 :]

    @property
    def n_rows(self) -> int:
        return math.prod(self.rows_shape)


def _forecasts(function: Function, signatures: Sequence[Any], values: dict[str, Any], want: Want) -> Forecasts:
    x, y = signatures
    name = function.arrays[0]
    if not x.ndim:
        raise _errors.no_axis(name)
    axis = _options.one_axis(values["axis"], x.ndim)
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    if not y.is_integer and y.size:
        raise _errors.not_index_dtype("target", y.dtype)
    if x.ndim == 1 and y.shape == x.shape:
        return Forecasts(function, want, function.operands, real_of(x), x.shape, None, values)
    if y.shape != rows:
        binary = f", or {x.shape} for predictions of one event" if x.ndim == 1 else ""
        raise _errors.wrong_shape("target", y.shape, f"{rows}, that of {name} without the class axis{binary}")
    if x.shape[axis] == 0 and math.prod(rows):
        raise _errors.no_classes(name, x.shape)
    return Forecasts(function, want, function.operands, real_of(x), x.shape, axis, values)


_FAMILIES: dict[str, Callable[..., Any]] = {
    "elements": _elements,
    "rows": _rows,
    "layer": _layer,
    "normalised": _normalised,
    "scores": _scores,
    "comparison": _comparison,
    "forecasts": _forecasts,
}


# --- labels -----------------------------------------------------------------------------------------------------------


def ignored_label(dtype: str, ignore_index: int) -> Any:
    """`ignore_index` if labels of this integer dtype can equal it, otherwise None: then no label is ignored."""
    limits = np.iinfo(np.uint8 if dtype == "bool" else dtype)
    high = 1 if dtype == "bool" else limits.max
    return ignore_index if limits.min <= ignore_index <= high else None
