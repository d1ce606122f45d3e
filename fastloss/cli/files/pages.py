"""Files mapped into memory, of which no more is resident than is being looked at.

The pages of a chunk are mapped at once, which is much faster than one fault for each, and given back after it. They stay in
the system's cache, but no longer count as this process's memory, for which a container would end it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import sys
import weakref
from collections.abc import Iterator
from typing import IO

import numpy as np

from fastloss.cli.failure import Failure

_POPULATE_READ = 22  # of Linux 5.14, for which `mmap` has no name before Python 3.14
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
    """The block looks at these `arrays`, with the names of their files, and then at the `following`.

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


def _advise(data: mmap.mmap, advice: int, start: int, length: int) -> None:
    with contextlib.suppress(OSError):
        data.madvise(advice, start, length)


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
