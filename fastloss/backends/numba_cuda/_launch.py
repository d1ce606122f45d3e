"""Launches kernels on the caller's stream, and reads back their sums."""

import contextlib
import ctypes
import functools
import os
import struct
import threading

import numpy as np

from fastloss.backends.numba_cuda import _target
from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._settle import PARTIALS, TOTALS

if not _target.SIMULATED:
    from fastloss.backends.numba_cuda._compiler import compiled, driver, types

if _target.SIMULATED:
    from fastloss.backends.numba_cuda import _simulated

MAX_BLOCKS = 8192  # per grid, on any GPU: the order of sums depends on it

_HEAD = 8 * (PARTIALS + 4 * MAX_BLOCKS)  # bytes of a workspace


class Queue:
    """A stream of a device, and the scratch memory that the kernels on it use one after the other."""

    def __init__(self, device, pointer):
        self.device = device
        self.lock = threading.RLock()
        with on_device(device):
            self.stream = _stream(pointer)
            self.handle = int(pointer)
            self._workspace = self._zeros(_HEAD)
            self._totals = self._workspace[8 * TOTALS : 8 * TOTALS + 32]
            self.workspace = _target.address(self._workspace)
            self._states = None

    def _zeros(self, n_bytes):
        return cuda.to_device(np.zeros(n_bytes, np.uint8), stream=self.stream)

    def states(self, n_bytes):
        """Memory of n_bytes for the states of chunks; the tickets in it are 0 before and after each call."""
        if self._states is None or self._states.size < n_bytes:
            self._states = self._zeros(n_bytes)
        return _target.address(self._states)

    def launch(self, kernel, n_blocks, n_threads, arguments):
        """Launch a kernel; what can be launched again like this: it, blocks, and arguments without tuples.  None in the simulator."""
        n_blocks = min(max(n_blocks, 1), MAX_BLOCKS)
        if _target.SIMULATED:
            _simulated.run(kernel, n_blocks, n_threads, arguments)
            return None
        kinds = tuple(
            (len(a), float if type(a[0]) is float else int) if type(a) is tuple else type(a) for a in arguments
        )
        ready = _ready(kernel, kinds, self.device)
        flat = [v for a in arguments for v in (a if type(a) is tuple else (a,))]
        ready.launch(n_blocks, n_threads, self.handle, flat)
        return ready, n_blocks, flat

    def totals(self):
        """(summed loss, weight, count, first bad position) of the last call; waits for the stream."""
        if _target.SIMULATED:
            return [float(v) for v in self._totals.copy_to_host().view(np.float64)]
        host, address = _pinned()
        driver.driver.cuMemcpyDtoHAsync(address, self.workspace + 8 * TOTALS, 32, self.handle)
        driver.driver.cuStreamSynchronize(self.handle)
        return host[:]

    def synchronize(self):
        if not _target.SIMULATED:
            self.stream.synchronize()

    def wait_for(self, other):
        """Make later work on this stream wait for all work that is now on the other."""
        if not _target.SIMULATED:
            with on_device(self.device):
                event = cuda.event(timing=False)
                event.record(other.stream)
                event.wait(self.stream)

    def upload(self, array):
        """Copy a C-contiguous host array to the device, through page-locked memory that is filled while the previous
        piece is sent."""
        raw = array.reshape(-1).view(np.uint8)
        sent = cuda.device_array(max(raw.size, 1), np.uint8, stream=self.stream)
        if _target.SIMULATED:
            sent[: raw.size] = raw
            return sent
        halves, events = _staging(self.device)
        for i, start in enumerate(range(0, raw.size, PIECE)):
            half, event = halves[i % 2], events[i % 2]
            event.synchronize()  # until the buffer's previous content has been sent
            part = raw[start : start + PIECE]
            half[: part.size] = part
            sent[start : start + part.size].copy_to_device(half[: part.size], stream=self.stream)
            event.record(self.stream)
        return sent


PIECE = 16 << 20  # bytes of page-locked memory that are sent at a time

