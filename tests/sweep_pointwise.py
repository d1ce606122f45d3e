"""Every pointwise formula over the whole range of its operands, against mpmath: `python tests/sweep_pointwise.py`
prints a table.

Operands range from 1e-38 to 1e38, with both signs if the loss takes both, equal, nearly equal, and in smaller ranges.
Values and slopes are checked in float32 and float64, on the backend in use (`FASTLOSS_BACKEND`, `FASTLOSS_CPU`).
Errors are in ulp of the exact result; if a loss subtracts terms by its nature, so that no arithmetic could do better,
in ulp of the largest of these terms.

    python tests/sweep_pointwise.py [--number 20000] [--loss NAME] [--seed 0] [--search]

`--search` draws 10^7 operands per loss instead, in float32 only, and compares with 80-bit arithmetic; losses with terms
that cancel are skipped.

`test_sweep_pointwise.py` runs it on few operands.
"""

import argparse
from dataclasses import dataclass, field

import compare
import mpmath
import numpy as np
from compare import LONG
from mpmath import mpf
from reference_pointwise import POINTWISE

import fastloss

PRECISION = 420  # bits: 1e38 - 1e-38 is exact
DTYPES = (np.float32, np.float64)
VALUE, SLOPE = range(2)

# --- operands ---------------------------------------------------------------------------------------------------------


def magnitudes(rng, n, low=-38.0, high=38.5):
    """Powers of ten, evenly over the exponents."""
    return 10.0 ** rng.uniform(low, high, n)


def reals(rng, n):
    """Both signs: the whole range, the middle of it, and 0."""
    sign = rng.choice([-1.0, 1.0], n)
    kind = rng.integers(0, 10, n)
    wide, middle, plain = magnitudes(rng, n), magnitudes(rng, n, -4, 4), rng.normal(0, 2, n)
    return np.where(kind < 4, sign * wide, np.where(kind < 7, sign * middle, np.where(kind < 9, plain, sign * 0.0)))


def positives(rng, n):
    return np.abs(reals(rng, n))


def probabilities(rng, n):
    """In [0, 1]: down to 1e-38, up to the last number below 1, and in between."""
    small = magnitudes(rng, n, -38, -0.01)
    kind = rng.integers(0, 10, n)
    ends = rng.choice([0.0, 1.0, 0.5, 1 - 2.0**-24, 2.0**-24], n)
    return np.select([kind < 4, kind < 6, kind < 9], [small, 1 - small, rng.random(n)], ends)


def logits(rng, n):
    """Where exp neither overflows nor vanishes, and down to 1e-38."""
    return np.where(
        rng.random(n) < 0.6, rng.uniform(-100, 88, n), rng.choice([-1, 1], n) * magnitudes(rng, n, -38, 1.9)
    )


def logs(rng, n):
    """Logarithms of probabilities."""
    return -np.abs(logits(rng, n))


def near(rng, other, dtype):
    """Some of `other`, changed by a few units in the last place, or by a few thousand."""
    other = other.astype(dtype)
    steps = np.round(rng.choice([-1, 1], other.size) * 2.0 ** rng.uniform(-1, 14, other.size))
    with np.errstate(all="ignore"):
        return other + (steps * np.spacing(other)).astype(dtype)


def signs(rng, n):
    return rng.choice([-1.0, 1.0], n)


def labels(rng, n):
    return rng.choice([0.0, 1.0], n)


def rates(rng, n):
    """Above 0."""
    drawn = positives(rng, n)
    return np.where(drawn > 0, drawn, 1.0)


DRAWN = {
    "sign": signs,
    "label": labels,
    "rate": rates,
    "real": reals,
    "positive": positives,
    "probability": probabilities,
    "logit": logits,
    "log": logs,
}


# --- exact values and slopes: each gives a list (value, its terms), (slope, its terms); terms None where nothing cancel


def _mse(x, y):
    return (x - y) ** 2, None, 2 * (x - y), None


def _l1(x, y):
    return abs(x - y), None, mpmath.sign(x - y), None


def _huber(x, y, delta):
    d = abs(x - y)
    s = mpmath.sign(x - y)
    return (d * d / 2, None, x - y, None) if d <= delta else (delta * (d - delta / 2), None, delta * s, None)


def _smooth_l1(x, y, beta):
    value, _, slope, _ = _huber(x, y, beta)
    return value / beta, None, slope / beta, None


