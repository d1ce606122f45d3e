"""Pointwise losses where numbers leave float32, where weights are 0, and how sums are taken: on every backend."""

import numpy as np
import pytest
from cases import POINT_STAND_INS, generator
from compare import assert_ulp, same_bits

import fastloss
from fastloss.backends import load

F32, F64 = np.float32, np.float64
BACKENDS = [name for name in ("cython", "numpy", "numba") if load(name).available() is None]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with fastloss.use_backend(request.param):
        yield request.param


def f32(*values):
    return np.array(values, F32)


def stretched(a):
    """The same elements, not contiguous."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


# --- values that are right where float32 overflows or cancels on the way -------------------------------------------------------------------

VALUES = [
    ("msle_loss", (f32(0), f32(1e8)), {}, 339.3215034),
    ("msle_loss", (f32(10), f32(1e7)), {}, 188.2439180),
    ("msle_loss", (np.zeros(1), np.array([1e16])), {}, 1357.2856),
    ("msle_loss", (f32(2.3607065e-28), f32(2.2827023e37)), {}, 7399.6138),
    ("gaussian_nll_loss", (f32(-2.9e22), f32(0), f32(5.5e25)), {}, 7.6454537e18),
    ("quantile_loss", (f32(-3e38), f32(3e38)), {"q": 0.1}, 6e37),
    ("quantile_loss", (f32(3e38), f32(-3e38)), {"q": 0.9}, 6e37),
    ("huber_loss", (f32(3e38), f32(-3e38)), {"delta": 1e-3}, 6e35),
    ("smooth_l1_loss", (f32(1e30), f32(0)), {"beta": 1e-30}, 1e30),
    ("poisson_nll_loss", (f32(66.185463), f32(6.28486083e36)), {"full": True}, None),
    ("kl_div", (f32(-1e-15), f32(-96.0)), {"log_target": True}, -96.0 * np.exp(-96.0)),
]


@pytest.mark.any_backend  # for each, Numba compiles six kernels
@pytest.mark.parametrize("loss, arguments, options, right", VALUES, ids=str)
def test_values(loss, arguments, options, right, backend):
    if right is None:
        x, y = (float(a[0]) for a in arguments)
        right = np.exp(x) - y * x + y * np.log(y) - y + 0.5 * np.log(2 * np.pi * y)
    function = getattr(fastloss, loss)
    for n in (1, 70, 3000):  # beside others, in lanes and alone
        repeated = [np.repeat(a, n) for a in arguments]
        for given in (repeated, [stretched(a) for a in repeated]):
            got = function(*given, reduction="none", **options)
            np.testing.assert_allclose(got, np.full(n, right), rtol=1e-6)
            np.testing.assert_allclose(function(*given, **options), right, rtol=1e-6)
        two = [np.stack([a, a]) for a in repeated]
        np.testing.assert_allclose(function(*two, axis=0, **options), np.full(n, right), rtol=1e-6)


def test_means_that_float32_holds():
    """The elements themselves need not be, nor what they are made of."""
    x = np.zeros(1000, F32)
    x[7], y = 3e38, np.zeros(1000, F32)
    y[7] = -3e38
    for given in ((x, y), (stretched(x), stretched(y))):
        assert_ulp(fastloss.l1_loss(*given), 2 * np.longdouble(x[7]) / 1000, 1)
    rate = np.full(10**4, 90, F32)
    assert_ulp(fastloss.poisson_nll_loss(rate, np.ones_like(rate)), np.exp(np.longdouble(90)) - 90, 1)


@pytest.mark.parametrize("layout", [np.asarray, stretched])
def test_gradients_are_divided_before_they_overflow(layout):
    gradient = fastloss.value_and_grad(fastloss.poisson_nll_loss)(
        layout(np.full(100, 90, F32)), layout(np.ones(100, F32))
    )[1]
    assert_ulp(gradient, np.full(100, (np.exp(np.longdouble(90)) - 1) / 100), 2)
    x = np.full(70, 3e38, F32)
    gradient = fastloss.value_and_grad(fastloss.mse_loss)(layout(x), layout(np.zeros(70, F32)))[1]
    assert_ulp(gradient, 2 * x.astype(np.longdouble) / 70, 2)


@pytest.mark.parametrize("size", [1e-44, 1e-39, 1e37, 3e38])
@pytest.mark.parametrize("layout", [np.asarray, stretched])
def test_gradients_of_weights_at_the_ends_of_the_range(size, layout):
    """What a mean's slopes are multiplied by is a number of float32 with few digits, or none."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=1000).astype(F32)
    w = (rng.uniform(0.5, 1, 1000) * size).astype(F32)
    w[5], x[5] = 0, np.inf  # and an element that is taken out
    arrays, options = (layout(x), layout(np.zeros(1000, F32))), {"weight": layout(w)}
    value, gradient = fastloss.value_and_grad(fastloss.mse_loss)(*arrays, **options)
    assert value == fastloss.mse_loss(*arrays, **options)
    right = np.where(w == 0, 0, np.where(w == 0, 0, 2 * x.astype(np.longdouble)) * w / np.sum(w, dtype=np.longdouble))
    assert_ulp(gradient, right, 4)


