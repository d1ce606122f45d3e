"""Sends signals at inconvenient moments, in processes that test_interrupts.py starts."""

import os
import random
import signal
import sys
import threading
import time

import numpy as np

import fastloss
from fastloss import _threads

# Imported before any signal comes: of an exception in the middle of a class, Python 3.11 makes a RuntimeError.
fastloss.functional  # noqa: B018


class Interruption(Exception):
    """What the handler of SIGALRM raises."""


class TooFast(Exception):
    """The call ended before the signal came."""


def raise_interruption(*_):
    raise Interruption


def storm(n_signals, calls, longest=4e-3):
    """Interrupt the calls, one after the other and at random moments, until that many exceptions have been raised.

    calls : functions that return whether all is right with a call that was not interrupted.
    """
    signal.signal(signal.SIGALRM, raise_interruption)
    chance, n_raised, i = random.Random(1), 0, 0
    while n_raised < n_signals:
        i += 1
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, longest))
                assert calls[i % len(calls)]()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interruption:
            n_raised += 1
            yield


def logits_and_labels(n_rows=4000):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_rows, 1000)).astype(np.float32), rng.integers(0, 1000, n_rows)


def endless(n_rows=10_000_000):
    """Logits and labels that take little memory, and seconds to compute with."""
    rows = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    return np.broadcast_to(rows, (n_rows, 1000)), np.broadcast_to(np.int64(3), (n_rows,))


def seconds_to_stop(call, after=0.2):
    """The time from a signal to the exception from a call that would take seconds."""
    signalled = []

    def handler(*_):
        signalled.append(None)
        raise Interruption

    signal.signal(signal.SIGALRM, handler)
    start = time.perf_counter()
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, after)
            call()
        finally:  # a timer left behind would end the process while the interpreter shuts down
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interruption:
        return time.perf_counter() - start - after
    raise TooFast


def soon(stop):
    """Assert that `stop()`, a number of seconds, is small: once in ten times, as the machine may have had something else to do."""
    times = []
    for _ in range(10):
        times.append(stop())
        if times[-1] < 0.2:
            return
    raise AssertionError(times)


def stops_soon(call, after=0.2, fast=()):
    """Assert that a signal stops a call soon; `fast` are exceptions that say that there was nothing to stop."""

    def stop():
        try:
            return seconds_to_stop(call, after)
        except fast:
            return 0.0

    soon(stop)


class Injector:
    """Raises in this thread between the bytecodes of `_threads`, before those with the given numbers."""

    def __init__(self, kind, numbers):
        self.kind, self.numbers, self.n = kind, list(numbers), 0

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename != _threads.__file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def step(self, frame, event, argument):
        if event == "opcode":
            self.n += 1
            if self.numbers and self.n == self.numbers[0]:
                del self.numbers[0]
                raise self.kind
        return self.step


def run_injected(kind, *numbers):
    """Run four blocks on two threads; returns (number of bytecodes executed, what was raised, finished blocks, threads
    still running)."""
    computing, done = [], []
    caller = threading.get_ident()

    def call(first, last):
        computing.append(None)
        time.sleep(0.0001 if threading.get_ident() == caller else 0.0003)
        done.extend(range(first, last))
        computing.pop()

    injector, raised = Injector(kind, numbers), None

    def traced():
        sys.settrace(injector)
        try:
            _threads.run(call, 4, 2, 1_000_000)
        finally:
            sys.settrace(None)

    try:
        traced()
    except kind as error:
        raised = error
    return injector, raised, sorted(done), len(computing)


run = _threads.run


class Watcher:
    """Notes the functions of packages that this thread enters, but for those by which Numba finds the types of arguments: it does so
    before it looks for code, and an exception there leaves nothing behind."""

    def __init__(self, *packages):
        self.folders, self.seen = tuple(os.path.dirname(package.__file__) for package in packages), set()
        self.typing = False

    def __call__(self, frame, event, argument):
        if frame.f_code.co_name == "typeof_pyval":
            self.typing = event == "call"
        elif not self.typing and frame.f_code.co_filename.startswith(self.folders):
            self.seen.add(frame.f_code.co_name)


def own_loss():
    return fastloss.pointwise_loss("def own(x, y):\n    return (x - y) * (x - y)\n")


def use(backend, n_threads=2):
    fastloss.use_backend(backend)
    fastloss.use_threads(n_threads)
