"""JAX on the CPU: optax's losses where it has them, under jit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .case import Case
from .subject import Unsupported

Call = Callable[[], Any]

_started_with: int | None = None  # number of threads; XLA makes its pool once per process


def start(threads: int) -> None:
    """Import JAX so that it runs on the CPU, with that many threads."""
    global _started_with
    if _started_with is None:
        if "jax" not in sys.modules:
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
            os.environ["NPROC"] = str(threads)  # determines the size of XLA's pool of CPU threads
            _started_with = threads
        else:
            _started_with = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if _started_with != threads:
        raise Unsupported(f"runs on {_started_with} threads in this process already, and cannot change to {threads}")


def _losses(axis: int) -> dict[str, Callable[[Any, Any], Any]]:
    import jax.numpy as jnp
    import optax

    def bce(p: Any, y: Any) -> Any:  # optax has this only for logits
        return -(y * jnp.log(p) + (1 - y) * jnp.log1p(-p))

    huber = partial(optax.losses.huber_loss, delta=1.0)
    return {
        "cross_entropy": partial(optax.losses.softmax_cross_entropy_with_integer_labels, axis=axis),
        "binary_cross_entropy_with_logits": optax.losses.sigmoid_binary_cross_entropy,
        "binary_cross_entropy": bce,
        "mse_loss": optax.losses.squared_error,
        "l1_loss": lambda x, y: jnp.abs(x - y),
        "huber_loss": huber,
        "smooth_l1_loss": huber,  # the same for a delta of 1
    }


def jitted_call(case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> Call:
    """The mean of optax's loss, compiled; the call waits for the result."""
    start(threads)
    import jax
    import jax.numpy as jnp

    if case.dtype == "float64":
        raise Unsupported("computes in float32 unless told otherwise for the whole process")
    loss = _losses(case.axis)[case.loss]

    def mean(x: Any, y: Any) -> Any:
        # widening costs nothing here, as XLA fuses it into the loop
        return loss(x.astype(jnp.float32), y).mean()

    compiled = jax.jit(jax.value_and_grad(mean) if case.op == "grad" else mean)
    with jax.default_device(jax.devices("cpu")[0]):
        logits = jnp.asarray(x)
        target = jnp.asarray(y.astype(np.int32) if case.target == "indices" else y)
    return lambda: jax.block_until_ready(compiled(logits, target))
