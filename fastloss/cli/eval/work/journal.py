"""The journal of a run: a line of JSON for each piece that is finished, from which a stopped run goes on.

The first line describes the run; each other one holds a piece's number, its state, and a checksum of the losses that were
written to a file. A line ends in a checksum of its own, and is in the file when the disk says so, before the next piece
counts as finished. A last line that is torn is a piece that is not finished, and so is one whose losses are no longer there.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from typing import Any

from fastloss._schema import SIZE, check, optional
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.failure import Failure, reading, told

_FORMAT = 2
_BEGINNING = b'{"fastloss journal": '


class Journal:
    """A journal at `path` of the run that `run` describes, as plain data."""

    def __init__(self, path: str, run: dict[str, Any], resume: bool) -> None:
        self.path = path
        self._run = {"fastloss journal": _FORMAT, **run}
        self._file: Any = None
        self.resumed = os.path.exists(path)
        if self.resumed and not os.path.isfile(path):  # a device may never end
            raise Failure(path, "the journal cannot be used: not a regular file")
        if self.resumed and not self._is_journal():
            raise Failure(path, "is no journal")
        if self.resumed and not resume:
            hint = "--resume continues it; remove the file to start anew"
            raise Failure(path, f"is the journal of a run that was not finished: {hint}")

    def start(self) -> None:
        """Begin a new journal."""
        self._open("xb")
        self._append(self._run)

    def pieces(self) -> dict[int, int | None]:
        """The numbers of the finished pieces, with the checksum of the losses each has written (None if it wrote none).

        A last line that is torn is cut off.

        Raises
        ------
        Failure
            The journal belongs to another run, or is damaged elsewhere than in its last line.
        """
        self._open("r+b")
        found: dict[int, int | None] = {}
        kept = 0
        with reading(self.path):
            for number, line in enumerate(self._file, 1):
                entry = _checked(line)
                if entry is None:
                    if self._file.read(1):
                        raise Failure(self.path, f"damaged in line {number}; remove the file to start anew")
                    break  # torn: written in part when the power went
                if number == 1:
                    self._compare(entry)
                else:
                    check(entry, {"piece": SIZE, "losses": optional(SIZE)}, f"line {number}")
                    found[entry["piece"]] = entry["losses"]
                kept += len(line)
            self._file.seek(kept)
            self._file.truncate()
        if not kept:
            self._append(self._run)
        return found

    def state(self, measures: Measures, pieces: set[int]) -> State:
        """The state of these finished pieces, added up."""
        state, rest = State(measures), set(pieces)
        with reading(self.path), open(self.path, "rb") as file:
            next(file)  # the run's description
            for line in file:
                entry = json.loads(line)
                if entry["piece"] in rest:  # one that was done again is there twice
                    rest.remove(entry["piece"])
                    state.merge(State.from_json(entry["state"], measures))
        return state

    def finished(self, piece: int, state: State, losses: int | None) -> None:
        """Note that a piece is finished, and the checksum of the losses it has written."""
        self._append({"piece": piece, "losses": losses, "state": state.to_json()})

    def close(self) -> None:
        """Close the file. What could not be written to it was told when it was tried."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def remove(self) -> None:
        """The run is over: nothing is left to resume."""
        self.close()
        try:
            os.unlink(self.path)
        except OSError as error:
            raise self._failure(error) from None

    def _is_journal(self) -> bool:
        """By its first bytes; they may be all that was written."""
        self._open("rb")
        with self._file:
            return _BEGINNING.startswith(self._file.read(len(_BEGINNING)))

    def _open(self, mode: str) -> None:
        try:
            self._file = open(self.path, mode)
        except OSError as error:
            raise self._failure(error) from None

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(_line(entry))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> Failure:
        return Failure(self.path, f"the journal cannot be used: {told(error)}")

    def _compare(self, entry: dict[str, Any]) -> None:
        ours = json.loads(json.dumps(self._run))
        for key in ours | entry:
            if ours.get(key) != entry.get(key):
                what = _difference(key, entry.get(key), ours.get(key))
                raise Failure(self.path, f"is the journal of another run: {what}")


def _difference(key: str, was: Any, now: Any) -> str:
    """What differs, of two lists the entries that do so first."""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        if isinstance(was[0], str) and was[0] == now[0]:
            return f"{was[0]} has changed"  # a file
        return next(_difference(key, *pair) for pair in zip(was, now, strict=True) if pair[0] != pair[1])
    return f"{key} was {was}, is {now}" if len(f"{was}{now}") < 200 else f"{key} differ"


def _line(entry: dict[str, Any]) -> bytes:
    body = json.dumps(entry)
    return (json.dumps({**entry, "crc32": zlib.crc32(body.encode())}) + "\n").encode()


def _checked(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        checksum = entry.pop("crc32")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return entry if zlib.crc32(json.dumps(entry).encode()) == checksum else None
