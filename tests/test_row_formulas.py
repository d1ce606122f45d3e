"""Losses that are formulas of a row's likelihood and logsumexp: `focal_loss`, `poly_loss_cross_entropy`, and `cross_entropy` with `z_loss`."""

import functools
import gc
import weakref

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import evaluate
from fastloss.calls.want import VALUE
from fastloss.places.host import rows as host_rows

inf, nan = np.inf, np.nan
ZERO = {"focal_loss": {"gamma": 0.0}, "poly_loss_cross_entropy": {"epsilon": 0.0}}
EACH = [
    ("focal_loss", {}),
    ("focal_loss", {"gamma": 0.5}),
    ("focal_loss", {"gamma": 5.0}),
    ("poly_loss_cross_entropy", {}),
    ("cross_entropy", {"z_loss": 0.01}),
    ("cross_entropy", {"z_loss": 0.01, "softcap": 5.0, "temperature": 0.5}),
]


def drawn(shape=(40, 7), axis=-1, seed=0):
    rng = np.random.default_rng(seed)
    x = 3.0 * rng.normal(size=shape)
    y = rng.integers(0, shape[axis], np.delete(shape, axis))
    y.reshape(-1)[::5] = -100
    return x, y, rng.uniform(0.5, 2.0, shape[axis])


@functools.cache
def likely(dtype):
    """Rows whose targets are ever more likely, until their losses are tiny."""
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(200, 5)) * np.linspace(0.0, 6.0, 200)[:, None] ** 2).astype(dtype)
    return x, x.argmax(axis=1)


def ulp(got, exact, dtype):
    unit = np.spacing(np.abs(dtype(float(exact)))) or np.finfo(dtype).smallest_subnormal
    return float(abs(mp.mpf(float(got)) - exact) / mp.mpf(float(unit)))


def exact_rows(x, y, gamma):
    """(focal loss, its gradient) of each row."""
    with mp.workdps(40):
        for row, label in zip(x, y, strict=True):
            powers = [mp.exp(mp.mpf(float(v)) - mp.mpf(float(row[label]))) for v in row]
            others = mp.fsum(power for k, power in enumerate(powers) if k != label)
            nll, p, miss = mp.log1p(others), 1 / (1 + others), others / (1 + others)
            slope = miss**gamma * (1 + gamma * p * nll / miss)
            yield miss**gamma * nll, [-slope * miss if k == label else slope * p * v for k, v in enumerate(powers)]


@pytest.mark.any_backend
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_tiny_focal_losses(gamma):
    """1 - p does not cancel, in values and gradients; nor does the power multiply what a likelihood in float32 is off by."""
    for dtype, most, steepest in ((np.float32, 4, 5), (np.float64, 8 + 4 * gamma, 8 + 4 * gamma)):
        x, y = likely(dtype)
        each = fastloss.focal_loss(x, y, gamma=gamma, reduction="none")
        _, slopes = fastloss.value_and_grad(fastloss.focal_loss)(x, y, gamma=gamma, reduction="sum")
        least = 1e3 * float(np.finfo(dtype).tiny)  # subnormal numbers have fewer digits
        for got, slope, (value, gradient) in zip(each, slopes, exact_rows(x, y, gamma), strict=True):
            assert value < least or ulp(got, value, dtype) <= most
            for a, b in zip(slope, gradient, strict=True):
                assert abs(b) < least or ulp(a, b, dtype) <= steepest


@pytest.mark.parametrize("n_classes", [5, 300])
def test_each_row_by_itself(n_classes):
    """Gradients have the same bits whichever rows are beside a row: also where they are tiny, or huge."""
    x, y = likely(np.float32)
    x, y = np.tile(x[::9], n_classes // 5), y[::9]
    grad = fastloss.value_and_grad(fastloss.focal_loss)
    for scale in (1.0, 1e-20, 1e20):
        options = {"gamma": 0.5, "reduction": "sum", "weight": np.full(n_classes, scale)}
        _, together = grad(x, y, **options)
        for k in range(len(x)):
            _, alone = grad(x[k : k + 1], y[k : k + 1], **options)
            np.testing.assert_array_equal(alone[0], together[k])


def test_plans_keep_no_arrays():
    x, y, w = drawn()
    kept = [weakref.ref(a) for a in (x, y, w)]
    for name, options in EACH:
        function = getattr(fastloss, name)
        for weight in (None, w):
            function(x, y, weight=weight, **options)
            fastloss.value_and_grad(function)(x, y, weight=weight, **options)
    del x, y, w, weight
    gc.collect()
    assert not any(ref() is not None for ref in kept)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ZERO)
