"""The pointwise half of the oracle: value and slope of each loss, in extended precision.

Each function takes prediction and target (and options) as ``np.longdouble`` arrays and returns the loss and
its derivative with respect to the prediction. ``reference.py`` applies weights and reduces them.
"""

import numpy as np

LONG = np.longdouble
PI = 4 * np.arctan(LONG(1))  # np.pi has the digits of a float64


def times(factor, value):
    """``factor * value``, but 0 if a factor of 0 meets infinity: 0 log 0 = 0.  NaN stays NaN."""
    factor, value = np.broadcast_arrays(factor, value)
    with np.errstate(invalid="ignore"):
        return np.where((factor == 0) & np.isinf(value), LONG(0), factor * value)


def _mse(x, y):
    return (x - y) ** 2, 2 * (x - y)


def _l1(x, y):
    return np.abs(x - y), np.sign(x - y)


def _huber(x, y, delta=1.0):
    d, delta = x - y, LONG(delta)
    value = np.where(np.abs(d) <= delta, d**2 / 2, delta * (np.abs(d) - delta / 2))
    return np.where(np.isnan(d), d, value), np.clip(d, -delta, delta)


def _smooth_l1(x, y, beta=1.0):
    if beta == 0:
        return _l1(x, y)
    value, slope = _huber(x, y, beta)
    return value / LONG(beta), slope / LONG(beta)


def _log_cosh(x, y):
    d = np.abs(x - y)
    with np.errstate(over="ignore", under="ignore"):
        near = np.log1p(2 * np.sinh(d / 2) ** 2)
        far = d + np.log1p(np.exp(-2 * d)) - np.log(LONG(2))
    return np.where(d < 20, near, far), np.tanh(x - y)


def _msle(x, y):
    d = np.log1p(x) - np.log1p(y)
    return d**2, 2 * d / (1 + x)


def _quantile(x, y, q=0.5):
    q, d = LONG(q), y - x
    return np.maximum(q * d, (q - 1) * d), np.where(d > 0, -q, np.where(d < 0, 1 - q, 0 * d))


def _charbonnier(x, y, eps=1e-3):
    d, eps = x - y, LONG(eps)
    root = np.hypot(d, eps)
    with np.errstate(invalid="ignore"):  # inf / inf
        return np.where(np.isinf(d), np.abs(d), np.abs(d) * (np.abs(d) / (root + eps))), d / root


def _mape(x, y, eps=2.0**-52):
    size = np.maximum(np.abs(y), LONG(eps))
    return np.abs(x - y) / size, np.sign(x - y) / size


def _smape(x, y, eps=2.0**-52):
    """The derivative of a quotient; `numpy.maximum` is differentiated on the side of the sum where both are equal."""
    d, both, eps = x - y, np.abs(x) + np.abs(y), LONG(eps)
    size = np.maximum(both, eps)
    alike = np.sign(x) * np.sign(y)
    # sign(d) size - |d| sign(x) is twice |y| for numbers of one sign, and 0 for others
    rest = np.where((both >= eps) & (x != 0), np.where(alike > 0, 2 * np.abs(y), LONG(0)), size)
    return 2 * np.abs(d) / size, 2 * np.sign(d) * rest / size**2


def _kinked(rest, slope):
    """max(rest, 0) and its slope; at the kink the slope is that of `rest`."""
    return np.maximum(rest, LONG(0)), np.where(rest >= 0, slope, np.where(rest < 0, LONG(0), rest))


def _hinge(x, y):
    return _kinked(1 - y * x, -y)


def _squared_hinge(x, y):
    rest = np.maximum(1 - y * x, LONG(0))
    return rest**2, -2 * y * rest


def _soft_margin(x, y):
    with np.errstate(over="ignore", under="ignore"):
        return np.logaddexp(LONG(0), -y * x), -y / (1 + np.exp(y * x))


def _hinge_embedding(x, y, margin=1.0):
    value, slope = _kinked(LONG(margin) - x, -np.ones_like(x))
    alike, apart = y != -1, y != 1
    value = np.where(apart, value, LONG(0)) + np.where(alike, x, LONG(0))
    return value, np.where(apart, slope, LONG(0)) + np.where(alike, LONG(1), LONG(0))


def _margin_ranking(x, other, y, margin=0.0):
    return _kinked(LONG(margin) - y * (x - other), -y)


def _divergence(x, y):
    """y log(y / x) - y + x; near x = y, where that cancels, by a series in their distance over their sum."""
    with np.errstate(divide="ignore", invalid="ignore"):
        s = (x - y) / (x + y)
        ratio = np.where(y == 0, LONG(1), y / x)
        plain = times(y, np.log(ratio)) - y + x
    near = np.abs(s) < 0.05
    z = np.where(near, s, LONG(0)) ** 2
    tail = LONG(0)
    for k in range(12, 0, -1):
        tail = tail * z + LONG(1) / (2 * k + 1)
    return np.where(near, (x + y) * z * (1 - (1 - s) * s * tail), plain)


