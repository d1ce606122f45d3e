"""fastloss as a contender: the call that is timed, for this build and for any other."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


class Unsupported(Exception):
    """A contender does not do a case; the message says why."""


def fastloss_call(case: Any, x: np.ndarray, y: np.ndarray, backend: str) -> Callable[[], Any]:
    """`case` over these inputs on that backend, as a function without arguments."""
    import fastloss

    loss = getattr(fastloss, case.loss, None)
    if loss is None:
        raise Unsupported(f"this version has no {case.loss}")
    options: dict[str, Any] = {} if case.axis == -1 else {"axis": case.axis}
    if case.op == "grad":
        if not hasattr(fastloss, "value_and_grad"):
            raise Unsupported("this version has no value_and_grad")
        # Gradients go to one array again and again, as in training; fresh memory would be timed instead, page by
        # page.
        loss = fastloss.value_and_grad(loss)
        options["out"] = np.zeros(x.shape, np.float64 if case.dtype == "float64" else np.float32)
    call = partial(loss, x, y, **options)
    others = [name for name, status in fastloss.backends().items() if status == "available" and name != backend]
    if not others:
        return call

    # With several backends each call runs in a context of its own, which costs some 50 ns.
    def choose() -> contextvars.Context:
        fastloss.use_backend(backend).__enter__()
        return contextvars.copy_context()

    return partial(contextvars.copy_context().run(choose).run, call)
