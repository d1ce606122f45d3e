"""The public functions: a docstring and one line each.

Each calls `evaluate`, which finds the plan kept for calls of this kind, or lets `calls.resolve` decide what the call
means and the place where its arrays live make a plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastloss import losses
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss._types import Real, RealArray
from fastloss.evaluate import evaluate
from fastloss.own import OwnLoss

__all__ = [function.name for function in losses.FUNCTIONS]

# --- the softmax family -----------------------------------------------------------------------------------------------


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int = -1,
    reduction: str = "mean",
    temperature: float = 1.0,
    softcap: float | None = None,
    out: Any = None,
) -> Real | RealArray:
    """Cross-entropy between logits and class indices or class probabilities.

    For indices, ``-weight[y] * log_softmax(logits)[y]``; for probabilities,
    ``-sum_c weight[c] * y[c] * log_softmax(logits)[c]``.  Log-softmax and negative log-likelihood are fused: logits are
    read once, log-probabilities are never stored.

    Parameters
    ----------
    logits : array_like, (..., n_classes, ...)
        Unnormalised log-probabilities, classes along `axis`.  float16 and bfloat16 are computed in float32.
    target : array_like
        Class indices in [0, n_classes), of any integer dtype and the shape of `logits` without `axis`; or class
        probabilities, floating, of the shape of `logits`.
    weight : array_like, (n_classes,), optional
        One weight per class.
    ignore_index : int
        Target index of rows to ignore.  They cost 0 and do not count.  With probabilities it must be negative.
    label_smoothing : float
        Share in [0, 1] of each target that is spread evenly over all classes (Szegedy et al. 2016).
    z_loss : float
        Factor, finite and at least 0, of ``logsumexp(logits)**2``, which is added to each row's loss before its class
        weight (Chowdhery et al. 2022; they use 1e-4).  It is for class indices without label smoothing.
    axis : int
        The class axis.  PyTorch's (N, C, d1, ...) layout is ``axis=1``.
    reduction : {"mean", "sum", "none"}
        The mean divides by the summed class weights of the rows that count; with probabilities, by the number of rows.
    temperature : float
        What logits are divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(logits / c)``, which keeps logits within (-c, c) (Gemma Team 2024).
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `logits` without `axis` for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.  Sums over rows run in float64.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For complex, object or string arrays, and for floating targets of the shape of indices.
    ValueError
        For shapes that do not fit, ``label_smoothing`` outside [0, 1], a `temperature` or `softcap` that is not
        positive and finite, a `z_loss` with class probabilities or label smoothing, an unknown reduction, or no
        classes.

    Notes
    -----
    With m the largest logit and k the number of times it occurs, logsumexp = m + log1p((k - 1) + sum over the others of
    exp(x - m)).  Each row's loss is within 2 ulp of the exact value for float32 logits, even where it is tiny.  Logits
    of -inf are classes of probability 0, and a target among them costs inf.  A row that contains NaN or +inf, or only
    -inf, is NaN.  If every target is ignored, the mean is NaN and the sum 0.

    The weight of a class that no target has does not count, even if it is infinite or NaN.  With `label_smoothing` every
    class has a part in every target: a class of infinite weight makes each row's loss inf, and gradients inf or NaN.

    With `temperature` or `softcap` the loss is that of ``softcap * tanh(logits / softcap) / temperature``, computed in
    float64, a few rows at a time, from the distance of each logit from its row's largest: the accuracy is the same
    however low or high the temperature is, and no array of the logits' size is made.  Gradients are with respect to
    `logits`.  An infinite logit stays infinite: -inf is probability 0, not -softcap.

    With `z_loss` the row's negative log-likelihood and logsumexp are rounded to the result's dtype before they are
    added, and a gradient takes a second pass over the logits.  With a transform, logsumexp is that of the transformed
    logits.

    References
    ----------
    Chowdhery, A. et al. (2022). PaLM: Scaling Language Modeling with Pathways. arXiv:2204.02311, section 5.
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.
    Milakov, M., Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
    Szegedy, C. et al. (2016). Rethinking the Inception Architecture for Computer Vision. CVPR, section 7.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.cross_entropy(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [0, 1])
    np.float64(0.16723...)
    """
    options = (axis, reduction, ignore_index, label_smoothing, temperature, softcap, z_loss)
    return evaluate(losses.CROSS_ENTROPY, (logits, target, weight), options, out)


def focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    axis: int = -1,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Focal loss of class indices: cross-entropy with less weight where the prediction is right.

    ``-weight[y] (1 - p)**gamma log(p)``, with ``p = softmax(logits)[y]``.

    Parameters
    ----------
    logits : array_like, (..., n_classes, ...)
        Unnormalised log-probabilities, classes along `axis`.  float16 and bfloat16 are computed in float32.
    target : array_like
        Class indices in [0, n_classes), of any integer dtype and the shape of `logits` without `axis`.
    weight : array_like, (n_classes,), optional
        One weight per class, the alpha of the paper.
    gamma : float
        The exponent, finite and at least 0, which is `cross_entropy`.
    ignore_index : int
        Target index of rows to ignore.  They cost 0 and do not count.
    axis : int
        The class axis.
    reduction : {"mean", "sum", "none"}
        The mean divides by the summed class weights of the rows that count.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `logits` without `axis` for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.  Sums over rows run in float64.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For complex, object or string arrays, and for targets that are not integers.
    ValueError
        For shapes that do not fit, a gamma that is negative or not finite, an unknown reduction, or no classes.

    Notes
    -----
    Keras's ``CategoricalFocalCrossentropy`` for indices, from logits.  ``1 - p`` is computed from log-probabilities, so
    that tiny losses keep their relative accuracy.  A value takes one pass over the logits, a gradient two.

    Of float32 logits losses of rows are within 4 ulp of the exact value, and gradients within 5, for any gamma.  The
    power multiplies what a row's negative log-likelihood is off by: that is kept in float64, and where gamma is above 2,
    so are the sums that it is made of, which takes two to three times as long, and on Numba four to seven.  On CUDA
    devices both are float32, and losses and gradients within 4 + 2 gamma ulp.  Special values are treated as in `cross_entropy`.

    `sigmoid_focal_loss` is for binary labels.

    References
    ----------
    Lin, T.-Y. et al. (2017). Focal Loss for Dense Object Detection. ICCV, eq. 5.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.focal_loss(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [0, 1])
    np.float64(0.00582...)
    """
    return evaluate(losses.FOCAL_LOSS, (logits, target, weight), (axis, reduction, ignore_index, gamma), out)


