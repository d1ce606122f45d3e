"""Finds the revision that made a case slower, by bisection; revisions without a clear verdict are skipped, as by
`git bisect skip`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import CANT_TELL, KINDS, MISSING
from .judge import SLOWER, UNCERTAIN


@dataclass(frozen=True)
class Result:
    """The result of a bisection.

    Attributes
    ----------
    suspects : revisions of which one caused the slowdown, oldest first; none if the last one is not slower.
    verdict : of the last revision.
    """

    suspects: tuple[str, ...]
    verdict: str

    @property
    def exit_code(self) -> int:
        """0 if a slowdown was found, even if several suspects are left."""
        if self.suspects:
            return 0
        kind = {UNCERTAIN: CANT_TELL, MISSING: MISSING}.get(self.verdict)
        return KINDS[kind][0] if kind else KINDS["nothing"][0]

    def as_dict(self) -> dict[str, Any]:
        return {"schema": "fastloss-bench-bisect", "version": 1, "suspects": self.suspects, "verdict": self.verdict}

    def __str__(self) -> str:
        if not self.suspects:
            return f"the last revision is not slower: {self.verdict}"
        if len(self.suspects) == 1:
            return f"slower since {self.suspects[0]}"
        return "\n".join(["slower since one of", *self.suspects])


def search(revisions: Sequence[str], verdict_of: Callable[[str], str]) -> Result:
    """Find the suspects among revisions, oldest first, the last of which should be slower than the good one before the
    first.

    `verdict_of` compares a revision with the good one.
    """
    if not revisions:
        return Result((), "there is no revision in between")
    last = verdict_of(revisions[-1])
    if last != SLOWER:
        return Result((), last)
    low, high = -1, len(revisions) - 1  # the last known not to be slower, the first known to be
    untold: set[int] = set()
    while open_ones := [i for i in range(low + 1, high) if i not in untold]:
        middle = min(open_ones, key=lambda i: abs(2 * i - low - high))
        verdict = verdict_of(revisions[middle])
        if verdict == SLOWER:
            high = middle
        elif verdict in (UNCERTAIN, MISSING):
            untold.add(middle)
        else:
            low = middle
    return Result(tuple(revisions[low + 1 : high + 1]), last)
