"""Cases from other libraries' own tests, with the values that they expect; those libraries need not be installed.

Each case has the name of the file and the test that it comes from.
"""

import numpy as np
import pytest

import fastloss as fl
from fastloss import value_and_grad

F, D = np.float32, np.float64
INF = np.inf
LOG2, LOG4 = np.log(2.0), np.log(4.0)
EACH = {"reduction": "none"}

# --- optax/losses/_classification_test.py and _regression_test.py ---------------------------------------------------------

_LOGITS = F([[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]])
_WITH_IMPOSSIBLE = F([*_LOGITS, [-INF, 0, 0], [-INF, 0, 0], [-INF, 0, -INF]])
_DISTRIBUTIONS = F([[0, 1, 0], [1, 0, 0], [0, 0.5, 0.5], [0.4, 0.3, 0.3], [0, 1, 0]])
_LOG_P = D(
    [[-2.9957, -3.5066, -3.9120, -1.2040, -0.6931, -2.3026], [-1.6094, -1.6094, -1.6094, -2.3026, -1.8971, -1.8971]]
)
_Q = D([[0.2, 0.2, 0.2, 0.1, 0.15, 0.15], [0.05, 0.03, 0.02, 0.3, 0.5, 0.0]])
_FIVE = D([500, -2.0, -1.0, 0.5, 1.0]), D([-200, -1.5, 0.0, -1, 1.0])
_SEVEN = D([-2.0, 0.5, 0.0, 0.5, 2.0, 4.0, 132.0]), D([0.0, -0.5, 0.0, 1.0, 1.0, 2.0, 0.3])

OPTAX = {
    "SoftmaxCrossEntropy": (lambda: fl.cross_entropy(_LOGITS, _DISTRIBUTIONS[:2], **EACH), [9.00013, 3.0696733], 1e-4),
    "SafeSoftmaxCrossEntropy": (
        lambda: fl.cross_entropy(_WITH_IMPOSSIBLE, _DISTRIBUTIONS, **EACH),
        [9.00013, 3.0696733, 0.693147, INF, 0.0],
        1e-4,
    ),
    "SoftmaxCrossEntropyWithIntegerLabels": (
        lambda: fl.cross_entropy(_LOGITS, np.int32([1, 0]), **EACH),
        [9.00013, 3.0696733],
        1e-4,
    ),
    "KLDivergence": (lambda: fl.kl_div(_LOG_P, _Q, **EACH).sum(1), [0.8875577, 0.7592807], 1e-4),
    "KLDivergenceWithLogTargets": (
        lambda: fl.kl_div(_LOG_P, _LOG_P[::-1], log_target=True, **EACH).sum(1),
        [0.8875625, 0.7187435584901326],
        1e-4,
    ),
    "Hinge": (lambda: fl.hinge_loss(D([10, 20]), D([1, -1]), **EACH), [0.0, 21.0], 1e-4),
    "SquaredError": (
        lambda: fl.mse_loss(D([-2.0, -1.0, 0.5, 1.0]), D([-1.5, 0.0, -1, 1.0]), **EACH),
        [0.25, 1.0, 2.25, 0.0],
        0.0,
    ),
    "HuberLoss": (lambda: fl.huber_loss(*_SEVEN, **EACH), [1.5, 0.5, 0.0, 0.125, 0.5, 1.5, 131.2], 1e-12),
    "LogCosh": (
        lambda: fl.log_cosh_loss(*_FIVE, **EACH),
        [699.3068, 0.12011445, 0.4337809, 0.85544014, 0.0],
        1e-4,  # they give four decimals
    ),
    "LogCosh, predictions only": (
        lambda: fl.log_cosh_loss(_FIVE[0], 0.0, **EACH),
        [499.30685, 1.3250027, 0.4337809, 0.12011451, 0.43378082],
        1e-5,
    ),
}
for _logits, _labels, _mean in (
    ([-1e9, -1e-9], [1, 0], 5e8),
    ([-1e9, -1e-9], [0, 1], 0.3465736),
    ([1e9, 1e-9], [1, 0], 0.3465736),
    ([1e9, 1e-9], [0, 1], 5e8),
    ([-1e9, 1e-9], [1, 0], 5e8),
    ([-1e9, 1e-9], [0, 1], 0.3465736),
    ([1e9, -1e-9], [1, 0], 0.3465736),
    ([1e9, -1e-9], [0, 1], 5e8),
    ([0.0, 0.0], [1, 0], 0.6931472),
    ([0.0, 0.0], [0, 1], 0.6931472),
):
    OPTAX[f"SigmoidCrossEntropy {_logits} {_labels}"] = (
        lambda x=_logits, y=_labels: fl.binary_cross_entropy_with_logits(D(x), D(y)),
        _mean,
        1e-6 * max(1.0, _mean),
    )

