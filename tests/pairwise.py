"""Which of all combinations of parameters a run makes by default: few that hold every pair of values.

A test whose parameters are a loss, a dtype, a layout and a backend runs as often as their numbers' product says.  What
goes wrong with such a test nearly always goes wrong with one value or with two that meet, whatever the others are, so that
a cover of all pairs finds it: for n and m values of the two longest parameters it has little more than n × m
combinations, however many parameters there are.  The rest of the product is what ``-m full`` runs.

Backends multiply most, and the tests of a module share them: see `conftest.py`.
"""

from itertools import combinations


def cover(rows, strength=2):
    """Positions of `rows` that together hold every pair of values that any row holds.

    Parameters
    ----------
    rows : sequence of tuples of hashable values, all of one length.  They need not be a full product: what no row
        holds, such as a pair that the test leaves out on purpose, is not asked for.
    strength : 2 for pairs of values, 1 for values by themselves, and so on.

    Returns
    -------
    Ascending positions.  With no more columns than `strength` that is every row that does not repeat another.
    """
    return fewest([groups(enumerate(row), strength) for row in rows])


def groups(values, strength=2):
    """All pairs, or whatever `strength` says, of a row's values, each value with its column."""
    values = sorted(values)
    return set(combinations(values, min(strength, len(values))))


def fewest(held, chosen=()):
    """Positions of sets that together hold what all of them hold, ascending; those of `chosen` are among them.

    Notes
    -----
    Greedy: the set with the most that is not yet held comes first.  Rather than looking for it among all sets
    again and again, go through them in order once for each number of new members, from the largest possible to 1, and take
    those that bring as many.  That depends on the sets and their order alone, so that all processes of a run, and all runs,
    choose the same.  Where several would do, the one that comes first is taken: put first what is cheap.
    """
    chosen = set(chosen)
    missing = set().union(*held).difference(*(held[position] for position in chosen))
    for wanted in range(max(map(len, held), default=0), 0, -1):
        for position, mine in enumerate(held):
            if position not in chosen and len(mine & missing) >= wanted:
                chosen.add(position)
                missing -= mine
    return sorted(chosen)
