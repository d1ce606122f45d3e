"""The one place that picks the backend, the size of blocks and the number of threads."""

import functools
import warnings

from fastloss import _config, _errors, _threads
from fastloss.backends import load

# Elements a block of a reduction has at least, and blocks it has at most.  Both depend on the shape alone, so that the
# order of every sum does.
BLOCK = 1 << 15
MAX_BLOCKS = 4096

# Classes from which a row by itself fills the registers; fewer are computed across rows.
ROWWISE_FROM = 128

# By measurement: compiled ahead is as fast as compiled on the spot, and answers at once.
AUTO_ORDER = ("cython", "numba", "numpy")


def backend():
    """The backend for arrays on the host, by the settings in force."""
    name = _config.backend.get()
    if name != "auto":
        module = load(name)
        reason = module.available()
        if reason:
            raise _errors.missing_backend(name, reason)
        return module
    return load(automatic())


def backend_for(formula):
    """The backend for a pointwise formula: texts that scalars.py does not have are for those that compile, or interpret, on the spot."""
    found = backend()
    return load(automatic(AUTO_ORDER[1:])) if formula.text is not None and found is load("cython") else found


@functools.cache
def automatic(order=AUTO_ORDER):
    """The name of the backend that "auto" stands for in this process: the same for every call, so that results are."""
    reasons = {}
    for candidate in order:
        reasons[candidate] = load(candidate).available()
        if reasons[candidate] is None:
            break
    if candidate == "numpy":
        warnings.warn(_errors.slow_backend(reasons), RuntimeWarning, stacklevel=2)
    return candidate


def block_size(n_units, unit_elements, multiple=1):
    """Units a block, and the number of blocks, for a reduction over n_units of unit_elements each."""
    least = max(1, BLOCK // max(unit_elements, 1), -(-n_units // MAX_BLOCKS))
    block = -(-least // multiple) * multiple
    return block, -(-n_units // block)


def lane_blocks(n, inner):
    """Positions a block along a reduced axis of n, and the number of blocks, where each block has `inner` sums."""
    most = max(1, MAX_BLOCKS * 16 // inner)  # keeps the partial sums within about a MiB
    block = max(1, BLOCK // inner, -(-n // most))
    return block, -(-n // block)


def is_short(n_elements, ns):
    """Whether so many elements of `ns` nanoseconds are too little work for more than one thread."""
    return int(n_elements * ns) < _threads.WORTHWHILE


def run(call, n_blocks, n_elements, ns, *, kernel=True):
    """call(first, last) over all blocks, on as many threads as pay for so many elements.

    ns : nanoseconds an element takes on one CPU, see `_costs`.
    kernel : whether `call` does no more than call a kernel of the backend in force, once.
    """
    if is_short(n_elements, ns):
        call(0, n_blocks)
        return
    work = int(n_elements * ns)
    share = getattr(backend(), "share", None) if kernel else None
    _threads.run(call, n_blocks, _config.threads.get(), work, share and share())