# --- sklearn/_loss/tests/test_loss.py: test_loss_on_specific_values -------------------------------------------------------

# Name, target, prediction, value, slope where one is given; a relative error of 1e-15 or an absolute one is allowed there.
_POINTS = [
    ("l1_loss", {}, 1, 5, 4, 1),
    ("quantile_loss", {"q": 0.5}, 1, 5, 2, 0.5),
    ("quantile_loss", {"q": 0.25}, 1, 5, 4 * 0.75, 0.75),
    ("quantile_loss", {"q": 0.25}, 5, 1, 4 * 0.25, -0.25),
    ("huber_loss", {"delta": 3}, 1, 5, 3 * (4 - 3 / 2), None),
    ("huber_loss", {"delta": 3}, 1, 3, 2, None),
    ("poisson_nll_loss", {}, 2, LOG4, 4 - 2 * LOG4, 4 - 2),
    ("tweedie_deviance_loss", {"power": 1}, 2, 4, 2 * (2 - 2 * LOG2), None),
    ("tweedie_deviance_loss", {"power": 2}, 2, 4, 2 * (LOG2 - 0.5), None),
    ("tweedie_deviance_loss", {"power": 3}, 2, 4, 2 / 16, None),
    ("binary_cross_entropy_with_logits", {}, 0.25, LOG4, np.log1p(4.0) - 0.25 * LOG4, None),
    ("binary_cross_entropy_with_logits", {}, 0, -1e20, 0, 0),
    ("binary_cross_entropy_with_logits", {}, 1, -1e20, 1e20, -1),
    ("binary_cross_entropy_with_logits", {}, 0, -1e3, 0, 0),
    ("binary_cross_entropy_with_logits", {}, 1, -1e3, 1e3, -1),
    ("binary_cross_entropy_with_logits", {}, 1, -37.5, 37.5, -1),
    ("binary_cross_entropy_with_logits", {}, 1, -37, 37, 1e-16 - 1),
    ("binary_cross_entropy_with_logits", {}, 0, -37, 8.533047625744065e-17, 8.533047625744065e-17),
    ("binary_cross_entropy_with_logits", {}, 1, -36.9, 36.9, 1e-16 - 1),
    ("binary_cross_entropy_with_logits", {}, 0, -36.9, 9.430476078526806e-17, 9.430476078526806e-17),
    ("binary_cross_entropy_with_logits", {}, 0, 37, 37, 1 - 1e-16),
    ("binary_cross_entropy_with_logits", {}, 1, 37, 8.533047625744066e-17, -8.533047625744066e-17),
    ("binary_cross_entropy_with_logits", {}, 0, 37.5, 37.5, 1),
    ("binary_cross_entropy_with_logits", {}, 0, 232.8, 232.8, 1),
    ("binary_cross_entropy_with_logits", {}, 1, 232.8, 1.4287342391028437e-101, -1.4287342391028437e-101),
    ("binary_cross_entropy_with_logits", {}, 1, 1e20, 0, 0),
    ("binary_cross_entropy_with_logits", {}, 0, 1e20, 1e20, 1),
    ("binary_cross_entropy_with_logits", {}, 1, 1e3, 0, 0),
    ("binary_cross_entropy_with_logits", {}, 0, 1e3, 1e3, 1),
]
_THREE = D([[0.2, 0.5, 0.3]])
_LSE = np.log(np.sum(np.exp(_THREE)))

# --- sklearn/metrics/tests/test_classification.py and test_regression.py ----------------------------------------------------

_YES = D([[0.5, 0.5], [0.1, 0.9], [0.01, 0.99], [0.9, 0.1], [0.75, 0.25], [0.001, 0.999]])
_THREE_ROWS = D([[0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.6, 0.1, 0.3]])
_EVENTS = D([0.1, 0.8, 0.9, 0.3, 1.0, 0.95]), [0, 1, 1, 0, 1, 1]
_DECISIONS = D([-8.5, 0.5, 1.5, -0.3]), D([-1, 1, 1, -1])
_N = 50
_ONWARDS = np.arange(_N, dtype=D)
_COUNTED = np.arange(1, _N + 1, dtype=D)
_OUTPUTS = D([[0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 0, 1]]), D([[1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 0, 1]])