def _generalized_kl(x, y):
    with np.errstate(divide="ignore", invalid="ignore"):
        return _divergence(x, y), np.where((y == 0) & (x == x), LONG(1), 1 - y / x)


def _poisson_deviance(x, y):
    value, slope = _generalized_kl(x, y)
    return 2 * value, 2 * slope


def _gamma_deviance(x, y):
    return 2 * _divergence(y, x) / x, 2 * (x - y) / x**2


def _tweedie(x, y, power=0.0):
    """The three terms; near x = y, where they cancel, twice the binomial series of the integral of (y - t) / t^p, in w
    = (y - x) / x."""
    if power in (0.0, 1.0, 2.0):
        return {0.0: _mse, 1.0: _poisson_deviance, 2.0: _gamma_deviance}[power](x, y)
    p = LONG(power)
    first = np.where(y > 0, np.abs(y) ** (2 - p), LONG(0)) / ((1 - p) * (2 - p))
    terms = first - y * x ** (1 - p) / (1 - p) + x ** (2 - p) / (2 - p)
    w = (y - x) / x
    near = np.abs(w) < 0.1
    small, series, coefficient = np.where(near, w, LONG(0)), LONG(0), LONG(1)
    for k in range(26):
        series = series + coefficient * small**k / ((k + 1) * (k + 2))
        coefficient = coefficient * (-p - k) / (k + 1)
    return 2 * np.where(near, x ** (2 - p) * small**2 * series, terms), 2 * (x - y) / x**p


def _poisson(x, y, log_input=True, full=False, eps=1e-8):
    if log_input:
        value, slope = np.exp(x) - y * x, np.exp(x) - y
    else:
        value, slope = x - y * np.log(x + LONG(eps)), 1 - y / (x + LONG(eps))
    if full:
        y1 = np.where(y > 1, y, LONG(1))
        stirling = y1 * np.log(y1) - y1 + np.log(2 * PI * y1) / 2
        value = value + np.where(y > 1, stirling, LONG(0))
    return value, slope


def _gaussian(x, y, var, full=False, eps=1e-6):
    var = np.maximum(var, LONG(eps))
    value = (np.log(var) + (x - y) ** 2 / var) / 2
    if full:
        value = value + np.log(2 * PI) / 2
    return value, (x - y) / var


def _kl_div(x, y, log_target=False):
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        if log_target:
            return times(np.exp(y), np.where(y == -np.inf, LONG(0), y - x)), -np.exp(y)
        value = times(y, np.log(np.where(y == 0, LONG(1), y))) - times(y, x)
        return np.where(y < 0, LONG("nan"), value), -y


def _bce(p, y):
    with np.errstate(divide="ignore", invalid="ignore"):
        yes, no = np.maximum(np.log(p), LONG(-100)), np.maximum(np.log1p(-p), LONG(-100))
    # The floor under p (1 - p) is torch's.
    return -(y * yes + (1 - y) * no), (p - y) / np.maximum(p * (1 - p), LONG(1e-12))


def _bce_with_logits(x, y, pos_weight=1):
    with np.errstate(over="ignore", under="ignore"):
        value = times(1 - y, np.logaddexp(LONG(0), x)) + times(y * pos_weight, np.logaddexp(LONG(0), -x))
        return value, (1 - y) / (1 + np.exp(-x)) - y * pos_weight / (1 + np.exp(x))


def _sigmoid_focal(x, y, alpha=0.25, gamma=2.0):
    alpha, gamma = LONG(alpha), LONG(gamma)
    weight = alpha * y + (1 - alpha) * (1 - y) if alpha >= 0 else LONG(1)
    with np.errstate(over="ignore", under="ignore"):
        up, down = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
        loss, slope = _bce_with_logits(x, y)
        missed = (1 - y) * up + y * down
        factor = weight * missed**gamma
        return loss * factor, factor * (slope + gamma * loss * (1 - 2 * y) * up * down / missed)


POINTWISE = {
    "mse_loss": _mse,
    "rmse_loss": _mse,  # the root is taken by `loss`, after the mean
    "l1_loss": _l1,
    "huber_loss": _huber,
    "smooth_l1_loss": _smooth_l1,
    "log_cosh_loss": _log_cosh,
    "msle_loss": _msle,
    "quantile_loss": _quantile,
    "charbonnier_loss": _charbonnier,
    "mape_loss": _mape,
    "smape_loss": _smape,
    "hinge_loss": _hinge,
    "squared_hinge_loss": _squared_hinge,
    "soft_margin_loss": _soft_margin,
    "hinge_embedding_loss": _hinge_embedding,
    "margin_ranking_loss": _margin_ranking,
    "poisson_nll_loss": _poisson,
    "gaussian_nll_loss": _gaussian,
    "poisson_deviance_loss": _poisson_deviance,
    "gamma_deviance_loss": _gamma_deviance,
    "tweedie_deviance_loss": _tweedie,
    "kl_div": _kl_div,
    "generalized_kl_div": _generalized_kl,
    "binary_cross_entropy": _bce,
    "binary_cross_entropy_with_logits": _bce_with_logits,
    "sigmoid_focal_loss": _sigmoid_focal,
}
