"""The losses as scikit-learn scorers, for ``cross_val_score``, ``GridSearchCV`` and anything else that takes
``scoring=``.

``get_scorer("neg_cross_entropy")`` is the scorer of one loss; ``scorers()`` has them all.  A scorer is called with an
estimator, data and targets, and larger is better: losses are negated, as scikit-learn's own are.  What it calls on the
estimator:

- ``neg_cross_entropy``, ``neg_focal_loss`` and ``neg_poly_loss_cross_entropy``: logits, from ``decision_function``, or
  ``predict_log_proba`` where there is none;
- ``neg_nll_loss``: ``predict_log_proba``; ``neg_categorical_cross_entropy``, ``neg_perplexity`` and ``accuracy``:
  ``predict_proba``;
- ``neg_binary_cross_entropy``: ``predict_proba`` of two classes, or of several labels at once (multilabel);
  ``neg_binary_cross_entropy_with_logits``, ``neg_sigmoid_focal_loss`` and the losses of margins (``neg_hinge_loss``,
  ``neg_squared_hinge_loss``, ``neg_soft_margin_loss``): ``decision_function`` likewise;
- ``neg_gaussian_nll_loss``: ``predict(X, return_std=True)``; all others: ``predict``, which for ``neg_poisson_nll_loss``
  returns rates unless ``log_input=True``.

Targets of classifiers are the estimator's classes, of any type.  A target that the estimator gives a probability
of 0 scores -inf: nothing is clipped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss import _arrays, _errors, functional, losses
from fastloss._optional import require
from fastloss.own import OwnLoss

require("sklearn", "sklearn", "fastloss.sklearn")

# Losses of the result of `predict`.
_REGRESSION = tuple(loss.name for loss in losses.LOSSES if loss.kind == "regression" and loss.arrays[0] == "pred")


# --- predictions of estimators ----------------------------------------------------------------------------------------


def _response(estimator: Any, X: Any, *methods: str) -> Any:
    """The result of the first of these methods that the estimator has, called with X."""
    for method in methods:
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    raise _errors.no_response(estimator, methods)


def _labels(classes: Any, y: Any) -> np.ndarray:
    """Targets as indices of an estimator's classes."""
    classes, y = np.asarray(classes), np.asarray(y)
    order = np.argsort(classes)
    places = np.searchsorted(classes, y, sorter=order)
    labels = order[np.minimum(places, len(classes) - 1)]
    known = classes[labels] == y
    if not np.all(known):
        raise _errors.unknown_class(y[~known].tolist()[0], classes)
    return labels


def _outputs(estimator: Any, predictions: Any, y: Any) -> list[tuple[Any, np.ndarray]]:
    """[(predictions, labels)] for each output; with several outputs `predictions` is a list."""
    if not isinstance(predictions, list):
        return [_output(predictions, estimator.classes_, y)]
    columns = np.asarray(y).T
    return [_output(*output) for output in zip(predictions, estimator.classes_, columns, strict=True)]


def _output(predictions: Any, classes: Any, y: Any) -> tuple[Any, np.ndarray]:
    shape, expected = np.shape(predictions), (len(y), len(classes))
    if shape != expected:  # such as a decision function with a column per pair of classes
        raise _errors.wrong_shape("predictions", shape, f"{expected}, one column per class")
    return predictions, _labels(classes, y)


def _binary_outputs(estimator: Any, predictions: Any, y: Any) -> tuple[Any, np.ndarray]:
    """(predictions for the second of two classes, whether the target is that class); or likewise for each of several
    labels."""
    if isinstance(predictions, list):  # one array per label, with both classes
        pairs = _outputs(estimator, predictions, y)
        return np.stack([p[:, 1] for p, _ in pairs], axis=1), np.stack([labels for _, labels in pairs], axis=1)
    y = np.asarray(y)
    if y.ndim == 2:
        return predictions, y
    if len(estimator.classes_) != 2:
        raise _errors.not_binary(estimator.classes_)
    return predictions[:, 1] if predictions.ndim == 2 else predictions, _labels(estimator.classes_, y)


# --- metrics: losses of rows, or of rows and outputs ------------------------------------------------------------------


