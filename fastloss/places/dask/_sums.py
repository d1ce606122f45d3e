"""Sums over chunks, exact so that they may be merged in any order, and results from them."""

from typing import Any, NamedTuple

import numpy as np

from fastloss import _arrays, _reduce
from fastloss._exact import ExactSum
from fastloss.places.host.elements import finished_lanes
from fastloss.places.host.forecasts import of_sums, value_of
from fastloss.places.host.operands import REALS


class Bad(NamedTuple):
    """An invalid value, and its position in the whole array."""

    operand: int  # its number; like the host, errors of earlier operands come first
    position: tuple
    error: Any  # function of `_errors`
    arguments: tuple

    def raised(self):
        return self.error(*self.arguments)


def raise_if_bad(result):
    if isinstance(result, Bad):
        raise result.raised()
    return result


class _Checked:
    """Results from part of the data, and the first invalid value there, if any."""

    def __init__(self, bad):
        self.bad = bad

    def merge(self, other):
        if other.bad and (self.bad is None or other.bad[:2] < self.bad[:2]):
            self.bad = other.bad

    def checked(self):
        if self.bad:
            raise self.bad.raised()
        return self


class Part(_Checked):
    """Numerator, denominator and count of a mean, as exact sums; of a root's mean also squares outside float64's range."""

    def __init__(self, total=0.0, weight=0.0, count=0, huge=0.0, tiny=0.0, bad=None):
        super().__init__(bad)
        self.count = count
        self.total, self.weight, self.huge, self.tiny = (ExactSum() for _ in range(4))
        for own, number in zip(self._sums(), (total, weight, huge, tiny), strict=True):
            own.add(number)

    def _sums(self):
        return self.total, self.weight, self.huge, self.tiny

    def merge(self, other):
        super().merge(other)
        for own, its in zip(self._sums(), other._sums(), strict=True):
            own.merge(its)
        self.count += other.count

    def root(self, reduction, divisor, exponent=0):
        """The root of the mean, or of the sum, times a power of two."""
        weight = self.weight if divisor is None else Part(weight=divisor).weight
        return _reduce.root_of_sums(self.total, weight if reduction == "mean" else None, self.huge, self.tiny, exponent)


class Several(_Checked):
    """Any number of exact sums; none before anything has been added."""

    def __init__(self, numbers=(), bad=None):
        super().__init__(bad)
        self.sums = [ExactSum() for _ in numbers]
        for own, number in zip(self.sums, numbers, strict=True):
            own.add(number)

    def merge(self, other):
        super().merge(other)
        self.sums = self.sums or [ExactSum() for _ in other.sums]
        for own, its in zip(self.sums, other.sums, strict=False):
            own.merge(its)

    def rounded(self):
        return np.array([float(own) for own in self.checked().sums])


def object_array(part, ndim):
    """An object array whose only element is `part`."""
    result = np.empty((1,) * ndim, object)
    result[...] = part
    return result


def merge_parts(parts, axis, keepdims):
    """All parts merged into one; `axis` is always every axis."""
    total = type(parts.flat[0])()
    for part in parts.flat:
        total.merge(part)
    return object_array(total, parts.ndim if keepdims else 0)


# Sums of several results at once, each as an unevaluated sum of two doubles.
_LANES = ("total", "weight", "huge", "tiny")  # the last two of a root, as of `Squares`
LANES = np.dtype([(name + rest, np.float64) for name in _LANES for rest in ("", "_rest")])


def merge_lanes(lanes, axis, keepdims):
    parts = np.moveaxis(lanes, axis, range(len(axis)))
    parts = parts.reshape(-1, *parts.shape[len(axis) :])
    merged = parts[0].copy()
    with np.errstate(all="ignore"):
        for part in parts[1:]:
            for name in _LANES:
                _add(merged, part, name)
    return np.expand_dims(merged, axis) if keepdims else merged


def _add(merged, part, name):
    """Add one sum of two doubles to another; the rounding error (Knuth's two-sum) is kept, up to its last bits."""
    a, b = merged[name], part[name]
    s = a + b
    virtual = s - a
    rest = (a - (s - virtual)) + (b - virtual)
    merged[f"{name}_rest"] += part[f"{name}_rest"] + np.where(np.isfinite(s), rest, 0.0)
    merged[name] = s


def result_of(part, *, reduction, divisor, root, rowwise, real):
    part = part.item().checked()
    if root:
        value = part.root(reduction, divisor)
    elif reduction == "sum":
        value = float(part.total)
    else:
        weight = part.weight if divisor is None else Part(weight=divisor).weight
        value = _reduce.mean_of_sums(part.total, weight, rowwise)
    return _arrays.scalar(float(value), REALS[real.name])  # an unpickled dtype is a different object


def forecasts_result_of(several, *, resolved):
    return _arrays.scalar(value_of(resolved, of_sums(resolved, several.item().rounded())), REALS[resolved.real])


def lanes_result_of(lanes, *, reduction, divisor, root, real):
    total, weight, huge, tiny = (lanes[name] + lanes[f"{name}_rest"] for name in _LANES)
    weight = weight if divisor is None else divisor
    if not root:
        return finished_lanes(total, weight if reduction == "mean" else None, real)
    with np.errstate(over="ignore", under="ignore"):
        return _reduce.roots_of_sums(total, weight if reduction == "mean" else 1.0, huge, tiny).astype(real)


# The factor of a root's gradient: of errors times a power of two, as it may be outside float64's range.
FACTOR = np.dtype([("scale", np.float64), ("by", np.float64)])
_FAR, _SMALL, _LARGE = _reduce.FAR // 2, 1e-290, 1e290


def scale_of(part, *, reduction, divisor):
    """The factor of the sum's gradient; `part` holds the sums of all data."""
    part = part.item().checked()
    divisor = float(part.weight) if divisor is None else divisor
    return np.float64(_reduce.inverse(divisor) if reduction == "mean" else 1.0)


def root_scale_of(part, *, reduction, divisor):
    """The factor of the gradient of a sum's or a mean's root, as a `FACTOR`."""
    scale = scale_of(part, reduction=reduction, divisor=divisor)
    part = part.item()
    value = part.root(reduction, divisor)
    exponent = _FAR if value < _SMALL else -_FAR if value > _LARGE else 0
    scaled = part.root(reduction, divisor, exponent)
    return np.array((0.5 * scale / scaled if scaled else 0.0, 2.0**exponent), FACTOR)


def factor_of(scale):
    """A factor as plans of the host take it."""
    if np.asarray(scale).dtype == FACTOR:
        return float(scale["scale"]), float(scale["by"])
    return float(scale)
