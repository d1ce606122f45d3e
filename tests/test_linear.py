"""linear_cross_entropy: equal to the loss of the logits that it never holds.

Where results are compared closely, hidden states and weights are small multiples of powers of two: then every product is exact, and
what differs is not the BLAS's rounding.
"""

import sys
import tracemalloc

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp, result_dtype, same_bits
from layouts import KEEPING_DTYPE

import fastloss
from fastloss import evaluate
from fastloss.places.host import layer as tiled

try:
    import resource
except ImportError:  # not on Windows
    resource = None

DTYPES = [np.float32, np.float64, np.float16]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass

# As many rows, features and classes; the last two take more than one tile of rows or classes below.
SHAPES = [(5, 4, 3), (33, 16, 200), (40, 8, 1000), (70, 3, 129)]
OPTIONS = {
    "plain": (),
    "bias": ("linear_bias",),
    "smoothing": ("linear_bias", "label_smoothing"),
    "weight": ("weight",),
    "all": ("linear_bias", "weight", "label_smoothing"),
}


@pytest.fixture(params=["no tiles", "one tile", "many tiles"])
def tiles(request, monkeypatch):
    """All logits at once, tiles as they are, or so small that these arrays take several in each direction."""
    monkeypatch.setattr(evaluate, "_plans", {})  # a plan knows which of these it is for
    if request.param != "no tiles":
        monkeypatch.setattr(tiled, "FEW", 0)
    if request.param == "many tiles":
        monkeypatch.setattr(tiled, "ROWS", 16)
        monkeypatch.setattr(tiled, "TILE", 16 * 150)
        monkeypatch.setattr(tiled, "CONVERTED", 16 * 140)


def problem(n_rows, n_features, n_classes, dtype=np.float32):
    """Hidden states, weights, labels, probabilities and all options, of numbers with exact products."""
    rng = generator("linear", n_rows, n_features, n_classes)
    hidden = rng.integers(-3, 4, (n_rows, n_features)).astype(dtype)
    layer = (rng.integers(-2, 3, (n_classes, n_features)) / 4).astype(dtype)
    labels = rng.integers(0, n_classes, n_rows)
    labels[rng.random(n_rows) < 0.2] = -100
    probs = rng.random((n_rows, n_classes)).astype(dtype)
    options = {
        "linear_bias": (rng.integers(-5, 6, n_classes) / 2).astype(dtype),
        "weight": rng.random(n_classes).astype(dtype),
        "label_smoothing": 0.25,
    }
    return hidden, layer, labels, probs, options


def logits_of(hidden, layer, linear_bias=None):
    logits = hidden.astype(np.float64) @ layer.astype(np.float64).T
    return logits if linear_bias is None else logits + linear_bias.astype(np.float64)


@pytest.mark.any_backend("names")  # Numba compiles for each
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_oracle(shape, names, dtype, tiles):
    hidden, layer, labels, probs, options = problem(*shape, dtype=dtype)
    options = {name: options[name] for name in OPTIONS[names]}
    dense = {name: value for name, value in options.items() if name != "linear_bias"}
    logits = logits_of(hidden, layer, options.get("linear_bias"))
    for target in (labels, probs):
        for reduction in ("none", "mean", "sum"):
            got = fastloss.linear_cross_entropy(hidden, layer, target, reduction=reduction, **options)
            assert got.dtype == result_dtype(dtype)
            exact = reference.loss("cross_entropy", logits, target, reduction=reduction, **dense)
            assert_ulp(got, exact, 4, what=reduction)
            if reduction == "none":
                continue
            both = fastloss.value_and_grad(fastloss.linear_cross_entropy)
            value, gradient = both(hidden, layer, target, reduction=reduction, **options)
            assert same_bits(value, got) and gradient.shape == hidden.shape and gradient.dtype == got.dtype
            _, slope = reference.value_and_grad("cross_entropy", logits, target, reduction=reduction, **dense)
            wide = layer.astype(np.longdouble)
            terms = float((np.abs(slope) @ np.abs(wide)).max())  # the size of what the product adds up
            # 16 for the slopes, as in test_gradients.py; for their product with the weights, which rounds once a class,
            # the square root of the number of classes
            assert_ulp(gradient, slope @ wide, 16 + shape[2] ** 0.5, at=terms, what="gradient")


