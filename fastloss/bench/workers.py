"""Processes that run one side each."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from .side import Side


class WorkerError(RuntimeError):
    """A side can't be imported, or its process died."""


class Worker:
    """A process that times a side."""

    def __init__(self, side: Side) -> None:
        self.side, self._log = side, tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            # -P: without the script's folder
            [side.python, "-P", str(Path(__file__).with_name("_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=side.variables(),
        )
        try:
            self.hello = self._answer()
            if side.build and Path(self.hello["path"]) != Path(side.build).resolve():
                raise WorkerError(f"{side.label}: importing fastloss there gives the one in {self.hello['path']}")
        except BaseException:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._log.seek(0)
        lines = self._log.read().split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"exit code {self._process.wait()}")
        raise WorkerError(f"{self.side.label}: its process stopped: {last}")

    def ask(self, **request: Any) -> dict[str, Any]:
        """The process's answer to a request; a key `error` says why there is no result."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:  # the process is gone; _answer says how
            pass
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
