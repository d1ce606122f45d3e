"""Settings: for the process, for a block, from the environment; and what is reported of them."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from compare import assert_ulp

import fastloss
from fastloss import _config


@pytest.fixture(autouse=True)
def restored():
    before = _config.threads.get(), _config.backend.get()
    yield
    fastloss.use_threads(before[0])
    fastloss.use_backend(before[1])


def in_another_thread(ask):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


def test_a_call_sets_the_process():
    fastloss.use_threads(3)
    assert _config.threads.get() == 3
    assert in_another_thread(_config.threads.get) == 3
    fastloss.use_threads(None)
    assert _config.threads.get() == _config.cpu_count()


def test_a_block_is_for_this_thread_alone():
    fastloss.use_threads(2)
    with fastloss.use_threads(5):
        assert _config.threads.get() == 5
        assert in_another_thread(_config.threads.get) == 2
        with fastloss.use_threads(7):
            assert _config.threads.get() == 7
        assert _config.threads.get() == 5
    assert _config.threads.get() == 2


def test_blocks_of_many_threads_leave_the_process_as_it_was():
    fastloss.use_threads(2)
    go = threading.Barrier(8)
    wrong = []

    def enter_and_leave(n):
        go.wait()
        for _ in range(2000):
            with fastloss.use_threads(n):
                if _config.threads.get() != n:
                    wrong.append(n)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=enter_and_leave, args=(n,)) for n in range(3, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert _config.threads.get() == in_another_thread(_config.threads.get) == 2


def test_blocks_are_entered_in_any_order():
    """What another thread may do between a call and the beginning of its block."""
    fastloss.use_threads(2)
    first, second = fastloss.use_threads(3), fastloss.use_threads(4)
    with first:
        assert in_another_thread(_config.threads.get) == 4  # the second has not been entered
        with second:
            assert in_another_thread(_config.threads.get) == 2
    assert _config.threads.get() == 2


def test_a_call_for_good_outlasts_blocks_around_it():
    fastloss.use_threads(2)
    block = fastloss.use_threads(3)
    fastloss.use_threads(4)
    with block:
        assert _config.threads.get() == 3
    assert _config.threads.get() == in_another_thread(_config.threads.get) == 4


def test_one_block_for_several_threads():
    fastloss.use_threads(2)
    block = fastloss.use_threads(3)
    with block:
        with block:
            assert _config.threads.get() == 3

        def enter():
            with block:
                return _config.threads.get()

        assert in_another_thread(enter) == 3
        assert _config.threads.get() == 3
    assert _config.threads.get() == 2


def test_calls_leave_nothing_behind():
    for n in (2, 3, 4) * 100:
        fastloss.use_threads(n)
        kept = fastloss.use_threads(n + 1)
        with kept:
            pass
    assert len(_config.threads._uses) < 5


def test_within_a_block_alone():
    """`within` is never seen by other threads."""
    fastloss.use_threads(2)
    with _config.threads.within(3):
        assert _config.threads.get() == 3 and in_another_thread(_config.threads.get) == 2
        with _config.threads.within(None):
            assert _config.threads.get() == 3
    assert _config.threads.get() == 2


def test_a_block_ends_with_an_exception():
    before = _config.threads.get()
    with pytest.raises(KeyError), fastloss.use_threads(before + 1):
        raise KeyError
    assert _config.threads.get() == before


@pytest.mark.parametrize(
    "value, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("x", ValueError)]
)
def test_bad_threads(value, error):
    with pytest.raises(error, match="threads"):
        fastloss.use_threads(value)


def test_backends():
    assert fastloss.backends()["numpy"] == "available"
    with pytest.raises(ValueError, match="backend.*'fpga'"):
        fastloss.use_backend("fpga")
    with fastloss.use_backend("numpy"):
        assert fastloss.mse_loss(np.zeros(3), np.ones(3)) == 1.0


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_environment():
    code = "from fastloss import _config; print(_config.threads.get(), _config.backend.get())"
    assert run(code, FASTLOSS_NUM_THREADS="3", FASTLOSS_BACKEND="numba").stdout.split() == ["3", "numba"]
    assert "FASTLOSS_NUM_THREADS" in run(code, FASTLOSS_NUM_THREADS="many").stderr
    assert "FASTLOSS_BACKEND" in run(code, FASTLOSS_BACKEND="gpu").stderr


def test_a_missing_backend_says_what_to_install():
    code = (
        "import sys; sys.modules['fastloss_c'] = sys.modules['numba'] = None\n"
        "import fastloss\n"
        "try: fastloss.mse_loss([1.0], [2.0])\n"
        "except RuntimeError as error: print(error)"
    )
    assert "pip install numba" in run(code, FASTLOSS_BACKEND="numba").stdout
    assert "C compiler" in run(code, FASTLOSS_BACKEND="cython").stdout


def test_numpy_answers_where_nothing_is_compiled_and_says_so_once():
    code = (
        "import sys; sys.modules['fastloss_c'] = sys.modules['numba'] = None\n"
        "import numpy as np, fastloss\n"
        "print(*(fastloss.mse_loss([1.0], [3.0]) for _ in range(3)), fastloss.cross_entropy(np.zeros((2, 3)), [0, 1]))"
    )
    done = run(code, FASTLOSS_BACKEND="auto")
    *squares, entropy = map(float, done.stdout.split())
    assert squares == [4.0, 4.0, 4.0]
    assert_ulp(
        entropy, 1.0986122886681098, 2
    )  # log 3 to within half an ulp; NumPy's logarithm and the mean round once more each
    assert done.stderr.count("RuntimeWarning") == 1
    assert "pip install numba" in done.stderr and "C compiler" in done.stderr


def test_show_config():
    text = io.StringIO()
    fastloss.show_config(file=text)
    for word in ("fastloss", "numpy", "numba", "threads", "backend"):
        assert word in text.getvalue()
