"""The formats that are read: how each is recognised, which module reads it, and which names stand for its files."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol, cast

from fastloss.cli.failure import Failure, reading

from .access import open_file
from .source import Source

NPY_MAGIC = b"\x93NUMPY"
LLAMA_CPP_MAGIC = b"_logits_"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins an archive without members
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True)
class Wanted:
    """The array that is to be opened.

    Parameters
    ----------
    name : str
        As the user gave it, for messages.
    path : str
        The file or directory.
    member : str or None
        The array or column in it, where one is named.
    head : bytes
        The first 10 bytes of a file, none of a directory.
    file : file object or None
        The open file, after these bytes; None for a directory. It is closed when the reader returns.
    """

    name: str
    path: str
    member: str | None
    head: bytes
    file: IO[bytes] | None


class Reader(Protocol):
    """What a module that reads a format offers."""

    def open_array(self, wanted: Wanted) -> Source:
        """The array, mapped or ready to be decoded; a `Failure` says why it cannot be read."""
        ...


@dataclass(frozen=True)
class Format:
    """A format: the module of this folder that reads it, imported when the first such file is opened.

    `suffixes` are what directories are searched for, what a shard's name goes without, and what a member's name may follow.
    `recognises(path, head)` tells by a file's first bytes where those tell, by its name otherwise.
    """

    module: str
    suffixes: tuple[str, ...]
    recognises: Callable[[str, bytes], bool]


def is_zarr(path: str) -> bool:
    """Whether the directory is a Zarr array or group."""
    return any(os.path.exists(os.path.join(path, name)) for name in _ZARR_FILES)


def _is_zarr(path: str, head: bytes) -> bool:
    if os.path.isdir(path):
        return is_zarr(path)
    return head[:4] in ZIP_MAGICS and _holds_zarr(path)


def _is_arrow(path: str, head: bytes) -> bool:
    return head[:4] == b"PAR1" or head[:6] == b"ARROW1" or _is_stream(path, head)


def _is_llama_cpp(path: str, head: bytes) -> bool:
    return head[:8] == LLAMA_CPP_MAGIC


def _is_safetensors(path: str, head: bytes) -> bool:
    return bool(head) and path.lower().endswith(".safetensors")  # an empty file is .npy's to report


def _is_npy(path: str, head: bytes) -> bool:
    return True  # `npy.open_array` reports what is wrong with files of no known format


def _holds_zarr(path: str) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.rpartition("/")[2] in _ZARR_FILES for member in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _is_stream(path: str, head: bytes) -> bool:
    """Arrow's streaming format, which has no magic number but begins every message with this mark."""
    return head[:4] == b"\xff\xff\xff\xff" and path.lower().endswith((".arrow", ".feather", ".ipc"))


# The first that recognises a file reads it.
FORMATS = (
    Format("zarr", (".zarr", ".zip"), _is_zarr),
    Format("arrow", (".parquet", ".arrow", ".feather", ".ipc"), _is_arrow),
    Format("safetensors", (".safetensors",), _is_safetensors),
    Format("llama_cpp", (".kld",), _is_llama_cpp),
    Format("npy", (".npy", ".npz"), _is_npy),
)

# What a directory is searched for.
SUFFIXES = tuple(suffix for format in reversed(FORMATS) for suffix in format.suffixes)

# The part after a colon names an array within such a file; a .npy file is one array.
_NAMED = re.compile(rf"(?:{'|'.join(re.escape(s) for s in SUFFIXES if s != '.npy')})(?=:)", re.IGNORECASE)


def open_array(name: str) -> Source:
    """Open the array called `name`: a file, or `FILE:NAME` for one of several in a file.

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
            return _reader(path, b"").open_array(Wanted(name, path, member, b"", None))
        with open_file(path, name) as file:
            head = file.read(10)
            return _reader(path, head).open_array(Wanted(name, path, member, head, file))


def format_of(path: str, head: bytes) -> Format:
    """The format of a file that begins with these bytes; of a directory, which has none."""
    return next(format for format in FORMATS if format.recognises(path, head))


def _reader(path: str, head: bytes) -> Reader:
    return cast(Reader, importlib.import_module(f".{format_of(path, head).module}", __package__))


def split(name: str) -> tuple[str, str | None]:
    """Split `FILE:NAME`; a file whose name has a colon of its own wins."""
    if os.path.exists(name):
        return name, None
    if found := _NAMED.search(name):
        return name[: found.end()], name[found.end() + 1 :]
    path, colon, member = name.rpartition(":")  # a file of any name, a directory, or a pattern that ends in a star
    if colon and (os.path.exists(path) or path.endswith("*")):
        return path, member
    return name, None
