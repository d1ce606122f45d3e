"""How kernels are compiled and kept: templates with holes, filled with a loss's scalars, cached on disk."""

import contextlib
import functools
import os
from pathlib import Path

import numba
from numba import types
from numba.core import ir, sigutils
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import register_jitable

from fastloss import _branchless, _dialect, _templates, _threads, _tiles, scalars
from fastloss.backends.numba_cpu._passes import KERNEL, PART

# What LLVM may assume in the loops around the scalars: sums in any order (fixed per machine), contraction to fma, no
# signed zeros.  Never `nnan` or `ninf`, which would delete the handling of special values.
LOOP_FLAGS = {"contract", "reassoc", "nsz"}
# Without `reassoc`: what formulas are compiled with, so that no cancellation is "simplified" into being.
SCALAR_FLAGS = {"contract"}

_HERE = Path(__file__).parent
_SOURCES = (
    Path(scalars.__file__),
    Path(_branchless.__file__),
    Path(_dialect.__file__),
    Path(_tiles.__file__),
    _HERE.parent / "__init__.py",
    *sorted(_HERE.glob("*.py")),
)


@functools.cache
def fingerprint() -> str:
    """Digest of all source files that kernels are made from."""
    return _templates.fingerprint(_SOURCES)


class _ForgivingCache(_templates.Forgiving, FunctionCache):
    pass


def _filled(template, name, holes):
    return _templates.filled(template, f"{name}_{fingerprint()}", holes)


def called(template, purpose="", **holes):
    """`template` with its holes filled, as a function that kernels call; `purpose` makes its name unique."""
    name = f"{template.__name__}_{purpose}"
    return register_jitable(fastmath=LOOP_FLAGS, error_model="numpy", **PART)(_filled(template, name, holes))


def inlined(function, flags=LOOP_FLAGS):
    """`function` for use inside loops: always inlined, because otherwise the loop would not vectorise."""
    return register_jitable(fastmath=flags, error_model="numpy", forceinline=True, **PART)(function)


def exactly(function):
    """`function` inlined, with its operations kept in the order in which they are written."""
    return inlined(function, flags=SCALAR_FLAGS)


def chain(pieces, purpose, **holes):
    """Compile `pieces` one after the other; each is visible to the later ones, under its name without the
    underscore."""
    for piece in pieces:
        holes[piece.__name__[1:]] = called(piece, purpose, **holes)
    return holes


def across(i, array):
    """Kernels across rows, which take any strides but those of vectors of weights."""
    return array.ndim > 1


def along(i, array):
    """Kernels along rows, which take any strides of what has one element per row."""
    return array.ndim == 2


def specialise(template, name, allocates=False, takes_strides=lambda i, array: False, **holes):
    """Compile `template` with its holes filled, as a kernel called `name`.

    allocates : whether the kernel makes arrays on the heap.
    takes_strides : which arguments (position, Numba type) are indexed by their strides alone, so that the code for strided arrays
        serves contiguous ones as well.
    """
    copy = _filled(template, name, holes)
    kernel = numba.njit(copy, nogil=True, fastmath=LOOP_FLAGS, error_model="numpy", _nrt=allocates, **KERNEL)
    try:
        kernel._cache = _ForgivingCache(copy)
    except (RuntimeError, OSError):  # no writeable cache: every process compiles for itself
        pass
    kernel.compile = functools.partial(_compile_once, kernel, kernel.compile, takes_strides, set())
    # what the dispatcher calls for arguments of types that it has no code for
    kernel._compile_for_args = functools.partial(_compile_undisturbed, kernel._compile_for_args)
    return kernel


def _compile_undisturbed(compile_for_args, *args):
    return undisturbed(functools.partial(compile_for_args, *args))


def undisturbed(work):
    """What `work()` returns.  No signal handler interrupts it, because Numba may be of no more use after an exception in the middle;
    nor a fork, because a child would find half of it."""

    def alone():
        with global_compiler_lock:
            return work()

    # what is called while Numba compiles may compile something, too
    return work() if global_compiler_lock.is_locked() else _threads.undisturbed(alone)


def _compile_once(kernel, compile, takes_strides, served, signature):
    """Compile a kernel for arrays that may be written to, and of any strides where it takes them, and use the code for all others.

    served : the types that were given so far.  Threads that need the same code at once all come here, one after the other; if types
        had two entries, the dispatcher would find them ambiguous, and look for a better match in Python at every call.
    """
    given, _ = sigutils.normalize_signature(signature)
    general = tuple(
        a.copy(readonly=False, layout="A" if takes_strides(i, a) else a.layout) if isinstance(a, types.Array) else a
        for i, a in enumerate(given)
    )
    with _paths_if_nowhere():
        entry = compile(general)
    if general != given and given not in served:
        kernel._insert([a._code for a in given], entry, False)
        served.add(given)
    return entry


@contextlib.contextmanager
def _paths_if_nowhere():
    """Lets Numba compile where the working directory has been deleted, to which it would make the paths of sources relative."""
    try:
        os.getcwd()
    except FileNotFoundError:
        with global_compiler_lock:
            relative = ir.Loc._get_path
            ir.Loc._get_path = lambda location: location.filename
            try:
                yield
            finally:
                ir.Loc._get_path = relative
    else:
        yield


# A fork while another thread compiles would leave the child with a lock that nobody can release.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
