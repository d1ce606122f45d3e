"""Files mapped into memory, of which no more is resident than is being looked at.

The pages of a chunk are mapped at once, which is much faster than one fault for each, and given back after it. They stay in
the system's cache but no longer count as this process's own memory, so that a container's limit does not end it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import sys
import weakref
from collections.abc import Iterator
from typing import IO, overload

import numpy as np

from fastloss.cli.failure import Failure

_POPULATE_READ = 22  # of Linux 5.14, for which `mmap` has no name before Python 3.14
_AROUND = 1 << 16  # bytes: what the system maps of its cache where one page is touched
_AT_ONCE = 16 << 20  # bytes that are resident while scattered rows are collected
_CAN_ADVISE = sys.platform == "linux"  # elsewhere advice differs, or its meaning

# Of each map that may be in use: its address, its length, and itself.
_maps: list[tuple[int, int, weakref.ref[mmap.mmap]]] = []


def map_file(file: IO[bytes]) -> mmap.mmap:
    """The whole file, mapped for reading."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if _CAN_ADVISE:
        data.madvise(mmap.MADV_SEQUENTIAL)  # read ahead; pages already used may go first
        _maps[:] = [entry for entry in _maps if entry[2]() is not None]
        _maps.append((np.frombuffer(data, np.uint8).ctypes.data, len(data), weakref.ref(data)))
    return data


@contextlib.contextmanager
def resident(arrays: list[tuple[str, np.ndarray]], following: list[np.ndarray]) -> Iterator[None]:
    """In the block, `arrays`, given with the names of their files, are in memory; the `following` are read ahead.

    Raises
    ------
    Failure
        A file has become shorter since it was opened, or its disk fails: looking at it would end the process.
    """
    parts = [(name, *part) for name, array in arrays if (part := _part(array)) is not None]
    for name, data, start, length, in_one in parts:
        if in_one:
            try:
                data.madvise(_POPULATE_READ, start, length)
            except OSError as error:  # an older system brings the pages in one by one, as they are touched
                if error.errno == errno.EFAULT:
                    raise Failure(name, "can no longer be read: it may have been cut off") from None
    for array in following:
        if (part := _part(array)) is not None and part[3]:
            _advise(part[0], mmap.MADV_WILLNEED, *part[1:3])
    yield
    for _, data, start, length, _ in parts:
        _advise(data, mmap.MADV_DONTNEED, start, length)


def give_back(array: np.ndarray) -> None:
    """Nobody looks at these for now."""
    if (part := _part(array)) is not None:
        _advise(part[0], mmap.MADV_DONTNEED, *part[1:3])


@overload
def collected(array: np.ndarray) -> np.ndarray: ...
@overload
def collected(array: None) -> None: ...
@overload
def collected(array: np.ndarray | None) -> np.ndarray | None: ...
def collected(array: np.ndarray | None) -> np.ndarray | None:
    """A copy of rows that are scattered over their file, as those of a column-major array are; others as they are.

    Each element may bring in pages of its own, many times what the rows take: they are given back every few columns.
    """
    part = None if array is None else _part(array)
    if array is None or part is None or part[3]:
        return array
    copy = np.empty_like(array, order="K")
    _collect(array, copy)
    return copy


def picked(array: np.ndarray, picks: tuple[np.ndarray, ...]) -> np.ndarray:
    """array[picks], arrays of indices along the first axes."""
    if _part(array) is None or not picks[0].size:
        return array[picks]
    touched = max(_AROUND, _touched(_steps(array[(0,) * len(picks)]), array.itemsize))
    step, parts = max(1, _AT_ONCE // touched), []
    for start in range(0, picks[0].size, step):
        some = tuple(pick[start : start + step] for pick in picks)
        parts.append(array[some] if step > 1 else collected(array[tuple(pick[0] for pick in some)])[np.newaxis])
        give_back(array)
    return np.concatenate(parts)


def _collect(array: np.ndarray, copy: np.ndarray) -> None:
    axis = max(range(array.ndim), key=lambda i: abs(array.strides[i]) if array.shape[i] > 1 else -1)
    n = array.shape[axis]
    if n > 1 and _touched(_steps(array), array.itemsize) > _AT_ONCE:
        for half in (slice(0, n // 2), slice(n // 2, n)):
            index = (slice(None),) * axis + (half,)
            _collect(array[index], copy[index])
    else:
        copy[...] = array
        give_back(array)


def _steps(array: np.ndarray) -> list[tuple[int, int]]:
    """How far elements are apart along each axis, and how many there are; the nearest first."""
    return sorted((abs(stride), n) for n, stride in zip(array.shape, array.strides, strict=True) if n > 1)


def _touched(steps: list[tuple[int, int]], n_bytes: int) -> int:
    """Bytes that become resident where elements of so many bytes are read, with these steps from one to the next."""
    reach = n_bytes
    for step, n in steps:
        reach += step * (n - 1)
        n_bytes = min(reach, n * max(n_bytes, _AROUND))
    return n_bytes


def _advise(data: mmap.mmap, advice: int, start: int, length: int) -> None:
    with contextlib.suppress(OSError):
        data.madvise(advice, start, length)


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array lies in a file that is mapped here; one without elements needs none."""
    return not array.size or _part(array) is not None


def _part(array: np.ndarray) -> tuple[mmap.mmap, int, int, bool] | None:
    """The map an array lies in, the whole pages it spans there, and whether it takes all of them; None if it is in no map."""
    if not array.size or not _maps:
        return None
    low = array.ctypes.data
    low += sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True) if stride < 0)
    high = (
        low + sum((n - 1) * abs(stride) for n, stride in zip(array.shape, array.strides, strict=True)) + array.itemsize
    )
    for address, size, reference in _maps:
        if address <= low and high <= address + size and (data := reference()) is not None:
            start = (low - address) // mmap.PAGESIZE * mmap.PAGESIZE
            return data, start, high - address - start, high - low == array.nbytes
    return None
