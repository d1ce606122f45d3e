"""Arrays of other libraries on the host as NumPy's, without a copy where the memory allows.

Most need nothing: they have ``__array__`` or DLPack.  Here are those whose ``__array__`` refuses what could be had, makes objects of
numbers, or hides that values are missing.  Nothing is imported for it: whoever has such an array has the library.
"""

import sys

import numpy as np

from fastloss import _errors
from fastloss._optional import bfloat16


def reader(value):
    """What turns arrays of that kind into NumPy's, or None where NumPy knows how to."""
    read, mark = _READERS.get(type(value).__module__.partition(".")[0], (None, ""))
    return read if read and hasattr(value, mark) else None


def from_torch(value, name):
    """A tensor on the CPU; those that record gradients and bfloat16, which NumPy does not know, included."""
    torch = sys.modules["torch"]
    try:
        value = value.detach().resolve_conj().resolve_neg()
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view(bfloat16())
        return value.numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised
        raise type(error)(f"{name}: {error}") from None


def _from_pandas(value, name):
    columns = [value.iloc[:, i] for i in range(value.shape[1])] if value.ndim == 2 else [value]
    extended = [column for column in columns if not isinstance(column.dtype, np.dtype)]
    n_missing = sum(int(column.isna().sum()) for column in extended)
    if n_missing:
        raise _errors.missing_values(name, n_missing)
    if value.ndim == 1 or not extended:
        return np.asarray(value)
    dtypes = [getattr(column.dtype, "numpy_dtype", column.dtype) for column in columns]
    if not all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return np.asarray(value)  # no numbers, which is for others to say
    return value.to_numpy(dtype=np.result_type(*dtypes))


def _from_pyarrow(value, name):
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.ChunkedArray):
        return _from_pyarrow(value.chunk(0) if value.num_chunks == 1 else value.combine_chunks(), name)
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        n_missing = sum(column.null_count for column in value.columns)
        if n_missing:
            raise _errors.missing_values(name, n_missing)
    if not isinstance(value, pa.Array):
        return np.asarray(value)
    if value.null_count:
        raise _errors.missing_values(name, value.null_count)
    if isinstance(value, pa.FixedShapeTensorArray):
        _from_pyarrow(value.storage, name)  # has no missing values, or raises
        return value.to_numpy_ndarray()
    if pa.types.is_fixed_size_list(value.type):
        inner = _from_pyarrow(value.flatten(), name)
        return inner.reshape(len(value), value.type.list_size, *inner.shape[1:])
    return value.to_numpy(zero_copy_only=False)


def _from_polars(value, name):
    n_missing = sum(column.null_count() for column in value) if len(value.shape) == 2 else value.null_count()
    if n_missing:
        raise _errors.missing_values(name, n_missing)
    return value.to_numpy()


# By library; and what an array of it has, unlike a scalar or a shape.
_READERS = {
    "torch": (from_torch, "detach"),
    "pandas": (_from_pandas, "ndim"),
    "pyarrow": (_from_pyarrow, "nbytes"),
    "polars": (_from_polars, "to_numpy"),
}