def poly_loss_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    epsilon: float = 2.0,
    ignore_index: int = -100,
    axis: int = -1,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Poly-1 loss of class indices: cross-entropy with another first term of its series in 1 - p.

    ``weight[y] (epsilon (1 - p) - log(p))``, with ``p = softmax(logits)[y]``.

    Parameters
    ----------
    logits : array_like, (..., n_classes, ...)
        Unnormalised log-probabilities, classes along `axis`.  float16 and bfloat16 are computed in float32.
    target : array_like
        Class indices in [0, n_classes), of any integer dtype and the shape of `logits` without `axis`.
    weight : array_like, (n_classes,), optional
        One weight per class.
    epsilon : float
        What is added to the coefficient of ``1 - p``, which is 1 in cross-entropy; finite.
    ignore_index : int
        Target index of rows to ignore.  They cost 0 and do not count.
    axis : int
        The class axis.
    reduction : {"mean", "sum", "none"}
        The mean divides by the summed class weights of the rows that count.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `logits` without `axis` for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.  Sums over rows run in float64.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For complex, object or string arrays, and for targets that are not integers.
    ValueError
        For shapes that do not fit, an epsilon that is not finite, an unknown reduction, or no classes.

    Notes
    -----
    ``optax.poly_loss_cross_entropy`` for indices, with optax's default of epsilon.  ``1 - p`` is computed from
    log-probabilities, so that tiny losses keep their relative accuracy.  A value takes one pass over the logits, a
    gradient two.  Of float32 logits a row's loss is within 4 ulp of the exact value, except where a negative epsilon
    makes its terms cancel.

    References
    ----------
    Leng, Z. et al. (2022). PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions. ICLR, eq. 6.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.poly_loss_cross_entropy(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [0, 1])
    np.float64(0.47080...)
    """
    operands, options = (logits, target, weight), (axis, reduction, ignore_index, epsilon)
    return evaluate(losses.POLY_LOSS_CROSS_ENTROPY, operands, options, out)


def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    axis: int = -1,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Negative log-likelihood of class indices under given log-probabilities: ``-weight[y] * log_probs[y]``.

    Parameters
    ----------
    log_probs : array_like, (..., n_classes, ...)
        Log-probabilities, classes along `axis`; they are not checked to be normalised.
    target : array_like of int
        Class indices in [0, n_classes), of the shape of `log_probs` without `axis`.
    weight : array_like, (n_classes,), optional
        One weight per class.
    ignore_index : int
        Target index of rows to ignore.
    axis : int
        The class axis.
    reduction : {"mean", "sum", "none"}
        The mean divides by the summed class weights of the rows that count.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `log_probs` without `axis` for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`.
    TypeError
        For targets that are not integers.
    ValueError
        For shapes that do not fit or an unknown reduction.

    Notes
    -----
    Only one element per row is read: a log-probability of -inf costs inf, and NaN elsewhere in the row has no effect.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.nll_loss(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 1])
    np.float64(0.49041...)
    """
    return evaluate(losses.NLL_LOSS, (log_probs, target, weight), (axis, reduction, ignore_index), out)


