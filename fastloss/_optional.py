"""Optional packages, imported where they are needed, with an error that names the extra to install."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any


def require(module: str, extra: str, purpose: str) -> Any:
    """Import `module`, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs the package {module!r}: pip install 'fastloss[{extra}]'") from None


@functools.cache
def bfloat16() -> Any:
    """The NumPy dtype of bfloat16."""
    return require("ml_dtypes", "bfloat16", "bfloat16").bfloat16


def failure_of_import(module: str) -> Exception | None:
    """What importing `module` fails with, or None.

    It is imported on a thread of its own, as no signal handler runs there: one that raises in the middle would leave parts
    of a package behind with which it can't be imported again.
    """
    failures = []

    def attempt() -> None:
        try:
            importlib.import_module(module)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there are no more threads, or the interpreter is shutting down
        attempt()
    else:
        thread.join()
    return failures[0] if failures else None
