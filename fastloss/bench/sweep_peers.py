"""What the other libraries do in a cell of the sweep: NumPy, SciPy and JAX by expressions, PyTorch by its own functions where it has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastloss import losses

from . import expressions
from .case import Case
from .subject import Unsupported

Call = Callable[[], Any]

_FUNCTIONS = {function.name: function for function in losses.FUNCTIONS}


def _arguments(case: Case, arrays: Sequence[Any]) -> tuple[list[Any], Any, dict[str, Any]]:
    """(positional arguments, the weight or None, options)"""
    named = list(zip(case.arrays, arrays, strict=True))
    weights = [given for array, given in named if array.keyword]
    return [given for array, given in named if not array.keyword], weights[0] if weights else None, dict(case.options)


def _wants_gradient(case: Case) -> bool:
    return case.op in ("grad", "fresh")


# --- NumPy ------------------------------------------------------------------------------------------------------------


def _wide(x: np.ndarray) -> np.ndarray:
    """NumPy computes halves one at a time, and overflows: its users widen them first."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 and x.dtype.kind not in "iub" else x


def numpy_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """An expression; one thread."""
    if _wants_gradient(case):
        return _numpy_gradient(case, arrays)
    halves = any(array.dtype in ("float16", "bfloat16") for array in case.arrays)
    function = _function(np, case)
    if not halves:
        return partial(function, *arrays)
    return lambda: function(*map(_wide, arrays))


def _function(xp: Any, case: Case) -> Callable[..., Any]:
    """The case as a function of its arrays."""
    loss, family = case.loss, _FUNCTIONS[case.loss].family
    axis = case.axis
    if family == "elements" and loss in expressions.ELEMENTS:
        return partial(_elements, xp, case)
    if loss in ("cross_entropy", "nll_loss", "categorical_cross_entropy", *expressions.ROWS):
        return partial(_rows, xp, case)
    if loss == "softmax":
        return lambda x: expressions.softmax(xp, x, axis)
    if loss == "log_softmax":
        return lambda x: x - expressions.logsumexp(xp, x, axis)
    if loss == "logsumexp":
        return lambda x: expressions.logsumexp(xp, x, axis).squeeze(axis)
    if loss == "linear_cross_entropy":
        return lambda h, w, y: expressions.reduced_rows(xp, "cross_entropy", h @ w.T, y, None, {})
    if loss == "score":
        return partial(_score, xp, axis)
    if loss == "compare":
        return partial(_compare, xp, axis)
    if loss == "brier_score":
        return partial(_brier, xp, axis)
    raise Unsupported(f"has no {loss}")


def _elements(xp: Any, case: Case, *arrays: Any) -> Any:
    positional, w, options = _arguments(case, arrays)
    values = expressions.ELEMENTS[case.loss](xp, *positional)
    binary = getattr(_FUNCTIONS[case.loss], "kind", "") == "binary"
    return expressions.reduced(xp, values, options, w, case.loss == "rmse_loss", binary)


def _rows(xp: Any, case: Case, *arrays: Any) -> Any:
    (x, y), w, options = _arguments(case, arrays)
    return expressions.reduced_rows(xp, case.loss, x, y, w, options)


def _score(xp: Any, axis: int, x: Any, y: Any) -> tuple[Any, ...]:
    lse = expressions.logsumexp(xp, x, axis).squeeze(axis)
    best = x.argmax(axis)
    return lse - expressions.picked(xp, x, y, axis), lse, best, best == y


def _compare(xp: Any, axis: int, r: Any, x: Any, y: Any) -> tuple[Any, ...]:
    p, q = r - expressions.logsumexp(xp, r, axis), x - expressions.logsumexp(xp, x, axis)
    return (
        (xp.exp(p) * (p - q)).sum(axis),
        r.argmax(axis) == x.argmax(axis),
        -expressions.picked(xp, q, y, axis),
        -expressions.picked(xp, p, y, axis),
    )


def _brier(xp: Any, axis: int, p: Any, y: Any) -> Any:
    # |p - one-hot|^2 = |p|^2 - 2 p_y + 1
    return ((p * p).sum(axis) - 2 * expressions.picked(xp, p, y, axis) + 1).mean()


