"""Runs a kernel's blocks on one thread or several.

The kernels of `fastloss_c` have their own threads, see its pool.h.  For all others this is a pool of Python threads,
which is enough because kernels release the GIL.  Unlike Numba's threading layers, both are safe to call from many
threads at once and after a fork, and need neither OpenMP nor TBB.  The calling thread does its share of the work.

Signal handlers run in the main thread, between any two bytecodes below, and may raise.  So no lock is held here that
such an exception could leave locked: threads take pieces of work from a deque, whose methods are atomic, and sleep at
gates, which any thread may open.  A call that is interrupted raises once the pieces that other threads had begun are
done.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# Nanoseconds of work from which a second thread is worth it, for kernels with their own threads ...
WORTHWHILE = 16_000

# ... and here, per additional thread: waking one costs the caller 12 us on a virtual machine, it runs 20 to 40 us
# later, and as much is lost again whenever one of them has to wait for the GIL.
WAKE_FROM = 150_000

# The least nanoseconds of work per piece.
PIECE = 20_000

# The nanoseconds of work per block from which the main thread leaves all blocks to others, and waits: it can stop waiting at once
# where a signal handler raises, but not compute half a block.  Backends without compiled kernels take many times as long.
SLOW = 500_000

# The most nanoseconds a piece should take, and what the first is assumed to take: signal handlers run between pieces.
LONG = 20_000_000
FIRST = 2_000_000

_FORKED = "forked in the middle of a call, whose other threads are missing in the child process"

_clock = time.perf_counter_ns


def run(
    call: Callable[[int, int], object],
    n_blocks: int,
    n_threads: int,
    work: int,
    share: Callable[..., object] | None = None,
    aside: bool = False,
) -> object:
    """Call ``call(first, last)`` for ranges that cover all blocks, about `work` ns of work, on up to n_threads.

    Returns what the call has returned if it was given all of them, otherwise None.

    Which thread computes which blocks, and how many at a time, is left to chance: results must not depend on it.

    share : what `backends.cython.share` returned, if `call` only calls one such kernel; otherwise None.
    aside : whether slow blocks may still be computed when this has raised what a signal handler did: if they only write to arrays
        that nobody else has.
    """
    if share is not None:
        share(n_threads, work, work >= FIRST and _thread.get_ident() == threading.main_thread().ident)
        try:
            return call(0, n_blocks)
        finally:
            share(0, 0, False)  # in case the call never reached its kernel, which would have reset this
    limit = max(1, n_blocks * FIRST // work)
    n_helpers = min(n_threads - 1, n_blocks - 1, work // WAKE_FROM)
    if aside and work >= SLOW * n_blocks and _thread.get_ident() == threading.main_thread().ident:
        _run_aside(call, n_blocks, max(1, min(n_threads, n_blocks)), work)
    elif n_helpers > 0:
        _run_with_helpers(call, n_blocks, n_helpers, work, limit)
    elif limit < n_blocks:
        Job(call, ((0, n_blocks), None), limit).work()
    else:
        return call(0, n_blocks)
    return None


def _run_with_helpers(call, n_blocks, n_helpers, work, limit):
    job = Job(call, _pieces(n_blocks, n_helpers + 1, work), limit)
    # A signal handler may raise at any moment, even while an earlier exception is being handled: each of these levels
    # survives one that is not raised inside the loop in `end`.
    try:
        try:
            try:
                _enlist(job, n_helpers)
                job.work()
                job.wait()
            finally:
                job.end()
        finally:
            job.end()
    finally:
        job.end()
    if job.error is not None:
        raise job.error
    if job.process is not _process and job.busy:
        raise RuntimeError(_FORKED)


def _run_aside(call, n_blocks, n_helpers, work):
    """All blocks on other threads; what a signal handler raises meanwhile is raised at once, and blocks that have begun are finished
    for nothing."""
    n_done = []

    def counted(first, last):
        call(first, last)
        n_done.append(last - first)

    job = Job(counted, _pieces(n_blocks, n_helpers, work), 1)
    try:
        if not _enlist(job, n_helpers, new=True):  # there are no other threads
            job.work()
        while sum(n_done) < n_blocks and job.error is None and job.process is _process:
            job.gate.wait(1.0)
    except BaseException:
        job.stopped = True
        raise
    if job.error is not None:
        raise job.error
    if job.process is not _process and sum(n_done) < n_blocks:
        raise RuntimeError(_FORKED)


def undisturbed(function: Callable[[], Any]) -> Any:
    """What the function returns, computed where no signal handler runs: on a thread of its own, if this is the main one.

    For what an exception in the middle would break for good.  What a handler raises meanwhile is raised at once, while the
    function goes on to its end.  A child that a handler has forked calls it again.
    """
    if _closing or _thread.get_ident() != threading.main_thread().ident:
        return function()
    process, gate, ended, unfinished = _process, Gate(), [], _unfinished

    def work():
        unfinished.append(gate)
        try:
            if not _closing:  # in which case nobody waits
                ended.append((function(), None))
        except BaseException as error:
            ended.append((None, error))
        finally:
            gate.open()
            unfinished.remove(gate)

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as error:  # there are no more threads
        if not _raised_here(error):
            raise
        return function()
    while not ended and process is _process:
        gate.wait(1.0)  # with a timeout: in a forked child nobody will open it
    if not ended:
        return undisturbed(function)
    result, error = ended[0]
    if error is not None:
        raise error
    return result


@atexit.register
def _close():
    """Wait for what `undisturbed` has begun: a compiler that still runs when its library is taken down may crash."""
    global _closing
    _closing = True
    while _unfinished:
        time.sleep(0.01)


def _pieces(n_blocks, n_threads, work):
    """(first, last) of a job's pieces: large ones first, so that there are few; small ones last, so that all threads
    finish together."""
    least = -(-n_blocks * PIECE // work)
    first = 0
    while first < n_blocks:
        last = min(first + max(least, (n_blocks - first) // (2 * n_threads)), n_blocks)
        yield first, last
        first = last
    yield from (None,) * n_threads


def _enlist(job, n_helpers, new=False):
    """Give the job to n_helpers, idle ones first, then new ones; returns how many have it.

    new : whether as many new ones may be started, however many are busy.
    """
    pool = _pool
    n = 0
    try:
        for _ in range(n_helpers):
            helper = pool.take()
            if helper is not None:
                helper.job = job
                helper.gate.open()
            elif len(pool.helpers) >= n_helpers and not new or not pool.start(job):
                break
            n += 1
    except BaseException:
        # a helper removed from the idle ones, but not given the job, would never become idle again
        _replace(pool)
        raise
    return n


class Job:
    """One call that several threads work on.

    pieces : (first, last) of the blocks that no thread has taken yet, followed by one None per thread that may take
        part.
    limit : how many blocks are computed at a time, initially.
    """

    __slots__ = ("busy", "call", "error", "gate", "limit", "finished", "pieces", "process", "stopped")

    def __init__(self, call, pieces, limit):
        self.call, self.pieces, self.limit = call, deque(pieces), limit
        self.busy = []  # one entry per helper that has begun and not finished
        self.gate = Gate()  # opened by each helper when it finishes
        self.error = None  # raised in a helper
        self.stopped = self.finished = False
        self.process = _process

    def work(self):
        """Compute pieces until none are left."""
        pieces, call, limit = self.pieces, self.call, self.limit
        while not self.stopped and (piece := pieces.popleft()):
            first, last = piece
            end = min(first + limit, last)
            if end < last:
                pieces.appendleft((end, last))
            start = _clock()
            call(first, end)
            limit = max(1, min(2 * limit, (end - first) * LONG // max(_clock() - start, 1)))

    def wait(self):
        """Wait for the helpers that have begun."""
        while self.busy and self.process is _process:
            self.gate.wait(1.0)  # with a timeout: in a child that a signal handler has forked, nobody will open it
        self.call = None  # a helper that starts too late must not keep the caller's arrays alive
        self.finished = True

    def end(self):
        """Stop the helpers and wait for them, whatever is raised meanwhile; then raise that."""
        if self.finished:
            return
        self.stopped = True
        interruption = None
        while not self.finished:
            try:
                self.wait()
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption


class Gate:
    """One thread waits at it until another opens it.  It may be opened before anyone waits; opening it twice counts
    once."""

    def __init__(self):
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def open(self):
        try:
            self._lock.release()
        except RuntimeError as error:  # it is open already
            if not _raised_here(error):
                raise

    def wait(self, seconds=-1):
        self._lock.acquire(timeout=seconds)


class Pool:
    """Threads that wait for jobs."""

    def __init__(self):
        self.helpers = []
        self.idle = deque()  # helpers without a job, the most recently busy one last
        self.closed = False

    def take(self):
        """An idle helper, or None."""
        try:
            return self.idle.pop()
        except IndexError as error:
            if not _raised_here(error):
                raise
            return None

    def start(self, job):
        """Start another thread with this job; False if the system, or an interpreter that is shutting down, can't."""
        helper = Helper(self, job)
        self.helpers.append(helper)
        try:
            _thread.start_new_thread(helper.serve, ())
        except RuntimeError as error:
            if not _raised_here(error):
                raise
            self.helpers.remove(helper)
            return False
        return True

    def close(self):
        """Let each thread end once it has finished its job."""
        self.closed = True
        for helper in self.helpers:
            helper.gate.open()


class Helper:
    """A thread of the pool: the gate it waits at, and the job it finds when the gate opens."""

    def __init__(self, pool, job):
        self.pool, self.job, self.gate = pool, job, Gate()

    def serve(self):
        pool, gate = self.pool, self.gate
        while not pool.closed:
            job, self.job = self.job, None
            if job is not None:
                job.busy.append(None)  # before anything else: the caller does not wait for helpers that have not begun
                try:
                    job.work()
                except BaseException as error:
                    job.error, job.stopped = error, True
                pool.idle.append(self)
                done = job.gate
                job.busy.pop()
                done.open()
                del job  # and with it the references to the caller's arrays
            gate.wait()


def _raised_here(error):
    """Whether the call in the `try` block raised it, rather than a signal handler that ran meanwhile."""
    return error.__traceback__.tb_next is None


_pool = Pool()
_process = object()
_unfinished = []  # what `undisturbed` has begun
_closing = False


def _replace(pool):
    global _pool
    if _pool is pool:
        _pool = Pool()
    pool.close()


def _forget():
    """Replace the pool in a forked child, where its threads do not exist."""
    global _pool, _process, _unfinished
    _pool, _process, _unfinished = Pool(), object(), []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
