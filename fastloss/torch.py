"""The losses for PyTorch's autograd, with the names and signatures of ``torch.nn.functional``.

``fastloss.torch.cross_entropy(logits, target)`` replaces ``torch.nn.functional.cross_entropy(logits, target)``: it is a
tensor on the device of `logits`, which backpropagates.  If a gradient will be needed, it is computed along with the
value, in one sweep, and log-probabilities are never stored.  Differences from the functions of the package itself:

- the class axis is torch's: dimension 1, or 0 if there is only one; `axis` chooses another;
- arguments and results are tensors.  float16 and bfloat16 give float32 values, as under ``torch.autocast``; their gradients have
  the dtype of the input.

Gradients are with respect to `input` only (for `linear_cross_entropy` also the layer's weights and bias); any other
argument that requires one is an error.  There is no second derivative.  ``torch.compile`` breaks the graph at these
functions, and ``torch.func`` refuses them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastloss import _errors, functional, losses
from fastloss._foreign import from_torch
from fastloss._optional import require
from fastloss.grad import value_and_grad, with_gradient
from fastloss.own import OwnLoss

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "fastloss.torch")

__all__ = sorted(loss.name for loss in losses.LOSSES)


# --- from arrays to autograd ------------------------------------------------------------------------------------------


class _Evaluation(torch.autograd.Function):
    """A loss, with gradients that are computed along with its value."""

    @staticmethod
    def forward(ctx: Any, compute: Any, row_axis: Any, *inputs: Any) -> torch.Tensor:
        value, gradients = compute()
        ctx.save_for_backward(*gradients.values())
        ctx.row_axis, ctx.places = row_axis, list(gradients)
        ctx.dtypes = [x.dtype for x in inputs]
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph: autograd would assume a second derivative of 0
            raise _errors.no_second_derivative()
        if upstream.ndim == 0 and upstream.device.type == "cpu" and upstream.item() == 1.0:
            products = ctx.saved_tensors  # the usual case; on another device, reading it would mean waiting
        else:
            factor = upstream if ctx.row_axis is None or not upstream.ndim else upstream.unsqueeze(ctx.row_axis)
            products = [gradient * factor for gradient in ctx.saved_tensors]
        answers = [None] * len(ctx.dtypes)
        for place, product in zip(ctx.places, products, strict=True):
            answers[place] = product.to(ctx.dtypes[place])
        return None, None, *answers


@torch.compiler.disable
def _evaluate(
    fn: Callable[..., Any], arguments: dict[str, Any], reduction: str, row_axis: int | None = None, **options: Any
) -> torch.Tensor:
    """Evaluate `fn` with arguments and options, given by name.

    row_axis : the dimension of the first argument that the result of ``reduction="none"`` lacks; None if it has one
        value per element.
    """
    first, *_ = known = with_gradient(fn)
    if not isinstance(arguments[first], torch.Tensor):
        raise _errors.not_a_tensor("input", arguments[first])
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    wanted = [name for name, x in tensors.items() if x.requires_grad] if torch.is_grad_enabled() else []
    for name in wanted:
        if name not in known:
            raise _errors.not_differentiable(name)
    rows = reduction == "none"
    if rows and wanted and wanted != [first]:
        raise _errors.layer_gradient_of_rows()
    if rows and wanted and row_axis is None:  # autograd sums over broadcast axes
        tensors = dict(zip(tensors, torch.broadcast_tensors(*tensors.values()), strict=True))

    def compute() -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        plain = arguments | {name: _array(x, name) for name, x in tensors.items()} | options
        if not wanted:
            return _tensor(fn(**plain, reduction=reduction)), {}
        # the gradient of a sum consists of the gradients of its terms
        value, gradients = value_and_grad(fn, wanted)(**plain, reduction="sum" if rows else reduction)
        if rows:
            value = fn(**plain, reduction="none")
        places = [list(tensors).index(name) for name in wanted]
        return _tensor(value), dict(zip(places, map(_tensor, gradients), strict=True))

    return _Evaluation.apply(compute, row_axis, *tensors.values())


def _array(x: torch.Tensor, name: str) -> Any:
    """The tensor's memory in a form that the package takes, detached from autograd."""
    return from_torch(x, name) if x.device.type == "cpu" else x.detach()


def _tensor(result: Any) -> torch.Tensor:
    """A result as a tensor: for host tensors it is a NumPy array, for device tensors a tensor already."""
    return result if isinstance(result, torch.Tensor) else torch.from_numpy(np.asarray(result))


