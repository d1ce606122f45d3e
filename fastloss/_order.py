"""The order of a row's classes, as in numpy.argmax: NaN first, then larger logits before smaller ones, ties by lower
class."""

from __future__ import annotations

from typing import Any

import numpy as np


def n_before(x: Any, classes: Any, own: Any, labels: Any) -> Any:
    """How many of these logits come before the row's target.

    x, classes : logits (n_rows, n), and the classes they belong to (n,).
    own, labels : the target's logit and class in each row, (n_rows,).
    """
    own, labels = own[:, None], labels[:, None]
    missing, own_missing = np.isnan(x), np.isnan(own)
    equal = (x == own) | missing & own_missing
    return np.count_nonzero((x > own) | missing & ~own_missing | equal & (classes < labels), axis=1)