def _log_cosh(x, y):
    d = abs(x - y)
    if d < 1:
        value = mpmath.log1p(2 * mpmath.sinh(d / 2) ** 2)
    else:
        value = d + (mpmath.log1p(mpmath.exp(-2 * d)) if d < 1000 else 0) - mpmath.log(2)
    return value, None, mpmath.tanh(x - y) if d < 1000 else mpmath.sign(x - y), None


def _msle(x, y):
    d = mpmath.log1p((x - y) / (1 + y))
    return d * d, None, 2 * d / (1 + x), None


def _quantile(x, y, q):
    d = y - x
    slope = -q if d > 0 else 1 - q if d < 0 else mpf(0)
    return q * d if d >= 0 else (q - 1) * d, None, slope, None


def _charbonnier(x, y, eps):
    d = x - y
    root = mpmath.sqrt(d * d + eps * eps)
    return d * d / (root + eps), None, d / root, None


def _mape(x, y, eps):
    size = max(abs(y), eps)
    return abs(x - y) / size, None, mpmath.sign(x - y) / size, None


def _smape(x, y, eps):
    d, both = x - y, abs(x) + abs(y)
    value, size = 2 * abs(d) / max(both, eps), max(both, eps)
    if both < eps:
        return value, None, 2 * mpmath.sign(d) / size, None
    return value, None, 2 * (mpmath.sign(d) * both - abs(d) * mpmath.sign(x)) / both**2, None


def _hinge(x, y):
    rest = 1 - y * x
    return max(rest, 0), max(1, abs(x)) if rest > 0 else None, -y if rest >= 0 else mpf(0), None


def _squared_hinge(x, y):
    value, terms, _, _ = _hinge(x, y)
    return value**2, None, -2 * y * value, None


def _soft_margin(x, y):
    value = mpmath.log1p(mpmath.exp(-abs(x))) + max(-y * x, 0)
    return value, None, -y / (1 + mpmath.exp(y * x)), None


def _hinge_embedding(x, y, margin):
    if y == 1:
        return x, None, mpf(1), None
    rest = margin - x
    return max(rest, 0), None, mpf(-1) if rest >= 0 else mpf(0), None


def _margin_ranking(x, other, y, margin):
    rest = margin - y * (x - other)
    return max(rest, 0), max(abs(margin), abs(x - other)) if rest > 0 else None, -y if rest >= 0 else mpf(0), None


def _generalized_kl(x, y):
    """Nothing cancels with so many digits."""
    return y * mpmath.log(y / x) - y + x if y else x, None, 1 - y / x, None


def _poisson_deviance(x, y):
    value, _, slope, _ = _generalized_kl(x, y)
    return 2 * value, None, 2 * slope, None


def _gamma_deviance(x, y):
    return 2 * (mpmath.log(x / y) + y / x - 1), None, 2 * (x - y) / x**2, None


def _tweedie(x, y, power):
    power = mpf(power)
    first, second = 1 - power, 2 - power
    if x == y:
        return mpf(0), None, mpf(0), None
    terms = (max(y, 0) ** second / (first * second) if y > 0 else mpf(0), -y * x**first / first, x**second / second)
    return 2 * sum(terms), None, 2 * (x - y) / x**power, None


def _sigmoid_focal(x, y, alpha, gamma):
    weight = alpha * y + (1 - alpha) * (1 - y)
    up, down = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    missed = (1 - y) * up + y * down
    loss, _, slope, _ = _bce_logits(x, y)
    more = gamma * loss * (1 - 2 * y) * up * down / missed
    factor = weight * missed**gamma
    return loss * factor, None, factor * (slope + more), factor * max((1 - y) * up, y * down, abs(more))


def _stirling(y):
    if y <= 1:
        return 0, 0
    terms = (y * mpmath.log(y), y, mpmath.log(2 * mpmath.pi * y) / 2)
    return terms[0] - y + terms[2], max(terms)


def _poisson(x, y, full=False):
    rate = mpmath.exp(x)
    more, terms = _stirling(y) if full else (0, 0)
    return rate - y * x + more, max(rate, abs(y * x), terms), rate - y, max(rate, y)


