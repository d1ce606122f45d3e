"""What PyTorch does in a cell of the sweep: `torch.nn.functional` where it has the function, an expression otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fastloss import losses

from . import expressions
from .case import Case
from .subject import Unsupported

Call = Callable[[], Any]

_FUNCTIONS = {function.name: function for function in losses.FUNCTIONS}

# Those that torch has by the same name, and those that take weights themselves.
_ELEMENTS: dict[str, Callable[..., Any]] = {
    "mse_loss": F.mse_loss,
    "l1_loss": F.l1_loss,
    "huber_loss": F.huber_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "poisson_nll_loss": F.poisson_nll_loss,
    "gaussian_nll_loss": F.gaussian_nll_loss,
    "kl_div": F.kl_div,
    "soft_margin_loss": F.soft_margin_loss,
    "hinge_embedding_loss": F.hinge_embedding_loss,
    "margin_ranking_loss": F.margin_ranking_loss,
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
}
_WEIGHTED = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def eager_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """As it is called; halves as they are."""
    return _call(case, arrays, lambda function: function)


def widened_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """With halves widened first, as a mean of many float16 losses overflows and one of bfloat16 has two digits."""
    if not any(array.dtype in ("float16", "bfloat16") for array in case.arrays):
        raise Unsupported("is for halves")

    def widening(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: function(*(t.float() if t.is_floating_point() else t for t in given))

    return _call(case, arrays, widening)


def compiled_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
    """Through `torch.compile`, for this shape alone."""
    torch._dynamo.reset()  # after a few shapes of one function it would go back to eager execution in silence
    return _call(case, arrays, partial(torch.compile, dynamic=False, fullgraph=True))


def _call(
    case: Case, arrays: Sequence[np.ndarray], through: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Call:
    tensors = [_tensor(array) for array in arrays]
    function = through(_function(case))
    if case.op not in ("grad", "fresh"):
        return partial(function, *tensors)
    x = tensors[0].requires_grad_()

    def with_gradient() -> Any:
        value = function(*tensors)
        return value.detach(), torch.autograd.grad(value, x)[0]

    return with_gradient


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor over the same memory."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _function(case: Case) -> Callable[..., Any]:
    """The case as a function of its tensors."""
    options, loss, axis = dict(case.options), case.loss, case.axis
    weighted = any(array.keyword for array in case.arrays)
    if loss in expressions.ELEMENTS:
        return partial(_elements, case, options, weighted)
    if loss in ("cross_entropy", "nll_loss"):
        return partial(_rows, getattr(F, loss), options)
    if loss == "categorical_cross_entropy":
        return partial(_of_probabilities, options)
    if loss == "linear_cross_entropy":
        return lambda h, w, y: F.cross_entropy(F.linear(h, w), y)
    found = {
        "softmax": partial(torch.softmax, dim=axis),
        "log_softmax": partial(torch.log_softmax, dim=axis),
        "logsumexp": partial(torch.logsumexp, dim=axis),
        "score": partial(_score, axis),
        "compare": partial(_compare, axis),
        "brier_score": partial(_brier, axis),
    }.get(loss)
    if found is None:
        raise Unsupported(f"has no {loss}")
    return found


def _elements(case: Case, options: dict[str, Any], weighted: bool, *given: Any) -> Any:
    positional, w = (given[:-1], given[-1]) if weighted else (given, None)
    function, axis, reduction = _ELEMENTS.get(case.loss), options.get("axis"), options.get("reduction", "mean")
    if function is None:
        values = expressions.ELEMENTS[case.loss](torch, *positional)
        binary = getattr(_FUNCTIONS[case.loss], "kind", "") == "binary"
        return expressions.reduced(torch, values, options, w, case.loss == "rmse_loss", binary)
    if w is not None and case.loss in _WEIGHTED:
        return function(*positional, weight=w, reduction=reduction)
    if w is None and axis is None:
        return function(*positional, reduction=reduction)
    values = function(*positional, reduction="none")
    return values.mean(axis) if w is None else (values * w).sum() / w.sum()


def _long(y: torch.Tensor) -> torch.Tensor:
    return y.long() if y.dtype == torch.int32 else y  # it takes no other labels


def _rows(function: Callable[..., Any], options: dict[str, Any], x: Any, y: Any, w: Any = None) -> Any:
    how = {name: value for name, value in options.items() if name != "axis"}
    return function(x, _long(y), weight=w, **how)


def _of_probabilities(options: dict[str, Any], x: Any, y: Any, w: Any = None) -> Any:
    if not y.is_floating_point():
        # not the logarithms of all of them
        axis = options.get("axis", -1)
        values = -x.gather(axis, _long(y).unsqueeze(axis)).squeeze(axis).log()
    else:
        values = -(y * x.log()).sum(options.get("axis", -1))
    reduction = options.get("reduction", "mean")
    if w is not None:
        each = w[_long(y)]
        return (values * each).sum() / each.sum()
    return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()


def _score(axis: int, x: Any, y: Any) -> Any:
    lse, best, y = torch.logsumexp(x, axis), x.argmax(axis), _long(y)
    return lse - x.gather(axis, y.unsqueeze(axis)).squeeze(axis), lse, best, best == y


def _compare(axis: int, r: Any, x: Any, y: Any) -> Any:
    p, q, y = torch.log_softmax(r, axis), torch.log_softmax(x, axis), _long(y).unsqueeze(axis)
    kl = F.kl_div(q, p, reduction="none", log_target=True).sum(axis)
    return kl, r.argmax(axis) == x.argmax(axis), -q.gather(axis, y).squeeze(axis), -p.gather(axis, y).squeeze(axis)


def _brier(axis: int, p: Any, y: Any) -> Any:
    return ((p * p).sum(axis) - 2 * p.gather(axis, _long(y).unsqueeze(axis)).squeeze(axis) + 1).mean()


@contextlib.contextmanager
def threads(n: int) -> Any:
    """Run with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