EVERYTHING = ("hidden", "linear_weight", "linear_bias")
every_gradient = fastloss.value_and_grad(fastloss.linear_cross_entropy, EVERYTHING)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("names", ["plain", "all"])
def test_gradients_of_the_layer(names, dtype, tiles):
    hidden, layer, labels, probs, options = problem(40, 8, 700, dtype=dtype)
    bias = options["linear_bias"]
    dense = {name: options[name] for name in OPTIONS[names] if name != "linear_bias"}
    logits = logits_of(hidden, layer, bias)
    h, a = hidden.astype(np.longdouble), layer.astype(np.longdouble)
    for target in (labels, probs):
        for reduction in ("mean", "sum"):
            value, gradients = every_gradient(hidden, layer, target, linear_bias=bias, reduction=reduction, **dense)
            alone = fastloss.linear_cross_entropy(hidden, layer, target, linear_bias=bias, reduction=reduction, **dense)
            assert_ulp(value, alone, 1)  # tiles may be narrower
            _, slope = reference.value_and_grad("cross_entropy", logits, target, reduction=reduction, **dense)
            size = np.abs(slope)
            for got, exact, terms, n in (
                (gradients[0], slope @ a, size @ np.abs(a), 700),
                (gradients[1], slope.T @ h, size.T @ np.abs(h), 40),
                (gradients[2], slope.sum(axis=0), size.sum(axis=0), 0),
            ):
                assert got.dtype == result_dtype(dtype)
                # the slopes' own error, and the product's rounding, once a term: as above
                assert_ulp(got, exact, 16 + n**0.5, at=float(terms.max()), what=f"{reduction} {got.shape}")


