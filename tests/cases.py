"""The one table of losses that all tests share: parameters, domains of the arguments, tolerances.

A case is a loss with its options. ``case.arguments(rng, shape)`` draws float64 arguments inside the loss's
domain, ``case.cast(arguments, dtype)`` turns them into another dtype without leaving that domain.
"""

from dataclasses import dataclass, field

import numpy as np


def _labels(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1]) if shape[-1] else np.zeros(shape[:-1], np.int64)


def _distribution(rng, shape):
    raw = rng.uniform(0.05, 1.0, shape)
    return raw / raw.sum(axis=-1, keepdims=True)


# Kinds of arguments: how to draw one, and how to round it to an integer array of that kind.
DOMAINS = {
    "real": (lambda rng, shape: rng.normal(0, 2, shape), np.rint),
    "score": (lambda rng, shape: rng.normal(0, 2, shape), np.rint),  # an infinite one may give 0, or NaN
    "sign": (lambda rng, shape: rng.choice([-1.0, 1.0], shape), np.rint),
    "probability": (lambda rng, shape: rng.uniform(0.02, 0.98, shape), np.rint),
    "positive": (lambda rng, shape: rng.uniform(0.1, 4, shape), np.ceil),
    "log_probability": (lambda rng, shape: -rng.uniform(0.05, 5, shape), np.rint),
    "row": (_distribution, np.ceil),
    "label": (_labels, None),  # stays an integer array whatever the dtype of the rest
    "distribution": (_distribution, None),  # integers would be class indices
}


@dataclass(frozen=True)
class Case:
    loss: str
    domains: tuple  # one of DOMAINS for each positional argument
    options: dict = field(default_factory=dict)
    # Tolerance of reduction="none" in ulp, {float32, float64}. The ulp is that of max(|value|, at): `at` is 0
    # unless the formula subtracts nearly equal terms; then it is the size of those.
    ulp: tuple = (2, 4)
    at: float = 0.0

    def __str__(self):
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        kind = {"label": "index", "distribution": "probs"}.get(self.domains[1])
        return "-".join(part for part in (self.loss, kind, options) if part)

    @property
    def rowwise(self):
        """Whether the loss reduces a class axis."""
        return self.domains[1] in ("label", "distribution")

    @property
    def reductions(self):
        plain = ("mean", "sum") if self.loss == "rmse_loss" else ("none", "mean", "sum")
        return plain + ("batchmean",) if self.loss == "kl_div" else plain

    def arguments(self, rng, shape):
        return tuple(DOMAINS[domain][0](rng, shape) for domain in self.domains)

    def cast(self, arguments, dtype):
        dtype = np.dtype(dtype)
        integer = dtype.kind in "iub"
        result = []
        for domain, argument in zip(self.domains, arguments, strict=True):
            to_integer = DOMAINS[domain][1]
            if domain == "label" or (integer and to_integer is None):
                result.append(argument)
            elif integer:
                whole = to_integer(argument)
                result.append((whole if dtype.kind == "i" else np.abs(whole)).astype(dtype))
            else:
                result.append(argument.astype(dtype))
        return tuple(result)

    def tolerance(self, dtype):
        return self.ulp[0] if np.dtype(dtype) == np.float32 else self.ulp[1]