SKLEARN = {
    "log_loss, two classes": (lambda: fl.categorical_cross_entropy(_YES, [0, 0, 0, 1, 1, 1]), 1.8817971, 1e-7),
    "log_loss, event": (
        lambda: fl.binary_cross_entropy(_YES[:, 1], D([0, 0, 0, 1, 1, 1])),
        1.8817971,
        1e-7,
    ),
    "log_loss": (lambda: fl.categorical_cross_entropy(_THREE_ROWS, [1, 0, 2]), 0.6904911, 1e-7),
    "log_loss, sum": (
        lambda: fl.nll_loss(np.log(np.tile(_THREE_ROWS, (2, 1))), [1, 0, 2, 1, 0, 2], reduction="sum"),
        0.6904911 * 6,
        1e-6,
    ),
    "log_loss, perfect": (lambda: fl.binary_cross_entropy(F([0, 1, 1, 0]), F([0, 1, 1, 0])), 0.0, 0.0),
    "brier_score": (lambda: fl.brier_score(*_EVENTS), 0.1525 / 6, 1e-15),
    "brier_score, perfect": (lambda: fl.brier_score(D([0, 1, 1, 0]), [0, 1, 1, 0]), 0.0, 0.0),
    "hinge_loss": (lambda: fl.hinge_loss(*_DECISIONS), 1.2 / 4, 1e-15),
    "mean_squared_error": (lambda: fl.mse_loss(_ONWARDS + 1, _ONWARDS), 1.0, 0.0),
    "mean_squared_log_error": (
        lambda: fl.msle_loss(_ONWARDS + 1, _ONWARDS),
        np.mean((np.log(_ONWARDS + 2) - np.log(_ONWARDS + 1)) ** 2),
        1e-15,
    ),
    "mean_absolute_error": (lambda: fl.l1_loss(_ONWARDS + 1, _ONWARDS), 1.0, 0.0),
    "mean_pinball_loss": (lambda: fl.quantile_loss(_ONWARDS + 1, _ONWARDS), 0.5, 0.0),
    "mean_pinball_loss, 0.4, above": (lambda: fl.quantile_loss(_ONWARDS + 1, _ONWARDS, q=0.4), 0.6, 1e-15),
    "mean_pinball_loss, 0.4, below": (lambda: fl.quantile_loss(_ONWARDS - 1, _ONWARDS, q=0.4), 0.4, 1e-15),
    "tweedie -1": (
        lambda: fl.tweedie_deviance_loss(2 * _COUNTED, _COUNTED, power=-1),
        5 / 12 * _N * (_N**2 + 2 * _N + 1),
        1e-9,
    ),
    "tweedie 0": (lambda: fl.tweedie_deviance_loss(_ONWARDS + 1, _ONWARDS, power=0), 1.0, 0.0),
    "tweedie 1": (lambda: fl.tweedie_deviance_loss(2 * _COUNTED, _COUNTED, power=1), (_N + 1) * (1 - LOG2), 1e-13),
    "tweedie 3/2": (
        lambda: fl.tweedie_deviance_loss(2 * _COUNTED, _COUNTED, power=1.5),
        (6 * np.sqrt(2) - 8) / _N * np.sum(np.sqrt(_COUNTED)),
        1e-13,
    ),
    "tweedie 2": (lambda: fl.tweedie_deviance_loss(2 * _COUNTED, _COUNTED, power=2), 2 * LOG2 - 1, 1e-15),
    "tweedie 3": (
        lambda: fl.tweedie_deviance_loss(2 * _COUNTED, _COUNTED, power=3),
        np.sum(1 / _COUNTED) / (4 * _N),
        1e-15,
    ),
    "tweedie, targets of 0, -1.2": (lambda: fl.tweedie_deviance_loss(D([1]), D([0]), power=-1.2), 2 / 3.2, 1e-15),
    "tweedie, targets of 0, 1.5": (lambda: fl.tweedie_deviance_loss(D([1]), D([0]), power=1.5), 4.0, 1e-15),
    "tweedie, perfect, 3": (lambda: fl.tweedie_deviance_loss(D([1]), D([1]), power=3), 0.0, 0.0),
    "outputs, squared": (lambda: fl.mse_loss(*_OUTPUTS, axis=0), [1.0, 2 / 3, 0.0, 0.0], 1e-15),
    "outputs, pinball": (lambda: fl.quantile_loss(*_OUTPUTS, axis=0), [0.5, 1 / 3, 0.0, 0.0], 1e-15),
    "HalfMultinomial": (
        lambda: [fl.cross_entropy(_THREE, [label]) for label in range(3)],
        (_LSE - _THREE)[0],
        1e-15,
    ),
    "HalfMultinomial, far apart": (lambda: fl.cross_entropy(D([[1e4, 0, 7e-7]]), [2]), 1e4 - 7e-7, 0.0),
}

