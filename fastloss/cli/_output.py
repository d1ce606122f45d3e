"""Writing a file that appears whole or not at all, in pieces that are never held in memory together."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import IO

import numpy as np

from ._failure import Failure


class OutputFile:
    """A file under construction: written beside `path` under another name, and put in its place by `commit`.

    Plain sequential writes, as a full disk is then an error like any other; a memory map would be killed by
    SIGBUS. What exists and is no regular file (`/dev/null`) is written to directly. Leaving the `with` block
    without `commit` removes what was written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._target = os.path.realpath(path)
        self._temporary: str | None = None
        try:
            if os.path.exists(self._target) and not stat.S_ISREG(os.stat(self._target).st_mode):
                self._file: IO[bytes] = open(self._target, "wb")
            else:
                if os.path.exists(self._target) and not os.access(self._target, os.W_OK):
                    raise PermissionError(None, "permission denied")
                folder, name = os.path.split(self._target)
                temporary = os.path.join(folder, f".{name}.{os.getpid()}.part")
                self._file = open(temporary, "wb")
                self._temporary = temporary
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> Failure:
        return Failure(self.path, f"cannot be written: {(error.strerror or str(error)).lower()}")

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        try:
            self._file.write(data)
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
        if self._temporary is not None:
            os.unlink(self._temporary)


class RowWriter:
    """Losses of `shape`, written to a `.npy` file as they come, in C order."""

    def __init__(self, file: OutputFile, shape: tuple[int, ...]) -> None:
        self._file = file
        self._shape = shape
        self._started = False

    def write(self, losses: np.ndarray) -> None:
        """Append the losses of the next chunk."""
        if not self._started:
            self._started = True
            descr = np.lib.format.dtype_to_descr(losses.dtype)
            header = {"descr": descr, "fortran_order": False, "shape": self._shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        self._file.write(np.ascontiguousarray(losses).data.cast("B"))
