"""The table of losses: formulas, with what backends need to know about them, and one row per public function, from
which all else is derived.

Dispatch, `value_and_grad`, `Accumulator`, Dask, scorers, the command line and `info --warm` know a loss only by its
row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

# --- formulas ---------------------------------------------------------------------------------------------------------


class Domain(NamedTuple):
    """The interval that the values of an array must lie in; NaN is always allowed.

    low, high : its ends, included.
    open : True if `low`, which is then 0, is excluded.
    """

    low: float
    high: float
    open: bool = False

    def ends(self, real: str) -> tuple[float, float]:
        """(smallest, largest) number of a type, "float32" or "float64", in the interval."""
        return (LEAST[real] if self.open else self.low), self.high


# The smallest positive numbers.
LEAST = {"float32": 2.0**-149, "float64": 2.0**-1074}


@dataclass(frozen=True)
class Formula:
    """A pointwise formula: the names of its scalar functions, and what their arguments may be.

    Attributes
    ----------
    name : name in kernels and caches.
    operands : 2, or 3 if a third array accompanies prediction and target.
    parameters : names of the scalar parameters, in the order of the formula's arguments.
    domains : values that prediction, target and third operand may take, a Domain or None for each.
        Outside the domain the value is NaN, so that operands have to be checked only if a result is NaN.
    odds : whether the value is {name}_linear + log1p({name}_odds), with odds in [0, 1]: a sum over elements may then
        take one logarithm of several odds, as log1p(a) + log1p(b) = log1p(a + b + a b).
    ns : nanoseconds per element on one CPU, see `_costs`.
    text : the source of a user-defined formula, None for those in scalars.py; its name must then be unique.
    functions : names of value and slope in that source.
    """

    name: str
    operands: int = 2
    parameters: tuple[str, ...] = ()
    domains: tuple[Domain | None, ...] = ()
    odds: bool = False
    ns: float = 0.3
    text: str | None = None
    functions: tuple[str, str] | None = None

    @property
    def is_slow(self) -> bool:
        """Whether the arithmetic takes so long that CPUs don't read ahead by themselves: kernels then ask for memory ahead."""
        return self.ns >= 0.3

    @property
    def value(self) -> str:
        return self.functions[0] if self.functions else self.name

    @property
    def slope(self) -> str:
        return self.functions[1] if self.functions else f"{self.name}_slope"


@dataclass(frozen=True)
class RowFormula:
    """A loss that is a function of two numbers per row of logits: the negative log-likelihood nll and logsumexp lse.

    With a and b its derivatives with respect to nll and lse, the gradient is (a + b) p_j for class j, except for the
    target t, where it is b p_t - a (1 - p_t).

    Attributes
    ----------
    value : formula of nll, lse and the parameters.
    factor : formula, of the same arguments, of a + b.
    at_target : formula, of the same arguments, of the gradient with respect to the target's logit.
    with_lse : whether the loss depends on lse.
    amplified : function of the parameters: how many times the relative error of a small nll the loss is off by.
    """

    value: Formula
    factor: Formula
    at_target: Formula
    with_lse: bool
    amplified: Callable[..., float] = lambda *_: 1.0


PROBABILITY = Domain(0.0, 1.0)
NOT_NEGATIVE = Domain(0.0, math.inf)
POSITIVE = Domain(0.0, math.inf, open=True)

