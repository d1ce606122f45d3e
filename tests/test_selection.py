"""Which combinations of parameters run by default: few that hold every pair of values."""

import itertools

import numpy as np
import pairwise
import pytest


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
