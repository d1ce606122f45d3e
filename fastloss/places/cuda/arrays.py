"""Arrays on a CUDA device: which library they belong to, their memory, and how to make new ones of that library.

Libraries are never imported here: whoever passes one of their arrays has imported it.
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss import _errors
from fastloss.calls.resolve import FLOATS, INTEGERS


@dataclass(frozen=True, slots=True)
class View:
    """Device memory as an array: the address of its first element, and strides in elements."""

    address: Any
    name: str  # of the dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any = None  # keeps the memory alive

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def itemsize(self):
        return FLOATS.get(self.name) or INTEGERS[self.name]

    @property
    def contiguous(self):
        return self.size == 0 or all(
            n == 1 or stride == packed
            for n, stride, packed in zip(self.shape, self.strides, packed_strides(self.shape), strict=True)
        )

    def element(self, position):
        """One element, as a 0-d view."""
        offset = sum(int(i) * s for i, s in zip(position, self.strides, strict=True))
        return View(self.address + offset * self.itemsize, self.name, (), (), self.owner)

    def reshaped(self, shape):
        """A view with the same elements in C order and another shape, or None if that would need a copy."""
        strides = _strides_of_reshaped(self.shape, self.strides, tuple(shape))
        return None if strides is None else View(self.address, self.name, tuple(shape), strides, self.owner)

    def transposed(self, order):
        shape, strides = tuple(self.shape[i] for i in order), tuple(self.strides[i] for i in order)
        return View(self.address, self.name, shape, strides, self.owner)

    def broadcast(self, shape):
        """The view broadcast to `shape`, which is known to be compatible."""
        lead = len(shape) - self.ndim
        strides = (0,) * lead + tuple(
            0 if n == 1 else stride for n, stride in zip(self.shape, self.strides, strict=True)
        )
        return View(self.address, self.name, tuple(shape), strides, self.owner)

    def aligned(self, n_bytes):
        return self.address % n_bytes == 0

    def overlaps(self, other):
        """Whether the memory ranges from first to last element intersect."""
        (start, end), (its_start, its_end) = self._span(), other._span()
        return bool(self.size and other.size and start < its_end and its_start < end)

    def _span(self):
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
        return self.address + low * self.itemsize, self.address + (high + 1) * self.itemsize

    def same_elements(self, other):
        """Whether each element has the same address as the other's at the same position."""
        ours = ((v.name, v.shape, v.strides) for v in (self, other))
        return len(set(ours)) == 1 and not (self.address < other.address or other.address < self.address)


def packed_strides(shape):
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _strides_of_reshaped(shape, strides, new):
    if 0 in shape:
        return packed_strides(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    # merge axes that follow one another in memory
    runs = []
    for n, s in old:
        if runs and runs[-1][1] == n * s:
            runs[-1] = (runs[-1][0] * n, s)
        else:
            runs.append((n, s))
    found = []
    rest, step = runs.pop() if runs else (1, 1)
    for n in reversed(new):
        if n == 1:
            found.append(0)
            continue
        if rest == 1 and runs:
            rest, step = runs.pop()
        if rest % n:
            return None
        found.append(step)
        rest, step = rest // n, step * n
    return tuple(reversed(found))


# --- libraries --------------------------------------------------------------------------------------------------------


class Torch:
    """Torch tensors; work is queued on the current stream of their device."""

    ordered = True  # later work on the stream sees the results

    @staticmethod
    def seen(tensor):
        """Its address, its device, and all else that the launches of a call depend on; None where it is not plain memory."""
        if tensor.is_neg() or tensor.is_conj():
            return None
        return tensor.data_ptr(), tensor.get_device(), (tensor.dtype, tensor.shape, tensor.stride())

    @staticmethod
    def view(tensor):
        if tensor.is_conj() or tensor.is_neg():
            tensor = tensor.resolve_conj().resolve_neg()
        return View(
            tensor.data_ptr(), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride(), tensor
        )

    @staticmethod
    def device(tensor):
        return tensor.device.index

    @staticmethod
    def stream(tensor, device):
        torch = sys.modules["torch"]
        quickly = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # what compilers of torch's ask
        return quickly(device) if quickly else torch.cuda.current_stream(device).cuda_stream

    @staticmethod
    def empty(shape, name, device, queue):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, name), device=f"cuda:{device}")

    @staticmethod
    def plain(tensor):
        """The tensor, detached from autograd."""
        return tensor.detach()

    @staticmethod
    def cast(tensor, name):
        return tensor.to(getattr(sys.modules["torch"], name))

    @staticmethod
    def read_only(tensor):
        return False


class CuPy:
    """CuPy arrays; work is queued on the current stream."""

    ordered = True

    @staticmethod
    def seen(array):
        return array.data.ptr, array.device.id, (array.dtype, array.shape, array.strides)

    @staticmethod
    def view(array):
        return View(array.data.ptr, array.dtype.name, array.shape, _in_elements(array), array)

    @staticmethod
    def device(array):
        return array.device.id

    @staticmethod
    def stream(array, device):
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(device):  # older versions take no device
            return cupy.cuda.get_current_stream().ptr

    @staticmethod
    def empty(shape, name, device, queue):
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(device):
            return cupy.empty(shape, _dtype(name))

    @staticmethod
    def plain(array):
        return array

    @staticmethod
    def cast(array, name):
        return array.astype(name, copy=False)

    @staticmethod
    def read_only(array):
        return False


