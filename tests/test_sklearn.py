"""The same numbers as scikit-learn's metrics and SciPy's functions, for the oracle and the package."""

import numpy as np
import pytest
from cases import generator
from subjects import for_oracle_and_package

metrics = pytest.importorskip("sklearn.metrics")
special = pytest.importorskip("scipy.special")
pytestmark = [for_oracle_and_package, pytest.mark.any_backend]


def equal(got, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=rtol, atol=atol)


def regression(*shape):
    return generator("regression", shape).uniform(0.1, 4, (2, *shape))


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss(subject, weighted):
    rng = generator("log_loss")
    probs = rng.dirichlet(np.ones(6), 60)
    target = rng.integers(0, 6, 60)
    # scikit-learn weighs samples; with weights that depend on the class these are class weights.
    weight = rng.uniform(0.5, 2, 6) if weighted else None
    sample_weight = weight[target] if weighted else None
    expected = metrics.log_loss(target, probs, labels=range(6), sample_weight=sample_weight)
    equal(subject.call("categorical_cross_entropy", probs, target, weight=weight), expected)
    equal(subject.call("nll_loss", np.log(probs), target, weight=weight), expected)
    equal(subject.call("cross_entropy", np.log(probs) + 3, target, weight=weight), expected)
    expected = metrics.log_loss(target, probs, labels=range(6), normalize=False)
    equal(subject.call("categorical_cross_entropy", probs, target, reduction="sum"), expected)


def test_binary_log_loss(subject):
    rng = generator("binary")
    probs, target = rng.uniform(0.01, 0.99, 50), rng.integers(0, 2, 50)
    expected = metrics.log_loss(target, probs)
    equal(subject.call("binary_cross_entropy", probs, target.astype(np.float64)), expected)
    equal(subject.call("binary_cross_entropy_with_logits", special.logit(probs), target * 1.0), expected)


POINTWISE = [
    ("mse_loss", "mean_squared_error", {}, {}),
    ("rmse_loss", "root_mean_squared_error", {}, {}),
    ("l1_loss", "mean_absolute_error", {}, {}),
    ("msle_loss", "mean_squared_log_error", {}, {}),
    ("mape_loss", "mean_absolute_percentage_error", {}, {}),
    ("quantile_loss", "mean_pinball_loss", {"q": 0.5}, {"alpha": 0.5}),
    ("quantile_loss", "mean_pinball_loss", {"q": 0.1}, {"alpha": 0.1}),
    ("quantile_loss", "mean_pinball_loss", {"q": 1.0}, {"alpha": 1.0}),
]


@pytest.mark.parametrize("name, metric, options, their_options", POINTWISE)
def test_regression(subject, name, metric, options, their_options):
    metric = getattr(metrics, metric)
    pred, target = regression(40)
    equal(subject.call(name, pred, target, **options), metric(target, pred, **their_options))
    weight = generator("sample weight").uniform(0, 2, 40)
    expected = metric(target, pred, sample_weight=weight, **their_options)
    equal(subject.call(name, pred, target, weight=weight, **options), expected)

    pred, target = regression(40, 3)
    expected = metric(target, pred, multioutput="raw_values", **their_options)
    equal(subject.call(name, pred, target, axis=0, **options), expected)
    expected = metric(target, pred, multioutput="raw_values", sample_weight=weight, **their_options)
    equal(subject.call(name, pred, target, axis=0, weight=weight[:, None], **options), expected)


def test_mape_of_targets_of_0(subject):
    """An eps of the targets' size, as scikit-learn has it."""
    pred, target = np.array([1e-20, 0.0, 1e-300]), np.array([0.0, 0.0, 1e-17])
    equal(subject.call("mape_loss", pred, target), metrics.mean_absolute_percentage_error(target, pred))


@pytest.mark.parametrize("weighted", [False, True])
def test_hinge(subject, weighted):
    rng = generator("hinge")
    scores, target = rng.normal(0, 2, 50), rng.choice([-1, 1], 50)
    weight = rng.uniform(0, 2, 50) if weighted else None
    expected = metrics.hinge_loss(target, scores, sample_weight=weight)
    equal(subject.call("hinge_loss", scores, target.astype(np.float64), weight=weight), expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("power", [-2.0, -0.5, 0.0, 1.0, 1.001, 1.25, 1.9, 2.0, 2.001, 2.5, 3.0])
def test_tweedie_deviances(subject, power, weighted):
    pred, target = regression(40)
    if power < 2 and power:
        target[:5] = 0.0
    if power <= 0:
        target[5:10] *= -1
    weight = generator("sample weight").uniform(0, 2, 40) if weighted else None
    expected = metrics.mean_tweedie_deviance(target, pred, sample_weight=weight, power=power)
    # theirs subtracts terms, which are the larger the nearer the power is to 1 or 2
    rtol = 1e-9 if power in (1.001, 2.001) else 1e-12
    equal(subject.call("tweedie_deviance_loss", pred, target, weight=weight, power=power), expected, rtol=rtol)
    name = {1.0: "poisson", 2.0: "gamma"}.get(power)
    if name:
        expected = getattr(metrics, f"mean_{name}_deviance")(target, pred, sample_weight=weight)
        equal(subject.call(f"{name}_deviance_loss", pred, target, weight=weight), expected)


def test_generalized_kl(subject):
    pred, target = regression(40)
    target[:5] = 0.0
    got = subject.call("generalized_kl_div", pred, target, reduction="none")
    equal(got, special.kl_div(target, pred), rtol=1e-10, atol=1e-15)  # theirs cancels


def test_poisson_deviance(subject):
    """Half of scikit-learn's deviance is the loss without what depends on the target alone."""
    pred, target = regression(40)
    deviance = metrics.mean_poisson_deviance(target, pred)
    constant = np.mean(special.xlogy(target, target) - target)
    got = subject.call("poisson_nll_loss", pred, target, log_input=False, eps=0.0)
    equal(2 * (float(got) + constant), deviance, rtol=1e-10)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
def test_scipy_softmax_functions(subject, name, axis):
    x = generator(name).normal(0, 5, (4, 5, 6))
    # SciPy subtracts two numbers near 10 for a logarithm near 0.
    equal(subject.call(name, x, axis=axis), getattr(special, name)(x, axis=axis), atol=1e-14)


def test_scipy_pointwise_functions(subject):
    pred, target = regression(200)
    equal(
        subject.call("huber_loss", pred, target, delta=0.8, reduction="none"),
        special.huber(0.8, pred - target),
    )
    expected = special.rel_entr(target, pred)
    equal(subject.call("kl_div", np.log(pred), target, reduction="none"), expected, rtol=1e-11)
    zeros = np.zeros(200)
    expected = special.log1p(np.exp(-np.abs(pred))) + np.maximum(-pred, 0)
    equal(subject.call("binary_cross_entropy_with_logits", pred, zeros + 1, reduction="none"), expected)
