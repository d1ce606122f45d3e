"""Estimated cost per element: nanoseconds on one CPU with the data in its cache, for the compiled kernels with AVX-512.

They decide how many threads are worth using, and how many blocks are computed between two checks for signals; a factor
of 2 does not matter.  On other CPUs they are too low rather than too high, so that no thread is started needlessly.
"""

from __future__ import annotations

# (at least this many classes, ns for the sums of exponentials, ns if an output is also written per class, such as a
# gradient).
ROWS = ((512, 0.2, 0.6), (128, 0.3, 1.0), (32, 0.4, 1.5), (8, 0.6, 2.5), (0, 1.5, 6.0))

SQUARES = 0.2  # ns per element whose square is added up in float64

SLOPES = 1.6  # factor if slopes are computed as well
WIDE = 2.0  # factor for float64


# Nanoseconds per byte read or written on one CPU: from its second-level cache, and of so many bytes that they are in memory or a
# cache that all CPUs share.
NEAR, FAR, FAR_FROM = 0.016, 0.025, 1 << 21


def of_elements(ns: float, slopes: bool = False, wide: bool = False) -> float:
    """Nanoseconds per element of a pointwise loss whose formula takes `ns`."""
    return ns * (SLOPES if slopes else 1.0) * (WIDE if wide else 1.0)


def of_bytes(n_bytes: int) -> float:
    """Nanoseconds that so many bytes take, whatever is computed from them."""
    return n_bytes * (FAR if n_bytes >= FAR_FROM else NEAR)


def of_rows(n_classes: int, written: bool = False, wide: bool = False) -> float:
    """Nanoseconds per element of rows of `n_classes`; `written`: an output per class is written, or the row is read
    twice."""
    ns = next(costs[written] for least, *costs in ROWS if n_classes >= least)
    return ns * (WIDE if wide else 1.0)
