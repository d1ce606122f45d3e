"""Temperature and soft cap: what becomes of logits inside the softmax family, held against mpmath, the oracle and differences."""

import functools

import mpmath
import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp, same_bits

import fastloss

INF, NAN = np.inf, np.nan
TRANSFORMS = [
    {"temperature": 0.7},
    {"temperature": 3},
    {"softcap": 30.0},
    {"softcap": np.float32(0.5), "temperature": 2.0},
    {"softcap": 2.0, "temperature": 1e-3},
]
# So far from 1 that what they make of float32 logits leaves its range.
EXTREMES = [{"temperature": t, "softcap": c} for t in (1e-300, 1e-30, 1e30, 1e300) for c in (None, 1e-20, 5.0, 1e20)]


def by_name(options):
    return ",".join(f"{name}={value}" for name, value in options.items())


def exactly(row, temperature=1.0, softcap=None):
    """Of one row by mpmath: -log softmax of all classes, and logsumexp."""
    # a saturated tanh is 1 but for so many digits that even the lowest temperature here makes nothing of the others
    with mpmath.workdps(40 if softcap is None or temperature > 1e-6 else 700):
        z = [mpmath.mpf(float(v)) for v in row]
        if softcap is not None:
            cap = mpmath.mpf(float(softcap))
            z = [v if mpmath.isinf(v) else cap * mpmath.tanh(v / cap) for v in z]
        z = [v / mpmath.mpf(float(temperature)) for v in z]
        top = max(z)
        powers = [mpmath.exp(v - top) for v in z]
        first = z.index(top)
        rest = mpmath.fsum(powers[:first] + powers[first + 1 :])
        tail = mpmath.log1p(rest)
        return [(top - v) + tail for v in z], top + tail


def rows_of(n_classes):
    """Random rows, and ugly ones."""
    rng = generator("transforms", n_classes)
    rows = [rng.normal(size=n_classes) * scale for scale in (1, 30, 3000)]
    rows.append(np.where(np.arange(n_classes) == 1, 20.0, 0.0))
    rows.append(np.linspace(1e4, 1e4 + 2, n_classes))
    rows.append(np.where(np.arange(n_classes) % 2, -3e38, 3e38))
    rows.append(np.where(np.arange(n_classes) == 0, 1e-30, -1e-30))
    rows.append(np.where(np.arange(n_classes) == 0, 3.0, -INF))
    return np.array(rows, np.float32)


@functools.cache
def exact_rows(n_classes, temperature=1.0, softcap=None):
    """The same of `rows_of`, once for all backends."""
    return [exactly(row, temperature, softcap) for row in rows_of(n_classes)]


# mpmath takes long: of many classes few
CASES = [(n, options) for n in (2, 10) for options in TRANSFORMS + EXTREMES]
CASES += [(200, TRANSFORMS[0]), (200, EXTREMES[1]), (1000, TRANSFORMS[3])]


@pytest.mark.any_backend("options")
@pytest.mark.parametrize("n_classes, options", CASES, ids=lambda v: by_name(v) if isinstance(v, dict) else str(v))
def test_rows(n_classes, options):
    """Within 2 ulp of the exact value, tiny losses too; nothing overflows that should not, and nothing is NaN."""
    rows, found = rows_of(n_classes), exact_rows(n_classes, **options)
    labels = np.argmax(rows, axis=1)
    for target in (labels, (labels + 1) % n_classes):
        exact = [float(losses[t]) if losses[t] < 1e308 else INF for (losses, _), t in zip(found, target, strict=True)]
        got = fastloss.cross_entropy(rows, target, reduction="none", **options)
        assert_ulp(got, exact, 2, what="rows")
        crosswise = fastloss.cross_entropy(np.ascontiguousarray(rows.T), target, axis=0, reduction="none", **options)
        assert_ulp(crosswise, exact, 2, what="columns")
        scores = fastloss.score(rows, target, **options)
        assert same_bits(scores.nll, got)
    exact = [float(lse) if abs(lse) < 1e308 else np.sign(float(lse)) * INF for _, lse in found]
    for got in (fastloss.logsumexp(rows, **options), fastloss.logsumexp(rows.T, axis=0, **options), scores.lse):
        assert_ulp(got, exact, 2, what="logsumexp")


