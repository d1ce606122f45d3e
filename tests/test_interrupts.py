"""Exceptions from signal handlers, at any moment of a call: it stops soon, the next one is right, and the process ends."""

import os
import random
import signal

import pytest
from amounts import few_or_many, mostly_full
from subprocesses import check_python

TESTS = os.path.dirname(__file__)
pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")
# kernels of the first have threads of their own, those of the second run on Python's
BACKENDS = pytest.mark.parametrize("backend", ["cython", "numpy"])


def check(code, **options):
    return check_python("from interrupts import *\n" + code, PYTHONPATH=TESTS, timeout=60, **options)


def code_of(text, backend):
    import textwrap

    return f"use({backend!r})\n" + textwrap.dedent(text)


@BACKENDS
def test_storm(backend):
    """Once the exception is there, no thread writes to the caller's arrays any more."""
    n_rows, n_signals = (4000, 300) if backend == "cython" else (1000, 150)
    text = f"""
        x, y = logits_and_labels({n_rows})
        losses, slopes = np.empty({n_rows}, np.float32), np.empty_like(x)
        each = fastloss.cross_entropy(x, y, reduction="none")
        value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, y)

        def some():
            # not np.array_equal, which takes any exception, that of a signal handler too, for a difference
            return (fastloss.cross_entropy(x, y, reduction="none", out=losses) == each).all()

        def both():
            return fastloss.value_and_grad(fastloss.cross_entropy)(x, y)[0] == value

        calls = [some, lambda: fastloss.cross_entropy(x, y) == value, both]
        for _ in storm({n_signals}, calls, longest=2 * {n_rows} * 1e-6):
            losses.fill(-1.0)
            for _ in range(3):
                time.sleep(0)
                assert (losses == -1.0).all()
        assert some() and both()
        print("fine")
    """
    check(code_of(text, backend))


def test_any_moment():
    """Before each instruction of the caller's, then before two or three: nothing is swallowed, nothing goes on, the next is right."""
    code = """
import random
blocks = [0, 1, 2, 3]
for kind in (Interruption, IndexError, RuntimeError):
    k = 0
    while True:
        k += 1
        injector, raised, _, n_computing = run_injected(kind, k)
        assert not n_computing, k
        if injector.numbers:
            break
        assert raised is not None, k
        if k % 10 == 0:
            assert run_injected(kind)[1:] == (None, blocks, 0), k
    assert k > 300  # it did go through it all
chance = random.Random(1)
for _ in range(300):
    first = chance.randrange(1, k)
    numbers = [first, first + chance.randrange(1, 40), first + 40 + chance.randrange(40)][: chance.randrange(2, 4)]
    injector, raised, _, n_computing = run_injected(Interruption, *numbers)
    assert not n_computing, numbers
    assert raised is not None or injector.numbers == numbers, numbers
assert run_injected(Interruption)[1:] == (None, blocks, 0)
print("fine")
"""
    check(code)


@BACKENDS
@pytest.mark.parametrize("n_threads", [1, 2])
def test_long_calls_stop_soon(backend, n_threads):
    text = f"""
        fastloss.use_threads({n_threads})
        x, y = endless()
        stops_soon(lambda: fastloss.cross_entropy(x, y))
        assert abs(fastloss.cross_entropy(x[:3000], y[:3000]) - fastloss.cross_entropy(x[:1], y[:1])) < 1e-5
        print("fine")
    """
    check(code_of(text, backend))


@pytest.mark.expensive
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "call",
    [
        "fastloss.cross_entropy(long, label)",
        "fastloss.cross_entropy(np.broadcast_to(np.float32(0.5), (1, n)), label)",
        "fastloss.cross_entropy(wide, label, label_smoothing=0.1)",
        "fastloss.logsumexp(long.reshape(2, -1))",
        "fastloss.softmax(long.reshape(2, -1), axis=0)[0, 0]",
        "fastloss.score(long, label)",
        "fastloss.value_and_grad(fastloss.cross_entropy)(wide, label)",
        "fastloss.mse_loss(wide, wide, axis=1)",
        "fastloss.l1_loss(wide.reshape(2, -1)[:, 1:], wide.reshape(2, -1)[:, :-1])",
    ],
)
def test_one_long_block_stops_soon(call, n_threads):
    """Compiled kernels look at what signals came in within a row, too."""
    text = f"""
        fastloss.use_threads({n_threads})
        n = 1 << 29
        long, wide, label = np.zeros((1, n), np.float32), np.zeros((1, n // 2)), np.zeros(1, int)
        stops_soon(lambda: {call}, after=0.05, fast=TooFast)
        print("fine")
    """
    check(code_of(text, "cython"))


