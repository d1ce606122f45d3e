"""A shard, opened: its arrays, the loss and its options, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastloss.cli.failure import Failure
from fastloss.cli.files import Source, Stored, open_array, shape_text
from fastloss.cli.files.pages import is_mapped

from .guess import Choice, choose, class_axis, mismatch, one_output
from .layout import (
    Layout,
    check_class_weights,
    check_element_weights,
    element_weights,
    lay_out_classes,
    lay_out_elements,
)
from .losses import LossInfo, find_loss

IGNORE_INDEX = -100  # the library's default


class Empty(Failure):
    """Predictions and targets are there, but no data in them: an error, unless they are one shard of several."""


@dataclass(frozen=True)
class Request:
    """The options of `fastloss eval` as they were given; None where they were not."""

    predictions: str
    targets: str | None  # None for --no-targets
    loss: str | None = None
    axis: int | None = None
    weight: str | None = None
    ignore_index: int | None = None
    label_smoothing: float | None = None
    reduction: str = "mean"
    output: str | None = None
    reference: str | None = None
    linear_weight: str | None = None
    linear_bias: str | None = None
    against_linear_weight: str | None = None
    against_linear_bias: str | None = None


@dataclass(frozen=True)
class LinearLayer:
    """The layer that makes logits of hidden states: weights `(n_classes, n_features)`, and a bias."""

    weight: Source
    bias: Source | None

    @property
    def options(self) -> dict[str, np.ndarray]:
        """As the library takes them."""
        named = {"linear_weight": self.weight, "linear_bias": self.bias}
        return {name: _read(source) for name, source in named.items() if source is not None}

    @property
    def n_bytes(self) -> int:
        return self.weight.array.nbytes + (0 if self.bias is None else self.bias.array.nbytes)


@dataclass(frozen=True)
class Part:
    """Where a shard's arrays lie in the whole: its first row, its rows and those of all shards (first axes)."""

    first: int
    n_rows: int
    n_all: int


