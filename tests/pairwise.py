"""Which of all combinations of parameters a run makes by default: few that hold every pair of values.

A test whose parameters are a loss, a dtype, a layout and a backend runs as often as their numbers' product says.  What
goes wrong with such a test nearly always goes wrong with one value or with two that meet, whatever the others are, so that
a cover of all pairs finds it: for n and m values of the two longest parameters it has little more than n × m
combinations, however many parameters there are.  The rest of the product is what ``-m full`` runs.
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

    Notes
    -----
    Greedy: the row that holds the most pairs not yet held comes first.  Rather than looking for it among all rows
    again and again, go through the rows in order once for each number of new pairs, from the largest possible to 1, and take
    those that bring as many.  That depends on the rows and their order alone, so that all processes of a run, and all runs,
    choose the same.  Where several would do, the one that comes first is taken: put first what is cheap.
    """
    groups = [_groups(row, strength) for row in rows]
    missing = set().union(*groups)
    chosen = set()
    for wanted in range(max(map(len, groups), default=0), 0, -1):
        for position, mine in enumerate(groups):
            if position not in chosen and len(mine & missing) >= wanted:
                chosen.add(position)
                missing -= mine
    return sorted(chosen)


def _groups(row, strength):
    """All pairs, or whatever `strength` says, of a row's values, each with its columns."""
    columns = combinations(range(len(row)), min(strength, len(row)))
    return {(some, tuple(row[i] for i in some)) for some in columns}