MSE = Formula("mse", ns=0.1)
# for the root of a mean whose squares overflow or underflow
MSE_SCALED = Formula("mse_scaled", parameters=("scale",), ns=0.1)
L1 = Formula("l1", ns=0.1)
HUBER = Formula("huber", parameters=("delta",), ns=0.1)
SMOOTH_L1 = Formula("smooth_l1", parameters=("beta",), ns=0.3)
LOG_COSH = Formula("log_cosh", ns=1.0)
QUANTILE = Formula("quantile", parameters=("low", "high"), ns=0.1)
MSLE = Formula("msle", ns=1.2)
CHARBONNIER = Formula("charbonnier", parameters=("eps",), ns=1.0)
MAPE = Formula("mape", parameters=("eps",), ns=0.3)
SMAPE = Formula("smape", parameters=("eps",), ns=0.3)
SIGMOID_FOCAL = Formula(
    "sigmoid_focal", parameters=("gamma", "positive", "negative"), domains=(None, PROBABILITY), ns=3.0
)
SIGMOID_FOCAL_SQUARED = Formula(
    "sigmoid_focal_squared", parameters=("positive", "negative"), domains=(None, PROBABILITY), ns=1.5
)
GENERALIZED_KL = Formula("generalized_kl", domains=(NOT_NEGATIVE, NOT_NEGATIVE), ns=1.5)
POISSON_DEVIANCE = Formula("poisson_deviance", domains=(POSITIVE, NOT_NEGATIVE), ns=1.5)
GAMMA_DEVIANCE = Formula("gamma_deviance", domains=(POSITIVE, POSITIVE), ns=1.5)
TWEEDIE_LOW = Formula("tweedie_low", parameters=("p", "p_low"), domains=(POSITIVE,), ns=5.0)
TWEEDIE_HIGH = Formula("tweedie_high", parameters=("p", "p_low"), domains=(POSITIVE, POSITIVE), ns=5.0)
HINGE = Formula("hinge", ns=0.1)
SQUARED_HINGE = Formula("squared_hinge", ns=0.1)
SOFT_MARGIN = Formula("soft_margin", odds=True, ns=0.5)
HINGE_EMBEDDING = Formula("hinge_embedding", parameters=("margin",), ns=0.1)
MARGIN_RANKING = Formula("margin_ranking", operands=3, parameters=("margin",), ns=0.1)
BCE = Formula("bce", domains=(PROBABILITY, PROBABILITY), ns=0.6)
BCE_LOGITS = Formula("bce_logits", odds=True, ns=0.5)
BCE_LOGITS_POSITIVE = Formula("bce_logits_positive", operands=3, ns=0.8)
POISSON_LOG = Formula("poisson_log", ns=0.3)
POISSON_LOG_FULL = Formula("poisson_log_full", ns=0.6)
POISSON = Formula("poisson", parameters=("eps",), ns=0.4)
POISSON_FULL = Formula("poisson_full", parameters=("eps",), ns=0.6)
GAUSSIAN = Formula("gaussian", operands=3, parameters=("constant", "eps"), domains=(None, None, NOT_NEGATIVE), ns=0.5)
KL_DIV = Formula("kl_div", ns=0.4)
KL_DIV_LOG = Formula("kl_div_log", ns=0.4)
CATEGORICAL = Formula("categorical", domains=(PROBABILITY,), ns=0.3)
# not losses but transforms of logits, see `calls.transforms`
TEMPERED = Formula("tempered", parameters=("temperature",), ns=0.2)
CAPPED = Formula("capped", parameters=("softcap", "temperature"), ns=1.2)

POINTWISE = (
    MSE,
    MSE_SCALED,
    L1,
    HUBER,
    SMOOTH_L1,
    LOG_COSH,
    QUANTILE,
    MSLE,
    CHARBONNIER,
    MAPE,
    SMAPE,
    SIGMOID_FOCAL,
    SIGMOID_FOCAL_SQUARED,
    GENERALIZED_KL,
    POISSON_DEVIANCE,
    GAMMA_DEVIANCE,
    TWEEDIE_LOW,
    TWEEDIE_HIGH,
    HINGE,
    SQUARED_HINGE,
    SOFT_MARGIN,
    HINGE_EMBEDDING,
    MARGIN_RANKING,
    BCE,
    BCE_LOGITS,
    BCE_LOGITS_POSITIVE,
    POISSON_LOG,
    POISSON_LOG_FULL,
    POISSON,
    POISSON_FULL,
    GAUSSIAN,
    KL_DIV,
    KL_DIV_LOG,
    CATEGORICAL,
    TEMPERED,
    CAPPED,
)


