"""Numbers that were once wrong, or nearly: each call with its right value, to 50 digits by mpmath where that says something.

    python tests/test_known_values.py

prints them with what is computed now, for every backend.
"""

import numpy as np
import pytest

import fastloss as fl
from fastloss import value_and_grad

F, D = np.float32, np.float64
TOP = 2**64 - 1
MOST_AXES = 64 if int(np.__version__.partition(".")[0]) >= 2 else 32


def _slope(loss, *arrays, **options):
    return value_and_grad(loss)(*arrays, **options)[1]


def _accumulated(*parts):
    found = fl.Accumulator(fl.rmse_loss)
    for part in parts:
        found.update(D(part), np.zeros(len(part)))
    return found.compute()


LAYER = np.linspace(-1, 1, 12, dtype=F).reshape(4, 3), np.linspace(1, -2, 15, dtype=F).reshape(5, 3)
ROWS = D(
    [
        [42.342986842266406, -43.91410615056829, -12.97805298473434],
        [32.85737901917915, -26.90286326138217, -24.88578331016853],
    ]
)


def _alone():
    return fl.cross_entropy(ROWS[:1], [0], reduction="none")[0]


def _beside():
    return fl.cross_entropy(ROWS, [0, 0], reduction="none")[0]


def _far_below():
    """A row that is summed exactly: all but one of its classes are far below it."""
    x = np.random.default_rng(0).normal(-100, 1, (1, 200))
    x[0, 7] = 0.0
    return x


def _far_below_again():
    """The same value, by labels of another width, three axes and `out=`."""
    x = np.concatenate([_far_below(), _far_below()]).reshape(1, 2, 200)
    return fl.cross_entropy(x, np.int32([[7, 7]]), axis=2, out=np.empty(()))


def _logits():
    rng = np.random.default_rng(1)
    return rng.normal(0, 5, (4099, 7)), rng.integers(0, 7, 4099)


def _elements():
    rng = np.random.default_rng(2)
    return rng.normal(0, 5, 32768), rng.normal(0, 5, 32768)


def _difference(loss, *arrays, **options):
    """What sets the value apart from the one that comes with a gradient."""
    return loss(*arrays, **options) - value_and_grad(loss)(*arrays, **options)[0]


def _smoothed_by_infinity(n_classes, axis):
    """Of a row whose most likely class weighs inf, though it is not the target."""
    logits, weight = np.zeros((1, n_classes), F), np.ones(n_classes)
    logits[0, 2], weight[2] = 3.0, np.inf
    logits = logits if axis else np.ascontiguousarray(logits.T)
    return fl.cross_entropy(logits, [0], weight=weight, axis=axis, label_smoothing=0.1)


