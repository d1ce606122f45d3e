"""What a call costs beyond its arithmetic: small calls of each kind as multiples of the plain `cross_entropy` of 1x10, in one run.

    python bench/calls.py            # the backends cython and numba
    python bench/calls.py numpy

Each figure is the least of many repetitions, which are interleaved: whatever else the machine does hits all of them alike.
"""

import sys
import time

import numpy as np

import fastloss

REPEATS, CALLS = 60, 100


def cases():
    """Name, the multiple that is wanted at most, and the call."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 10, 10)).astype(np.float32)
    w, labels = np.ones((10, 10), np.float32), rng.integers(0, 10, 10)
    row, label = rng.normal(size=(1, 10)).astype(np.float32), np.array([3])
    narrow, bytes_ = label.astype(np.int32), label.astype(np.uint8)
    cube, cube_labels = rng.normal(size=(2, 5, 10)).astype(np.float32), np.zeros((2, 5), np.int64)
    planes = np.zeros((2, 10), np.int64)
    slopes_of_mse, slopes_of_rows = map(fastloss.value_and_grad, (fastloss.mse_loss, fastloss.cross_entropy))
    f = fastloss
    yield "cross_entropy 1x10", 1.0, lambda: f.cross_entropy(row, label)
    yield "mse_loss 10x10", 1.3, lambda: f.mse_loss(x, y)
    yield "label smoothing", 1.5, lambda: f.cross_entropy(row, label, label_smoothing=0.1)
    yield "int32 labels", 1.5, lambda: f.cross_entropy(row, narrow)
    yield "uint8 labels", 1.5, lambda: f.cross_entropy(row, bytes_)
    yield "3-D", 1.5, lambda: f.cross_entropy(cube, cube_labels)
    yield "axis=1", 1.5, lambda: f.cross_entropy(cube, planes, axis=1)
    yield "cross_entropy, none", 2.0, lambda: f.cross_entropy(row, label, reduction="none")
    yield "mse_loss, none", 2.0, lambda: f.mse_loss(x, y, reduction="none")
    yield "mse_loss, weight", 2.5, lambda: f.mse_loss(x, y, weight=w)
    yield "mse_loss, axis=0", 2.5, lambda: f.mse_loss(x, y, axis=0)
    yield "mse_loss, axis=1", 2.5, lambda: f.mse_loss(x, y, axis=1)
    yield "mse_loss, gradient", 3.0, lambda: slopes_of_mse(x, y)
    yield "cross_entropy, gradient", 3.0, lambda: slopes_of_rows(row, label)
    yield "softmax", 2.0, lambda: f.softmax(x)
    yield "logsumexp", 2.0, lambda: f.logsumexp(x)
    yield "score", 4.0, lambda: f.score(x, labels)


def rows_beyond_a_block():
    """What 33 rows of 1000 classes cost beyond 33/32 of 32 rows."""
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(33, 1000)).astype(np.float32), rng.integers(0, 1000, 33)
    fewer, fewer_labels = x[:32].copy(), labels[:32].copy()
    return lambda: fastloss.cross_entropy(fewer, fewer_labels), lambda: fastloss.cross_entropy(x, labels)


def least(calls, repeats=REPEATS, calls_each=CALLS):
    """Seconds of each, the least of interleaved repetitions."""
    found = [float("inf")] * len(calls)
    for call in calls:
        call()
    for _ in range(repeats):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(calls_each):
                call()
            found[k] = min(found[k], (time.perf_counter() - start) / calls_each)
    return found


def main():
    for name in sys.argv[1:] or ("cython", "numba"):
        with fastloss.use_backend(name):
            names, limits, calls = zip(*cases(), strict=True)
            seconds = least(calls)
            print(f"{name}: {seconds[0] * 1e6:.2f} us for {names[0]}")
            for case, limit, s in zip(names, limits, seconds, strict=True):
                ratio = s / seconds[0]
                print(
                    f"  {case:26s} {s * 1e6:7.2f} us  {ratio:5.2f}  at most {limit}{'' if ratio <= limit else '  MISSED'}"
                )
            fewer, more = least(rows_beyond_a_block())
            beyond = (more - fewer * 33 / 32) * 1e6
            print(f"  33x1000 beyond its arithmetic {beyond:.2f} us, at most 5{'' if beyond <= 5 else '  MISSED'}")


if __name__ == "__main__":
    main()
