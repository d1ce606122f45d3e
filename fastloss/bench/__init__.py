"""The benchmark suite: named cases, contenders, the roof of memory, and honest comparisons.

`pytest bench` and `fastloss bench` both run it.  `cases` is the one table of what is computed, `contenders` of who
computes it, `roof` of how fast the same bytes can be moved at all, `measure` times them in turn, `session` brings one
case together, `report` and `plot` show it.

`against` sets one side against another: `environments` makes sides, `turns` runs pairs of processes, `estimate` and `judge` say what follows,
`same_code` what could be seen at all, `gates` what can be counted, `findings` what is a problem, `verdicts` and `history` show it.

`arrays`, `case`, `measure` and `subject` import nothing of the rest: a worker process loads them beside a build of any age.
"""
