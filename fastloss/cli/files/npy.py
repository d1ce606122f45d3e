"""Arrays in `.npy` and `.npz` files: mapped into memory where the format allows it, never unpickled.

`FILE.npy` and members of an `.npz` stored uncompressed (`np.savez`) are memory-mapped, so files may be larger
than memory. Compressed members (`np.savez_compressed`) have to be read as a whole.
"""

from __future__ import annotations

import math
import os
import struct
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from fastloss.cli.failure import Failure, reading

from .access import bfloat16, listed, shape_text
from .formats import NPY_MAGIC, ZIP_MAGICS, Wanted
from .pages import map_file
from .source import Source

if TYPE_CHECKING:
    import zipfile

TOO_SMALL = "is not supported: floating-point numbers of 16 bits or more are expected"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # a zip member's own header: signature, length of name, of extras


def open_array(wanted: Wanted) -> Source:
    """Open `FILE.npy`, `FILE.npz` (of one member) or `FILE.npz:member`."""
    name, path, member, head, file = wanted.name, wanted.path, wanted.member, wanted.head, wanted.file
    assert file is not None
    if head[:6] == NPY_MAGIC:
        if member is not None:
            raise Failure(name, "a .npy file, which has no members")
        array = _mapped(file, 0, os.fstat(file.fileno()).st_size, name)
    elif head[:4] in ZIP_MAGICS:
        name, array = _from_archive(file, name, path, member)
    elif not head:
        raise Failure(name, "the file is empty")
    elif head[:1] == b"\x80":
        raise Failure(name, "a Python pickle, which is never loaded; save the array with np.save")
    else:
        raise Failure(name, "not a .npy or .npz file, nor of another format that is read")
    return Source(name, path, _numeric(array, name))


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read a `.npy` header: the shape, whether it is in Fortran order, and the dtype."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        (3, 0): np.lib.format.read_array_header_2_0,  # differs in the encoding of field names, which numbers lack
    }
    with reading(name, "damaged .npy header"):
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise Failure(name, f"version {version[0]}.{version[1]} of the .npy format is not supported")
        try:
            shape, fortran, dtype = readers[version](stream)
        except ValueError as error:
            if "f1'" not in str(error):
                raise
            raise Failure(name, f"dtype float8_e5m2 {TOO_SMALL}") from None  # NumPy alone has no name for it
    if dtype.hasobject:
        raise Failure(name, "holds pickled Python objects, which are never loaded; save a numeric array")
    if any(type(length) is not int or length < 0 for length in shape):
        raise Failure(name, f"damaged .npy header: shape {shape}")
    return shape, fortran, dtype


def _check_length(shape: tuple[int, ...], dtype: np.dtype, present: int, name: str) -> int:
    """The number of bytes the array needs; a Failure when fewer are there."""
    needed = math.prod(shape) * dtype.itemsize
    if needed > present:
        what = f"{shape_text(shape)} of {dtype} takes {needed} bytes of data, the file holds {present}"
        raise Failure(name, f"truncated: {what}")
    return needed


def _mapped(file: IO[bytes], begin: int, end: int, name: str) -> np.ndarray:
    """Map the `.npy` image that lies in bytes [begin, end) of `file`."""
    file.seek(begin)
    shape, fortran, dtype = _header(file, name)
    offset = file.tell()
    if not _check_length(shape, dtype, max(end - offset, 0), name):
        return np.empty(shape, dtype)
    return map_array(file, offset, shape, dtype, "F" if fortran else "C", name)


def map_array(
    file: IO[bytes], offset: int, shape: tuple[int, ...], dtype: np.dtype, order: Literal["C", "F"], name: str
) -> np.ndarray:
    """The array whose data begin at byte `offset` of `file`, mapped into memory."""
    with reading(name, "cannot be mapped into memory"):
        return np.ndarray(shape, dtype, buffer=map_file(file), offset=offset, order=order)


def _from_archive(file: IO[bytes], name: str, path: str, member: str | None) -> tuple[str, np.ndarray]:
    """Open a member of an `.npz`; returns its full name `FILE.npz:member` too."""
    import zipfile

    with reading(name, "cannot be read as .npz"), zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        listing = listed(list(members))
        if not members:
            raise Failure(name, "the archive is empty")
        if member is None:
            if len(members) > 1:
                example = f"{path}:{next(iter(members))}"
                raise Failure(name, f"holds several arrays ({listing}): name one as {example}")
            member = next(iter(members))
        info = members.get(member.removesuffix(".npy"))
        if info is None:
            raise Failure(name, f"no such array in the archive; it holds {listing}")
        name = f"{path}:{member.removesuffix('.npy')}"
        with reading(name, "cannot be read from the .npz"):
            if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:  # bit 0: encrypted
                begin = _member_data(file, info, name)
                end = min(begin + info.file_size, os.fstat(file.fileno()).st_size)
                return name, _mapped(file, begin, end, name)
            with archive.open(info) as stream:
                return name, _read(stream, info.file_size, name)


def _member_data(file: IO[bytes], info: zipfile.ZipInfo, name: str) -> int:
    """Where the data of a stored member begins: its local header has lengths the central directory lacks."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != ZIP_MAGICS[0]:
        raise Failure(name, "damaged .npz: a member's header is missing")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return info.header_offset + _LOCAL_HEADER.size + name_length + extra_length


def _read(stream: IO[bytes], size: int, name: str) -> np.ndarray:
    """Read a compressed `.npy` image of `size` bytes."""
    shape, fortran, dtype = _header(stream, name)
    _check_length(shape, dtype, max(size - stream.tell(), 0), name)
    flat = np.empty(math.prod(shape), dtype)
    view = flat.view(np.uint8).data
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            raise Failure(name, f"truncated: {len(view)} bytes of data expected, {done} found")
        done += count
    return flat.reshape(shape, order="F" if fortran else "C")


def _numeric(array: np.ndarray, name: str) -> np.ndarray:
    """The array as numbers; a Failure for text, dates, records and complex numbers."""
    dtype = array.dtype
    if dtype.kind in "biuf":
        return array
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
        # ml_dtypes' arrays are saved as 2 bytes of nothing in particular.
        return array.view(bfloat16(name, f"dtype {dtype.str} may be bfloat16"))
    if dtype.kind == "V" and dtype.itemsize == 1 and dtype.names is None:
        raise Failure(name, f"dtype {dtype.str} may be float8, or another type of ml_dtypes that {TOO_SMALL}")
    raise Failure(name, f"dtype {dtype} is not supported: real numbers are expected")
