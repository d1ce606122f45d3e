"""Running a kernel's blocks, on one thread or several.

The kernels release the GIL, so a pool of Python threads is all it takes.  Unlike the threading layers of Numba it is safe to
call from many threads at once, after a fork, and where neither OpenMP nor TBB is installed.  The calling thread takes part.
"""

import itertools
import os
import threading

# Pieces a thread: few enough to cost nothing, enough that a thread that was held up is helped out by the others.
PIECES = 4

_lock = threading.Lock()
_pool = None
_pool_size = 0


def _forget():
    """In a forked child: the pool's threads are not there, and the lock may be held by one of them."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _submit(function, n_helpers):
    """Start `function` on that many pool threads; fewer, or none, where there are no more to be had."""
    global _pool, _pool_size
    futures = []
    try:
        with _lock:
            if _pool_size < n_helpers:
                from concurrent.futures import ThreadPoolExecutor  # brings `logging` along

                # an old, smaller pool finishes what it was given and goes when nobody holds it
                _pool = ThreadPoolExecutor(n_helpers, thread_name_prefix="fastloss")
                _pool_size = n_helpers
            for _ in range(n_helpers):
                futures.append(_pool.submit(function))
    except RuntimeError:  # no new threads: the interpreter is shutting down, or the system's limit is reached
        pass
    return futures


def run(call, n_blocks, n_threads):
    """call(first, last) over all blocks; which thread takes which blocks is left to chance, results must not depend on it."""
    if n_threads <= 1 or n_blocks <= 1:
        call(0, n_blocks)
        return
    n_threads = min(n_threads, n_blocks)
    n_pieces = min(n_blocks, n_threads * PIECES)
    bounds = [n_blocks * i // n_pieces for i in range(n_pieces + 1)]
    ticket = itertools.count()  # next() on it is atomic

    def work():
        while (i := next(ticket)) < n_pieces:
            call(bounds[i], bounds[i + 1])

    futures = _submit(work, n_threads - 1)
    try:
        work()
    finally:
        # Helpers that have not started find no pieces left; those that have must be waited for, whatever happened here.
        for future in futures:
            if not future.cancel():
                future.result()