@dataclass(frozen=True)
class Opened:
    """A shard whose files are open, with the loss and options that were found to fit them.

    Parameters
    ----------
    loss, axis, reason
        The loss, its axis in the files (the class axis, or 0 for one loss per output, or None) and why it was
        chosen (None if the user named it).
    labels : bool
        The targets are class labels.
    layout : Layout
        The arrays, ready to be cut into chunks.
    weights : array or None
        Class weights; weights of elements are part of the layout.
    per_output : bool
        Means are taken over the first axis only.
    reference : Source or None
        Another model's predictions to compare with.
    has_targets : bool
        There are targets; else those that are part of the layout mean nothing.
    layer : LinearLayer or None
        What makes logits of the predictions, which are hidden states.
    reference_layer : LinearLayer or None
        What makes logits of the other model's hidden states: the same layer, or one of its own.
    """

    loss: LossInfo
    axis: int | None
    reason: str | None
    predictions: Source
    targets: Source
    weight: Source | None
    labels: bool
    layout: Layout
    weights: np.ndarray | None
    ignore_index: int
    ignore_given: bool
    label_smoothing: float
    reduction: str
    per_output: bool
    reference: Source | None = None
    has_targets: bool = True
    layer: LinearLayer | None = None
    reference_layer: LinearLayer | None = None

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return (
            (self.predictions.array.shape[self.axis or 0]) if self.layer is None else self.layer.weight.array.shape[0]
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of predictions, targets, weights and what they are compared with."""
        sources = (self.predictions, self.targets if self.has_targets else None, self.weight, self.reference)
        return sum(source.array.nbytes for source in sources if source is not None)

    @property
    def is_light(self) -> bool:
        """Whether keeping it open takes no memory: its files are mapped, nothing has been read or decoded."""
        arrays = [source.array for source in (self.predictions, self.targets, self.reference) if source is not None]
        return all(isinstance(array, np.ndarray) and is_mapped(array) for array in arrays)


def open_shard(request: Request, reason: str | None = None, part: Part | None = None) -> Opened:
    """Open the files of a shard, choose the loss, and check that everything fits.

    `reason` is why the loss in `request` was chosen, if an earlier shard led to it; `part` says where the shard lies among all,
    for weights of the rows of all shards.

    Raises
    ------
    Failure
        A file or an option is wrong.
    """
    named = None if request.loss is None else find_loss(request.loss)
    predictions = open_array(request.predictions)
    layer = _linear_layer(request, predictions)
    if layer is not None:
        named = find_loss("cross_entropy")
    if request.targets is None:
        named = find_loss(request.loss or "cross_entropy")
        targets = _unknown_targets(predictions, request.axis)
    else:
        targets = open_array(request.targets)
    reference = None if request.reference is None else open_array(request.reference)
    reference_layer = None if layer is None or reference is None else _reference_layer(request, reference, layer)
    without = [source for source in (predictions, targets) if not source.array.size]
    if without:
        kind = Empty if len(without) == 2 else Failure
        raise kind(without[0].name, f"holds no data: its shape is {shape_text(without[0].array.shape)}")
    axis = _normal_axis(request.axis, predictions)
    if axis == 0 and (named is None or named.family == "classes") or targets.array.ndim == 0:
        # stored arrays are cut along their first axis, which here is the classes'
        shapes = predictions.array.shape, targets.array.shape
        if shapes[0] != shapes[1] and class_axis(*shapes, axis) is None and not one_output(*shapes, axis):
            raise mismatch(predictions, targets, axis)  # before all is read
        predictions, targets = _whole(predictions), _whole(targets)
        reference = None if reference is None else _whole(reference)
    ignore_index = IGNORE_INDEX if request.ignore_index is None else request.ignore_index
    if named is None:
        choice = choose(predictions, targets, axis, ignore_index)
    else:
        choice = Choice(named, _named_axis(named, predictions, targets, axis), reason)
    _check_options(choice.loss, request, axis, predictions)
    if layer is not None and targets.array.shape != predictions.array.shape[:-1]:
        raise mismatch(predictions, targets, predictions.array.ndim - 1)
    if reference is not None:
        _check_reference(choice, request, predictions, targets, reference)

    x, y = predictions.array, targets.array
    if choice.loss.family == "classes":
        assert choice.axis is not None
        labels = y.shape != x.shape
        layout = lay_out_classes(x, y, choice.axis, None if reference is None else reference.array)
        per_output = False
    else:
        labels, per_output = False, axis is not None
        layout = lay_out_elements(_values(predictions, targets, axis), y, None, per_output)
    opened = Opened(
        loss=choice.loss,
        axis=choice.axis if choice.loss.family == "classes" else axis,
        reason=choice.reason,
        predictions=predictions,
        targets=targets,
        weight=None,
        labels=labels,
        layout=layout,
        weights=None,
        ignore_index=ignore_index,
        ignore_given=request.ignore_index is not None,
        label_smoothing=request.label_smoothing or 0.0,
        reduction=request.reduction,
        per_output=per_output,
        reference=reference,
        has_targets=request.targets is not None,
        layer=layer,
        reference_layer=reference_layer,
    )
    return opened if request.weight is None else weighted(opened, open_array(request.weight), part)


def _linear_layer(request: Request, hidden: Source) -> LinearLayer | None:
    """The layer, if there is one, checked against the hidden states."""
    if request.linear_weight is None:
        return None
    if request.loss not in (None, "cross_entropy"):
        raise Failure("--loss", f"{request.loss} is not computed from hidden states; cross_entropy is")
    if request.axis not in (None, -1, hidden.array.ndim - 1):
        raise Failure("--axis", f"features are along the last axis of hidden states; {request.axis} was given")
    return _opened_layer(request.linear_weight, request.linear_bias, hidden)


def _reference_layer(request: Request, hidden: Source, layer: LinearLayer) -> LinearLayer:
    """The layer of the other model: the same, unless it has its own."""
    if request.against_linear_weight is None:
        _check_features(layer.weight, hidden)
        return layer
    own = _opened_layer(request.against_linear_weight, request.against_linear_bias, hidden)
    if own.weight.array.shape[0] != layer.weight.array.shape[0]:
        shapes = f"shape {shape_text(own.weight.array.shape)} does not go with {shape_text(layer.weight.array.shape)}"
        raise Failure(own.weight.name, f"{shapes} of {layer.weight.name}: both need the same classes")
    return own


def _opened_layer(weight_name: str, bias_name: str | None, hidden: Source) -> LinearLayer:
    weight = open_array(weight_name)
    bias = None if bias_name is None else open_array(bias_name)
    _check_features(weight, hidden)
    shape = weight.array.shape
    if bias is not None and bias.array.shape != shape[:1]:
        problem = f"shape {shape_text(bias.array.shape)} does not go with {shape_text(shape)} of {weight.name}"
        raise Failure(bias.name, problem)
    weight, bias = _whole(weight), None if bias is None else _whole(bias)
    return LinearLayer(weight, bias)


def _check_features(weight: Source, hidden: Source) -> None:
    shape = weight.array.shape
    if not hidden.array.ndim or len(shape) != 2 or shape[1] != hidden.array.shape[-1] or not shape[0]:
        fitting = f"does not go with hidden states of shape {shape_text(hidden.array.shape)}"
        raise Failure(weight.name, f"shape {shape_text(shape)} {fitting}; expected (n_classes, n_features)")


def weighted(opened: Opened, weight: Source, part: Part | None) -> Opened:
    """The same with weights: of its classes, rows or elements, or of the rows of all shards, of which it is a `part`.

    Raises
    ------
    Failure
        They do not fit.
    """
    if opened.loss.family == "classes":
        assert opened.axis is not None
        check_class_weights(weight, opened.n_classes)
        weights = _read(weight)
        return replace(opened, weight=replace(weight, array=weights), weights=weights)
    if part is not None and weight.array.shape[:1] == (part.n_all,):
        weight = replace(weight, array=weight.array[part.first : part.first + part.n_rows])
    x = _values(opened.predictions, opened.targets, opened.axis)
    check_element_weights(weight, x.shape)
    weights = _read(weight)
    layout = lay_out_elements(x, opened.targets.array, element_weights(weights, x.ndim), opened.per_output)
    return replace(opened, weight=replace(weight, array=weights), layout=layout)


def _values(predictions: Source, targets: Source, axis: int | None) -> np.ndarray | Stored:
    """The predictions of an element-wise loss, without a last axis that says nothing."""
    x = predictions.array
    if not one_output(x.shape, targets.array.shape, axis):
        return x
    return x[..., 0] if isinstance(x, np.ndarray) else x.without_last()


def _unknown_targets(predictions: Source, axis: int | None) -> Source:
    """What stands for targets where there are none: the first class, in the shape that labels have."""
    shape = predictions.array.shape
    at = _normal_axis(axis, predictions)
    at = len(shape) - 1 if at is None else at
    return Source("", "", np.zeros(shape[:at] + shape[at + 1 :], np.uint8))


def _check_reference(choice: Choice, request: Request, predictions: Source, targets: Source, reference: Source) -> None:
    """Whether two models can be compared: by the logits of classes, row by row."""
    x, r = predictions.array, reference.array
    if choice.loss.name != "cross_entropy" or targets.array.shape == x.shape:
        what = choice.loss.name if choice.loss.name != "cross_entropy" else "cross_entropy of class probabilities"
        guessed = f" (guessed: {choice.reason}; --loss overrides)" if choice.reason else ""
        raise Failure("--against", f"compares by cross_entropy from logits, with class labels; this is {what}{guessed}")
    for option in ("weight", "label_smoothing"):
        if getattr(request, option) is not None:
            raise Failure("--against", f"cannot be combined with --{option.replace('_', '-')}")
    n_axes = x.ndim - 1 if request.linear_weight is not None else x.ndim  # features may differ
    if r.ndim != x.ndim or r.shape[:n_axes] != x.shape[:n_axes]:
        problem = f"shape {shape_text(r.shape)} does not go with {shape_text(x.shape)} of {predictions.name}"
        raise Failure(reference.name, problem)
    if r.dtype.kind not in "biuf" and r.dtype.name != "bfloat16":
        raise Failure(reference.name, f"holds {r.dtype}, not numbers")


def _whole(source: Source) -> Source:
    return replace(source, array=_read(source)) if isinstance(source.array, Stored) else source


def _read(source: Source) -> np.ndarray:
    """All of the array, decoded where it has to be."""
    return source.array[:] if isinstance(source.array, Stored) else source.array


def _normal_axis(axis: int | None, predictions: Source) -> int | None:
    """The axis counted from the front."""
    shape = predictions.array.shape
    if axis is None or -len(shape) <= axis < len(shape):
        return axis if axis is None or axis >= 0 else axis + len(shape)
    raise Failure("--axis", f"{axis} is out of range for predictions of shape {shape_text(shape)}")


def _named_axis(loss: LossInfo, predictions: Source, targets: Source, axis: int | None) -> int | None:
    """The axis of a loss the user named, with the shapes checked."""
    x, y = predictions.array, targets.array
    if loss.family != "classes":
        if x.shape != y.shape and not one_output(x.shape, y.shape, axis):
            shapes = f"shape {shape_text(y.shape)} does not fit predictions of shape {shape_text(x.shape)}"
            raise Failure(targets.name, shapes)
        return None
    if not x.ndim:
        raise Failure(predictions.name, f"{loss.name} needs an axis of classes, the shape is ()")
    if x.shape == y.shape:
        return x.ndim - 1 if axis is None else axis
    found = class_axis(x.shape, y.shape, axis)
    if found is None or y.dtype.kind not in "biu":
        raise mismatch(predictions, targets, axis)
    return found


def _check_options(loss: LossInfo, request: Request, axis: int | None, predictions: Source) -> None:
    """An option that the loss would not heed is an error, as silence would make it look obeyed."""
    if request.label_smoothing is not None and not loss.smooths:
        raise Failure("--label-smoothing", f"{loss.name} has no label smoothing; cross_entropy has")
    if request.ignore_index is not None and not loss.ignores:
        raise Failure("--ignore-index", f"{loss.name} has no class labels to ignore")
    if axis is not None and loss.family == "binary":
        raise Failure("--axis", f"{loss.name} is taken element by element and has no axis")
    if axis is not None and axis != 0 and loss.family == "regression":
        raise Failure("--axis", f"only 0 is possible for {loss.name}: one loss per output, {axis} was given")
    if request.reduction == "none":
        if request.output is None:
            raise Failure("--reduction none", "needs --output FILE for the losses of the rows")
        if loss.name == "rmse_loss":
            raise Failure("--reduction none", "rmse_loss has no losses of single rows; take mse_loss")
        if axis is not None and loss.family == "regression":
            raise Failure("--reduction none", "cannot be combined with --axis")
