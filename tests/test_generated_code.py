"""What no value can show: the machine code of hot loops is vector code and calls no library, memory stays small."""

import platform
import re
import tracemalloc

import numpy as np
import pytest
from amounts import mostly_full

import fastloss
from fastloss import _arrays, losses
from fastloss.backends import load

NullCache = pytest.importorskip("numba.core.caching").NullCache

X86 = platform.machine() in ("x86_64", "AMD64")
N = 4096


def widest_register():
    """Of the CPU that Numba compiles for: this one, unless NUMBA_CPU_FEATURES says otherwise."""
    import llvmlite.binding as llvm
    from numba.core import config

    given = config.CPU_FEATURES
    features = llvm.get_host_cpu_features().flatten() if given is None else given
    return "zmm" if "+avx512f" in features else "ymm" if "+avx," in f"{features}," else "xmm"


def uncached(kernel):
    """The cache keeps machine code alone, not its text: these are compiled here."""
    kernel._cache = NullCache()
    return kernel


def pointwise_code(loss):
    """Assembly of a loss's sum over contiguous float32."""
    kernel = uncached(load("numba").kernel.__wrapped__(loss, "flat_total", _arrays.FLOAT32))
    x = np.full(N, 0.5, np.float32)
    third = np.float32(1) if loss.operands == 3 else None
    parameters = tuple(np.float32(1) for _ in loss.parameters)
    kernel(x, x, third, None, parameters, N, N, 0, 1, np.empty((1, 2)))
    return assembly(kernel)


def row_code():
    kernel = uncached(load("numba").kernel.__wrapped__(None, "index_rows", _arrays.FLOAT32))
    x, target = np.zeros((1, 4, N), np.float32), np.zeros((1, 4), np.int64)
    kernel(x, target, None, -100, 1.0, None, 1.0, 4, 0, 1, np.empty((1, 4)), None, None)
    return assembly(kernel)


def score_code():
    kernel = uncached(load("numba").kernel.__wrapped__(None, "score_rows", _arrays.FLOAT32))
    x, target = np.zeros((1, 4, N), np.float32), np.zeros((1, 4), np.int64)
    floats, places = np.empty((2, 1, 4), np.float32), np.empty((2, 1, 4), np.int64)
    correct = np.empty((1, 4), np.bool_)
    kernel(x, target, -100, 4, 0, 1, np.empty((1, 4)), *floats, places[0], correct, places[1])
    return assembly(kernel)


def assembly(kernel):
    return "\n".join(kernel.inspect_asm().values())


LIBRARY_CALLS = re.compile(r"\b(expf?|logf?|log1pf?|expm1f?|tanhf?|powf?)(@PLT)?\b")


# Exponentials, logarithms, powers, branches that would be in the way of vectors; one of three operands.
BY_DEFAULT = {losses.BCE_LOGITS, losses.LOG_COSH, losses.SIGMOID_FOCAL, losses.HUBER, losses.GAUSSIAN}


@pytest.mark.skipif(not X86, reason="reads x86-64 assembly")
@pytest.mark.parametrize("loss", mostly_full(losses.POINTWISE, BY_DEFAULT.__contains__), ids=lambda loss: loss.name)
def test_pointwise_loops(loss):
    code = pointwise_code(loss)
    assert code.count(f"%{widest_register()}") > 20
    assert not re.search(rf"call\w*\s+\S*{LIBRARY_CALLS.pattern}", code)
    assert not LIBRARY_CALLS.search("\n".join(line for line in code.splitlines() if "movabs" in line))


@pytest.mark.skipif(not X86, reason="reads x86-64 assembly")
@pytest.mark.parametrize("row_code", [row_code, score_code])
def test_row_loops(row_code):
    code = row_code()
    assert code.count(f"%{widest_register()}") > 100
    assert not LIBRARY_CALLS.search("\n".join(line for line in code.splitlines() if "movabs" in line or "call" in line))


def traced_peak(call):
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_rows, n_classes", [(200_000, 10), (2000, 1000), (8, 250_000)])
def test_memory_of_a_reduction(n_rows, n_classes):
    logits, target = np.zeros((n_rows, n_classes), np.float32), np.zeros(n_rows, np.int64)
    assert traced_peak(lambda: fastloss.cross_entropy(logits, target)) < 2**21


def test_memory_of_other_axes_and_dtypes():
    logits, target = np.zeros((4, 21, 256, 256), np.float16), np.zeros((4, 256, 256), np.int64)
    assert traced_peak(lambda: fastloss.cross_entropy(logits, target, axis=1)) < 2**21


def test_memory_of_pointwise_reductions():
    x = np.zeros((3_000_000,), np.float32)
    assert traced_peak(lambda: fastloss.mse_loss(x, x)) < 2**21
    grid = x.reshape(1000, 3000)
    assert traced_peak(lambda: fastloss.mse_loss(grid, grid[:1], weight=np.ones((1000, 1)))) < 2**21
    assert traced_peak(lambda: fastloss.mse_loss(grid[:, ::2], grid[:, 1::2])) < 2**21


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fastloss.mse_loss(x[:10], x[:10]),
        lambda x: fastloss.mse_loss(x, x),
        lambda x: fastloss.cross_entropy(x[:10].reshape(1, 10), np.zeros(1, np.int64)),
        lambda x: fastloss.cross_entropy(x.reshape(-1, 1000), np.zeros(100, np.int64)),
    ],
    ids=["mse of 10", "mse of 100000", "cross_entropy 1x10", "cross_entropy 100x1000"],
)
def test_allocations_of_a_call(call):
    """A call allocates its scratch and its result, and no array of its own size."""
    x = np.zeros(100_000, np.float32)
    call(x)
    assert traced_peak(lambda: call(x)) < 24 * 1024
