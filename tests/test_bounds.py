"""Nothing is read out of bounds, whatever the labels: with arrays between pages that cannot be read.

Each test runs in a process of its own, where a stray read is a segmentation fault.
"""

import os
import signal
import sys

import pytest
from subprocesses import check_python, run_python

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps and protects memory pages")
TESTS = os.path.dirname(__file__)  # where the processes find fences.py and the table of losses


@pytest.mark.parametrize("index", [-1, 1000])
def test_the_fences_hold(index):
    """Reading one entry too early or too late kills the process: or else the tests below show nothing."""
    code = f"""
        import ctypes, numpy as np
        from fences import fenced
        a = fenced(np.zeros(1000), at_end={index} > 0)
        assert a.sum() == 0
        print("inside", flush=True)
        ctypes.c_double.from_address(a.ctypes.data + 8 * {index}).value
        print("outside", flush=True)
    """
    process = run_python(code, PYTHONPATH=TESTS)
    assert process.returncode == -signal.SIGSEGV, process.stderr
    assert process.stdout == "inside\n"


def test_bad_labels_in_small_arrays():
    code = """
        from fences import BAD_LABELS, attempt_bad_labels
        attempt_bad_labels(37, BAD_LABELS, ("none", "mean", "sum"))
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)


def test_bad_labels_in_large_arrays():
    """Large enough for several threads."""
    code = """
        from fences import attempt_bad_labels
        attempt_bad_labels(200_000, [11, 2**40, -1, -2**62], ("none", "mean"))
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)


def test_bad_labels_with_weights_and_smoothing():
    """The class weights are indexed by the labels too."""
    code = """
        import fastloss, numpy as np
        from fences import BAD_LABELS, expect_index_error, fenced
        logits = fenced(np.zeros((37, 11), np.float32))
        gradient = fastloss.value_and_grad(fastloss.cross_entropy)
        for at_end in (True, False):
            weight = fenced(np.ones(11, np.float32), at_end)
            for bad in BAD_LABELS:
                target = np.zeros(37, np.int64)
                target[36] = bad
                for smoothing in (0.0, 0.1):
                    options = {"weight": weight, "label_smoothing": smoothing}
                    expect_index_error(36, bad, fastloss.cross_entropy, logits, target, **options)
                    expect_index_error(36, bad, gradient, logits, target, **options)
                expect_index_error(36, bad, fastloss.nll_loss, logits, target, weight=weight)
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)


def test_good_arrays_up_to_the_fences():
    """Vector loops stop at the last element, whatever the length; and the place changes no bit."""
    code = """
        import fastloss, numpy as np
        from cases import PLAIN_CASES, generator
        from fences import fenced

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
    check_python(code, PYTHONPATH=TESTS)