# What is called, the right value (an exception's type where there is none), and how many ulp of the result's type it may be off.
CASES = {
    "msle_loss f32 (0, 1e8)": (lambda: fl.msle_loss(F([0]), F([1e8])), 339.3215, 4),
    "msle_loss f32 (10, 1e7)": (lambda: fl.msle_loss(F([10]), F([1e7])), 188.24394, 4),
    "msle_loss f32 (0, 1e4)": (lambda: fl.msle_loss(F([0]), F([1e4])), 84.8322117536305, 4),
    "msle_loss f64 (0, 1e16)": (lambda: fl.msle_loss(D([0]), D([1e16])), 1357.2859162824699, 8),
    "rmse_loss f32 errors of 2e20": (lambda: fl.rmse_loss(np.full(4, 2e20, F), np.zeros(4, F)), 2e20, 2),
    "rmse_loss f32 errors of 1e-30": (lambda: fl.rmse_loss(np.full(4, 1e-30, F), np.zeros(4, F)), 1e-30, 2),
    "rmse_loss f32 gradient, 1e-30": (lambda: _slope(fl.rmse_loss, np.full(4, 1e-30, F), np.zeros(4, F))[0], 0.25, 2),
    "rmse_loss f64 errors of 1e200": (lambda: fl.rmse_loss(np.full(4, 1e200), np.zeros(4)), 1e200, 2),
    "rmse_loss f64 errors of 1e-200": (lambda: fl.rmse_loss(np.full(4, 1e-200), np.zeros(4)), 1e-200, 2),
    "the same accumulated, 1e200": (lambda: _accumulated([1e200, 1.0], [1e200, 1e200]), 8.660254037844386e199, 2),
    "the same accumulated, 1e-200": (lambda: _accumulated([1e-200, 0.0], [1e-200, 1e-200]), 8.660254037844386e-201, 2),
    "rmse_loss, weights below 0": (lambda: fl.rmse_loss(D([2, 2]), D([0, 0]), weight=[-1, -1]), 2.0, 0),
    "rmse_loss f64 gradient, 1e200": (
        lambda: _slope(fl.rmse_loss, D([1e200, 1.0]), D([0, 0]))[1],
        7.0710678118654755e-201,
        4,
    ),
    "rmse_loss f32 gradient, 3e38": (
        lambda: _slope(fl.rmse_loss, np.full(10_000, 3e38, F), np.zeros(10_000, F))[0],
        1e-4,
        2,
    ),
    "a gradient, weights of 3e38": (
        lambda: _slope(fl.mse_loss, np.full(10_000, 0.5, F), np.zeros(10_000, F), weight=np.full(10_000, 3e38, F))[0],
        1e-4,
        2,
    ),
    "a gradient, weights of 1e-44": (
        lambda: _slope(fl.mse_loss, F([0.5, 0.5]), F([0, 0]), weight=F([1e-44, 1e-44]))[0],
        0.5,
        2,
    ),
    "mse_loss, a weight of 0": (lambda: fl.mse_loss(F([1e30, 2]), F([0, 0]), weight=[0, 1]), 4.0, 0),
    "gaussian_nll_loss, f64 var": (lambda: fl.gaussian_nll_loss(F([1]), F([0]), D([1e300])), 345.38776394910684, 4),
    "gaussian_nll_loss f32, far": (lambda: fl.gaussian_nll_loss(F([-2.9e22]), F([0]), F([5.5e25])), 7.6454545e18, 4),
    "class weights of 1e-60": (
        lambda: fl.cross_entropy(F([[1, 0], [1, 0]]), [0, 0], weight=[1e-60, 1e-60]),
        0.31326168751822286,
        2,
    ),
    "class weights of 1e60": (
        lambda: fl.cross_entropy(F([[1, 0], [1, 0]]), [0, 0], weight=[1e60, 1]),
        0.31326168751822286,
        2,
    ),
    "a class weight of inf, unused": (
        lambda: fl.cross_entropy(F([[0, 0]]), [0], weight=[1, np.inf]),
        0.6931471805599453,
        2,
    ),
    "the gradient beside it": (lambda: _slope(fl.cross_entropy, F([[0, 0]]), [0], weight=[1, np.inf])[0, 0], -0.5, 2),
    "a class weight of inf, smoothed": (lambda: _smoothed_by_infinity(3, 1), np.inf, 0),
    "the same, 200 classes": (lambda: _smoothed_by_infinity(200, 1), np.inf, 0),
    "the same along axis 0": (lambda: _smoothed_by_infinity(3, 0), np.inf, 0),
    "the same, class probabilities": (
        lambda: fl.cross_entropy(F([[1, 2, 3]]), F([[0.1, 0.2, 0.7]]), weight=[1, 2, np.inf]),
        np.inf,
        0,
    ),
    "the same, of a layer": (
        lambda: fl.linear_cross_entropy(F([[1]]), F([[1], [2], [3]]), [0], weight=[1, 2, np.inf], label_smoothing=0.1),
        np.inf,
        0,
    ),
    "the same, NaN in the row": (
        lambda: fl.cross_entropy(F([[1, np.nan, 3]]), [0], weight=[1, 2, np.inf], label_smoothing=0.1),
        np.nan,
        0,
    ),
    "the same, no part of labels": (
        lambda: fl.cross_entropy(F([[1, 2, 3]]), [2], weight=[1, 1, np.inf], label_smoothing=1.0, reduction="sum"),
        np.inf,
        0,
    ),
    "no labels in a list": (lambda: fl.cross_entropy(np.zeros((0, 3), F), [], reduction="sum"), 0.0, 0),
    "no labels in a list, scored": (lambda: fl.score(np.zeros((0, 3), F), []).nll.size, 0, 0),
    "no targets in a list": (lambda: fl.binary_cross_entropy(np.zeros(0, F), [], reduction="sum"), 0.0, 0),
    "ignore_index 2**64 - 1": (
        lambda: fl.cross_entropy(np.zeros((2, 3), F), np.array([0, TOP], np.uint64), ignore_index=TOP),
        1.0986122886681098,
        2,
    ),
    "a label of 2**63 - 1 beside it": (
        lambda: fl.cross_entropy(np.zeros((2, 3), F), np.array([0, 2**63 - 1]), ignore_index=TOP),
        IndexError,
        0,
    ),
    "softmax of +inf": (lambda: fl.softmax(F([[np.inf, 0]]))[0, 1], np.nan, 0),
    "axis=[]": (lambda: fl.rmse_loss(D([3.0]), D([1.0]), axis=[])[0], 2.0, 0),
    "as many axes as there can be": (
        lambda: fl.mse_loss(np.zeros((1,) * MOST_AXES), np.ones((2,) + (1,) * (MOST_AXES - 1))),
        1.0,
        0,
    ),
    "eps=1e300": (lambda: fl.charbonnier_loss(F([1]), F([0]), eps=1e300), 0.0, 0),
    "Accumulator([1])": (lambda: fl.Accumulator([1]), TypeError, 0),
    "value_and_grad([1])": (lambda: value_and_grad([1]), TypeError, 0),
    "reduction in a list": (lambda: fl.mse_loss(F([1]), F([0]), reduction=["mean"]), ValueError, 0),
    "axis=()": (lambda: fl.mse_loss(D([3.0]), D([1.0]), axis=())[0], 4.0, 0),
    "score().lse near 0": (lambda: fl.score(F([[0.001, -300]]), [1]).lse[0], F(0.001), 1),
    "score().lse of [0, -40]": (lambda: fl.score(F([[0, -40]]), [1]).lse[0], 4.248354255291589e-18, 2),
    "poisson_nll_loss of inf": (lambda: fl.poisson_nll_loss(F([np.inf]), F([1])), np.nan, 0),
    "softmax of one class": (lambda: fl.softmax(F([[77.7]]))[0, 0], 1.0, 0),
    "gradient of one class": (lambda: _slope(fl.cross_entropy, D([[3.3]]), [0], label_smoothing=0.1)[0, 0], 0.0, 0),
    "softmax over 131072 rows": (lambda: fl.softmax(np.full((131072, 2), 0.3), axis=0)[0, 0] * 131072, 1.0, 2),
    "a tiny loss of three classes": (
        lambda: fl.cross_entropy(F([[0.015393794514238834, 0.006658579688519239, 26.370168685913086]]), [2]),
        7.135164711e-12,
        2,
    ),
    "bce with logits": (
        lambda: fl.binary_cross_entropy_with_logits(F([-0.45703727]), F([6.407049e-05])),
        0.49054407595642467,
        2,
    ),
    "smoothing, logits far apart": (
        lambda: fl.cross_entropy(F([[2e38, -2e38]]), [0], label_smoothing=1e-6),
        2e32,
        2,
    ),
    "a mean's gradient": (
        lambda: _slope(fl.poisson_nll_loss, np.full(100, 90, F), np.zeros(100, F))[0],
        1.2204033e37,
        2,
    ),
    "[20, 0, 0], target 0": (lambda: fl.cross_entropy(F([[20, 0, 0]]), [0]), 4.122307244877116e-09, 2),
    "poisson_deviance_loss f32, neighbours": (
        lambda: fl.poisson_deviance_loss(F([1]), F([1 + 2.0**-23])),
        1.4210854150513406e-14,
        4,
    ),
    "tweedie_deviance_loss, near": (
        lambda: fl.tweedie_deviance_loss(D([3]), D([3 * (1 + 1e-9)]), power=1.5),
        1.7320510933239163e-18,
        16,
    ),
    "gamma_deviance_loss f32, far": (lambda: fl.gamma_deviance_loss(F([3e38]), F([1e-45])), 381.75155145541256, 4),
    "gamma_deviance_loss f64, far": (
        lambda: fl.gamma_deviance_loss(D([1.7e308]), D([5e-324])),
        2906.333817629219,
        8,
    ),
    "poisson_nll_loss f32, eps beside 1": (
        lambda: fl.poisson_nll_loss(F([1]), F([1e4]), log_input=False),
        0.9999000000005,
        4,
    ),
    "generalized_kl_div, far": (lambda: fl.generalized_kl_div(D([1e-300]), D([1e300])), 1.3805510557964274e303, 8),
    "sigmoid_focal_loss of 40": (lambda: fl.sigmoid_focal_loss(D([40]), D([1])), 1.9169120184304999e-53, 8),
    "charbonnier_loss f64 of 1e-5": (lambda: fl.charbonnier_loss(D([1e-5]), D([0])), 4.9998750062496101e-8, 4),
    "log_softmax of +inf": (lambda: fl.log_softmax(F([[np.inf, 0]]))[0, 1], np.nan, 0),
    "gradient beside +inf": (lambda: _slope(fl.cross_entropy, F([[np.inf, 0, 1]]), [1])[0, 2], np.nan, 0),
    "layer's gradient, all ignored": (
        lambda: np.abs(value_and_grad(fl.linear_cross_entropy, wrt="linear_weight")(*LAYER, [-100] * 4)[1]).max(),
        0.0,
        0,
    ),
    "layer's gradient, one class": (
        lambda: np.abs(_slope(fl.linear_cross_entropy, LAYER[0], LAYER[1][:1], [0] * 4, label_smoothing=0.1)).max(),
        0.0,
        0,
    ),
    "gradient of one class f32, smoothed": (
        lambda: _slope(fl.cross_entropy, F([[77.7]]), [0], label_smoothing=0.3)[0, 0],
        0.0,
        0,
    ),
    "l1_loss f64 of 10**7 equal errors": (
        lambda: fl.l1_loss(np.broadcast_to(D(0.1), 10**7), np.broadcast_to(D(0.0), 10**7)),
        0.1,
        64,
    ),
    "mse_loss f32 of 10**7 strided": (
        lambda: fl.mse_loss(np.broadcast_to(F([0.1, 7.0]), (10**7, 2))[:, 0], np.broadcast_to(F(0.0), 10**7)),
        F(0.1) ** 2,
        1,
    ),
    "gradient, poisson target of inf": (lambda: _slope(fl.poisson_nll_loss, F([np.inf]), F([np.inf]))[0], np.nan, 0),
    "logsumexp of [0.001, -300]": (lambda: fl.logsumexp(F([[0.001, -300]]))[0], F(0.001), 1),
    "score().lse, target of -inf": (lambda: fl.score(F([[0.001, -np.inf]]), [1]).lse[0], F(0.001), 1),
    "score().lse f64 of [0, -40]": (lambda: fl.score(D([[0, -40]]), [1]).lse[0], 4.248354255291589e-18, 8),
    "class weights of NaN, unused": (
        lambda: fl.cross_entropy(F([[0, 0]]), [0], weight=[1, np.nan]),
        0.6931471805599453,
        2,
    ),
    "a row alone and beside another": (lambda: _alone() - _beside(), 0.0, 0),
    "one of 200 classes, exact sum": (lambda: fl.cross_entropy(_far_below(), [7]) - _far_below_again(), 0.0, 0),
    "value less value with gradient, rows": (lambda: _difference(fl.cross_entropy, *_logits()), 0.0, 0),
    "the same, class weights": (lambda: _difference(fl.cross_entropy, *_logits(), weight=np.arange(1.0, 8.0)), 0.0, 0),
    "the same, elements": (lambda: _difference(fl.mse_loss, *_elements()), 0.0, 0),
    "the same, weighted elements": (lambda: _difference(fl.mse_loss, *_elements(), weight=_elements()[0] ** 2), 0.0, 0),
    "bce f32 of (0.64192861, 0.13731345)": (
        lambda: fl.binary_cross_entropy(F([0.64192861]), F([0.13731345])),
        0.9468669017533256589,
        2,
    ),
    "bce f32 of (0.67722851, 0.282901317)": (
        lambda: fl.binary_cross_entropy(F([0.67722851]), F([0.282901317])),
        0.92116264768138909194,
        2,
    ),
    "bce f32 of (0.324096859, 0.128446177)": (
        lambda: fl.binary_cross_entropy(F([0.3240968585014343]), F([0.12844617664813995])),
        0.48611438109340163,
        2,
    ),
    "tweedie_deviance_loss, far": (
        lambda: fl.tweedie_deviance_loss(D([6.39564943e28]), D([1.10678663e-27]), power=2.001),
        254.2964391038950604,
        8,
    ),
    "tweedie_deviance_loss, power=3": (
        lambda: fl.tweedie_deviance_loss(D([1.3555502]), D([0.19690215]), power=3.0),
        3.7104057216362243,
        8,
    ),
    "sigmoid_focal_loss f32, gradient": (
        lambda: _slope(fl.sigmoid_focal_loss, F([9.23059542401461e-06]), F([0]), alpha=0.25, gamma=2.0)[0],
        0.22371785961261748,
        4,
    ),
    "focal_loss f32": (
        lambda: fl.focal_loss(F([[17.691959381103516, 0.3595077395439148, -7.971312522888184]]), [0], gamma=2.0),
        2.6190848837716703e-23,
        4,
    ),
    "focal_loss f32, gamma=5": (
        lambda: fl.focal_loss(F([[1.9549744129180908, 0.07018943876028061, -69.46080780029297]]), [0], gamma=5.0),
        5.6315273705051634e-6,
        4,
    ),
    "focal_loss f32, gamma=5, gradient": (
        lambda: _slope(fl.focal_loss, F([[1.9549744129180908, 0.07018943876028061, -69.46080780029297]]), [0], gamma=5)[
            0, 0
        ],
        -2.969687954912616e-5,
        5,
    ),
    "focal_loss f32, gamma=20, gradient": (
        lambda: _slope(fl.focal_loss, F([[-9332.0908203125, -9329.0146484375, -9331.2744140625]]), [1], gamma=20.0)[
            0, 0
        ],
        1.6966945831644221e-18,
        5,
    ),
    "tweedie_deviance_loss f32, power=-30": (
        lambda: fl.tweedie_deviance_loss(F([1.9546966e-12]), F([0.859596133]), power=-30.0),
        1.5919917995832634e-05,
        4,
    ),
    "tweedie_deviance_loss, power=17.5": (
        lambda: fl.tweedie_deviance_loss(D([6.72463356247417e23]), D([0.14623637237453432]), power=17.5),
        68368424704.048297,
        30,
    ),
    "tweedie_deviance_loss, power=-5.3": (
        lambda: fl.tweedie_deviance_loss(D([2.7388535597415633e-30]), D([2.0854416155120824e37]), power=-5.3),
        1.1708796204947154e271,
        30,
    ),
    "tweedie_deviance_loss at the ends of the range": (
        lambda: fl.tweedie_deviance_loss(D([1e-200]), D([1e200]), power=1.2),
        9.9999999999997974429e240,
        30,
    ),
    "beta=1e300 f32": (lambda: fl.smooth_l1_loss(F([1]), F([0]), beta=1e300), 0.0, 0),
    "beta=1e39 f32 far apart": (lambda: fl.smooth_l1_loss(F([3e38]), F([-3e38]), beta=1e39), 1.8e38, 2),
    "beta=1e39 f32, gradient": (lambda: _slope(fl.smooth_l1_loss, F([3e38]), F([-3e38]), beta=1e39)[0], 0.6, 2),
    "delta=1e-60 f32": (lambda: fl.huber_loss(F([1e20]), F([0]), delta=1e-60), 1e-40, 1),
    "delta=1e-60 f32 far apart": (lambda: fl.huber_loss(F([3e38]), F([0]), delta=1e-60), 3e-22, 2),
    "eps=1e300 f32": (lambda: fl.gaussian_nll_loss(F([1]), F([0]), F([1]), eps=1e300), 345.38776394910684, 2),
    "eps=1e-60 f32": (lambda: fl.gaussian_nll_loss(F([0]), F([0]), F([0]), eps=1e-60), -69.07755278982137, 2),
    "charbonnier_loss f32 far apart, gradient": (
        lambda: _slope(fl.charbonnier_loss, F([3e38]), F([-3e38]), eps=3e38)[0],
        0.8944271909999159,
        4,
    ),
    "charbonnier_loss f32 of equal numbers, gradient": (
        lambda: _slope(fl.charbonnier_loss, F([3e38]), F([3e38]), eps=5e-324)[0],
        0.0,
        0,
    ),
    "eps=1e38 f32, gradient": (
        lambda: _slope(fl.poisson_nll_loss, F([3e38]), F([3e38]), log_input=False, eps=1e38)[0],
        0.25,
        4,
    ),
    "class weights of 1e60, gradient of a sum f32": (
        lambda: _slope(fl.cross_entropy, F([[1, 0, -300]]), [0], weight=D([1e60, 1, 1]), reduction="sum")[0, 2],
        0.0,
        0,
    ),
    "epsilon=1e39 f32": (
        lambda: fl.poly_loss_cross_entropy(F([[10, 0]]), [0], epsilon=1e39),
        4.5397868702434395e34,
        2,
    ),
    "epsilon=1e60 f32": (lambda: fl.poly_loss_cross_entropy(F([[1, 0]]), [0], epsilon=1e60), np.inf, 0),
    "epsilon=1e39 f32, gradient of a mean": (
        lambda: _slope(fl.poly_loss_cross_entropy, F([[3, 0]] * 100), [0] * 100, epsilon=1e39)[0, 1],
        4.5176659730912137e35,
        8,
    ),
    "z_loss=1e39 f32": (lambda: fl.cross_entropy(F([[1e-20]]), [0], z_loss=1e39), 0.1, 2),
    "z_loss=1e-60 f32": (lambda: fl.cross_entropy(F([[1e30]]), [0], z_loss=1e-60), 1.0, 2),
    "z_loss=1e60 f32": (lambda: fl.cross_entropy(F([[1, 0]]), [0], z_loss=1e60), np.inf, 0),
    "gamma=1e39 f32": (lambda: fl.focal_loss(F([[1, 0]]), [0], gamma=1e39), 0.0, 0),
    "class weights of 1e60, sum f32": (
        lambda: fl.cross_entropy(F([[1, 0], [1, 0]]), [0, 0], weight=D([1e60, 1]), reduction="sum"),
        np.inf,
        0,
    ),
    "class weights of 1e60, sum f64": (
        lambda: fl.cross_entropy(D([[1, 0], [1, 0]]), [0, 0], weight=D([1e60, 1]), reduction="sum"),
        6.2652337503644566e59,
        8,
    ),
    "class weights of 1e60, focal gradient f32": (
        lambda: _slope(fl.focal_loss, F([[1, 0], [1, 0]]), [0, 0], weight=D([1e60, 1]), gamma=0.0)[0, 1],
        0.13447071068499755,
        4,
    ),
    "class weights of 1e-60, focal gradient f32": (
        lambda: _slope(fl.focal_loss, F([[1, 0], [1, 0]]), [0, 0], weight=D([1e-60, 1]), gamma=0.0)[0, 1],
        0.13447071068499755,
        4,
    ),
    "quantile_loss f32 far apart": (lambda: fl.quantile_loss(F([3e38]), F([-3e38]), q=0.875), 0.125 * 6e38, 2),
    "out= narrower than the value": (lambda: fl.mse_loss(D([1e30]), D([0]), out=np.empty((), F))[()], np.inf, 0),
    "delta=10**400": (lambda: fl.huber_loss(F([1]), F([0]), delta=10**400), ValueError, 0),
    "reduction as an array": (lambda: fl.mse_loss(F([1]), F([0]), reduction=np.array("mean")), ValueError, 0),
}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", CASES)
def test_value(name):
    call, right, ulp = CASES[name]
    if isinstance(right, type):
        with pytest.raises(right):
            call()
        return
    got = call()
    if right != right:
        assert got != got
        return
    assert got == right or abs(float(got) - float(right)) <= (ulp + 0.01) * float(np.spacing(abs(type(got)(right)))), (
        got
    )


def main():
    for backend in ("cython", "numba", "numpy"):
        print(backend)
        with fl.use_backend(backend):
            for name, (call, right, _) in CASES.items():
                try:
                    got = call()
                except Exception as error:
                    got = type(error).__name__
                print(f"  {name:32s} {got!s:24s} right: {getattr(right, '__name__', right)}")


if __name__ == "__main__":
    main()
