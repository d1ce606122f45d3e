"""The oracle: an independent, simple implementation of every loss in extended precision.

It shares no code with the package, so that agreement means something. Everything is computed in
``np.longdouble`` (64 bits of mantissa on x86), so that float64 results are exact except for the last rounding;
on platforms without a longer type this is float64, and accurate to a few ulp. ``test_reference.py`` compares the
oracle with mpmath, torch, SciPy, scikit-learn and finite differences.

``loss(name, ...)`` and ``value_and_grad(name, ...)`` take the arguments of the package's functions.
"""

from typing import NamedTuple

import numpy as np
from reference_pointwise import LONG, POINTWISE, times


class Terms(NamedTuple):
    """The parts of a loss before it is reduced."""

    each: np.ndarray  # weighted loss of every row (softmax family) or element
    slope: np.ndarray  # its derivative with respect to the first argument, in the broadcast shape
    weights: np.ndarray  # in the shape of `each`; the mean divides by their sum
    counted: np.ndarray  # False where the target is ignored; broadcasts against `slope`


def exact(values):
    """Any real array in extended precision, converted without rounding."""
    values = np.asarray(values)
    if values.dtype.kind not in "biufg":  # bfloat16 and the like have no conversion to longdouble
        values = values.astype(np.float64)
    return values.astype(LONG)


# ------------------------------------------------------------------------------------ the softmax family


def transformed(x, temperature=1.0, softcap=None):
    """(transformed logits in extended precision, derivatives of the transform); infinite logits stay as they are."""
    x, steep = exact(x), np.ones(np.shape(x), LONG)
    if softcap is not None:
        cap = LONG(softcap)
        with np.errstate(over="ignore", under="ignore"):
            steep = 1 / np.cosh(x / cap) ** 2
            x = np.where(np.isinf(x), x, cap * np.tanh(x / cap))
    return x / LONG(temperature), steep / LONG(temperature)


def _split(logits):
    """(maximum of each row, sum of exp(x - maximum) over the other classes (last axis)).

    The sum excludes one class that attains the maximum: its exp is 1, which log1p adds exactly.
    """
    top = logits.max(axis=-1, keepdims=True)
    rest = np.exp(logits - top)
    np.put_along_axis(rest, np.argmax(logits, axis=-1, keepdims=True), LONG(0), axis=-1)
    return top, rest.sum(axis=-1, keepdims=True)


def _surprise(logits):
    """-log softmax along the last axis: two terms, neither negative, so that nothing cancels."""
    if logits.shape[-1] == 0:
        return logits
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        top, rest = _split(logits)
        # NaN makes the whole row NaN, and so does an infinite maximum, as in torch.
        return np.where(np.isfinite(top), (top - logits) + np.log1p(rest), LONG("nan"))


def log_softmax(x, *, axis=-1, **transform):
    x, _ = transformed(x, **transform)
    return np.moveaxis(-_surprise(np.moveaxis(x, axis, -1)), -1, axis)


def softmax(x, *, axis=-1, **transform):
    with np.errstate(under="ignore"):
        return np.exp(log_softmax(x, axis=axis, **transform))


def logsumexp(x, *, axis=-1, keepdims=False, **transform):
    x = np.moveaxis(transformed(x, **transform)[0], axis, -1)
    if x.shape[-1] == 0:
        result = np.full(x.shape[:-1] + (1,), -LONG("inf"))
    else:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            top, rest = _split(x)
            result = np.where(np.isinf(top), top, top + np.log1p(rest))
    result = np.moveaxis(result, -1, axis)
    return result if keepdims else result.squeeze(axis)


def _target_distribution(shape, target, weight, ignore_index, label_smoothing, axis):
    """(weighted target probabilities, classes last; the mean's weights; which rows are not ignored)."""
    n_classes = shape[-1]
    weight = np.ones(n_classes, LONG) if weight is None else exact(weight)
    target = np.asarray(target)
    if target.dtype.kind in "iub" and target.ndim == len(shape) - 1:
        counted = np.array([int(t) != ignore_index for t in target.ravel()], bool).reshape(target.shape)
        label = np.where(counted, target, 0).astype(np.int64)
        onehot = (np.arange(n_classes) == label[..., None]).astype(LONG)
        divisors = np.where(counted, weight[label], 0) if n_classes else np.zeros(label.shape, LONG)
    else:
        onehot = np.moveaxis(exact(target), axis, -1)
        counted = np.ones(shape[:-1], bool)
        divisors = np.ones(shape[:-1], LONG)  # probabilities: the mean divides by rows, not by weights
    smoothing = LONG(label_smoothing)
    wanted = weight * ((1 - smoothing) * onehot + smoothing / max(n_classes, 1))
    return wanted * counted[..., None], divisors, counted


def _row_terms(surprise, slope, wanted, divisors, counted, axis):
    each = np.where(counted, times(wanted, surprise).sum(axis=-1), LONG(0))
    slope = np.where(counted[..., None], slope, LONG(0))
    return Terms(each, np.moveaxis(slope, -1, axis), divisors, np.expand_dims(counted, axis))