def _of_rows(name: str, *parameters: str, ns: float = 1.0, **more: Any) -> RowFormula:
    """The RowFormula whose functions are named like its value."""
    value, factor, at_target = (
        Formula(own, parameters=parameters, ns=ns, functions=(own, own))
        for own in (name, f"{name}_factor", f"{name}_at_target")
    )
    return RowFormula(value, factor, at_target, **{"with_lse": False} | more)


FOCAL = _of_rows("focal", "gamma", ns=5.0, amplified=lambda gamma: 1.0 + gamma)
FOCAL_SQUARED = _of_rows("focal_squared", amplified=lambda: 3.0)
POLY = _of_rows("poly", "epsilon")
WITH_Z = _of_rows("with_z", "z", with_lse=True)

OF_ROWS = (
    FOCAL,
    FOCAL_SQUARED,
    POLY,
    WITH_Z,
)
# all that is compiled ahead of time
COMPILED = (*POINTWISE, *(part for row in OF_ROWS for part in (row.value, row.factor, row.at_target)))

Values = dict[str, Any]  # of options, by name

# --- what calls may say beyond their arrays ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A keyword argument of a function that is not an array.

    Attributes
    ----------
    name, default : as in the function's signature.
    kind : "axis" (one axis), "axes" (as in ``numpy.mean``), "reduction", "choice" (one of some names), "number",
        "integer" or "flag".
    allows : function that says whether a number is in the option's domain.
    expected : that domain in words, for messages.
    choices : the values of a reduction or choice.
    optional : whether None is allowed.
    """

    name: str
    default: Any
    kind: str
    allows: Callable[[float], bool] | None = None
    expected: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False


AXIS = Option("axis", -1, "axis")
AXES = Option("axis", None, "axes")
REDUCTION = Option("reduction", "mean", "reduction", choices=("none", "mean", "sum"))
IGNORE_INDEX = Option("ignore_index", -100, "integer")
LABEL_SMOOTHING = Option("label_smoothing", 0.0, "number", lambda v: 0.0 <= v <= 1.0, "a number in [0, 1]")


def _positive_finite(v: float) -> bool:
    return 0.0 < v < math.inf


TEMPERATURE = Option("temperature", 1.0, "number", _positive_finite, "a positive, finite number")
SOFTCAP = Option("softcap", None, "number", _positive_finite, "a positive, finite number or None", optional=True)
TRANSFORMS = (TEMPERATURE, SOFTCAP)


def _positive(name: str, default: float) -> Option:
    return Option(name, default, "number", lambda v: v > 0.0, "a positive number")


def _count(name: str) -> Option:
    return Option(name, None, "integer", lambda v: v >= 1, "an integer of at least 1", optional=True)


def _not_negative(name: str, default: float) -> Option:
    return Option(name, default, "number", lambda v: v >= 0.0, "a number of at least 0")


def _finite(name: str, default: float) -> Option:
    return Option(name, default, "number", math.isfinite, "a finite number")


def _finite_not_negative(name: str, default: float) -> Option:
    return Option(name, default, "number", lambda v: 0.0 <= v < math.inf, "a finite number of at least 0")


GAMMA = _finite_not_negative("gamma", 2.0)
Z_LOSS = _finite_not_negative("z_loss", 0.0)


# --- public functions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Function:
    """A public function: its name, arrays and options.

    Attributes
    ----------
    name : of the function.
    family : "elements" (pointwise losses), "rows" (losses of rows of classes), "layer" (losses of a linear layer's
        outputs), "normalised" (log-softmax, softmax, logsumexp), "scores", "comparison" or "forecasts" (how good
        probabilities are).  `resolve` has one function for each family, and so has each place.
    arrays : names of the positional arguments.
    more_arrays : names of the arrays that are keywords.
    options : the other keywords, in the order in which the function passes them to `evaluate`.
    optional : names of the positional arguments that may be omitted.
    """

    name: str
    family: str
    arrays: tuple[str, ...]
    more_arrays: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    optional: tuple[str, ...] = ()

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of all arrays, in the order in which the function passes them to `evaluate`."""
        return (*self.arrays, *self.more_arrays)

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names of all keywords except `out`."""
        return (*self.more_arrays, *(option.name for option in self.options))

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)


@dataclass(frozen=True, eq=False)
class Loss(Function):
    """A public loss.

    Attributes
    ----------
    formula : for pointwise losses: function of the options' values, by name, and of whether there is a third operand,
        that returns the Formula and its parameters; for losses of rows of logits likewise, returning a RowFormula, or
        None for cross-entropy itself, which has kernels of its own.
    differentiable : names of the arrays with respect to which there are gradients.
    weighted_mean : whether means divide by the summed weights rather than by the number of elements.
    same_shape : whether the target must have the shape of the predictions, rather than broadcast with it.
    third_of_rows : whether a third operand whose shape lacks the predictions' last axis is broadcast along that axis.
    root : whether the result is the square root of the mean or sum.
    op : for losses of rows: "softmax" if the predictions are logits, "gather" if they are (log-)probabilities, "known"
        if they are logits and the loss is always a RowFormula, of class indices.
    take_log : for "gather": whether the predictions are probabilities.
    kind : "classes", "binary" or "regression", for the command line and scorers.
    errors : whether the command line shows the mean squared and absolute errors of the same arrays with it.
    """

    formula: Callable[[Values, bool], tuple[Formula | RowFormula, tuple[float, ...]] | None] | None = None
    differentiable: tuple[str, ...] = ()
    weighted_mean: bool = True
    same_shape: bool = False
    third_of_rows: bool = False
    root: bool = False
    op: str = ""
    take_log: bool = False
    kind: str = "regression"
    errors: bool = False

    def __post_init__(self) -> None:
        if not self.differentiable:
            object.__setattr__(self, "differentiable", self.arrays[:1])

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of all arrays; for pointwise losses always prediction, target, third operand ("" if there is none) and
        weight."""
        if self.family != "elements":
            return super().operands
        third = (*self.arrays[2:], *self.more_arrays[:-1]) or ("",)
        return (*self.arrays[:2], *third, "weight")

    @property
    def rowwise(self) -> bool:
        """Whether it is a loss of rows of classes."""
        return self.family != "elements"

    @property
    def only_indices(self) -> bool:
        """Whether it is a loss of rows whose targets can't be class probabilities."""
        return self.op == "known" or self.op == "gather" and not self.take_log


