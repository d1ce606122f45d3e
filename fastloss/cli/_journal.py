"""The journal of a run: a line of JSON for each piece that is finished, from which a stopped run goes on.

The first line describes the job; each other one holds a piece's number, its state, and a checksum. A line is in the file
when the disk says so, before the next piece counts as finished. A last line that is torn is a piece that is not.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

from ._failure import Failure
from ._state import Measures, State

_FORMAT = 1
_BEGINNING = b'{"fastloss journal": '


class Journal:
    """A journal at `path` for the job described by `job` (plain data)."""

    def __init__(self, path: str, job: dict[str, Any], resume: bool) -> None:
        self.path = path
        self._job = {"fastloss journal": _FORMAT, **job}
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
        self._append(self._job)

    def resume(self, measures: Measures) -> tuple[State, set[int]]:
        """Go on with the journal that is there: the state of all finished pieces, and their numbers.

        A last line that is torn is cut off.

        Raises
        ------
        Failure
            It belongs to another job, or is damaged elsewhere than in its last line.
        """
        self._open("r+b")
        state, kept = State(measures), 0
        done: set[int] = set()
        for number, line in enumerate(self._file, 1):
            entry = _checked(line)
            if entry is None:
                if self._file.read(1):
                    raise Failure(self.path, f"damaged in line {number}; remove the file to start anew")
                break  # torn: written in part when the power went
            if number == 1:
                self._compare(entry)
            elif entry["piece"] not in done:
                done.add(entry["piece"])
                state.merge(State.from_json(entry["state"], measures))
            kept += len(line)
        self._file.seek(kept)
        self._file.truncate()
        if not kept:
            self._append(self._job)
        return state, done

    def finished(self, piece: int, state: State) -> None:
        """Note that a piece is finished."""
        self._append({"piece": piece, "state": state.to_json()})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """The run is over: nothing is left to resume."""
        self.close()
        os.unlink(self.path)

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
        return Failure(self.path, f"the journal cannot be used: {(error.strerror or str(error)).lower()}")

    def _compare(self, entry: dict[str, Any]) -> None:
        ours = json.loads(json.dumps(self._job))
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
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return entry if zlib.crc32(json.dumps(entry).encode()) == checksum else None
