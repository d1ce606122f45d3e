"""The one exception the command line turns into a one-line message."""

from __future__ import annotations


class Failure(Exception):
    """A problem that the user can mend, shown as `fastloss: error: where: problem` with exit code 2.

    Parameters
    ----------
    where : str or None
        The file or option concerned; None where the problem already names it.
    problem : str
        What is wrong with it, and what was expected.
    """

    def __init__(self, where: str | None, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        # A library's message may span lines, and a file name may hold anything at all.
        problem = printable(" ".join(self.problem.split()))
        return problem if self.where is None else f"{printable(self.where) or repr('')}: {problem}"


def printable(text: str) -> str:
    """`text` with control characters and undecodable bytes escaped, so that it stays on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