def _class_axis(input: Any, axis: int | None) -> int:
    """The class axis; by default torch's."""
    return min(1, getattr(input, "ndim", 1) - 1) if axis is None else axis


# --- as in torch.nn.functional ----------------------------------------------------------------------------------------


def cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    axis: int | None = None,
) -> torch.Tensor:
    """`fastloss.cross_entropy` as ``torch.nn.functional.cross_entropy``; classes along dimension 1."""
    axis = _class_axis(input, axis)
    return _evaluate(
        functional.cross_entropy,
        {"logits": input, "target": target, "weight": weight},
        reduction,
        axis,
        axis=axis,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        temperature=temperature,
        softcap=softcap,
    )


def nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
) -> torch.Tensor:
    """`fastloss.nll_loss` as ``torch.nn.functional.nll_loss``; classes along dimension 1."""
    axis = _class_axis(input, axis)
    arguments = {"log_probs": input, "target": target, "weight": weight}
    return _evaluate(functional.nll_loss, arguments, reduction, axis, axis=axis, ignore_index=ignore_index)


def categorical_cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
) -> torch.Tensor:
    """`fastloss.categorical_cross_entropy`, from probabilities; classes along dimension 1."""
    axis = _class_axis(input, axis)
    arguments = {"probs": input, "target": target, "weight": weight}
    return _evaluate(
        functional.categorical_cross_entropy, arguments, reduction, axis, axis=axis, ignore_index=ignore_index
    )


