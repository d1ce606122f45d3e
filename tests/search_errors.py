"""Searches for the largest error of each function of rows where its terms don't cancel, by dtype, backend and
instruction set.

    python tests/search_errors.py [--rows 1000000] [--backends cython,numba] [--functions softmax,...] [--seed 1]

Rows are drawn where errors are large: tiny losses, near ties, sums dominated by a few classes, gaps of hundreds,
exponentials near a power of two, large magnitudes.  Errors are in ulp of the result (if a sum cancels by its nature, of
its largest term).  float32 is compared with float64, float64 with longdouble and differences in two parts; the worst
case of each function is computed again with mpmath, for the last column of the table.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass

import mpmath
import numpy as np

import fastloss

MP = mpmath.mp.clone()
MP.prec = 400
DTYPES = (np.float32, np.float64)

# Numbers of classes: those computed across rows, whose groups have 2, 4 and 32 classes, and those along a row.
CLASSES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    9,
    10,
    16,
    17,
    31,
    33,
    65,
    100,
    127,
    128,
    129,
    150,
    200,
    260,
    1000,
    4099,
    32000,
    128256,
    262144,
)
FEW = tuple(n for n in CLASSES if n <= 10)


# --- drawing rows -----------------------------------------------------------------------------------------------------


def normal(rng, n, c):
    return rng.normal(0, 1, (n, c)) * 10.0 ** rng.uniform(-3, 2.3, (n, 1))


def confident(rng, n, c):
    """One class far above the others."""
    x = rng.normal(0, 1, (n, c)) * rng.choice([0.0, 0.01, 1.0, 3.0], (n, 1))
    x[np.arange(n), rng.integers(0, c, n)] += rng.uniform(0, 100, n)
    return x


def few_count(rng, n, c):
    """Two or three classes make up the sum, the others nearly nothing."""
    x = rng.normal(-60, 8, (n, c))
    for _ in range(3):
        x[np.arange(n), rng.integers(0, c, n)] = rng.uniform(-1, 1, n) * rng.choice([0.1, 1.0, 20.0], n)
    x[np.arange(n), rng.integers(0, c, n)] += rng.choice([0.0, 30.0, 60.0], n)
    return x


def borders(rng, n, c):
    """Exponentials just above and below a power of two, where their rounding errors matter most."""
    powers = rng.integers(-12, 3, (n, c)) + 0.5 + rng.normal(0, 0.03, (n, c))
    x = powers * np.log(2.0)
    x[np.arange(n), rng.integers(0, c, n)] += rng.uniform(0, 40, n)
    return x


def ties(rng, n, c):
    """Near ties: the last bits differ."""
    base = rng.normal(0, 1, (n, 1)) * 10.0 ** rng.uniform(-3, 3, (n, 1))
    return base * (1 + rng.integers(-3, 4, (n, c)) * 2.0**-23) - rng.choice([0.0, 15.0], (n, c))


def large(rng, n, c):
    """Differences of order one between large numbers."""
    return rng.normal(0, 3, (n, c)) + rng.choice([-1, 1], (n, 1)) * 10.0 ** rng.uniform(0, 6, (n, 1))


def far(rng, n, c):
    """Gaps of hundreds, which still matter in float64."""
    x = rng.normal(0, 2, (n, c)) * rng.choice([1.0, 10.0], (n, 1))
    x[np.arange(n), rng.integers(0, c, n)] += rng.uniform(80, 600, n)
    return x + rng.normal(0, 100, (n, 1))


FAMILIES = (normal, confident, few_count, borders, ties, large, far)


def labels(rng, x):
    """The largest class in two of three rows: the losses are the smallest there."""
    n, c = x.shape
    return np.where(rng.random(n) < 0.65, x.argmax(axis=1), rng.integers(0, c, n))


# --- exact results ----------------------------------------------------------------------------------------------------


class Exact:
    """Rows of logits in a wider type."""

    def __init__(self, x, target, w, y):
        self.wide = np.float64 if x.dtype == np.float32 else np.longdouble
        self.x, self.target = x.astype(self.wide), target
        self.w, self.y = w.astype(self.wide), y.astype(self.wide)
        self.every = np.arange(len(x))
        self.top = self.x.max(axis=1)
        self.powers = self.exp_of_difference(self.x, self.top[:, None])
        first = self.x.argmax(axis=1)
        self.powers[self.every, first] = 0  # the maximum's 1 is added separately
        self.tail = np.log1p(self.powers.sum(axis=1))
        self.z = 1 + self.powers.sum(axis=1)
        self.powers[self.every, first] = 1

    def exp_of_difference(self, a, b):
        with np.errstate(invalid="ignore"):  # -inf, for what is left out
            d = a - b
            back = d - a
            low = (a - (d - back)) - (b + back)
        return np.exp(d) * (1 + np.where(np.abs(d) < 1024, low, 0))

    def nll(self):
        """-log softmax as log1p of the others' sum, so that nothing cancels."""
        others = self.x.copy()
        own = self.x[self.every, self.target]
        others[self.every, self.target] = -np.inf
        most = others.max(axis=1)
        base = np.where(most > -np.inf, most, own)
        s = self.exp_of_difference(others, base[:, None]).sum(axis=1) if others.shape[1] > 1 else np.zeros(len(own))
        above = np.maximum(base - own, 0)
        small = np.log1p(s * self.exp_of_difference(np.minimum(base, own), own))
        return np.where(above > 0, above + np.log(s + np.exp(-above)), small)

    def missed(self):
        """1 - softmax at the target."""
        return -np.expm1(-self.nll())

    def gaps(self):
        return self.top[:, None] - self.x

    def softmax(self):
        return self.powers / self.z[:, None]

    def slopes(self):
        """softmax, and softmax - 1 at the target."""
        p = self.softmax()
        others = self.powers.copy()
        others[self.every, self.target] = 0
        p[self.every, self.target] = -others.sum(axis=1) / self.z
        return p


