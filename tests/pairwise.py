"""Selects the combinations of parameters that run by default: a few that contain every pair of values.

A test with a loss, a dtype, a layout and a backend as parameters has as many combinations as the product of their
numbers of values.  Nearly every failure depends on one value or on a pair of values, whatever the others are, so that a
cover of all pairs finds it.  If the two longest parameters have n and m values, a cover has little more than n × m
combinations, however many parameters there are.  ``-m full`` runs the others.

Backends multiply the number of tests most, and the tests of a module share them: see `conftest.py`.
"""

from itertools import combinations


def cover(rows, strength=2):
    """Positions of `rows` that together contain every pair of values that occurs in any row.

    Parameters
    ----------
    rows : sequence of tuples of hashable values, all of one length.  They need not be a full product: a pair that no
        row contains, such as one that the test excludes on purpose, is not required.
    strength : 2 for pairs of values, 1 for single values, and so on.

    Returns
    -------
    Ascending positions.  With at most `strength` columns these are all rows except duplicates.
    """
    return fewest([groups(enumerate(row), strength) for row in rows])


def groups(values, strength=2):
    """All combinations of `strength` values of a row, each value with its column."""
    values = sorted(values)
    return set(combinations(values, min(strength, len(values))))


def fewest(held, chosen=()):
    """Positions, ascending, of sets whose union is the union of all sets; `chosen` positions are included.

    Notes
    -----
    Greedy: the set with the most new members is chosen next.  Instead of searching all sets for it each time, go
    through them in order once for each number of new members, from the largest possible down to 1, and choose those
    that have as many.  The choice depends only on the sets and their order, so that all processes of a run, and all
    runs, make the same.  Among equally good sets the first is chosen: put cheap ones first.
    """
    chosen = set(chosen)
    missing = set().union(*held).difference(*(held[position] for position in chosen))
    for wanted in range(max(map(len, held), default=0), 0, -1):
        for position, mine in enumerate(held):
            if position not in chosen and len(mine & missing) >= wanted:
                chosen.add(position)
                missing -= mine
    return sorted(chosen)
