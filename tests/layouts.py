"""Memory layouts. Each function takes a C-contiguous array and returns an array with another layout.

All but `stretched` keep the values; every test computes its expectation from the array that comes out.
"""

import mmap

import numpy as np


def contiguous(a):
    return np.array(a, order="C")


def fortran(a):
    return np.array(a, order="F")


def reversed_axes(a):
    """Negative strides on every axis."""
    flip = (slice(None, None, -1),) * np.ndim(a)
    return np.array(a[flip], order="C")[flip]


def strided(a):
    """Every second entry of a larger array, on each axis, so that no axis is contiguous."""
    large = np.zeros([2 * n + 1 for n in np.shape(a)], np.asarray(a).dtype)
    view = large[(slice(1, None, 2),) * np.ndim(a)]
    view[...] = a
    return view


def stretched(a):
    """Stride 0 on the first axis: one row (or element), repeated."""
    return np.broadcast_to(a[:1], np.shape(a))


def read_only(a):
    a = contiguous(a)
    a.flags.writeable = False
    return a


def big_endian(a):
    return np.asarray(a).astype(np.asarray(a).dtype.newbyteorder(">"))


def misaligned(a):
    """One byte off any alignment."""
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = np.frombuffer(buffer[1:].data, a.dtype).reshape(np.shape(a)) if a.size else a
    if a.size:
        view[...] = a
    return view


def memory_map(a):
    """A read-only map of a file's pages, without the file."""
    pages = mmap.mmap(-1, max(a.nbytes, 1))
    np.frombuffer(pages, a.dtype, a.size).reshape(a.shape)[...] = a
    view = np.frombuffer(pages, a.dtype, a.size).reshape(a.shape)
    view.flags.writeable = False
    return view


KEEPING_DTYPE = (
    contiguous,
    fortran,
    reversed_axes,
    strided,
    stretched,
    read_only,
    big_endian,
    misaligned,
    memory_map,
)
