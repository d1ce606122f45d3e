"""Nothing is read out of bounds, whatever the labels: with arrays between pages that cannot be read.

Each test runs in a process of its own, where a stray read is a segmentation fault.
"""

import os
import signal
import sys

import pytest
from amounts import few_or_many
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


@few_or_many("labels", [11, -(2**62)], [2**40, -1])
def test_bad_labels_in_large_arrays(labels):
    """Large enough for several threads, and for a block in the middle."""
    code = f"""
        from fences import attempt_bad_labels
        attempt_bad_labels(70_000, {labels}, ("none", "mean"))
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)


@pytest.mark.one_backend
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


@pytest.mark.one_backend
def test_good_arrays_up_to_the_fences():
    """Vector loops stop at the last element, whatever the length; and the place changes no bit."""
    code = """
        import fastloss, numpy as np, os
        from cases import PLAIN_CASES, STAND_INS, generator
        from fences import fenced

        def everything(case, arguments):
            function = getattr(fastloss, case.loss)
            for reduction in case.reductions:
                yield function(*arguments, reduction=reduction)
                if reduction != "none":
                    yield from fastloss.value_and_grad(function)(*arguments, reduction=reduction)

        # Numba's loops are the same for all losses, and compiling them takes minutes
        few = [case for case in PLAIN_CASES if case in STAND_INS or case.loss.startswith("binary")]
        for case in few if os.environ["FASTLOSS_BACKEND"] == "numba" else PLAIN_CASES:
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


@pytest.mark.one_backend
def test_scores_between_the_fences():
    """Contiguous rows, and rows side by side; the target's logit is read before it is met on the way."""
    code = """
        import fastloss, numpy as np
        from fences import BAD_LABELS, expect_index_error, fenced

        for shape in [(1, 1), (3, 5), (37, 11), (1, 1001), (70, 130), (3, 8200)]:
            logits = np.random.default_rng(0).normal(size=shape).astype(np.float16)
            labels = np.arange(shape[0]) % shape[1]
            for axis, x in ((-1, logits), (0, logits.T.copy())):
                for more in ({}, {"top": 1, "ids": labels[:, None], "entropy": True}):
                    plain = fastloss.score(x, labels, axis=axis, top_k=3, **more)
                    for at_end in (True, False):
                        target = fenced(labels, at_end)
                        if more:
                            more["ids"] = fenced(labels[:, None], at_end)
                        got = fastloss.score(fenced(x, at_end), target, axis=axis, top_k=3, **more)
                        pairs = [(a, b) for a, b in zip(got, plain, strict=True) if b is not None]
                        assert all(a.tobytes() == b.tobytes() for a, b in pairs), (shape, axis)
        for axis, x in ((-1, fenced(np.zeros((37, 11)))), (0, fenced(np.zeros((11, 37))))):
            for bad in BAD_LABELS:
                target = np.zeros(37, np.int64)
                target[36] = bad
                for top_k in (None, 3):
                    expect_index_error(36, bad, fastloss.score, x, target, axis=axis, top_k=top_k)
                expect_index_error(36, bad, fastloss.score, x, target, axis=axis, entropy=True)
                expect_index_error(36, bad, fastloss.score, x, axis=axis, ids=target[:, None])
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)


@pytest.mark.one_backend
def test_tiles_of_linear_layers_between_the_fences():
    code = """
        import fastloss, numpy as np
        from fastloss import evaluate
        from fastloss.places.host import layer as tiled
        from fences import BAD_LABELS, expect_index_error, fenced

        tiled.ROWS, tiled.TILE = 16, 16 * 150
        at_once = tiled.FEW
        both = fastloss.value_and_grad(fastloss.linear_cross_entropy)
        rng = np.random.default_rng(0)
        for n_rows, n_features, n_classes in [(1, 1, 1), (17, 3, 11), (20, 5, 500)]:
            arrays = [rng.normal(size=shape) for shape in ((n_rows, n_features), (n_classes, n_features), n_classes)]
            labels = np.arange(n_rows) % n_classes
            for at_end in (True, False):
                hidden, layer, bias = (fenced(a, at_end) for a in arrays)
                for tiled.FEW in (0, at_once):
                    evaluate._plans.clear()
                    both(hidden, layer, fenced(labels, at_end), linear_bias=bias, weight=bias, label_smoothing=0.1)
        for bad in (b for b in BAD_LABELS if not 0 <= b < 500):
            target = np.zeros(20, np.int64)
            target[19] = bad
            expect_index_error(19, bad, fastloss.linear_cross_entropy, hidden, layer, target)
        print("fine")
    """
    check_python(code, PYTHONPATH=TESTS)