def _always(formula: Any, *parameters: Any) -> Any:
    """A `Loss.formula` that returns the same formula for every call; its parameters are the options with these
    names."""

    def chosen(values: Values, third: bool) -> Any:
        return formula, tuple(values[name] for name in parameters)

    return chosen


def _regression(
    name: str,
    formula: Any,
    *own: Any,
    errors: Any = True,
    arrays: Any = ("pred", "target"),
    reduction: Any = REDUCTION,
    **more: Any,
) -> Any:
    options = (AXES, reduction, *own)
    return Loss(name, "elements", arrays, ("weight",), options, formula=formula, errors=errors, **more)


MSE_LOSS = _regression("mse_loss", _always(MSE))
RMSE_LOSS = _regression(
    "rmse_loss", _always(MSE), reduction=Option("reduction", "mean", "reduction", choices=("mean", "sum")), root=True
)
L1_LOSS = _regression("l1_loss", _always(L1))
HUBER_LOSS = _regression("huber_loss", _always(HUBER, "delta"), _positive("delta", 1.0))
SMOOTH_L1_LOSS = _regression(
    "smooth_l1_loss",
    lambda values, third: (HUBER if values["beta"] == 1.0 else SMOOTH_L1, (values["beta"],)),  # without a division
    _not_negative("beta", 1.0),
)
LOG_COSH_LOSS = _regression("log_cosh_loss", _always(LOG_COSH))
MSLE_LOSS = _regression("msle_loss", _always(MSLE))
QUANTILE_LOSS = _regression(
    "quantile_loss",
    lambda values, third: (QUANTILE, (values["q"], 1.0 - values["q"])),
    Option("q", 0.5, "number", lambda v: 0.0 <= v <= 1.0, "a number in [0, 1]"),
)
CHARBONNIER_LOSS = _regression("charbonnier_loss", _always(CHARBONNIER, "eps"), _positive("eps", 1e-3))
MAPE_LOSS = _regression("mape_loss", _always(MAPE, "eps"), _positive("eps", 2.0**-52))
SMAPE_LOSS = _regression("smape_loss", _always(SMAPE, "eps"), _positive("eps", 2.0**-52))


