"""Which tests run by default, by the marks `full` and `beyond_pairs` on all others."""

import itertools

import pairwise
import pytest


def mark(items):
    """Mark the combinations of parameters beyond the covers of modules, and beyond those of single tests.

    Those that have a mark of their own, `slow` or `full`, are left as they are.
    """
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

    What one test shows of a loss on a backend, another need not show for every loss again.  So each test has its own pairs, on the
    cheapest backend; it runs once on each other, with its first values; and what is then missing goes to the test that comes first.
    """
    chosen = ()
    for held in (_own, _own_backend, _with_backend):
        chosen = pairwise.fewest([held(item) for item in combinations], chosen)
    return chosen


def _own(item):
    """What no other test of the module holds: pairs of values but for backends."""
    values = _values(item)
    pairs = values if _strength(item) == 1 else pairwise.groups(values - _backends(item))
    return {(_test(item), pair) for pair in pairs}


def _own_backend(item):
    return set() if item.get_closest_marker("one_backend") else {(_test(item), backend) for backend in _backends(item)}


def _with_backend(item):
    """Pairs of a backend and another value, but for parameters that `any_backend` names, or for all if it names none."""
    marker, backends = item.get_closest_marker("any_backend"), _backends(item)
    if _strength(item) == 1 or marker and not marker.args or item.get_closest_marker("one_backend"):
        return set()
    others = {value for value in _values(item) - backends if not (marker and value[0] in marker.args)}
    return set(itertools.product(others, backends))


def _backends(item):
    return {value for value in _values(item) if value[0] == "backend"}


def _test(item):
    return item.parent, item.originalname


def _strength(item):
    return 1 if item.get_closest_marker("expensive") else 2


def _values(item):
    """A test's parameters by name, their values told apart by identity, as not all are hashable."""
    return {(name, id(value)) for name, value in item.callspec.params.items()}
