"""How fast `compare` is, as a share of the limit for reading both models' logits once, on the CPU, in one run.

    python bench/compare_limit.py                        # 1024x128256 of float32, for each of two models
    python bench/compare_limit.py --rows 256 --dtype bfloat16 --threads 1

The limit is the slower of reading all bytes and of the cheapest arithmetic for so many logits, both measured by compiled loops between the
calls, see `fastloss/bench/limit.py`.  Exit code 1 if the share is below --least.
"""

import argparse
import sys
import time

import numpy as np

import fastloss
from fastloss.bench.arrays import Array, dtype_of
from fastloss.bench.case import Case
from fastloss.bench.limit import Limit
from fastloss.cli.library import n_threads

REPEATS = 7


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=128_256)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=n_threads())
    parser.add_argument("--least", type=float, default=0.6, help="share of the limit")
    return parser.parse_args()


def models(n_rows, n_classes, dtype):
    """Logits of two models that are near each other, and targets; a row at a time, to save memory."""
    rng = np.random.default_rng(0)
    reference = np.empty((n_rows, n_classes), dtype)
    logits = np.empty_like(reference)
    for i in range(n_rows):
        row = 3 * rng.standard_normal(n_classes, np.float32)
        reference[i] = row
        logits[i] = row + 0.1 * rng.standard_normal(n_classes, np.float32)
    return reference, logits, rng.integers(0, n_classes, n_rows)


def main():
    args = parsed()
    reference, logits, target = models(args.rows, args.classes, dtype_of(args.dtype))
    described = [Array(name, "logits", logits.shape, args.dtype) for name in ("reference", "logits")]
    case = Case("compare", "compare", tuple(described), "memory")
    calls = {
        "compare": lambda: fastloss.compare(reference, logits),
        "with targets": lambda: fastloss.compare(reference, logits, target),
    }
    with fastloss.use_threads(args.threads), Limit(case, [reference, logits], args.threads) as limit:
        if not limit.known:
            raise SystemExit("the limit is measured by compiled loops, which are not built here")
        times = {name: [] for name in (*calls, "arithmetic", "reading")}
        for _ in range(REPEATS):
            for name, call in calls.items():
                begin = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begin)
            for name, seconds in zip(("arithmetic", "reading"), limit.seconds(), strict=True):
                times[name].append(seconds)
    times = {name: min(seconds) for name, seconds in times.items()}  # the least of rounds that take turns
    print(f"{args.rows}x{args.classes} {args.dtype}, {args.threads} threads, fastloss {fastloss.__version__}")
    for name in ("arithmetic", "reading"):
        print(f"{name:12s} {times[name] * 1e3:9.1f} ms")
    least = max(times["arithmetic"], times["reading"])
    shares = {name: least / times[name] for name in calls}
    for name, share in shares.items():
        of_reading = times["reading"] / times[name]
        print(f"{name:12s} {times[name] * 1e3:9.1f} ms, {share:.2f} of the limit, {of_reading:.2f} of reading alone")
    return int(shares["compare"] < args.least)


if __name__ == "__main__":
    sys.exit(main())
