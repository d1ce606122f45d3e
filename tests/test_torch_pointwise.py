"""The regression and binary losses against torch in float64; see test_torch.py."""

import numpy as np
import pytest
from cases import DOMAINS, generator
from subjects import for_oracle_and_package
from torch_peer import F, equal, tensor, torch, torch_value_and_grad

pytestmark = [
    for_oracle_and_package,
    pytest.mark.one_backend,
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),  # torch, on kl_div
]


# ----------------------------------------------------------------------------- regression and binary losses

# loss, its options here, domains of its arguments, and torch's function
POINTWISE = [
    ("mse_loss", {}, "real real", F.mse_loss),
    ("l1_loss", {}, "real real", F.l1_loss),
    ("huber_loss", {"delta": 1.0}, "real real", F.huber_loss),
    ("huber_loss", {"delta": 0.3}, "real real", F.huber_loss),
    ("smooth_l1_loss", {"beta": 1.0}, "real real", F.smooth_l1_loss),
    ("smooth_l1_loss", {"beta": 0.3}, "real real", F.smooth_l1_loss),
    ("smooth_l1_loss", {"beta": 0.0}, "real real", F.smooth_l1_loss),
    ("poisson_nll_loss", {}, "real positive", F.poisson_nll_loss),
    ("poisson_nll_loss", {"full": True}, "real positive", F.poisson_nll_loss),
    ("poisson_nll_loss", {"log_input": False}, "positive positive", F.poisson_nll_loss),
    ("poisson_nll_loss", {"log_input": False, "eps": 0.1}, "positive positive", F.poisson_nll_loss),
    ("gaussian_nll_loss", {}, "real real positive", F.gaussian_nll_loss),
    ("gaussian_nll_loss", {"full": True, "eps": 1.0}, "real real positive", F.gaussian_nll_loss),
    ("soft_margin_loss", {}, "real sign", F.soft_margin_loss),
    ("hinge_embedding_loss", {}, "real sign", F.hinge_embedding_loss),
    ("hinge_embedding_loss", {"margin": 0.3}, "real sign", F.hinge_embedding_loss),
    ("margin_ranking_loss", {}, "real real sign", F.margin_ranking_loss),
    ("margin_ranking_loss", {"margin": 0.7}, "real real sign", F.margin_ranking_loss),
    ("kl_div", {}, "log_probability probability", F.kl_div),
    ("kl_div", {"log_target": True}, "log_probability log_probability", F.kl_div),
    ("binary_cross_entropy", {}, "probability probability", F.binary_cross_entropy),
    ("binary_cross_entropy_with_logits", {}, "real probability", F.binary_cross_entropy_with_logits),
]


def draw(domains, shape, *seed):
    return [DOMAINS[domain][0](generator(*seed, i), shape) for i, domain in enumerate(domains.split())]


ALL = ("none", "mean", "sum")


def compare_pointwise(subject, name, function, arguments, options, torch_options, reductions=ALL):
    for reduction in reductions:
        value, gradient = torch_value_and_grad(function, *arguments, reduction=reduction, **torch_options)
        equal(subject.call(name, *arguments, reduction=reduction, **options), value, f"reduction={reduction}")
        if reduction != "none":
            got, slope = subject.value_and_grad(name, *arguments, reduction=reduction, **options)
            equal(got, value, f"value with gradient, reduction={reduction}")
            equal(slope, gradient, f"gradient, reduction={reduction}", atol=1e-15)


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 2), (0,), (0, 3)])
@pytest.mark.parametrize("name, options, domains, function", POINTWISE)
def test_pointwise(subject, name, options, domains, function, shape):
    reductions = ALL
    if name == "kl_div" and shape and shape[0]:  # "batchmean" divides by the length of the first axis
        reductions += ("batchmean",)
    compare_pointwise(subject, name, function, draw(domains, shape, name), options, options, reductions)