def test_what_is_cross_entropy(name, dtype):
    """Bit for bit per row."""
    x, y, w = drawn((60, 9))
    x, y, function = x.astype(dtype), y.copy(), getattr(fastloss, name)
    x[3, 1], x[7], x[9, :] = -inf, -inf, nan
    y[11] = y[12] = np.argmax(x[11])
    for options in ({}, {"weight": w}):
        expected = fastloss.cross_entropy(x, y, reduction="none", **options)
        got = function(x, y, reduction="none", **options, **ZERO[name])
        np.testing.assert_allclose(got, expected, rtol=1.2e-7 if expected.dtype == np.float32 else 2.3e-16)
        if not options:
            np.testing.assert_array_equal(got, expected)
        _, expected = fastloss.value_and_grad(fastloss.cross_entropy)(x, y, reduction="sum", **options)
        _, got = fastloss.value_and_grad(function)(x, y, reduction="sum", **options, **ZERO[name])
        np.testing.assert_allclose(got, expected, rtol=1e-6 if expected.dtype == np.float32 else 4e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, options", EACH)
def test_special_rows(name, options, dtype):
    function = getattr(fastloss, name)
    x = np.array(
        [[nan, 1, 2], [1, -inf, 0.5], [1, -inf, 0.5], [-inf] * 3, [nan] * 3, [inf, 0, 0], [0, -inf, -inf], [90, 0, 0]],
        dtype,
    )
    y = np.array([0, 1, 0, 2, -100, 1, 0, 0])
    each = function(x, y, reduction="none", **options)
    assert np.isnan(each[[0, 3, 5]]).all() and each[1] == inf and 0 < each[2] < inf and each[4] == 0
    if name == "focal_loss":
        assert each[6] == 0 and (each[7] > 0 or dtype == np.float32)
    with np.errstate(all="raise"):
        _, slopes = fastloss.value_and_grad(function)(x, y, reduction="sum", **options)
    assert np.isnan(slopes[[0, 3, 5]]).all() and not slopes[4].any()
    assert slopes[2, 1] == 0 and np.isfinite(slopes[2]).all() and np.isfinite(slopes[6:]).all()
    value, slopes = fastloss.value_and_grad(function)(x, np.full(8, -100), **options)
    assert np.isnan(value) and not slopes.any()
    assert function(x, np.full(8, -100), reduction="sum", **options) == 0


@pytest.mark.parametrize("name, options", EACH)
def test_likewise_everywhere(name, options):
    """Along another axis, in other layouts, `out`, by Accumulator, and with weights."""
    function = getattr(fastloss, name)
    x, y, w = drawn((4, 6, 5), axis=1)
    options = options | {"weight": w, "axis": 1}
    straight = {"weight": w} | {key: value for key, value in options.items() if key != "axis"}
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    expected = function(moved, y, reduction="none", **straight)
    out = np.empty(y.shape, np.float32)
    for each in (x, np.asfortranarray(x), x[::-1][::-1], x.astype(">f8")):
        np.testing.assert_allclose(function(each, y, reduction="none", **options), expected, rtol=2e-14)
    assert function(x, y, reduction="none", out=out, **options) is out
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    value, slopes = fastloss.value_and_grad(function)(x, y, **options)
    accumulator = fastloss.Accumulator(function, **options)
    for part in (slice(0, 1), slice(1, 4)):
        accumulator.update(x[part], y[part])
    weights = np.where(y >= 0, w[np.maximum(y, 0)], 0.0)
    for got in (value, accumulator.compute(), function(x, y, **options)):
        np.testing.assert_allclose(got, expected.sum() / weights.sum(), rtol=1e-14)
    for order in "CF":
        into = np.empty(x.shape, np.float32, order)
        assert fastloss.value_and_grad(function)(x, y, out=into, **options)[1] is into
        np.testing.assert_allclose(into, slopes, rtol=1e-6, atol=1e-9)
    if "z_loss" not in options:  # these depend on differences between logits alone
        np.testing.assert_allclose(slopes.sum(axis=1), 0.0, atol=1e-15)


@pytest.mark.parametrize("name, options", EACH)
def test_of_lazy_arrays(name, options):
    da = pytest.importorskip("dask.array")
    function = getattr(fastloss, name)
    x, y, w = drawn()
    lazy, labels = da.from_array(x, chunks=(13, 3)), da.from_array(y, chunks=13)
    for reduction in ("none", "sum", "mean"):
        expected = function(x, y, weight=w, reduction=reduction, **options)
        got = function(lazy, labels, weight=w, reduction=reduction, **options)
        np.testing.assert_allclose(got.compute(), expected, rtol=1e-13)
    value, slopes = fastloss.value_and_grad(function)(lazy, labels, **options)
    expected = fastloss.value_and_grad(function)(x, y, **options)
    np.testing.assert_allclose(value.compute(), expected[0], rtol=1e-13)
    np.testing.assert_allclose(slopes.compute(), expected[1], rtol=1e-12, atol=1e-17)


def test_without_z_loss_nothing_changes():
    """0 is the plain call, by the plan that it has always had."""
    x, y, _ = drawn()
    for z in (0.0, 0, -0.0):
        options = (-1, "mean", -100, 0.0, 1.0, None, z)
        fastloss.cross_entropy(x, y, z_loss=z)
        key = evaluate.key_of(fastloss.losses.CROSS_ENTROPY, (x, y, None), options, None, VALUE)
        assert type(evaluate._plans[key]) is host_rows._RowsPlan
        assert fastloss.cross_entropy(x, y, z_loss=z, label_smoothing=0.1) == fastloss.cross_entropy(
            x, y, label_smoothing=0.1
        )
    expected = fastloss.value_and_grad(fastloss.cross_entropy)(x, y)
    np.testing.assert_array_equal(fastloss.value_and_grad(fastloss.cross_entropy)(x, y, z_loss=0.0)[1], expected[1])


def test_what_z_loss_is_not_for():
    x, y, _ = drawn()
    for target, options in ((y, {"label_smoothing": 0.1}), (np.abs(x), {})):
        for call in (fastloss.cross_entropy, fastloss.value_and_grad(fastloss.cross_entropy)):
            with pytest.raises(
                ValueError, match=r"z_loss: expected 0 with class probabilities or label_smoothing, got 0.5"
            ):
                call(x, target, z_loss=0.5, **options)
    for z in (-1.0, inf, nan):
        with pytest.raises(ValueError, match="z_loss: expected a finite number of at least 0"):
            fastloss.cross_entropy(x, y, z_loss=z)
    with pytest.raises(TypeError, match="target: expected integer class indices"):
        fastloss.focal_loss(x, np.abs(x))


@pytest.mark.parametrize("name, options", EACH)
def test_of_tensors(name, options):
    """Gradients of torch's own expressions, classes along dimension 1."""
    torch = pytest.importorskip("torch")
    import fastloss.torch

    x, y, w = drawn((6, 5, 4), axis=1)

    def expression(x, y, w):
        if "softcap" in options:
            x = options["softcap"] * torch.tanh(x / options["softcap"]) / options["temperature"]
        nll = torch.nn.functional.cross_entropy(x, y, reduction="none")
        counted = torch.where(y >= 0, w[y.clamp(min=0)], 0.0)
        p = torch.exp(-nll)
        each = {
            "focal_loss": lambda: (1 - p) ** options.get("gamma", 2.0) * nll,
            "poly_loss_cross_entropy": lambda: nll + 2.0 * (1 - p),
            "cross_entropy": lambda: nll + options["z_loss"] * torch.logsumexp(x, 1) ** 2,
        }[name]()
        return (torch.where(y >= 0, each, 0.0) * counted).sum() / counted.sum()

    ours, theirs = (torch.tensor(x, requires_grad=True) for _ in range(2))
    labels, weights = torch.from_numpy(y), torch.from_numpy(w)
    got = getattr(fastloss.torch, name)(ours, labels, weight=weights, **options)
    expected = expression(theirs, labels, weights)
    got.backward(), expected.backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_as_users_write_them():
    """The same formulas as losses of one's own."""
    own = {
        "focal_loss": (
            "def f(nll, gamma):\n    m = -expm1(-nll)\n    return exp(gamma * log(m)) * nll",
            {"gamma": 2.0},
        ),
        "poly_loss_cross_entropy": (
            "def f(nll, p, epsilon):\n    return nll - epsilon * expm1(-nll)",
            {"epsilon": 2.0},
        ),
        "cross_entropy": ("def f(nll, lse, z_loss):\n    return nll + z_loss * lse * lse", {"z_loss": 0.01}),
    }
    x, y, w = drawn()
    for name, (text, parameters) in own.items():
        loss = fastloss.row_loss(text, parameters=parameters)
        expected = fastloss.value_and_grad(getattr(fastloss, name))(x, y, weight=w, **parameters)
        value, slopes = fastloss.value_and_grad(loss)(x, y, weight=w)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(slopes, expected[1], rtol=1e-11, atol=1e-16)


@pytest.mark.any_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", [0, 1, 0.5])
def test_gamma_of_two_is_as_its_neighbours(dtype, labels):
    """It is computed by products, which have to treat special logits as the power does."""
    largest = np.finfo(dtype).max
    numbers = [np.inf, np.nan, 0.0, 1e-40, 0.7, 30.0, 88.0, 100.0, 800.0, largest / 8, largest]
    numbers = np.array([*numbers, *(-v for v in numbers)], dtype)
    functions = [(fastloss.sigmoid_focal_loss, numbers, np.full(numbers.size, labels, dtype))]
    if labels in (0, 1):
        pairs = np.stack(np.meshgrid(numbers, numbers), -1).reshape(-1, 2)
        functions.append((fastloss.focal_loss, pairs, np.full(len(pairs), labels)))
    for function, x, y in functions:
        for gamma in (np.nextafter(2.0, 1.0), np.nextafter(2.0, 3.0)):
            each, expected = (function(x, y, reduction="none", gamma=g) for g in (2.0, gamma))
            np.testing.assert_allclose(each, expected, rtol=1e-5)
            _, slopes = fastloss.value_and_grad(function)(x, y, reduction="sum")
            _, expected = fastloss.value_and_grad(function)(x, y, reduction="sum", gamma=gamma)
            np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=2 * np.finfo(dtype).smallest_subnormal)