_REAL = ("real", "real")
CASES = (
    Case("cross_entropy", ("real", "label")),
    Case("cross_entropy", ("real", "label"), {"label_smoothing": 0.1}, ulp=(4, 6)),
    Case("cross_entropy", ("real", "distribution"), ulp=(4, 6)),
    Case("cross_entropy", ("real", "distribution"), {"label_smoothing": 0.1}, ulp=(4, 6)),
    Case("cross_entropy", ("real", "label"), {"temperature": 0.7}, ulp=(2, 4)),
    Case("cross_entropy", ("real", "label"), {"softcap": 3.0, "temperature": 1.5, "label_smoothing": 0.1}, ulp=(4, 6)),
    Case("cross_entropy", ("real", "distribution"), {"softcap": 3.0}, ulp=(4, 6)),
    Case("cross_entropy", ("real", "label"), {"z_loss": 0.01}, ulp=(4, 6)),
    Case("cross_entropy", ("real", "label"), {"z_loss": 0.01, "softcap": 3.0, "temperature": 1.5}, ulp=(4, 6)),
    Case("focal_loss", ("real", "label"), ulp=(7, 12)),
    Case("focal_loss", ("real", "label"), {"gamma": 0.5}, ulp=(4, 8)),
    Case("poly_loss_cross_entropy", ("real", "label"), ulp=(4, 6)),
    Case("poly_loss_cross_entropy", ("real", "label"), {"epsilon": -0.5}, ulp=(4, 6), at=1.0),
    Case("nll_loss", ("log_probability", "label"), ulp=(1, 1)),
    Case("categorical_cross_entropy", ("row", "label")),
    Case("categorical_cross_entropy", ("row", "distribution"), ulp=(4, 6)),
    Case("binary_cross_entropy", ("probability", "probability"), ulp=(4, 6)),
    Case("binary_cross_entropy_with_logits", ("real", "probability"), ulp=(2, 4)),
    Case("mse_loss", _REAL),
    Case("rmse_loss", _REAL),
    Case("l1_loss", _REAL),
    Case("huber_loss", _REAL),
    Case("huber_loss", _REAL, {"delta": 0.7}, ulp=(4, 4)),
    Case("smooth_l1_loss", _REAL),
    Case("smooth_l1_loss", _REAL, {"beta": 0.7}, ulp=(4, 4)),
    Case("smooth_l1_loss", _REAL, {"beta": 0.0}),
    Case("log_cosh_loss", _REAL, ulp=(6, 8)),
    # The square of a difference d of two logarithms, 1 ulp each, is off by 2 d times as much: here d < 1.6.
    Case("msle_loss", ("positive", "positive"), ulp=(10, 10), at=1.0),
    Case("quantile_loss", _REAL),
    Case("quantile_loss", _REAL, {"q": 0.9}, ulp=(3, 3)),
    Case("charbonnier_loss", _REAL, ulp=(4, 4)),
    Case("charbonnier_loss", _REAL, {"eps": 0.7}, ulp=(4, 4)),
    Case("mape_loss", _REAL),
    Case("mape_loss", _REAL, {"eps": 0.5}),
    Case("smape_loss", ("score", "real"), ulp=(3, 3)),
    Case("smape_loss", ("score", "real"), {"eps": 3.0}, ulp=(3, 3)),
    Case("sigmoid_focal_loss", ("score", "probability"), ulp=(4, 8)),
    Case("sigmoid_focal_loss", ("score", "probability"), {"alpha": -1.0, "gamma": 0.5}, ulp=(4, 8)),
    Case("poisson_deviance_loss", ("positive", "positive"), ulp=(4, 8)),
    Case("gamma_deviance_loss", ("positive", "positive"), ulp=(4, 8)),
    Case("tweedie_deviance_loss", ("positive", "positive")),
    Case("tweedie_deviance_loss", ("positive", "positive"), {"power": 1.0}, ulp=(4, 8)),
    Case("tweedie_deviance_loss", ("positive", "positive"), {"power": 1.5}, ulp=(4, 8)),
    Case("tweedie_deviance_loss", ("positive", "positive"), {"power": 3.0}, ulp=(4, 8)),
    Case("tweedie_deviance_loss", ("positive", "real"), {"power": -1.0}, ulp=(4, 8)),
    Case("generalized_kl_div", ("positive", "positive"), ulp=(4, 8)),
    Case("hinge_loss", ("score", "sign"), at=1.0),
    Case("squared_hinge_loss", ("score", "sign"), ulp=(4, 4), at=1.0),
    Case("soft_margin_loss", ("score", "sign"), ulp=(2, 4)),
    Case("hinge_embedding_loss", ("score", "sign"), at=1.0),
    Case("hinge_embedding_loss", ("score", "sign"), {"margin": 0.3}, at=1.0),
    Case("margin_ranking_loss", ("score", "real", "sign"), at=4.0),
    Case("margin_ranking_loss", ("score", "real", "sign"), {"margin": 0.7}, at=4.0),
    Case("poisson_nll_loss", ("real", "positive"), ulp=(4, 4), at=8.0),
    Case("poisson_nll_loss", ("real", "positive"), {"full": True}, ulp=(4, 4), at=8.0),
    Case("poisson_nll_loss", ("positive", "positive"), {"log_input": False}, ulp=(4, 4), at=4.0),
    Case("gaussian_nll_loss", ("real", "real", "positive"), ulp=(4, 4), at=2.0),
    Case("gaussian_nll_loss", ("real", "real", "positive"), {"full": True}, ulp=(4, 4), at=2.0),
    Case("kl_div", ("log_probability", "probability"), ulp=(4, 4), at=2.0),
    Case("kl_div", ("log_probability", "log_probability"), {"log_target": True}, ulp=(4, 4), at=2.0),
)
ROW_CASES = tuple(case for case in CASES if case.rowwise)
POINT_CASES = tuple(case for case in CASES if not case.rowwise)
REGRESSION_CASES = tuple(case for case in POINT_CASES if not case.loss.startswith(("binary", "sigmoid")))
# One case for each loss and kind of target: for what does not depend on the scalar options.
PLAIN_CASES = tuple(case for case in CASES if not case.options)
# One for each way of looping over arrays: labels, class probabilities, one entry per row, two and three operands.
# Formulas do not depend on layouts and shapes, and each combination of loss and kind of array has to be compiled;
# so tests that try all layouts or shapes run only these losses.
STAND_INS = tuple(
    next(case for case in PLAIN_CASES if str(case) == name)
    for name in (
        "cross_entropy-index",
        "cross_entropy-probs",
        "nll_loss-index",
        "mse_loss",
        "gaussian_nll_loss",
    )
)
ROW_STAND_INS, POINT_STAND_INS = STAND_INS[:3], STAND_INS[3:]


def generator(*seed):
    """A random generator seeded by what is tested, so that tests do not depend on their order."""
    return np.random.default_rng([sum(map(ord, str(part))) for part in seed])
