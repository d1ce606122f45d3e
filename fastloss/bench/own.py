"""Users' own cases, from a Python file: whole pipelines, user-defined losses, anything that can be called.

The file lists them in `CASES`, as plain data, so that it can be read next to any build::

    import numpy as np

    def data(n):
        return np.random.default_rng(0).random(n)

    def pipeline(x):
        return np.sort(x)[: len(x) // 2].mean()

    CASES = {
        "pipeline": {
            "setup": data,                           # returns the argument of `call`; a tuple means several arguments
            "call": pipeline,
            "parameters": {"n": [1_000, 100_000]},   # of setup, or of call without a setup; every combination is a case
            "bytes": lambda n: 8 * n,                # how much has to be read, for GB/s and the roof; or a number
            "elements": lambda n: n,
        },
    }
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .case import Case
from .subject import definitions

_KEYS = {"setup", "call", "parameters", "bytes", "elements"}


def cases_from(path: str) -> dict[str, Case]:
    """All cases of the file by name, such as ``pipeline/n=1000``.

    Raises
    ------
    ValueError
        If the file is not as described above; the message names the place.
    """
    if not os.path.isfile(path):  # opening a pipe would block until somebody writes to it
        raise ValueError("no such file")
    try:
        table = definitions(path)
    except AttributeError:
        raise ValueError("has no CASES") from None
    except Exception as error:
        raise ValueError(f"cannot be run: {type(error).__name__}: {error}") from None
    if not isinstance(table, dict) or not table:
        raise ValueError("CASES: expected a dictionary of at least one case")
    found = {}
    for name, definition in table.items():
        _check(name, definition)
        parameters = definition.get("parameters", {})
        for values in itertools.product(*parameters.values()):
            case = _case(name, definition, dict(zip(parameters, values, strict=True)), str(Path(path).resolve()))
            found[case.name] = case
    return found


def _check(name: Any, definition: Any) -> None:
    where = f"CASES[{name!r}]"
    if not isinstance(name, str) or not isinstance(definition, dict):
        raise ValueError(f"{where}: expected a dictionary under a string")
    if unknown := sorted(definition.keys() - _KEYS):
        raise ValueError(f"{where}: {unknown[0]!r} is not one of {', '.join(sorted(_KEYS))}")
    if not callable(definition.get("call")):
        raise ValueError(f"{where}['call']: expected a function")
    if not callable(definition.get("setup", print)):
        raise ValueError(f"{where}['setup']: expected a function")
    parameters = definition.get("parameters", {})
    if not isinstance(parameters, dict) or not all(isinstance(each, (list, tuple)) for each in parameters.values()):
        raise ValueError(f"{where}['parameters']: expected a dictionary of lists")
    try:
        json.dumps(parameters)
    except TypeError:
        raise ValueError(f"{where}['parameters']: expected numbers, strings, booleans or None") from None


def _case(name: str, definition: Mapping[str, Any], parameters: dict[str, Any], source: str) -> Case:
    def declared(key: str) -> int:
        said = definition.get(key, 0)
        return int(said(**parameters) if callable(said) else said)

    n_bytes, elements = declared("bytes"), declared("elements")
    bound = "launch" if n_bytes < 1000 else "memory" if n_bytes > 40e6 else "cache"
    full = "/".join((name, *(f"{key}={value}" for key, value in parameters.items())))
    return Case(full, name, (), bound, "own", tuple(parameters.items()), source=source, declared=(n_bytes, elements))
