"""Arrays in files, whatever the format: one module a format, one class for arrays that have to be decoded.

A format whose bytes are the array's (`.npy`, `.npz`, `.safetensors`) is mapped into memory and is an `ndarray`. Others
(Zarr, Parquet, Arrow) are `Stored`: they give ranges of rows and keep no more than one piece decoded.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from fastloss.cli.failure import Failure, reading

from .pages import give_back

# What a directory is searched for; the part after a colon names an array within such a file.
SUFFIXES = (".npy", ".npz", ".safetensors", ".zarr", ".zip", ".parquet", ".arrow", ".feather", ".ipc")
_NAMED = re.compile(rf"(?:{'|'.join(map(re.escape, SUFFIXES[1:]))})(?=:)", re.IGNORECASE)

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins an archive without members
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_SAMPLE_PIECES = 16


class Stored:
    """An array that is decoded piece by piece.

    Parameters
    ----------
    shape, dtype
        Of the whole array, which has at least one axis.
    starts : sequence of int
        The first row of each piece, and the number of rows at the end.
    piece : callable
        `piece(i)` decodes piece `i`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        starts: Sequence[int] | np.ndarray,
        piece: Callable[[int], np.ndarray],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self.ndim, self.size = len(shape), math.prod(shape)
        self.nbytes = self.size * dtype.itemsize
        self._starts = np.asarray(starts, np.int64)
        self._piece = piece
        self._last: tuple[int, np.ndarray] | None = None

    def _decoded(self, i: int) -> np.ndarray:
        """Piece `i`; chunks are often smaller than pieces and come in order, so the last one is kept."""
        if self._last is None or self._last[0] != i:
            if self._last is not None:
                give_back(self._last[1])  # a piece that had not to be decoded lies in its file
            self._last = None  # before the next is decoded: never two of them
            self._last = (i, self._piece(i))
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
        return Stored(self.shape[:-1], self.dtype, self._starts, lambda i: self._piece(i)[..., 0])


@dataclass(frozen=True)
class Source:
    """An array and the name under which the user knows it (`FILE` or `FILE:member`)."""

    name: str
    path: str
    array: np.ndarray | Stored


def open_array(name: str) -> Source:
    """Open the array called `name`: a file, or `FILE:NAME` for one of several in a file.

    The kind of file is told by its first bytes where those tell, by its name otherwise.

    Raises
    ------
    Failure
        The file is missing, unreadable, empty, truncated, of another format, or holds what is not numbers; the file
        lacks the array, or holds several when none is named; the package that reads the format is missing.
    """
    path, member = split(name)
    with reading(name):
        if os.path.isdir(path):
            if not is_zarr(path):
                raise Failure(name, "not a regular file")
            from . import zarr

            return zarr.open_array(name, path, member)
        with open_file(path, name) as file:
            magic = file.read(10)
            if magic[:4] in _ZIP_MAGICS and _holds_zarr(path):
                from . import zarr

                return zarr.open_array(name, path, member)
            if magic[:4] == b"PAR1" or magic[:6] == b"ARROW1" or _is_stream(path, magic):
                from . import arrow

                return arrow.open_array(name, path, member)
            if path.lower().endswith(".safetensors") and magic:
                from . import safetensors

                return safetensors.open_array(name, path, member, file)
            from . import npy

            return npy.open_array(name, path, member, file, magic)


def read_text(path: str) -> str:
    """The text of a file: a manifest, a list of groups, the figures of another run.

    Raises
    ------
    Failure
        The file is missing, unreadable, no regular file, or not in UTF-8.
    """
    with reading(path), open_file(path, path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Failure(
                path, f"not a text file in UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
            ) from None


def split(name: str) -> tuple[str, str | None]:
    """Split `FILE:NAME`; a file whose name has a colon of its own wins."""
    if os.path.exists(name):
        return name, None
    if found := _NAMED.search(name):
        return name[: found.end()], name[found.end() + 1 :]
    path, colon, member = name.rpartition(":")  # a directory, or a pattern that ends in a star
    if colon and (os.path.isdir(path) or path.endswith("*")):
        return path, member
    return name, None


def is_zarr(path: str) -> bool:
    """Whether the directory is a Zarr array or group."""
    return any(os.path.exists(os.path.join(path, name)) for name in _ZARR_FILES)


def shape_text(shape: Sequence[int]) -> str:
    """A shape for a message: `(540, 10)`."""
    return str(tuple(int(length) for length in shape))


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first eight of them."""
    return ", ".join(list(names)[:8]) + (", ..." if len(names) > 8 else "")


def chosen(name: str, path: str, member: str | None, members: Sequence[str], kind: str) -> str:
    """The member that is meant: the one named, or the only one."""
    if not members:
        raise Failure(name, f"holds no {kind}s")
    if member is None:
        if len(members) > 1:
            raise Failure(name, f"holds several {kind}s ({listed(members)}): name one as {path}:{members[0]}")
        return members[0]
    if member not in members:
        raise Failure(name, f"no such {kind} in the file; it holds {listed(members)}")
    return member


def bfloat16(name: str, what: str) -> np.dtype:
    """The dtype of bfloat16, which NumPy has no name for."""
    try:
        import ml_dtypes
    except ImportError:
        wanted = "install the package ml_dtypes to read it (pip install 'fastloss[bfloat16]')"
        raise Failure(name, f"{what}: {wanted}") from None
    return np.dtype(ml_dtypes.bfloat16)


def needed(name: str, module: str, purpose: str):  # -> module
    """Import the package that reads a format; a Failure that names the extra otherwise."""
    from fastloss._optional import require

    try:
        return require(module, "files", purpose)
    except ImportError as error:
        raise Failure(name, str(error)) from None


def sample_rows(n_rows: int, n_bytes: int) -> list[slice]:
    """Ranges of rows spread over an array that has to be decoded: about 1 MiB of it, but at least one."""
    wanted = max(1, min(n_rows, n_rows * (1 << 20) // max(1, n_bytes)))
    if wanted == n_rows:
        return [slice(0, n_rows)]
    size = max(1, wanted // _SAMPLE_PIECES)
    starts = np.linspace(0, n_rows - size, min(_SAMPLE_PIECES, wanted), dtype=np.int64)
    return [slice(int(start), int(start) + size) for start in np.unique(starts)]


def open_file(path: str, name: str) -> IO[bytes]:
    """Open a file, and nothing else: a pipe would block, a device never end."""
    import stat

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Failure(name, "not a regular file")
    return open(path, "rb")


def _holds_zarr(path: str) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.rpartition("/")[2] in _ZARR_FILES for member in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _is_stream(path: str, magic: bytes) -> bool:
    """Arrow's streaming format, which has no magic number but begins every message with this mark."""
    return magic[:4] == b"\xff\xff\xff\xff" and path.lower().endswith((".arrow", ".feather", ".ipc"))
