"""What `score` returns: what an evaluation wants to know about each row."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastloss._types import RealArray

# The default of what is there for every row, as a field without one could not follow those that may be absent.
_GIVEN = cast(Any, None)


class Scores(NamedTuple):
    """What `score` returns: arrays of the shape of the logits without their class axis.

    Attributes
    ----------
    nll : ndarray of float32 or float64, or None
        ``-log_softmax(logits)[target]``; 0 where the target is ignored.
    lse : ndarray of float32 or float64
        ``logsumexp(logits)``.
    argmax : ndarray of int64
        The class of the largest logit, the first among ties; that of the first NaN if there is one, as in
        ``numpy.argmax``.
    correct : ndarray of bool, or None
        Whether `argmax` is the target; False where the target is ignored.
    rank : ndarray of int64, or None
        How many classes come before the target: those with larger logits, and those with equal logits and a lower
        index.  0 if and only if `correct`; -1 where the target is ignored.
    in_top_k : ndarray of bool, or None
        Whether the target is among the k most likely classes; False where it is ignored.
    top_ids : ndarray of int64 with an axis of length K at the end, or None
        The K most likely classes, in descending order; among ties the lower class comes first.
    top_log_probs : ndarray of float32 or float64 of that shape, or None
        Their log-probabilities.
    id_log_probs : ndarray of float32 or float64 of the shape of `ids`, or None
        The log-probabilities of the classes in `ids`; NaN where an id is `ignore_index`.
    entropy : ndarray of float32 or float64, or None
        ``-sum(p * log(p))`` of the row's probabilities, in nats.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = fastloss.score(np.array([[1.0, 3.0, 2.0]]), [2], top_k=2)
    >>> type(scores) is fastloss.Scores, scores.rank, scores.in_top_k
    (True, array([1]), array([ True]))
    """

    nll: RealArray | None = None
    lse: RealArray = _GIVEN
    argmax: NDArray[np.int64] = _GIVEN
    correct: NDArray[np.bool_] | None = None
    rank: NDArray[np.int64] | None = None
    in_top_k: NDArray[np.bool_] | None = None
    top_ids: NDArray[np.int64] | None = None
    top_log_probs: RealArray | None = None
    id_log_probs: RealArray | None = None
    entropy: RealArray | None = None


def kinds(real: Any, top_k: Any) -> list[Any]:
    """The dtypes of the fields that kernels write."""
    return [real, real, np.int64, np.bool_, *([np.int64, np.bool_] if top_k else [])]


def is_in_top_k(rank: Any, top_k: int) -> NDArray[np.bool_]:
    """Whether the target is among the k most likely classes; False where it is ignored."""
    return np.asarray((rank >= 0) & (rank < top_k))