LONG_BLOCKS = (
    "fastloss.cross_entropy(np.broadcast_to(np.float32(0.5), (1, n)), label)",
    "fastloss.cross_entropy(wide, label, label_smoothing=0.1)",
    "fastloss.value_and_grad(fastloss.cross_entropy)(wide, label, out=gradient)",
    "fastloss.softmax(wide, out=gradient)",
    "fastloss.mse_loss(wide, wide, axis=1)",
    "fastloss.huber_loss(gradient.reshape(2, -1)[:, 1:], wide.reshape(2, -1)[:, 1:], reduction='none', out=rows)",
)


@few_or_many("n_times", 1, 3)
@pytest.mark.parametrize("backend, power", [("numba", 28), ("numpy", 24)])
@pytest.mark.parametrize("call", mostly_full(LONG_BLOCKS, lambda call: "gradient" not in call))
def test_one_long_block_of_other_backends(call, backend, power, n_times):
    """The main thread only waits for blocks that can't be left: it goes on at once, and what they wrote to is nobody's."""
    one_row = "n // 2" if "gradient" in call else 1
    two_rows = "n // 4 - 1" if "rows" in call else 1
    text = f"""
        call = lambda: {call}
        label = np.zeros(1, int)

        def arrays(n):
            return n, np.zeros((1, n // 2)), np.full((1, {one_row}), 7.0), np.full((2, {two_rows}), 7.0)

        n, wide, gradient, rows = arrays(1 << 12)
        call()  # what there is to import and compile is not what is to be interrupted
        n, wide, gradient, rows = arrays(1 << {power})

        def untouched(step=1):
            return all((a[:, ::step] == 7.0).all() for a in (gradient, rows))

        def interrupted():
            try:
                took = seconds_to_stop(call, after=0.005)
            except TooFast:
                gradient.fill(7.0)
                rows.fill(7.0)
                return 0.0
            for _ in range(5):
                assert untouched(step=512)  # one of each page, as a block writes all there is from its first to its last
                time.sleep(0.02)
            return took

        for _ in range({n_times}):
            soon(interrupted)
            assert untouched()
        n, wide, gradient, rows = arrays(1 << 12)
        call()
        x, y = logits_and_labels(100)
        assert 6.0 < fastloss.cross_entropy(x, y) < 9.0
        print("fine")
    """
    check(code_of(text, backend))


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3])
def test_while_a_backend_is_imported(after):
    """What a handler raises then says nothing about the backend."""
    text = f"""
        try:
            seconds_to_stop(lambda: fastloss.mse_loss([1.0, 2.0], [0.0, 0.0]), after={after})
        except TooFast:
            pass
        assert fastloss.mse_loss([1.0, 2.0], [0.0, 0.0]) == 2.5
        assert fastloss.backends()["numba"] == "available"
        print("fine")
    """
    check(code_of(text, "numba"))


FIRST_CALLS = {
    "mse_loss": ("fastloss.mse_loss([1.0, 2.0], [0.0, 0.0])", 2.5),
    "own": ("own([1.0, 2.0], [0.0, 0.0])", 2.5),
    "gradient": ("fastloss.value_and_grad(fastloss.mse_loss)([1.0, 2.0], [0.0, 0.0])[0]", 2.5),
    "cross_entropy": ("fastloss.cross_entropy([[0.0, 0.0]], [1])", 0.6931471805599453),
}
each_first_call = pytest.mark.parametrize("first", mostly_full(FIRST_CALLS, {"mse_loss", "own"}.__contains__))


def code_of_first(first):
    """The call, in a process that has Numba and none of the call's kernels; and what it is to return."""
    call, value = FIRST_CALLS[first]
    return f"""
        own = own_loss()
        fastloss.l1_loss([1.0], [0.0])
        call = lambda: {call}
        right = lambda value: abs(value - {value}) < 1e-9
    """


@each_first_call
def test_numba_compiles_where_no_handler_runs(first, tmp_path):
    text = f"""{code_of_first(first)}
        import llvmlite, numba
        watcher = Watcher(numba, llvmlite)
        sys.setprofile(watcher)
        value = call()
        sys.setprofile(None)
        assert right(value), value
        # whether there is code for such types, and whether this thread already compiles something
        assert not watcher.seen - set(["__hash__", "key", "is_locked"]), watcher.seen
        print("fine")
    """
    check(code_of(text, "numba"), NUMBA_CACHE_DIR=str(tmp_path))