class Jax:
    """JAX arrays, which are contiguous.  JAX's streams are not accessible, so calls wait for the arrays, and for the
    results."""

    ordered = False
    seen = None

    @staticmethod
    def view(array):
        array = array.block_until_ready()
        strides = packed_strides(array.shape)
        layout = getattr(getattr(array, "format", None), "layout", None)
        order = getattr(layout, "major_to_minor", None)  # the order of axes in memory
        if order is not None:
            packed = packed_strides([array.shape[i] for i in order])
            strides = tuple(packed[order.index(i)] for i in range(len(order)))
        return View(array.unsafe_buffer_pointer(), array.dtype.name, array.shape, strides, array)

    @staticmethod
    def device(array):
        devices = array.devices()
        if len(devices) > 1:
            raise _errors.sharded(array.shape, len(devices))
        return next(iter(devices)).local_hardware_id

    @staticmethod
    def stream(array, device):
        return 0

    @staticmethod
    def empty(shape, name, device, queue):
        jax = sys.modules["jax"]
        place = next(d for d in jax.local_devices() if d.platform == "gpu" and d.local_hardware_id == device)
        with jax.default_device(place):
            # nothing else refers to this buffer, and it is written before the caller gets it, so JAX's immutability is
            # not violated
            array = jax.numpy.empty(shape, name).block_until_ready()
        if array.dtype.name != name:
            raise _errors.narrow_jax(name)
        return array

    @staticmethod
    def read_only(array):
        return True

    @staticmethod
    def index_type():
        return "int64" if sys.modules["jax"].config.jax_enable_x64 else "int32"


class Numba:
    """Numba device arrays; also used for arrays of libraries that have no class here."""

    ordered = True

    @staticmethod
    def seen(array):
        from fastloss.backends.numba_cuda import _target

        if _target.SIMULATED:
            return None
        return _target.address(array), Numba.device(array), (array.dtype, array.shape, array.strides)

    @staticmethod
    def view(array):
        from fastloss.backends.numba_cuda import _target

        return View(_target.address(array), array.dtype.name, tuple(array.shape), _in_elements(array), array)

    @staticmethod
    def device(array):
        context = getattr(getattr(array, "gpu_data", None), "context", None)
        return context.device.id if context else 0

    @staticmethod
    def stream(array, device):
        stream = getattr(array, "stream", 0) or 0
        return getattr(stream, "handle", None) and int(stream.handle) or 0

    @staticmethod
    def empty(shape, name, device, queue):
        from fastloss.backends.numba_cuda import _launch
        from fastloss.backends.numba_cuda._compiler import cuda

        with _launch.on_device(device):
            return cuda.device_array(shape, _dtype(name), stream=queue.stream)

    @staticmethod
    def read_only(array):
        return False


class Other(Numba):
    """Anything else with DLPack or the CUDA array interface; results are Numba device arrays."""

    seen = None  # to look at it takes as long as all else

    @staticmethod
    def view(value):
        memory = _strided(value)
        strides = memory.strides or packed_strides(memory.shape)
        return View(memory.ptr, np.dtype(memory.dtype).name, tuple(memory.shape), tuple(strides), (value, memory))

    @staticmethod
    def device(value):
        return _strided(value).device_id

    @staticmethod
    def stream(value, device):
        interface = getattr(value, "__cuda_array_interface__", {})
        return interface.get("stream") or 0

    @staticmethod
    def read_only(value):
        return bool(_strided(value).readonly)


def _strided(value):
    from cuda.core.utils import StridedMemoryView

    # with DLPack the default stream, where our work is queued, waits for the producer's; the CUDA array interface names
    # a stream
    return StridedMemoryView.from_any_interface(value, stream_ptr=1 if hasattr(value, "__dlpack__") else -1)


def _in_elements(array):
    """The strides of an array, converted from bytes to elements."""
    size = array.dtype.itemsize
    if any(n > 1 and stride % size for n, stride in zip(array.shape, array.strides, strict=True)):
        raise _errors.odd_strides(array.strides, array.dtype)
    return tuple(stride // size for stride in array.strides)


def _dtype(name):
    return importlib.import_module("fastloss._optional").bfloat16() if name == "bfloat16" else np.dtype(name)


_LIBRARIES = {"torch": Torch, "cupy": CuPy, "jax": Jax, "jaxlib": Jax} | dict.fromkeys(
    ("numba", "numba_cuda", "numba_cuda_mlir"), Numba
)


def library_of(value):
    """The class above for the library that an array, or a base class of it, comes from."""
    for base in type(value).__mro__:
        found = _LIBRARIES.get(base.__module__.split(".")[0])
        if found:
            return found
    return Other


def viewed(value, name):
    """A device array as a `View`; raises if it does not hold real numbers."""
    view = library_of(value).view(value)
    if view.name not in FLOATS and view.name not in INTEGERS:
        raise _errors.not_numeric(name, view.name)
    if view.size and not view.aligned(
        view.itemsize
    ):  # a kernel that reads misaligned memory would destroy the CUDA context
        raise _errors.misaligned(name, view.itemsize)
    return view
