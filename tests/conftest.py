"""Tests of what every backend must do run on each of them; of many combinations of parameters, a run makes a cover of all pairs."""

import functools
import itertools

import pairwise
import pytest

import fastloss
from fastloss.backends import load

# The compiled backends, and whatever answers where neither is to be had: it is slow, so the largest arrays are left out.
# Numba comes last, as its kernels are compiled first: where a cover of pairs has a choice, it takes what comes first.
COMPILED = ("cython", "numba")
EVERY = ("cython", "numpy", "numba")

MODULES = {
    "test_accumulate": EVERY,
    "test_accuracy": COMPILED,
    "test_accuracy_pointwise": COMPILED,
    "test_backends": EVERY,
    "test_bounds": EVERY,
    "test_compare": EVERY,
    "test_dask_classes": EVERY,
    "test_determinism": COMPILED,
    "test_errors": EVERY,
    "test_gradients": EVERY,
    "test_known_values": EVERY,
    "test_linear": EVERY,
    "test_linear_score": EVERY,
    "test_no_warnings": EVERY,
    "test_own_pointwise": EVERY,
    "test_own_rows": EVERY,
    "test_properties": EVERY,
    "test_regression": EVERY,
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
    """Those that would be skipped come last, or a cover of pairs would choose them for what others can show."""
    return sorted(names, key=lambda name: reason_missing(name) is not None)


def pytest_generate_tests(metafunc):
    names = MODULES.get(metafunc.module.__name__)
    if names:
        metafunc.parametrize("backend", available_first(names), indirect=True)


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items):
    """The oracle has no backends: its comparisons run once.  Of many combinations of parameters those beyond a cover are marked `full`."""
    items[:] = [item for item in items if not _is_oracle_again(item)]
    parametrised = [item for item in items if hasattr(item, "callspec") and not _is_put_off(item)]
    for _, module in itertools.groupby(parametrised, key=lambda item: item.path):
        _mark_all_but(_of_a_module, list(module), pytest.mark.full)
    for _, test in itertools.groupby(parametrised, key=_test):
        _mark_all_but(_of_a_test, list(test), pytest.mark.beyond_pairs)


def _is_put_off(item):
    """By a mark of its own."""
    return item.get_closest_marker("slow") or item.get_closest_marker("full")


def _mark_all_but(covering, combinations, mark):
    covered = set(covering(combinations))
    for position, item in enumerate(combinations):
        if position not in covered:
            item.add_marker(mark)


def _of_a_test(combinations):
    """Those that hold all pairs of values of the test's parameters, the backend among them."""
    return pairwise.fewest([pairwise.groups(_values(item), _strength(item)) for item in combinations])


def _of_a_module(combinations):
    """The same, but for the backends, which the tests share: each value of a parameter meets each backend in one of them.

    What one test shows of a loss on a backend, another need not show for every loss again.  So each test has its own pairs,
    wherever it does not matter on the cheapest backend, and runs once on each; what is then missing goes to the test that comes first.
    """
    of_tests = [_own(item) for item in combinations]
    together = [mine | _with_backend(item) for mine, item in zip(of_tests, combinations, strict=True)]
    return pairwise.fewest(together, pairwise.fewest(of_tests))


def _own(item):
    """What no other test of the module holds: pairs of values, and that it runs on a backend."""
    values, backends = _values(item), _backends(item)
    pairs = values if _strength(item) == 1 else [*pairwise.groups(values - backends), *backends]
    return {(_test(item), pair) for pair in pairs}


def _with_backend(item):
    if _strength(item) == 1 or item.get_closest_marker("any_backend"):
        return set()
    backends = _backends(item)
    return set(itertools.product(_values(item) - backends, backends))


def _backends(item):
    return {value for value in _values(item) if value[0] == "backend"}


def _test(item):
    return item.parent, getattr(item, "originalname", item.name)


def _strength(item):
    return 1 if item.get_closest_marker("expensive") else 2


def _values(item):
    """A test's parameters by name, their values told apart by identity, as not all are hashable."""
    return {(name, id(value)) for name, value in item.callspec.params.items()}


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
