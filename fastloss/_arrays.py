"""Converts array-likes to native arrays of a dtype that kernels read, and results to what the caller gets.

Arrays that a kernel can read in place are not copied: any strides, read-only memory, float16 and bfloat16.  Other
dtypes, byte orders and misaligned data are converted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloss import _errors, _foreign

FLOAT32, FLOAT64, FLOAT16 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)
_FLOATS = {2: FLOAT16, 4: FLOAT32, 8: FLOAT64}

# DLPack's device types whose memory the CPU can read: CPU and pinned (page-locked) memory.
_HOST = (1, 3)


def is_bfloat16(dtype: Any) -> bool:
    return dtype.name == "bfloat16"


def asarray(value: Any, name: str) -> Any:
    """`value` as an ndarray of any dtype, sharing its memory if possible."""
    if type(value) is np.ndarray:
        return value
    read = _foreign.reader(value)
    if read is not None:
        return read(value, name)
    if hasattr(value, "__cuda_array_interface__") or not _on_host(value):
        raise _errors.device_array(name)
    if isinstance(value, np.ma.MaskedArray):
        raise _errors.masked_array(name)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        found = np.asarray(value)
        if name == "target" and not found.size and type(value) in (list, tuple):
            return found.astype(np.int64)  # NumPy's float64 says nothing about what is not there: these may be labels
        return found
    except (TypeError, RuntimeError, BufferError) as error:
        if hasattr(value, "detach"):  # a user's subclass of torch.Tensor
            return _foreign.from_torch(value, name)
        kind = next(kind for kind in (TypeError, RuntimeError, BufferError) if isinstance(error, kind))
        raise kind(f"{name}: {error}") from None
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name}: {error}") from None


def _on_host(value: Any) -> Any:
    device = getattr(value, "__dlpack_device__", None)
    try:
        return device is None or device()[0] in _HOST
    except BufferError:  # a JAX array sharded over several devices, which NumPy can gather
        return True


def floats(value: Any, name: str) -> Any:
    """`value` as a native array of float16, bfloat16, float32 or float64, strides kept."""
    a = asarray(value, name)
    dtype = a.dtype
    if dtype is FLOAT32 or dtype is FLOAT64:
        return a if a.flags.aligned else a.copy()
    kind = dtype.kind
    if kind == "f" and dtype.itemsize in _FLOATS:
        # equal dtypes need not be one object (pickling, metadata); from here on they are
        own = _FLOATS[dtype.itemsize]
        a = a.view(own) if dtype.isnative else converted(a, own)
        return a if a.flags.aligned else a.copy()
    if kind in "biu" or kind == "f" and dtype.itemsize > 8:  # not float8_e5m2, whose kind is "f", too
        return converted(a, FLOAT64)
    if is_bfloat16(dtype):
        a = a if dtype.isnative else a.astype(dtype.newbyteorder("="))
        return a if a.flags.aligned else a.copy()
    raise _errors.not_numeric(name, dtype)


def converted(a: NDArray[Any], dtype: Any) -> Any:
    """`a` as another dtype; broadcast axes stay broadcast, so that they take no memory."""
    if 0 not in a.strides:
        return _astype(a, dtype)
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in a.strides)
    return np.broadcast_to(_astype(a[once], dtype), a.shape)


def _astype(a: NDArray[Any], dtype: Any) -> NDArray[Any]:
    if a.size <= PIECE:
        return a.astype(dtype)
    result = np.empty_like(a, dtype)
    backwards = a.flags.f_contiguous and not a.flags.c_contiguous
    source, written = (a.T, result.T) if backwards else (a, result)
    for piece in pieces(source.shape):
        np.copyto(written[piece], source[piece], casting="unsafe")
    return result


# Elements that NumPy is given at a time: it lets no signal handler run before it is done.
PIECE = 1 << 22


def pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Tuples of slices that cut an array of that shape into pieces of at most so many elements, in C order."""
    size = math.prod(shape)
    if size <= PIECE or not shape:
        yield ()
        return
    rest = size // shape[0]
    step = max(1, PIECE // rest)
    for start in range(0, shape[0], step):
        for others in pieces(shape[1:]) if rest > PIECE else ((),):
            yield (slice(start, min(start + step, shape[0])), *others)


def first_place(piece: tuple[slice, ...], bad: NDArray[np.bool_]) -> tuple[int, ...]:
    """Where the first True of a piece lies in the whole array."""
    position = np.unravel_index(int(np.argmax(bad)), bad.shape)
    starts = [cut.start for cut in piece] + [0] * (bad.ndim - len(piece))
    return tuple(int(i) + start for i, start in zip(position, starts, strict=True))


def bits(a: NDArray[Any]) -> Any:
    """`a` as the kernels of Numba and NumPy read it: float16 as uint16, bfloat16 as int16."""
    if a.dtype.char == "e":  # which need not be one object
        return a.view(np.uint16)
    return a.view(np.int16) if a.dtype.itemsize == 2 and is_bfloat16(a.dtype) else a


def indices(a: NDArray[Any]) -> Any:
    """Integer or boolean labels as a native, aligned array of their own width."""
    if a.dtype.kind == "b":
        a = a.view(np.uint8)
    if not a.dtype.isnative:
        return a.astype(a.dtype.newbyteorder("="))
    return a if a.flags.aligned else a.copy()


# --- results ----------------------------------------------------------------------------------------------------------


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(out, np.ndarray) or out.shape != tuple(shape):
        raise _errors.bad_out(shape, out)
    if not (out.dtype.kind == "f" and out.dtype.itemsize > 1) and not is_bfloat16(out.dtype):
        raise _errors.narrow_out("floating", out.dtype)
    if not out.flags.writeable:
        raise _errors.read_only_out()


def stored(result: Any, out: Any) -> Any:
    """`result`, or `out` holding it."""
    if out is None or out is result:
        return result
    with np.errstate(over="ignore"):
        np.copyto(out, result, casting="unsafe")
    return out


def scalar(value: Any, real: Any) -> Any:
    """A float as a NumPy scalar of the result's type; too large for float32 is inf, without a warning."""
    if real is FLOAT64:
        return np.float64(value)
    if abs(value) > 3.4028235677973366e38:  # false for NaN
        value = float("inf") if value > 0 else float("-inf")
    return np.float32(value)
