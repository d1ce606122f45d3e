"""User-defined losses, each with its reference in mpmath, for several test modules."""

from math import exp, expm1, log, log1p, sqrt, tanh

import mpmath as mp
import numpy as np

import fastloss

# --- functions --------------------------------------------------------------------------------------------------------


def charbonnier(x, y, eps):
    """A smooth absolute error."""
    d = x - y
    return sqrt(d * d + eps * eps) - eps


def cauchy(x, y, c):
    T = type(x)
    r = (x - y) / c
    return T(0.5) * c * c * log1p(r * r)


def cauchy_by_hand(x, y, c):
    r = (x - y) / c
    return (x - y) / (type_one(x) + r * r)


def type_one(x):
    T = type(x)
    return T(1.0)


def biweight(x, y, c):
    T = type(x)
    d = abs(x - y)
    if d > c:
        return c * c / T(6.0)
    u = T(1.0) - (d / c) * (d / c)
    return c * c / T(6.0) * (T(1.0) - u * u * u)


def softplus(u):
    """log(1 + exp(u)), stably."""
    T = type(u)
    return max(u, T(0.0)) + log1p(exp(-abs(u)))


def margin(x, y):
    return softplus(-(x * y))


def expectile(x, y, low, high):
    T = type(x)
    d = x - y
    share = high if d > T(0.0) else low
    return share * d * d


def gamma(x, y):
    # x is the logarithm of the mean
    return y * exp(-x) + x


def student(x, y, scale, freedom):
    T = type(x)
    u = (x - y) / scale
    return log(scale) + T(0.5) * (freedom + T(1.0)) * log1p(u * u / freedom)


def saturated(x, y):
    t = tanh(x - y)
    return t * t


def capped(x, y, cap):
    return min(abs(x - y), cap)


LINEX = """
def linex(x, y, a):
    d = a * (x - y)
    return expm1(d) - d
"""

HELLINGER = """
from math import sqrt

def root(a):
    T = type(a)
    if a > T(0.0):
        r = sqrt(a)
    else:
        r = T(0.0)
    return r

def hellinger(x, y):
    d = root(x) - root(y)
    return d * d

def hellinger_slope(x, y):
    T = type(x)
    return T(1.0) - root(y) / root(x)
"""


def quadratic_by_hand(x, y):
    T = type(x)
    return T(2.0) * (x - y)


def quadratic(x, y):
    return (x - y) * (x - y)


# --- the losses, with their options and references --------------------------------------------------------------------

positive = "(0, inf)"


def _biweight(x, y, c):
    return c**2 / 6 * (1 - (1 - min(abs(x - y) / c, 1) ** 2) ** 3)


CASES = {
    "charbonnier": (
        lambda: fastloss.pointwise_loss(charbonnier, parameters={"eps": (1e-3, positive)}),
        {"eps": 0.5},
        lambda x, y, eps: mp.sqrt((x - y) ** 2 + eps**2) - eps,
    ),
    "cauchy": (
        lambda: fastloss.pointwise_loss(cauchy, cauchy_by_hand, parameters={"c": positive}),
        {"c": 0.75},
        lambda x, y, c: c**2 / 2 * mp.log(1 + ((x - y) / c) ** 2),
    ),
    "biweight": (lambda: fastloss.pointwise_loss(biweight, parameters={"c": 1.0}), {"c": 1.25}, _biweight),
    "margin": (lambda: fastloss.pointwise_loss(margin), {}, lambda x, y: mp.log(1 + mp.exp(-x * y))),
    "expectile": (
        lambda: fastloss.pointwise_loss(expectile, parameters={"high": (0.5, (0, 1)), "low": "[0, 1]"}),
        {"low": 0.25, "high": 0.75},
        lambda x, y, low, high: (high if x > y else low) * (x - y) ** 2,
    ),
    "gamma": (
        lambda: fastloss.pointwise_loss(gamma, domain={"target": (0, np.inf)}),
        {},
        lambda x, y: y * mp.exp(-x) + x,
    ),
    "student": (
        lambda: fastloss.pointwise_loss(student, parameters={"freedom": (3.0, positive)}),
        {"freedom": 5.0},
        lambda x, y, scale, freedom: mp.log(scale) + (freedom + 1) / 2 * mp.log(1 + ((x - y) / scale) ** 2 / freedom),
    ),
    "saturated": (lambda: fastloss.pointwise_loss(saturated), {}, lambda x, y: mp.tanh(x - y) ** 2),
    "capped": (
        lambda: fastloss.pointwise_loss(capped, parameters={"cap": 1.0}),
        {"cap": 0.8},
        lambda x, y, cap: min(abs(x - y), cap),
    ),
    "linex": (
        lambda: fastloss.pointwise_loss(LINEX, parameters={"a": (1.0, (-5, 5))}),
        {"a": -1.5},
        lambda x, y, a: mp.exp(a * (x - y)) - a * (x - y) - 1,
    ),
    "hellinger": (
        lambda: fastloss.pointwise_loss(HELLINGER, domain={"pred": "[0, inf)", "target": "[0, inf)"}, mean="elements"),
        {},
        lambda x, y: (mp.sqrt(x) - mp.sqrt(y)) ** 2,
    ),
    "quadratic": (
        lambda: fastloss.pointwise_loss(quadratic, quadratic_by_hand),
        {},
        lambda x, y: (x - y) ** 2,
    ),
}

# Imported for the functions above, although linters see no use of it.
IMPORTED = (exp, expm1, log, log1p, sqrt, tanh)


def operands(name, dtype, shape=(40, 7)):
    """Arrays for a loss, away from its kinks, where derivatives can't be compared."""
    rng = np.random.default_rng(sum(map(ord, name)))
    x, y = rng.normal(size=(2, *shape))
    if name in ("gamma", "hellinger"):
        x, y = np.abs(x) + 0.1, np.abs(y) + 0.1
    third = (rng.uniform(0.5, 2.0, size=shape),) if name == "student" else ()
    return [a.astype(dtype) for a in (x, y, *third)]


def exact(name, arrays, options):
    """Values and slopes in extended precision, as float64."""
    of = CASES[name][2]
    with mp.workdps(40):
        rows = [list(map(mp.mpf, row)) for row in zip(*(map(float, a.ravel()) for a in arrays), strict=True)]
        numbers = {key: mp.mpf(value) for key, value in options.items()}
        values = [float(of(*row, **numbers)) for row in rows]
        slopes = [float(mp.diff(lambda x, row=row: of(x, *row[1:], **numbers), row[0])) for row in rows]
    return np.reshape(values, arrays[0].shape), np.reshape(slopes, arrays[0].shape)