def test_a_vocabulary():
    rng = generator("vocabulary")
    row = (rng.normal(size=128256) * 8).astype(np.float32)
    options = {"softcap": 30.0, "temperature": 0.8}
    target = [np.argmax(row), 7]
    exact = reference.loss("cross_entropy", np.stack([row, row]), target, reduction="none", **options)
    assert_ulp(fastloss.cross_entropy(np.stack([row, row]), target, reduction="none", **options), exact, 2)
    assert_ulp(fastloss.logsumexp(row, **options), reference.logsumexp(row, **options), 2)


@pytest.mark.any_backend("options")
@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
def test_normalised(options, name):
    rng = generator(name)
    for dtype in (np.float16, np.float32, np.float64):
        for shape, axis in (((5, 7), -1), ((5, 300), -1), ((3, 7, 70), 1), ((7,), 0)):
            x = (rng.normal(size=shape) * 4).astype(dtype)
            got = getattr(fastloss, name)(x, axis=axis, **options)
            assert got.dtype == (np.float64 if dtype is np.float64 else np.float32)
            exact = getattr(reference, name)(x, axis=axis, **options)
            if dtype is np.float64:
                # the differences of logits, in units of the temperature, are rounded to float64
                np.testing.assert_allclose(got, exact.astype(np.float64), rtol=1e-11)
            else:
                assert_ulp(got, exact, 3, at=1e-3)


def test_small_softmax():
    """Of a saturated soft cap: logits of 500 and 600 are 30 within 1e-13, and further apart at a temperature as small."""
    options = {"softcap": 30.0, "temperature": 1e-13}
    x = np.array([[500.0, 520.0, 600.0]])
    exact, _ = exactly(x[0], **options)
    got = -fastloss.log_softmax(x, **options)[0]
    np.testing.assert_allclose(got, [float(v) for v in exact], rtol=1e-12)


@pytest.mark.any_backend("n_classes", "axis", "smoothing")
@pytest.mark.parametrize("options", [{"softcap": 2.0}, {"softcap": 0.5, "temperature": 2.5}], ids=by_name)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n_classes, axis", [(6, 1), (6, 0), (140, 1), (1000, 1)])
def test_gradient_against_differences(n_classes, axis, smoothing, options):
    rng = generator("differences", n_classes)
    x = rng.normal(size=(4, n_classes))
    y, w = rng.integers(0, n_classes, 4), rng.uniform(0.5, 2, n_classes)
    y[2] = -100
    options = options | {"label_smoothing": smoothing, "weight": w, "axis": axis}

    def loss(x):
        return fastloss.cross_entropy(x if axis else x.T, y, **options)

    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x if axis else x.T, y, **options)
    assert value == loss(x)
    gradient = gradient if axis else gradient.T
    for at in [(0, 0), (0, y[0]), (1, 3), (1, y[1]), (2, 1), (3, n_classes - 1)]:
        step = np.zeros_like(x)
        step[at] = 1e-5
        assert abs((loss(x + step) - loss(x - step)) / 2e-5 - gradient[at]) < 1e-9


@pytest.mark.any_backend
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_halves_are_widened_first(half, options):
    rng = generator("halves", half)
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if half == "bfloat16" else np.float16
    for n_classes in (5, 300):
        x = (rng.normal(size=(6, n_classes)) * 4).astype(dtype)
        y = rng.integers(0, n_classes, 6)
        wide = x.astype(np.float32)
        for function in (fastloss.cross_entropy, fastloss.value_and_grad(fastloss.cross_entropy)):
            for got, expected in zip(
                np.atleast_1d(np.asarray(function(x, y, **options), object)),
                np.atleast_1d(np.asarray(function(wide, y, **options), object)),
                strict=True,
            ):
                assert same_bits(got, expected)
        assert same_bits(fastloss.score(x, y, **options).lse, fastloss.score(wide, y, **options).lse)