# Right again, in this process or in a child; or not called again, so that the process ends while Numba compiles.
THEN = {
    "again": "assert right(call())",
    "fork": "assert in_child(lambda: str(right(call())).encode()) == b'True'",
    "exit": "",
}


@few_or_many("n_times", 1, 20)
@pytest.mark.parametrize("first", mostly_full(FIRST_CALLS, "own".__eq__))
@pytest.mark.parametrize("then", THEN)
def test_while_numba_compiles(first, then, n_times, tmp_path):
    """What a handler raises is raised at once; the compiler goes on, and the process ends when it has."""
    if then == "fork" and not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    text = f"""{code_of_first(first)}
        from concurrency import in_child
        try:
            seconds_to_stop(call, after=float(os.environ["AFTER"]))
        except TooFast:
            pass
        {THEN[then]}
        print("fine")
    """
    chance = random.Random(f"{first} {then}")
    for turn in range(n_times):
        own = {"AFTER": str(chance.uniform(0.001, 0.5)), "NUMBA_CACHE_DIR": str(tmp_path / str(turn))}
        check(code_of(text, "numba"), **own)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_in_a_signal_handler_while_numba_compiles(tmp_path):
    text = f"""{code_of_first("mse_loss")}
        children = []

        def handler(*_):
            children.append(os.fork())
            if children == [0]:
                signal.alarm(60)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        value = call()
        if children == [0]:
            os._exit(0 if right(value) and right(call()) else 1)
        assert right(value)
        assert os.waitpid(children[0], 0)[1] == 0
        print("fine")
    """
    check(code_of(text, "numba"), NUMBA_CACHE_DIR=str(tmp_path))


def test_any_moment_of_undisturbed_work():
    """Before each instruction of the caller's: the work is done once or not at all, nothing is swallowed, nothing stays."""
    code = """
from fastloss import _threads
caller = threading.get_ident()

def work(done):
    assert threading.get_ident() != caller
    time.sleep(0.001)
    done.append(None)
    return "done"

def fail():
    raise ValueError("from the other thread")

runs, injector = [], Injector(Interruption, [])
while not injector.numbers:
    done, result = [], None
    runs.append(done)
    injector = Injector(Interruption, [len(runs)])
    sys.settrace(injector)
    try:
        result = _threads.undisturbed(lambda done=done: work(done))
    except Interruption:
        assert not injector.numbers
    else:
        assert result == "done" and done and injector.numbers, len(runs)
    finally:
        sys.settrace(None)
assert len(runs) > 50  # it did go through it all
try:
    _threads.undisturbed(fail)
except ValueError as error:
    assert str(error) == "from the other thread"
else:
    raise AssertionError
_threads._close()  # as when the process ends
assert not _threads._unfinished and all(len(done) <= 1 for done in runs)
print("fine")
"""
    check(code)


def test_a_long_block_aside():
    """All blocks are computed by others, whose errors are raised; what a handler raises is raised while they still compute."""
    code = """
caller = threading.get_ident()
done = []

def call(first, last):
    assert threading.get_ident() != caller
    time.sleep(0.05)
    done.extend(range(first, last))

for n_threads in (1, 2, 3):
    done.clear()
    run(call, 4, n_threads, 10**7, aside=True)
    assert sorted(done) == [0, 1, 2, 3], done
done.clear()
took = seconds_to_stop(lambda: run(call, 1, 1, 10**7, aside=True), after=0.01)
assert took < 0.04 and not done, (took, done)
run(call, 1, 1, 10**7, aside=True)  # by another thread, as that one is busy
time.sleep(0.1)
assert done == [0, 0], done

def broken(first, last):
    raise ValueError("from a helper")

for _ in range(20):
    try:
        run(broken, 8, 2, 10**8, aside=True)
    except ValueError as error:
        assert str(error) == "from a helper"
    else:
        raise AssertionError
print("fine")
"""
    check(code)


