"""Writing a file that appears whole or not at all, in pieces that are never held in memory together."""

from __future__ import annotations

import io
import os
import stat
from types import TracebackType
from typing import IO

import numpy as np

from ._failure import Failure


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
        return Failure(self.path, f"cannot be written: {(error.strerror or str(error)).lower()}")

    def write(self, data: bytes | memoryview, offset: int | None = None) -> None:
        """Write `data` at `offset`, or after what was written last."""
        try:
            if offset is not None and offset != self._position:  # what can't be sought is written in order
                self._file.seek(offset)
                self._position = offset
            self._position += self._file.write(data)
        except OSError as error:
            raise self._failure(error) from None

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
        try:
            self._file.close()
        except OSError:  # the flush of a full disk fails again; the first failure has been reported
            pass
        if self._temporary is not None and not self._kept:
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

    def write(self, losses: np.ndarray, first: int) -> None:
        """Write `losses` to their place."""
        data = np.ascontiguousarray(losses, self._dtype)
        self.file.write(data.data.cast("B"), len(self._header) + first * self._dtype.itemsize)
