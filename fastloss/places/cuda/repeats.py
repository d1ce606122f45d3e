"""Calls that have been made before: their launches again, with the addresses of other arrays.

What a call does on a device is the same as for an earlier one whose arrays had the same types, shapes, strides and alignment: the
same allocations, and the same kernels with the same arguments but for the addresses among these.  So the first call of a kind is
recorded, and the others launch what it did, without all that has led there.  A call is not kept if it has taken a number from the
device to go on with (the weight that a gradient is divided by), or if its arrays share memory, where an address would not tell
which of them is meant.
"""

import threading

import numpy as np

from fastloss import _config
from fastloss.calls.kept import keep, types_of
from fastloss.places.cuda.arrays import library_of

# Below this, an argument is a size or a stride; no device has memory there.
LEAST_ADDRESS = 1 << 32

_kept = {}
_here = threading.local()

OPERAND, ALLOCATION, STATES = range(3)


def recording():
    """The recording of the call that this thread is in, if it has one."""
    return getattr(_here, "recording", None)


def repeated(planned, function, operands, options, want):
    """What `planned()` returns, by the launches of an earlier call if there was one of its kind."""
    found = _key_of(function, operands, options, want)
    if found is None:
        return planned()
    key, library, device, stream, addresses = found
    try:
        call = _kept.get(key)
    except TypeError:  # an option that can't be hashed
        return planned()
    if call is not None:
        result = call.again(library, device, stream, addresses)
        # where something is wrong, the long way says what
        return planned() if result is None else result
    outer = recording()
    if outer is not None:
        outer.spoil()  # a call within a call: whose launches would be whose?
    _here.recording = Recording()
    try:
        result = planned()
        call = _here.recording.call_for(result)
    finally:
        _here.recording = outer
    if call is not None:
        keep(_kept, key, options, call)
    return result


def _key_of(function, operands, options, want):
    """What a kept call goes by, the library, device and stream of its arrays, and their addresses; None for calls that are not kept."""
    library, facts, addresses, device = None, [], [], None
    for value in operands:
        if value is None:
            facts.append(None)
            addresses.append(None)
            continue
        its = library_of(value)
        if its.seen is None or library not in (None, its):
            return None
        seen = its.seen(value)
        if seen is None or device not in (None, seen[1]):
            return None
        address, device, fact = seen
        stream = its.stream(value, device)
        library = its
        facts += (fact, address % 16, stream)
        addresses.append(address)
    if library is None:
        return None
    key = (function, want, options, types_of(options), _config.wait.get(), library, device, *facts)
    return key, library, device, stream, addresses


class Recording:
    """What a call allocates, launches and looks at."""

    def __init__(self):
        self.session = None
        self.spots = []  # (first address, the one after the last, kind, which)
        self.arrays, self.allocations = [], []
        self.steps = []
        self.is_whole = True

    def spoil(self):
        """It can't be repeated."""
        self.is_whole = False

    def begin(self, session):
        if self.session is not None:
            self.spoil()
        self.session = session

    def operand(self, i, view):
        start, end = view._span() if view.size else (view.address, view.address)
        if start == end or any(start < its_end and its_start < end for its_start, its_end, *_ in self.spots):
            self.spoil()
        self.spots.append((start, end, OPERAND, i, view.address))

    def allocated(self, array, view, shape, name):
        # kept until the end, so that no other takes its place in memory
        self.arrays.append(array)
        if view.size:
            start, end = view._span()
            self.spots.append((start, end, ALLOCATION, len(self.allocations), view.address))
        self.allocations.append((tuple(shape), name))

    def states(self, address, n_bytes):
        self.spots.append((address, address + max(n_bytes, 1), STATES, n_bytes, address))

    def launched(self, ready, n_blocks, flat, n_threads, workspace):
        moved = []
        for position, value in enumerate(flat):
            if type(value) is not int or value < LEAST_ADDRESS or value == workspace:
                continue
            spot = next((spot for spot in self.spots if spot[0] <= value < spot[1]), None)
            if spot is None:
                self.spoil()
                return
            moved.append((position, spot[2], spot[3], value - spot[4]))
        self.steps.append((ready, n_blocks, n_threads, flat, moved))

    def checked(self, of_sum):
        """The host has looked for a bad position, and where `of_sum` holds whether the sum is NaN, to go on only if there is none."""
        self.steps.append(of_sum)

    def call_for(self, result):
        """The call that can be repeated, or None."""
        if not self.is_whole or self.session is None or not self.steps:
            return None
        try:
            recipe = self._recipe(result)
        except LookupError:
            return None
        return Call(self.allocations, self.steps, recipe)

    def _recipe(self, result):
        """How the result is made of the allocations: which one, or a tuple's type with that of each part."""
        if result is None:
            return None
        for i, array in enumerate(self.arrays):
            if array is result:
                return i
        if isinstance(result, tuple):
            return type(result), [self._recipe(part) for part in result]
        raise LookupError


class Call:
    """What was recorded, to be done again."""

    def __init__(self, allocations, steps, recipe):
        self.allocations, self.steps, self.recipe = allocations, steps, recipe

    def again(self, library, device, stream, addresses):
        """The result for operands at these addresses; None where a check finds something, which the long way then explains."""
        from fastloss.backends.numba_cuda import _launch

        queue = _launch.queue(device, stream)
        arrays = [library.empty(shape, name, device, queue) for shape, name in self.allocations]
        made = [library.seen(array)[0] for array in arrays]
        with _launch.on_device(device), queue.lock:
            for step in self.steps:
                if type(step) is bool:
                    total, _, _, bad = queue.totals()
                    if bad < np.inf or step and total != total:
                        return None
                    continue
                ready, n_blocks, n_threads, flat, moved = step
                flat = flat.copy()
                for position, kind, which, offset in moved:
                    if kind == OPERAND:
                        flat[position] = addresses[which] + offset
                    elif kind == ALLOCATION:
                        flat[position] = made[which] + offset
                    else:
                        flat[position] = queue.states(which) + offset
                ready.launch(n_blocks, n_threads, queue.handle, flat)
        return _built(self.recipe, arrays)


def _built(recipe, arrays):
    if type(recipe) is int:
        return arrays[recipe]
    if recipe is None:
        return None
    kind, parts = recipe
    made = [_built(part, arrays) for part in parts]
    return kind(*made) if hasattr(kind, "_fields") else tuple(made)
