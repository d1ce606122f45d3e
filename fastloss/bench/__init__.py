"""The benchmark suite: named cases, contenders, the memory roof, and fair comparisons.

`pytest bench` and `fastloss bench` both run it.  `cases` is the table of what is computed, `contenders` of the
libraries that compute it; `roof` measures how fast the same bytes can be moved at all, `measure` times everything in
turn, `session` runs one case, `report` and `plot` show it.

`against` compares two sides: `environments` makes them, `turns` runs pairs of processes, `estimate` and `judge` reach
verdicts, `same_code` finds what can be detected at all, `gates` counts what can be counted, `findings` says what is a
problem, `verdicts` and `history` show it.

`arrays`, `case`, `measure` and `subject` import nothing from the rest: a worker process loads them next to a build of
any age.
"""
