"""Scoring rows: what an evaluation wants to know of each, from one pass over the logits."""

from typing import NamedTuple

import numpy as np

from fastloss import _arrays, _classes, _errors, _places, _plan
from fastloss._arrays import bits
from fastloss._pointwise import Checks


class Scores(NamedTuple):
    """What `score` returns: arrays of the shape of the logits without their class axis.

    Attributes
    ----------
    nll : ndarray of float32 or float64
        ``-log_softmax(logits)[target]``; 0 where the target is ignored.
    lse : ndarray of float32 or float64
        ``logsumexp(logits)``.
    argmax : ndarray of int64
        The class of the largest logit, the first of equals; of NaN if there is one, as in ``numpy.argmax``.
    correct : ndarray of bool
        Whether that is the target; False where the target is ignored.
    rank : ndarray of int64, or None
        How many classes come before the target: those of larger logits, and those of equal logits and lower index.  0 if and
        only if `correct`; -1 where the target is ignored.
    in_top_k : ndarray of bool, or None
        Whether the target is among the k first classes; False where it is ignored.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = fastloss.score(np.array([[1.0, 3.0, 2.0]]), [2], top_k=2)
    >>> type(scores) is fastloss.Scores, scores.rank, scores.in_top_k
    (True, array([1]), array([ True]))
    """

    nll: np.ndarray
    lse: np.ndarray
    argmax: np.ndarray
    correct: np.ndarray
    rank: np.ndarray | None = None
    in_top_k: np.ndarray | None = None


def evaluate(logits, target, axis, ignore_index, top_k, out=None):
    """`score`: arguments to views, views to the kernel.  `out` may be `Checks`."""
    if place := _places.elsewhere(logits, target):
        return place.score(logits, target, axis, ignore_index, top_k)
    x, axis = _classes.logits_and_axis(logits, "logits", axis)
    layout = _classes.Layout(x, axis)
    y = labels(target, layout.rows_shape, "logits without the class axis")
    ignore_index, top_k = _classes.wide_index(ignore_index), checked_top_k(top_k)
    if layout.n_classes == 0 and layout.n_rows:
        raise _errors.no_classes("logits", x.shape)

    real = _arrays.real_type(x)
    if isinstance(out, Checks):
        return out.take(real, x.shape, axis=axis, ignore_index=ignore_index, top_k=top_k)
    scores = empty(layout.rows_shape, real, top_k)
    if layout.n_rows:
        kernel = _plan.backend().kernel(None, layout.op("score"), real)
        block, n_blocks = layout.blocks()
        partials = np.empty((n_blocks, 4))
        inputs = (layout.per_class(bits(x)), layout.per_row(y), ignore_index)
        outputs = [None if result is None else layout.per_row(result) for result in scores[:5]]
        _plan.run(lambda first, last: kernel(*inputs, block, first, last, partials, *outputs), n_blocks, x.size)
        if partials[:, 3].min() != np.inf:
            _classes.raise_bad_label(y, layout.n_classes, ignore_index)
    return with_top_k(scores, top_k)


def labels(target, rows_shape, whose):
    """Class indices of that shape, which is that of `whose`."""
    y = _arrays.asarray(target, "target")
    if y.dtype.kind not in "iub" and y.size:
        raise _errors.not_index_dtype("target", y.dtype)
    if y.shape != rows_shape:
        raise _errors.wrong_shape("target", y.shape, f"{rows_shape}, that of {whose}")
    return _arrays.indices(y) if y.size else y.astype(np.int64)


def checked_top_k(top_k):
    """An integer of at least 1, or None."""
    if top_k is None:
        return None
    top_k = _arrays.integer(top_k, "top_k")
    if top_k < 1:
        raise _errors.out_of_range("top_k", top_k, "an integer of at least 1")
    return top_k


def kinds(real, top_k):
    """The types of what is found of each row."""
    return [real, real, np.int64, np.bool_, *([np.int64, np.bool_] if top_k else [])]


def empty(rows_shape, real, top_k):
    """Room for what is found of each row, but for what follows from its rank."""
    return Scores(*(np.empty(rows_shape, kind) for kind in kinds(real, top_k)[:5]))


def with_top_k(scores, top_k):
    """Scores, once their ranks are known."""
    return scores._replace(in_top_k=is_in_top_k(scores.rank, top_k)) if top_k else scores


def is_in_top_k(rank, top_k):
    """Whether the target is among the k first classes; not where it is ignored."""
    return np.asarray((rank >= 0) & (rank < top_k))