def test_any_choice_of_gradients(tiles):
    hidden, layer, labels, _, options = problem(40, 8, 700)
    arguments, bias = (hidden, layer, labels), options["linear_bias"]
    fn = fastloss.linear_cross_entropy
    value, expected = every_gradient(*arguments, linear_bias=bias)
    shapes = {"hidden": (40, 8), "linear_weight": (700, 8), "linear_bias": (700,)}
    for name, whole in zip(EVERYTHING, expected, strict=True):
        assert whole.shape == shapes[name]
        _, one = fastloss.value_and_grad(fn, name)(*arguments, linear_bias=bias)
        _, (several,) = fastloss.value_and_grad(fn, [name])(*arguments, linear_bias=bias)
        np.testing.assert_allclose(one, whole, rtol=1e-5, atol=1e-8)
        assert same_bits(one, several)
        out = np.empty(shapes[name])
        got = fastloss.value_and_grad(fn, name)(*arguments, linear_bias=bias, out=out)[1]
        assert got is out
        np.testing.assert_array_equal(out, one)
    _, (of_bias, of_weight) = fastloss.value_and_grad(fn, ("linear_bias", "linear_weight"))(
        *arguments, linear_bias=bias
    )
    np.testing.assert_allclose(of_weight, expected[1], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(of_bias, expected[2], rtol=1e-5, atol=1e-8)
    outs = np.empty((40, 8), np.float32), None, np.empty(700, np.float32)
    _, got = every_gradient(*arguments, linear_bias=bias, out=outs)
    assert got[0] is outs[0] and got[2] is outs[2]
    assert all(same_bits(a, b) for a, b in zip(got, expected, strict=True))
    # into the very array that is read
    weights = layer.copy()
    got = fastloss.value_and_grad(fn, "linear_weight")(hidden, weights, labels, linear_bias=bias, out=weights)[1]
    assert got is weights
    np.testing.assert_allclose(weights, expected[1], rtol=1e-5, atol=1e-8)


def test_gradients_leave_ignored_rows_out(tiles):
    """Whatever they hold, and whatever the layer holds."""
    hidden, layer, labels, _, options = problem(40, 8, 700)
    _, clean = every_gradient(hidden, layer, labels, linear_bias=options["linear_bias"])
    spoilt = np.where(labels[:, None] < 0, np.nan, hidden)
    _, got = every_gradient(spoilt, layer, labels, linear_bias=options["linear_bias"])
    assert all(same_bits(a, b) for a, b in zip(got, clean, strict=True))
    layer[3] = np.nan
    _, got = every_gradient(hidden, layer, labels, linear_bias=options["linear_bias"])
    assert not got[0][labels < 0].any() and np.isnan(got[0][labels >= 0]).all()
    value, got = every_gradient(hidden, layer, np.full(40, -100), linear_bias=options["linear_bias"])
    assert np.isnan(value) and not any(gradient.any() for gradient in got)
    _, got = every_gradient(hidden[:0], layer, labels[:0], linear_bias=options["linear_bias"], reduction="sum")
    assert [gradient.shape for gradient in got] == [(0, 8), (700, 8), (700,)] and not got[1].any()


@pytest.mark.one_backend  # what tiles there are is decided in front of all of them
def test_gradients_of_a_large_problem():
    """Several tiles of each kind at their real size."""
    shape = (tiled.ROWS + 100, 6, 3 * tiled.TILE // tiled.ROWS + 5)
    hidden, layer, labels, _, options = problem(*shape)
    bias = options["linear_bias"]
    _, (of_hidden, of_weight, of_bias) = every_gradient(hidden, layer, labels, linear_bias=bias, reduction="sum")
    dense = fastloss.value_and_grad(fastloss.cross_entropy)
    _, slope = dense(logits_of(hidden, layer, bias), labels, reduction="sum")
    np.testing.assert_allclose(of_hidden, slope @ layer, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_weight, slope.T @ hidden, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_bias, slope.sum(axis=0), rtol=1e-6, atol=1e-6)


def test_gradients_that_are_not_there():
    hidden, layer, labels, _, _ = problem(4, 3, 5)
    fn = fastloss.linear_cross_entropy
    for wrt in ("weight", "target", ("hidden", "hidden"), (), ("hidden", "q"), 0):
        with pytest.raises(ValueError, match="wrt: expected .*'hidden', 'linear_weight', 'linear_bias'"):
            fastloss.value_and_grad(fn, wrt)
    for wrt in ("target", ("pred", "target")):
        with pytest.raises(ValueError, match="wrt: expected .*'pred', got 'target'"):
            fastloss.value_and_grad(fastloss.mse_loss, wrt)
    _, (gradient,) = fastloss.value_and_grad(fastloss.mse_loss, ("pred",))([1.0, 2.0], [1.0, 4.0])
    np.testing.assert_array_equal(gradient, [0, -2])
    with pytest.raises(ValueError, match="linear_bias: expected an array"):
        every_gradient(hidden, layer, labels)
    with pytest.raises(ValueError, match="out: expected a sequence of 2"):
        fastloss.value_and_grad(fn, ("hidden", "linear_weight"))(hidden, layer, labels, out=np.empty((4, 3)))
    with pytest.raises(ValueError, match=r"out: .*\(5, 3\)"):
        fastloss.value_and_grad(fn, "linear_weight")(hidden, layer, labels, out=np.empty((4, 3)))
    with pytest.raises(ValueError, match="vector"):
        fastloss.value_and_grad(fn, "linear_weight")(hidden, layer, labels, reduction="none")


@pytest.mark.one_backend  # what tiles there are is decided in front of all of them
def test_the_tiles_of_a_large_problem():
    """Several tiles of each kind at their real size, and an uneven last one."""
    shape = (tiled.ROWS + 100, 6, 3 * tiled.TILE // tiled.ROWS + 5)
    hidden, layer, labels, _, options = problem(*shape)
    bias = options["linear_bias"]
    got = fastloss.linear_cross_entropy(hidden, layer, labels, linear_bias=bias, reduction="none")
    logits = logits_of(hidden, layer, bias).astype(np.float32)
    assert_ulp(got, fastloss.cross_entropy(logits.astype(np.float64), labels, reduction="none"), 2)
    mean = fastloss.linear_cross_entropy(hidden, layer, labels, linear_bias=bias)
    assert_ulp(mean, fastloss.cross_entropy(logits.astype(np.float64), labels), 1)


def test_ordinary_numbers_equal_the_dense_computation():
    rng = generator("linear")
    hidden = rng.normal(size=(300, 64)).astype(np.float32)
    layer = rng.normal(size=(5000, 64)).astype(np.float32) / np.float32(8)
    labels = rng.integers(0, 5000, 300)
    logits = hidden @ layer.T
    got = fastloss.linear_cross_entropy(hidden, layer, labels)
    assert_ulp(got, fastloss.cross_entropy(logits.astype(np.float64), labels), 4)


def test_tiny_losses(tiles):
    """The target far above all others, which lie in tiles of their own."""
    for margin in (20.0, 60.0, 90.0):
        hidden, layer = np.ones((3, 1), np.float32), np.zeros((700, 1), np.float32)
        labels = np.array([0, 350, 699])
        for row, label in enumerate(labels):
            layer[:] = 0
            layer[label] = margin
            exact = reference.loss("cross_entropy", layer.T, [label])
            assert_ulp(fastloss.linear_cross_entropy(hidden[row : row + 1], layer, [label]), exact, 2)
            _, gradient = fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden[:1], layer, [label])
            others = 699 * np.exp(-np.longdouble(margin))  # 1 - softmax, without the cancellation
            assert_ulp(gradient, [[-margin * others / (1 + others)]], 8)


@pytest.mark.filterwarnings("error")
def test_special_values(tiles):
    """NaN stays in its row; classes masked by a bias of -inf, a tile of them included, are classes of probability 0."""
    hidden, layer, labels, _, _ = problem(20, 4, 700)
    labels = np.abs(labels) % 300
    clean = fastloss.linear_cross_entropy(hidden, layer, labels, reduction="none")
    spoilt = hidden.copy()
    spoilt[7, 1] = np.nan
    got = fastloss.linear_cross_entropy(spoilt, layer, labels, reduction="none")
    assert np.isnan(got[7])
    got[7] = clean[7]
    assert same_bits(got, clean)

    bias = np.zeros(700, np.float32)
    bias[300:] = -np.inf
    got = fastloss.linear_cross_entropy(hidden, layer, labels, linear_bias=bias, reduction="none")
    assert_ulp(got, reference.loss("cross_entropy", logits_of(hidden, layer[:300]), labels, reduction="none"), 4)
    assert fastloss.linear_cross_entropy(hidden[:1], layer, [500], linear_bias=bias) == np.inf
    assert fastloss.linear_cross_entropy(hidden[:1], layer, [1], linear_bias=bias, label_smoothing=0.1) == np.inf
    _, gradient = fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden, layer, labels, linear_bias=bias)
    assert np.isfinite(gradient).all()
    assert np.isnan(fastloss.linear_cross_entropy(hidden[:1], layer, [1], linear_bias=np.full(700, -np.inf)))
    bias[5] = np.inf
    assert np.isnan(fastloss.linear_cross_entropy(hidden[:1], layer, [1], linear_bias=bias))
    assert np.isnan(fastloss.linear_cross_entropy(hidden[:1], layer, [5], linear_bias=bias))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 3, 129, 700])
