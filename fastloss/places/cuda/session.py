"""The arrays of one call: their library, the stream the call runs on, and where its results go."""

import numpy as np

from fastloss import _arrays, _config, _errors
from fastloss.backends import load
from fastloss.calls.resolve import INTEGERS, Signature
from fastloss.calls.resolve import signature as _signature
from fastloss.places import on_device
from fastloss.places.cuda import repeats
from fastloss.places.cuda.arrays import Numba, View, library_of, packed_strides, viewed

_WEAK = (bool, int, float)
_NUMBERS = (*_WEAK, np.generic)


class Operands(tuple):
    """The operands of a call as views, numbers and None; with the original arguments and the session as attributes."""

    given: tuple
    session: "Session"


def as_arrays(function, operands):
    """(`Operands`, the positions of those that were Python numbers)."""
    named = {name: value for name, value in zip(function.operands, operands, strict=True) if name}
    session = Session(**named)
    found = Operands(session.array(value, name) for name, value in zip(function.operands, operands, strict=True))
    if session.recording:
        for i, view in enumerate(found):
            if isinstance(view, View):
                session.recording.operand(i, view)
    found.given, found.session = operands, session
    return found, tuple(i for i, value in enumerate(operands) if type(value) in _WEAK)


def signature(a, weak):
    return Signature(a.name, a.shape, weak) if isinstance(a, View) else _signature(np.asarray(a), weak)


