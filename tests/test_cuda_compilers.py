"""Which compiler for CUDA is chosen, of those that are installed."""

import pytest

from fastloss.backends import numba_cuda

MISSING, BROKEN = (
    ModuleNotFoundError("No module named so"),
    AttributeError("module 'numpy' has no attribute 'row_stack'"),
)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (None, None, "numba-cuda"),
        (None, MISSING, "numba-cuda"),
        (MISSING, None, "numba-cuda-mlir"),
        (BROKEN, None, "numba-cuda-mlir"),
        (BROKEN, MISSING, "numba-cuda can't be imported (AttributeError: module 'numpy' has no attribute 'row_stack')"),
        (MISSING, BROKEN, "numba-cuda-mlir can't be imported (AttributeError: module 'numpy' has no attribute"),
        (MISSING, MISSING, "numba-cuda is not installed (No module named so): pip install 'fastloss[cuda]'"),
    ],
)
def test_the_first_that_works(monkeypatch, first, second, chosen):
    errors = {"numba_cuda": first, "numba": first, "numba_cuda_mlir": second}
    monkeypatch.setattr(numba_cuda, "failure_of_import", lambda module: errors[module.partition(".")[0]])
    name, reason = numba_cuda.chosen.__wrapped__()
    assert (name or reason).startswith(chosen)
    assert (name is None) == (reason is not None)
    if name is None:  # the extra that brings what was found, or the first
        extra = "cuda-mlir" if chosen.startswith("numba-cuda-mlir") else "cuda"
        assert reason.endswith(f"'fastloss[{extra}]'")