SMOOTHING = 0.1


@dataclass(frozen=True)
class Function:
    """A function under test: its call, its exact result, and the magnitude that defines an ulp, if not the result's."""

    call: object  # (x, target, w, y) -> result
    right: object  # Exact -> result in its type
    magnitude: object = None  # Exact, right -> magnitude
    mixed: bool = False  # takes weights or probabilities: float32 ones


def each(**options):
    def call(x, target, w, y):
        given = {"weight": w} if options.get("weight") else {}
        given |= {"label_smoothing": SMOOTHING} if options.get("smoothing") else {}
        return fastloss.cross_entropy(x, y if options.get("dense") else target, reduction="none", **given)

    return call


def gradient(**options):
    def call(x, target, w, y):
        given = {"label_smoothing": SMOOTHING} if options.get("smoothing") else {}
        function = fastloss.value_and_grad(fastloss.cross_entropy)
        return function(x, y if options.get("dense") else target, reduction="sum", **given)[1]

    return call


def own(exact, a):
    return a[exact.every, exact.target]


def focal(exact, gamma):
    return exact.nll() * exact.missed() ** gamma


def focal_slopes(exact, gamma):
    nll, missed = exact.nll(), exact.missed()
    p = own(exact, exact.softmax())
    factor = missed**gamma * (1 + gamma * p * nll / np.where(missed > 0, missed, 1))
    return exact.slopes() * factor[:, None]


def focal_functions(gamma):
    """The focal loss, and its gradient."""
    function = fastloss.focal_loss
    return {
        f"focal_loss, gamma={gamma}": Function(
            lambda x, target, w, y: function(x, target, gamma=gamma, reduction="none"), lambda e: focal(e, gamma)
        ),
        f"focal_loss gradient, gamma={gamma}": Function(
            lambda x, target, w, y: fastloss.value_and_grad(function)(x, target, gamma=gamma, reduction="sum")[1],
            lambda e: focal_slopes(e, gamma),
        ),
    }


def smoothed(exact, w):
    spread = exact.wide(SMOOTHING) / exact.x.shape[1]
    keep = exact.wide(1.0 - SMOOTHING)
    w = np.ones_like(exact.w) if w is None else w
    rest = (w * exact.gaps()).sum(axis=1) + w.sum() * exact.tail
    return keep * w[exact.target] * exact.nll() + spread * rest


def dense(exact):
    return (exact.y * exact.gaps()).sum(axis=1) + exact.y.sum(axis=1) * exact.tail


def smoothed_slopes(exact):
    """With the larger of the two terms of each difference."""
    n = exact.x.shape[1]
    spread = exact.wide(SMOOTHING) / n
    keep = exact.wide(1.0 - SMOOTHING)
    p = exact.softmax()
    mass = spread * n
    slopes = (keep + mass) * p - spread
    rest = exact.slopes()[exact.every, exact.target]
    slopes[exact.every, exact.target] = mass * own(exact, p) - spread + keep * rest
    return slopes