@pytest.mark.parametrize("zero", [False, True], ids=["weights", "all-zero"])
@pytest.mark.parametrize("function", [F.mse_loss, F.l1_loss, F.huber_loss], ids=lambda f: f.__name__)
def test_weighted_regression(subject, function, zero):
    name = function.__name__
    arguments = draw("real real", (3, 4), name)
    weight = np.zeros((3, 4)) if zero else generator("weight").uniform(0, 2, (3, 4))
    # Huber's weighted mean is the contract's own: torch divides by the number of elements there.
    reductions = ("none", "sum") if name == "huber_loss" else ALL
    compare_pointwise(subject, name, function, arguments, {"weight": weight}, {"weight": tensor(weight)}, reductions)


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 1), (1,), ()])
@pytest.mark.parametrize(
    "name, option",
    [
        ("binary_cross_entropy", "weight"),
        ("binary_cross_entropy_with_logits", "weight"),
        ("binary_cross_entropy_with_logits", "pos_weight"),
    ],
)
def test_weighted_binary(subject, name, option, shape):
    arguments = draw("probability probability", (3, 4), name)
    weight = np.asarray(generator(option).uniform(0, 2, shape))
    compare_pointwise(subject, name, getattr(F, name), arguments, {option: weight}, {option: tensor(weight)})


def test_weight_and_pos_weight_together(subject):
    arguments = draw("real probability", (3, 4), "both")
    options = {"weight": np.array([[0.5], [2.0], [0.0]]), "pos_weight": np.array([1.0, 3.0, 0.5, 0.0])}
    compare_pointwise(
        subject,
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        arguments,
        options,
        {key: tensor(value) for key, value in options.items()},
    )


def test_binary_cross_entropy_at_the_ends(subject):
    """The clamp of the logarithm at -100, and the floor under p (1 - p) in its slope."""
    probs = np.array([0.0, 0.0, 1.0, 1.0, 1e-300, 1e-13, 0.0, 1.0])
    target = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    value, gradient = torch_value_and_grad(F.binary_cross_entropy, probs, target)
    got, slope = subject.value_and_grad("binary_cross_entropy", probs, target)
    equal(got, value, "value")
    equal(slope, gradient, "gradient", rtol=1e-8)  # torch's floor is 1e-12 in single precision


@pytest.mark.parametrize("shapes", [[(3, 4), (3,)], [(3, 3), (3,)], [(3, 4), (3, 1)], [(2, 3, 4), (2, 3)]])
def test_gaussian_variance_per_row(subject, shapes):
    pred_shape, var_shape = shapes
    pred, target = draw("real real", pred_shape, "gaussian")
    var = np.asarray(generator("var").uniform(0.1, 2, var_shape))
    compare_pointwise(subject, "gaussian_nll_loss", F.gaussian_nll_loss, [pred, target, var], {}, {})


def test_gaussian_variance_is_clamped(subject):
    pred, target = draw("real real", (4,), "gaussian")
    var = np.array([0.0, 1e-9, 1e-6, 1.0])
    compare_pointwise(subject, "gaussian_nll_loss", F.gaussian_nll_loss, [pred, target, var], {}, {})


def test_poisson_stirling_only_above_one(subject):
    arguments = [np.zeros(5), np.array([0.0, 0.5, 1.0, 1.5, 30.0])]
    options = {"full": True}
    compare_pointwise(subject, "poisson_nll_loss", F.poisson_nll_loss, arguments, options, options)


# Where margins end, targets that are neither 1 nor -1, and zeros: (prediction, target).
KINKS = (np.array([1.0, -1.0, 0.0, -0.0, 2.0, 0.5]), np.array([1.0, -1.0, 1.0, -1.0, 0.0, 2.0]))


def test_margins_at_the_kink(subject):
    """torch's clamp lets a gradient through where it begins."""
    x, y = np.repeat(KINKS[0], 6), np.tile(KINKS[1], 6)
    compare_pointwise(subject, "hinge_embedding_loss", F.hinge_embedding_loss, [x, y], {}, {})
    compare_pointwise(subject, "soft_margin_loss", F.soft_margin_loss, [x, y], {}, {})
    options = {"margin": 0.5}
    arguments = [x, np.repeat(KINKS[0][::-1], 6), y]
    compare_pointwise(subject, "margin_ranking_loss", F.margin_ranking_loss, arguments, options, options)

    def hinge(x, y, *, reduction):
        return reduced((1 - y * x).clamp_min(0), reduction)

    def squared_hinge(x, y, *, reduction):
        return reduced((1 - y * x).clamp_min(0) ** 2, reduction)

    compare_pointwise(subject, "hinge_loss", hinge, [x, y], {}, {})
    compare_pointwise(subject, "squared_hinge_loss", squared_hinge, [x, y], {}, {})


def reduced(each, reduction):
    return each if reduction == "none" else getattr(each, reduction)()


