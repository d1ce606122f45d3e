"""Never aborts: calls from many threads, in forked children, and while the interpreter shuts down.

Each test runs in a process of its own, as what is tested for would end it. FASTLOSS_TEST_SECONDS sets how
long the threads run.
"""

import multiprocessing
import os
import sysconfig

import pytest
from amounts import few_or_many, mostly_full
from subprocesses import check_python

TESTS = os.path.dirname(__file__)
ONE_LAYER = pytest.mark.parametrize(
    "layer", mostly_full([None, "workqueue", "omp", "tbb"], lambda layer: layer is None), ids=str
)
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def check(code, layer=None, **options):
    """Numba's thread pool must not matter: neither which is asked for, nor that it is missing."""
    return check_python(code, PYTHONPATH=TESTS, NUMBA_THREADING_LAYER=layer, **options)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_the_gil_stays_off():
    """An extension module that does not say that it can do without makes the interpreter take the GIL again."""
    check("""
        import sys
        from concurrency import jobs
        results = [job() for job in jobs()]
        assert results and not sys._is_gil_enabled()
        print("fine")
    """)


@ONE_LAYER
def test_eight_threads_at_once(layer):
    code = """
        from concurrency import call_from_threads, jobs
        work = jobs()
        expected = [job() for job in work]
        call_from_threads(work, expected)
        print("fine")
    """
    check(code, layer, FASTLOSS_NUM_THREADS="4")


def test_first_calls_from_eight_threads():
    """Nothing is loaded or compiled yet when they all begin; the answers are checked afterwards."""
    code = """
        import threading
        from concurrency import jobs
        work = jobs()
        results = [[None] * len(work) for _ in range(8)]
        start = threading.Barrier(8)

        def loop(row):
            start.wait()
            for i, job in enumerate(work):
                row[i] = job()

        threads = [threading.Thread(target=loop, args=(row,)) for row in results]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        expected = [job() for job in work]
        assert all(row == expected for row in results)
        print("fine")
    """
    check(code)


@pytest.mark.one_backend
def test_threads_with_settings_of_their_own():
    """use_threads in one thread does not disturb the others."""
    code = """
        import fastloss
        from concurrency import call_from_threads, jobs
        plain = jobs()
        expected = [job() for job in plain]

        def with_threads(number, job):
            def call():
                with fastloss.use_threads(number):
                    return job()
            return call

        call_from_threads([with_threads(i % 5 + 1, job) for i, job in enumerate(plain)], expected)
        print("fine")
    """
    check(code)


@has_fork
@ONE_LAYER
def test_call_fork_call_in_the_child(layer):
    """After calls in the parent, by one thread and by several; and in the parent again afterwards."""
    code = """
        from concurrency import in_child, jobs
        work = jobs()
        expected = b"".join(job() for job in work)
        for _ in range(2):
            assert in_child(lambda: b"".join(job() for job in work)) == expected
            assert b"".join(job() for job in work) == expected
        print("fine")
    """
    check(code, layer, FASTLOSS_NUM_THREADS="2")


@has_fork
def test_fork_before_the_first_call():
    code = """
        from concurrency import in_child, jobs
        work = jobs()
        child = in_child(lambda: b"".join(job() for job in work))
        assert child == b"".join(job() for job in work)
        print("fine")
    """
    check(code)


@pytest.mark.one_backend
@has_fork
def test_child_of_a_child():
    code = """
        from concurrency import in_child, jobs
        work = jobs()
        everything = lambda: b"".join(job() for job in work)
        expected = everything()
        assert in_child(lambda: everything() + in_child(everything)) == 2 * expected
        print("fine")
    """
    check(code)


@has_fork
@few_or_many("n_forks", 2, 5)
@pytest.mark.parametrize("layer", mostly_full([None, "workqueue"], lambda layer: layer is None), ids=str)
def test_fork_while_other_threads_call(layer, n_forks):
    """The child inherits whatever locks the other threads held at that moment."""
    code = f"""
        import threading
        from concurrency import in_child, jobs
        work = jobs()
        expected = [job() for job in work]
        done = threading.Event()

        def loop(number):
            while not done.is_set():
                for i in range(number, len(work), 3):
                    assert work[i]() == expected[i]

        threads = [threading.Thread(target=loop, args=(number,)) for number in range(3)]
        [thread.start() for thread in threads]
        try:
            for _ in range({n_forks}):
                assert in_child(lambda: b"".join(job() for job in work)) == b"".join(expected)
        finally:
            done.set()
            [thread.join() for thread in threads]
        print("fine")
    """
    check(code, layer)


@has_fork
def test_threads_in_the_child():
    code = """
        from concurrency import call_from_threads, in_child, jobs
        work = jobs()
        expected = [job() for job in work]

        def child():
            call_from_threads(work, expected, n_threads=4)
            return b"fine"

        assert in_child(child) == b"fine"
        print("fine")
    """
    check(code)


@pytest.mark.any_backend
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_pools(method, tmp_path):
    code = f"""
        import multiprocessing
        import numpy as np
        import fastloss

        def loss(seed):
            x = np.random.default_rng(seed).normal(size=(2, 300_000)).astype(np.float32)
            return float(fastloss.mse_loss(*x))

        if __name__ == "__main__":
            expected = [loss(seed) for seed in range(6)]
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                assert pool.map_async(loss, range(6)).get(100) == expected
            print("fine")
    """
    check(code, file=tmp_path / "pool.py")


SHUTDOWN = {
    "atexit": """
        import atexit
        from concurrency import jobs
        work = jobs()
        expected = [job() for job in work]
        atexit.register(lambda: print("fine" if [job() for job in work] == expected else "wrong", flush=True))
    """,
    "atexit, first call": """
        import atexit
        from concurrency import jobs
        work = jobs()

        def last():
            try:
                [job() for job in work]
            except Exception as error:  # an exception is allowed where an abort is not
                print(repr(error))
            print("fine", flush=True)

        atexit.register(last)
    """,
    "daemon threads": """
        import threading
        from concurrency import jobs
        work = jobs()
        [job() for job in work]

        def loop():
            while True:
                for job in work:
                    job()

        for _ in range(4):
            threading.Thread(target=loop, daemon=True).start()
        print("fine", flush=True)
    """,
    "finalizer": """
        import sys
        from concurrency import jobs
        work = jobs()
        [job() for job in work]

        class Last:
            def __del__(self, work=work):
                try:
                    [job() for job in work]
                except Exception:
                    pass

        sys.modules["kept to the end"] = Last()
        print("fine", flush=True)
    """,
}


@pytest.mark.parametrize("when", SHUTDOWN)
def test_interpreter_shutdown(when):
    process = check(SHUTDOWN[when])
    assert "Fatal Python error" not in process.stderr


@pytest.mark.full
@pytest.mark.parametrize("turn", range(2))
def test_interpreter_shutdown_again(turn):
    """A race has to be run more than once."""
    test_interpreter_shutdown("daemon threads")


@has_fork
def test_settings_in_a_child_of_a_thread_that_was_making_one():
    code = """
        import os
        import fastloss
        from fastloss import _config
        with _config._lock:
            child = os.fork()
            if child == 0:
                fastloss.use_threads(3)
                os._exit(0 if _config.threads.get() == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("fine")
    """
    check(code)
