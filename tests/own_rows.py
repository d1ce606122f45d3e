"""User-defined losses of rows, each with its reference in mpmath, for several test modules."""

from math import exp, expm1, log

import mpmath as mp
import numpy as np

import fastloss


def focal(nll, gamma):
    """Focal loss of several classes."""
    T = type(nll)
    miss = -expm1(-nll)
    return exp(gamma * log(miss)) * nll if miss > T(0.0) else T(0.0)


def with_z(nll, lse, z):
    return nll + z * lse * lse


def poly(p, epsilon, nll):
    T = type(nll)
    return nll + epsilon * (T(1.0) - p)


def hard(nll, p, lse, cut, slope):
    """Nonzero only for rows that are not predicted well yet, or have large logits."""
    T = type(nll)
    excess = max(lse - T(1.0), T(0.0))
    if p > cut:
        return slope * excess
    return nll * nll + slope * excess


def gap(lse, nll):
    return lse * nll


def other(lse, nll):
    return lse


IMPORTED = (exp, expm1, log)

CASES = {
    "focal": (
        lambda: fastloss.row_loss(focal, parameters={"gamma": (2.0, "[0, inf)")}),
        {"gamma": 1.5},
        lambda nll, lse, p, gamma: (1 - p) ** gamma * nll,
    ),
    "with_z": (
        lambda: fastloss.row_loss(with_z, parameters={"z": 1e-4}),
        {"z": 0.25},
        lambda nll, lse, p, z: nll + z * lse**2,
    ),
    "poly": (
        lambda: fastloss.row_loss(poly, parameters={"epsilon": 1.0}),
        {"epsilon": 2.0},
        lambda nll, lse, p, epsilon: nll + epsilon * (1 - p),
    ),
    "hard": (
        lambda: fastloss.row_loss(hard, parameters={"slope": 0.5, "cut": "[0, 1]"}),
        {"slope": 0.25, "cut": 0.3},
        lambda nll, lse, p, slope, cut: (0 if p > cut else nll**2) + slope * max(lse - 1, 0),
    ),
    "gap": (lambda: fastloss.row_loss(gap, {"nll": other}), {}, lambda nll, lse, p: lse * nll),
    "text": (
        lambda: fastloss.row_loss("def text(nll):\n    return nll"),
        {},
        lambda nll, lse, p: nll,
    ),
}


def operands(shape, axis, dtype, seed=0):
    """(logits, targets, some of them ignored, class weights)."""
    rng = np.random.default_rng(seed)
    x = (2.0 * rng.normal(size=shape)).astype(dtype)
    target = rng.integers(0, shape[axis], np.delete(shape, axis))
    target.reshape(-1)[1::4] = -100
    return x, target, rng.uniform(0.5, 2.0, shape[axis]).astype(dtype)


def exact(name, x, target, w, axis, options):
    """(weighted losses of rows, their gradients with respect to the logits, weights of rows), in float64."""
    of = CASES[name][2]
    rows, labels = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]), target.reshape(-1)
    losses, gradients, weights = np.zeros(len(rows)), np.zeros(rows.shape), np.zeros(len(rows))
    with mp.workdps(30):
        numbers = {key: mp.mpf(value) for key, value in options.items()}

        def loss(logits, label):
            lse = mp.log(mp.fsum(map(mp.exp, logits)))
            nll = lse - logits[label]
            return of(nll, lse, mp.exp(-nll), **numbers)

        for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
            if label == -100:
                continue
            weights[i] = 1.0 if w is None else w[label]
            logits, h = [mp.mpf(float(v)) for v in row], mp.mpf(10) ** -10
            losses[i] = weights[i] * float(loss(logits, label))
            for j in range(len(logits)):
                ends = [loss([v + step * (k == j) for k, v in enumerate(logits)], label) for step in (h, -h)]
                gradients[i, j] = weights[i] * float((ends[0] - ends[1]) / (2 * h))
    moved = np.moveaxis(gradients.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
    return losses.reshape(target.shape), moved, weights.reshape(target.shape)
