"""User-defined losses: functions in the dialect of `scalars.py`, with everything that the package's own losses have.

`_source` finds the text of a function, and `_slope` derives its slope.  `_definition` holds the result of both, and
makes the row by which everything else knows the loss.
"""

from fastloss.own._loss import OwnLoss
from fastloss.own._pointwise import pointwise_loss
from fastloss.own._rows import row_loss

__all__ = ["OwnLoss", "pointwise_loss", "row_loss"]
