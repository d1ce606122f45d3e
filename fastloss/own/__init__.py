"""Losses of one's own: functions in the dialect of `scalars.py` that users write, with all that the package's losses have.

`_source` finds the text of a function, `_slope` derives its slope, `_definition` is what is left of both, and makes the row by which everything
else knows the loss.
"""

from fastloss.own._loss import OwnLoss
from fastloss.own._pointwise import pointwise_loss
from fastloss.own._rows import row_loss

__all__ = ["OwnLoss", "pointwise_loss", "row_loss"]