def test_wild_values(n_classes, dtype, tiles):
    """Any logits at all, which the bias can be, with every kind of target: what the dense loss says of them."""
    rng = generator("wild", n_classes)
    wild = [0.0, 88.0, -104.0, 1e4, -2.5e4, 1e30, -1e30, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan]
    hidden, layer = np.zeros((1, 1), dtype), np.zeros((n_classes, 1), dtype)
    for share in (0.02, 0.3, 1.0):
        for _ in range(20):
            logits = rng.normal(0, rng.choice([1.0, 100.0, 1e4]), (1, n_classes))
            some = rng.choice(wild, rng.integers(1, 4))
            logits = np.where(rng.random(logits.shape) < share, rng.choice(some, logits.shape), logits).astype(dtype)
            probs = rng.dirichlet(np.ones(n_classes), 1).astype(dtype)
            for target, smoothing in ((rng.integers(0, n_classes, 1), 0), ([n_classes - 1], 0.1), (probs, 0)):
                options = {"reduction": "none", "label_smoothing": smoothing}
                dense = fastloss.cross_entropy(logits, target, **options)
                got = fastloss.linear_cross_entropy(hidden, layer, target, linear_bias=logits[0], **options)
                assert_ulp(got, dense, 6 if dtype == np.float32 else 12)