@pytest.mark.parametrize(
    "call",
    [
        "fastloss.linear_cross_entropy(hidden, layer, np.zeros(4096, int))",
        "fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden, layer, np.zeros(4096, int))",
        "fastloss.linear_cross_entropy(each(0.0)[:, None], layer[:2, :1], each(0))",
        "fastloss.cross_entropy(np.broadcast_to(np.float32(0), (n, 2)), each(0), ignore_index=2**64 - 1)",
        "fastloss.mse_loss(each(1), each(2))",
        "fastloss.binary_cross_entropy(each(0.5), each(2.0))",
    ],
)
def test_what_numpy_does_stops_soon(call):
    """Products, conversions, and checks of values are done in pieces."""
    text = f"""
        n = 1 << 29
        each = lambda value: np.lib.stride_tricks.as_strided(np.array([value]), (n,), (0,))
        hidden, layer = np.zeros((4096, 8192), np.float32), np.zeros((8192, 8192), np.float32)
        stops_soon(lambda: {call}, fast=(TooFast, ValueError))
        print("fine")
    """
    check(code_of(text, "cython"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@BACKENDS
def test_fork_in_a_signal_handler(backend):
    """The child finds itself in the middle of a call that other threads took part in; the parent does not notice."""
    text = """
        import os
        children = []

        def handler(*_):
            children.append(os.fork())
            if children == [0]:
                signal.alarm(30)

        x, y = endless(2_000_000 if fastloss._config.backend.get() == "cython" else 100_000)
        expected = fastloss.cross_entropy(x[:5000], y[:5000])
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            value = fastloss.cross_entropy(x, y)
        except RuntimeError as error:
            assert children == [0] and "forked" in str(error)
            value = expected
        if children == [0]:
            right = abs(value - expected) < 1e-5 and fastloss.cross_entropy(x[:5000], y[:5000]) == expected
            os._exit(0 if right else 1)
        assert len(children) == 1 and abs(value - expected) < 1e-5
        assert os.waitpid(children[0], 0)[1] == 0
        print("fine")
    """
    check(code_of(text, backend))


@BACKENDS
def test_other_threads_take_part(backend):
    text = """
        n_rows = 2_000_000 if fastloss._config.backend.get() == "cython" else 50_000
        x, y = endless(n_rows)
        for _ in range(10):  # the other CPU may have been busy
            together, alone = time.process_time(), time.thread_time()
            fastloss.cross_entropy(x, y)
            together, alone = time.process_time() - together, time.thread_time() - alone
            if together > 1.2 * alone:
                break
        else:
            raise AssertionError((together, alone))
        print("fine")
    """
    check(code_of(text, backend))


@BACKENDS
def test_no_more_threads(backend):
    """Where the system has none to give, a call does without."""
    text = """
        import os
        import resource
        x, y = logits_and_labels(1000)
        out = np.empty(1000, np.float32)
        with fastloss.use_threads(1):
            fastloss.cross_entropy(x, y, reduction="none", out=out)
            expected = out.copy()
        out.fill(0)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (600 << 10)  # less than a stack
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        fastloss.cross_entropy(x, y, reduction="none", out=out)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert np.array_equal(out, expected)
        n_before = len(os.listdir("/proc/self/task"))
        fastloss.cross_entropy(x, y, reduction="none", out=out)
        assert np.array_equal(out, expected)
        assert len(os.listdir("/proc/self/task")) == n_before + 1  # there are some again
        print("fine")
    """
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs Linux")
    check(code_of(text, backend))


def test_an_error_in_another_thread():
    """What a helper raises is raised by the call, and keeps nobody from going on."""
    code = """
caller = threading.get_ident()
def call(first, last):
    if threading.get_ident() != caller:
        began.set()
        raise ValueError("from a helper")
    began.wait(30)  # however long it takes the helper to wake up
for _ in range(20):
    began = threading.Event()
    try:
        run(call, 8, 2, 10_000_000)
    except ValueError as error:
        assert str(error) == "from a helper"
    else:
        raise AssertionError
assert run_injected(Interruption)[1:] == (None, [0, 1, 2, 3], 0)
print("fine")
"""
    check(code)


def test_more_threads_than_blocks_or_cpus():
    code = """
fastloss.use_threads(1024)
x, y = logits_and_labels()
value = fastloss.cross_entropy(x, y)
for n_threads in (1, 2, 64):
    with fastloss.use_threads(n_threads):
        assert fastloss.cross_entropy(x, y) == value
done = []
run(lambda first, last: done.extend(range(first, last)), 100, 1024, 10**9)
assert sorted(done) == list(range(100))
print("fine")
"""
    check(code)
