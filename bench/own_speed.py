"""Losses of one's own beside the package's own of the same arithmetic, compiled by the same compiler: how many times as long they take.

    python bench/own_speed.py            # the backend numba
    python bench/own_speed.py numpy

Each figure is CPU time on one thread, the least of many interleaved repetitions.  Exits with 1 if a loss of one's own takes more than 1.1
times as long.
"""

import functools
import sys
import time

import numpy as np

import fastloss
from fastloss import scalars

MOST = 1.1
REPEATS, SECONDS = 40, 0.002

WITH_Z = "def with_z(nll, lse, z):\n    return nll + z * lse * lse\n"
POLY = "def poly(nll, epsilon):\n    return nll - epsilon * expm1(-nll)\n"


def pairs():
    """Name, the loss of one's own, the package's, and options of the latter.

    Of the losses of elements the text is the package's own, without the functions that Numba's kernels have a way of their own for.
    """
    f, own = fastloss, fastloss.pointwise_loss
    delta, eps, tiny = (
        {name: (value, "(0, inf)")} for name, value in (("delta", 1.0), ("eps", 1e-3), ("eps", 2.0**-52))
    )
    yield "mse", own(scalars.mse, scalars.mse_slope), f.mse_loss, {}
    yield "huber", own(scalars.huber, scalars.huber_slope, parameters=delta), f.huber_loss, {}
    yield "charbonnier", own(scalars.charbonnier, scalars.charbonnier_slope, parameters=eps), f.charbonnier_loss, {}
    yield "smape", own(scalars.smape, scalars.smape_slope, parameters=tiny), f.smape_loss, {}
    yield "squared hinge", own(scalars.squared_hinge, scalars.squared_hinge_slope), f.squared_hinge_loss, {}
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
        gradients = fastloss.value_and_grad(mine), fastloss.value_and_grad(theirs)
        for size in (1000, 100_000):
            x, y = arrays(mine.row.rowwise, size)
            for way, functions, how in (
                ("mean", (mine, theirs), {}),
                ("none", (mine, theirs), {"reduction": "none"}),
                ("gradient", gradients, {}),
            ):
                both = (
                    functools.partial(fn, x, y, **how, **its) for fn, its in zip(functions, ({}, options), strict=True)
                )
                yield f"{name} {way} {size}", *both


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
                is_missed = ours > MOST * built_in
                missed += is_missed
                verdict = "  MISSED" if is_missed else ""
                print(f"  {name:28s} {ours * 1e6:9.2f} us  {built_in * 1e6:9.2f} us  {ours / built_in:5.2f}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
