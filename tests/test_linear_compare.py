"""compare from hidden states: what it says of the two arrays of logits that are never held.

Where results are compared with those of dense logits, hidden states and weights are small multiples of powers of two, as in
test_linear.py: then every product is exact.
"""

import tracemalloc

import numpy as np
import pytest
from cases import generator
from compare import same_bits
from test_compare import assert_divergence
from test_linear import DTYPES, logits_of, problem

import fastloss
from fastloss.places.host import layer_comparisons as tiled

SHAPES = [(5, 4, 3), (33, 16, 200), (70, 8, 1000), (0, 4, 5)]
LAYERS = {
    "one layer": (),
    "one layer and a bias": ("linear_bias",),
    "own bias": ("linear_bias", "reference_linear_bias"),
    "own layer": ("linear_bias", "reference_linear_weight"),
    "own layer and bias": ("reference_linear_weight", "reference_linear_bias"),
}


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    """Tiles as they are, or so small that these arrays take several, with weights converted in several parts."""
    if request.param == "many tiles":
        monkeypatch.setattr(tiled, "ROWS", 16)
        monkeypatch.setattr(tiled, "TILE", 7 * 200)
        monkeypatch.setattr(tiled, "CONVERTED", 16 * 140)


def pair_of(n_rows, n_features, n_classes, names, dtype):
    """Both models' hidden states, labels, layers as keywords, and both arrays of exact logits."""
    x, a, labels, _, options = problem(n_rows, n_features, n_classes, dtype)
    n_own = n_features + 3 if "reference_linear_weight" in names else n_features
    r, own_a, _, _, own_options = problem(n_rows, n_own, n_classes, dtype)
    if n_own == n_features:
        r = np.roll(r, 1, axis=1)
    given = {
        "linear_bias": options["linear_bias"],
        "reference_linear_weight": own_a,
        "reference_linear_bias": own_options["linear_bias"][::-1],
    }
    layers = {"linear_weight": a} | {name: given[name] for name in names}
    bias = layers.get("linear_bias")
    if "reference_linear_weight" in names:
        reference = logits_of(r, own_a, layers.get("reference_linear_bias"))
    else:
        reference = logits_of(r, a, layers.get("reference_linear_bias", bias))
    real = np.float64 if dtype == np.float64 else np.float32
    return r, x, labels, layers, reference.astype(real), logits_of(x, a, bias).astype(real)


