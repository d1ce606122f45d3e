"""Columns of one length as a file: an array of records, Parquet, or JSON lines."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss.cli.failure import Failure

from .access import needed

Columns = dict[str, np.ndarray]


def table_writer(path: str) -> Callable[[Columns], bytes]:
    """What makes the content of `path`, by its suffix.

    Raises
    ------
    Failure
        The suffix is none of those known, or the package that writes the format is missing.
    """
    lowered = path.lower()
    for suffix, make in _WRITERS.items():
        if lowered.endswith(suffix):
            if suffix == ".parquet":
                needed(path, "pyarrow", "writing Parquet")
            return make
    raise Failure(path, f"tables are written as {', '.join(_WRITERS)}")


def _npy(columns: Columns) -> bytes:
    """An array of records, one field per column."""
    fields = [(name, column.dtype) for name, column in columns.items()]
    records = np.empty(len(next(iter(columns.values()))), fields)
    for name, column in columns.items():
        records[name] = column
    file = io.BytesIO()
    np.save(file, records)
    return file.getvalue()


def _parquet(columns: Columns) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({name: pyarrow.array(column.tolist()) for name, column in columns.items()})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def _json_lines(columns: Columns) -> bytes:
    """One object per row.  A number that is not finite becomes "NaN", "Infinity" or "-Infinity", as in `--json`."""
    lists = {name: [_plain(value) for value in column.tolist()] for name, column in columns.items()}
    lines = (
        json.dumps(dict(zip(lists, row, strict=True)), allow_nan=False) for row in zip(*lists.values(), strict=True)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


_WRITERS: dict[str, Callable[[Columns], bytes]] = {".npy": _npy, ".parquet": _parquet, ".jsonl": _json_lines}
