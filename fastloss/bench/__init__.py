"""The benchmark suite: named cases, contenders, the roof of memory, and honest comparisons.

`pytest bench` and `fastloss bench` both run it.  `cases` is the one table of what is computed, `contenders` of who
computes it, `roof` of how fast the same bytes can be moved at all, `measure` times them in turn, `session` brings one
case together, `report` and `plot` show it, `compare` sets one build against another.

`cases`, `measure` and `subject` import nothing of the rest: a worker of `compare` loads them beside an older build.
"""
