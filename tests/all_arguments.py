"""The elementary functions of float32 over all 2^32 arguments: the largest error of each, on each instruction set of the compiled kernels
and on Numba, against the C library's float64.

    python tests/all_arguments.py [--stride 1] [--functions exp log] [--on cython-avx2 numba] [--threads N]

Each function is tried with all bit patterns in the domain that its callers keep to; outside of it some promise nothing.  NaN and infinities
have to be so where the exact result is.  The largest errors are worked out again with mpmath, and so is whether a result overflows, where
float64 can't tell.  `--stride 4099` takes seconds; all arguments take a few minutes per function and core.
"""

import argparse
import functools
import importlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mpmath
import numba
import numpy as np

from fastloss.backends.numba_cpu import _math

PIECE = 1 << 20  # arguments at a time
PATTERNS = 1 << 32
# Where float32 rounds to infinity: half a unit above the largest number.
OVERFLOW = 2.0**128 - 2.0**103
CLOSE = 1e-12  # relative: float64 is sure beyond that


@dataclass(frozen=True)
class Function:
    """An elementary function.

    Attributes
    ----------
    low, high : the ends of its domain.
    exact : of float64 arguments, for Numba.
    precise : of mpmath's.
    """

    name: str
    low: float
    high: float
    exact: object
    precise: object


def _softplus_tail(x):
    return math.log1p(math.exp(-x))


def _log(x):
    return math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


def _log1p(x):
    return math.log1p(x) if x > -1.0 else (-math.inf if x == -1.0 else math.nan)


def _exp(x):
    return math.inf if x > 700.0 else math.exp(x)


def _expm1(x):
    return math.inf if x > 700.0 else math.expm1(x)


def _log_clamped(x):
    return max(math.log(x), -100.0) if x > 0.0 else -100.0


FUNCTIONS = {
    function.name: function
    for function in (
        Function("exp", -math.inf, math.inf, _exp, mpmath.exp),
        Function("expm1", -math.inf, 88.0, _expm1, mpmath.expm1),
        Function("log", -math.inf, math.inf, _log, mpmath.log),
        Function("log1p", -math.inf, math.inf, _log1p, mpmath.log1p),
        Function("tanh", -math.inf, math.inf, lambda x: math.tanh(x), mpmath.tanh),
        Function("decay", 0.0, math.inf, lambda x: math.exp(-x), lambda x: mpmath.exp(-x)),
        Function("softplus_tail", 0.0, math.inf, _softplus_tail, lambda x: mpmath.log1p(mpmath.exp(-x))),
        Function("log_clamped", 0.0, 0.5, _log_clamped, lambda x: max(mpmath.log(x), -100) if x else mpmath.mpf(-100)),
        Function("log1p_moderate", 0.0, 2.0**100, lambda x: math.log1p(x), mpmath.log1p),
        Function("log_complement", 0.0, 0.5, lambda x: math.log1p(-x), lambda x: mpmath.log1p(-x)),
    )
}


# --- who computes them ------------------------------------------------------------------------------------------------


def subjects():
    """name -> f(function's name, x, out), for each instruction set that can be run here, and Numba."""
    found = {}
    try:
        from fastloss_c import INSTRUCTION_SETS
        from fastloss_c._cpu import best

        for name in INSTRUCTION_SETS[: best() + 1]:
            found[f"cython-{name}"] = importlib.import_module(f"fastloss_c._limits_{name}").elementary
    except ImportError:
        pass  # not built
    found["numba"] = lambda name, x, out: _numba_loop(name)(x, out)
    return found


@functools.cache
def _numba_loop(name):
    function = _math.as_function(getattr(_math, f"{name}_of"))

    @numba.njit("void(float32[::1], float32[::1])", error_model="numpy", nogil=True)
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


# --- errors -----------------------------------------------------------------------------------------------------------


