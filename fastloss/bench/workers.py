"""Processes that time one build of fastloss each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class WorkerError(RuntimeError):
    """A build cannot be imported, or its process died."""


class Worker:
    """A process that times the build in `folder`."""

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self._folder, self._log = folder, tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("_worker.py"))],  # -P: without the script's folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            found = self._answer()
            if Path(found["path"]) != folder.resolve():
                raise WorkerError(f"{folder}: importing fastloss from there gives the one in {found['path']}")
        except BaseException:
            self.close()
            raise
        self.version: str = found["version"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._log.seek(0)
        lines = self._log.read().split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"exit code {self._process.wait()}")
        raise WorkerError(f"{self._folder}: the build there stopped: {last}")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer to a request; `error` among its keys says why there is none."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:  # it is gone; _answer says how
            pass
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
