"""Nothing is read out of bounds: arrays between pages that cannot be read, with labels that point far outside.

Each test runs in a process of its own, where a stray read is a segmentation fault.
"""

import os
import signal
import sys

import pytest

from subprocesses import check_python, run_python

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps and protects memory pages")

TESTS = os.path.dirname(__file__)  # for the table of losses
FENCED = """
import ctypes, mmap
import numpy as np

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept = []

def fenced(a, at_end=True):
    "A copy of `a` that ends where an unreadable page begins, or begins where one ends."
    a = np.asarray(a)
    size = max(-(-a.nbytes // PAGE), 1) * PAGE
    pages = mmap.mmap(-1, size + 2 * PAGE)
    kept.append(pages)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    offset = PAGE + (size - a.nbytes if at_end else 0)
    copy = np.frombuffer(pages, a.dtype, a.size, offset).reshape(a.shape)
    copy[...] = a
    for fence in (start, start + PAGE + size):
        if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return copy
"""


@pytest.mark.parametrize("index", [-1, 1000])
def test_the_fence_holds(index):
    """Reading one entry before or behind kills the process: otherwise the tests below would show nothing."""
    code = (
        FENCED
        + f"""
a = fenced(np.zeros(1000, np.float64), at_end={index > 0})
assert a.sum() == 0
print("inside", flush=True)
ctypes.c_double.from_address(a.ctypes.data + 8 * {index}).value
print("outside", flush=True)
"""
    )
    process = run_python(code)
    assert process.returncode == -signal.SIGSEGV
    assert process.stdout == "inside\n"


BAD_LABELS = """
import fastloss

BAD = [11, 12, 4096, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -1, -2, -101, -2**20, -2**31, -2**40, -2**63]

def expect_index_error(position, bad, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except IndexError as error:
        assert str(position) in str(error) and str(bad) in str(error), error
    else:
        raise AssertionError((function, position, bad, options))

def attempt(n_rows, bads, reductions):
    probs = np.full((n_rows, 11), 1 / 11, np.float32)
    for at_end in (True, False):
        rows = fenced(probs, at_end)
        columns = fenced(probs.T, at_end)
        for position in (0, n_rows // 2, n_rows - 1):
            for bad in bads:
                target = np.arange(n_rows) % 11
                target[position] = bad
                target = fenced(target, at_end)
                for name in ("cross_entropy", "nll_loss", "categorical_cross_entropy"):
                    function = getattr(fastloss, name)
                    for reduction in reductions:
                        expect_index_error(position, bad, function, rows, target, reduction=reduction)
                        expect_index_error(position, bad, function, columns, target, axis=0, reduction=reduction)
                    gradient = fastloss.value_and_grad(function)
                    expect_index_error(position, bad, gradient, rows, target)
                    expect_index_error(position, bad, gradient, columns, target, axis=0)
"""


def test_bad_labels_in_small_arrays():
    check_python(FENCED + BAD_LABELS + "attempt(37, BAD, ('none', 'mean', 'sum'))\nprint('fine')")


def test_bad_labels_in_large_arrays():
    """Large enough for several threads."""
    check_python(
        FENCED + BAD_LABELS + "attempt(200_000, [11, 2**40, -1, -2**62], ('none', 'mean'))\nprint('fine')"
    )


def test_bad_labels_with_weights_and_smoothing():
    """The class weights are indexed by labels too."""
    code = (
        FENCED
        + BAD_LABELS
        + """
logits = fenced(np.zeros((37, 11), np.float32))
for at_end in (True, False):
    weight = fenced(np.ones(11, np.float32), at_end)
    for bad in BAD:
        target = np.zeros(37, np.int64)
        target[36] = bad
        for options in ({"weight": weight}, {"weight": weight, "label_smoothing": 0.1}):
            expect_index_error(36, bad, fastloss.cross_entropy, logits, target, **options)
            expect_index_error(36, bad, fastloss.value_and_grad(fastloss.cross_entropy), logits, target, **options)
        expect_index_error(36, bad, fastloss.nll_loss, logits, target, weight=weight)
print("fine")
"""
    )
    check_python(code)


def test_good_arrays_up_to_the_fence():
    """Vector loops stop at the last element, whatever the length; and its position changes no bit."""
    code = (
        FENCED
        + """
import fastloss
from cases import PLAIN_CASES, generator

def everything(case, arguments):
    function = getattr(fastloss, case.loss)
    for reduction in case.reductions:
        yield function(*arguments, reduction=reduction)
        if reduction != "none":
            yield from fastloss.value_and_grad(function)(*arguments, reduction=reduction)

for case in PLAIN_CASES:
    for dtype in (np.float16, np.float32, np.float64):
        for shape in [(1, 1), (3, 5), (7, 33), (1, 1001), (1001, 3)]:
            arguments = case.cast(case.arguments(generator(case), shape), dtype)
            plain = everything(case, arguments)
            last = everything(case, [fenced(a) for a in arguments])
            first = everything(case, [fenced(a, at_end=False) for a in arguments])
            for a, b, c in zip(plain, last, first, strict=True):
                assert a.tobytes() == b.tobytes() == c.tobytes(), (case, dtype, shape)
print("fine")
"""
    )
    check_python(code, PYTHONPATH=TESTS)
