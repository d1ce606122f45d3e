"""Converts other libraries' host arrays to NumPy's, without a copy where their memory layout allows.

Most arrays need nothing: they have ``__array__`` or DLPack.  This module is for those whose ``__array__`` refuses
without need, turns numbers into objects, or hides missing values.  It imports no library: whoever passes such an array
has imported it already.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastloss import _errors
from fastloss._optional import bfloat16


def reader(value: Any) -> Any:
    """A function that converts values of this type to NumPy arrays, or None if `np.asarray` does."""
    kind: Any = type(value)
    return _reader_of(kind)


@functools.lru_cache(128)
def _reader_of(kind: Any) -> Any:
    read, mark = _READERS.get(kind.__module__.partition(".")[0], (None, ""))
    return read if read and hasattr(kind, mark) else None


def from_torch(value: Any, name: str) -> Any:
    """Convert a CPU tensor, even one that requires a gradient, or of bfloat16, which NumPy does not have."""
    torch = sys.modules["torch"]
    try:
        if value.requires_grad:
            value = value.detach()
        if value.dtype is torch.bfloat16:
            return value.resolve_neg().view(torch.int16).numpy().view(bfloat16())
        try:
            return value.numpy()
        except RuntimeError:
            return value.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        if value.device.type != "cpu":
            raise _errors.device_array(name) from None
        raise type(error)(f"{name}: {error}") from None  # sparse, quantised


def _from_pandas(value: Any, name: str) -> Any:
    columns = [value.iloc[:, i] for i in range(value.shape[1])] if value.ndim == 2 else [value]
    extended = [column for column in columns if not isinstance(column.dtype, np.dtype) or column.dtype.kind == "O"]
    _check(name, sum(_missing_in_pandas(column) for column in extended))
    if value.ndim == 1:
        dtype = getattr(value.dtype, "numpy_dtype", None)
        # Before pandas 2.2, nullable numbers are objects otherwise.
        return value.to_numpy(dtype=dtype) if getattr(dtype, "kind", "O") in "biuf" else np.asarray(value)
    if not extended:
        return np.asarray(value)
    dtypes = [getattr(column.dtype, "numpy_dtype", column.dtype) for column in columns]
    if not all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return np.asarray(value)  # not numeric: reported elsewhere
    return value.to_numpy(dtype=np.result_type(*dtypes))


def _missing_in_pandas(column: Any) -> int:
    if hasattr(column.dtype, "pyarrow_dtype"):
        array = getattr(column, "array", column)  # of a Series; otherwise it is an array already
        return missing_in_pyarrow(array.__arrow_array__())
    return int(column.isna().sum())


def _from_pyarrow(value: Any, name: str) -> Any:
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.ChunkedArray):
        return _from_pyarrow(value.chunk(0) if value.num_chunks == 1 else value.combine_chunks(), name)
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        _check(name, sum(map(missing_in_pyarrow, value.columns)))
    if not isinstance(value, pa.Array):
        return np.asarray(value)
    _check(name, missing_in_pyarrow(value))
    try:
        return _numbers(decoded(value))
    except pa.ArrowNotImplementedError:  # unions
        raise _errors.not_numeric(name, value.type) from None


def _numbers(value: Any) -> Any:
    """Convert a pyarrow array without missing values."""
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.FixedShapeTensorArray):
        return value.to_numpy_ndarray()
    if pa.types.is_fixed_size_list(value.type):
        inner = _numbers(decoded(value.flatten()))
        return inner.reshape(len(value), value.type.list_size, *inner.shape[1:])
    return value.to_numpy(zero_copy_only=False)


def decoded(value: Any) -> Any:
    """A pyarrow array without dictionary or run-end encoding, whose dictionary or runs could hide nulls."""
    pa = sys.modules["pyarrow"]
    if pa.types.is_dictionary(value.type):
        return value.dictionary_decode()
    if pa.types.is_run_end_encoded(value.type):
        import pyarrow.compute

        return pyarrow.compute.run_end_decode(value)
    return value


def missing_in_pyarrow(value: Any) -> int:
    """How many values are missing in a pyarrow array, at any level of nesting."""
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.ChunkedArray):
        return sum(map(missing_in_pyarrow, value.chunks))
    if isinstance(value, pa.ExtensionArray):
        return missing_in_pyarrow(value.storage)
    value, kind = decoded(value), value.type
    inner: Iterable[Any] = ()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = (value.flatten(),)
    elif pa.types.is_struct(kind):
        inner = (value.field(i) for i in range(kind.num_fields))
    return value.null_count + sum(map(missing_in_pyarrow, inner))


def _from_polars(value: Any, name: str) -> Any:
    columns = value.get_columns() if len(value.shape) == 2 else [value]
    _check(name, sum(map(_missing_in_polars, columns)))
    return value.to_numpy()


def _missing_in_polars(column: Any) -> int:
    pl = sys.modules["polars"]
    inner: Iterable[Any] = ()
    if isinstance(column.dtype, pl.Array) and column.dtype.size:
        inner = (column.drop_nulls().explode(),)
    elif isinstance(column.dtype, pl.Struct):
        inner = column.struct.unnest().get_columns()
    return column.null_count() + sum(map(_missing_in_polars, inner))


def _check(name: str, n_missing: int) -> None:
    if n_missing:
        raise _errors.missing_values(name, n_missing)


# By library: the conversion, and an attribute that its arrays have but its scalars and shapes do not.
_READERS = {
    "torch": (from_torch, "detach"),
    "pandas": (_from_pandas, "ndim"),
    "pyarrow": (_from_pyarrow, "nbytes"),
    "polars": (_from_polars, "to_numpy"),
}