def _poisson_of_rate(x, y, full=False, eps=None):
    logarithm = mpmath.log(x + eps)
    more, terms = _stirling(y) if full else (0, 0)
    # x + eps is rounded before its logarithm is taken, which near 1 has terms 1
    size = max(x, y * abs(logarithm), y if abs(logarithm) < 1 else 0, terms)
    return x - y * logarithm + more, size, 1 - y / (x + eps), max(mpf(1), y / (x + eps))


def _gaussian(x, y, v, full=False, eps=None):
    v = max(v, eps)
    constant = mpmath.log(2 * mpmath.pi) / 2 if full else mpf(0)
    terms = (mpmath.log(v) / 2, (x - y) ** 2 / v / 2, constant)
    return sum(terms), max(map(abs, terms)), (x - y) / v, None


def _kl_div(x, y):
    if y == 0:
        return mpf(0), None, mpf(0), None
    return y * (mpmath.log(y) - x), y * max(abs(mpmath.log(y)), abs(x)), -y, None


def _kl_div_log(x, y):
    p = mpmath.exp(y)
    return p * (y - x), None, -p, None


def _floored(p):
    return mpmath.log(p) if p > mpmath.exp(-100) else mpf(-100)


def _bce(p, y, floor=None):
    value = -y * _floored(p) - (1 - y) * (mpmath.log1p(-p) if p < 0.9 else _floored(1 - p))
    return value, None, (p - y) / max(p * (1 - p), floor), None


def _bce_logits(x, y, pos_weight=1):
    tail = mpmath.log1p(mpmath.exp(-abs(x)))
    miss, hit = (1 - y) * (max(x, 0) + tail), pos_weight * y * (max(-x, 0) + tail)
    up, down = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    terms = (1 - y) * up, pos_weight * y * down
    return miss + hit, None, terms[0] - terms[1], max(terms)


@dataclass(frozen=True)
class Sweep:
    """A loss with its options, what its operands are drawn from, and its exact value and slope."""

    loss: str
    domains: tuple
    exact: object
    options: dict = field(default_factory=dict)
    parameters: tuple = ()  # options that the formula takes, in its dtype
    cancels: bool = False  # whether the value has terms of both signs
    slope_cancels: bool = False  # whether the slope alone has

    def __str__(self):
        return self.loss + "".join(f", {name}={value}" for name, value in self.options.items())

    def draw(self, rng, n, dtype):
        operands = [DRAWN[domain](rng, n).astype(dtype) for domain in self.domains]
        alike = rng.random(n)
        x, y = operands[:2]
        if self.domains[0] == self.domains[1] or self.domains[:2] in (("logit", "real"), ("rate", "positive")):
            close = near(rng, x, dtype)
            if self.domains[1] == "probability":
                close = np.clip(close, 0, 1)
            if self.domains[1] in ("log", "positive", "rate"):
                close = np.abs(close) * (-1 if self.domains[1] == "log" else 1)
            operands[1] = np.where(alike < 0.3, close, np.where(alike < 0.35, x, y))
        return operands

    def exactly(self, operands, dtype):
        """(value, its scale), (slope, its scale) of each element."""
        options = {name: self.options[name] for name in self.options if name not in ("log_input", "log_target")}
        if self.exact is _bce:
            options["floor"] = mpf(float(dtype(1e-12)))
        for name in self.parameters:
            options[name] = mpf(float(dtype(self.options[name])))
        with mpmath.workprec(PRECISION):
            for element in zip(*(a.tolist() for a in operands), strict=True):
                value, terms, slope, slope_terms = self.exact(*map(mpf, element), **options)
                yield value, max(abs(value), terms or 0), slope, max(abs(slope), slope_terms or 0)


