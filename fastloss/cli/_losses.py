"""What the command line knows of each loss: its family, the options it takes, the figures shown beside it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ._failure import Failure


@dataclass(frozen=True)
class LossInfo:
    """How `fastloss eval` treats one loss.

    Parameters
    ----------
    name : str
        The function's name in `fastloss`.
    family : {"classes", "binary", "regression"}
        Softmax family (one loss per row of class scores), binary losses, and all others element by element.
    probabilities : bool
        Predictions are probabilities: they must lie in [0, 1].
    ignores : bool
        `--ignore-index` means something.
    smooths : bool
        `--label-smoothing` means something.
    errors : bool
        MSE, RMSE and MAE of the same arrays make sense.
    threshold : float
        Binary losses: predictions above it say 1.
    """

    name: str
    family: str
    probabilities: bool = False
    ignores: bool = False
    smooths: bool = False
    errors: bool = False
    threshold: float = 0.0


_TABLE = (
    LossInfo("cross_entropy", "classes", ignores=True, smooths=True),
    LossInfo("nll_loss", "classes", ignores=True),
    LossInfo("categorical_cross_entropy", "classes", probabilities=True, ignores=True),
    LossInfo("binary_cross_entropy", "binary", probabilities=True, threshold=0.5),
    LossInfo("binary_cross_entropy_with_logits", "binary"),
    LossInfo("mse_loss", "regression", errors=True),
    LossInfo("rmse_loss", "regression", errors=True),
    LossInfo("l1_loss", "regression", errors=True),
    LossInfo("huber_loss", "regression", errors=True),
    LossInfo("smooth_l1_loss", "regression", errors=True),
    LossInfo("log_cosh_loss", "regression", errors=True),
    LossInfo("msle_loss", "regression", errors=True),
    LossInfo("quantile_loss", "regression", errors=True),
    LossInfo("poisson_nll_loss", "regression"),
    LossInfo("kl_div", "regression"),
)

LOSSES = {info.name: info for info in _TABLE}


def find_loss(name: str) -> LossInfo:
    """The loss called `name`; a Failure that suggests the nearest name otherwise."""
    if name in LOSSES:
        return LOSSES[name]
    if name == "gaussian_nll_loss":
        raise Failure("--loss", "gaussian_nll_loss needs variances, which this command does not read")
    near = [f"{name}_loss"] if f"{name}_loss" in LOSSES else difflib.get_close_matches(name, LOSSES, n=1)
    hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(LOSSES)
    raise Failure("--loss", f"unknown loss {name!r}; {hint}")
