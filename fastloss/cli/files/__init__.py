"""Files that are read and written.

A format whose bytes are the array's (`.npy`, `.npz`, `.safetensors`) is mapped into memory and is an `ndarray`. Others
(Zarr, Parquet, Arrow, llama.cpp's) are `Stored`: they give ranges of rows and keep no more than one block decoded. A new one is a module here
with `open_array(wanted) -> Source`, and a row in `formats.FORMATS`.
"""

from .access import listed, open_file, read_text, shape_text
from .formats import SUFFIXES, is_zarr, open_array, split
from .source import Source, Stored, sample_rows

__all__ = [
    "SUFFIXES", "Source", "Stored", "is_zarr", "listed", "open_array", "open_file", "read_text", "sample_rows", "shape_text", "split",
]  # fmt: skip