def test_special_values():
    x = np.array(
        [
            [1.0, 2.0, 3.0],
            [NAN, 2.0, 3.0],
            [-INF, 2.0, 3.0],
            [INF, 2.0, 3.0],
            [-INF, -INF, -INF],
            [NAN, INF, -INF],
        ]
    )
    for options in ({"temperature": 2.0}, {"softcap": 1.5}, {"softcap": 1.5, "temperature": 1e-300}):
        for array, axis in ((x, 1), (x.T.copy(), 0), (np.repeat(x, 60, axis=1), 1)):
            target = [array.shape[axis] - 1] * 6
            plain = fastloss.score(array, target, axis=axis, top_k=2)
            got = fastloss.score(array, target, axis=axis, top_k=2, **options)
            for name in ("argmax", "correct", "rank", "in_top_k"):
                assert same_bits(getattr(got, name), getattr(plain, name)), name
            assert np.array_equal(np.isnan(got.nll), np.isnan(plain.nll))
            # infinite logits stay so: +inf makes the row's logsumexp that, -inf is a class that is ruled out
            assert np.array_equal(got.lse[3:], plain.lse[3:], equal_nan=True)
            ruled_out = fastloss.softmax(array, axis=axis, **options)
            assert (np.moveaxis(ruled_out, axis, 1)[2, : array.shape[axis] // 3] == 0.0).all()
            _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(
                array, np.where(np.arange(6) == 0, target, -100), axis=axis, **options
            )
            gradient = np.moveaxis(gradient, axis, 1)
            assert not gradient[1:].any()
            if options.get("temperature", 1.0) > 1e-3:
                assert np.isfinite(gradient).all() and gradient[0].all()


@pytest.mark.parametrize("n_classes", [3, 300])
def test_gradients_of_rows_that_are_nan(n_classes):
    """Also at infinite logits, where a soft cap is flat."""
    x = np.zeros((4, n_classes), np.float32)
    x[0, 0], x[1], x[2, 1] = INF, -INF, NAN
    for axis, array in ((1, x), (0, x.T.copy())):
        _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(array, [1, 1, 0, 0], axis=axis, softcap=5.0)
        gradient = np.moveaxis(gradient, axis, 1)
        assert np.isnan(gradient[:3]).all() and np.isfinite(gradient[3]).all()


def test_places_are_those_of_the_logits():
    """Also where a soft cap has saturated, or a temperature is too high to tell logits apart."""
    x = np.array([[5000.0, 5001.0, 4999.0, 5000.5], [1e-300, 2e-300, 3e-300, 0.0]])
    for options in ({"softcap": 1.0}, {"temperature": 1e300}, {"softcap": 30.0, "temperature": 1e300}):
        for array, axis in ((x, 1), (x.T.copy(), 0)):
            scores = fastloss.score(array, [0, 1], axis=axis, top_k=2, **options)
            assert scores.argmax.tolist() == [1, 2] and scores.rank.tolist() == [2, 1]


def test_nothing_else_changes():
    """A temperature of 1 without a soft cap is none at all, whatever type it has."""
    rng = generator("none")
    x, y = rng.normal(size=(40, 50)).astype(np.float32), rng.integers(0, 50, 40)
    for temperature in (1, 1.0, np.float32(1.0), True):
        for function in (fastloss.cross_entropy, lambda x, y, **o: fastloss.logsumexp(x, **o)):
            assert same_bits(function(x, y, temperature=temperature, softcap=None), function(x, y))


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
@pytest.mark.parametrize("n_classes", [5, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_details(dtype, n_classes, options):
    """Entropies, the most likely classes and log-probabilities: of arrays with any class axis, Dask's, and hidden states."""
    da = pytest.importorskip("dask.array")
    rng = generator("details")
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-13}
    h, a, b = (rng.normal(size=s).astype(dtype) for s in ((7, 4), (n_classes, 4), (n_classes,)))
    x, y, ids = h @ a.T + b, rng.integers(0, n_classes, 7), rng.integers(0, n_classes, (7, 2))
    y[2] = ids[1, 1] = -100
    more = options | {"top_k": 2, "top": 3, "ids": ids, "entropy": True}
    log_p = reference.log_softmax(x, **options)
    with np.errstate(under="ignore"):
        entropy = -np.sum(np.exp(log_p) * log_p, axis=1)
    chosen = np.take_along_axis(log_p, np.maximum(ids, 0), 1).astype(np.float64)
    chosen[ids < 0] = NAN
    plain = fastloss.score(x, y, top_k=2, top=3)
    top = np.take_along_axis(log_p, plain.top_ids, 1).astype(np.float64)
    chunks = (3, max(2, n_classes // 3))
    for scores in (
        fastloss.score(x, y, **more),
        fastloss.score(x.T.copy(), y, axis=0, **more),
        fastloss.score(da.from_array(x, chunks=(3, n_classes)), y, **more),
        fastloss.score(da.from_array(x, chunks=chunks), y, **more),
        fastloss.score(h, y, linear_weight=a, linear_bias=b, **more),
    ):
        for name in ("argmax", "correct", "rank", "in_top_k", "top_ids"):
            assert np.array_equal(np.asarray(getattr(scores, name)), getattr(plain, name)), name
        assert scores.entropy.dtype == scores.top_log_probs.dtype == dtype
        np.testing.assert_allclose(np.asarray(scores.entropy), entropy.astype(np.float64), **tolerance)
        np.testing.assert_allclose(np.asarray(scores.top_log_probs), top, **tolerance)
        np.testing.assert_allclose(np.asarray(scores.id_log_probs), chosen, **tolerance)
        np.testing.assert_allclose(np.asarray(scores.lse), fastloss.logsumexp(x, **options), **tolerance)
    alone = fastloss.score(x, entropy=True, **options)
    assert alone.nll is None and same_bits(alone.entropy, fastloss.score(x, y, **more).entropy)


def test_threads_and_batches():
    rng = generator("threads")
    for n_rows, n_classes, axis in ((3000, 300, 1), (60000, 5, 1), (9, 40000, 1), (60000, 5, 0)):
        x, y = rng.normal(size=(n_rows, n_classes)).astype(np.float32) * 5, rng.integers(0, n_classes, n_rows)
        x = x if axis else np.ascontiguousarray(x.T)
        part = x[:, :7] if axis == 0 else x[2:9]
        options = {"softcap": 4.0, "temperature": 0.7, "axis": axis}
        found = []
        for n_threads in (1, 2, 3):
            with fastloss.use_threads(n_threads):
                value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, y, **options)
                rows = fastloss.cross_entropy(x, y, reduction="none", **options)
                found.append((value, gradient, rows, fastloss.cross_entropy(x, y, **options)))
        for other in found[1:]:
            assert all(same_bits(a, b) for a, b in zip(found[0], other, strict=True))
        rows = found[0][2]
        assert_ulp(value, np.mean(rows, dtype=np.longdouble), 2)
        if axis:
            assert same_bits(fastloss.cross_entropy(part, y[2:9], reduction="none", **options), rows[2:9])
        else:
            assert same_bits(fastloss.cross_entropy(part, y[:7], reduction="none", **options), rows[:7])


@pytest.mark.any_backend("options", "dtype", "n_classes")  # Numba compiles for each
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("n_classes", [7, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_a_layer(dtype, n_classes, kind, options):
    rng = generator("layer", kind)
    rtol = 2e-5 if dtype == np.float32 else 1e-11
    hidden, layer, bias = (rng.normal(size=s).astype(dtype) for s in ((9, 4), (n_classes, 4), (n_classes,)))
    logits, y = hidden @ layer.T + bias, rng.integers(0, n_classes, 9)
    y[3] = -100
    ranks = y
    if kind == "probabilities":
        y = rng.dirichlet(np.ones(n_classes), 9).astype(dtype)
    more = options | {"label_smoothing": 0.1, "weight": rng.uniform(0.5, 2, n_classes)}
    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(logits, y, **more)
    wrt = ("hidden", "linear_weight", "linear_bias")
    function = fastloss.value_and_grad(fastloss.linear_cross_entropy, wrt)
    got, gradients = function(hidden, layer, y, linear_bias=bias, **more)
    np.testing.assert_allclose(got, value, rtol=rtol)
    wanted = (gradient @ layer, gradient.T @ hidden, gradient.sum(axis=0))
    for found, expected in zip(gradients, wanted, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=20 * rtol, atol=rtol * np.abs(expected).max())
    scores = fastloss.score(hidden, ranks, linear_weight=layer, linear_bias=bias, top_k=3, **options)
    expected = fastloss.score(logits, ranks, top_k=3, **options)
    for name in ("argmax", "correct", "rank"):
        assert np.array_equal(getattr(scores, name), getattr(expected, name))
    np.testing.assert_allclose(scores.nll, expected.nll, rtol=50 * rtol, atol=rtol)


@pytest.mark.any_backend
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
def test_of_dask_arrays(options):
    da = pytest.importorskip("dask.array")
    rng = generator("dask")
    x = rng.normal(size=(9, 11)).astype(np.float32) * 4
    y, p = rng.integers(0, 11, 9), rng.dirichlet(np.ones(11), 9).astype(np.float32)
    y[4] = -100
    for chunks in ((4, 11), (4, 3), (9, 5)):
        logits = da.from_array(x, chunks=chunks)
        for target in (y, p):
            more = options | {"label_smoothing": 0.2}
            for name in ("none", "mean"):
                got = fastloss.cross_entropy(logits, target, reduction=name, **more).compute()
                assert_ulp(got, fastloss.cross_entropy(x, target, reduction=name, **more), 2)
            _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(logits, target, **more)
            _, expected = fastloss.value_and_grad(fastloss.cross_entropy)(x, target, **more)
            np.testing.assert_allclose(gradient.compute(), expected, rtol=1e-5, atol=1e-8)
        for function in (fastloss.softmax, fastloss.log_softmax, fastloss.logsumexp):
            assert_ulp(function(logits, **options).compute(), function(x, **options), 2, at=1e-6)
        scores, expected = (fastloss.score(a, y, top_k=3, **options) for a in (logits, x))
        for got, wanted in zip(scores, expected, strict=True):
            if wanted is None:
                assert got is None
            elif wanted.dtype == np.float32:
                assert_ulp(got.compute(), wanted, 2)
            else:
                assert np.array_equal(got.compute(), wanted)


@pytest.mark.any_backend("options")
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
def test_comparison(options):
    """Of a pair of rows the same as of what becomes of their logits, computed in extended precision."""
    rng = generator("comparison")
    for n_classes, axis in ((7, 1), (7, 0), (300, 1)):
        r = (rng.normal(size=(6, n_classes)) * 4).astype(np.float32)
        x, y = (r + rng.normal(size=r.shape) * 0.01).astype(np.float32), rng.integers(0, n_classes, 6)
        x[2] = r[2]
        y[3] = -100
        with np.errstate(under="ignore"):
            log_p, log_q = (reference.log_softmax(a, **options) for a in (r, x))
            kl = np.sum(np.exp(log_p) * (np.expm1(log_q - log_p) - (log_q - log_p)), axis=1)
            every, label = np.arange(6), np.where(y < 0, 0, y)
            rise = np.where(y < 0, 0, (np.exp(log_q) - np.exp(log_p))[every, label])
        others = (r, x) if axis else (r.T.copy(), x.T.copy())
        got = fastloss.compare(*others, y, axis=axis, **options)
        np.testing.assert_allclose(got.kl, kl.astype(np.float64), rtol=1e-5, atol=1e-16)
        assert got.kl[2] == 0.0 and (got.kl >= 0.0).all()
        np.testing.assert_allclose(got.delta_p, rise.astype(np.float64), rtol=1e-5, atol=1e-9)
        assert np.array_equal(got.same_argmax, np.argmax(r, axis=1) == np.argmax(x, axis=1))
        assert same_bits(got.nll, fastloss.cross_entropy(others[1], y, axis=axis, reduction="none", **options))
        assert same_bits(
            got.reference_nll, fastloss.cross_entropy(others[0], y, axis=axis, reduction="none", **options)
        )
        without = fastloss.compare(*others, axis=axis, **options).kl
        wide = fastloss.compare(others[0].astype(np.float64), others[1], axis=axis, **options).kl
        if "softcap" in options:
            assert same_bits(without, got.kl) and same_bits(wide.astype(np.float32), got.kl)
        else:  # kernels may divide by temperatures themselves: in float32, and with the targets' classes left out of their sums
            np.testing.assert_allclose(without, got.kl, rtol=1e-6, atol=1e-16)
            np.testing.assert_allclose(wide, got.kl, rtol=1e-5, atol=1e-16)
        if axis:
            da = pytest.importorskip("dask.array")
            lazy = fastloss.compare(da.from_array(r, chunks=(4, 5)), da.from_array(x, chunks=(2, 3)), y, **options)
            assert same_bits(lazy.kl.compute(), got.kl)


FUNCTIONS = ("cross_entropy", "linear_cross_entropy", "log_softmax", "softmax", "logsumexp", "score", "compare")


def call(name, n_rows, lazy=False, **options):
    x, y = np.zeros((n_rows, 4), np.float32), np.zeros(n_rows, np.int64)
    if lazy:
        import dask.array as da

        x = da.from_array(x, chunks=(2, 4))
    operands = {
        "cross_entropy": (x, y),
        "score": (x, y),
        "compare": (x, x),
        "linear_cross_entropy": (x, np.zeros((5, 4), np.float32), y),
    }
    return getattr(fastloss, name)(*operands.get(name, (x,)), **options)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_validation(name):
    """The same error at every size, whether or not calls like it are kept, and of Dask arrays before anything is computed."""
    for options, kind in (
        *(({"temperature": v}, ValueError) for v in (0, 0.0, -1.0, INF, -INF, NAN)),
        *(({"softcap": v}, ValueError) for v in (0, 0.0, -1.0, INF, NAN)),
        *(({"temperature": v}, TypeError) for v in (None, "1", 1j, [1.0, 2.0])),
        *(({"softcap": v}, TypeError) for v in ("30", 1j, [30.0])),
    ):
        (option,) = options
        messages = set()
        for n_rows in (0, 1, 3, 1000):
            for lazy in (False, True) if n_rows == 3 else (False,):
                if lazy:
                    pytest.importorskip("dask.array")
                call(name, n_rows, lazy)  # its like is kept
                with pytest.raises(kind, match=option) as caught:
                    call(name, n_rows, lazy, **options)
                messages.add(str(caught.value))
        assert len(messages) == 1, messages
    for value in (2, 2.0, np.float32(2.0), np.int8(2), np.array(2.0)):
        call(name, 3, temperature=value, softcap=value)


def test_accumulators():
    rng = generator("accumulators")
    x, y = rng.normal(size=(60, 7)), rng.integers(0, 7, 60)
    for options in TRANSFORMS:
        loss = fastloss.Accumulator(fastloss.cross_entropy, **options)
        perplexity = fastloss.Accumulator("perplexity", **options)
        for part in (slice(0, 13), slice(13, 60)):
            loss.update(x[part], y[part])
            perplexity.update(x[part], y[part])
        expected = fastloss.cross_entropy(x, y, **options)
        np.testing.assert_allclose(loss.compute(), expected, rtol=1e-14)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(perplexity.compute(), np.exp(expected), rtol=1e-13)
    with pytest.raises(ValueError, match="softcap"):
        fastloss.Accumulator(fastloss.cross_entropy, softcap=0.0)


@pytest.mark.any_backend("options")
@pytest.mark.parametrize("options", TRANSFORMS, ids=by_name)
def test_as_torch(options):
    torch = pytest.importorskip("torch")
    import torch.nn.functional as F

    import fastloss.torch as ft

    rng = generator("torch")
    x = torch.from_numpy(rng.normal(size=(6, 5, 3)))
    y = torch.from_numpy(rng.integers(0, 5, (6, 3)))
    temperature, cap = float(options.get("temperature", 1.0)), options.get("softcap")

    def theirs(x):
        return F.cross_entropy((x if cap is None else float(cap) * torch.tanh(x / float(cap))) / temperature, y)

    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, expected = ft.cross_entropy(mine, y, **options), theirs(other)
    (3.0 * got).backward()
    (3.0 * expected).backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_out_and_layouts():
    rng = generator("layouts")
    x = rng.normal(size=(6, 200)).astype(np.float32)
    y = rng.integers(0, 200, 6)
    options = {"softcap": 3.0, "temperature": 0.5}
    rows = fastloss.cross_entropy(x, y, reduction="none", **options)
    probs = fastloss.softmax(x, **options)
    _, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, y, **options)
    big_endian = x.astype(">f4")
    gappy = np.repeat(x, 2, axis=0)[::2]
    backwards = x[:, ::-1].copy()[:, ::-1]
    read_only = x.copy()
    read_only.flags.writeable = False
    for a in (big_endian, gappy, read_only):
        assert same_bits(fastloss.cross_entropy(a, y, reduction="none", **options), rows)
        assert same_bits(fastloss.softmax(a, **options), probs)
    assert_ulp(fastloss.cross_entropy(backwards, y, reduction="none", **options), rows, 1)
    for dtype in (np.float32, np.float64, np.float16):
        out = np.full((6,), NAN, dtype)
        assert fastloss.cross_entropy(x, y, reduction="none", out=out, **options) is out
        assert np.array_equal(out, rows.astype(dtype))
    own = x.copy()
    fastloss.value_and_grad(fastloss.cross_entropy)(own, y, out=own, **options)
    assert same_bits(own, gradient)
    own = x.copy()
    assert same_bits(fastloss.softmax(own, out=own, **options), probs)


def test_bad_labels():
    x = np.zeros((2000, 30), np.float32)
    y = np.zeros(2000, np.int64)
    y[1234] = 30
    for options in ({}, {"temperature": 2.0}, {"softcap": 2.0}):
        for function in (fastloss.cross_entropy, fastloss.score, fastloss.value_and_grad(fastloss.cross_entropy)):
            for array, axis in ((x, 1), (x.T.copy(), 0), (np.repeat(x, 10, axis=1)[:, :30], 1)):
                with pytest.raises(IndexError, match="1234"):
                    function(array, y, axis=axis, **options)