def smoothed_terms(exact, right):
    p = exact.softmax()
    terms = np.maximum(p, SMOOTHING / exact.x.shape[1])
    rest = np.abs(own(exact, exact.slopes()))
    terms[exact.every, exact.target] = np.maximum(
        np.maximum(rest, SMOOTHING / exact.x.shape[1]), own(exact, p) * SMOOTHING
    )
    return terms


def logsumexp_terms(exact, right):
    """The maximum and what comes on top of it cancel where the one is negative."""
    return np.where(exact.top < 0, np.maximum(-exact.top, exact.tail), right)


def dense_slopes(exact):
    mass = exact.y.sum(axis=1)[:, None]
    return mass * exact.softmax() - exact.y


FUNCTIONS = {
    "cross_entropy": Function(each(), lambda e: e.nll()),
    "cross_entropy, weight": Function(each(weight=True), lambda e: e.w[e.target] * e.nll()),
    "cross_entropy, smoothing": Function(each(smoothing=True), lambda e: smoothed(e, None)),
    "cross_entropy, both": Function(each(smoothing=True, weight=True), lambda e: smoothed(e, e.w)),
    "cross_entropy, probabilities": Function(each(dense=True), dense),
    "nll_loss": Function(
        lambda x, target, w, y: fastloss.nll_loss(x, target, weight=w, reduction="none"),
        lambda e: -e.w[e.target] * own(e, e.x),
    ),
    "log_softmax": Function(lambda x, target, w, y: fastloss.log_softmax(x), lambda e: -(e.gaps() + e.tail[:, None])),
    "softmax": Function(lambda x, target, w, y: fastloss.softmax(x), lambda e: e.softmax()),
    "logsumexp": Function(
        lambda x, target, w, y: fastloss.logsumexp(x), lambda e: e.top + e.tail, magnitude=logsumexp_terms
    ),
    "score().nll": Function(lambda x, target, w, y: fastloss.score(x, target).nll, lambda e: e.nll()),
    "score().lse": Function(
        lambda x, target, w, y: fastloss.score(x, target).lse, lambda e: e.top + e.tail, magnitude=logsumexp_terms
    ),
    "gradient": Function(gradient(), lambda e: e.slopes()),
    "gradient, smoothing": Function(gradient(smoothing=True), smoothed_slopes, magnitude=smoothed_terms),
    "gradient, probabilities": Function(
        gradient(dense=True),
        dense_slopes,
        magnitude=lambda e, right: np.maximum(e.y, e.softmax() * e.y.sum(axis=1)[:, None]),
    ),
    **focal_functions(2),
    **focal_functions(5),
}


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass
class Worst:
    error: float = 0.0
    where: str = ""
    case: tuple = ()


def errors(got, right, magnitude):
    """Errors in ulp; infinite where NaN or infinities differ.  For subnormal numbers an ulp is the smallest of them."""
    with np.errstate(all="ignore"):
        scale = np.maximum(np.abs(right), np.abs(magnitude)).astype(got.dtype)
        limit = np.finfo(got.dtype)
        ulp = np.spacing(np.minimum(np.maximum(scale, limit.tiny), limit.max)).astype(right.dtype)
        error = np.abs(got.astype(right.dtype) - right) / ulp
        rounded = right.astype(got.dtype)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
        alike = (got == rounded) | np.isnan(got) & np.isnan(rounded)
        return np.where(special, np.where(alike, 0.0, np.inf), error.astype(np.float64))


def draw(rng, family, n, c, dtype):
    with np.errstate(over="ignore"):
        x = family(rng, n, c).astype(dtype)
    w = 10.0 ** rng.uniform(-3, 3, c)
    y = rng.dirichlet(np.full(c, 0.3), n) if c < 1000 else rng.random((n, c)) / c
    return x, labels(rng, x), w.astype(dtype), y.astype(dtype)


