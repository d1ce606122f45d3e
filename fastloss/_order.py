"""The order in which the classes of a row come: NaN first, then the largest logit, of equals the lower class, as in numpy.argmax."""

import numpy as np


def n_before(x, classes, own, labels):
    """How many of these logits come before the row's own.

    x, classes : logits (n_rows, n), and which classes these are (n,).
    own, labels : each row's own logit and class, (n_rows,).
    """
    own, labels = own[:, None], labels[:, None]
    missing, own_missing = np.isnan(x), np.isnan(own)
    equal = (x == own) | missing & own_missing
    return np.count_nonzero((x > own) | missing & ~own_missing | equal & (classes < labels), axis=1)
