"""`_target` for Numba's simulator: addresses that know their bounds, and what the simulator lacks."""

import functools
import math
import threading

import numpy as np
from numba.cuda.simulator.kernel import _get_kernel_context

WARP = 4  # threads are Python's here: few do as well


def inlined(function):
    return function


class Address:
    """A position in an array's memory, in bytes."""

    def __init__(self, memory, offset=0):
        self.memory, self.offset = memory, offset

    def __add__(self, n_bytes):
        return Address(self.memory, self.offset + n_bytes)

    def __mod__(self, n_bytes):
        return self.offset % n_bytes

    def items(self, i, dtype, n=1):
        """A view of n elements from the i-th on."""
        start = self.offset + int(i) * dtype.itemsize
        stop = start + n * dtype.itemsize
        if start < 0 or stop > self.memory.size:
            raise IndexError(f"bytes {start} to {stop} of a memory of {self.memory.size}")
        return self.memory[start:stop].view(dtype)


def address(array):
    memory = np.asarray(array._ary)
    return Address(memory.reshape(-1).view(np.uint8))


# --- threads ----------------------------------------------------------------------------------------------------------


def thread():
    return _get_kernel_context().threadIdx.x


def lane():
    return thread() % WARP


def block():
    return _get_kernel_context().blockIdx.x


def n_blocks():
    return _get_kernel_context().gridDim.x


def sync():
    threading.current_thread().syncthreads()


def fence():
    pass


class _Warp:
    def __init__(self):
        self.barrier, self.values = threading.Barrier(WARP), [None] * WARP


_warps = {}
_guard = threading.Lock()


def _exchanged(value):
    """The values of all lanes of this thread's warp."""
    me = threading.current_thread()
    key = id(me._manager), thread() // WARP
    with _guard:
        if not any(manager == key[0] for manager, _ in _warps):
            _warps.clear()  # blocks run one after the other
        warp = _warps.setdefault(key, _Warp())
    warp.values[lane()] = value
    warp.barrier.wait(60)
    values = list(warp.values)
    warp.barrier.wait(60)
    return values


def shuffle_xor(value, mask):
    return _exchanged(value)[lane() ^ mask]


def shuffle(value, source):
    return _exchanged(value)[source]


# --- arithmetic ---------------------------------------------------------------------------------------------------------


def _quiet(function):
    def quiet(*values):
        with np.errstate(all="ignore"):
            return function(*values)

    return quiet


exp, log, log1p = _quiet(np.exp), _quiet(np.log), _quiet(np.log1p)
elementary = {name: _quiet(getattr(np, name)) for name in ("exp", "expm1", "log", "log1p", "tanh")}
larger = np.fmax


def hardware_exp(x):
    with np.errstate(all="ignore"):
        return np.exp2(np.float32(x))


# --- memory -----------------------------------------------------------------------------------------------------------


def _dtype(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@functools.cache
def reader(name, real):
    dtype, real = _dtype(name), np.dtype(real).type

    def read(base, i):
        return real(base.items(i, dtype)[0])

    return read


@functools.cache
def vector_reader(name, real):
    dtype = _dtype(name)
    n = 16 // dtype.itemsize

    def read(base, i, out, at):
        if (base + i * dtype.itemsize) % 16:
            raise IndexError("a vector that does not lie at a multiple of 16 bytes")
        out[at : at + n] = base.items(i, dtype, n).astype(real)

    return read


@functools.cache
def writer(name):
    dtype = _dtype(name)

    def write(base, i, value):
        base.items(i, dtype)[0] = value

    return write


@functools.cache
def vector_writer(name):
    dtype = _dtype(name)
    n = 16 // dtype.itemsize

    def write(base, i, values, at):
        if (base + i * dtype.itemsize) % 16:
            raise IndexError("a vector that does not lie at a multiple of 16 bytes")
        base.items(i, dtype, n)[:] = values[at : at + n]

    return write


@functools.cache
def raw_reader(name):
    dtype = np.dtype(name)

    def read(base, i):
        return base.items(i, dtype)[0]

    return read


def fresh_reader():
    return reader("float64", "float64")


def read_label(base, i, code):
    size = 1 << code // 2
    value = int(base.items(i, np.dtype(f"{'iu'[code % 2 == 0]}{size}"))[0])
    return value if value < 2**63 else -1


def take_ticket(base, i):
    counter = base.items(i, np.dtype(np.int32))
    with _guard:
        counter[0] += 1
        return int(counter[0]) - 1


assert math.log2(WARP).is_integer()
