"""`_target` for Numba's simulator: addresses that know their bounds, and threads that take turns.

The simulator's own threads are Python threads, which take milliseconds to synchronise.  Here they are greenlets: each
runs until it waits for its warp or its block.  If threads wait for different things, that is an error, where a GPU
would hang.
"""

import functools

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator.kernelapi import FakeCUDAModule, swapped_cuda_module

WARP = 4  # a few lanes suffice


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

    def __lt__(self, other):
        return self.memory.ctypes.data + self.offset < other.memory.ctypes.data + other.offset

    def items(self, i, dtype, n=1):
        """A view of n elements from the i-th on."""
        start = self.offset + int(i) * dtype.itemsize
        stop = start + n * dtype.itemsize
        if start < 0 or stop > self.memory.size:
            raise IndexError(f"bytes {start} to {stop} of a memory of {self.memory.size}")
        return self.memory[start:stop].view(dtype)


def address(array):
    view = root = np.asarray(array._ary)
    while isinstance(root.base, np.ndarray):
        root = root.base
    start, own = (a.__array_interface__["data"][0] for a in (root, view))
    return Address(root.reshape(-1).view(np.uint8), own - start)


# --- threads ----------------------------------------------------------------------------------------------------------


class _Thread(greenlet):
    """One thread of a block; `waits` is what it is waiting for: _BLOCK, or a value _Shown to its warp."""

    def __init__(self, number, block, n_blocks, function):
        super().__init__(function)
        self.number, self.block, self.n_blocks, self.waits = number, block, n_blocks, None

    def go_on(self, answer=None):
        self.waits = self.switch(answer)
        return not self.dead


class _Shown:
    def __init__(self, value):
        self.value = value


_BLOCK = object()


def run(kernel, n_blocks, n_threads, arguments):
    """Run a kernel, block by block."""
    module = FakeCUDAModule((n_blocks, 1, 1), (n_threads, 1, 1), 0)
    with swapped_cuda_module(kernel.fn, module), np.errstate(all="ignore"):
        for number in range(n_blocks):
            threads = [_Thread(t, number, n_blocks, lambda _: kernel.fn(*arguments)) for t in range(n_threads)]
            alive = [t for t in threads if t.go_on()]
            while alive:
                if all(t.waits is _BLOCK for t in alive):
                    alive = [t for t in alive if t.go_on()]
                    continue
                moved = False
                for first in range(0, n_threads, WARP):
                    warp = threads[first : first + WARP]
                    if all(not t.dead and isinstance(t.waits, _Shown) for t in warp):
                        values, moved = [t.waits.value for t in warp], True
                        for t in warp:
                            t.go_on(values)
                if not moved:
                    raise RuntimeError("threads of a block wait for different things")
                alive = [t for t in threads if not t.dead]


def thread():
    return getcurrent().number


def lane():
    return thread() % WARP


def block():
    return getcurrent().block


def n_blocks():
    return getcurrent().n_blocks


def sync():
    getcurrent().parent.switch(_BLOCK)


def sync_warp():
    getcurrent().parent.switch(_Shown(None))


def fence():
    pass


def shuffle_xor(value, mask):
    return getcurrent().parent.switch(_Shown(value))[lane() ^ mask]


def any_lane(condition):
    return any(getcurrent().parent.switch(_Shown(condition)))


def shuffle(value, source):
    return getcurrent().parent.switch(_Shown(value))[source]


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _quiet(function):
    def quiet(*values):
        with np.errstate(all="ignore"):
            return function(*values)

    return quiet


exp, log, log1p = _quiet(np.exp), _quiet(np.log), _quiet(np.log1p)
elementary = {name: _quiet(getattr(np, name)) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh")}
elementary |= {"max": _quiet(np.maximum), "min": _quiet(np.minimum)}
larger = np.fmax


def quotient(a, b):
    return a // b


def two_to_fraction(f):
    from fastloss.backends.numba_cuda._target import EXP2

    p = np.float32(EXP2[0])
    for coefficient in EXP2[1:]:
        p = fma(p, f, np.float32(coefficient))
    return p


def two_to(z):
    with np.errstate(all="ignore"):
        return np.float32(2.0) ** (np.float32(z) - np.float32(1.5 * 2**23))


def fma(a, b, c):
    """Computed in a type that holds the product of two float32 exactly, and that of two float64 nearly."""
    exact = np.longdouble(a) * np.longdouble(b) + np.longdouble(c)
    return np.result_type(a, b, c).type(exact)


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
def masked_reader(name, real):
    whole, n = vector_reader(name, real), 16 // _dtype(name).itemsize

    def read(base, i, out, at, inside):
        if inside:
            whole(base, i, out, at)
        else:
            out[at : at + n] = -np.inf

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
    counter[0] += 1
    return int(counter[0]) - 1
