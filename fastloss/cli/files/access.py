"""What readers share: opening files, choosing a member, saying what is wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from fastloss.cli.failure import Failure, reading


def open_file(path: str, name: str) -> IO[bytes]:
    """Open a file, and nothing else: a pipe would block, a device never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Failure(name, "not a regular file")
    return open(path, "rb")


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


def needed(name: str, module: str, purpose: str) -> Any:
    """Import the package that reads a format; a Failure that names the extra otherwise."""
    from fastloss._optional import require

    try:
        return require(module, "files", purpose)
    except ImportError as error:
        raise Failure(name, str(error)) from None