# --- scipy/special/tests/test_logsumexp.py and test_log_softmax.py ----------------------------------------------------------

_SOFTMAX = D([0.03205860328008499, 0.08714431874203256, 0.23688281808991013, 0.6439142598879722])
_LOG_SOFTMAX = D([-3.4401896985611953, -2.4401896985611953, -1.4401896985611953, -0.44018969856119533])

SCIPY = {
    "logsumexp": (lambda: fl.logsumexp(np.arange(200.0)), 199.4586751453871, 1e-12),
    "logsumexp, two large": (lambda: fl.logsumexp(D([1000, 1000])), 1000 + LOG2, 1e-12),
    "logsumexp, many large": (lambda: fl.logsumexp(np.full(1000, 10000.0)), 10000 + np.log(1000), 1e-11),
    "logsumexp, infinities": (lambda: fl.logsumexp(D([[INF, -INF], [-INF, -INF], [INF, INF]])), [INF, -INF, INF], 0.0),
    "logsumexp, NaN": (lambda: fl.logsumexp(D([np.nan, INF])), np.nan, 0.0),
    "softmax, far apart": (lambda: fl.softmax(D([1000, 0, 0, 0])), [1.0, 0, 0, 0], 0.0),
    "softmax, two large": (lambda: fl.softmax(D([1000, 1000])), [0.5, 0.5], 0.0),
    "softmax, two": (lambda: fl.softmax(D([0, 1])), D([1, np.e]) / (1 + np.e), 1e-15),
    "softmax": (lambda: fl.softmax(np.arange(4.0)), _SOFTMAX, 1e-15),
    "softmax, shifted": (lambda: fl.softmax(np.arange(4.0) + 100), _SOFTMAX, 1e-15),
    "softmax along an axis": (lambda: fl.softmax(np.arange(4.0)[:, None] * [[1, 1]], axis=0)[:, 1], _SOFTMAX, 1e-15),
    "log_softmax, far apart": (lambda: fl.log_softmax(D([1000, 1])), [0.0, -999.0], 0.0),
    "log_softmax": (lambda: fl.log_softmax(np.arange(4.0)), _LOG_SOFTMAX, 1e-14),
    "log_softmax, shifted": (lambda: fl.log_softmax(np.arange(4.0) + 100), _LOG_SOFTMAX, 1e-12),
}

CASES = {
    f"{library}: {name}": case
    for library, cases in (("optax", OPTAX), ("scikit-learn", SKLEARN), ("SciPy", SCIPY))
    for name, case in cases.items()
}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", CASES)
def test_case(name):
    call, expected, atol = CASES[name]
    np.testing.assert_allclose(call(), expected, rtol=0, atol=atol)


@pytest.mark.any_backend
@pytest.mark.parametrize("name, options, target, prediction, value, slope", _POINTS)
def test_scikit_learn_on_specific_values(name, options, target, prediction, value, slope):
    got, gradient = value_and_grad(getattr(fl, name))(D([prediction]), D([target]), **options)
    assert got == pytest.approx(value, rel=1e-15, abs=1e-15)
    if slope is not None:
        assert gradient[0] == pytest.approx(slope, rel=1e-15, abs=1e-15)


@pytest.mark.any_backend
def test_scikit_learn_tweedie_continuity():
    """test_tweedie_deviance_continuity: just beside a power that has a formula of its own."""
    rng = np.random.default_rng(3)
    target, pred = rng.random(100) + 0.1, rng.random(100) + 0.1
    for power, beside in ((0, -1e-10), (1, 1 + 1e-10), (2, 2 - 1e-10), (2, 2 + 1e-10)):
        got = fl.tweedie_deviance_loss(pred, target, power=beside)
        np.testing.assert_allclose(got, fl.tweedie_deviance_loss(pred, target, power=power), rtol=1e-8)
