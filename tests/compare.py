"""Comparing results with the oracle, in units in the last place of the result's own dtype."""

import mpmath
import numpy as np

LONG = np.longdouble
LONGER = np.finfo(LONG).nmant > np.finfo(np.float64).nmant  # not on every platform
ORACLE_ULP = 16  # of `LONG`: what test_reference.py holds the oracle to


def ulp_error(got, exact, at=0.0):
    """|got - exact| in ulp of ``max(|exact|, at)`` in the dtype of `got`.

    If NaN or infinities do not match, the error is infinite.
    """
    got = np.asarray(got)
    exact = np.asarray(exact, LONG)
    assert got.shape == exact.shape, f"shape {got.shape}, expected {exact.shape}"
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = exact.astype(got.dtype)  # an exact value beyond the dtype's range counts as infinite
        scale = np.maximum(np.abs(rounded), got.dtype.type(at))
        error = np.abs(got.astype(LONG) - exact) / np.spacing(scale)
    alike = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    either = ~np.isfinite(got) | ~np.isfinite(rounded)
    return np.where(either, np.where(alike, 0.0, np.inf), error).astype(np.float64)


def assert_ulp(got, exact, ulp, at=0.0, what=""):
    """Every entry of `got` lies within `ulp` units in the last place of the exact value."""
    if np.asarray(got).dtype == np.float64 and not LONGER:
        ulp += ORACLE_ULP  # where long double is float64, the oracle itself is off by that much
    error = ulp_error(got, exact, at)
    if error.size and not error.max() <= ulp:
        worst = np.unravel_index(np.argmax(error), error.shape)
        raise AssertionError(
            f"{what}: {error.max():.3g} ulp at {tuple(map(int, worst))}, at most {ulp} allowed: "
            f"got {np.asarray(got)[worst]!r}, exact {np.asarray(exact)[worst]!r}"
        )


def to_mpf(value):
    """A number converted exactly to mpmath's type, which does not know the platform's long double, of 64, 113 or 53
    bits."""
    fraction, exponent = np.frexp(LONG(value))
    result = mpmath.mpf(0)
    with mpmath.workprec(np.finfo(LONG).nmant + 1):
        while fraction:  # 53 bits at a time, by way of float64
            piece = float(fraction)
            result += piece
            fraction -= piece
        return mpmath.ldexp(result, int(exponent))


def same_bits(a, b):
    """Whether two arrays are equal to the last bit, including NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def result_dtype(*dtypes):
    """The documented dtype of results: float32 for floating inputs of up to 32 bits, float64 for everything else."""
    small = all(np.dtype(d).kind not in "iub" and np.dtype(d).itemsize <= 4 for d in dtypes)
    return np.dtype(np.float32 if small else np.float64)
