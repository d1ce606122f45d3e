"""The losses in NumPy, SciPy and scikit-learn, as a careful user writes them in a line of code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .case import Case
from .subject import Unsupported

Call = Callable[[], Any]

# scikit-learn's log_loss makes one-hot rows of all labels: beyond this many probabilities a call takes many seconds.
_SKLEARN_MOST = 10_000_000


def _wide(x: np.ndarray) -> np.ndarray:
    """Widen half precision, as NumPy's users do: it computes halves one at a time, and overflows."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def _picked(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return np.take_along_axis(x, np.expand_dims(y, axis), axis)


# --- NumPy ----------------------------------------------------------------------------------------------------------


def _numpy_cross_entropy(x: np.ndarray, y: np.ndarray, axis: int) -> Any:
    x = _wide(x)
    m = x.max(axis=axis, keepdims=True)
    lse = np.log(np.exp(x - m).sum(axis=axis, keepdims=True)) + m
    return np.mean(lse - _picked(x, y, axis))


def _numpy_bce_logits(x: np.ndarray, y: np.ndarray) -> Any:
    return np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))))


def _numpy_bce(p: np.ndarray, y: np.ndarray) -> Any:
    return -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))


def _numpy_mse(x: np.ndarray, y: np.ndarray) -> Any:
    return np.mean(np.square(x - y))


def _numpy_l1(x: np.ndarray, y: np.ndarray) -> Any:
    return np.mean(np.abs(x - y))


def _numpy_huber(x: np.ndarray, y: np.ndarray) -> Any:
    d = np.abs(x - y)
    return np.mean(np.where(d <= 1, 0.5 * d * d, d - 0.5))


def _numpy_cross_entropy_grad(x: np.ndarray, y: np.ndarray, axis: int) -> Any:
    m = x.max(axis=axis, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(axis=axis, keepdims=True)
    value = np.mean(np.log(s) + m - _picked(x, y, axis))
    e /= s
    np.put_along_axis(e, np.expand_dims(y, axis), _picked(e, y, axis) - 1, axis)
    e /= y.size
    return value, e


def _numpy_bce_logits_grad(x: np.ndarray, y: np.ndarray) -> Any:
    return _numpy_bce_logits(x, y), (1 / (1 + np.exp(-x)) - y) / x.size


def _numpy_mse_grad(x: np.ndarray, y: np.ndarray) -> Any:
    d = x - y
    return np.mean(d * d), d * (2 / d.size)


_NUMPY: dict[tuple[str, str], Callable[..., Any]] = {
    ("cross_entropy", "value"): _numpy_cross_entropy,
    ("cross_entropy", "grad"): _numpy_cross_entropy_grad,
    ("binary_cross_entropy_with_logits", "value"): _numpy_bce_logits,
    ("binary_cross_entropy_with_logits", "grad"): _numpy_bce_logits_grad,
    ("binary_cross_entropy", "value"): _numpy_bce,
    ("mse_loss", "value"): _numpy_mse,
    ("mse_loss", "grad"): _numpy_mse_grad,
    ("l1_loss", "value"): _numpy_l1,
    ("huber_loss", "value"): _numpy_huber,
    ("smooth_l1_loss", "value"): _numpy_huber,  # the same for a delta of 1
}


def numpy_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """NumPy expressions; one thread, whatever `threads` says."""
    return _looked_up(_NUMPY, case, x, y)


def _looked_up(table: dict[tuple[str, str], Callable[..., Any]], case: Case, x: np.ndarray, y: np.ndarray) -> Call:
    function = table.get((case.loss, case.op))
    if function is None:
        raise Unsupported(f"has no {case.loss}" + (" with a gradient" if case.op == "grad" else ""))
    return partial(function, x, y, case.axis) if case.target == "indices" else partial(function, x, y)


# --- SciPy ----------------------------------------------------------------------------------------------------------


def scipy_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """`scipy.special`: log_softmax, log_expit, xlogy, huber; one thread."""
    from scipy import special

    def cross_entropy(x: np.ndarray, y: np.ndarray, axis: int) -> Any:
        return -np.mean(_picked(special.log_softmax(_wide(x), axis=axis), y, axis))

    def bce_logits(x: np.ndarray, y: np.ndarray) -> Any:
        return -np.mean(y * special.log_expit(x) + (1 - y) * special.log_expit(-x))

    def bce(p: np.ndarray, y: np.ndarray) -> Any:
        return -np.mean(special.xlogy(y, p) + special.xlog1py(1 - y, -p))

    def huber(x: np.ndarray, y: np.ndarray) -> Any:
        return np.mean(special.huber(np.float32(1), x - y))

    table: dict[tuple[str, str], Callable[..., Any]] = {
        ("cross_entropy", "value"): cross_entropy,
        ("binary_cross_entropy_with_logits", "value"): bce_logits,
        ("binary_cross_entropy", "value"): bce,
        ("huber_loss", "value"): huber,
        ("smooth_l1_loss", "value"): huber,
    }
    return _looked_up(table, case, x, y)


# --- scikit-learn ---------------------------------------------------------------------------------------------------


def sklearn_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """`sklearn.metrics`; one thread.  It takes no logits, so it gets probabilities, whose computation is not timed."""
    from sklearn import metrics

    if case.op == "grad":
        raise Unsupported("has no gradients")
    if case.target == "values":
        metric = {"mse_loss": metrics.mean_squared_error, "l1_loss": metrics.mean_absolute_error}.get(case.loss)
        if metric is None:
            raise Unsupported(f"has no {case.loss}")
        return partial(metric, y, x)
    if case.n_elements > _SKLEARN_MOST:
        raise Unsupported(f"log_loss is left out beyond {_SKLEARN_MOST:,} probabilities: it takes many seconds a call")
    x = _wide(x)
    if case.target == "labels":
        p = x if case.loss == "binary_cross_entropy" else 1 / (1 + np.exp(-x))
        return partial(metrics.log_loss, y, p, labels=[0.0, 1.0])
    n_classes = x.shape[case.axis]
    p = np.exp(x - x.max(axis=case.axis, keepdims=True))
    p /= p.sum(axis=case.axis, keepdims=True)
    p = np.moveaxis(p, case.axis, -1).reshape(-1, n_classes)
    return partial(metrics.log_loss, y.reshape(-1), p, labels=np.arange(n_classes))