def _of_logits(fn: Callable[..., Any], estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    logits = _response(estimator, X, "decision_function", "predict_log_proba")
    if getattr(logits, "ndim", 2) == 1:  # the second class's logit; the first's is 0
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    return _rows(fn, _outputs(estimator, logits, y), **options)


def _nll(estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    return _rows(functional.nll_loss, _outputs(estimator, _response(estimator, X, "predict_log_proba"), y), **options)


def _categorical(estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    outputs = _outputs(estimator, _response(estimator, X, "predict_proba"), y)
    return _rows(functional.categorical_cross_entropy, outputs, **options)


def _hits(estimator: Any, X: Any, y: Any, top_k: int = 1) -> Any:
    outputs = _outputs(estimator, _response(estimator, X, "predict_proba"), y)
    hits: list[Any] = [functional.score(p, labels, top_k=top_k).in_top_k for p, labels in outputs]
    return np.stack(hits, axis=1)


def _rows(fn: Callable[..., Any], outputs: Any, **options: Any) -> Any:
    return np.stack([fn(p, labels, reduction="none", **options) for p, labels in outputs], axis=1)


def _binary(estimator: Any, X: Any, y: Any) -> Any:
    return _elements(functional.binary_cross_entropy, estimator, _response(estimator, X, "predict_proba"), y)


def _binary_logits(fn: Callable[..., Any], estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    return _elements(fn, estimator, _response(estimator, X, "decision_function"), y, **options)


def _elements(fn: Callable[..., Any], estimator: Any, predictions: Any, y: Any, **options: Any) -> Any:
    predictions, truth = _binary_outputs(estimator, predictions, y)
    return fn(predictions, truth.astype(np.float64), reduction="none", **options)


def _margins(fn: Callable[..., Any], estimator: Any, X: Any, y: Any) -> Any:
    """The loss of margins, for which labels become -1 and 1."""
    scores, truth = _binary_outputs(estimator, _response(estimator, X, "decision_function"), y)
    return fn(scores, 2.0 * truth - 1.0, reduction="none")


def _mean_of_rows(values: Any, sample_weight: Any) -> np.ndarray:
    """The (weighted) mean over rows for each output; rows of weight 0 do not count, even if their loss is NaN or
    infinite."""
    values = np.asarray(values, np.float64)
    if sample_weight is None:
        return np.mean(values, axis=0)
    w = _row_weights(sample_weight, len(values))
    values, w = values[w != 0.0], w[w != 0.0]
    return np.tensordot(w, values, axes=(0, 0)) / np.sum(w)


def _row_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    w = np.asarray(_arrays.asarray(sample_weight, "sample_weight"), np.float64)
    if w.shape != (n_rows,):
        raise _errors.wrong_shape("sample_weight", w.shape, f"({n_rows},)")
    return w


_OF_ROWS: dict[str, Callable[..., Any]] = {
    **{
        loss.name: functools.partial(_of_logits, getattr(functional, loss.name))
        for loss in losses.LOSSES
        if loss.family == "rows" and loss.arrays[0] == "logits"
    },
    "nll_loss": _nll,
    "categorical_cross_entropy": _categorical,
    "binary_cross_entropy": _binary,
    "binary_cross_entropy_with_logits": functools.partial(_binary_logits, functional.binary_cross_entropy_with_logits),
    "sigmoid_focal_loss": functools.partial(_binary_logits, functional.sigmoid_focal_loss),
    "hinge_loss": functools.partial(_margins, functional.hinge_loss),
    "squared_hinge_loss": functools.partial(_margins, functional.squared_hinge_loss),
    "soft_margin_loss": functools.partial(_margins, functional.soft_margin_loss),
    "perplexity": _categorical,
    "accuracy": _hits,
}


def _regression(fn: Callable[..., Any], estimator: Any, X: Any, y: Any, sample_weight: Any, **options: Any) -> Any:
    """The mean over rows of each output."""
    more: tuple[Any, ...] = ()
    if fn is functional.poisson_nll_loss:
        options = {"log_input": False, **options}
    if fn is functional.gaussian_nll_loss:
        predictions, deviations = estimator.predict(X, return_std=True)
        more = (np.square(deviations),)
    else:
        predictions = _response(estimator, X, "predict")
    predictions = _arrays.asarray(predictions, "predictions")
    if predictions.size == y.size and len(predictions) == len(y):  # one output may lack an axis
        y = y.reshape(predictions.shape)
    if predictions.shape != y.shape:
        raise _errors.wrong_shape("y", y.shape, f"{predictions.shape}, that of the predictions")
    w = None if sample_weight is None else _row_weights(sample_weight, len(y))
    if w is not None and y.ndim == 2:
        w = w[:, None]
    return fn(predictions, y, *more, axis=0, weight=w, **options)


def _options_of(metric: str | OwnLoss) -> list[str]:
    """The options that a scorer passes to the loss: neither those it sets itself, nor weights of rows."""
    if metric == "accuracy":
        return ["top_k"]
    name = losses.CATEGORICAL_CROSS_ENTROPY.name if metric == "perplexity" else metric
    loss = metric.row if isinstance(metric, OwnLoss) else next(loss for loss in losses.LOSSES if loss.name == name)
    return sorted(set(loss.keywords) - {"reduction", "axis"} - (set() if loss.rowwise else {"weight"}))


# --- scorers ----------------------------------------------------------------------------------------------------------


class Scorer:
    """Scores an estimator by a metric of this package; see `get_scorer`."""

    def __init__(self, name: str | OwnLoss, multioutput: Any = "uniform_average", **options: Any) -> None:
        if not isinstance(name, OwnLoss) and name not in NAMES:
            raise _errors.unknown("name", name, NAMES)
        if isinstance(multioutput, str) and multioutput != "uniform_average":
            raise _errors.unknown("multioutput", multioutput, ("uniform_average",))
        known = _options_of(name if isinstance(name, OwnLoss) else name.removeprefix("neg_"))
        for option in options:
            if option not in known:
                shown = name.__name__ if isinstance(name, OwnLoss) else name
                raise _errors.unknown_scorer_option(shown, option, known)
        self.name, self.multioutput, self.options = name, multioutput, options
        self._weight_request: bool | str | None = None

    def __call__(self, estimator: Any, X: Any, y_true: Any, sample_weight: Any = None) -> float:
        """The score of `estimator` on data and targets; larger is better."""
        y_true = _arrays.asarray(y_true, "y")  # raises for missing values
        own = self.name if isinstance(self.name, OwnLoss) else None
        metric = self.name.removeprefix("neg_") if isinstance(self.name, str) else ""
        values: Any
        if own is not None and own.row.rowwise:
            values = _mean_of_rows(_of_logits(own, estimator, X, y_true, **self.options), sample_weight)
        elif own is not None:
            values = _regression(own, estimator, X, y_true, sample_weight, **self.options)
        elif metric in _OF_ROWS:
            values = _mean_of_rows(_OF_ROWS[metric](estimator, X, y_true, **self.options), sample_weight)
        else:
            values = _regression(getattr(functional, metric), estimator, X, y_true, sample_weight, **self.options)
        if metric == "perplexity":
            values = np.exp(values)
        shares = None if isinstance(self.multioutput, str) else self.multioutput
        value = float(np.average(values, weights=shares))
        negated = not isinstance(self.name, str) or self.name.startswith("neg_")
        return -value if negated else value

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"fastloss.sklearn.get_scorer({self.name!r}{options})"

    # scikit-learn's metadata routing: which of the caller's arrays are passed to the scorer

    def set_score_request(self, *, sample_weight: bool | str | None = None) -> Scorer:
        """Request sample weights, by scikit-learn's metadata routing: True, False, or the name under which they are
        passed."""
        self._weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> Any:
        """The request, for scikit-learn."""
        from sklearn.utils.metadata_routing import MetadataRequest

        requests = MetadataRequest(owner=self)
        requests.score.add_request(param="sample_weight", alias=self._weight_request)
        return requests

    def _accept_sample_weight(self) -> bool:  # scikit-learn asks this if weights are passed without routing
        return True


NAMES = (
    *(f"neg_{name}" for name in (*_OF_ROWS, *_REGRESSION) if name != "accuracy"),
    "accuracy",
)


def get_scorer(name: str | OwnLoss, *, multioutput: Any = "uniform_average", **options: Any) -> Callable[..., float]:
    """The scorer of a metric, to be given as ``scoring=``.

    Parameters
    ----------
    name : str, or a user-defined loss
        One of `NAMES`: ``"neg_"`` and the name of a loss, such as ``"neg_cross_entropy"``; ``"neg_perplexity"``, or
        ``"accuracy"``.  A loss from `pointwise_loss` is computed from ``predict``, one from `row_loss` from the logits;
        these are negated too.
    multioutput : "uniform_average" or array_like, (n_outputs,)
        How the scores of several outputs are averaged: equally, or with these weights.
    **options
        Options of the loss, such as ``q=0.9`` for ``"neg_quantile_loss"``; ``top_k=5`` for ``"accuracy"``.

    Returns
    -------
    Scorer
        ``scorer(estimator, X, y, sample_weight=None)`` is a float.  It can be pickled.

    Raises
    ------
    ValueError
        For an unknown name.  When called, for a target that is not one of the estimator's classes, and for predictions
        that are not one column per class, such as those of ``decision_function_shape="ovo"``.
    TypeError
        For an option that the loss does not have.
    AttributeError
        When called, if the estimator lacks the method that is needed.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from fastloss.sklearn import get_scorer
    >>> estimator = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    >>> get_scorer("neg_l1_loss")(estimator, [[0.0], [1.0]], [0.0, 1.0])
    -0.33333...
    """
    return Scorer(name, multioutput, **options)


def scorers() -> dict[str, Callable[..., float]]:
    """A scorer of each metric, by name."""
    return {name: Scorer(name) for name in NAMES}