def _margin(name: str, formula: Any, *own: Any, arrays: Any = ("scores", "target")) -> Any:
    return _regression(name, _always(formula, *(option.name for option in own)), *own, errors=False, arrays=arrays)


HINGE_LOSS = _margin("hinge_loss", HINGE)
SQUARED_HINGE_LOSS = _margin("squared_hinge_loss", SQUARED_HINGE)
SOFT_MARGIN_LOSS = _margin("soft_margin_loss", SOFT_MARGIN)
HINGE_EMBEDDING_LOSS = _margin(
    "hinge_embedding_loss", HINGE_EMBEDDING, _finite("margin", 1.0), arrays=("distance", "target")
)
MARGIN_RANKING_LOSS = _margin(
    "margin_ranking_loss", MARGIN_RANKING, _finite("margin", 0.0), arrays=("input1", "input2", "target")
)


def _poisson(values: Values, third: bool) -> Any:
    if values["log_input"]:
        return (POISSON_LOG_FULL if values["full"] else POISSON_LOG), ()
    return (POISSON_FULL if values["full"] else POISSON), (values["eps"],)


POISSON_NLL_LOSS = _regression(
    "poisson_nll_loss",
    _poisson,
    Option("log_input", True, "flag"),
    Option("full", False, "flag"),
    _not_negative("eps", 1e-8),
    errors=False,
)
GAUSSIAN_NLL_LOSS = _regression(
    "gaussian_nll_loss",
    lambda values, third: (GAUSSIAN, (0.5 * math.log(2.0 * math.pi) if values["full"] else 0.0, values["eps"])),
    Option("full", False, "flag"),
    _positive("eps", 1e-6),
    errors=False,
    arrays=("pred", "target", "var"),
    third_of_rows=True,
)
GENERALIZED_KL_DIV = _regression("generalized_kl_div", _always(GENERALIZED_KL))
POISSON_DEVIANCE_LOSS = _regression("poisson_deviance_loss", _always(POISSON_DEVIANCE))
GAMMA_DEVIANCE_LOSS = _regression("gamma_deviance_loss", _always(GAMMA_DEVIANCE))


def _tweedie(values: Values, third: bool) -> Any:
    power = values["power"]
    if power in _DEVIANCES:
        return _DEVIANCES[power], ()
    formula = TWEEDIE_LOW if power < 1.5 else TWEEDIE_HIGH
    if 0.0 < power < 2.0:
        formula = replace(formula, domains=(POSITIVE, NOT_NEGATIVE))
    fraction, exponent = math.frexp(power)
    high = math.ldexp(round(math.ldexp(fraction, 24)), exponent - 24)  # the part that float32 can hold, and the rest
    return formula, (high, power - high)


_DEVIANCES = {0.0: MSE, 1.0: POISSON_DEVIANCE, 2.0: GAMMA_DEVIANCE}

