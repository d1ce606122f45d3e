"""What the command line knows of each loss: its family, the options it takes, the figures shown beside it."""

from __future__ import annotations

from dataclasses import dataclass

from fastloss import losses
from fastloss.cli.failure import Failure
from fastloss.losses import Loss


@dataclass(frozen=True)
class LossInfo:
    """How `fastloss eval` treats one loss.

    Parameters
    ----------
    name : str
        The function's name in `fastloss`.
    family : {"classes", "binary", "regression"}
        Softmax family (one loss per row of class scores), binary losses, and all others element by element.
    likelihood : bool
        It is -log of the target's probability, so that exp of its mean is the perplexity.
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
    likelihood: bool = False
    probabilities: bool = False
    ignores: bool = False
    smooths: bool = False
    errors: bool = False
    threshold: float = 0.0


def _info(loss: Loss) -> LossInfo:
    """What the loss's row in the library's table says."""
    options = {option.name for option in loss.options}
    probabilities = loss.arrays[0] == "probs"
    return LossInfo(
        loss.name,
        loss.kind,
        likelihood=loss.kind == "classes" and loss.op != "known",
        probabilities=probabilities,
        ignores="ignore_index" in options,
        smooths="label_smoothing" in options,
        errors=loss.errors,
        threshold=0.5 if probabilities and loss.kind == "binary" else 0.0,
    )


# Losses of predictions and targets alone.
_TABLE = tuple(_info(loss) for loss in losses.LOSSES if len(loss.arrays) == 2)

LOSSES = {info.name: info for info in _TABLE}


def find_loss(name: str) -> LossInfo:
    """The loss called `name`; a Failure that suggests the nearest name otherwise."""
    if name in LOSSES:
        return LOSSES[name]
    for loss in losses.LOSSES:
        if loss.name == name:
            arrays = ", ".join(loss.arrays)
            raise Failure("--loss", f"{name} takes {arrays}, where this command reads predictions and targets alone")
    import difflib

    near = [f"{name}_loss"] if f"{name}_loss" in LOSSES else difflib.get_close_matches(name, LOSSES, n=1)
    hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(LOSSES)
    raise Failure("--loss", f"unknown loss {name!r}; {hint}")
