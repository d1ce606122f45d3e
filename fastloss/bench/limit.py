"""The limit of a cell: the slower of its arithmetic, at the pace of the cheapest loop that computes it at all, and of moving its bytes.

Both are measured with compiled loops of the instruction set in use, see `fastloss_c/floor.h`.  They look at no labels, special values or
accuracy, so no kernel reaches 1, and 0.7 is good.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, TracebackType

import numpy as np

from .case import Case
from .grid import bytes_read

# The arithmetic of one element; that of functions that are not here is a difference and its square.
_PACES = {
    "binary_cross_entropy": "two logs",
    "binary_cross_entropy_with_logits": "softplus",
    "sigmoid_focal_loss": "softplus",
    "log_cosh_loss": "softplus",
    "soft_margin_loss": "softplus",
    "msle_loss": "two logs",
    "poisson_nll_loss": "exp",
    "gaussian_nll_loss": "log",
    "kl_div": "log",
    "generalized_kl_div": "log",
    "poisson_deviance_loss": "log",
    "gamma_deviance_loss": "log",
}
_OF_ROWS = (
    "cross_entropy",
    "focal_loss",
    "poly_loss_cross_entropy",
    "softmax",
    "log_softmax",
    "logsumexp",
    "score",
    "compare",
)
_FEW = 128  # classes at most for which rows lie in lanes
_SHORTEST = 2e-4  # seconds of a measurement


@functools.cache
def yardsticks() -> ModuleType | None:
    """The compiled loops of the instruction set in use; None where they could not be built."""
    try:
        import fastloss_c

        module = importlib.import_module(f"fastloss_c._limits_{fastloss_c.instruction_set}")
    except ImportError:
        return None
    return module if module.run("plain", "nothing", 0, 1) else None


def pace(case: Case) -> tuple[str, str, int] | None:
    """(kind, what is written, number of classes) for the arithmetic of an element; None if there is none, as for gathers and layers."""
    slopes = case.op in ("grad", "fresh")
    written = "slopes" if slopes else "values" if case.output_bytes and case.target != "indices" else "nothing"
    if case.loss in _OF_ROWS:
        n_classes = case.shape[case.axis]
        written = "slopes" if slopes or case.loss in ("softmax", "log_softmax") else "nothing"
        if n_classes <= _FEW:
            return ("planes", written, n_classes) if n_classes > 1 else None
        return ("half row" if case.dtype == "bfloat16" else "row", written, 0)
    if case.loss == "categorical_cross_entropy":
        return ("log", "slopes" if slopes else "nothing", 0) if case.target == "distributions" else None
    if case.loss in ("nll_loss", "linear_cross_entropy"):
        return None
    return _PACES.get(case.loss, "plain"), written, 0


class Limit:
    """Measures the limit of a case on these arrays, with so many threads: a context manager that owns threads."""

    def __init__(self, case: Case, arrays: Sequence[np.ndarray], threads: int) -> None:
        self._module, self._threads = yardsticks(), threads
        self._pace, self._n_elements = pace(case), case.n_elements * (2 if case.loss == "compare" else 1)
        self._passes = self._turns = 1
        self._pool: ThreadPoolExecutor | None = None
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        if self._module is None:
            return
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="limit")
        self._parts = self._divided(case, arrays)
        self._passes = max(1, round(_SHORTEST / max(self._arithmetic(), 1e-7)))
        self._turns = max(1, round(_SHORTEST / max(self._moving(), 1e-7)))

    @property
    def known(self) -> bool:
        """Whether it can be measured here; not for layers, whose arithmetic is a product of matrices."""
        return self._module is not None and bool(self._parts)

    def _divided(self, case: Case, arrays: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """What each thread reads and writes."""
        if case.loss == "linear_cross_entropy":
            return []
        wanted = bytes_read(case) - (case.input_bytes - arrays[0].nbytes)
        flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
        flat[0] = flat[0][: max(wanted, 0)]
        out = np.zeros(case.output_bytes, np.uint8)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for t in range(self._threads):
            for k, each in enumerate(flat):
                written = out if k == 0 else out[:0]
                parts.append((_share(each, t, self._threads), _share(written, t, self._threads)))
        return parts

    def _arithmetic(self) -> float:
        """Seconds of one pass over `_passes`."""
        if self._pace is None or self._module is None:
            return 0.0
        kind, written, n_classes = self._pace
        start = time.perf_counter()
        self._module.run(kind, written, n_classes, self._passes)
        return (time.perf_counter() - start) / self._passes

    def _moving(self) -> float:
        """Seconds to move all bytes once, on all threads."""
        if not self._parts or self._module is None or self._pool is None:
            return 0.0
        each = len(self._parts) // self._threads
        move, turns = self._module.move, self._turns

        def work(t: int) -> float:
            start = time.perf_counter()  # by each thread, as handing the work over is no part of the limit
            for source, out in self._parts[t * each : (t + 1) * each]:
                move(source, out, turns)
            return time.perf_counter() - start

        return max([work(0)] if self._threads == 1 else self._pool.map(work, range(self._threads))) / turns

    def seconds(self) -> tuple[float, float]:
        """Seconds that the arithmetic takes on all threads, and seconds that moving the bytes takes."""
        arithmetic = 0.0
        if self._pace is not None and self._module is not None:
            kind, _, n_classes = self._pace
            per_pass = self._module.run(kind, "nothing", n_classes, 0)
            arithmetic = min(self._arithmetic() for _ in range(3)) / per_pass * self._n_elements / self._threads
        return arithmetic, min(self._moving() for _ in range(2 if self._turns > 1 else 1))

    def __enter__(self) -> Limit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _share(data: np.ndarray, t: int, threads: int) -> np.ndarray:
    """Part t of so many, on lines of the cache."""
    length = -(-data.size // (threads * 64)) * 64
    return data[t * length : (t + 1) * length]
