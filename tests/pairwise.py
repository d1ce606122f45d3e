"""Which of all combinations of parameters a run makes by default: as few as hold every pair of values.

A test whose parameters are a loss, a dtype, a layout and a backend runs as often as their numbers' product says.  What
goes wrong with such a test nearly always goes wrong with one value or with two that meet, whatever the others are, so that
a cover of all pairs finds it: for n and m values of the two longest parameters it has little more than n × m
combinations, however many parameters there are.  The rest of the product is what ``-m full`` runs.
"""

from itertools import combinations


def cover(rows):
    """Positions of `rows` that together hold every pair of values that any row holds.

    Parameters
    ----------
    rows : sequence of tuples of hashable values, all of one length.  They need not be a full product: what no row
        holds, such as a pair that the test leaves out on purpose, is not asked for.

    Returns
    -------
    Ascending positions.  With up to two values a row, that is every row that does not repeat another.

    Notes
    -----
    Greedy: the row that holds the most pairs not yet held comes first.  Rather than looking for it among all rows
    again and again, go through the rows in order once for each number of new pairs, from the largest possible to 1, and take
    those that bring as many.  That depends on the rows and their order alone, so that all processes of a run, and all runs,
    choose the same.
    """
    pairs = [_pairs(row) for row in rows]
    missing = set().union(*pairs)
    chosen = set()
    for wanted in range(max(map(len, pairs), default=0), 0, -1):
        for position, mine in enumerate(pairs):
            if position not in chosen and len(mine & missing) >= wanted:
                chosen.add(position)
                missing -= mine
    return sorted(chosen)


def _pairs(row):
    """The pairs of values of a row, each with its two columns; a row of a single value holds that."""
    columns = range(len(row))
    return {(i, row[i], j, row[j]) for i, j in combinations(columns, 2)} or {(i, row[i]) for i in columns}
