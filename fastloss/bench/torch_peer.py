"""PyTorch on the CPU, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .case import Case
from .subject import Unsupported

Call = Callable[[], Any]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor over the same memory."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _prepared(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> tuple[Callable[..., Any], Any, Any]:
    torch.set_num_threads(threads)
    function = getattr(F, case.loss)

    def widened(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return function(x.float(), y)

    # In float16 a mean over many rows is NaN, in bfloat16 it has two digits: users who need the loss widen first.
    return widened if x.dtype.itemsize < 4 else function, _tensor(x), _tensor(y)


def _with_gradient(loss: Callable[..., Any], x: Any, y: Any) -> tuple[Any, Any]:
    value = loss(x, y)
    return value.detach(), torch.autograd.grad(value, x)[0]


def _call(case: Case, loss: Callable[..., Any], x: torch.Tensor, y: torch.Tensor) -> Call:
    if case.target == "indices" and case.axis != 1 and x.ndim != 2:
        raise Unsupported("takes classes along axis 1 only")
    return partial(_with_gradient, loss, x.requires_grad_(), y) if case.op == "grad" else partial(loss, x, y)


def eager_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """The function of `torch.nn.functional`."""
    return _call(case, *_prepared(case, x, y, threads))


def compiled_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """The same through `torch.compile`, for this shape only."""
    loss, logits, target = _prepared(case, x, y, threads)
    # After a few shapes of one function it would silently go back to eager execution.
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: loss(x, y), dynamic=False, fullgraph=True)
    return _call(case, compiled, logits, target)
