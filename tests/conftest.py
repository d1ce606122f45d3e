"""Runs tests of what every backend must do on each of them, and selects combinations of parameters that cover all
pairs."""

import functools
import gc
import json

import pytest
import selection

import fastloss
from fastloss.backends import load
from fastloss.cli import main

# The compiled backends, and the one that is used if neither is available, which is slow, so that tests with large
# arrays leave it out.  Numba comes last, because its kernels have to be compiled: where a cover of pairs has a choice,
# it takes what comes first.
COMPILED = ("cython", "numba")
EVERY = ("cython", "numpy", "numba")
OWN = ("numpy", "cython", "numba")  # losses of one's own are compiled by Numba for both of the compiled backends

MODULES = {
    "test_accumulate": EVERY,
    "test_accuracy": COMPILED,
    "test_accuracy_pointwise": COMPILED,
    "test_axes": EVERY,
    "test_backends": EVERY,
    "test_bounds": EVERY,
    "test_compare": EVERY,
    "test_dask_classes": EVERY,
    "test_determinism": COMPILED,
    "test_errors": EVERY,
    "test_forecasts": COMPILED,
    "test_gradients": EVERY,
    "test_known_values": EVERY,
    "test_linear": EVERY,
    "test_linear_compare": EVERY,
    "test_linear_score": EVERY,
    "test_models_exact": EVERY,
    "test_no_warnings": EVERY,
    "test_other_libraries": EVERY,
    "test_own_pointwise": OWN,
    "test_own_rows": OWN,
    "test_probabilities": EVERY,
    "test_properties": EVERY,
    "test_regression": EVERY,
    "test_row_formulas": EVERY,
    "test_rows_exact": EVERY,
    "test_score": EVERY,
    "test_score_details": EVERY,
    "test_sklearn": EVERY,
    "test_softmax_family": EVERY,
    "test_special_values": EVERY,
    "test_threads_fork": COMPILED,
    "test_torch": COMPILED,
    "test_torch_pointwise": EVERY,
    "test_transforms": EVERY,
    "test_values": EVERY,
}


@functools.cache
def reason_missing(backend):
    return load(backend).available()


def available_first(names):
    """The backends, unavailable ones last: otherwise a cover of pairs would choose tests that are skipped."""
    return sorted(names, key=lambda name: reason_missing(name) is not None)


def pytest_generate_tests(metafunc):
    names = MODULES.get(metafunc.module.__name__)
    if names:
        metafunc.parametrize("backend", available_first(names), indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without looking for garbage while tens of thousands of items are made that stay: a quarter of the time of collecting them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items):
    """The oracle has no backends: its comparisons run once.  What is beyond a cover of pairs is marked `full`."""
    items[:] = [item for item in items if not _is_oracle_again(item)]
    selection.mark(items)


def pytest_collection_finish(session):
    """What is there before the first test stays: tens of thousands of items need not be searched for garbage during each compilation."""
    gc.collect()
    gc.freeze()


def _is_oracle_again(item):
    parameters = getattr(item, "callspec", None) and item.callspec.params or {}
    if getattr(parameters.get("subject"), "__name__", None) != "Oracle" or "backend" not in parameters:
        return False
    return parameters["backend"] != available_first(MODULES[item.module.__name__])[0]


@pytest.fixture(autouse=True)  # a fixture that a test does not ask for by name would be left out, parametrised or not
def backend(request):
    """The backend by name, in force for this process and those it starts; None in modules that run on the default."""
    name = getattr(request, "param", None)
    if name is None:
        yield None
        return
    if reason_missing(name):
        pytest.skip(f"backend {name!r}: {reason_missing(name)}")
    request.getfixturevalue("monkeypatch").setenv("FASTLOSS_BACKEND", name)
    chosen = fastloss.use_backend(name)
    yield name
    with chosen:  # takes it back
        pass


@pytest.fixture
def evaluate(capsys):
    """Runs `fastloss eval --json` with these arguments; returns the document."""

    def run(*arguments):
        code = main(["eval", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return json.loads(captured.out)

    return run


@pytest.fixture
def error(capsys):
    """Runs `fastloss eval` with these arguments, which must fail; returns its one line of message."""

    def run(*arguments):
        code = main(["eval", *map(str, arguments)])
        captured = capsys.readouterr()
        assert code == 2, f"exit code {code}; printed: {captured.out}"
        assert captured.out == ""
        assert captured.err.startswith("fastloss: error: ") and captured.err.count("\n") == 1
        return captured.err.removeprefix("fastloss: error: ").rstrip("\n")

    return run