def _numpy_gradient(case: Case, arrays: Sequence[np.ndarray]) -> Call:
    positional, w, options = _arguments(case, arrays)
    if case.loss in expressions.SLOPES:
        value, slope = expressions.ELEMENTS[case.loss], expressions.SLOPES[case.loss]
        return lambda: (value(np, *positional).mean(), slope(np, *positional) / positional[0].size)
    if case.loss == "cross_entropy":
        x, y = positional
        return partial(_numpy_cross_entropy_gradient, x, y, case.axis)
    raise Unsupported(f"has no {case.loss} with a gradient")


def _numpy_cross_entropy_gradient(x: np.ndarray, y: np.ndarray, axis: int) -> Any:
    m = x.max(axis=axis, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(axis=axis, keepdims=True)
    index = np.expand_dims(y, axis)
    value = np.mean(np.log(s) + m - np.take_along_axis(x, index, axis))
    e /= s
    np.put_along_axis(e, index, np.take_along_axis(e, index, axis) - 1, axis)
    e /= y.size
    return value, e


# --- SciPy ------------------------------------------------------------------------------------------------------------


def scipy_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """`scipy.special`; one thread."""
    from scipy import special

    if _wants_gradient(case):
        raise Unsupported("has no gradients")
    axis = case.axis
    of_rows: dict[str, Callable[..., Any]] = {
        "softmax": lambda x: special.softmax(_wide(x), axis=axis),
        "log_softmax": lambda x: special.log_softmax(_wide(x), axis=axis),
        "logsumexp": lambda x: special.logsumexp(_wide(x), axis=axis),
    }
    if case.loss in of_rows:
        return partial(of_rows[case.loss], *arrays)
    if case.loss == "cross_entropy":
        if "label_smoothing" in dict(case.options) or case.target != "indices":
            raise Unsupported("has no counterpart here")
        (x, y), w, options = _arguments(case, arrays)
        return lambda: expressions.reduced_rows(np, "nll_loss", special.log_softmax(_wide(x), axis=axis), y, w, options)
    of_elements: dict[str, Callable[..., Any]] = {
        "binary_cross_entropy_with_logits": lambda x, y: -y * special.log_expit(x) - (1 - y) * special.log_expit(-x),
        "binary_cross_entropy": lambda p, y: -special.xlogy(y, p) - special.xlog1py(1 - y, -p),
        "huber_loss": lambda x, y: special.huber(np.float32(1), x - y),
        "smooth_l1_loss": lambda x, y: special.huber(np.float32(1), x - y),
        "charbonnier_loss": lambda x, y: special.pseudo_huber(np.float32(1e-3), x - y) * np.float32(1e3),
        "generalized_kl_div": lambda x, y: special.kl_div(y, x),
        "poisson_deviance_loss": lambda x, y: 2 * special.kl_div(y, x),
    }
    if case.loss not in of_elements:
        raise Unsupported(f"has no {case.loss}")
    positional, w, options = _arguments(case, arrays)
    binary = getattr(_FUNCTIONS[case.loss], "kind", "") == "binary"
    formula = of_elements[case.loss]
    return lambda: expressions.reduced(np, formula(*map(_wide, positional)), options, w, binary=binary)


# --- JAX --------------------------------------------------------------------------------------------------------------


def jax_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """The expressions and optax's cross-entropy under `jit`; the call waits for the result."""
    from .jax_peer import start

    start(threads)
    import jax
    import jax.numpy as jnp

    function = _function(jnp, case)
    if case.loss == "cross_entropy" and not case.options and [a.keyword for a in case.arrays] == [False, False]:
        import optax

        name = "softmax_cross_entropy" + ("_with_integer_labels" if case.target == "indices" else "")
        of_rows = getattr(optax.losses, name)
        function = lambda x, y: of_rows(x, y).mean()  # noqa: E731

    def widened(*given: Any) -> Any:
        floats = [a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in given]
        return function(*floats)

    compiled = jax.jit(jax.value_and_grad(widened) if _wants_gradient(case) else widened)
    with jax.default_device(jax.devices("cpu")[0]):
        given = [jnp.asarray(a.astype(np.int32) if a.dtype.kind == "i" else a) for a in arrays]
    return lambda: jax.block_until_ready(compiled(*given))