SWEEPS = (
    Sweep("mse_loss", ("real", "real"), _mse),
    Sweep("l1_loss", ("real", "real"), _l1),
    Sweep("huber_loss", ("real", "real"), _huber, {"delta": 0.7}, ("delta",)),
    Sweep("huber_loss", ("real", "real"), _huber, {"delta": 1e30}, ("delta",)),
    Sweep("smooth_l1_loss", ("real", "real"), _smooth_l1, {"beta": 0.7}, ("beta",)),
    Sweep("smooth_l1_loss", ("real", "real"), _smooth_l1, {"beta": 1e-30}, ("beta",)),
    Sweep("log_cosh_loss", ("real", "real"), _log_cosh),
    Sweep("msle_loss", ("positive", "positive"), _msle),
    Sweep("quantile_loss", ("real", "real"), _quantile, {"q": 0.875}, ("q",)),
    Sweep("quantile_loss", ("real", "real"), _quantile, {"q": 0.0}, ("q",)),
    Sweep("charbonnier_loss", ("real", "real"), _charbonnier, {"eps": 1e-3}, ("eps",)),
    Sweep("charbonnier_loss", ("real", "real"), _charbonnier, {"eps": 1e20}, ("eps",)),
    Sweep("mape_loss", ("real", "real"), _mape, {"eps": 2.0**-52}, ("eps",)),
    Sweep("smape_loss", ("real", "real"), _smape, {"eps": 2.0**-52}, ("eps",)),
    Sweep("hinge_loss", ("real", "sign"), _hinge),
    Sweep("squared_hinge_loss", ("real", "sign"), _squared_hinge),
    Sweep("soft_margin_loss", ("logit", "sign"), _soft_margin),
    Sweep("hinge_embedding_loss", ("real", "sign"), _hinge_embedding, {"margin": 0.7}, ("margin",)),
    Sweep("margin_ranking_loss", ("real", "real", "sign"), _margin_ranking, {"margin": 0.5}, ("margin",), cancels=True),
    Sweep("generalized_kl_div", ("rate", "positive"), _generalized_kl),
    Sweep("poisson_deviance_loss", ("rate", "positive"), _poisson_deviance),
    Sweep("gamma_deviance_loss", ("rate", "rate"), _gamma_deviance),
    Sweep("tweedie_deviance_loss", ("rate", "positive"), _tweedie, {"power": 1.5}, cancels=True),
    Sweep("tweedie_deviance_loss", ("rate", "positive"), _tweedie, {"power": 1.001}, cancels=True),
    Sweep("tweedie_deviance_loss", ("rate", "positive"), _tweedie, {"power": 1.9}, cancels=True),
    Sweep("tweedie_deviance_loss", ("rate", "rate"), _tweedie, {"power": 2.001}, cancels=True),
    Sweep("tweedie_deviance_loss", ("rate", "rate"), _tweedie, {"power": 3.0}, cancels=True),
    Sweep("tweedie_deviance_loss", ("rate", "real"), _tweedie, {"power": -1.0}, cancels=True),
    Sweep("sigmoid_focal_loss", ("logit", "label"), _sigmoid_focal, {"alpha": 0.25, "gamma": 2.0}, ("gamma",)),
    Sweep("sigmoid_focal_loss", ("logit", "label"), _sigmoid_focal, {"alpha": 0.75, "gamma": 0.3}, ("gamma",)),
    Sweep(
        "sigmoid_focal_loss",
        ("logit", "probability"),
        _sigmoid_focal,
        {"alpha": 0.25, "gamma": 2.0},
        ("gamma",),
        cancels=True,
    ),
    Sweep(
        "sigmoid_focal_loss",
        ("logit", "probability"),
        _sigmoid_focal,
        {"alpha": 0.75, "gamma": 3.7},
        ("gamma",),
        cancels=True,
    ),
    Sweep("binary_cross_entropy", ("probability", "probability"), _bce),
    Sweep("binary_cross_entropy_with_logits", ("logit", "probability"), _bce_logits, slope_cancels=True),
    Sweep("binary_cross_entropy_with_logits", ("real", "probability"), _bce_logits, slope_cancels=True),
    Sweep("poisson_nll_loss", ("logit", "positive"), _poisson, cancels=True),
    Sweep("poisson_nll_loss", ("logit", "positive"), _poisson, {"full": True}, cancels=True),
    Sweep(
        "poisson_nll_loss",
        ("positive", "positive"),
        _poisson_of_rate,
        {"log_input": False, "eps": 1e-8},
        ("eps",),
        cancels=True,
    ),
    Sweep(
        "poisson_nll_loss",
        ("positive", "positive"),
        _poisson_of_rate,
        {"log_input": False, "full": True, "eps": 1e-8},
        ("eps",),
        cancels=True,
    ),
    Sweep("gaussian_nll_loss", ("real", "real", "positive"), _gaussian, {"eps": 1e-6}, ("eps",), cancels=True),
    Sweep(
        "gaussian_nll_loss",
        ("real", "real", "positive"),
        _gaussian,
        {"full": True, "eps": 1e-30},
        ("eps",),
        cancels=True,
    ),
    Sweep("kl_div", ("log", "probability"), _kl_div, cancels=True),
    Sweep("kl_div", ("log", "log"), _kl_div_log, {"log_target": True}),
)


