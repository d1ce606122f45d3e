"""Losses of one's own beside the package's own of the same arithmetic, compiled by the same compiler: how many times as long they take.

    python bench/own_speed.py            # the backend numba
    python bench/own_speed.py numpy

Each figure is CPU time on one thread, the least of many interleaved repetitions.  Exits with 1 if a loss of one's own takes more than 1.1
times as long.
"""

import sys
import time

import numpy as np

import fastloss
from fastloss import scalars

MOST = 1.1
REPEATS, SECONDS = 40, 0.002

WITH_Z = "def with_z(nll, lse, z):\n    return nll + z * lse * lse\n"
POLY = "def poly(nll, epsilon):\n    return nll - epsilon * expm1(-nll)\n"


def own(value, slope, **options):
    return fastloss.pointwise_loss(value, slope, **options)


def pairs():
    """Name, the loss of one's own, the package's, whether of rows, and options of the latter."""
    f = fastloss
    delta, eps = {"delta": (1.0, "(0, inf)")}, {"eps": (1e-3, "(0, inf)")}
    yield "mse", own(scalars.mse, scalars.mse_slope), f.mse_loss, {}
    yield "huber", own(scalars.huber, scalars.huber_slope, parameters=delta), f.huber_loss, {}
    yield "charbonnier", own(scalars.charbonnier, scalars.charbonnier_slope, parameters=eps), f.charbonnier_loss, {}
    yield "log_cosh", own(scalars.log_cosh, scalars.log_cosh_slope), f.log_cosh_loss, {}
    yield "msle", own(scalars.msle, scalars.msle_slope), f.msle_loss, {}
    yield "z-loss", f.row_loss(WITH_Z, parameters={"z": 1e-4}), f.cross_entropy, {"z_loss": 1e-4}
    yield "poly-1", f.row_loss(POLY, parameters={"epsilon": 2.0}), f.poly_loss_cross_entropy, {}


def arrays(of_rows, size):
    rng = np.random.default_rng(size)
    if not of_rows:
        return np.abs(rng.normal(size=(2, size)).astype(np.float32))
    return rng.normal(size=(max(size // 50, 1), 50)).astype(np.float32), rng.integers(0, 50, max(size // 50, 1))


def calls():
    """Name, and two functions that are to take the same time."""
    for name, mine, theirs, options in pairs():
        for size in (1000, 100_000):
            x, y = arrays(mine.row.rowwise, size)
            ways = {
                "mean": ({}, lambda fn, **how: fn(x, y, **how)),
                "none": ({"reduction": "none"}, lambda fn, **how: fn(x, y, **how)),
                "gradient": ({}, lambda fn, **how: fastloss.value_and_grad(fn)(x, y, **how)),
            }
            for way, (how, call) in ways.items():
                yield f"{name} {way} {size}", *(
                    lambda call=call, fn=fn, how=how, x=x, y=y: call(fn, **how)
                    for fn, how in ((mine, how), (theirs, how | options))
                )


def compared(mine, theirs):
    """(seconds of the first, of the second), the least of interleaved repetitions."""
    both, least = (mine, theirs), [float("inf")] * 2
    for call in both:
        call()
    start = time.thread_time()
    theirs()
    number = max(1, int(SECONDS / max(time.thread_time() - start, 1e-6)))
    for turn in range(REPEATS):
        for k in (0, 1) if turn % 2 else (1, 0):
            start = time.thread_time()
            for _ in range(number):
                both[k]()
            least[k] = min(least[k], (time.thread_time() - start) / number)
    return least


def main():
    missed = 0
    for backend in sys.argv[1:] or ("numba",):
        with fastloss.use_backend(backend), fastloss.use_threads(1):
            print(backend)
            for name, mine, theirs in calls():
                ours, built_in = compared(mine, theirs)
                missed += ours > MOST * built_in
                verdict = "" if ours <= MOST * built_in else "  MISSED"
                print(f"  {name:28s} {ours * 1e6:9.2f} us  {built_in * 1e6:9.2f} us  {ours / built_in:5.2f}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