@pytest.mark.parametrize("layout", [np.asarray, stretched])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e30, 1e38, 3e38])
def test_gradients_of_roots_at_the_ends_of_the_range(size, layout):
    x = np.full(10_000, size, F32)
    _, gradient = fastloss.value_and_grad(fastloss.rmse_loss)(layout(x), layout(np.zeros_like(x)))
    assert_ulp(gradient, np.full(x.size, 1 / np.longdouble(x.size)), 2)


@pytest.mark.parametrize("n_classes", [3, 200])
def test_log_softmax_of_logits_further_apart_than_float32_holds(n_classes):
    """Divided by the temperature, their difference is in its range again."""
    x = np.zeros((2, n_classes), F32)
    x[:, 0], x[:, 1] = 3e38, -3e38
    x[1] = 0
    for temperature in (2.0, 4e10):
        right = (x[0].astype(np.longdouble) - x[0, 0]) / temperature
        for found in (
            fastloss.log_softmax(x, temperature=temperature),
            fastloss.log_softmax(np.ascontiguousarray(x.T), axis=0, temperature=temperature).T,
        ):
            assert_ulp(found[0], right, 2)
            assert_ulp(found[1], np.full(n_classes, -np.log(np.longdouble(n_classes))), 2)


SIZES = [0, 1e-30, 0.1, 3, 90, 100, 3000, 2.5e4, 1e6, 1.2345e10, 1e12, 3e12, 1e15, 1e20, 7e28, 1e30, 1e32, 3.4e38]


@pytest.mark.parametrize("temperature", [1.0, 1.3, 0.25])
def test_rows_of_two_classes_over_all_of_the_range(temperature):
    """Alone and beside others.  What the difference of the logits is rounded by may be large, too."""
    values = f32(*SIZES, *(-v for v in SIZES[1:]))
    x = np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 2)
    label = np.arange(len(x)) % 3 % 2
    away = np.diff(x.astype(np.longdouble), axis=1)[:, 0] * (1 - 2 * label) / temperature
    odds = np.exp(-abs(away))
    losses = np.maximum(away, 0) + np.log1p(odds)
    slopes = np.where(away > 0, 1, odds) / (1 + odds) / temperature

    def both(x, label):
        _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(
            x, label, reduction="sum", temperature=temperature
        )
        return fastloss.cross_entropy(x, label, reduction="none", temperature=temperature), gradient

    found, gradient = both(x, label)
    assert_ulp(found, losses, 2)
    assert_ulp(gradient[np.arange(len(x)), 1 - label], slopes, 4)
    assert_ulp(gradient[np.arange(len(x)), label], -slopes, 4)
    for i in range(len(x)):
        loss, slope = both(x[i : i + 1], label[i : i + 1])
        assert same_bits(loss, found[i : i + 1]) and same_bits(slope, gradient[i : i + 1]), x[i]


def test_what_overflows_does():
    x = f32(1e30, 1.0)
    np.testing.assert_array_equal(fastloss.mse_loss(x, np.zeros(2, F32), reduction="none"), f32(np.inf, 1.0))
    assert fastloss.mse_loss(x, np.zeros(2, F32)) == np.inf
    assert np.isnan(fastloss.mse_loss(f32(np.nan, 1.0), np.zeros(2, F32)))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_infinite_rates(dtype):
    """exp(inf) - inf is NaN, as in torch; an overflow that a fused operation skips would leave -inf."""
    inf = np.array([np.inf], dtype)
    assert np.isnan(fastloss.poisson_nll_loss(inf, np.ones(1, dtype)))
    assert np.isnan(fastloss.value_and_grad(fastloss.poisson_nll_loss)(inf, inf)[1][0])


