"""The host's side of the CUDA backend with a driver whose kernels do nothing (`ptx/driver.c`): what is called, where, and on which stream.

Numba compiles the kernels for real; only their results are not there.
"""

import re
import sys
from pathlib import Path

import pytest
from subprocesses import check_python

sys.path.insert(0, str(Path(__file__).parent / "ptx"))
import machine

pytestmark = pytest.mark.skipif(machine.reason_missing() is not None, reason=str(machine.reason_missing()))


@pytest.fixture(scope="module")
def driver():
    """Runs Python code with that driver; what it has logged after each ``go(name)``, as lines by name."""
    head = """
import sys, threading
import numpy as np
import fastloss
from fastloss.backends.numba_cuda import chosen
from fastloss.backends.numba_cuda._compiler import cuda
def go(name="all"):
    print("go", name, file=sys.stderr, flush=True)
def arrays(stream=0):
    return cuda.to_device(np.ones((6, 5), np.float32), stream), cuda.to_device(np.zeros(6, np.int64), stream)
"""

    def run(code, **environment):
        environment = machine.environment(DRIVER_IDLE="1", DRIVER_LOG="1", **environment)
        process = check_python(head + code + "\nprint('fine')", NUMBA_ENABLE_CUDASIM=None, **environment)
        parts = [part.partition("\n") for part in process.stderr.split("go ")[1:]]
        return {name: log.splitlines() for name, _, log in parts}

    return run


@pytest.fixture(scope="module")
def on_one_device(driver):
    """Calls that need nothing but one device, in one process."""
    return driver("""
x, y = arrays()
first, second = cuda.external_stream(0x70), cuda.external_stream(0x71)
(streamed, _), (_, labels) = arrays(first), arrays(second)
out = cuda.to_device(np.zeros(6, np.float32))
fastloss.cross_entropy(x, y)
fastloss.mse_loss(x, x)
fastloss.softmax(x)
fastloss.cross_entropy(x, y, reduction="none", out=out)
loss = fastloss.cross_entropy(streamed, labels)
assert int(loss.stream) == 0x70
failed = []
def call():
    try:
        fastloss.cross_entropy(x, y, reduction="none", out=out)
    except BaseException as error:
        failed.append(error)

go("reduction")
fastloss.cross_entropy(x, y)
go("without waiting")
fastloss.mse_loss(x, x)
fastloss.softmax(x)
with fastloss.use_wait(False):
    fastloss.cross_entropy(x, y, reduction="none")
go("streams")
fastloss.cross_entropy(streamed, labels)
go("threads")
threads = [threading.Thread(target=call) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not failed, failed
""")


def test_a_reduction_is_one_launch_and_one_small_copy(on_one_device):
    assert [line.split(":")[0] for line in on_one_device["reduction"]] == [
        "allocate 4 on 0",
        "launch 1 128 on 0 stream 0",
        "fetch 32 on 0 stream 0",
        "wait for stream 0",
    ]


def test_nothing_is_waited_for_where_nothing_can_be_wrong(on_one_device):
    assert {line.split()[0] for line in on_one_device["without waiting"]} == {"allocate", "launch"}


def test_the_streams_of_the_arrays(on_one_device):
    log = on_one_device["streams"]
    assert [re.sub(r":.*|on 0 ", "", line) for line in log if "allocate" not in line] == [
        "stream 0x70 waits for stream 0x71",
        "launch 1 128 stream 0x70",
        "fetch 32 stream 0x70",
        "wait for stream 0x70",
        "stream 0x71 waits for stream 0x70",
    ]


def test_threads_that_have_no_context_yet(on_one_device):
    log = on_one_device["threads"]
    assert sum(line.startswith("launch") for line in log) == 4 and not any("without" in line for line in log)


def test_arguments_reach_the_kernel(driver):
    log = driver(
        """
x, _ = arrays()
fastloss.mse_loss(x[:, ::2], x[:, ::2])
go()
print(x.device_ctypes_pointer.value, file=sys.stderr)
fastloss.mse_loss(x[:, ::2], x[:, ::2])
""",
        DRIVER_ARGUMENTS="20",
    )["all"]
    address, (launched,) = int(log[0]), [line for line in log if line.startswith("launch")]
    given = list(map(int, launched.split(":")[1].split()))
    # x, y, nothing for z and w, a 0 for no parameters; 18 elements; the shape, strides of x, y, z and w; no array out; a scale of 1.0
    assert given[:16] == [address, address, 0, 0, 0, 18, 6, 3, 5, 2, 5, 2, 0, 0, 0, 0]
    assert given[16:18] == [0, 0x3FF0000000000000]


@pytest.fixture(scope="module")
def on_two_devices(driver):
    """Calls with two devices there, in one process."""
    return driver(
        """
with cuda.gpus[1]:
    x, y = arrays()
    long = cuda.to_device(np.ones((2, 40000), np.float32))
    labels = cuda.to_device(np.zeros(2, np.int64))
z, _ = arrays()
go("device 1")
fastloss.cross_entropy(x, y)
fastloss.cross_entropy(long, labels)
fastloss.softmax(x)
try:
    fastloss.mse_loss(x, z)
except ValueError as error:
    assert "pred on CUDA device 1, target on CUDA device 0" in str(error)
else:
    raise AssertionError
with cuda.gpus[1], fastloss.use_backend("cuda"):
    go("host")
    assert fastloss.softmax(np.ones((3, 4), "f")).shape == (3, 4)  # by kernels that other tests have compiled
    assert type(fastloss.mse_loss(np.ones(5, "f"), np.ones(5, "f"))) is np.float32
""",
        DRIVER_DEVICES="2",
    )


def test_every_device_computes_its_own_arrays(on_two_devices):
    assert {match for line in on_two_devices["device 1"] for match in re.findall(r"on (\d)", line)} == {"1"}


def test_host_arrays_go_to_the_first_device_whichever_is_current(on_two_devices):
    log = on_two_devices["host"]
    assert {match for line in log for match in re.findall(r"on (\d)", line)} == {"0"}
    fetched = [i for i, line in enumerate(log) if line.startswith("fetch")]
    assert fetched and all(log[i + 1].startswith("wait") for i in fetched)  # before the host looks at it


def test_a_second_process_compiles_nothing(driver, on_one_device):
    log = driver("""
import gc
x, y = arrays()
fastloss.cross_entropy(x, y)
fastloss.mse_loss(x, x)
go()
made = [o for o in gc.get_objects() if type(o).__name__ in ("CUDADispatcher", "MLIRDispatcher")]
print(sum(sum(o._cache_hits.values()) for o in made), sum(sum(o._cache_misses.values()) for o in made), file=sys.stderr)
""")
    assert log["all"] == ["2 0"]


def test_gpus_of_two_kinds(driver):
    """numba-cuda compiles for each; numba-cuda-mlir for the first alone, which has to be said."""
    driver(
        """
def call(device):
    with cuda.gpus[device]:
        fastloss.mse_loss(*[cuda.to_device(np.ones(5, np.float32))] * 2)
call(0)
try:
    call(1)
except RuntimeError as error:
    assert chosen()[0] == "numba-cuda-mlir" and "9.0, and this one's is 8.0" in str(error), error
else:
    assert chosen()[0] == "numba-cuda"
""",
        DRIVER_DEVICES="2",
        DRIVER_CAPABILITIES="98",
    )