# --- errors -----------------------------------------------------------------------------------------------------------


def ulp_error(got, exact, scale, dtype):
    """|got - exact| in ulp of the scale; what overflows the dtype has to be infinite."""
    most = mpf(float(np.finfo(dtype).max)) * (1 + mpf(float(np.finfo(dtype).eps)) / 4)
    if abs(exact) >= most or not np.isfinite(got):
        return 0.0 if abs(exact) >= most and got == (np.inf if exact > 0 else -np.inf) else np.inf
    unit = np.spacing(dtype(min(abs(scale), float(np.finfo(dtype).max) / 2)))
    return float(abs(mpf(float(got)) - exact) / mpf(float(unit)))


def worst(sweep, dtype, n, seed=0):
    """[(largest error in ulp, the operands, what came, what is right)] for values and slopes."""
    rng = np.random.default_rng([seed, *map(ord, str(sweep))])
    operands = sweep.draw(rng, n, dtype)
    function = getattr(fastloss, sweep.loss)
    values = function(*operands, reduction="none", **sweep.options)
    _, slopes = fastloss.value_and_grad(function)(*operands, reduction="sum", **sweep.options)
    found = [(-1.0, None, None, None)] * 2
    with mpmath.workprec(PRECISION):
        for i, (value, scale, slope, slope_scale) in enumerate(sweep.exactly(operands, dtype)):
            for which, got, exact, size in ((VALUE, values, value, scale), (SLOPE, slopes, slope, slope_scale)):
                error = ulp_error(got[i], exact, size, dtype)
                if error > found[which][0]:
                    found[which] = error, tuple(float(a[i]) for a in operands), float(got[i]), float(exact)
    return found


PIECE = 1 << 18


def searched(sweep, n, seed=0):
    """As `worst`, in float32, but against the tests' oracle, which is accurate enough for that and fast enough for many
    operands."""
    rng = np.random.default_rng([seed, *map(ord, str(sweep))])
    function, oracle = getattr(fastloss, sweep.loss), POINTWISE[sweep.loss]
    options = {k: float(np.float32(v)) if k in sweep.parameters else v for k, v in sweep.options.items()}
    found = [(-1.0, None, None, None)] * 2
    for _ in range(-(-n // PIECE)):
        operands = sweep.draw(rng, PIECE, np.float32)
        values = function(*operands, reduction="none", **sweep.options)
        _, slopes = fastloss.value_and_grad(function)(*operands, reduction="sum", **sweep.options)
        with np.errstate(all="ignore"):
            exact = oracle(*(a.astype(LONG) for a in operands), **options)
        for which, got, right in ((VALUE, values, exact[0]), (SLOPE, slopes, exact[1])):
            errors = compare.ulp_error(got, right)
            i = int(np.argmax(errors))
            if errors[i] > found[which][0]:
                found[which] = errors[i], tuple(float(a[i]) for a in operands), float(got[i]), float(right[i])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--number", type=int, default=20_000, help="operands for each loss and dtype")
    parser.add_argument("--loss", default="", help="only losses whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search", action="store_true", help="10^7 operands in float32, against 80-bit arithmetic")
    arguments = parser.parse_args()
    if not any(arguments.loss in str(sweep) for sweep in SWEEPS):
        parser.error(f"no sweep's name contains {arguments.loss!r}")
    print("| loss | dtype | value: ulp | where | slope: ulp | where |")
    print("| --- | --- | --- | --- | --- | --- |")
    for sweep in SWEEPS:
        if arguments.loss not in str(sweep):
            continue
        if arguments.search and sweep.cancels:
            continue
        for dtype in DTYPES[:1] if arguments.search else DTYPES:
            cells = []
            if arguments.search:
                found = searched(sweep, 10**7, arguments.seed)
            else:
                found = worst(sweep, dtype, arguments.number, arguments.seed)
            for error, operands, got, exact in found:
                place = ", ".join(f"{v:.9g}" for v in operands)
                wrong = "" if error < 4 else f": {got:.9g}, exact {exact:.9g}"
                cells += [f"{error:.2f}", f"({place}){wrong}"]
            print("|", " | ".join([str(sweep), np.dtype(dtype).name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
