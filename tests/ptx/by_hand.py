"""Kernels written in PTX by hand, and the driver's own functions to run them, without Numba in between."""

import ctypes
import functools
from pathlib import Path

import machine
import numpy as np

HEAD = ".version 9.0\n.target sm_90\n.address_size 64\n"

# Registers for all kernels here; %r1 is the thread's number in its block, %r2 the block's number, %rd1 and %rd2 are two
# addresses.
START = """
    .reg .pred %p<9>;  .reg .b16 %rs<9>;  .reg .b32 %r<20>;  .reg .f32 %f<20>;  .reg .b64 %rd<20>;  .reg .f64 %fd<20>;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    ld.param.u64 %rd1, [k_0];
    ld.param.u64 %rd2, [k_1];
"""


class Failed(Exception):
    """An error from the driver; `code` is its number."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def ptx(body, shared=0):
    """A kernel named k, with two addresses as parameters."""
    variables = f".shared .align 16 .b8 memory[{shared}];\n" if shared else ""
    return f"{HEAD}{variables}.visible .entry k(.param .u64 k_0, .param .u64 k_1)\n{{{START}{body}\n    ret;\n}}\n"


def line_of(text, part):
    """The number of the line that contains this part."""
    return text[: text.index(part)].count("\n") + 1


@functools.cache
def driver():
    library = ctypes.CDLL(str(Path(machine.built(), "libcuda.so.1")))
    library.cuGetErrorString.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    library.cuLibraryGetKernel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p]
    library.cuLaunchKernel.argtypes = [
        ctypes.c_void_p,
        *[ctypes.c_uint] * 7,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    library.cuMemcpyHtoD.argtypes = [ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    library.cuMemcpyDtoH.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.cuMemAlloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.cuMemFree.argtypes = [ctypes.c_size_t]
    library.cuCtxPushCurrent(ctypes.c_long(0x1000))
    return library


def checked(code):
    if code:
        text = ctypes.c_char_p()
        driver().cuGetErrorString(code, ctypes.byref(text))
        raise Failed(code, text.value.decode())


class Memory:
    """An array's bytes on the device; not written if it is a number of bytes."""

    def __init__(self, content):
        given = isinstance(content, np.ndarray)
        self.dtype, self.size = (content.dtype, content.nbytes) if given else (np.dtype(np.uint8), content)
        address = ctypes.c_size_t()
        checked(driver().cuMemAlloc(ctypes.byref(address), self.size))
        self.address = address.value
        if given:
            checked(driver().cuMemcpyHtoD(self.address, content.ctypes.data, self.size))

    def read(self, dtype=None):
        out = np.empty(self.size // np.dtype(dtype or self.dtype).itemsize, dtype or self.dtype)
        checked(driver().cuMemcpyDtoH(out.ctypes.data, self.address, self.size))
        return out

    def free(self):
        checked(driver().cuMemFree(self.address))


def run(text, first, second, blocks=1, threads=32):
    """Launch the kernel k of this PTX on two addresses."""
    library, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    checked(driver().cuLibraryLoadData(ctypes.byref(library), text.encode(), *[None] * 6))
    checked(driver().cuLibraryGetKernel(ctypes.byref(kernel), library, b"k"))
    addresses = [ctypes.c_size_t(m.address if isinstance(m, Memory) else m) for m in (first, second)]
    pointers = (ctypes.c_void_p * 2)(*map(ctypes.addressof, addresses))
    grid = blocks if isinstance(blocks, tuple) else (blocks, 1, 1)
    block = threads if isinstance(threads, tuple) else (threads, 1, 1)
    checked(driver().cuLaunchKernel(kernel, *grid, *block, 0, 0, pointers, None))
