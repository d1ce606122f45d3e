"""The public names that need NumPy, from where they are defined."""

from fastloss import functional
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss.accumulate import Accumulator
from fastloss.functional import *  # noqa: F403  (the functions of the table, see its __all__)
from fastloss.grad import value_and_grad
from fastloss.own import pointwise_loss, row_loss

__all__ = ["Accumulator", "Comparison", "Scores", "pointwise_loss", "row_loss", "value_and_grad", *functional.__all__]
