"""Calls from many threads at once, for the processes that test_threads_fork.py starts."""

import os
import threading
import time

from cases import STAND_INS, generator

import fastloss

SECONDS = float(os.environ.get("FASTLOSS_TEST_SECONDS", "0.5"))


def jobs():
    """Functions without arguments that compute values and gradients of a few losses, on arrays for one thread and for
    several, in three blocks at least.

    Only a few, because every process that calls a loss has to load its kernels.
    """
    import numpy as np

    result = []
    for case in STAND_INS:
        function = getattr(fastloss, case.loss)
        for shape in [(7, 11), (70_000, 11)]:
            arguments = case.cast(case.arguments(generator(case), shape), np.float32)
            result.append(lambda f=function, a=arguments: f(*a).tobytes())
            both = fastloss.value_and_grad(function)
            result.append(lambda f=both, a=arguments: b"".join(part.tobytes() for part in f(*a)))
    return result


def call_from_threads(work, expected, n_threads=8, seconds=SECONDS):
    """Each thread repeats all the work, each starting at a different place, until the time is up."""
    start = threading.Barrier(n_threads)
    counts, wrong = [0] * n_threads, []

    def loop(number):
        start.wait()
        end = time.monotonic() + seconds
        i = number * len(work) // n_threads
        while time.monotonic() < end and not wrong:
            i = (i + 1) % len(work)
            try:
                if work[i]() != expected[i]:
                    wrong.append((number, i, "another result"))
            except BaseException as error:
                wrong.append((number, i, repr(error)))
            counts[number] += 1

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert min(counts) > 0, counts


def in_child(work):
    """The result of `work` in a forked child, which is killed after two minutes."""
    import signal
    import traceback

    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(120)  # kills a child that hangs
            os.close(readable)
            with os.fdopen(writable, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}"
    return result
