"""The memory roof: how fast the same bytes can be moved at all, by a plain sum, or by a copy if a gradient is
written."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np

from .case import Case

# How much a thread processes at a time: this much, or its whole share (large copies may then bypass the cache).
_BLOCKS = (1 << 20, 1 << 40)
_WORD = np.dtype(np.int64)


@functools.cache
def _kernels() -> tuple[Callable[..., object], Callable[..., object]]:
    """(sum, copy) of 64-bit words, compiled when defined; LLVM vectorises both.  NumPy's functions if there is no
    Numba."""
    try:
        import numba
        from numba import types
    except ImportError:
        return np.sum, _copy

    source, sink = types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C")

    @numba.njit(types.int64(source), nogil=True)
    def read(a):  # type: ignore[no-untyped-def]
        total = 0
        for i in range(a.size):
            total += a[i]
        return total

    @numba.njit(types.void(source, sink), nogil=True)
    def copy(a, out):  # type: ignore[no-untyped-def]
        for i in range(a.size):
            out[i] = a[i]

    return read, copy


def _copy(a: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, a)


class Roof:
    """A call that moves the bytes of a case: it reads every input once and writes as many bytes as the case's output
    has.

    In blocks or whole shares, and for data that may be in a cache on one thread or all, whichever turns out to be
    fastest.
    """

    def __init__(self, case: Case, arrays: Sequence[np.ndarray], threads: int) -> None:
        self.kind = "copy" if case.output_bytes else "read"
        self.n_bytes = case.moved_bytes
        read, copy = _kernels()
        # a user's own case declares only how many bytes it reads
        words = [_words(array) for array in arrays or (np.zeros(max(case.input_bytes, 1), np.uint8),)]
        self._tasks: list[tuple[Callable[..., object], tuple[np.ndarray, ...]]] = []
        if case.output_bytes:
            # an output larger than the first input (a float32 gradient of float16) is copied from it in parts
            a, out = words.pop(0), np.zeros(max(1, case.output_bytes // _WORD.itemsize), _WORD)
            pieces = [out[start : start + a.size] for start in range(0, out.size, a.size)]
            self._tasks += [(copy, (a[: piece.size], piece)) for piece in pieces]
            words += [a[out.size :]] if a.size > out.size else []
        self._tasks += [(read, (array,)) for array in words]
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="roof") if threads > 1 else None
        crews = {threads} if case.bound == "memory" else {1, threads}
        ways = [(n, self._split(block, n)) for n in crews for block in _BLOCKS]
        seconds = [_best(functools.partial(self._move, n, pieces)) for n, pieces in ways]
        self.threads, self._pieces = ways[int(np.argmin(seconds))]

    def _split(self, block_bytes: int, threads: int) -> list[tuple[Callable[..., object], tuple[np.ndarray, ...]]]:
        pieces = []
        for kernel, arrays in self._tasks:
            size = arrays[0].size
            length = max(1, min(block_bytes // _WORD.itemsize, -(-size // threads)))
            for start in range(0, size, length):
                pieces.append((kernel, tuple(array[start : start + length] for array in arrays)))
        return pieces

    def _move(self, threads: int, pieces: Sequence[tuple[Callable[..., object], tuple[np.ndarray, ...]]]) -> None:
        turn = itertools.count()

        def work() -> None:
            while (i := next(turn)) < len(pieces):
                kernel, arrays = pieces[i]
                kernel(*arrays)

        helpers = [self._pool.submit(work) for _ in range(threads - 1)] if self._pool else []
        work()
        for helper in helpers:
            helper.result()

    def __call__(self) -> None:
        self._move(self.threads, self._pieces)

    def __enter__(self) -> Roof:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown()


def _words(array: np.ndarray) -> np.ndarray:
    """The array's memory as 64-bit words, without up to 7 remaining bytes, unless there are no others."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size - data.size % _WORD.itemsize
    return data[:whole].view(_WORD) if whole else np.zeros(1, _WORD)


def _best(call: Callable[[], object]) -> float:
    """The shortest of several calls."""
    times: list[float] = []
    while len(times) < 4 or (sum(times) < 0.01 and len(times) < 100):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