def cross_entropy(
    logits,
    target,
    *,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    temperature=1.0,
    softcap=None,
    axis=-1,
):
    logits, steep = (np.moveaxis(a, axis, -1) for a in transformed(logits, temperature, softcap))
    wanted, divisors, counted = _target_distribution(logits.shape, target, weight, ignore_index, label_smoothing, axis)
    surprise = _surprise(logits)
    with np.errstate(under="ignore"):
        slope = steep * (np.exp(-surprise) * wanted.sum(axis=-1, keepdims=True) - wanted)
    parts = _row_terms(surprise, slope, wanted, divisors, counted, axis)
    return _with_z(parts, logits, surprise, steep, LONG(z_loss), axis) if z_loss else parts


def _with_z(parts, logits, surprise, steep, z, axis):
    """The terms of z lse^2, weighted as each row is, added to those of cross-entropy."""
    lse = logsumexp(logits)
    with np.errstate(under="ignore", invalid="ignore"):
        each = parts.each + np.where(parts.weights == 0, LONG(0), parts.weights * z * lse**2)
        steepness = (parts.weights * 2 * z * lse)[..., None] * np.exp(-surprise) * steep
    slope = np.where(parts.counted, parts.slope + np.moveaxis(steepness, -1, axis), LONG(0))
    return parts._replace(each=each, slope=slope)


def _of_missed(logits, target, of, *, weight=None, ignore_index=-100, axis=-1):
    """The terms of a loss `of(nll, p, 1 - p)`, which returns the loss of each row and its derivative by nll."""
    logits = np.moveaxis(exact(logits), axis, -1)
    wanted, weights, counted = _target_distribution(logits.shape, target, weight, ignore_index, 0.0, axis)
    surprise = _surprise(logits)
    label = np.where(counted, target, 0).astype(np.int64)[..., None]
    with np.errstate(under="ignore", invalid="ignore", divide="ignore"):
        powers = np.exp(-surprise)
        nll, p = (np.take_along_axis(a, label, axis=-1) for a in (surprise, powers))
        others = powers.copy()
        np.put_along_axis(others, label, LONG(0), axis=-1)
        missed = others.sum(axis=-1, keepdims=True)
        value, steepness = of(nll, p, missed)
        slope = steepness * np.where(np.arange(logits.shape[-1]) == label, -missed, powers) * weights[..., None]
    each = np.where(counted, times(weights, value[..., 0]), LONG(0))
    slope = np.where(counted[..., None], slope, LONG(0))
    return Terms(each, np.moveaxis(slope, -1, axis), weights, np.expand_dims(counted, axis))


def focal_loss(logits, target, *, gamma=2.0, **options):
    gamma = LONG(gamma)

    def of(nll, p, missed):
        grown = np.where(p == 0, LONG(0), p * nll / missed)  # p log p = 0 where p is 0
        slope = missed**gamma * (1 + gamma * grown)
        return missed**gamma * nll, np.where(missed == 0, LONG(gamma == 0), slope)

    return _of_missed(logits, target, of, **options)


def poly_loss_cross_entropy(logits, target, *, epsilon=2.0, **options):
    epsilon = LONG(epsilon)
    return _of_missed(logits, target, lambda nll, p, missed: (nll + epsilon * missed, 1 + epsilon * p), **options)


def _only_at_targets(parts, target, axis):
    """No other entry has a slope: torch leaves 0 there even where it divides by a total weight of 0."""
    n_classes, rows = parts.slope.shape[axis], np.where(parts.counted.squeeze(axis), target, -1)
    return parts._replace(counted=np.moveaxis(np.arange(n_classes) == rows[..., None], -1, axis))


def nll_loss(log_probs, target, *, weight=None, ignore_index=-100, axis=-1):
    log_probs = np.moveaxis(exact(log_probs), axis, -1)
    wanted, divisors, counted = _target_distribution(log_probs.shape, target, weight, ignore_index, 0.0, axis)
    # Only the target's entry is read: a NaN elsewhere in the row does not matter.
    surprise = np.where(wanted == 0, LONG(0), -log_probs)
    parts = _row_terms(surprise, -wanted, wanted, divisors, counted, axis)
    return _only_at_targets(parts, target, axis)


