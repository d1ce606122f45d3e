"""Zarr arrays, in directories and zip files, read by whole chunks of theirs."""

from __future__ import annotations

import logging
import math
import os

import numpy as np

from fastloss.cli.failure import Failure, reading

from .access import chosen, needed
from .formats import Wanted
from .source import Source, Stored

_BLOCK_BYTES = 16 << 20  # several small chunks are read together
_MOST_BLOCKS = 1 << 20  # starts that are held at most, whatever length a damaged file claims


def open_array(wanted: Wanted) -> Source:
    """Open `FILE.zarr` (an array, or a group of one) or `FILE.zarr:KEY`; the same in a zip file."""
    name, path, member = wanted.name, wanted.path, wanted.member
    zarr = needed(name, "zarr", "a Zarr array")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # failures of its tasks are told once, by this program
    with reading(name, "cannot be read as Zarr"):
        store = zarr.storage.LocalStore(path, read_only=True)
        if not os.path.isdir(path):
            store = zarr.storage.ZipStore(path, mode="r")
        node = zarr.open(store, mode="r")
        if isinstance(node, zarr.Group):
            names = sorted(key for key, found in node.members(max_depth=None) if isinstance(found, zarr.Array))
            member = chosen(name, path, member, names, "array")
            name, node = f"{path}:{member}", node[member]
        elif member is not None:
            raise Failure(name, "a Zarr array, which has no members")
    shape, dtype = tuple(node.shape), np.dtype(node.dtype)
    if dtype.kind not in "biuf" and dtype.name != "bfloat16":
        raise Failure(name, f"dtype {dtype} is not supported: real numbers are expected")
    if not shape or not math.prod(shape):
        return Source(name, path, np.asarray(node[...]))
    chunk = (node.shards or node.chunks)[0]
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    chunk *= max(1, _BLOCK_BYTES // max(1, chunk * row_bytes))
    chunk = max(chunk, -(-shape[0] // _MOST_BLOCKS))
    starts = [*range(0, shape[0], chunk), shape[0]]

    def block(i: int) -> np.ndarray:
        with reading(name, f"rows {starts[i]} to {starts[i + 1] - 1} cannot be read"):
            return np.asarray(node[starts[i] : starts[i + 1]])

    return Source(name, path, Stored(shape, dtype, starts, block))
