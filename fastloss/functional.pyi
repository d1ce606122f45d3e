"""What type checkers see of `functional`; written by tests/stubs.py."""

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from fastloss import losses
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss._types import AnyArray, DeviceT, LazyT, OutT, Real, RealArray

__all__ = [
    "cross_entropy",
    "focal_loss",
    "poly_loss_cross_entropy",
    "nll_loss",
    "categorical_cross_entropy",
    "linear_cross_entropy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "sigmoid_focal_loss",
    "mse_loss",
    "rmse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "log_cosh_loss",
    "msle_loss",
    "quantile_loss",
    "charbonnier_loss",
    "mape_loss",
    "smape_loss",
    "hinge_loss",
    "squared_hinge_loss",
    "soft_margin_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "poisson_nll_loss",
    "gaussian_nll_loss",
    "poisson_deviance_loss",
    "gamma_deviance_loss",
    "tweedie_deviance_loss",
    "kl_div",
    "generalized_kl_div",
    "log_softmax",
    "softmax",
    "logsumexp",
    "score",
    "compare",
    "brier_score",
    "calibration_error",
]

@overload
def cross_entropy(
    logits: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def cross_entropy(
    logits: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> Real: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: Literal["none"],
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> RealArray: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def cross_entropy(
    logits: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    axis: int = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: OutT,
) -> OutT: ...
@overload
def focal_loss(
    logits: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def focal_loss(
    logits: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def focal_loss(
    logits: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    gamma: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def poly_loss_cross_entropy(
    logits: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def poly_loss_cross_entropy(
    logits: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def poly_loss_cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def poly_loss_cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def poly_loss_cross_entropy(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def poly_loss_cross_entropy(
    logits: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    epsilon: float = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def nll_loss(
    log_probs: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def nll_loss(
    log_probs: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def nll_loss(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def nll_loss(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def nll_loss(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def nll_loss(
    log_probs: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def categorical_cross_entropy(
    probs: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def categorical_cross_entropy(
    probs: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def categorical_cross_entropy(
    probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def categorical_cross_entropy(
    probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def categorical_cross_entropy(
    probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def categorical_cross_entropy(
    probs: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    axis: int = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def linear_cross_entropy(
    hidden: LazyT,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def linear_cross_entropy(
    hidden: DeviceT,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> Real: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: Literal["none"],
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> RealArray: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def linear_cross_entropy(
    hidden: AnyArray,
    linear_weight: AnyArray,
    target: AnyArray,
    *,
    linear_bias: AnyArray | None = ...,
    weight: AnyArray | None = ...,
    ignore_index: int = ...,
    label_smoothing: float = ...,
    reduction: str = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: OutT,
) -> OutT: ...
@overload
def binary_cross_entropy(
    probs: LazyT, target: AnyArray, *, weight: AnyArray | None = ..., reduction: str = ..., out: None = ...
) -> LazyT: ...
@overload
def binary_cross_entropy(
    probs: DeviceT, target: AnyArray, *, weight: AnyArray | None = ..., reduction: str = ..., out: None = ...
) -> DeviceT | Real | RealArray: ...
@overload
def binary_cross_entropy(
    probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def binary_cross_entropy(
    probs: ArrayLike, target: AnyArray, *, weight: AnyArray | None = ..., reduction: Literal["none"], out: None = ...
) -> RealArray: ...
@overload
def binary_cross_entropy(
    probs: ArrayLike, target: AnyArray, *, weight: AnyArray | None = ..., reduction: str = ..., out: None = ...
) -> Real | RealArray: ...
@overload
def binary_cross_entropy(
    probs: AnyArray, target: AnyArray, *, weight: AnyArray | None = ..., reduction: str = ..., out: OutT
) -> OutT: ...
@overload
def binary_cross_entropy_with_logits(
    logits: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def binary_cross_entropy_with_logits(
    logits: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def binary_cross_entropy_with_logits(
    logits: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    pos_weight: AnyArray | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def sigmoid_focal_loss(
    logits: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def sigmoid_focal_loss(
    logits: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def sigmoid_focal_loss(
    logits: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    alpha: float = ...,
    gamma: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def mse_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def mse_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def mse_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def mse_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def mse_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def mse_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def rmse_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def rmse_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def rmse_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def rmse_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def rmse_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def l1_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def l1_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def l1_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def huber_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    delta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def huber_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    delta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def huber_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    delta: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def huber_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    delta: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def huber_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    delta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def huber_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    delta: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def smooth_l1_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    beta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def smooth_l1_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    beta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def smooth_l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    beta: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def smooth_l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    beta: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def smooth_l1_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    beta: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def smooth_l1_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    beta: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def log_cosh_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def log_cosh_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def log_cosh_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def log_cosh_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def log_cosh_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def log_cosh_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def msle_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def msle_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def msle_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def msle_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def msle_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def msle_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def quantile_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    q: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def quantile_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    q: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def quantile_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    q: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def quantile_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    q: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def quantile_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    q: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def quantile_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    q: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def charbonnier_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def charbonnier_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def charbonnier_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def charbonnier_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def charbonnier_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def charbonnier_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def mape_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def mape_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def mape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def mape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def mape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def mape_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def smape_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def smape_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def smape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def smape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    eps: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def smape_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def smape_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    eps: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def hinge_loss(
    scores: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def hinge_loss(
    scores: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def hinge_loss(
    scores: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def squared_hinge_loss(
    scores: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def squared_hinge_loss(
    scores: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def squared_hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def squared_hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def squared_hinge_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def squared_hinge_loss(
    scores: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def soft_margin_loss(
    scores: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def soft_margin_loss(
    scores: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def soft_margin_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def soft_margin_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def soft_margin_loss(
    scores: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def soft_margin_loss(
    scores: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def hinge_embedding_loss(
    distance: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def hinge_embedding_loss(
    distance: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def hinge_embedding_loss(
    distance: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    margin: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def hinge_embedding_loss(
    distance: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    margin: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def hinge_embedding_loss(
    distance: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def hinge_embedding_loss(
    distance: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def margin_ranking_loss(
    input1: LazyT,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def margin_ranking_loss(
    input1: DeviceT,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def margin_ranking_loss(
    input1: ArrayLike,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    margin: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def margin_ranking_loss(
    input1: ArrayLike,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    margin: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def margin_ranking_loss(
    input1: ArrayLike,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def margin_ranking_loss(
    input1: AnyArray,
    input2: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    margin: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def poisson_nll_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def poisson_nll_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def poisson_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def poisson_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def poisson_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def poisson_nll_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_input: bool = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def gaussian_nll_loss(
    pred: LazyT,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def gaussian_nll_loss(
    pred: DeviceT,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def gaussian_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def gaussian_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def gaussian_nll_loss(
    pred: ArrayLike,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def gaussian_nll_loss(
    pred: AnyArray,
    target: AnyArray,
    var: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    full: bool = ...,
    eps: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def poisson_deviance_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def poisson_deviance_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def poisson_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def poisson_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def poisson_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def poisson_deviance_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def gamma_deviance_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def gamma_deviance_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def gamma_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def gamma_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def gamma_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def gamma_deviance_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def tweedie_deviance_loss(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    power: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def tweedie_deviance_loss(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    power: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def tweedie_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    power: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def tweedie_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    power: float = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def tweedie_deviance_loss(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    power: float = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def tweedie_deviance_loss(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    power: float = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def kl_div(
    log_probs: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_target: bool = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def kl_div(
    log_probs: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_target: bool = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def kl_div(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    log_target: bool = ...,
    reduction: Literal["mean", "sum", "batchmean"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def kl_div(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    log_target: bool = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def kl_div(
    log_probs: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_target: bool = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def kl_div(
    log_probs: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    log_target: bool = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def generalized_kl_div(
    pred: LazyT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def generalized_kl_div(
    pred: DeviceT,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def generalized_kl_div(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: None = ...,
) -> Real: ...
@overload
def generalized_kl_div(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: None = ...,
    reduction: Literal["none"],
    out: None = ...,
) -> RealArray: ...
@overload
def generalized_kl_div(
    pred: ArrayLike,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def generalized_kl_div(
    pred: AnyArray,
    target: AnyArray,
    *,
    weight: AnyArray | None = ...,
    axis: int | tuple[int, ...] | None = ...,
    reduction: str = ...,
    out: OutT,
) -> OutT: ...
@overload
def log_softmax(
    x: LazyT, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> LazyT: ...
@overload
def log_softmax(
    x: DeviceT, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> DeviceT | RealArray: ...
@overload
def log_softmax(
    x: ArrayLike, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> RealArray: ...
@overload
def log_softmax(
    x: AnyArray, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: OutT
) -> OutT: ...
@overload
def softmax(
    x: LazyT, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> LazyT: ...
@overload
def softmax(
    x: DeviceT, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> DeviceT | RealArray: ...
@overload
def softmax(
    x: ArrayLike, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: None = ...
) -> RealArray: ...
@overload
def softmax(
    x: AnyArray, *, axis: int = ..., temperature: float = ..., softcap: float | None = ..., out: OutT
) -> OutT: ...
@overload
def logsumexp(
    x: LazyT,
    *,
    axis: int = ...,
    keepdims: bool = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> LazyT: ...
@overload
def logsumexp(
    x: DeviceT,
    *,
    axis: int = ...,
    keepdims: bool = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> DeviceT | Real | RealArray: ...
@overload
def logsumexp(
    x: ArrayLike,
    *,
    axis: int = ...,
    keepdims: Literal[True],
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> RealArray: ...
@overload
def logsumexp(
    x: ArrayLike,
    *,
    axis: int = ...,
    keepdims: bool = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: None = ...,
) -> Real | RealArray: ...
@overload
def logsumexp(
    x: AnyArray,
    *,
    axis: int = ...,
    keepdims: bool = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    out: OutT,
) -> OutT: ...
def score(
    logits: AnyArray,
    target: AnyArray | None = ...,
    *,
    axis: int = ...,
    ignore_index: int = ...,
    top_k: int | None = ...,
    top: int | None = ...,
    ids: AnyArray | None = ...,
    entropy: bool = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    linear_weight: AnyArray | None = ...,
    linear_bias: AnyArray | None = ...,
) -> Scores: ...
def compare(
    reference: AnyArray,
    logits: AnyArray,
    target: AnyArray | None = ...,
    *,
    axis: int = ...,
    ignore_index: int = ...,
    temperature: float = ...,
    softcap: float | None = ...,
    linear_weight: AnyArray | None = ...,
    linear_bias: AnyArray | None = ...,
    reference_linear_weight: AnyArray | None = ...,
    reference_linear_bias: AnyArray | None = ...,
) -> Comparison: ...
def brier_score(probs: AnyArray, target: AnyArray, *, axis: int = ..., ignore_index: int = ...) -> np.float64: ...
def calibration_error(
    probs: AnyArray, target: AnyArray, *, bins: int = ..., norm: str = ..., axis: int = ..., ignore_index: int = ...
) -> np.float64: ...

LOSSES: dict[Callable[..., object], losses.Loss]

def loss_of(fn: object) -> losses.Loss | None: ...