def categorical_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    axis: int = -1,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Cross-entropy from probabilities: ``-sum_c weight[c] * y[c] * log(probs[c])``, with 0 log 0 = 0.

    Parameters
    ----------
    probs : array_like, (..., n_classes, ...)
        Probabilities in [0, 1], classes along `axis`.  They are neither clipped nor normalised.
    target : array_like
        Class indices of the shape of `probs` without `axis`, or class probabilities of the shape of `probs`.
    weight : array_like, (n_classes,), optional
        One weight per class.
    ignore_index : int
        Target index of rows to ignore.  With probabilities as targets it must be negative.
    axis : int
        The class axis.
    reduction : {"mean", "sum", "none"}
        The mean divides by the summed class weights of the rows that count; with probabilities as targets, by the
        number of rows.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `probs` without `axis` for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`.
    ValueError
        For probabilities outside [0, 1], and for shapes that do not fit.

    Notes
    -----
    A target of probability 0 costs inf: probabilities are not clipped, which would make the loss depend on a constant.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.categorical_cross_entropy(np.array([[0.5, 0.5], [0.25, 0.75]]), [0, 1])
    np.float64(0.49041...)
    """
    return evaluate(losses.CATEGORICAL_CROSS_ENTROPY, (probs, target, weight), (axis, reduction, ignore_index), out)


def log_softmax(
    x: ArrayLike, *, axis: int = -1, temperature: float = 1.0, softcap: float | None = None, out: Any = None
) -> RealArray:
    """Logarithm of the softmax: ``x - logsumexp(x)`` along an axis.

    Parameters
    ----------
    x : array_like, at least one dimension
        Logits.
    axis : int
        The axis that is normalised.
    temperature : float
        What `x` is divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(x / c)``, which keeps `x` within (-c, c) (Gemma Team 2024).
    out : ndarray, optional
        Writeable floating array of the shape of `x` to write to and return.

    Returns
    -------
    ndarray of the shape of `x`
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For a 0-d array, an axis out of range, or a `temperature` or `softcap` that is not positive and finite.

    Notes
    -----
    Values near 0 keep their relative accuracy: ``[20, 0, 0]`` gives -4.12e-9 first, where subtracting a rounded
    logsumexp gives 0.  A row that contains NaN or +inf, or only -inf, is NaN.  `temperature` and `softcap` are as in
    `cross_entropy`.

    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.log_softmax(np.array([0.0, 0.0]))
    array([-0.69314718, -0.69314718])
    """
    return evaluate(losses.LOG_SOFTMAX, (x,), (axis, temperature, softcap), out)


def softmax(
    x: ArrayLike, *, axis: int = -1, temperature: float = 1.0, softcap: float | None = None, out: Any = None
) -> RealArray:
    """Softmax: ``exp(x) / sum(exp(x))`` along an axis.

    Parameters
    ----------
    x : array_like, at least one dimension
        Logits.
    axis : int
        The axis that is normalised.
    temperature : float
        What `x` is divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(x / c)``, which keeps `x` within (-c, c) (Gemma Team 2024).
    out : ndarray, optional
        Writeable floating array of the shape of `x` to write to and return.

    Returns
    -------
    ndarray of the shape of `x`
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For a 0-d array, an axis out of range, or a `temperature` or `softcap` that is not positive and finite.

    Notes
    -----
    A row that contains NaN or +inf, or only -inf, is NaN.
    `temperature` and `softcap` are as in `cross_entropy`.

    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    return evaluate(losses.SOFTMAX, (x,), (axis, temperature, softcap), out)


def logsumexp(
    x: ArrayLike,
    *,
    axis: int = -1,
    keepdims: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
    out: Any = None,
) -> Real | RealArray:
    """``log(sum(exp(x)))`` along an axis, without overflow.

    Parameters
    ----------
    x : array_like, at least one dimension
        Real numbers.
    axis : int
        The axis that is summed over.
    keepdims : bool
        Whether the result keeps `axis` with length 1.
    temperature : float
        What `x` is divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(x / c)``, which keeps `x` within (-c, c) (Gemma Team 2024).
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    ndarray of the shape of `x` without `axis`, or NumPy scalar for one-dimensional `x`
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For a 0-d array, an axis out of range, or a `temperature` or `softcap` that is not positive and finite.

    Notes
    -----
    -inf for an empty axis or nothing but -inf, +inf if there is a +inf, NaN if there is a NaN.
    `temperature` and `softcap` are as in `cross_entropy`.

    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.logsumexp(np.array([[1000.0, 1000.0], [0.0, -np.inf]]))
    array([1000.69314718,    0.        ])
    """
    return evaluate(losses.LOGSUMEXP, (x,), (axis, keepdims, temperature, softcap), out)


# --- scoring ----------------------------------------------------------------------------------------------------------


def score(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    top_k: int | None = None,
    top: int | None = None,
    ids: ArrayLike | None = None,
    entropy: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
    linear_weight: ArrayLike | None = None,
    linear_bias: ArrayLike | None = None,
) -> Scores:
    """What an evaluation wants to know about each row, from one pass over the logits.

    The target's negative log-likelihood, logsumexp, the most likely class and whether it is the target; with `top_k`
    the target's rank among all classes and whether it is one of the first k; with `top` the most likely classes and
    their log-probabilities; with `ids` the log-probabilities of these classes; with `entropy` the row's entropy.  With
    `linear_weight` the same from hidden states, whose logits ``logits @ linear_weight.T + linear_bias`` never exist as
    a whole.

    Parameters
    ----------
    logits : array_like, (..., n_classes, ...)
        Unnormalised log-probabilities, classes along `axis`.  float16 and bfloat16 are computed in float32.  With
        `linear_weight`: hidden states, (..., n_features).
    target : array_like of int, optional
        Class indices in [0, n_classes), of the shape of `logits` without `axis`.
    axis : int
        The class axis.
    ignore_index : int
        Index of rows without a target: their `nll` is 0, `correct` and `in_top_k` False, `rank` -1; other results do
        not depend on it.  In `ids` it marks an entry without a class, whose log-probability is NaN.
    top_k : int, optional
        The k of `in_top_k`; may exceed the number of classes.
    top : int, optional
        How many of the most likely classes to return; at most n_classes.
    ids : array_like of int, (..., n_ids), optional
        Classes whose log-probabilities to return, for each row: the shape of `logits` without `axis`, plus one axis.
    entropy : bool
        Whether to return entropies.
    temperature : float
        What logits are divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(logits / c)``, which keeps logits within (-c, c) (Gemma Team 2024).
    linear_weight : array_like, (n_classes, n_features), optional
        The weights of the layer that makes logits of hidden states, as in `linear_cross_entropy`; `axis` is then the
        last.
    linear_bias : array_like, (n_classes,), optional
        That layer's bias.

    Returns
    -------
    Scores
        A named tuple of arrays of the shape of `logits` without `axis`: ``nll``, ``lse`` and ``entropy``, float32 for
        logits of up to 32 bits, float64 otherwise; ``argmax`` and ``rank``, int64; ``correct`` and ``in_top_k``, bool.
        ``top_ids``, int64, ``top_log_probs`` and ``id_log_probs``, of the type of ``lse``, have one more axis, of
        length `top` or n_ids.  What is not asked for is None; without a target so are ``nll``, ``correct``, ``rank``
        and ``in_top_k``.

    Raises
    ------
    IndexError
        For a class index in `target` or `ids` that is neither in [0, n_classes) nor `ignore_index`; names the first
        such position.
    TypeError
        For targets or ids that are not integers; for complex, object or string logits.
    ValueError
        For shapes that do not fit, a `top_k` below 1, a `top` below 1 or above n_classes, a `temperature` or `softcap`
        that is not positive and finite, or no classes; for hidden states with another `axis` than the last, and for a
        bias without weights.

    Notes
    -----
    ``nll`` is `cross_entropy` (or `linear_cross_entropy`) with ``reduction="none"``, to the same accuracy.  The rank is
    exact, not capped at k; it is 0 for the most likely class, the lowest index among ties.  NaN counts as larger than
    any number, as in ``numpy.argmax``: then ``nll`` and ``lse`` are NaN and ``argmax`` is the first NaN.  Memory beyond
    the input and the results is constant; with `top`, `ids` or `entropy` it is some tens of bytes per row, and if the
    class axis is not the last, the logits of a few rows.

    ``top_ids`` are in the order of argmax: among ties the lower class comes first.  Log-probabilities and entropies, in
    nats, are NaN in rows that contain NaN or +inf, or only -inf; a class of -inf among others has log-probability -inf
    and adds nothing to the entropy.  They keep their relative accuracy down to the smallest numbers: with z the sum of
    exp(x - max), the entropy is ``log(z) + sum((max - x) * exp(x - max)) / z``, in which no term is negative.  They
    take a second sweep over each row, in cache, and the ``nll`` and ``lse`` returned with them may differ in the last
    place from those of a call without them.

    `temperature` and `softcap` are as in `cross_entropy`; they do not change the order of logits, and so neither argmax
    nor rank.

    From hidden states, argmax and rank are exactly those of the computed logits, including ties.  Ranks need a second
    product if more than some hundred logits per row are as close to the target's as rounding errors, such as when all
    are equal.

    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = fastloss.score(np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 3.0]]), [0, 2], top_k=2)
    >>> scores.nll
    array([0.40760596, 0.71773592])
    >>> scores.argmax, scores.correct
    (array([0, 1]), array([ True, False]))
    >>> scores.rank, scores.in_top_k
    (array([0, 1]), array([ True,  True]))
    >>> scores = fastloss.score(np.log([[0.5, 0.125, 0.375]]), top=2, ids=[[1]], entropy=True)
    >>> scores.top_ids, np.exp(scores.top_log_probs), np.exp(scores.id_log_probs), scores.nll
    (array([[0, 2]]), array([[0.5  , 0.375]]), array([[0.125]]), None)
    >>> scores.entropy
    array([0.97431475])
    """
    operands = logits, target, linear_weight, linear_bias, ids
    options = (axis, ignore_index, top_k, top, entropy, temperature, softcap)
    return evaluate(losses.SCORE, operands, options)


def compare(
    reference: ArrayLike,
    logits: ArrayLike,
    target: ArrayLike | None = None,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    linear_weight: ArrayLike | None = None,
    linear_bias: ArrayLike | None = None,
    reference_linear_weight: ArrayLike | None = None,
    reference_linear_bias: ArrayLike | None = None,
) -> Comparison:
    """How two models differ on the same rows, such as a quantised or distilled one from its original; each is read
    once.

    The Kullback-Leibler divergence of the distribution of `logits` from that of `reference`,
    ``sum(p * (log(p) - log(q)))`` with ``p = softmax(reference)`` and ``q = softmax(logits)``, and whether both have
    the same most likely class; with targets also both negative log-likelihoods and by how much the target's probability
    has changed.  With `linear_weight` the same from both models' hidden states, whose logits never exist as a whole.

    Parameters
    ----------
    reference : array_like, (..., n_classes, ...)
        The logits to compare with, classes along `axis`.  float16 and bfloat16 are computed in float32.  With
        `linear_weight`: hidden states, (..., n_reference_features).
    logits : array_like
        The logits to be judged, of the shape of `reference`.  If either is float64, or of integers, everything is
        computed in float64.  With `linear_weight`: hidden states, (..., n_features).
    target : array_like of int, optional
        Class indices in [0, n_classes), of the shape of `logits` without `axis`.
    axis : int
        The class axis.
    ignore_index : int
        Index of rows without a target: their `nll`, `reference_nll` and `delta_p` are 0; `kl` and `same_argmax` do not
        depend on it.
    temperature : float
        What both arrays of logits are divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(logits / c)``, which keeps logits within (-c, c) (Gemma Team 2024).
    linear_weight : array_like, (n_classes, n_features), optional
        The weights of the layer that makes logits of hidden states, as in `linear_cross_entropy`; `axis` is then the
        last.
    linear_bias : array_like, (n_classes,), optional
        That layer's bias.
    reference_linear_weight : array_like, (n_classes, n_reference_features), optional
        The weights of the reference's layer.  By default both models have the same layer, with the same bias unless the
        reference has its own, as where all but the head was quantised.
    reference_linear_bias : array_like, (n_classes,), optional
        The bias of the reference's layer.

    Returns
    -------
    Comparison
        A named tuple of arrays of the shape of `logits` without `axis`: ``kl``, ``same_argmax``, ``nll``,
        ``reference_nll`` and ``delta_p``; float32 for logits of up to 32 bits, float64 otherwise, and bool.  The last
        three are None without `target`.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For targets that are not integers; for complex, object or string logits.
    ValueError
        For shapes that do not fit, layers of different numbers of classes, a `temperature` or `softcap` that is not
        positive and finite, or no classes; for hidden states with another `axis` than the last, and for a bias or a
        reference's layer without `linear_weight`.

    Notes
    -----
    With ``d = log(p) - log(q)`` the divergence is the sum of ``p * (exp(-d) - 1 + d)``, whose terms are not negative:
    so it is never negative, is 0 for equal rows, and has a relative error below 1e-5 down to 1e-12 from float32
    logits.  A class to which `reference` gives probability 0 costs nothing; one that only `logits` rule out makes it
    +inf.  It is NaN if either row contains NaN or +inf, or only -inf.  ``delta_p`` is accurate even for small
    differences.

    Both arrays are read from memory once, row by row: what is summed in a second sweep is still in the cache.  Memory
    beyond the arrays and the results is constant.  `temperature` and `softcap` are as in `cross_entropy`; they do not
    change which classes are the most likely ones.

    From hidden states, both models' logits are computed and compared for a few rows at a time, which take at most 128
    MiB in float32.  The products are those of the platform's BLAS: equal hidden states and layers have equal logits,
    and so a divergence of exactly 0.

    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.
    Kullback, S., Leibler, R. A. (1951). On Information and Sufficiency. Annals of Mathematical Statistics 22, 79-86.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> reference = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 3.0]])
    >>> logits = np.array([[2.0, 0.5, 1.0], [0.0, 2.5, 3.0]])
    >>> comparison = fastloss.compare(reference, logits, [0, 2])
    >>> comparison.kl.round(6), comparison.same_argmax
    (array([0.011748, 0.030789]), array([ True, False]))
    >>> comparison.delta_p.round(6)
    array([-0.036709,  0.115893])
    """
    layers = linear_weight, linear_bias, reference_linear_weight, reference_linear_bias
    operands = reference, logits, target, *layers
    return evaluate(losses.COMPARE, operands, (axis, ignore_index, temperature, softcap))


def brier_score(probs: ArrayLike, target: ArrayLike, *, axis: int = -1, ignore_index: int = -100) -> np.float64:
    """Brier score: the mean squared distance between predicted probabilities and outcomes.

    For classes, the mean over rows of ``sum_c (probs[c] - (c == target))**2``, in [0, 2].  For a binary event with
    probabilities `probs`, the mean of ``(probs - target)**2``, in [0, 1].

    Parameters
    ----------
    probs : array_like, (..., n_classes, ...) or (n,)
        Probabilities in [0, 1], classes along `axis`; they are not checked to add up to 1.  Or the probability of label
        1 in each of n cases.
    target : array_like of int
        Class indices in [0, n_classes), of the shape of `probs` without `axis`.  Or n labels, 0 or 1.
    axis : int
        The class axis.
    ignore_index : int
        Target label of rows to ignore.

    Returns
    -------
    NumPy scalar
        float32 for inputs of up to 32 bits, float64 otherwise.  NaN if no row counts.

    Raises
    ------
    IndexError
        For a label that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For targets that are not integers, for complex, object or string arrays, and for arrays on a CUDA device.
    ValueError
        For probabilities outside [0, 1], shapes that do not fit, or no classes.

    Notes
    -----
    Two conventions are in use.  For classes this is Brier's own, the sum over all of them; for a binary event it is
    half of that, as is usual there: two classes score twice what the same predictions score as probabilities of one
    event.  scikit-learn's ``brier_score_loss`` does the same.

    Everything is computed in float64, one block of rows at a time.  NaN in a row that is not ignored makes the score
    NaN.

    References
    ----------
    Brier, G. W. (1950). Verification of Forecasts Expressed in Terms of Probability. Monthly Weather Review 78, 1-3.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.brier_score(np.array([[0.75, 0.25], [0.5, 0.5]]), [0, 1])  # (0.125 + 0.5) / 2
    np.float64(0.3125)
    >>> fastloss.brier_score(np.array([0.25, 0.5]), [0, 1])
    np.float64(0.15625)
    """
    return evaluate(losses.BRIER_SCORE, (probs, target), (axis, ignore_index))


def calibration_error(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    bins: int = 15,
    norm: str = "l1",
    axis: int = -1,
    ignore_index: int = -100,
) -> np.float64:
    """Calibration error: the distance between confidences and hit rates.

    Rows are sorted into bins of equal width by their confidence, the probability of the most likely class.  In each bin
    the mean confidence is compared with the fraction of rows whose most likely class is the target.  The expected
    calibration error (ECE) is the mean of these distances, weighted by the number of rows; the maximum calibration
    error (MCE) is the largest.

    Parameters
    ----------
    probs : array_like, (..., n_classes, ...) or (n,)
        Probabilities in [0, 1], classes along `axis`; they are not checked to add up to 1.  Or the probability of label
        1 in each of n cases: then this probability is compared with the share of ones.
    target : array_like of int
        Class indices in [0, n_classes), of the shape of `probs` without `axis`.  Or n labels, 0 or 1.
    bins : int
        Number of bins, at most 65536.
    norm : {"l1", "l2", "max"}
        How the distances are combined: their mean (ECE), the root of their mean square, or the largest (MCE).
    axis : int
        The class axis.
    ignore_index : int
        Target label of rows to ignore.

    Returns
    -------
    NumPy scalar
        In [0, 1]; float32 for inputs of up to 32 bits, float64 otherwise.  NaN if no row counts.

    Raises
    ------
    IndexError
        For a label that is neither in [0, n_classes) nor `ignore_index`; names the first such position.
    TypeError
        For targets that are not integers, for complex, object or string arrays, and for arrays on a CUDA device.
    ValueError
        For probabilities outside [0, 1], shapes that do not fit, no classes, `bins` outside [1, 65536] or an unknown
        `norm`.

    Notes
    -----
    Bin m of M holds confidences in ((m - 1) / M, m / M], the first also 0.  An edge is m / M rounded to the type of
    `probs`, so that float32's 0.2 lies in the bin that ends with 0.2.  Among equal probabilities the lower class is the
    prediction.  NaN in a row that is not ignored belongs to no bin, and makes the error NaN.

    Everything is computed in float64, a block of rows at a time.

    References
    ----------
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. Q. (2017). On Calibration of Modern Neural Networks. ICML.
    arXiv:1706.04599.  Naeini, M. P., Cooper, G. F., Hauskrecht, M. (2015). Obtaining Well Calibrated Probabilities
    Using Bayesian Binning. AAAI.  Kumar, A., Liang, P., Ma, T. (2019). Verified Uncertainty Calibration. NeurIPS.
    arXiv:1909.10155 (``norm="l2"``).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> probs = np.array([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0], [0.0, 1.0]])
    >>> fastloss.calibration_error(probs, [0, 1, 1, 1])  # half of the rows are 0.75 sure, and right half the time
    np.float64(0.125)
    >>> fastloss.calibration_error(probs, [0, 1, 1, 1], norm="max")
    np.float64(0.25)
    """
    return evaluate(losses.CALIBRATION_ERROR, (probs, target), (axis, ignore_index, bins, norm))


def linear_cross_entropy(
    hidden: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    temperature: float = 1.0,
    softcap: float | None = None,
    out: Any = None,
) -> Real | RealArray:
    """Cross-entropy of a linear layer's outputs, without ever storing them as a whole.

    ``cross_entropy(hidden @ linear_weight.T + linear_bias, target)``, computed one tile of rows and classes at a time,
    so that memory does not grow with rows times classes.

    Parameters
    ----------
    hidden : array_like, (..., n_features)
        The layer's inputs.  float16 and bfloat16 are converted to float32, one tile at a time.
    linear_weight : array_like, (n_classes, n_features)
        The layer's weights, as in ``torch.nn.Linear``.
    target : array_like
        Class indices in [0, n_classes), of the shape of `hidden` without its last axis; or class probabilities,
        floating, of shape (..., n_classes).
    linear_bias : array_like, (n_classes,), optional
        The layer's bias.
    weight : array_like, (n_classes,), optional
        One weight per class.
    ignore_index : int
        Target index of rows to ignore.  With probabilities it must be negative.
    label_smoothing : float
        Share in [0, 1] of each target that is spread evenly over all classes.
    reduction : {"mean", "sum", "none"}
        As in `cross_entropy`.
    temperature : float
        What logits are divided by, after the soft cap: positive and finite (Guo et al. 2017).
    softcap : float, optional
        c, positive and finite, of ``c * tanh(logits / c)``, which keeps logits within (-c, c) (Gemma Team 2024).
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of `hidden` without its last axis for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    IndexError
        For a class index that is neither in [0, n_classes) nor `ignore_index`; found before anything is computed.
    TypeError
        For complex, object or string arrays, and for floating targets of the shape of indices.
    ValueError
        For shapes that do not fit, ``label_smoothing`` outside [0, 1], a `temperature` or `softcap` that is not
        positive and finite, an unknown reduction, or no classes.

    Notes
    -----
    The products are ``numpy.matmul``'s, so they run on the threads of NumPy's BLAS regardless of `use_threads`, and are
    as reproducible as that BLAS.  What follows them equals `cross_entropy` of the same logits to rounding in float64,
    tiny losses included.  `value_and_grad` gives the derivative with respect to `hidden`, and on request to
    `linear_weight` and `linear_bias`; it computes the logits a second time.  A layer's gradient adds up as its products
    are computed, in float32 for inputs of up to 32 bits, the bias's in float64.  Beyond inputs and results some tens of
    megabytes are needed.

    `temperature` and `softcap` are those of `cross_entropy`, computed in float64 from each tile of logits.


    References
    ----------
    Gemma Team (2024). Gemma 2: Improving Open Language Models at a Practical Size. arXiv:2408.00118, section 2.
    Guo, C. et al. (2017). On Calibration of Modern Neural Networks. ICML, section 4.2.
    Wijmans, E. et al. (2025). Cut Your Losses in Large-Vocabulary Language Models. ICLR, section 4.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, layer = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [0.0, 1.5], [0.0, 0.0]])
    >>> fastloss.linear_cross_entropy(hidden, layer, [0, 1])
    np.float64(0.16723...)
    """
    return evaluate(
        losses.LINEAR_CROSS_ENTROPY,
        (hidden, linear_weight, target, linear_bias, weight),
        (reduction, ignore_index, label_smoothing, temperature, softcap),
        out,
    )


# --- binary cross-entropy ---------------------------------------------------------------------------------------------


def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Binary cross-entropy from probabilities: ``-(y log p + (1 - y) log(1 - p))``, each logarithm at least -100.

    Parameters
    ----------
    probs : array_like, any shape
        Probabilities in [0, 1].
    target : array_like of the same shape
        Labels, 0 or 1, or probabilities of label 1.
    weight : array_like, broadcastable with `probs`, optional
        A factor per element.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of elements, regardless of the weights.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For probabilities outside [0, 1], targets of another shape, or an unknown reduction.

    Notes
    -----
    log(1 - p) is computed as log1p(-p).  The floor of -100 is PyTorch's; it keeps the loss finite at p = 0 and 1.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.binary_cross_entropy(np.array([0.9, 0.2]), np.array([1.0, 0.0]))
    np.float64(0.16425...)
    """
    return evaluate(losses.BINARY_CROSS_ENTROPY, (probs, target, None, weight), (reduction,), out)


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Binary cross-entropy from logits: ``(1 - y) softplus(x) + pos_weight y softplus(-x)``.

    Parameters
    ----------
    logits : array_like, any shape
        Log-odds of label 1.
    target : array_like of the same shape
        Labels, 0 or 1, or probabilities of label 1.
    weight : array_like, broadcastable with `logits`, optional
        A factor per element.
    pos_weight : array_like, broadcastable with `logits`, optional
        A factor for the positive term, usually one per class along the last axis.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of elements, regardless of the weights.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For targets of another shape, weights that do not broadcast, or an unknown reduction.

    Notes
    -----
    softplus(x) = max(x, 0) + log1p(exp(-abs(x))).  For labels in [0, 1] both terms are positive, so nothing cancels and
    tiny losses keep their relative accuracy.  An infinite logit of the right sign costs 0, of the wrong sign inf.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.binary_cross_entropy_with_logits(np.array([2.0, -1.0]), np.array([1.0, 0.0]))
    np.float64(0.22009...)
    """
    return evaluate(losses.BINARY_CROSS_ENTROPY_WITH_LOGITS, (logits, target, pos_weight, weight), (reduction,), out)


def sigmoid_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Focal loss of binary labels from logits: binary cross-entropy with less weight where the prediction is right.

    ``a (1 - p)**gamma`` times `binary_cross_entropy_with_logits`, with p = y sigmoid(x) + (1 - y) sigmoid(-x) the
    probability of the label and a = alpha y + (1 - alpha) (1 - y).

    Parameters
    ----------
    logits : array_like, any shape
        Log-odds of label 1.
    target : array_like of the same shape
        Labels, 0 or 1, or probabilities of label 1.
    alpha : float
        Weight of label 1, in [0, 1]; label 0 weighs 1 - alpha.  If negative, both weigh 1.
    gamma : float
        The exponent, at least 0.
    weight : array_like, broadcastable with `logits`, optional
        A factor per element.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of elements, regardless of the weights.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise.  Elements and slopes are within 4 ulp of the exact
        value, for any gamma in float32; in float64 within 8 for a gamma of up to 4.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For targets of another shape or outside [0, 1], an alpha above 1, a negative gamma, or an unknown reduction.

    Notes
    -----
    Like ``torchvision.ops.sigmoid_focal_loss``, but the mean is the default.  The power is computed from log-odds, so
    that tiny losses keep their relative accuracy: a logit of 40 for label 1 costs 7.7e-53 / 4, where 1 - p is 0 in
    float64.

    References
    ----------
    Lin, T.-Y. et al. (2017). Focal Loss for Dense Object Detection. ICCV, section 3.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.sigmoid_focal_loss(np.array([2.0, -1.0]), np.array([1.0, 0.0]))
    np.float64(0.00872...)
    """
    return evaluate(losses.SIGMOID_FOCAL_LOSS, (logits, target, None, weight), (alpha, gamma, reduction), out)


# --- regression -------------------------------------------------------------------------------------------------------


def mse_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Mean squared error: ``(pred - target)**2``.

    Broadcasts `pred`, `target` and `weight` against each other.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(2.0)
    """
    return evaluate(losses.MSE_LOSS, (pred, target, None, weight), (axis, reduction), out)


def rmse_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Root mean squared error: ``sqrt(mean((pred - target)**2))``.

    With `axis`, one root per output.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or ``reduction="none"``: there is
        no root per element.

    Notes
    -----
    ``reduction="sum"`` is the root of the sum of squares, the Euclidean norm.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.rmse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(1.4142135623730951)
    """
    return evaluate(losses.RMSE_LOSS, (pred, target, None, weight), (axis, reduction), out)


def l1_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Mean absolute error: ``abs(pred - target)``.

    Broadcasts `pred`, `target` and `weight` against each other.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(1.0)
    """
    return evaluate(losses.L1_LOSS, (pred, target, None, weight), (axis, reduction), out)


def huber_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    delta: float = 1.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Huber's loss: squared near 0, linear beyond `delta`.

    ``d**2 / 2`` where abs(d) <= delta, ``delta * (abs(d) - delta / 2)`` beyond, with d = pred - target.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    delta : float
        Where the parabola becomes a line; positive.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or a delta that is not positive.

    References
    ----------
    Huber, P. J. (1964). Robust Estimation of a Location Parameter. Ann. Math. Statist. 35, eq. 1.4.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.huber_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.75)
    """
    return evaluate(losses.HUBER_LOSS, (pred, target, None, weight), (axis, reduction, delta), out)


def smooth_l1_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    beta: float = 1.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Smooth L1 loss: Huber's loss divided by `beta`.

    ``d**2 / (2 beta)`` where abs(d) < beta, ``abs(d) - beta / 2`` beyond, with d = pred - target.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    beta : float
        Where the parabola becomes a line; 0 gives the absolute error.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or a negative beta.

    References
    ----------
    Girshick, R. (2015). Fast R-CNN. ICCV, eq. 3.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.smooth_l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.75)
    """
    return evaluate(losses.SMOOTH_L1_LOSS, (pred, target, None, weight), (axis, reduction, beta), out)


def log_cosh_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Logarithm of the hyperbolic cosine of the error: ``log(cosh(pred - target))``.

    Close to d**2 / 2 near 0 and to abs(d) - log 2 far away.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Notes
    -----
    Neither cancels near 0 nor overflows far from it.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.log_cosh_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.66250...)
    """
    return evaluate(losses.LOG_COSH_LOSS, (pred, target, None, weight), (axis, reduction), out)


def msle_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Mean squared logarithmic error: ``(log1p(pred) - log1p(target))**2``.

    The difference is computed as the logarithm of a ratio, so that close values do not cancel.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions, at least -1; smaller ones give NaN.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict, at least -1; smaller ones give NaN.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.msle_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.13047...)
    """
    return evaluate(losses.MSLE_LOSS, (pred, target, None, weight), (axis, reduction), out)


def quantile_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    q: float = 0.5,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Quantile (pinball) loss: ``max(q d, (q - 1) d)`` with d = target - pred.

    Its minimiser is the q-quantile of the target.

    Parameters
    ----------
    pred : array_like, any shape
        Predicted quantiles.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    q : float
        The quantile, in [0, 1].
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or q outside [0, 1].

    References
    ----------
    Koenker, R., Bassett, G. (1978). Regression Quantiles. Econometrica 46.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.quantile_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]), q=0.9)
    np.float64(0.9)
    """
    return evaluate(losses.QUANTILE_LOSS, (pred, target, None, weight), (axis, reduction, q), out)


def charbonnier_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    eps: float = 1e-3,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Charbonnier's loss, a smooth absolute error: ``sqrt(d**2 + eps**2) - eps`` with d = pred - target.

    Close to d**2 / (2 eps) near 0 and to abs(d) - eps far away.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    eps : float
        Where the parabola becomes a line; positive.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or an eps that is not positive.

    Notes
    -----
    It is 0 where the error is; some authors leave out the constant -eps.  Neither cancels near 0 nor overflows far from
    it.

    References
    ----------
    Charbonnier, P., Blanc-Feraud, L., Aubert, G., Barlaud, M. (1994). Two deterministic half-quadratic regularization
    algorithms for computed imaging. ICIP.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.charbonnier_loss(np.array([1.0, 2.0]), np.array([1.0, 6.0]), eps=3.0)
    np.float64(1.0)
    """
    return evaluate(losses.CHARBONNIER_LOSS, (pred, target, None, weight), (axis, reduction, eps), out)


def mape_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    eps: float = 2.0**-52,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Mean absolute percentage error, as a fraction: ``abs(pred - target) / max(abs(target), eps)``.

    scikit-learn's ``mean_absolute_percentage_error``: 0.1 is 10 %.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    eps : float
        What stands in for the target's magnitude where that is smaller, as in scikit-learn; positive.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or an eps that is not positive.

    References
    ----------
    de Myttenaere, A. et al. (2016). Mean Absolute Percentage Error for regression models. Neurocomputing 192.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.mape_loss(np.array([1.0, 3.0]), np.array([1.0, 4.0]))
    np.float64(0.125)
    """
    return evaluate(losses.MAPE_LOSS, (pred, target, None, weight), (axis, reduction, eps), out)


def smape_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    eps: float = 2.0**-52,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Symmetric mean absolute percentage error, as a fraction.

    ``2 abs(pred - target) / max(abs(pred) + abs(target), eps)``, between 0 and 2.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict.
    eps : float
        What stands in for the sum of magnitudes where that is smaller, as in `mape_loss`; positive.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or an eps that is not positive.

    Notes
    -----
    The loss is 2 wherever the signs differ, and its slope 0.

    References
    ----------
    Makridakis, S. (1993). Accuracy measures: theoretical and practical concerns. Int. J. Forecasting 9.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.smape_loss(np.array([1.0, 3.0]), np.array([1.0, 5.0]))
    np.float64(0.25)
    """
    return evaluate(losses.SMAPE_LOSS, (pred, target, None, weight), (axis, reduction, eps), out)


def hinge_loss(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Hinge loss of labels -1 and 1: ``max(1 - target * scores, 0)``.

    Parameters
    ----------
    scores : array_like, any shape
        Decision values, positive for label 1.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `scores`
        Labels, -1 or 1; they are not checked.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Notes
    -----
    At the kink the slope is -target, as PyTorch's autograd has it for ``clamp``.

    References
    ----------
    Cortes, C., Vapnik, V. (1995). Support-Vector Networks. Machine Learning 20.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.hinge_loss(np.array([2.0, 0.5]), np.array([1, -1]))
    np.float64(0.75)
    """
    return evaluate(losses.HINGE_LOSS, (scores, target, None, weight), (axis, reduction), out)


def squared_hinge_loss(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Squared hinge loss of labels -1 and 1: ``max(1 - target * scores, 0)**2``.

    Parameters
    ----------
    scores : array_like, any shape
        Decision values, positive for label 1.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `scores`
        Labels, -1 or 1; they are not checked.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    References
    ----------
    Chang, K.-W., Hsieh, C.-J., Lin, C.-J. (2008). Coordinate Descent Method for Large-scale L2-loss Linear Support
    Vector Machines.  JMLR 9.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.squared_hinge_loss(np.array([2.0, 0.5]), np.array([1, -1]))
    np.float64(1.125)
    """
    return evaluate(losses.SQUARED_HINGE_LOSS, (scores, target, None, weight), (axis, reduction), out)


def soft_margin_loss(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Logistic loss of labels -1 and 1: ``log(1 + exp(-target * scores))``.

    Parameters
    ----------
    scores : array_like, any shape
        Decision values, positive for label 1.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `scores`
        Labels, -1 or 1; they are not checked.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Notes
    -----
    The same as `binary_cross_entropy_with_logits` of labels 0 and 1.  Tiny losses keep their relative accuracy, large
    ones do not overflow, where PyTorch's are inf.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.soft_margin_loss(np.array([2.0, -1.0]), np.array([1, -1]))
    np.float64(0.22009...)
    """
    return evaluate(losses.SOFT_MARGIN_LOSS, (scores, target, None, weight), (axis, reduction), out)


def hinge_embedding_loss(
    distance: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    margin: float = 1.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Hinge loss of distances: ``distance`` for a target of 1, ``max(margin - distance, 0)`` for -1.

    Parameters
    ----------
    distance : array_like, any shape
        Distances, or dissimilarities, of pairs.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `distance`
        1 for pairs that belong together, -1 for others; any other number costs the sum of both, as in PyTorch.
    margin : float
        Beyond which pairs that do not belong together cost nothing; finite.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or a margin that is not finite.

    Notes
    -----
    At the kink the slope is -1, as in PyTorch.

    References
    ----------
    Hadsell, R., Chopra, S., LeCun, Y. (2006). Dimensionality Reduction by Learning an Invariant Mapping. CVPR.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.hinge_embedding_loss(np.array([0.5, 0.25]), np.array([1, -1]))
    np.float64(0.625)
    """
    return evaluate(losses.HINGE_EMBEDDING_LOSS, (distance, target, None, weight), (axis, reduction, margin), out)


def margin_ranking_loss(
    input1: ArrayLike,
    input2: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    margin: float = 0.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Ranking loss of pairs of scores: ``max(margin - target * (input1 - input2), 0)``.

    Parameters
    ----------
    input1 : array_like, any shape
        Scores.  Real numbers; float16 and bfloat16 are computed in float32.
    input2 : array_like, broadcastable with `input1`
        What they are compared with.
    target : array_like, broadcastable with `input1`
        1 where the first ought to rank higher, -1 where the second; they are not checked.
    margin : float
        By how much; finite.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or a margin that is not finite.

    Notes
    -----
    The derivative with respect to `input2` is that with respect to `input1`, negated.  At the kink it is -target, as in
    PyTorch.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.margin_ranking_loss(np.array([2.0, 0.5]), np.array([1.0, 1.0]), np.array([1, 1]))
    np.float64(0.25)
    """
    return evaluate(losses.MARGIN_RANKING_LOSS, (input1, input2, target, weight), (axis, reduction, margin), out)


def poisson_nll_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Negative log-likelihood of counts under a Poisson distribution.

    ``exp(pred) - target * pred``, or ``pred - target * log(pred + eps)`` where `pred` is the rate itself.

    Parameters
    ----------
    pred : array_like, any shape
        Logarithms of the rates, or the rates.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Counts.
    log_input : bool
        Whether `pred` holds logarithms of rates.
    full : bool
        Whether to add Stirling's approximation of log(target!), for targets above 1.
    eps : float
        Added to rates before their logarithm; not used with logarithms.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or a negative eps.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.poisson_nll_loss(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    np.float64(0.85914...)
    """
    return evaluate(losses.POISSON_NLL_LOSS, (pred, target, None, weight), (axis, reduction, log_input, full, eps), out)


def gaussian_nll_loss(
    pred: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Negative log-likelihood under a normal distribution of given variance.

    ``(log(v) + (pred - target)**2 / v) / 2`` with v = max(var, eps).

    Parameters
    ----------
    pred : array_like, any shape
        Means.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Observations.
    var : array_like, broadcastable with `pred`, or of shape ``pred.shape[:-1]``
        Variances, not negative; with one dimension less than `pred`, one for all of its last axis.
    full : bool
        Whether to add log(2 pi) / 2.
    eps : float
        The least variance; positive.  The derivative is with respect to `pred`.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, a negative variance, or an eps
        that is not positive.

    References
    ----------
    Nix, D. A., Weigend, A. S. (1994). Estimating the mean and variance of the target probability distribution. ICNN,
    eq. 5.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.gaussian_nll_loss(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([1.0, 4.0]))
    np.float64(0.59657...)
    """
    return evaluate(losses.GAUSSIAN_NLL_LOSS, (pred, target, var, weight), (axis, reduction, full, eps), out)


def poisson_deviance_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Poisson deviance: ``2 (target log(target / pred) - target + pred)``.

    scikit-learn's ``mean_poisson_deviance``: twice the log-likelihood that `pred` falls short of `target` by.

    Parameters
    ----------
    pred : array_like, any shape
        Predicted rates, above 0.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Counts, at least 0; 0 log 0 = 0.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8), however near `pred` and `target`
        are.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or rates or counts outside their
        domain.

    Notes
    -----
    It is twice `generalized_kl_div`, and up to a term of the target alone twice `poisson_nll_loss` with
    ``log_input=False``.

    References
    ----------
    McCullagh, P., Nelder, J. A. (1989). Generalized Linear Models, 2nd ed.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.poisson_deviance_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.77258...)
    """
    return evaluate(losses.POISSON_DEVIANCE_LOSS, (pred, target, None, weight), (axis, reduction), out)


def gamma_deviance_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Gamma deviance: ``2 (log(pred / target) + target / pred - 1)``.

    scikit-learn's ``mean_gamma_deviance``, which depends on the ratio of the two alone.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions, above 0.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict, above 0.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8), however near `pred` and `target`
        are.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or numbers that are not above 0.

    References
    ----------
    McCullagh, P., Nelder, J. A. (1989). Generalized Linear Models, 2nd ed.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.gamma_deviance_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.30685...)
    """
    return evaluate(losses.GAMMA_DEVIANCE_LOSS, (pred, target, None, weight), (axis, reduction), out)


def tweedie_deviance_loss(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    power: float = 0.0,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Tweedie deviance of a power p: twice the integral of ``(target - t) / t**p`` from `pred` to `target`.

    scikit-learn's ``mean_tweedie_deviance``.  For p other than 0, 1 and 2 it is
    ``2 (target**(2-p) / ((1-p) (2-p)) - target pred**(1-p) / (1-p) + pred**(2-p) / (2-p))``; the first term is left out
    where the target is negative.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions; above 0 unless the power is 0.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict: any for a power of at most 0, at least 0 for 1 <= power < 2, above 0 for 2 and more.
    power : float
        At most 0 or at least 1.  0 is the squared error, 1 Poisson's deviance, 2 the gamma distribution's, 3 the
        inverse Gaussian's.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value, however near `pred` and `target` are; in float64 within
        8 for powers from -1 to 3.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, a power between 0 and 1, or
        numbers outside their domain.

    Notes
    -----
    With r = target / pred and L = log r it is 2 pred**(2-p) L**2 times the second divided difference of exp at 0, L and
    (2 - p) L, so that the terms, which nearly cancel where r is near 1 and where p is near 1 or 2, are never subtracted
    there.

    References
    ----------
    Jorgensen, B. (1987). Exponential Dispersion Models. J. R. Statist. Soc. B 49.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.tweedie_deviance_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]), power=1.5)
    np.float64(0.48528...)
    """
    return evaluate(losses.TWEEDIE_DEVIANCE_LOSS, (pred, target, None, weight), (axis, reduction, power), out)


def kl_div(
    log_probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    log_target: bool = False,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Kullback-Leibler divergence from predicted log-probabilities, element by element.

    ``target * (log(target) - log_probs)``, or ``exp(target) * (target - log_probs)`` for `log_target`.

    Parameters
    ----------
    log_probs : array_like, any shape
        Predicted log-probabilities.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `log_probs`
        Probabilities, or their logarithms; a negative probability gives NaN.
    log_target : bool
        Whether `target` holds logarithms.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "batchmean", "sum", "none"}
        The result: the (weighted) mean, the sum over the length of the first axis, the (weighted) sum, or each
        element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8) where their terms do not cancel,
        over the whole range of the operands.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range.

    Notes
    -----
    0 log 0 = 0: a target of 0 costs nothing, whatever the prediction.  ``reduction="batchmean"`` is the divergence
    itself if each entry of the first axis is a distribution; "mean" divides by the number of elements.

    References
    ----------
    Kullback, S., Leibler, R. A. (1951). On Information and Sufficiency. Ann. Math. Statist. 22.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.kl_div(np.log([[0.5, 0.5]]), np.array([[0.25, 0.75]]), reduction="batchmean")
    np.float64(0.13081...)
    """
    return evaluate(losses.KL_DIV_LOSS, (log_probs, target, None, weight), (axis, reduction, log_target), out)


def generalized_kl_div(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = None,
    reduction: str = "mean",
    out: Any = None,
) -> Real | RealArray:
    """Generalised Kullback-Leibler divergence: ``target log(target / pred) - target + pred``.

    Also called I-divergence; of numbers that need not add up to 1.  Never negative, and 0 for equal ones.

    Parameters
    ----------
    pred : array_like, any shape
        Predictions, at least 0.  Real numbers; float16 and bfloat16 are computed in float32.
    target : array_like, broadcastable with `pred`
        Values to predict, at least 0; 0 log 0 = 0, and a prediction of 0 for any other target costs inf.
    weight : array_like, optional
        Weights, broadcast with the others.  A mean divides by their sum.
    axis : int or tuple of int, optional
        Axes to reduce over, as in ``numpy.mean``; all by default.  Ignored by ``reduction="none"``.
    reduction : {"mean", "sum", "none"}
        The result: the (weighted) mean, the (weighted) sum, or each element's weighted loss.
    out : ndarray, optional
        Writeable floating array of the result's shape to write to and return.

    Returns
    -------
    NumPy scalar, or ndarray if `axis` leaves dimensions or for ``reduction="none"``
        float32 for inputs of up to 32 bits, float64 otherwise (and for integer predictions).  Sums run in float64.
        Elements and slopes are within 4 ulp of the exact value (in float64 within 8), however near `pred` and `target`
        are.

    Raises
    ------
    TypeError
        For complex, object or string arrays.
    ValueError
        For shapes that do not broadcast, an unknown reduction, an axis out of range, or negative numbers.

    References
    ----------
    Csiszar, I. (1975). I-Divergence Geometry of Probability Distributions and Minimization Problems. Ann. Probab. 3.
    Lee, D. D., Seung, H. S. (2000). Algorithms for Non-negative Matrix Factorization. NIPS.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.generalized_kl_div(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(0.38629...)
    """
    return evaluate(losses.GENERALIZED_KL_DIV, (pred, target, None, weight), (axis, reduction), out)


# The losses by their functions, with their rows in the table.
LOSSES = {globals()[loss.name]: loss for loss in losses.LOSSES}


def loss_of(fn: Any) -> losses.Loss | None:
    """The row of a loss by its function; None for whatever else."""
    if isinstance(fn, OwnLoss):
        return fn.row
    try:
        return LOSSES.get(fn)
    except TypeError:  # nothing that can be hashed is one
        return None