TWEEDIE_DEVIANCE_LOSS = _regression(
    "tweedie_deviance_loss",
    _tweedie,
    Option(
        "power",
        0.0,
        "number",
        lambda v: math.isfinite(v) and (v <= 0.0 or v >= 1.0),
        "a finite number that is not between 0 and 1",
    ),
)
KL_DIV_LOSS = _regression(
    "kl_div",
    lambda values, third: (KL_DIV_LOG if values["log_target"] else KL_DIV, ()),
    Option("log_target", False, "flag"),
    errors=False,
    arrays=("log_probs", "target"),
    reduction=Option("reduction", "mean", "reduction", choices=("none", "mean", "sum", "batchmean")),
)

BINARY_CROSS_ENTROPY = Loss(
    "binary_cross_entropy",
    "elements",
    ("probs", "target"),
    ("weight",),
    (REDUCTION,),
    formula=_always(BCE),
    weighted_mean=False,
    same_shape=True,
    kind="binary",
)
BINARY_CROSS_ENTROPY_WITH_LOGITS = Loss(
    "binary_cross_entropy_with_logits",
    "elements",
    ("logits", "target"),
    ("pos_weight", "weight"),
    (REDUCTION,),
    formula=lambda values, third: (BCE_LOGITS_POSITIVE if third else BCE_LOGITS, ()),
    weighted_mean=False,
    same_shape=True,
    kind="binary",
)


def _focal(values: Values, third: bool) -> Any:
    alpha, gamma = values["alpha"], values["gamma"]
    shares = (alpha, 1.0 - alpha) if alpha >= 0.0 else (1.0, 1.0)
    return (SIGMOID_FOCAL_SQUARED, shares) if gamma == 2.0 else (SIGMOID_FOCAL, (gamma, *shares))


SIGMOID_FOCAL_LOSS = Loss(
    "sigmoid_focal_loss",
    "elements",
    ("logits", "target"),
    ("weight",),
    (
        Option("alpha", 0.25, "number", lambda v: v <= 1.0, "a number of at most 1; none if negative"),
        GAMMA,
        REDUCTION,
    ),
    formula=_focal,
    weighted_mean=False,
    same_shape=True,
    kind="binary",
)

_INDEXED = (AXIS, REDUCTION, IGNORE_INDEX)
CROSS_ENTROPY = Loss(
    "cross_entropy",
    "rows",
    ("logits", "target"),
    ("weight",),
    (*_INDEXED, LABEL_SMOOTHING, *TRANSFORMS, Z_LOSS),
    formula=lambda values, third: (WITH_Z, (values["z_loss"],)) if values["z_loss"] else None,
    op="softmax",
    kind="classes",
)


def _classes(name: str, formula: Any, own: Option) -> Loss:
    options = (*_INDEXED, own)
    return Loss(name, "rows", ("logits", "target"), ("weight",), options, formula=formula, op="known", kind="classes")


FOCAL_LOSS = _classes(
    "focal_loss",
    lambda values, third: (FOCAL_SQUARED, ()) if values["gamma"] == 2.0 else (FOCAL, (values["gamma"],)),
    GAMMA,
)
POLY_LOSS_CROSS_ENTROPY = _classes("poly_loss_cross_entropy", _always(POLY, "epsilon"), _finite("epsilon", 2.0))
NLL_LOSS = Loss("nll_loss", "rows", ("log_probs", "target"), ("weight",), _INDEXED, op="gather", kind="classes")
CATEGORICAL_CROSS_ENTROPY = Loss(
    "categorical_cross_entropy",
    "rows",
    ("probs", "target"),
    ("weight",),
    _INDEXED,
    op="gather",
    take_log=True,
    kind="classes",
)
LINEAR_CROSS_ENTROPY = Loss(
    "linear_cross_entropy",
    "layer",
    ("hidden", "linear_weight", "target"),
    ("linear_bias", "weight"),
    (REDUCTION, IGNORE_INDEX, LABEL_SMOOTHING, *TRANSFORMS),
    differentiable=("hidden", "linear_weight", "linear_bias"),
    kind="classes",
)

