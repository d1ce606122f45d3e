"""Ctrl-C while modules are being imported."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

EXIT_INTERRUPTED = 130  # as shells name the end by this signal


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """Ctrl-C in the block ends the process. There is nothing to undo yet, and an import that is interrupted may fail otherwise."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, as in a shell's background, or somebody else's
        yield
        return
    try:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))
    except ValueError:  # not in the main thread, which takes signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
