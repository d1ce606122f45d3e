"""The table of losses: what the backends and the public functions share about each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """A pointwise loss: names of its scalars, and what may be fed to them.

    Attributes
    ----------
    name : name in kernels and caches.
    operands : 2, or 3 where a third array goes with prediction and target.
    parameters : names of the scalar parameters, in the order of the formula's arguments.
    domains : values that prediction, target and third operand may take, as (low, high) or None each; NaN is let through.
        Outside of it the value is NaN, so that only a result of NaN needs looking into.
    odds : whether the value is {name}_linear + log1p({name}_odds), with odds in [0, 1]: a sum over elements may then take one
        logarithm of several odds, as log1p(a) + log1p(b) = log1p(a + b + a b).
    light : whether reading an element takes longer than computing it.
    """

    name: str
    operands: int = 2
    parameters: tuple[str, ...] = ()
    domains: tuple[tuple[float, float] | None, ...] = ()
    odds: bool = False
    light: bool = False

    @property
    def value(self) -> str:
        return self.name

    @property
    def slope(self) -> str:
        return f"{self.name}_slope"


PROBABILITY = (0.0, 1.0)

MSE = Loss("mse", light=True)
MSE_SCALED = Loss(
    "mse_scaled", parameters=("scale",), light=True
)  # for a root of the mean, where squares leave the range
L1 = Loss("l1", light=True)
HUBER = Loss("huber", parameters=("delta",), light=True)
SMOOTH_L1 = Loss("smooth_l1", parameters=("beta",), light=True)
LOG_COSH = Loss("log_cosh")
QUANTILE = Loss("quantile", parameters=("low", "high"), light=True)
MSLE = Loss("msle")
BCE = Loss("bce", domains=(PROBABILITY, PROBABILITY))
BCE_LOGITS = Loss("bce_logits", odds=True)
BCE_LOGITS_POSITIVE = Loss("bce_logits_positive", operands=3)
POISSON_LOG = Loss("poisson_log")
POISSON_LOG_FULL = Loss("poisson_log_full")
POISSON = Loss("poisson", parameters=("eps",))
POISSON_FULL = Loss("poisson_full", parameters=("eps",))
GAUSSIAN = Loss("gaussian", operands=3, parameters=("constant", "eps"), domains=(None, None, (0.0, float("inf"))))
KL_DIV = Loss("kl_div")
KL_DIV_LOG = Loss("kl_div_log")
CATEGORICAL = Loss("categorical", domains=(PROBABILITY,))

POINTWISE = (
    MSE,
    MSE_SCALED,
    L1,
    HUBER,
    SMOOTH_L1,
    LOG_COSH,
    QUANTILE,
    MSLE,
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
)