def same_comparison(got, expected):
    for name, a, b in zip(fastloss.Comparison._fields, got, expected, strict=True):
        assert a is b is None or same_bits(a, b), name


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("names", LAYERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_dense_logits(shape, names, dtype, tiles):
    r, x, labels, layers, *logits = pair_of(*shape, LAYERS[names], dtype)
    got = fastloss.compare(r, x, labels, **layers)
    same_comparison(got, fastloss.compare(*logits, labels))
    assert got.kl.dtype == (np.float64 if dtype == np.float64 else np.float32)
    same_comparison(fastloss.compare(r, x, **layers), fastloss.compare(*logits))
    for options in ({"temperature": 0.75}, {"softcap": 5.0, "temperature": 2.0}):
        expected = fastloss.compare(*logits, labels, **options)
        same_comparison(fastloss.compare(r, x, labels, **layers, **options), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("distance", [1 / 4096, 1 / 64, 2.0])
def test_against_mpmath(distance, dtype, tiles):
    rng = generator("layers", distance)
    r = (rng.integers(-16, 17, (20, 8)) / 8).astype(dtype)
    x = r + (distance * rng.integers(-2, 3, r.shape)).astype(dtype)
    layer = (rng.integers(-8, 9, (130, 8)) / 8).astype(dtype)
    logits = [logits_of(hidden, layer) for hidden in (r, x)]
    assert all(np.array_equal(exact, exact.astype(dtype)) for exact in logits)
    assert_divergence(fastloss.compare(r, x, linear_weight=layer).kl, *logits)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("n_rows", [1, 2, 19, 130])
@pytest.mark.parametrize("n_features", [1, 7, 64, 513])
def test_equal_models_are_0(n_features, n_rows, dtype, tiles):
    """Ordinary numbers, whose products are rounded."""
    rng = generator("equal", n_features, n_rows)
    hidden, layer = (rng.normal(size=(n, n_features)).astype(dtype) for n in (n_rows, 257))
    bias = rng.normal(size=257).astype(dtype)
    for layers in (
        {"linear_weight": layer},
        {"linear_weight": layer, "linear_bias": bias},
        {"linear_weight": layer, "reference_linear_weight": layer.copy()},
    ):
        got = fastloss.compare(hidden.copy(), hidden, np.zeros(n_rows, int), **layers)
        assert not got.kl.any() and got.same_argmax.all() and not got.delta_p.any()
        assert same_bits(got.nll, got.reference_nll)
    assert fastloss.compare(hidden, hidden, linear_weight=layer, reference_linear_weight=2 * layer).kl.all()


def test_shapes_and_index_dtypes(tiles):
    rng = generator("shapes")
    r, x = (rng.integers(-3, 4, (4, 3, 2, n)).astype(np.float32) for n in (5, 6))
    own, layer = (rng.integers(-3, 4, (7, n)).astype(np.float32) / 4 for n in (5, 6))
    options = {"linear_weight": layer, "reference_linear_weight": own}
    target = rng.integers(0, 7, (4, 3, 2))
    expected = fastloss.compare(r @ own.T, x @ layer.T, target)
    for kind in (np.int8, np.uint16, np.int32, np.uint64):
        same_comparison(fastloss.compare(r, x, target.astype(kind), **options), expected)
    same_comparison(fastloss.compare(r, x, target.tolist(), **options, axis=3), expected)
    strided = {name: np.asfortranarray(array) for name, array in options.items()}
    same_comparison(fastloss.compare(np.asfortranarray(r), x[::-1][::-1], target, **strided), expected)
    swapped = {name: array.astype(">f4") for name, array in options.items()}
    same_comparison(fastloss.compare(r.astype(">f4"), x, target, **swapped), expected)
    one = fastloss.compare(r[0, 0, 0], x[0, 0, 0], target[0, 0, 0], **options)
    assert all(same_bits(a, b[0, 0, 0]) and a.shape == () for a, b in zip(one, expected, strict=True))
    wide = fastloss.compare(r.astype(float), x, target, **options)
    assert wide.kl.dtype == np.float64
    np.testing.assert_allclose(wide.kl, expected.kl, rtol=1e-5)
    whole = fastloss.compare(r.astype(int), x.astype(int), target, linear_weight=layer, reference_linear_weight=own)
    same_comparison(whole, wide)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_special_values_stay_in_their_rows(value, tiles):
    rng = generator("special layers")
    hidden, layer = rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=(90, 4)).astype(np.float32)
    other = hidden + np.float32(0.25)
    plain = fastloss.compare(hidden, other, linear_weight=layer)
    for side in range(2):
        given = [hidden.copy(), other.copy()]
        given[side][17, 2] = value
        got = fastloss.compare(*given, linear_weight=layer)
        assert np.isnan(got.kl[17])
        keep = np.arange(40) != 17
        assert same_bits(got.kl[keep], plain.kl[keep])
    if value == -np.inf:  # classes that are ruled out cost nothing if both rule them out
        bias = np.where(np.arange(90) % 3, np.float32(0), np.float32(value))
        got = fastloss.compare(hidden, other, linear_weight=layer, linear_bias=bias)
        some = np.arange(90) % 3 > 0
        np.testing.assert_allclose(got.kl, fastloss.compare(hidden, other, linear_weight=layer[some]).kl, rtol=1e-4)
        zeros = np.zeros_like(bias)  # one that only the new model rules out costs everything
        got = fastloss.compare(hidden, other, linear_weight=layer, linear_bias=bias, reference_linear_bias=zeros)
        assert (got.kl == np.inf).all()


def test_threads(monkeypatch):
    rng = generator("threads of layers")
    hidden, other = (rng.normal(size=(300, 40)).astype(np.float32) for _ in range(2))
    layer, labels = rng.normal(size=(5000, 40)).astype(np.float32), rng.integers(0, 5000, 300)
    results = []
    for threads in (1, 2, 5):
        with fastloss.use_threads(threads):
            results.append(fastloss.compare(other, hidden, labels, linear_weight=layer))
    for result in results[1:]:
        same_comparison(result, results[0])


def test_memory(monkeypatch):
    """A tile of each, where all logits would take 160 MB."""
    monkeypatch.setattr(tiled, "TILE", 1 << 20)
    hidden, layer = np.zeros((500, 64), np.float32), np.zeros((40_000, 64), np.float32)
    fastloss.compare(hidden[:2], hidden[:2], linear_weight=layer)
    tracemalloc.start()
    got = fastloss.compare(hidden, hidden, np.zeros(500, int), linear_weight=layer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # NumPy takes 11 MB beside the tiles
    assert not got.kl.any()


def test_errors():
    r, x, own, layer = np.zeros((3, 4)), np.zeros((3, 2)), np.zeros((5, 4)), np.zeros((5, 2))
    both = {"linear_weight": layer, "reference_linear_weight": own}
    for options, error, what in [
        ({"linear_bias": np.zeros(5)}, ValueError, "^linear_bias: expected None, as there is no linear_weight"),
        ({"reference_linear_weight": own}, ValueError, "reference_linear_weight: expected None.*got weights"),
        ({"reference_linear_bias": np.zeros(5)}, ValueError, "reference_linear_bias: expected None.*got a bias"),
        ({"linear_weight": layer}, ValueError, r"linear_weight: expected shape \(n_classes, 4\), as reference has"),
        ({"linear_weight": own}, ValueError, r"linear_weight: expected shape \(n_classes, 2\), as logits has"),
        (both | {"linear_weight": layer[0]}, ValueError, "linear_weight: expected shape"),
        (both | {"reference_linear_weight": layer}, ValueError, r"reference_linear_weight.*\(n_classes, 4\)"),
        (
            both | {"reference_linear_weight": own[:4]},
            ValueError,
            r"reference_linear_weight: expected shape \(5, 4\), as linear_weight has shape \(5, 2\), got \(4, 4\)",
        ),
        (both | {"linear_bias": np.zeros(4)}, ValueError, r"^linear_bias: expected shape \(5,\)"),
        (both | {"reference_linear_bias": np.zeros(4)}, ValueError, r"reference_linear_bias: expected shape \(5,\)"),
        (both | {"axis": 0}, ValueError, "axis: expected -1"),
        (both | {"axis": 2}, ValueError, "axis"),
        (both | {"temperature": 0.0}, ValueError, "temperature"),
        ({"linear_weight": layer[:0], "reference_linear_weight": own[:0]}, ValueError, "at least one class"),
        (both | {"linear_weight": layer.astype(str)}, TypeError, "linear_weight"),
        (both | {"reference_linear_weight": own.astype(complex)}, TypeError, "reference_linear_weight"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.compare(r, x, **options)
    with pytest.raises(ValueError, match=r"logits: expected shape \(2, n_features\), as reference has shape \(2, 4\)"):
        fastloss.compare(r[:2], x, **both)
    with pytest.raises(ValueError, match="reference"):
        fastloss.compare(np.float64(1), x, **both)
    for target, error, what in [
        ([0, 5, 2], IndexError, r"target\[1\] = 5 "),
        ([0, 1, -1], IndexError, r"target\[2\] = -1 "),
        ([0.0, 1.0, 2.0], TypeError, "target: expected integer"),
        ([0, 1], ValueError, r"target: expected shape \(3,\), that of logits without the last axis"),
    ]:
        with pytest.raises(error, match=what):
            fastloss.compare(r, x, target, **both)
    got = fastloss.compare(r, x, [0, 9, 1], ignore_index=9, **both)
    assert got.nll.round(6).tolist() == [1.609438, 0.0, 1.609438]


@pytest.mark.any_backend
@pytest.mark.parametrize("names", LAYERS)
def test_dask(names):
    da = pytest.importorskip("dask.array")
    r, x, labels, layers, *_ = pair_of(24, 4, 9, LAYERS[names], np.float32)
    r, x, labels = (array.reshape(4, 6, *array.shape[1:]) for array in (r, x, labels))
    expected = fastloss.compare(r, x, labels, **layers, temperature=0.5)
    in_chunks = {name: da.from_array(array, chunks=4) for name, array in layers.items()}
    for given in (
        (da.from_array(r, chunks=(3, 2, 4)), x, labels),
        (r, da.from_array(x, chunks=(3, 5, 2)), da.from_array(labels, chunks=1)),
    ):
        for more in (layers, in_chunks):
            got = fastloss.compare(*given, **more, temperature=0.5)
            same_comparison([part.compute(scheduler="synchronous") for part in got], expected)
    lazy = da.from_array(r, chunks=(3, 2, 4))
    assert fastloss.compare(lazy, x, **layers).nll is None
    one = fastloss.compare(lazy[0, 0], x[0, 0], labels[0, 0], **layers, temperature=0.5)
    assert one.kl.shape == () and same_bits(one.kl.compute(scheduler="synchronous"), expected.kl[0, 0])
    wrong = labels.copy()
    wrong[3, 4] = 9
    with pytest.raises(IndexError, match=r"target\[3, 4\] = 9 is not in \[0, 9\)"):
        fastloss.compare(lazy, x, wrong, **layers).nll.compute(scheduler="synchronous")
    with pytest.raises(ValueError, match="linear_weight: expected shape"):
        fastloss.compare(lazy, x, **layers | {"linear_weight": layers["linear_weight"][:, :3]})