class Session:
    """The arrays of one call, the stream it runs on, and the library of its results.

    Host arrays come here only if `use_backend("cuda")` sends them; they are copied, and results go back to the host.
    """

    def __init__(self, **arguments):
        reason = load("cuda").available()
        if reason:
            raise _errors.missing_backend("cuda", reason)
        from fastloss.backends.numba_cuda import _launch, details, pointwise, softmax

        self.kernels, self.softmax, self.details, self.on_device = pointwise, softmax, details, _launch.on_device
        given = {name: value for name, value in arguments.items() if value is not None}
        there = {name: value for name, value in given.items() if on_device(value)}
        here = {name: value for name, value in given.items() if name not in there and not is_number(value)}
        self.to_host = not there
        if there and here:
            raise _errors.mixed_devices([(name, "a CUDA device" if name in there else "the host") for name in given])
        if self.to_host:
            self.library, self.device = Numba, 0
            self.queue, self.others = _launch.queue(0, 0), []
        else:
            self.library = library_of(next(iter(there.values())))
            places = {name: library_of(value).device(value) for name, value in there.items()}
            self.device = places[next(iter(there))]
            if len(set(places.values())) > 1:
                raise _errors.mixed_devices([(name, f"CUDA device {place}") for name, place in places.items()])
            streams = [library_of(value).stream(value, self.device) for value in there.values()]
            self.queue = _launch.queue(self.device, streams[0])
            self.others = [_launch.queue(self.device, other) for other in sorted(set(streams[1:]) - {streams[0]})]
            for other in self.others:
                self.queue.wait_for(other)
        self.waits = _config.wait.get()
        self.recording = repeats.recording()
        if self.recording:
            self.recording.begin(self)
            if self.to_host or self.others:
                self.recording.spoil()
        self.kept = []  # temporary memory that kernels still read
        self.inputs = []  # views that kernels read

    # --- arrays in ----------------------------------------------------------------------------------------------------

    def array(self, value, name):
        """An argument as a `View`; numbers and None are returned as they are."""
        if value is None or is_number(value) and not self.to_host:
            return value
        if not self.to_host:
            view = viewed(value, name)
            self.inputs.append(view)
            return view
        a = _arrays.asarray(value, name)
        if a.dtype.kind not in "biuf" and not _arrays.is_bfloat16(a.dtype):
            raise _errors.not_numeric(name, a.dtype)
        a = np.ascontiguousarray(a, a.dtype.newbyteorder("=")).reshape(a.shape)
        if a.dtype.itemsize > 8:
            a = a.astype(np.float64)
        memory = self.uploaded(a)
        from fastloss.backends.numba_cuda import _target

        return View(_target.address(memory), a.dtype.name, a.shape, packed_strides(a.shape), memory)

    def uploaded(self, array):
        """A C-contiguous array of the host on the device, until the call ends."""
        self.spoil()
        with self.on_device(self.device):
            memory = self.queue.upload(array)
        self.kept.append(memory)
        return memory

    def spoil(self):
        """The call can't be repeated by its launches alone."""
        if self.recording:
            self.recording.spoil()

    def fitting(self, view, shape):
        """The view reshaped, copied if necessary."""
        found = view.reshaped(shape)
        if found is None:
            found = self.packed(view).reshaped(shape)
        return found

    def packed(self, view):
        """A contiguous copy of the same dtype."""
        copy = viewed(self.new(view.shape, view.name, scratch=True), "copy")
        if view.size:
            arguments = (view.address, view.size, view.shape or (1,), view.strides or (0,), copy.address)
            self.launch(self.kernels.mover(view.itemsize), view.size, arguments)
        return copy

    def converted(self, view, name):
        """A contiguous copy in the floating dtype of this name."""
        if view.name == name and view.contiguous:
            return view
        copy = viewed(self.new(view.shape, name, scratch=True), "copy")
        packed = view if view.contiguous else self.packed(view)
        self._convert(packed, copy)
        return copy

    def label(self, view, position):
        """One element of an integer array, as an int."""
        copy = Numba.empty((1,), view.name, self.device, self.queue)
        arguments = (view.element(position).address, 1, (1,), (1,), Numba.view(copy).address)
        self.launch(self.kernels.mover(view.itemsize), 1, arguments)
        return int(self.copied_to_host(copy)[0])

    # --- arrays out ---------------------------------------------------------------------------------------------------

    def index_type(self):
        """The dtype of results that are class indices: int64, or the library's substitute."""
        return self.library.index_type() if hasattr(self.library, "index_type") else "int64"

    def new(self, shape, name, scratch=False):
        array = self.library.empty(tuple(shape), name, self.device, self.queue)
        if self.recording:
            self.recording.allocated(array, viewed(array, "new"), shape, name)
        if scratch:
            self.kept.append(array)
        return array

    def destination(self, out, shape, name):
        """(array to write a result to, its view): `out` itself if a kernel can write to it."""
        shape = tuple(shape)
        if out is not None:
            self.check_out(out, shape)
        if out is not None and not self.to_host:
            view = viewed(out, "out")
            apart = all(view.same_elements(v) or not view.overlaps(v) for v in self.inputs)
            if view.name == name and view.contiguous and apart:
                return out, view
        array = self.new(shape, name)
        return array, viewed(array, "out")

    def check_out(self, out, shape):
        if self.to_host:
            _arrays.check_out(out, shape)
        elif not on_device(out):
            raise _errors.mixed_devices([("out", "the host"), ("the others", "a CUDA device")])
        else:
            view = viewed(out, "out")
            if view.shape != tuple(shape) or view.name in INTEGERS:
                raise _errors.bad_device_out(shape, "floating", f"shape {view.shape} and dtype {view.name}")
            if library_of(out).read_only(out):
                raise _errors.read_only_out()

    def array_result(self, array, out=None):
        """The array that the caller gets for an array result."""
        if self.to_host:
            host = self.copied_to_host(array)
            return _arrays.stored(host if out is None else host.reshape(out.shape), out)
        if out is not None and out is not array:
            self.copy_into(array, out)
            array = out
        for other in self.others:  # their streams must not reuse the arrays' memory before our kernels have read it
            other.wait_for(self.queue)
        if not self.library.ordered:
            self.queue.synchronize()
        return array

    def copied_to_host(self, array):
        self.spoil()
        if not array.size:
            return np.empty(array.shape, array.dtype)
        with self.on_device(self.device):
            host = array.copy_to_host(stream=self.queue.stream)
            self.queue.synchronize()
        return host

    def copy_into(self, array, out):
        """Copy a result to the caller's `out` of another dtype or layout."""
        self._convert(viewed(array, "out"), viewed(out, "out"))

    def _convert(self, source, target):
        """Copy contiguous memory to memory with any strides and another dtype."""
        if source.size:
            kernel = self.kernels.converter(source.name, target.name)
            arguments = (source.address, source.size, source.shape or (1,), target.strides or (0,), target.address)
            self.launch(kernel, source.size, arguments)

    def rounded(self, array, name):
        """A contiguous result in the floating dtype of this name."""
        if viewed(array, "out").name == name:
            return array
        result = self.new(array.shape, name)
        self.copy_into(array, result)
        return result

    def clear(self, array):
        """Set all elements of a contiguous floating array to 0."""
        view = viewed(array, "out")
        self.launch(self.kernels.zeroes(view.name), view.size, (view.size, view.address))

    # --- running ------------------------------------------------------------------------------------------------------

    def launch(self, kernel, n_items, arguments, n_threads=None):
        """Launch a kernel with about one thread per item, in blocks of n_threads, if these are not too many."""
        n_threads = n_threads or self.kernels.THREADS
        self.launch_blocks(kernel, min(-(-n_items // n_threads), self.kernels.BLOCKS), n_threads, arguments)

    def launch_blocks(self, kernel, n_blocks, n_threads, arguments):
        with self.on_device(self.device):
            launched = self.queue.launch(kernel, n_blocks, n_threads, arguments)
        if self.recording:
            self.recording.launched(*launched, n_threads, self.queue.workspace)

    def states(self, n_bytes):
        with self.on_device(self.device):
            address = self.queue.states(n_bytes)
        if self.recording:
            self.recording.states(address, n_bytes)
        return address

    def totals(self):
        """The sums of the last launch: summed loss, weight, count, first bad position."""
        self.spoil()
        with self.on_device(self.device):
            return self.queue.totals()

    def first_bad(self, of_sum=False):
        """The first bad position of the last launch, inf if there is none; with `of_sum`, NaN if none is bad but the sum is NaN."""
        if self.recording:
            self.recording.checked(of_sum)
        with self.on_device(self.device):
            total, _, _, bad = self.queue.totals()
        return total if of_sum and bad == np.inf and total != total else bad

    def scalar(self, array, out=None):
        """The scalar that the caller gets for a reduced result."""
        if self.to_host and out is None:
            return self.copied_to_host(array).reshape(-1)[0]
        return self.array_result(array, out)


def is_number(value):
    return isinstance(value, _NUMBERS)
