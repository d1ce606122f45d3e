"""A progress bar, where somebody watches and tqdm is installed."""

from __future__ import annotations

import sys
from types import TracebackType


class Progress:
    """Counts rows, and pieces where there are several, on stderr; or does nothing: when not `wanted`, without a terminal, or without tqdm."""

    def __init__(self, n_rows: int, wanted: bool, n_pieces: int = 1) -> None:
        self._bar = None
        self._n_pieces, self._finished = n_pieces, 0
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=n_rows, unit=" rows", unit_scale=True, leave=False, file=sys.stderr)

    def advance(self, n_rows: int) -> None:
        """`n_rows` more are done."""
        if self._bar is not None:
            self._bar.update(n_rows)

    def finished(self, n_pieces: int = 1) -> None:
        """That many more shards, or ranges of large ones, are done."""
        self._finished += n_pieces
        if self._bar is not None and self._n_pieces > 1:
            self._bar.set_description(f"{self._finished}/{self._n_pieces}", refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
