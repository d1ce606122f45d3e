"""Types of arguments: each turns a word of the command line into a value, or says what it must be."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def _whole(what: str, allows: Callable[[int], bool]) -> Callable[[str], int]:
    """The type of whole numbers that are allowed; `what` those must be, for the message."""

    def convert(text: str) -> int:
        number = int(text)
        if not allows(number):
            raise argparse.ArgumentTypeError(f"must {what}, not {number}")
        return number

    convert.__name__ = "whole number"  # argparse names the type in its message
    return convert


def _number(what: str, allows: Callable[[float], bool]) -> Callable[[str], float]:
    """The type of numbers that are allowed."""

    def convert(text: str) -> float:
        number = float(text)
        if not allows(number):
            raise argparse.ArgumentTypeError(f"must {what}, not {text}")
        return number

    convert.__name__ = "number"
    return convert


MOST_RESAMPLES = 1_000_000  # each takes some bytes of every sum

_countable = _whole("be below 2**63", lambda n: n < 1 << 63)
_not_less = _whole("be at least 1", lambda n: n >= 1)


def positive(text: str) -> int:
    """A count of at least 1, and of no more than what can be counted."""
    return _not_less(str(_countable(text)))


positive.__name__ = "whole number"

MOST_ELEMENTS = 10**9


def size(text: str) -> int:
    """A number of elements, which may be written as 3e7."""
    number = float(text)
    if not (1 <= number <= MOST_ELEMENTS and number.is_integer()):
        raise argparse.ArgumentTypeError(f"must be a whole number in [1, {MOST_ELEMENTS:g}], not {text}")
    return int(number)


size.__name__ = "number of elements"

resamples = _whole(f"lie in [1, {MOST_RESAMPLES}]", lambda n: 1 <= n <= MOST_RESAMPLES)
MOST_BINS = 1 << 12

bins = _whole(f"lie in [1, {MOST_BINS}]", lambda n: 1 <= n <= MOST_BINS)
seed = _whole("lie in [0, 2**128)", lambda n: 0 <= n < 1 << 128)
fraction = _number("lie in [0, 1]", lambda x: 0 <= x <= 1)
seconds = _number("be above 0", lambda x: 0 < x < float("inf"))
factor = _number("be at least 1", lambda x: 1 <= x < float("inf"))
