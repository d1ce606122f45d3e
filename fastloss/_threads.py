"""Running a kernel's blocks, on one thread or several.

Kernels of `fastloss_c` have threads of their own, see its pool.h.  For all others there is a pool of Python threads here, which is all
it takes, as kernels release the GIL.  Unlike the threading layers of Numba both are safe to call from many threads at once, after a
fork, and where neither OpenMP nor TBB is installed.  The calling thread takes part.

Signal handlers run in the main thread, between any two steps of what follows, and may raise.  So no lock is held here that such an
exception could leave locked: threads take pieces of work from a deque, whose methods are atomic, and sleep at gates, which any thread
may open.  A call that is interrupted raises once the pieces that other threads had begun are done.
"""

import _thread
import os
import threading
import time
from collections import deque

# Nanoseconds of work from which more than one thread can pay, where kernels have threads of their own ...
WORTHWHILE = 30_000

# ... and here, for each further thread: waking one takes 12 us of the caller's time on a virtual machine, 20 to 40 until it runs, and
# as much again whenever one of them finds the GIL taken.
WAKE_FROM = 150_000

# Nanoseconds of work in a piece, at least.
PIECE = 20_000

# Nanoseconds a piece should take at most, and what the first one is thought to take: signal handlers run between pieces.
LONG = 20_000_000
FIRST = 2_000_000

_clock = time.perf_counter_ns


def run(call, n_blocks, n_threads, work, share=None):
    """call(first, last) over all blocks, which are about `work` ns of work, on up to n_threads.

    Which thread takes which blocks, and how many at a time, is left to chance: results must not depend on it.

    share : as `backends.cython.share` returns it, where `call` does no more than call one such kernel; otherwise None.
    """
    if share is not None:
        share(n_threads, work, work >= FIRST and _thread.get_ident() == threading.main_thread().ident)
        try:
            call(0, n_blocks)
        finally:
            share(0, 0, False)  # a call that did not get as far as its kernel leaves nothing behind
        return
    limit = max(1, n_blocks * FIRST // work)
    n_helpers = min(n_threads - 1, n_blocks - 1, work // WAKE_FROM)
    if n_helpers > 0:
        _run_with_helpers(call, n_blocks, n_helpers, work, limit)
    elif limit < n_blocks:
        Job(call, ((0, n_blocks), None), limit).work()
    else:
        call(0, n_blocks)


def _run_with_helpers(call, n_blocks, n_helpers, work, limit):
    job = Job(call, _pieces(n_blocks, n_helpers + 1, work), limit)
    # A signal handler's exception may come at any moment, also while another one is dealt with: each of these stands up to one that
    # does not come within the loop in `end`.
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
        raise RuntimeError("forked in the middle of a call, whose other threads are missing in the child process")


def _pieces(n_blocks, n_threads, work):
    """What a job is divided into: large pieces first, so that few will do, small ones last, so that all threads end together."""
    least = -(-n_blocks * PIECE // work)
    first = 0
    while first < n_blocks:
        last = min(first + max(least, (n_blocks - first) // (2 * n_threads)), n_blocks)
        yield first, last
        first = last
    yield from (None,) * n_threads


def _enlist(job, n_helpers):
    """Give the job to helpers that are idle, and to new ones while there are not so many."""
    pool = _pool
    try:
        for _ in range(n_helpers):
            helper = pool.take()
            if helper is not None:
                helper.job = job
                helper.gate.open()
            elif len(pool.helpers) >= n_helpers or not pool.start(job):
                break
    except BaseException:
        _replace(pool)  # a helper that was taken, and not given the job, would never be idle again
        raise


class Job:
    """One call, which several threads work on.

    pieces : (first, last) blocks that nobody has taken, and after them a None for each thread that may take part.
    limit : blocks that are computed at a time, to begin with.
    """

    __slots__ = ("busy", "call", "error", "gate", "limit", "over", "pieces", "process", "stopped")

    def __init__(self, call, pieces, limit):
        self.call, self.pieces, self.limit = call, deque(pieces), limit
        self.busy = []  # an entry for each helper that has begun and is not done
        self.gate = Gate()  # opened by each helper that is done
        self.error = None  # of a helper
        self.stopped = self.over = False
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
            self.gate.wait(1.0)  # not for ever: in a child that a signal handler forked nobody will open it
        self.call = None  # a helper that comes too late must not hold on to the caller's arrays
        self.over = True

    def end(self):
        """Have the helpers stop and wait for them, whatever happens meanwhile; what did is raised then."""
        if self.over:
            return
        self.stopped = True
        interruption = None
        while not self.over:
            try:
                self.wait()
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption


class Gate:
    """A thread waits at it until another opens it.  Opening it before anybody waits counts; opening it twice counts once."""

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
        self.idle = deque()  # helpers without a job, the one that was busy last at the end
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
        """Start another thread, with this job; False where the system, or an interpreter that is shutting down, has none to give."""
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
        """Let the threads end, each after what it was given to do."""
        self.closed = True
        for helper in self.helpers:
            helper.gate.open()


class Helper:
    """A thread of the pool: the gate at which it waits, and the job that it finds when that opens."""

    def __init__(self, pool, job):
        self.pool, self.job, self.gate = pool, job, Gate()

    def serve(self):
        pool, gate = self.pool, self.gate
        while not pool.closed:
            job, self.job = self.job, None
            if job is not None:
                job.busy.append(None)  # before anything else: the caller does not wait for those that have not begun
                try:
                    job.work()
                except BaseException as error:
                    job.error, job.stopped = error, True
                pool.idle.append(self)
                done = job.gate
                job.busy.pop()
                done.open()
                del job  # and with it the caller's arrays
            gate.wait()


def _raised_here(error):
    """Whether the call in the `try` raised it, rather than a signal handler that ran meanwhile."""
    return error.__traceback__.tb_next is None


_pool = Pool()
_process = object()


def _replace(pool):
    global _pool
    if _pool is pool:
        _pool = Pool()
    pool.close()


def _forget():
    """In a forked child: the threads of the pool are not there."""
    global _pool, _process
    _pool, _process = Pool(), object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
