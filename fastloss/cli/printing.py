"""What is printed: the result on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from .failure import told


class Unwritten(Exception):
    """Standard output is closed, or full."""


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once, escaping what its encoding lacks: a file's name must not end in a traceback.

    Raises
    ------
    Unwritten
        It cannot be written; a BrokenPipeError if its reader went away.
    """
    if sys.stdout is None:  # closed before this process began
        raise Unwritten("is closed")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # a ValueError where a caller of `main` closed it
        raise Unwritten(f"cannot be written: {told(error)}") from None


def note(text: str) -> None:
    """Print to stderr, if there is one: `print` would take stdout in its place."""
    if sys.stderr is not None:
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            give_up(sys.stderr)


def show_passing(text: str) -> None:
    """Say on a terminal what is going on, in the place of what was said before; "" takes it away."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


@contextlib.contextmanager
def passing(text: str) -> Iterator[None]:
    """Say on a terminal what is going on as long as the block runs."""
    show_passing(text)
    try:
        yield
    finally:
        show_passing("")


def give_up(stream: TextIO | None) -> None:
    """Send what is still buffered to nowhere: the interpreter's last flush would complain once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no real file (a test's buffer), or none at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def as_json(document: dict[str, Any]) -> str:
    """One line of strict JSON. A number that is not finite becomes "NaN", "Infinity" or "-Infinity"."""
    import json

    return json.dumps(_plain(document), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # an array or scalar of NumPy, which need not be imported for this
        return _plain(
            value.astype("float64").tolist() if value.dtype.char == "g" else value.tolist()
        )  # long doubles stay
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