def test_an_element_does_not_depend_on_its_neighbours():
    """What is computed again in float64 is where the result is not finite, and nothing else."""
    rng = generator("neighbours")
    x, y = rng.normal(0, 3, 3000).astype(F32), rng.normal(0, 3, 3000).astype(F32)
    for name in ("mse_loss", "log_cosh_loss"):
        function = getattr(fastloss, name)
        alone, spoilt = function(x, y, reduction="none"), x.copy()
        spoilt[1000] = np.inf
        beside = function(spoilt, y, reduction="none")
        assert same_bits(np.delete(alone, 1000), np.delete(beside, 1000))
        columns = np.stack([x, spoilt])
        both = np.stack([y, y])
        assert same_bits(
            np.delete(function(columns[:1].repeat(2, 0), both, axis=0), 1000),
            np.delete(function(np.stack([x, x]), both, axis=0), 1000),
        )
        assert same_bits(
            np.delete(function(columns, both, axis=0), 1000), np.delete(function(np.stack([x, x]), both, axis=0), 1000)
        )


# --- weights of 0 ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("layout", [np.asarray, stretched])
@pytest.mark.parametrize("name", ["mse_loss", "log_cosh_loss"])  # weights are no formula's business
def test_a_weight_of_0_takes_an_element_out(name, bad, dtype, layout):
    rng = generator("weight 0")
    x, y, w = rng.normal(size=(3, 5, 40)).astype(dtype)
    w = np.abs(w)
    clean, out = x.copy(), rng.random(x.shape) < 0.3
    w[out] = 0
    x[out] = bad
    x, y, w, clean = layout(x), layout(y), layout(w), layout(clean)
    function = getattr(fastloss, name)
    for options in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"axis": 0}, {"axis": 1}):
        got, right = (function(a, y, weight=w, **options) for a in (x, clean))
        assert same_bits(got, right), f"{name} {options}"
    for reduction in ("mean", "sum"):
        got, right = (fastloss.value_and_grad(function)(a, y, weight=w, reduction=reduction) for a in (x, clean))
        assert same_bits(got[0], right[0]) and same_bits(got[1] + 0.0, right[1] + 0.0)
        assert not got[1][out].any()


def test_the_example():
    assert fastloss.mse_loss(f32(1e30, 2), f32(0, 0), weight=[0, 1]) == 4


def test_weights_that_are_not_numbers_stay():
    assert np.isnan(fastloss.mse_loss(f32(1, 2), f32(0, 0), weight=[np.nan, 1]))


# --- sums ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["contiguous", "strided", "broadcast", "rows", "columns"])
def test_sums_of_constants_do_not_drift(kind):
    n = 4_000_000
    x = {
        "contiguous": lambda: np.full(n, 0.1),
        "strided": lambda: np.full(2 * n, 0.1)[::2],
        "broadcast": lambda: np.broadcast_to(np.array(0.1), (n,)),
        "rows": lambda: np.full((n // 4, 8), 0.1)[:, ::2],
        "columns": lambda: np.full((n // 2, 2), 0.1),
    }[kind]()
    zero = np.broadcast_to(np.array(0.0), x.shape)
    got = fastloss.l1_loss(x, zero, axis=0 if kind == "columns" else None)
    # no more than 512 additions of a block follow one another in a lane, and its pieces are few
    bound = 640 * 2.0**-53
    assert np.max(np.abs(got / np.longdouble(0.1) - 1)) <= bound
    weight = np.broadcast_to(np.array(0.3), x.shape)
    got = fastloss.l1_loss(x, zero, weight=weight, reduction="sum")
    assert abs(got / (x.size * np.longdouble(0.1) * np.longdouble(0.3)) - 1) <= bound


@pytest.mark.any_backend
@pytest.mark.parametrize("n", [5, 100, 2049, 32768, 40_000, 100_001])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_value_that_comes_with_a_gradient_is_the_value(n, dtype):
    for case in POINT_STAND_INS:
        rng = generator(case, n)
        arguments = case.cast(case.arguments(rng, (n,)), dtype)
        function, options = getattr(fastloss, case.loss), case.options
        for more in ({}, {"weight": rng.uniform(0, 2, n)}, {"weight": rng.uniform(0, 2, n).astype(dtype)}):
            for given in (arguments, [stretched(a) for a in arguments]):
                for reduction in ("sum", "mean"):
                    plain = function(*given, reduction=reduction, **options, **more)
                    value, _ = fastloss.value_and_grad(function)(*given, reduction=reduction, **options, **more)
                    assert same_bits(plain, value), f"{case} {list(more)} {reduction}"
