"""Arrays as readers give them: with the name the user knows, mapped into memory or decoded block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .pages import give_back

_SAMPLE_RANGES = 16


class Stored:
    """An array that is decoded block by block.

    Parameters
    ----------
    shape, dtype
        Of the whole array, which has at least one axis.
    starts : sequence of int
        The first row of each block, and the number of rows at the end.
    block : callable
        `block(i)` decodes block `i`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        starts: Sequence[int] | np.ndarray,
        block: Callable[[int], np.ndarray],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self.ndim, self.size = len(shape), math.prod(shape)
        self.nbytes = self.size * dtype.itemsize
        self._starts = np.asarray(starts, np.int64)
        self._block = block
        self._last: tuple[int, np.ndarray] | None = None

    def _decoded(self, i: int) -> np.ndarray:
        """Block `i`; chunks are often smaller than blocks and come in order, so the last one is kept."""
        if self._last is None or self._last[0] != i:
            if self._last is not None:
                give_back(self._last[1])  # a block that is not decoded is a view of the mapped file
            self._last = None  # before the next is decoded: never two of them
            self._last = (i, self._block(i))
        return self._last[1]

    def __getitem__(self, rows: slice | tuple[slice, ...]) -> np.ndarray:
        """A range of rows, as `array[start:stop]`; further slices are taken of what was read."""
        rows, *others = rows if isinstance(rows, tuple) else (rows,)
        start, stop, _ = rows.indices(self.shape[0])
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        parts = []
        for i in range(first, len(self._starts) - 1):
            begin, end = int(self._starts[i]), int(self._starts[i + 1])
            if begin >= stop:
                break
            if end > max(start, begin):
                parts.append(self._decoded(i)[max(0, start - begin) : stop - begin])
        if not parts:
            parts.append(np.empty((0, *self.shape[1:]), self.dtype))
        if len(parts) == 1:
            return parts[0][(slice(None), *others)]
        array = np.concatenate(parts)
        for part in parts:
            give_back(part)
        return array[(slice(None), *others)]

    def without_last(self) -> Stored:
        """The same without the last axis, which is of length 1."""
        return Stored(self.shape[:-1], self.dtype, self._starts, lambda i: self._block(i)[..., 0])


@dataclass(frozen=True)
class Source:
    """An array and the name under which the user knows it (`FILE` or `FILE:member`)."""

    name: str
    path: str
    array: np.ndarray | Stored


def sample_rows(n_rows: int, n_bytes: int) -> list[slice]:
    """Ranges of rows spread over an array that has to be decoded: about 1 MiB of it, but at least one."""
    wanted = max(1, min(n_rows, n_rows * (1 << 20) // max(1, n_bytes)))
    if wanted == n_rows:
        return [slice(0, n_rows)]
    size = max(1, wanted // _SAMPLE_RANGES)
    starts = np.linspace(0, n_rows - size, min(_SAMPLE_RANGES, wanted), dtype=np.int64)
    return [slice(int(start), int(start) + size) for start in np.unique(starts)]
