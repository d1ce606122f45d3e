"""Arrays in `.safetensors` files, mapped into memory.

The format is a length, a JSON header, and the arrays' bytes. It is read here rather than by the package of that name,
whose NumPy reader copies what it reads and does not know bfloat16.

References
----------
https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
import os
import re
from typing import IO, Any

import numpy as np

from fastloss._schema import SIZE, TEXT, check
from fastloss.cli.failure import Failure, reading

from .access import bfloat16, chosen, shape_text
from .formats import Wanted
from .npy import TOO_SMALL, map_array
from .source import Source

_MOST_HEADER = 100_000_000  # bytes, as the format says
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def open_array(wanted: Wanted) -> Source:
    """Open `FILE.safetensors` (of one array) or `FILE.safetensors:KEY`."""
    name, path, file = wanted.name, wanted.path, wanted.file
    assert file is not None
    header, begin = _header(file, name)
    member = chosen(name, path, wanted.member, [key for key in header if key != "__metadata__"], "array")
    name = f"{path}:{member}"
    with reading(name, "damaged .safetensors header"):
        check(header[member], {"dtype": TEXT, "shape": [SIZE], "data_offsets": [SIZE, ...]})
        kind, shape = header[member]["dtype"], tuple(header[member]["shape"])
        first, last = header[member]["data_offsets"]
    if kind == "BF16":
        dtype = bfloat16(name, "the array is bfloat16")
    elif kind in _DTYPES:
        dtype = np.dtype(_DTYPES[kind])
    elif small := re.match(r"F([468])(?:_|$)", kind):
        raise Failure(name, f"dtype {kind}, a float{small[1]}, {TOO_SMALL}")
    else:
        raise Failure(name, f"dtype {kind} is not supported: real numbers are expected")
    n_bytes = math.prod(shape) * dtype.itemsize
    if last - first != n_bytes:
        raise Failure(name, f"damaged .safetensors header: {shape_text(shape)} of {kind} in {last - first} bytes")
    present = os.fstat(file.fileno()).st_size - begin
    if last > present:
        raise Failure(name, f"truncated: the header speaks of {last} bytes of data, the file holds {present}")
    array = map_array(file, begin + first, shape, dtype, "C", name) if n_bytes else np.empty(shape, dtype)
    return Source(name, path, array)


def _header(file: IO[bytes], name: str) -> tuple[dict[str, Any], int]:
    """The header, and where the data begin."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MOST_HEADER, os.fstat(file.fileno()).st_size - 8):
        raise Failure(name, "damaged .safetensors header")
    with reading(name, "damaged .safetensors header"):
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise Failure(name, "damaged .safetensors header")
    return header, 8 + length