def test_all_ignored():
    hidden, layer, *_ = problem(4, 3, 5)
    value, gradient = fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden, layer, [-100] * 4)
    assert np.isnan(value) and not gradient.any()
    assert fastloss.linear_cross_entropy(hidden, layer, [-100] * 4, reduction="sum") == 0


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
def test_layouts(layout):
    hidden, layer, labels, probs, options = problem(12, 6, 300)
    options = {"linear_bias": options["linear_bias"], "weight": options["weight"]}
    hidden, layer, labels, probs = (layout(a) for a in (hidden, layer, labels, probs))
    options = {name: layout(value) for name, value in options.items()}
    plain = [np.array(a, a.dtype.newbyteorder("="), order="C") for a in (hidden, layer)]
    copied = {name: np.array(value, value.dtype.newbyteorder("=")) for name, value in options.items()}
    for target in (labels, probs):
        got = fastloss.linear_cross_entropy(hidden, layer, target, **options)
        native = np.array(target, target.dtype.newbyteorder("="), order="C")
        assert_ulp(got, fastloss.linear_cross_entropy(*plain, native, **copied), 1)


def test_leading_shapes():
    hidden, layer, labels, probs, _ = problem(12, 6, 300)
    flat = fastloss.linear_cross_entropy(hidden, layer, labels, reduction="none")
    cube = fastloss.linear_cross_entropy(hidden.reshape(3, 4, 6), layer, labels.reshape(3, 4), reduction="none")
    assert same_bits(cube, flat.reshape(3, 4))
    one = fastloss.linear_cross_entropy(hidden[0], layer, labels[0], reduction="none")
    assert one.shape == () and one.dtype == np.float32
    assert_ulp(one, flat[0], 1)
    none = fastloss.linear_cross_entropy(hidden[:0], layer, labels[:0], reduction="none")
    assert none.shape == (0,)
    out = np.empty(12, np.float64)
    assert fastloss.linear_cross_entropy(hidden, layer, labels, reduction="none", out=out) is out
    np.testing.assert_array_equal(out, flat)
    gradient = np.empty((3, 4, 6), np.float32)
    both = fastloss.value_and_grad(fastloss.linear_cross_entropy)
    _, got = both(hidden.reshape(3, 4, 6), layer, probs.reshape(3, 4, 300), out=gradient)
    assert got is gradient and same_bits(got.reshape(12, 6), both(hidden, layer, probs)[1])