def categorical_cross_entropy(probs, target, *, weight=None, ignore_index=-100, axis=-1):
    probs = np.moveaxis(exact(probs), axis, -1)
    wanted, divisors, counted = _target_distribution(probs.shape, target, weight, ignore_index, 0.0, axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(wanted == 0, LONG(0), -wanted / probs)
        parts = _row_terms(-np.log(probs), slope, wanted, divisors, counted, axis)
    return _only_at_targets(parts, target, axis) if np.ndim(target) < probs.ndim else parts


ROWWISE = {
    "cross_entropy": cross_entropy,
    "focal_loss": focal_loss,
    "poly_loss_cross_entropy": poly_loss_cross_entropy,
    "nll_loss": nll_loss,
    "categorical_cross_entropy": categorical_cross_entropy,
}


def _pointwise_terms(name, pred, target, *more, weight=None, **options):
    arrays = [exact(pred), exact(target), *(exact(array) for array in more)]
    if name == "gaussian_nll_loss" and arrays[0].ndim and arrays[2].shape == arrays[0].shape[:-1]:
        arrays[2] = arrays[2][..., None]
    if options.get("pos_weight") is not None:
        options["pos_weight"] = exact(options["pos_weight"])
    else:
        options.pop("pos_weight", None)
    factor = LONG(1) if weight is None else exact(weight)
    value, slope = POINTWISE[name](*arrays, **options)
    value, slope, factor = np.broadcast_arrays(value, slope, factor)
    # Binary losses divide by the number of elements, the regression losses by the sum of the weights.
    divisors = np.ones_like(factor) if name.startswith(("binary", "sigmoid")) else factor
    return Terms(factor * value, factor * slope, divisors, np.ones(value.shape, bool))


def terms(name, *arguments, **options):
    if name in ROWWISE:
        return ROWWISE[name](*arguments, **options)
    return _pointwise_terms(name, *arguments, **options)


# ------------------------------------------------------------------------------------ reduction, gradients


def _divide(a, b):
    """a / b, but NaN where b is 0 for any a: with label smoothing, torch adds 0/0 and x/0 there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b == 0, LONG("nan"), a / b)


def loss(name, *arguments, reduction="mean", axis=None, **options):
    """The result of the package's function `name` for these arguments, in extended precision."""
    if name in ROWWISE:
        options["axis"], axis = -1 if axis is None else axis, None
    parts = terms(name, *arguments, **options)
    if reduction == "none":
        return parts.each
    total = parts.each.sum(axis=axis)
    if reduction == "mean":
        total = _divide(total, parts.weights.sum(axis=axis))
    elif reduction == "batchmean":
        total = _divide(total, LONG(np.shape(arguments[0])[0]))
    return np.sqrt(total) if name == "rmse_loss" else total


def value_and_grad(name, *arguments, reduction="mean", **options):
    """The reduced loss and its derivative, in the shape of the first argument."""
    value = loss(name, *arguments, reduction=reduction, **options)
    parts = terms(name, *arguments, **options)
    if reduction == "mean":
        divisor = parts.weights.sum()
    else:
        divisor = LONG(np.shape(arguments[0])[0] if reduction == "batchmean" else 1)
    slope = np.where(parts.counted, _divide(parts.slope, divisor), LONG(0))
    if name == "rmse_loss":
        slope = _divide(slope, 2 * value)
    return value, _sum_to(slope, np.shape(arguments[0]))


def _sum_to(array, shape):
    """Undoes broadcasting: sums over the axes that `shape` lacks or has with length 1."""
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and array.shape[i] != 1)
    return array.sum(axis=stretched, keepdims=True)


# -------------------------------------------------------------------------- one pass scoring, linear heads


def score(logits, target, *, axis=-1, ignore_index=-100, **transform):
    """Per row: nll, lse, argmax, correct, and the target's rank (0: largest; ties: lower class first)."""
    rows = np.moveaxis(exact(logits), axis, -1)
    target = np.asarray(target)
    counted = target != ignore_index
    label = np.where(counted, target, 0).astype(np.int64)
    own = np.take_along_axis(rows, label[..., None], axis=-1)
    before = np.arange(rows.shape[-1]) < label[..., None]
    rank = ((rows > own) | ((rows == own) & before)).sum(axis=-1)
    best = rows.argmax(axis=-1)
    return {
        "nll": cross_entropy(logits, target, ignore_index=ignore_index, axis=axis, **transform).each,
        "lse": logsumexp(logits, axis=axis, **transform),
        "argmax": best,
        "correct": counted & (best == label),
        "rank": np.where(counted, rank, -1),
    }


def entropy(logits, *, axis=-1):
    """-sum p log p of each row: of terms that are not negative, relative to the maximum, so that nothing cancels."""
    rows = np.moveaxis(exact(logits), axis, -1)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        top, rest = _split(rows)
        powers = np.exp(rows - top)
        spread = np.where(powers > 0, (top - rows) * powers, LONG(0)).sum(axis=-1, keepdims=True)
        result = np.where(np.isfinite(top), np.log1p(rest) + spread / (1 + rest), LONG("nan"))
    return result.squeeze(-1)


def descending(logits, *, axis=-1):
    """All classes of each row (last axis) in descending order: NaN first, ties by lower class."""
    rows = np.moveaxis(np.asarray(exact(logits), np.float64), axis, -1)
    missing = np.isnan(rows)
    classes = np.broadcast_to(np.arange(rows.shape[-1]), rows.shape)
    return np.lexsort((classes, np.where(missing, 0.0, -rows), ~missing), axis=-1)


def linear_cross_entropy(hidden, linear_weight, target, *, linear_bias=None, reduction="mean", **options):
    logits = exact(hidden) @ exact(linear_weight).T
    if linear_bias is not None:
        logits = logits + exact(linear_bias)
    return loss("cross_entropy", logits, target, reduction=reduction, **options)