LOSSES = (
    CROSS_ENTROPY,
    FOCAL_LOSS,
    POLY_LOSS_CROSS_ENTROPY,
    NLL_LOSS,
    CATEGORICAL_CROSS_ENTROPY,
    LINEAR_CROSS_ENTROPY,
    BINARY_CROSS_ENTROPY,
    BINARY_CROSS_ENTROPY_WITH_LOGITS,
    SIGMOID_FOCAL_LOSS,
    MSE_LOSS,
    RMSE_LOSS,
    L1_LOSS,
    HUBER_LOSS,
    SMOOTH_L1_LOSS,
    LOG_COSH_LOSS,
    MSLE_LOSS,
    QUANTILE_LOSS,
    CHARBONNIER_LOSS,
    MAPE_LOSS,
    SMAPE_LOSS,
    HINGE_LOSS,
    SQUARED_HINGE_LOSS,
    SOFT_MARGIN_LOSS,
    HINGE_EMBEDDING_LOSS,
    MARGIN_RANKING_LOSS,
    POISSON_NLL_LOSS,
    GAUSSIAN_NLL_LOSS,
    POISSON_DEVIANCE_LOSS,
    GAMMA_DEVIANCE_LOSS,
    TWEEDIE_DEVIANCE_LOSS,
    KL_DIV_LOSS,
    GENERALIZED_KL_DIV,
)

# --- functions that are not losses ------------------------------------------------------------------------------------

LOG_SOFTMAX = Function("log_softmax", "normalised", ("x",), options=(AXIS, *TRANSFORMS))
SOFTMAX = Function("softmax", "normalised", ("x",), options=(AXIS, *TRANSFORMS))
LOGSUMEXP = Function("logsumexp", "normalised", ("x",), options=(AXIS, Option("keepdims", False, "flag"), *TRANSFORMS))
SCORE = Function(
    "score",
    "scores",
    ("logits", "target"),
    ("linear_weight", "linear_bias", "ids"),
    (AXIS, IGNORE_INDEX, _count("top_k"), _count("top"), Option("entropy", False, "flag"), *TRANSFORMS),
    optional=("target",),
)
COMPARE = Function(
    "compare",
    "comparison",
    ("reference", "logits", "target"),
    ("linear_weight", "linear_bias", "reference_linear_weight", "reference_linear_bias"),
    (AXIS, IGNORE_INDEX, *TRANSFORMS),
    optional=("target",),
)

_BINS = (
    Option("bins", 15, "integer", lambda v: 1 <= v <= 1 << 16, "an integer in [1, 65536]"),
    Option("norm", "l1", "choice", choices=("l1", "l2", "max")),
)
BRIER_SCORE = Function("brier_score", "forecasts", ("probs", "target"), options=(AXIS, IGNORE_INDEX))
CALIBRATION_ERROR = Function(
    "calibration_error", "forecasts", ("probs", "target"), options=(AXIS, IGNORE_INDEX, *_BINS)
)

FUNCTIONS = (*LOSSES, LOG_SOFTMAX, SOFTMAX, LOGSUMEXP, SCORE, COMPARE, BRIER_SCORE, CALIBRATION_ERROR)

# The same scores from logits; only an Accumulator calls them.
BRIER = Function("brier", "forecasts", ("logits", "target"), options=BRIER_SCORE.options)
CALIBRATION = Function("calibration", "forecasts", ("logits", "target"), options=CALIBRATION_ERROR.options)


def _named(name: str) -> Any:
    """Find a function's row by its name; rows are pickled as their names."""
    return next(function for function in (*FUNCTIONS, BRIER, CALIBRATION) if function.name == name)
