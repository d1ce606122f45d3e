"""Tests of what every backend must do run on each of them, one after the other."""

import pytest

import fastloss

# The compiled backends, and whatever answers where neither is to be had: it is slow, so the largest arrays are left out.
COMPILED = ("numba", "cython")
EVERY = (*COMPILED, "numpy")

MODULES = {
    "test_accumulate": EVERY,
    "test_accuracy": COMPILED,
    "test_accuracy_pointwise": COMPILED,
    "test_bounds": EVERY,
    "test_dask_classes": EVERY,
    "test_determinism": COMPILED,
    "test_errors": EVERY,
    "test_gradients": EVERY,
    "test_linear": EVERY,
    "test_linear_score": EVERY,
    "test_plain": EVERY,
    "test_properties": EVERY,
    "test_regression": EVERY,
    "test_rows_exact": EVERY,
    "test_score": EVERY,
    "test_sklearn": EVERY,
    "test_softmax_family": EVERY,
    "test_special_values": EVERY,
    "test_threads_fork": COMPILED,
    "test_torch": COMPILED,
    "test_torch_pointwise": EVERY,
    "test_values": EVERY,
}


def pytest_generate_tests(metafunc):
    names = MODULES.get(metafunc.module.__name__)
    if names:
        metafunc.fixturenames.append("backend")
        metafunc.parametrize("backend", names, indirect=True)


def pytest_collection_modifyitems(items):
    """The oracle has no backends: its comparisons run once."""
    items[:] = [item for item in items if not _is_oracle_again(item)]


def _is_oracle_again(item):
    parameters = getattr(item, "callspec", None) and item.callspec.params or {}
    subject = getattr(parameters.get("subject"), "__name__", None)
    return subject == "Oracle" and parameters.get("backend", COMPILED[0]) != COMPILED[0]


@pytest.fixture
def backend(request, monkeypatch):
    """The backend by name, in force for this process and those it starts."""
    reason = fastloss.backends()[request.param]
    if reason != "available":
        pytest.skip(f"backend {request.param!r}: {reason}")
    monkeypatch.setenv("FASTLOSS_BACKEND", request.param)
    chosen = fastloss.use_backend(request.param)
    yield request.param
    with chosen:  # takes it back
        pass
