"""Small and middle calls of every way of calling beside what a NumPy user would write, in one run; calls of less than 5 us count as equal.

python bench/against_numpy.py            # the backends cython and numba
python bench/against_numpy.py cython --all
"""

import sys

import numpy as np
from calls import least

import fastloss

SIZES = (1, 100, 10_000)
EQUAL = 5e-6


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _logsumexp(x, axis=-1):
    m = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - m).sum(axis=axis)) + m.squeeze(axis)


# Elementwise losses as one would write them, of predictions and targets.
POINTWISE = {
    "mse_loss": lambda x, y: (x - y) ** 2,
    "l1_loss": lambda x, y: np.abs(x - y),
    "huber_loss": lambda x, y: np.where(np.abs(x - y) <= 1, 0.5 * (x - y) ** 2, np.abs(x - y) - 0.5),
    "smooth_l1_loss": lambda x, y: np.where(np.abs(x - y) < 1, 0.5 * (x - y) ** 2, np.abs(x - y) - 0.5),
    "log_cosh_loss": lambda x, y: np.log(np.cosh(x - y)),
    "msle_loss": lambda x, y: (np.log1p(x) - np.log1p(y)) ** 2,
    "quantile_loss": lambda x, y: np.maximum(0.5 * (y - x), -0.5 * (y - x)),
    "poisson_nll_loss": lambda x, y: np.exp(x) - y * x,
    "kl_div": lambda x, y: y * (np.log(y) - x),
}
BINARY = {
    "binary_cross_entropy": lambda p, y: -(y * np.log(p) + (1 - y) * np.log(1 - p)),
    "binary_cross_entropy_with_logits": lambda x, y: np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))),
}
SLOPES = {
    "mse_loss": lambda x, y: 2 * (x - y) / x.size,
    "l1_loss": lambda x, y: np.sign(x - y) / x.size,
    "binary_cross_entropy_with_logits": lambda x, y: (_sigmoid(x) - y) / x.size,
}


def cases(n):
    """Name, fastloss's call, and NumPy's."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 0.9, (2, n)).astype(np.float32)
    w = rng.uniform(0.5, 1.5, n).astype(np.float32)
    side = max(1, int(n**0.5))
    a, b = x[: side * side].reshape(side, side), y[: side * side].reshape(side, side)
    for name, formula in (POINTWISE | BINARY).items():
        fn = getattr(fastloss, name)
        yield f"{name}", lambda fn=fn: fn(x, y), lambda f=formula: f(x, y).mean()
        yield f"{name} sum", lambda fn=fn: fn(x, y, reduction="sum"), lambda f=formula: f(x, y).sum()
        yield f"{name} none", lambda fn=fn: fn(x, y, reduction="none"), lambda f=formula: f(x, y)
        yield f"{name} 2-D", lambda fn=fn: fn(a, b), lambda f=formula: f(a, b).mean()
        if name in POINTWISE:
            yield f"{name} weight", lambda fn=fn: fn(x, y, weight=w), lambda f=formula: np.average(f(x, y), weights=w)
            for axis in (0, 1):
                yield (
                    f"{name} axis={axis}",
                    lambda fn=fn, k=axis: fn(a, b, axis=k),
                    lambda f=formula, k=axis: f(a, b).mean(k),
                )
        if name in SLOPES:
            both, slope = fastloss.value_and_grad(fn), SLOPES[name]
            yield f"{name} gradient", lambda f=both: f(x, y), lambda f=formula, g=slope: (f(x, y).mean(), g(x, y))
    for n_classes in (2, 10, 100):
        if n_classes > n:
            continue
        rows = n // n_classes
        logits = rng.normal(size=(rows, n_classes)).astype(np.float32)
        columns = np.ascontiguousarray(logits.T)
        labels, every = rng.integers(0, n_classes, rows), np.arange(rows)
        at = f"{rows}x{n_classes}"
        yield (
            f"cross_entropy {at}",
            lambda x=logits, y=labels: fastloss.cross_entropy(x, y),
            (lambda x=logits, y=labels, i=every: (_logsumexp(x) - x[i, y]).mean()),
        )
        yield (
            f"cross_entropy none {at}",
            lambda x=logits, y=labels: fastloss.cross_entropy(x, y, reduction="none"),
            (lambda x=logits, y=labels, i=every: _logsumexp(x) - x[i, y]),
        )
        yield (
            f"cross_entropy axis=0 {at}",
            lambda x=columns, y=labels: fastloss.cross_entropy(x, y, axis=0),
            (lambda x=columns, y=labels, i=every: (_logsumexp(x, 0) - x[y, i]).mean()),
        )
        yield f"logsumexp {at}", lambda x=logits: fastloss.logsumexp(x), lambda x=logits: _logsumexp(x)
        yield f"log_softmax {at}", lambda x=logits: fastloss.log_softmax(x), lambda x=logits: x - _logsumexp(x)[:, None]
        yield (
            f"softmax {at}",
            lambda x=logits: fastloss.softmax(x),
            (lambda x=logits: (e := np.exp(x - x.max(1, keepdims=True))) / e.sum(1, keepdims=True)),
        )
        yield (
            f"nll_loss {at}",
            lambda x=logits, y=labels: fastloss.nll_loss(x, y),
            (lambda x=logits, y=labels, i=every: -x[i, y].mean()),
        )


def main():
    show_all = "--all" in sys.argv
    for name in [a for a in sys.argv[1:] if not a.startswith("-")] or ["cython", "numba"]:
        with fastloss.use_backend(name), fastloss.use_threads(1):
            slower = compared = 0
            for n in SIZES:
                for case, ours, numpys in cases(n):
                    mine, theirs = least((ours, numpys), repeats=25, calls_each=max(5, 200_000 // (n + 2000)))
                    is_slower = mine > max(theirs, EQUAL) * 1.1
                    slower, compared = slower + is_slower, compared + 1
                    if is_slower or show_all:
                        mark = "  SLOWER" if is_slower else ""
                        print(f"{name:7s} {n:6d} {case:40s} {mine * 1e6:8.2f} us, NumPy {theirs * 1e6:8.2f}{mark}")
            print(f"{name}: {slower} of {compared} calls slower than NumPy's expression")


if __name__ == "__main__":
    main()