def linear_cross_entropy(
    input: torch.Tensor,
    linear_weight: torch.Tensor,
    target: torch.Tensor,
    *,
    linear_bias: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """`fastloss.linear_cross_entropy` of hidden states (..., n_features), as
    ``torch.nn.functional.linear_cross_entropy``.

    It has gradients with respect to `input`, `linear_weight` and `linear_bias`; for ``reduction="none"`` to `input`
    alone.
    """
    return _evaluate(
        functional.linear_cross_entropy,
        {
            "hidden": input,
            "linear_weight": linear_weight,
            "target": target,
            "linear_bias": linear_bias,
            "weight": weight,
        },
        reduction,
        -1,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        temperature=temperature,
        softcap=softcap,
    )


def binary_cross_entropy(
    input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, reduction: str = "mean"
) -> torch.Tensor:
    """`fastloss.binary_cross_entropy` as ``torch.nn.functional.binary_cross_entropy``."""
    return _evaluate(functional.binary_cross_entropy, {"probs": input, "target": target, "weight": weight}, reduction)


def binary_cross_entropy_with_logits(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.binary_cross_entropy_with_logits` as ``torch.nn.functional.binary_cross_entropy_with_logits``."""
    arguments = {"logits": input, "target": target, "weight": weight, "pos_weight": pos_weight}
    return _evaluate(functional.binary_cross_entropy_with_logits, arguments, reduction)


def mse_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.mse_loss` as ``torch.nn.functional.mse_loss``."""
    return _evaluate(functional.mse_loss, _pair(input, target, weight), reduction)


def rmse_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.rmse_loss`, the root of the mean squared error."""
    return _evaluate(functional.rmse_loss, _pair(input, target, weight), reduction)


def l1_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.l1_loss` as ``torch.nn.functional.l1_loss``."""
    return _evaluate(functional.l1_loss, _pair(input, target, weight), reduction)


def huber_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.huber_loss` as ``torch.nn.functional.huber_loss``; a weighted mean divides by the summed weights."""
    return _evaluate(functional.huber_loss, _pair(input, target, weight), reduction, delta=delta)


def smooth_l1_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    reduction: str = "mean",
    beta: float = 1.0,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.smooth_l1_loss` as ``torch.nn.functional.smooth_l1_loss``."""
    return _evaluate(functional.smooth_l1_loss, _pair(input, target, weight), reduction, beta=beta)


def log_cosh_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.log_cosh_loss`."""
    return _evaluate(functional.log_cosh_loss, _pair(input, target, weight), reduction)


def msle_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.msle_loss`, the squared difference of log1p."""
    return _evaluate(functional.msle_loss, _pair(input, target, weight), reduction)


def quantile_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    q: float = 0.5,
    reduction: str = "mean",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.quantile_loss`, the pinball loss."""
    return _evaluate(functional.quantile_loss, _pair(input, target, weight), reduction, q=q)


def soft_margin_loss(
    input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", weight: torch.Tensor | None = None
) -> torch.Tensor:
    """`fastloss.soft_margin_loss` as ``torch.nn.functional.soft_margin_loss``, without its overflow."""
    return _evaluate(functional.soft_margin_loss, {"scores": input, "target": target, "weight": weight}, reduction)


def hinge_embedding_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    margin: float = 1.0,
    *,
    reduction: str = "mean",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.hinge_embedding_loss` as ``torch.nn.functional.hinge_embedding_loss``."""
    arguments = {"distance": input, "target": target, "weight": weight}
    return _evaluate(functional.hinge_embedding_loss, arguments, reduction, margin=margin)


def margin_ranking_loss(
    input1: torch.Tensor,
    input2: torch.Tensor | float,
    target: torch.Tensor,
    margin: float = 0.0,
    *,
    reduction: str = "mean",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.margin_ranking_loss` as ``torch.nn.functional.margin_ranking_loss``; with gradients for both inputs."""
    if isinstance(input2, torch.Tensor) and input2.requires_grad and isinstance(input1, torch.Tensor):
        wide = torch.promote_types(torch.result_type(input1, input2), torch.float32)  # halves have too few digits
        input1, input2 = input1.to(wide) - input2.to(wide), 0.0  # autograd differentiates the difference
    arguments = {"input1": input1, "input2": input2, "target": target, "weight": weight}
    return _evaluate(functional.margin_ranking_loss, arguments, reduction, margin=margin)


def poisson_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.poisson_nll_loss` as ``torch.nn.functional.poisson_nll_loss``."""
    arguments = _pair(input, target, weight)
    return _evaluate(functional.poisson_nll_loss, arguments, reduction, log_input=log_input, full=full, eps=eps)


def gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    *,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.gaussian_nll_loss` as ``torch.nn.functional.gaussian_nll_loss``; `var` must not require a gradient."""
    if isinstance(var, torch.Tensor) and var.ndim and var.shape == getattr(input, "shape", ())[:-1]:
        var = var.unsqueeze(-1)  # made explicit here, because the input may be expanded
    arguments = _pair(input, target, weight) | {"var": var}
    return _evaluate(functional.gaussian_nll_loss, arguments, reduction, full=full, eps=eps)


def kl_div(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    reduction: str = "mean",
    log_target: bool = False,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """`fastloss.kl_div` as ``torch.nn.functional.kl_div``."""
    arguments = {"log_probs": input, "target": target, "weight": weight}
    return _evaluate(functional.kl_div, arguments, reduction, log_target=log_target)


def _pair(input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> dict[str, Any]:
    return {"pred": input, "target": target, "weight": weight}


def _like_the_library(fn: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """A function of tensors for a loss that torch does not have."""
    row = functional.loss_of(fn)
    if row is None:
        raise _errors.not_a_loss(fn)
    first, *others = row.arrays

    def function(
        input: torch.Tensor,
        target: torch.Tensor,
        *more: Any,
        reduction: str = "mean",
        weight: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        arguments = dict(zip((first, *others), (input, target, *more), strict=True)) | {"weight": weight}
        row_axis = None
        if row.rowwise:
            options["axis"] = row_axis = _class_axis(input, options.get("axis"))
        return _evaluate(fn, arguments, reduction, row_axis, **options)

    function.__name__ = function.__qualname__ = row.name
    function.__doc__ = f"`fastloss.{row.name}` of tensors."
    return function


def of(loss: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """A user-defined loss, from `pointwise_loss` or `row_loss`, as a function of tensors that backpropagates.

    Its arguments are ``(input, target, *, weight=None, reduction="mean")`` and the loss's own keywords; classes lie
    along dimension 1.
    """
    if not isinstance(loss, OwnLoss):
        raise _errors.not_an_own_loss("of", loss)
    return _OfTensors(loss)


class _OfTensors:
    """What `of` returns: an object rather than a function, so that it can be pickled."""

    def __init__(self, loss: OwnLoss) -> None:
        self._loss, self._function = loss, _like_the_library(loss)
        functools.update_wrapper(self, self._function)
        self.__doc__ = loss.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return of, (self._loss,)


for _loss in losses.LOSSES:
    if _loss.name not in globals():
        globals()[_loss.name] = _like_the_library(getattr(functional, _loss.name))
