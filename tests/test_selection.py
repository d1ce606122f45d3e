"""Which combinations of parameters run by default: few that hold every pair of values."""

import itertools
from types import SimpleNamespace

import numpy as np
import pairwise
import pytest
import selection


def pairs(rows):
    """By position, as values of different parameters may be equal."""
    return {(i, row[i], j, row[j]) for row in rows for i, j in itertools.combinations(range(len(row)), 2)}


@pytest.mark.parametrize("sizes", [(15, 4, 4, 3, 2), (18, 9, 3), (2, 2, 2, 2, 2, 2), (3, 11, 2, 3), (4, 4, 4)], ids=str)
def test_a_product_is_covered_by_few(sizes):
    rows = list(itertools.product(*map(range, sizes)))
    chosen = [rows[i] for i in pairwise.cover(rows)]
    assert pairs(chosen) == pairs(rows)
    # The two longest parameters take their product by themselves; small squares are not covered without a remainder.
    longest, second = sorted(sizes)[:-3:-1]
    assert len(chosen) <= max(longest * second, 2 * len(sizes))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_what_is_no_product_is_covered_as_far_as_it_goes(share):
    rng = np.random.default_rng(1)
    product = itertools.product("abcd", range(5), (None, True), ("x", "y", "z"))
    rows = [row for row in product if rng.random() < share]
    chosen = [rows[i] for i in pairwise.cover(rows)]
    assert pairs(chosen) == pairs(rows)
    assert len(chosen) < len(rows) or share < 0.1


def test_up_to_two_parameters_are_run_in_full():
    rows = list(itertools.product(range(3), range(4)))
    assert pairwise.cover(rows) == list(range(12))
    assert pairwise.cover([(value,) for value in "abc"]) == [0, 1, 2]
    assert pairwise.cover([]) == []


class Item:
    """What `selection` needs of a test."""

    path = "module"
    parent = None

    def __init__(self, name, marks=(), **parameters):
        self.originalname, self.marks = name, {mark.name: mark for mark in marks}
        self.callspec = SimpleNamespace(params=parameters)

    def get_closest_marker(self, name):
        return self.marks.get(name)

    def add_marker(self, marker):
        self.marks[marker.name] = marker

    def __getattr__(self, parameter):
        return self.callspec.params[parameter]


def module(*marks):
    """Two tests, of which the second would need nothing but its shapes, as (cheap, dear) × losses × dtypes or shapes."""
    product = itertools.product(("cheap", "dear"), "abcdef")
    values = [Item("values", backend=b, loss=loss, dtype=d) for b, loss in product for d in (4, 8)]
    product = itertools.product(("cheap", "dear"), "abcdef")
    return values + [Item("others", marks, backend=b, loss=loss, shape=s) for b, loss in product for s in (1, 2, 3)]


def test_tests_share_backends():
    items = module()
    selection.mark(items)
    default = [item for item in items if "full" not in item.marks]
    for name, second in (("values", "dtype"), ("others", "shape")):
        test = [item for item in items if item.originalname == name]
        own = [item for item in default if item.originalname == name]
        for pair in (("loss", second), ("backend",), ("backend", second)):
            assert {tuple(getattr(i, p) for p in pair) for i in own} == {
                tuple(getattr(i, p) for p in pair) for i in test
            }
    assert {(i.backend, i.loss) for i in default} == {(i.backend, i.loss) for i in items}
    # by itself each test has all pairs
    alone = [item for item in items if "beyond_pairs" not in item.marks]
    assert {(i.backend, i.loss) for i in alone if i.originalname == "others"} == {(i.backend, i.loss) for i in items}
    n_dear, n_dear_alone = (sum(item.backend == "dear" for item in chosen) for chosen in (default, alone))
    assert n_dear == 7 < n_dear_alone  # two dtypes, three shapes, six losses: hardly more than the losses


@pytest.mark.parametrize(
    ("marker", "n_dear"),
    [(pytest.mark.any_backend, 1), (pytest.mark.any_backend("loss"), 3), (pytest.mark.one_backend, 0)],
    ids=["all", "some", "one backend"],
)
def test_any_backend_will_do(marker, n_dear):
    """For all parameters of the test, or for those that are named."""
    items = module(marker.mark)
    selection.mark(items)
    others = [item for item in items if item.originalname == "others" and "full" not in item.marks]
    assert sum(item.backend == "dear" for item in others) == n_dear


def test_marks_of_ones_own_stay():
    marks = [[pytest.mark.full.mark], [pytest.mark.slow.mark], []]
    items = [Item("values", mine, backend="cheap", loss="a") for mine in marks]
    selection.mark(items)
    assert [list(item.marks) for item in items] == [["full"], ["slow"], []]