_PER_THREAD = 2  # the handle of the per-thread default stream

_NOTHING = contextlib.nullcontext()

_per_thread = threading.local()
_queues = {}


def queue(device, pointer):
    """The Queue of a stream, given its handle; 0 is the default stream."""
    if pointer == _PER_THREAD:
        queues = _per_thread.__dict__.setdefault("queues", {})
    else:
        queues = _queues
    # in a forked child the driver does not work: raise the driver's error, rather than wait for a lock that nobody
    # releases
    key = device, pointer, os.getpid()
    try:
        return queues[key]
    except KeyError:
        return queues.setdefault(key, Queue(device, pointer))


def on_device(device):
    """A context manager that makes the device the current one."""
    if _target.SIMULATED:
        return _NOTHING
    if len(cuda.gpus) > 1:
        _retain(device)
        return cuda.gpus[device]
    if not hasattr(_per_thread, "has_context"):  # a thread's first call
        cuda.current_context()
        _per_thread.has_context = True
    return _NOTHING


@functools.cache
def _retain(device):
    """Create the device's context, but keep the thread's current one, which Numba would pop from the stack."""
    before = driver.driver.cuCtxGetCurrent()
    cuda.gpus[device].get_primary_context()
    if int(before) and int(driver.driver.cuCtxGetCurrent()) != int(before):
        driver.driver.cuCtxPushCurrent(before)


def _stream(pointer):
    if _target.SIMULATED:
        return 0
    special = {0: cuda.default_stream, 1: cuda.legacy_default_stream, _PER_THREAD: cuda.per_thread_default_stream}
    return special[pointer]() if pointer in special else cuda.external_stream(pointer)


class _Ready:
    """A kernel on a device, with a buffer for its arguments, 8 bytes each, which the driver copies on launch.

    Numba's own launch examines every argument each time, which takes longer than everything else in a small call.
    """

    def __init__(self, kernel, kinds):
        named = {int: types.int64, float: types.float64, bool: types.boolean}
        signature = tuple(types.UniTuple(named[k[1]], k[0]) if type(k) is tuple else named[k] for k in kinds)
        self.function = compiled(kernel, signature)._codelibrary.get_cufunc()
        self.handle = int(self.function.handle)
        letters = ""
        for kind in kinds:
            n, number = kind if type(kind) is tuple else (1, kind)
            letters += ("d" if number is float else "q") * n
        self.pack_into = struct.Struct(f"={letters}").pack_into
        self.room = ctypes.create_string_buffer(8 * len(letters))
        start = ctypes.addressof(self.room)
        self.pointers = (ctypes.c_void_p * len(letters))(*range(start, start + 8 * len(letters), 8))
        self.first_pointer = ctypes.addressof(self.pointers)
        self.lock = threading.Lock()

    def launch(self, n_blocks, n_threads, stream, numbers):
        with self.lock:
            self.pack_into(self.room, 0, *numbers)
            driver.driver.cuLaunchKernel(self.handle, n_blocks, 1, 1, n_threads, 1, 1, 0, stream, self.first_pointer, 0)


@functools.cache
def _ready(kernel, kinds, device):
    """The kernel on the current device, for arguments of these types: integers, floats, and tuples of either."""
    return _Ready(kernel, kinds)


def _pinned():
    """Four page-locked numbers of this thread's, and their address."""
    if not hasattr(_per_thread, "totals"):
        memory = cuda.pinned_array(4, np.float64)
        numbers = (ctypes.c_double * 4).from_buffer(memory)
        _per_thread.totals = numbers, ctypes.addressof(numbers)
    return _per_thread.totals


def _staging(device):
    if not hasattr(_per_thread, "staging"):
        _per_thread.staging = {}
    if device not in _per_thread.staging:
        _per_thread.staging[device] = (
            [cuda.pinned_array(PIECE, np.uint8) for _ in range(2)],
            [cuda.event(timing=False) for _ in range(2)],
        )
    return _per_thread.staging[device]