def test_what_torch_has_no_function_of(subject):
    """Its autograd of the definitions, equal operands, zeros and other signs among them."""
    x = np.concatenate([generator("x").normal(0, 2, 40), [0.0, -0.0, 0.0, 1.0, 2.0, -2.0, 1e-20]])
    y = np.concatenate([generator("y").normal(0, 2, 40), [0.0, 0.0, 2.0, 0.0, 2.0, -2.0, -1e-20]])

    def charbonnier(x, y, *, reduction, eps=1e-3):
        return reduced((x - y) ** 2 / (((x - y) ** 2 + eps**2).sqrt() + eps), reduction)  # where nothing cancels

    def mape(x, y, *, reduction, eps=2.0**-52):
        return reduced((x - y).abs() / y.abs().clamp_min(eps), reduction)

    def smape(x, y, *, reduction, eps=2.0**-52):
        return reduced(2 * (x - y).abs() / (x.abs() + y.abs()).clamp_min(eps), reduction)

    for options in ({}, {"eps": 0.5}):
        arguments = [x, y]
        compare_pointwise(subject, "mape_loss", mape, arguments, options, options)
        compare_pointwise(subject, "smape_loss", smape, arguments, options, options)
    compare_pointwise(subject, "charbonnier_loss", charbonnier, [x[:40], y[:40]], {"eps": 0.5}, {"eps": 0.5})


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize(
    "options", [{}, {"alpha": -1.0}, {"alpha": 0.6, "gamma": 0.0}, {"alpha": 1.0, "gamma": 3.5}], ids=str
)
def test_sigmoid_focal(subject, soft, options):
    """torchvision.ops.sigmoid_focal_loss, its text."""

    def focal(x, y, *, reduction, alpha=0.25, gamma=2.0):
        p = torch.sigmoid(x)
        loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        p_t = p * y + (1 - p) * (1 - y)
        loss = loss * (1 - p_t) ** gamma
        if alpha >= 0:
            loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
        return reduced(loss, reduction)

    x, y = draw("real probability", (40,), "focal")
    x[:2] = 0.0, -0.0
    y = y if soft else np.rint(y)
    compare_pointwise(subject, "sigmoid_focal_loss", focal, [x, y], options, options)
    try:
        from torchvision.ops import sigmoid_focal_loss
    except ImportError:  # nothing else needs it
        return
    if options.get("alpha", 0) >= 0 or options["alpha"] == -1:
        theirs = {"alpha": 0.25, "gamma": 2.0} | options
        compare_pointwise(subject, "sigmoid_focal_loss", sigmoid_focal_loss, [x, y], options, theirs)


def test_deviances(subject):
    """torch's autograd of scikit-learn's definitions."""
    x, y = draw("positive positive", (40,), "deviances")

    def tweedie(x, y, *, reduction, power):
        first = y ** (2 - power) / ((1 - power) * (2 - power))
        each = first - y * x ** (1 - power) / (1 - power) + x ** (2 - power) / (2 - power)
        return reduced(2 * each, reduction)

    def poisson(x, y, *, reduction):
        return reduced(2 * (torch.xlogy(y, y / x) - y + x), reduction)

    def gamma(x, y, *, reduction):
        return reduced(2 * ((x / y).log() + y / x - 1), reduction)

    def divergence(x, y, *, reduction):
        return poisson(x, y, reduction=reduction) / 2

    apart = np.where(np.abs(x - y) < 0.3, 4 * x, y)  # where theirs cancels by no more than two digits
    for name, theirs in (("poisson_deviance_loss", poisson), ("gamma_deviance_loss", gamma)):
        compare_pointwise(subject, name, theirs, [x, apart], {}, {})
    compare_pointwise(subject, "generalized_kl_div", divergence, [x, apart], {}, {})
    for power in (-1.0, 1.5, 2.5, 3.0):
        options = {"power": power}
        compare_pointwise(subject, "tweedie_deviance_loss", tweedie, [x, apart], options, options)


def test_kl_div_of_zero_and_negative_targets(subject):
    log_probs, target = np.array([0.0, -1, -1]), np.array([0.0, -1, 1])
    expected = F.kl_div(tensor(log_probs), tensor(target), reduction="none")
    equal(subject.call("kl_div", log_probs, target, reduction="none"), expected, "a negative target is NaN")
