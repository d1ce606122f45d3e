"""Block sums to results, for all backends."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, SupportsFloat

import numpy as np

from fastloss._exact import LOWEST, ExactSum


def total(partials: Any) -> Any:
    """The sums of all blocks, added in an order that depends only on the number of blocks."""
    return partials[0] if len(partials) == 1 else np.add.reduce(partials, axis=0)


# As many blocks as Python adds faster than a call of NumPy does, in the same order.
FEW = 8


def totals(partials: Any) -> list[float]:
    """The sums of all blocks as floats."""
    if len(partials) == 1:
        return partials.ravel().tolist()  # type: ignore[no-any-return]
    if len(partials) > FEW:
        return total(partials).tolist()  # type: ignore[no-any-return]
    return [functools.reduce(operator.add, column) for column in zip(*partials.tolist(), strict=True)]


def totals_and_least(partials: Any) -> tuple[float, ...]:
    """The sums of all blocks but for the last column, and the least of that."""
    if len(partials) == 1:
        return tuple(partials.ravel().tolist())
    if len(partials) > FEW:
        return *total(partials[:, :-1]).tolist(), float(partials[:, -1].min())
    *sums, last = zip(*partials.tolist(), strict=True)
    return *(functools.reduce(operator.add, column) for column in sums), min(last)


def ratio(numerator: SupportsFloat, denominator: SupportsFloat) -> float:
    """numerator / denominator as floats; 0 / 0 is NaN, without a warning."""
    numerator, denominator = float(numerator), float(denominator)
    if denominator != 0.0:
        return numerator / denominator
    return float("nan") if numerator == 0.0 or numerator != numerator else numerator * float("inf")


def mean_of_sums(total: ExactSum, weight: ExactSum, rowwise: bool) -> float:
    """The quotient of two exact sums; if nothing was counted, the value that this kind of loss has then."""
    if float(weight):
        return total.divided_by(weight)
    # if no row has weight, there is no mean, even if label smoothing left a nonzero numerator
    return float("nan") if rowwise else ratio(float(total), 0.0)


def calibration_error(bins: Any, norm: str) -> float:
    """The distance between confidences and hit rates over all nonempty bins; NaN if all are empty."""
    used = bins.counts > 0
    if not used.any():
        return float("nan")
    counts = bins.counts[used]
    gaps = np.abs(bins.confidence[used] - bins.hits[used])  # both multiplied by the counts
    if norm == "max":
        return float(np.max(gaps / counts))
    if norm == "l2":
        return float(np.sqrt(np.sum(gaps * (gaps / counts)) / np.sum(counts)))
    return float(np.sum(gaps) / np.sum(counts))


# Sums of squares beyond float64's range are multiples of 2^1200 or, the small ones, of 2^-1200.  Its root is what errors are divided by.
FAR = 1200
FAR_ROOT = 2.0 ** (FAR // 2)


def root_of_sums(total: ExactSum, weight: ExactSum | None, huge: ExactSum, tiny: ExactSum, exponent: int = 0) -> float:
    """2^exponent sqrt((total + huge 2^FAR + tiny 2^-FAR) / weight) of exact sums; the weight is None where nothing is divided."""
    if any(s.special for s in (total, huge, tiny)) or weight is not None and (weight.special or not weight.units):
        value = float(total) + float(huge) + float(tiny)
        value = value if weight is None else ratio(value, float(weight))
        return math.sqrt(value) if value >= 0.0 else math.nan
    above = (huge.units << 2 * FAR) + (total.units << FAR) + tiny.units
    below = (1 << LOWEST if weight is None else weight.units) << FAR
    if above and (above > 0) != (below > 0):
        return math.nan
    half = (above.bit_length() - below.bit_length()) // 2  # the quotient's root is about 2 to this power
    square = (above << -2 * half) / below if half < 0 else above / (below << 2 * half)
    root, half = math.sqrt(square), half + exponent
    return math.ldexp(root, half) if half < 1023 else root * 2.0**1023 * 2.0 ** (half - 1023)  # which may be infinite


def roots_of_sums(total: Any, weight: Any, huge: Any, tiny: Any) -> Any:
    """The same of arrays of floats; the weight is 1 where nothing is divided."""
    up, down = FAR_ROOT, 1.0 / FAR_ROOT
    with np.errstate(all="ignore"):
        large = np.sqrt((huge + total * down * down) / weight) * up
        usual = np.sqrt((total + tiny * down * down) / weight)
        small = np.sqrt((tiny + total * up * up) / weight) * down
        return np.where(huge != 0.0, large, np.where(np.abs(total) >= SMALL_SQUARES, usual, small))


# Sums of squares below which digits of float64 are lost.
SMALL_SQUARES = 1e-290


def inverse(denominator: SupportsFloat) -> float:
    """What a mean's slopes are multiplied by: NaN, like the mean, if the denominator is 0."""
    denominator = float(denominator)
    return 1.0 / denominator if denominator else float("nan")
