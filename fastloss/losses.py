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
    """

    name: str
    operands: int = 2
    parameters: tuple[str, ...] = ()
    domains: tuple[tuple[float, float] | None, ...] = ()

    @property
    def value(self) -> str:
        return self.name

    @property
    def slope(self) -> str:
        return f"{self.name}_slope"


PROBABILITY = (0.0, 1.0)

MSE = Loss("mse")
L1 = Loss("l1")
HUBER = Loss("huber", parameters=("delta",))
SMOOTH_L1 = Loss("smooth_l1", parameters=("beta",))
LOG_COSH = Loss("log_cosh")
QUANTILE = Loss("quantile", parameters=("low", "high"))
MSLE = Loss("msle")
BCE = Loss("bce", domains=(PROBABILITY, PROBABILITY))
BCE_LOGITS = Loss("bce_logits")
BCE_LOGITS_POSITIVE = Loss("bce_logits_positive", operands=3)
POISSON_LOG = Loss("poisson_log", parameters=("full",))
POISSON = Loss("poisson", parameters=("full", "eps"))
GAUSSIAN = Loss("gaussian", operands=3, parameters=("constant", "eps"), domains=(None, None, (0.0, float("inf"))))
KL_DIV = Loss("kl_div")
KL_DIV_LOG = Loss("kl_div_log")
CATEGORICAL = Loss("categorical", domains=(PROBABILITY,))

POINTWISE = (
    MSE,
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
    POISSON,
    GAUSSIAN,
    KL_DIV,
    KL_DIV_LOG,
    CATEGORICAL,
)
