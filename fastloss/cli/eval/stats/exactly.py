"""Arrays taken apart so that sums of the parts are exact: in any order, any grouping, and by any BLAS.

A double is a sum of a few multiples of 2**e, for e a multiple of `WIDTH`, each of at most 2**WIDTH units. Fewer than
2**(53 - WIDTH) of those add up in float64 without any rounding (Demmel & Nguyen, "Fast Reproducible Floating-Point
Summation", ARITH 2013, split numbers in the same way).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastloss._exact import LOWEST, ExactSum

WIDTH = 32
BLOCK = 1 << 16  # elements that are summed together; with weights of up to 16 they still are within 2**53 units

_FAR = 900  # numbers above 2**_FAR are taken apart by themselves, shrunk, as the rounding constant would overflow


def levels(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs `(e, part)`, where `part * 2**e` adds up to the finite `values`; parts are whole numbers in float64."""
    rest = values.astype(np.float64)
    largest = float(np.abs(rest).max(initial=0.0))
    if largest >= 2.0**_FAR:
        far = np.where(np.abs(rest) >= 2.0**_FAR, rest, 0.0)
        rest -= far
        yield from ((e + 4 * WIDTH, part) for e, part in levels(far * 2.0 ** (-4 * WIDTH)))
        largest = float(np.abs(rest).max())
    e = (np.frexp(largest)[1] - 1) // WIDTH * WIDTH
    while largest:
        # 2**52 and half of it again, in units of 2**e: adding that rounds to whole units, and is exact to take away
        magic = np.ldexp(1.5, int(e) + 52)
        part = rest + magic
        part -= magic
        rest -= part
        yield int(e), np.ldexp(part, -int(e))
        e -= WIDTH
        largest = float(np.abs(rest).max())


def units(number: int, e: int) -> int:
    """`number * 2**e` in the units of an `ExactSum`."""
    shift = LOWEST + e
    return number << shift if shift >= 0 else number >> -shift


def add_all(total: ExactSum, values: np.ndarray) -> None:
    """Add all elements to `total`; infinities and NaN by their own rules."""
    values = values.reshape(-1)
    for start in range(0, values.size, BLOCK):
        block, special = finite(values[start : start + BLOCK])
        if special is not None:
            with np.errstate(invalid="ignore"):  # infinities of both signs
                total.special += float(special.sum())
        for e, part in levels(block):
            total.units += units(int(part.sum()), e)


def finite(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """`values` with 0 where they are not finite, and those that are not with 0 elsewhere (None if there are none)."""
    good = np.isfinite(values)
    if good.all():
        return values, None
    return np.where(good, values, 0), np.where(good, 0, values).astype(np.float64)


def encode(total: ExactSum) -> str:
    """A sum as text that `decode` gives back without loss."""
    return f"{total.units:x}" + (f" {total.special}" if total.special else "")


def decode(text: str) -> ExactSum:
    """The sum that `encode` wrote."""
    number, _, special = text.partition(" ")
    return ExactSum(int(number, 16), float(special or 0.0))
