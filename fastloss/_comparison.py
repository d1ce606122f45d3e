"""What `compare` returns: how two models differ on each row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastloss._types import RealArray


class Comparison(NamedTuple):
    """What `compare` returns: arrays of the shape of the logits without their class axis.

    Attributes
    ----------
    kl : ndarray of float32 or float64
        Kullback-Leibler divergence of the logits' distribution from the reference's, ``sum(p * (log(p) - log(q)))``, in
        nats.
    same_argmax : ndarray of bool
        Whether both have their largest logit at the same class, the first of equals; NaN counts as the largest, as in
        ``numpy.argmax``.
    nll : ndarray of float32 or float64, or None
        ``-log_softmax(logits)[target]``; 0 where the target is ignored.
    reference_nll : ndarray of float32 or float64, or None
        ``-log_softmax(reference)[target]``; 0 where the target is ignored.
    delta_p : ndarray of float32 or float64, or None
        ``softmax(logits)[target] - softmax(reference)[target]``; 0 where the target is ignored.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> comparison = fastloss.compare(np.array([[0.0, 2.0]]), np.array([[0.0, 2.0]]))
    >>> type(comparison) is fastloss.Comparison, comparison.kl, comparison.same_argmax, comparison.nll
    (True, array([0.]), array([ True]), None)
    """

    kl: RealArray
    same_argmax: NDArray[np.bool_]
    nll: RealArray | None = None
    reference_nll: RealArray | None = None
    delta_p: RealArray | None = None


def kinds(real: Any, has_target: bool) -> list[Any]:
    """The dtypes of the fields."""
    return [real, np.bool_, *([real] * 3 if has_target else [])]