def sizes(n_rows, c):
    """(rows drawn at a time, number of times); with more than ten classes, ten times `n_rows` elements altogether."""
    n_rows = n_rows if c in FEW else max(1, 10 * n_rows // c)
    rows = max(1, min(200_000 // c, n_rows))
    return rows, -(-n_rows // rows)


def search(names, dtype, n_rows, seed, classes=CLASSES):
    """The worst case of each function."""
    worst = {name: Worst() for name in names}
    for c in classes:
        rng = np.random.default_rng((seed, c))
        rows, rounds = sizes(n_rows, c)
        for _ in range(rounds):
            for family in FAMILIES:
                arguments = draw(rng, family, rows, c, dtype)
                with np.errstate(all="ignore"):
                    exact = Exact(*arguments)
                for name in names:
                    examine(worst[name], name, arguments, exact, f"{family.__name__}, {c} classes")
    return worst


def examine(worst, name, arguments, exact, where):
    function = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        right = function.right(exact)
        magnitude = right if function.magnitude is None else function.magnitude(exact, right)
    got = function.call(*arguments)
    error = errors(got, right, magnitude)
    at = np.unravel_index(np.argmax(error), error.shape)
    if error[at] > worst.error:
        x, target, w, y = (a if i == 2 else a[at[0]][None] for i, a in enumerate(arguments))
        worst.error, worst.where, worst.case = float(error[at]), where, (x, target, w, y, at[1:])


def confirmed(name, case):
    """The error of a function's worst case by mpmath; None if there are too many classes or rows."""
    x, target, w, y, place = case
    if x.size > 5000:
        return None
    function = FUNCTIONS[name]
    exact = MPExact(x, target, w, y)
    right = function.right(exact)
    magnitude = right if function.magnitude is None else function.magnitude(exact, right)
    at = (0, *place)
    got = np.asarray(function.call(x, target, w, y))
    value = got[at]
    limit = np.finfo(got.dtype)
    scale = max(abs(float(right[at])), abs(float(magnitude[at])), float(limit.tiny))
    return float(
        abs(MP.mpf(float(value)) - right[at]) / MP.mpf(float(np.spacing(got.dtype.type(min(scale, limit.max)))))
    )


class MPExact(Exact):
    """One row in mpmath, as object arrays, which support the same operations."""

    def __init__(self, x, target, w, y):
        as_mp = np.frompyfunc(lambda v: MP.mpf(float(v)), 1, 1)
        self.wide = lambda v: MP.mpf(float(v))
        self.x, self.target, self.w, self.y = as_mp(x), target, as_mp(w), as_mp(y)
        self.every = np.arange(len(x))
        self.top = np.array([max(row) for row in self.x], object)
        self.powers = self.exp_of_difference(self.x, self.top[:, None])
        first = x.argmax(axis=1)
        self.powers[self.every, first] = MP.mpf(0)
        self.z = 1 + self.powers.sum(axis=1)
        self.tail = np.frompyfunc(MP.log1p, 1, 1)(self.powers.sum(axis=1))
        self.powers[self.every, first] = MP.mpf(1)

    def exp_of_difference(self, a, b):
        return np.frompyfunc(MP.exp, 1, 1)(a - b)

    def nll(self):
        own = self.x[self.every, self.target][:, None]
        powers = self.exp_of_difference(self.x, own)
        powers[self.every, self.target] = MP.mpf(0)
        return np.frompyfunc(MP.log1p, 1, 1)(powers.sum(axis=1))

    def missed(self):
        return np.frompyfunc(lambda nll: -MP.expm1(-nll), 1, 1)(self.nll())


# --- as a command -----------------------------------------------------------------------------------------------------


def report(names, n_rows, seed, label):
    for dtype in DTYPES:
        for name, worst in search(names, dtype, n_rows, seed).items():
            again = confirmed(name, worst.case) if worst.case else None
            by_mpmath = "" if again is None else f"{again:.2f}"
            print(
                f"| {name} | {np.dtype(dtype).name} | {label} | {worst.error:.2f} | {worst.where} | {by_mpmath} |",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of few classes, a family of rows")
    parser.add_argument("--backends", default="cython,numba,numpy")
    parser.add_argument("--functions", default=";".join(FUNCTIONS), help="separated by semicolons")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.functions.split(";")
    if args.here:
        backend = os.environ["FASTLOSS_BACKEND"]
        label = f"{backend} {os.environ.get('FASTLOSS_CPU', '')}".strip()
        report(names, args.rows, args.seed, label)
        return
    print("| function | dtype | backend | largest error, ulp | rows | by mpmath |")
    print("| --- | --- | --- | ---: | --- | ---: |", flush=True)
    for backend in args.backends.split(","):
        for cpu in ("baseline", "avx2", "avx512") if backend == "cython" else ("",):
            environment = {**os.environ, "FASTLOSS_BACKEND": backend} | ({"FASTLOSS_CPU": cpu} if cpu else {})
            rows = args.rows if backend != "numpy" else args.rows // 10
            more = ["--rows", str(rows), "--functions", args.functions, "--seed", str(args.seed), "--here"]
            subprocess.run([sys.executable, __file__, *more], env=environment, check=True)


if __name__ == "__main__":
    main()
