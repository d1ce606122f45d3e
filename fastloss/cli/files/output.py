"""Writing a file that appears whole or not at all, in pieces that are never held in memory together."""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import zlib
from types import TracebackType
from typing import IO

import numpy as np

from fastloss.cli.failure import Failure, told

_READ = 1 << 20  # bytes looked at together


class OutputFile:
    """A file under construction: written beside `path` under another name, and put in its place by `commit`.

    Plain writes, as a full disk is then an error like any other; a memory map would be killed by SIGBUS. What
    exists and is no regular file (`/dev/null`) is written to directly. Leaving the `with` block without `commit`
    removes what was written.

    Parameters
    ----------
    path : str
        Where it shall be.
    lasting : bool
        Of a run that may be resumed: the other name is always the same, so that a killed process leaves no litter.
    kept : bool
        What was written stays there for the run to be resumed.
    resumed : bool
        It is there from an earlier process.
    """

    def __init__(self, path: str, lasting: bool = False, kept: bool = False, resumed: bool = False) -> None:
        self.path = path
        self._kept, self._position = kept, 0
        self._target = os.path.realpath(path)
        self._temporary: str | None = None
        try:
            if os.path.exists(self._target) and not stat.S_ISREG(os.stat(self._target).st_mode):
                self._file: IO[bytes] = open(self._target, "wb")
            else:
                if os.path.exists(self._target) and not os.access(self._target, os.W_OK):
                    raise PermissionError(None, "permission denied")
                folder, name = os.path.split(self._target)
                temporary = _lasting(self._target)
                if not lasting:
                    temporary = os.path.join(folder, f".{name}.{os.getpid()}.part")
                if resumed and not os.path.exists(temporary):
                    gone = f"what was written before the run stopped, {temporary}, is gone; remove the journal"
                    raise Failure(path, f"{gone} to start anew")
                self._file = open(temporary, "r+b" if resumed else "wb")
                self._temporary = temporary
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> Failure:
        return Failure(self.path, f"cannot be written: {told(error)}")

    def write(self, data: bytes | memoryview, offset: int | None = None) -> None:
        """Write `data` at `offset`, or after what was written last."""
        try:
            if offset is not None and offset != self._position:  # what can't be sought is written in order
                self._file.seek(offset)
                self._position = offset
            self._position += self._file.write(data)
        except OSError as error:
            raise self._failure(error) from None

    def cut(self, size: int) -> None:
        """Cut off what an earlier process, or damage, has left beyond `size` bytes."""
        try:
            if self._temporary is not None and os.fstat(self._file.fileno()).st_size > size:
                self._file.truncate(size)
        except OSError as error:
            raise self._failure(error) from None

    def checksum(self, offset: int, size: int) -> int | None:
        """CRC-32 of `size` bytes at `offset` that an earlier process wrote; None if they are not there."""
        total, rest = 0, size
        try:
            self._position = -1  # the next write seeks its place
            self._file.seek(offset)
            while rest:
                data = self._file.read(min(rest, _READ))
                if not data:
                    return None
                total, rest = zlib.crc32(data, total), rest - len(data)
        except OSError:
            return None
        return total

    def sync(self) -> None:
        """What has been written is on the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from None

    def commit(self) -> None:
        """Finish: `path` now holds all that was written."""
        try:
            self._file.close()
            if self._temporary is not None:
                os.replace(self._temporary, self._target)
                self._temporary = None
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the flush of a full disk fails again; the first failure has been reported
            self._file.close()
        if self._temporary is not None and not self._kept:
            with contextlib.suppress(OSError):  # what ended the run is the error to tell
                os.unlink(self._temporary)


def _lasting(target: str) -> str:
    """The other name of a file under construction that is found again."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.part")


def take_back(path: str) -> None:
    """Undo the `commit` of a run that was stopped right after it, so that it can be done again."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.exists(_lasting(target)):
        os.replace(target, _lasting(target))


class LossWriter:
    """Losses of `shape`, written to a `.npy` file as they come; `first` is the flat index of what is written."""

    def __init__(self, file: OutputFile, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.file = file
        self._dtype = dtype
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self._header = header.getvalue()
        file.write(self._header, 0)
        file.cut(self._offset(math.prod(shape)))

    def _offset(self, first: int) -> int:
        return len(self._header) + first * self._dtype.itemsize

    def write(self, losses: np.ndarray, first: int, checksum: int = 0) -> int:
        """Write `losses` to their place; returns the CRC-32 of their bytes after those that have `checksum`."""
        data = np.ascontiguousarray(losses, self._dtype).data.cast("B")
        self.file.write(data, self._offset(first))
        return zlib.crc32(data, checksum)

    def holds(self, first: int, stop: int, checksum: int | None) -> bool:
        """Whether losses [first, stop), which an earlier process wrote, are those that had `checksum`."""
        found = self.file.checksum(self._offset(first), self._offset(stop) - self._offset(first))
        return found is not None and found == checksum
