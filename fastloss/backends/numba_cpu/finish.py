"""The kernel that turns sums along axes into results."""

import math

import numpy as np

from fastloss.backends.numba_cpu._jit import specialise

Real = None  # a hole


def finish_sums(
    sums,  # IN float64, flat: sum k of losses is sums[k * step], of weights sums[k * step + weights_from]
    n,  # IN
    step,  # IN
    weights_from,  # IN
    divisor,  # IN
    by_weight,  # IN whether to divide by the sums of weights, rather than by `divisor`
    root,  # IN whether the results are square roots
    out,  # OUT (n,) Real
):
    """Write the results of n sums; returns whether one of them is NaN."""
    undefined = False
    for k in range(n):
        value = sums[k * step]
        undefined |= value != value
        value /= sums[k * step + weights_from] if by_weight else divisor
        out[k] = Real(math.sqrt(value) if root and value >= 0.0 else np.nan if root else value)
    return undefined


TEMPLATES = {"finish_sums": finish_sums}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), with results in `real`."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", Real=real)
