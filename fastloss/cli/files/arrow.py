"""Columns of Parquet, Arrow IPC (streams too) and Feather files, one row group or record batch at a time.

A column of numbers is an array of one axis; lists of one length (fixed-size lists, fixed-shape tensors, nested ones) add
axes. Uncompressed IPC files are mapped into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from fastloss import _foreign
from fastloss.cli.failure import Failure, reading

from .access import chosen, needed
from .formats import Wanted
from .pages import map_file
from .source import Source, Stored


def open_array(wanted: Wanted) -> Source:
    """Open the column `FILE:COLUMN`, or the only one of FILE."""
    name, path = wanted.name, wanted.path
    pyarrow = needed(name, "pyarrow", "an Arrow or Parquet file")
    schema, lengths, read = _opened(pyarrow, path)
    if len(set(schema.names)) < len(schema.names):
        raise Failure(name, "holds columns of the same name")
    member = chosen(name, path, wanted.member, schema.names, "column")
    name = f"{path}:{member}"
    starts = [0, *accumulate(lengths)]

    def block(i: int) -> np.ndarray:
        rows = f"rows {starts[i]} to {starts[i + 1] - 1}"
        with reading(name, f"{rows} cannot be read"):
            array = _array(pyarrow, read(i, member), name)
            if len(array) != lengths[i]:
                raise Failure(name, f"{rows} cannot be read: {lengths[i]} are promised, {len(array)} are there")
            return array

    filled = next((i for i, length in enumerate(lengths) if length), None)
    if filled is None:
        return Source(name, path, _array(pyarrow, pyarrow.nulls(0, schema.field(member).type), name))
    first = block(filled)

    def checked(i: int) -> np.ndarray:
        array = block(i)
        if lengths[i] and (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
            problem = f"rows {starts[i]} to {starts[i + 1] - 1} have the shape {array.shape[1:]} each"
            raise Failure(name, f"{problem}, those before {first.shape[1:]}")
        return array.reshape(lengths[i], *first.shape[1:])

    return Source(name, path, Stored((starts[-1], *first.shape[1:]), first.dtype, starts, checked))


def _opened(pyarrow: Any, path: str) -> tuple[Any, list[int], Callable[[int, str], Any]]:
    """The schema, the rows of each block, and how to read a column of one."""
    with open(path, "rb") as file:
        magic = file.read(4)
        data = None if magic == b"PAR1" else pyarrow.BufferReader(pyarrow.py_buffer(map_file(file)))
    if data is None:
        from pyarrow import parquet

        groups = parquet.ParquetFile(path, memory_map=True)
        lengths = [groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)]

        def of_group(i: int, column: str) -> Any:
            return groups.read_row_group(i, columns=[column]).column(0).combine_chunks()

        return groups.schema_arrow, lengths, of_group
    if magic == b"\xff\xff\xff\xff":
        stream = pyarrow.ipc.open_stream(data)
        batches = list(stream)
        return stream.schema, [batch.num_rows for batch in batches], lambda i, column: batches[i].column(column)
    reader = pyarrow.ipc.open_file(data)
    lengths = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    return reader.schema, lengths, lambda i, column: reader.get_batch(i).column(column)


def _array(pyarrow: Any, column: Any, name: str) -> np.ndarray:
    """A block of a column as an array; without a copy where the memory allows."""
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    column.validate(full=True)  # lengths and offsets that a damaged file gives would be followed anywhere
    if n_missing := _foreign.missing_in_pyarrow(column):
        raise Failure(name, f"holds {n_missing} nulls, which are no numbers")
    if isinstance(column, pyarrow.FixedShapeTensorArray):
        return column.to_numpy_ndarray()
    return _numbers(pyarrow, column, name)


def _numbers(pyarrow: Any, column: Any, name: str) -> np.ndarray:
    column = _foreign.decoded(column)
    kind = column.type
    types = pyarrow.types
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        inner = _numbers(pyarrow, column.flatten(), name)
        if types.is_fixed_size_list(kind):
            width = kind.list_size
        else:
            widths = column.value_lengths().to_numpy(zero_copy_only=False)
            width = int(widths[0]) if len(widths) else 0
            if (widths != width).any():
                raise Failure(
                    name, f"holds lists of different lengths, such as {width} and {widths[widths != width][0]}"
                )
        return inner.reshape(len(column), width, *inner.shape[1:])
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise Failure(name, f"columns of {kind} are not supported: real numbers, or lists of them, are expected")
    return column.to_numpy(zero_copy_only=False)