def test_torch():
    torch = pytest.importorskip("torch")
    hidden, layer, labels, probs, options = problem(33, 16, 200, np.float64)
    tensors = {name: torch.from_numpy(options[name]) for name in ("linear_bias", "weight")}
    tensors["linear_bias"].requires_grad_()
    h, a = torch.from_numpy(hidden).requires_grad_(), torch.from_numpy(layer).requires_grad_()
    logits = torch.nn.functional.linear(h, a, tensors["linear_bias"])
    for target in (labels, probs):
        value = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(target), weight=tensors["weight"], label_smoothing=0.25
        )
        slopes = torch.autograd.grad(value, (h, a, tensors["linear_bias"]), retain_graph=True)
        got, gradients = every_gradient(torch.from_numpy(hidden), layer, target, **options)
        np.testing.assert_allclose(got, value.item(), rtol=1e-12)
        for gradient, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-10, atol=1e-14)


def test_threads():
    """The kernels' part does not depend on the number of threads; the BLAS has its own."""
    hidden, layer, labels, _, _ = problem(700, 8, 3000)
    results = []
    for threads in (1, 2, 3, 8):
        with fastloss.use_threads(threads):
            both = fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden, layer, labels)
            results.append((fastloss.linear_cross_entropy(hidden, layer, labels, reduction="none"), *both))
    for other in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(results[0], other, strict=True))


def peak_of_the_process():
    """The most bytes that it had in memory; 0 where the system keeps no count."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.expensive
@pytest.mark.parametrize("layers", [False, True], ids=["hidden", "layer"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_memory(dtype, layers):
    """A few tens of megabytes where the logits would take 160."""
    hidden, layer = np.zeros((1000, 64), dtype), np.zeros((40_000, 64), dtype)
    labels = np.zeros(1000, np.int64)
    both = fastloss.value_and_grad(fastloss.linear_cross_entropy, "linear_weight" if layers else None)
    both(hidden[:2], layer[:200], labels[:2])
    before = peak_of_the_process()
    tracemalloc.start()
    both(hidden, layer, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 + 10e6 * layers  # the gradient itself has 10 MB
    assert peak_of_the_process() - before < 150_000 * 1024  # with the BLAS's own buffers


def test_errors():
    hidden, layer = np.zeros((3, 2)), np.zeros((5, 2))
    good = [0, 1, 2]
    for arguments, error, what in [
        ((hidden, np.zeros((5, 3)), good), ValueError, r"linear_weight: expected shape \(n_classes, 2\)"),
        ((hidden, np.zeros(2), good), ValueError, "linear_weight"),
        ((1.0, layer, 0), ValueError, "hidden"),
        ((hidden, layer, [0, 1]), ValueError, r"target: .*\(3,\).*\(3, 5\)"),
        ((hidden, layer, [0.0, 1.0, 2.0]), TypeError, "target"),
        ((hidden, layer, [0, 5, 2]), IndexError, r"target\[1\] = 5 "),
        ((hidden, layer, [0, -1, 2]), IndexError, r"target\[1\] = -1 "),
        ((hidden, np.zeros((0, 2)), good), ValueError, "linear_weight: expected at least one class"),
        ((hidden.astype(complex), layer, good), TypeError, "hidden"),
        ((hidden, layer.astype(str), good), TypeError, "linear_weight"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.linear_cross_entropy(*arguments)
    for options, error, what in [
        ({"linear_bias": np.zeros(4)}, ValueError, r"linear_bias: expected shape \(5,\)"),
        ({"weight": np.zeros(4)}, ValueError, "weight"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing"),
        ({"reduction": "avg"}, ValueError, "reduction"),
        ({"ignore_index": "x"}, TypeError, "ignore_index"),
        ({"out": np.zeros(3)}, ValueError, "out"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.linear_cross_entropy(hidden, layer, good, **options)
    with pytest.raises(ValueError, match="ignore_index"):
        fastloss.linear_cross_entropy(hidden, layer, np.zeros((3, 5)), ignore_index=1)
    with pytest.raises(ValueError, match="vector"):
        fastloss.value_and_grad(fastloss.linear_cross_entropy)(hidden, layer, good, reduction="none")