@functools.cache
def _measuring(name):
    """worst(x, got): of each row of `got` the largest error in ulp, and its argument's place; and where float64 can't tell."""
    exact = numba.njit(FUNCTIONS[name].exact, nogil=True)

    @numba.njit("void(float32[::1], float32[:, ::1], float64[::1], int64[::1], boolean[::1])", nogil=True)
    def worst(x, got, errors, places, doubtful):
        for i in range(x.size):
            right = exact(np.float64(x[i]))
            size = abs(right)
            exponent = (np.float64(size).view(np.int64) >> 52) - 1023
            # of float32, subnormal numbers included
            per_unit = np.int64(1023 - max(exponent - 23, -149)) << 52
            per_unit = np.int64(per_unit).view(np.float64)
            doubtful[i] = abs(size - OVERFLOW) <= CLOSE * OVERFLOW
            for k in range(got.shape[0]):
                value = np.float64(got[k, i])
                if right != right:
                    error = 0.0 if value != value else np.inf
                elif size >= OVERFLOW:
                    error = 0.0 if value == (np.inf if right > 0.0 else -np.inf) else np.inf
                elif value != value or abs(value) == np.inf:
                    error = np.inf
                else:
                    error = abs(value - right) * per_unit
                if error > errors[k] and not doubtful[i]:
                    errors[k] = error
                    places[k] = i

    return worst


def precise_error(function, x, got):
    """In ulp, by mpmath."""
    with mpmath.workprec(200):
        if math.isnan(x) or math.isinf(x):
            return 0.0 if np.array_equal(got, np.float32(function.exact(x)), equal_nan=True) else math.inf
        try:
            right = function.precise(mpmath.mpf(x))
        except ValueError:
            right = mpmath.nan
        if not isinstance(right, mpmath.mpf) or mpmath.isnan(right):  # complex, outside of the domain
            return 0.0 if math.isnan(got) else math.inf
        if abs(right) >= OVERFLOW:
            return 0.0 if got == math.copysign(math.inf, right) else math.inf
        if not math.isfinite(got):
            return math.inf
        exponent = mpmath.frexp(right)[1] - 1 if right else -149
        return float(abs(mpmath.mpf(got) - right) / mpmath.mpf(2) ** max(exponent - 23, -149))


@dataclass
class Worst:
    """The largest error in ulp, the argument, and what came."""

    error: float = -1.0
    x: float = math.nan
    got: float = math.nan


def search(name, computing, stride=1, threads=1):
    """{subject: Worst} over every `stride`-th bit pattern; and how many arguments that were."""
    function = FUNCTIONS[name]
    measure, n = _measuring(name), 0
    found = {subject: Worst() for subject in computing}
    for compute in computing.values():
        compute(name, np.zeros(1, np.float32), np.empty(1, np.float32))  # compiled before threads begin

    def piece(start):
        patterns = np.arange(start, min(start + PIECE * stride, PATTERNS), stride, dtype=np.uint64)
        x = patterns.astype(np.uint32).view(np.float32)
        inside = (x >= function.low) & (x <= function.high)
        if math.isinf(function.low):
            inside |= np.isnan(x)
        x = np.ascontiguousarray(x[inside])
        got = np.empty((len(computing), x.size), np.float32)
        for compute, out in zip(computing.values(), got, strict=True):
            compute(name, x, out)
        errors, places = np.full(len(computing), -1.0), np.zeros(len(computing), np.int64)
        doubtful = np.zeros(x.size, bool)
        if x.size:
            measure(x, got, errors, places, doubtful)
        worst = [
            Worst(e, float(x[i]), float(out[i])) if e >= 0 else Worst()
            for e, i, out in zip(errors, places, got, strict=True)
        ]
        for i in np.flatnonzero(doubtful):
            for k, out in enumerate(got):
                error = precise_error(function, float(x[i]), float(out[i]))
                worst[k] = max(worst[k], Worst(error, float(x[i]), float(out[i])), key=lambda w: w.error)
        return x.size, worst

    with ThreadPoolExecutor(threads) as pool:
        for size, worst in pool.map(piece, range(0, PATTERNS, PIECE * stride)):
            n += size
            for subject, each in zip(computing, worst, strict=True):
                if each.error > found[subject].error:
                    found[subject] = each
    for each in found.values():
        each.error = precise_error(function, each.x, each.got)
    return found, n


def main():
    everyone = subjects()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stride", type=int, default=1, help="try only every N-th bit pattern", metavar="N")
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=list(FUNCTIONS))
    parser.add_argument("--on", nargs="+", choices=everyone, default=list(everyone))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    computing = {name: everyone[name] for name in arguments.on}
    print("| function | arguments |", " | ".join(computing), "|")
    print("| --- | ---: |", " | ".join("---:" for _ in computing), "|")
    for name in arguments.functions:
        found, n = search(name, computing, arguments.stride, arguments.threads)
        cells = [f"{each.error:.3f} at {each.x:.9g}" for each in found.values()]
        print(f"| `{name}` | {n:,} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
