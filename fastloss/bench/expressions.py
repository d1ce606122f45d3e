"""The losses as one writes them in NumPy, for NumPy and whatever has functions of the same names: PyTorch, `jax.numpy`.

`xp` is such a namespace.  They are as accurate as such expressions are: near ties, for tiny losses and for large arguments not very.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

EPS = 2.0**-52  # of relative errors, as in scikit-learn


def _positive(xp: Any, v: Any) -> Any:
    return xp.where(v > 0, v, 0)


def _huber(xp: Any, x: Any, y: Any) -> Any:
    d = abs(x - y)
    return xp.where(d <= 1, 0.5 * d * d, d - 0.5)


def _hinge_embedding(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(y != 1, _positive(xp, 1 - x), 0) + xp.where(y != -1, x, 0)


def _bce_logits(xp: Any, x: Any, y: Any) -> Any:
    return _positive(xp, x) - x * y + xp.log1p(xp.exp(-abs(x)))


def _focal(xp: Any, x: Any, y: Any) -> Any:
    p = 1 / (1 + xp.exp(-x))
    miss = y + p - 2 * y * p
    return (0.25 * y + 0.75 * (1 - y)) * miss * miss * _bce_logits(xp, x, y)


def _gaussian(xp: Any, x: Any, y: Any, v: Any) -> Any:
    v = xp.where(v > 1e-6, v, 1e-6)
    return 0.5 * (xp.log(v) + (x - y) ** 2 / v)


# function -> the loss of each element of (xp, its arrays)
ELEMENTS: dict[str, Callable[..., Any]] = {
    "binary_cross_entropy": lambda xp, p, y: -(y * xp.log(p) + (1 - y) * xp.log1p(-p)),
    "binary_cross_entropy_with_logits": _bce_logits,
    "sigmoid_focal_loss": _focal,
    "mse_loss": lambda xp, x, y: (x - y) ** 2,
    "rmse_loss": lambda xp, x, y: (x - y) ** 2,  # and a root at the end
    "l1_loss": lambda xp, x, y: abs(x - y),
    "huber_loss": _huber,
    "smooth_l1_loss": _huber,  # the same for a beta of 1
    "log_cosh_loss": lambda xp, x, y: xp.log(xp.cosh(x - y)),
    "msle_loss": lambda xp, x, y: (xp.log1p(x) - xp.log1p(y)) ** 2,
    "quantile_loss": lambda xp, x, y: 0.5 * abs(y - x),  # of q = 1/2
    "charbonnier_loss": lambda xp, x, y: xp.sqrt((x - y) ** 2 + 1e-6) - 1e-3,
    "mape_loss": lambda xp, x, y: abs(x - y) / xp.where(abs(y) > EPS, abs(y), EPS),
    "smape_loss": lambda xp, x, y: 2 * abs(x - y) / (abs(x) + abs(y) + EPS),
    "hinge_loss": lambda xp, x, y: _positive(xp, 1 - x * y),
    "squared_hinge_loss": lambda xp, x, y: _positive(xp, 1 - x * y) ** 2,
    "soft_margin_loss": lambda xp, x, y: xp.log1p(xp.exp(-x * y)),
    "hinge_embedding_loss": _hinge_embedding,
    "margin_ranking_loss": lambda xp, a, b, y: _positive(xp, -y * (a - b)),
    "poisson_nll_loss": lambda xp, x, y: xp.exp(x) - y * x,
    "gaussian_nll_loss": _gaussian,
    "poisson_deviance_loss": lambda xp, x, y: 2 * (y * xp.log(y / x) - y + x),
    "gamma_deviance_loss": lambda xp, x, y: 2 * (xp.log(x / y) + y / x - 1),
    "tweedie_deviance_loss": lambda xp, x, y: (x - y) ** 2,  # of power 0
    "kl_div": lambda xp, x, y: y * (xp.log(y) - x),
    "generalized_kl_div": lambda xp, x, y: y * xp.log(y / x) - y + x,
}


def _sigmoid(xp: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


# function -> the slope of each element, where one writes that down
SLOPES: dict[str, Callable[..., Any]] = {
    "binary_cross_entropy": lambda xp, p, y: (p - y) / (p * (1 - p)),
    "binary_cross_entropy_with_logits": lambda xp, x, y: _sigmoid(xp, x) - y,
    "mse_loss": lambda xp, x, y: 2 * (x - y),
    "l1_loss": lambda xp, x, y: xp.sign(x - y),
    "huber_loss": lambda xp, x, y: xp.clip(x - y, -1, 1),
    "smooth_l1_loss": lambda xp, x, y: xp.clip(x - y, -1, 1),
    "log_cosh_loss": lambda xp, x, y: xp.tanh(x - y),
    "charbonnier_loss": lambda xp, x, y: (x - y) / xp.sqrt((x - y) ** 2 + 1e-6),
    "poisson_nll_loss": lambda xp, x, y: xp.exp(x) - y,
    "gaussian_nll_loss": lambda xp, x, y, v: (x - y) / v,
    "soft_margin_loss": lambda xp, x, y: -y * _sigmoid(xp, -x * y),
    "kl_div": lambda xp, x, y: -y,
}


def reduced(
    xp: Any, values: Any, options: dict[str, Any], w: Any = None, root: bool = False, binary: bool = False
) -> Any:
    """The values as `reduction`, `axis` and weights have it; binary losses divide by the number of elements."""
    reduction, axis = options.get("reduction", "mean"), options.get("axis")
    if w is not None:
        values = values * w
    if reduction == "none":
        return values
    if reduction == "sum":
        total = values.sum()
    elif axis is not None:
        total = values.mean(axis)
    elif w is None or binary:
        total = values.mean()
    else:
        total = values.sum() / w.sum()
    return xp.sqrt(total) if root else total


# --- rows, for NumPy and jax.numpy ------------------------------------------------------------------------------------


def logsumexp(xp: Any, x: Any, axis: int) -> Any:
    """Keeps the axis."""
    m = x.max(axis=axis, keepdims=True)
    return xp.log(xp.exp(x - m).sum(axis=axis, keepdims=True)) + m


def softmax(xp: Any, x: Any, axis: int) -> Any:
    e = xp.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def picked(xp: Any, x: Any, y: Any, axis: int) -> Any:
    return xp.take_along_axis(x, xp.expand_dims(y, axis), axis).squeeze(axis)


# function -> the loss of each row of (xp, its negative log-likelihood)
ROWS: dict[str, Callable[..., Any]] = {
    "focal_loss": lambda xp, nll: (1 - xp.exp(-nll)) ** 2 * nll,
    "poly_loss_cross_entropy": lambda xp, nll: nll + 2 * (1 - xp.exp(-nll)),
}


def row_losses(xp: Any, loss: str, x: Any, y: Any, w: Any, options: dict[str, Any]) -> Any:
    """Each row's loss, weighted."""
    if loss in ROWS:
        values = ROWS[loss](xp, row_losses(xp, "cross_entropy", x, y, None, options))
        return values if w is None else values * w[y]
    axis, smoothing = options.get("axis", -1), options.get("label_smoothing", 0.0)
    soft = y.ndim == x.ndim
    if loss == "categorical_cross_entropy":
        values = -(y * xp.log(x)).sum(axis) if soft and w is None else None
        logs = xp.log(x) if values is None and soft else x
    elif loss == "nll_loss":
        values, logs = -picked(xp, x, y, axis), x
    else:
        lse = logsumexp(xp, x, axis)
        if not soft and w is None and not smoothing:
            return lse.squeeze(axis) - picked(xp, x, y, axis)
        values, logs = None, x - lse
    if soft:
        return values if values is not None else -(y * logs).sum(axis)
    if values is None:
        values = -picked(xp, logs, y, axis)
        if loss == "categorical_cross_entropy":
            values = -xp.log(-values)
    if smoothing:
        values = (1 - smoothing) * values - smoothing * logs.mean(axis)
    return values if w is None else values * w[y]


def reduced_rows(xp: Any, loss: str, x: Any, y: Any, w: Any, options: dict[str, Any]) -> Any:
    """The loss as `reduction` has it; the mean divides by the weights of the targets."""
    values = row_losses(xp, loss, x, y, w, options)
    reduction = options.get("reduction", "mean")
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / (values.size if w is None else w[y].sum())
