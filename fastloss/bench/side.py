"""One side of a comparison: an interpreter, a build of fastloss, packages that come before the installed ones, and
variables."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Side:
    """One side, and how to start its processes.

    Attributes
    ----------
    label : its name in reports.
    python : the interpreter.
    build : the folder that fastloss is imported from; "" for the interpreter's own.
    packages : a folder of packages that take precedence over installed ones; "" for none.
    environment : variables, as (name, value).
    """

    label: str
    python: str = sys.executable
    build: str = ""
    packages: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def variables(self) -> dict[str, str]:
        """The environment of its processes: this process's, without variables that would make runs differ."""
        path = os.pathsep.join(filter(None, (self.build, self.packages, os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": path, **dict(self.environment)}


def this_side() -> Side:
    """The build that is running, as it is."""
    import fastloss

    return Side("this build", build=str(Path(fastloss.__file__).resolve().parent.parent))
