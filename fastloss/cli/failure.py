"""The one exception the command line turns into a one-line message, and what makes it of all that can go wrong with a file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

_LONGEST = 1000  # characters of a message: a damaged header may be quoted in full, and names may be anything


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
        problem = _shown(" ".join(self.problem.split()))
        return problem if self.where is None else f"{_shown(self.where) or repr('')}: {problem}"


@contextlib.contextmanager
def reading(name: str, problem: str = "cannot be read") -> Iterator[None]:
    """Whatever goes wrong in the block becomes a Failure that names the file: damaged bytes end in any exception at all.

    An error of the operating system is reported by its own text, after `problem` if that is not the default. Warnings of
    the libraries that read are dropped.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Failure:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            told = error.strerror.lower()
            if problem == "cannot be read":
                raise Failure(name, told) from None
        else:
            told = str(error) or type(error).__name__
        raise Failure(name, f"{problem}: {told}") from None


@contextlib.contextmanager
def failing(where: str | None, *kinds: type[Exception], prefix: str = "") -> Iterator[None]:
    """Errors of these kinds become a Failure of their message, without `prefix`: the setting's name, which `where` says already."""
    try:
        yield
    except kinds as error:
        # a KeyError's text would come with quotes
        problem = str(error.args[0]) if error.args else type(error).__name__
        raise Failure(where, (told(error) if isinstance(error, OSError) else problem).removeprefix(prefix)) from None


def told(error: Exception) -> str:
    """What the system says of an error, as part of a message."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _shown(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def printable(text: str) -> str:
    """`text` with control characters and undecodable bytes escaped, so that it stays on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
