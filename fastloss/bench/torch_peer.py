"""PyTorch on the CPU, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .cases import Case

Call = Callable[[], Any]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor over the same memory."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _prepared(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> tuple[Callable[..., Any], Any, Any]:
    torch.set_num_threads(threads)
    logits, target = _tensor(x), _tensor(y)
    if case.target == "indices" and case.axis != 1 and logits.ndim > 2:
        raise AssertionError(f"{case.name}: torch's class axis is 1")
    return getattr(F, case.loss), logits, target


def _with_gradient(loss: Callable[..., Any], x: Any, y: Any) -> tuple[Any, Any]:
    value = loss(x, y)
    return value.detach(), torch.autograd.grad(value, x)[0]


def eager_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """The function of `torch.nn.functional`, in the dtype of the case."""
    loss, logits, target = _prepared(case, x, y, threads)
    if case.op == "grad":
        return partial(_with_gradient, loss, logits.requires_grad_(), target)
    return partial(loss, logits, target)


def compiled_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """The same through `torch.compile`, for this shape alone."""
    loss, logits, target = _prepared(case, x, y, threads)
    # After a few shapes of one function it would go back to eager execution without a word.
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: loss(x, y), dynamic=False, fullgraph=True)
    if case.op == "grad":
        return partial(_with_gradient, compiled, logits.requires_grad_(), target)
    return partial(compiled, logits, target)
