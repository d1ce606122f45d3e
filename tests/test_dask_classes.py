"""Dask arrays whose class axis has several chunks: special values, tiny losses and scores, compared with the host's."""

import numpy as np
import pytest
import reference
from cases import ROW_CASES, generator
from compare import assert_ulp, result_dtype, same_bits

import fastloss

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
lazily = pytest.importorskip("lazily")
check, check_gradient = lazily.check, lazily.check_gradient
pytestmark = pytest.mark.one_backend  # chunks are no business of kernels, and Numba compiles half a minute for them


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("case", [case for case in ROW_CASES if case.loss != "nll_loss"], ids=str)
def test_class_weights_ignored_labels_and_axes(case):
    """Options of rows, for a class axis in the middle."""
    rng = generator(case, "options")
    arguments = case.cast(case.arguments(rng, (4, 5, 6)), np.float32)
    arguments = [np.moveaxis(a, -1, 1) if a.ndim == 3 else a for a in arguments]
    options = {"axis": 1, "weight": rng.uniform(0.5, 2, 6).astype(np.float32)}
    if arguments[1].ndim == 2:
        options["ignore_index"] = int(arguments[1][0, 0])
    for chunks in ((3, 6, 2), (3, (1, 2, 3), 2)):
        inputs = [da.from_array(a, chunks=chunks if a.ndim == 3 else (2, 5)) for a in arguments]
        check(case, arguments, np.dtype(np.float32), inputs, **options)
        check_gradient(case, arguments, inputs, **options)
    lazy_weight = options | {"weight": da.from_array(options["weight"], chunks=4)}
    got = getattr(fastloss, case.loss)(*inputs, **case.options | lazy_weight)
    same = getattr(fastloss, case.loss)(*inputs, **case.options | options)
    assert same_bits(*dask.compute(got, same))


def specials(rng, n_rows, n_classes, dtype):
    """Rows with NaN, infinities, ties and huge values, some of nothing else."""
    x = rng.normal(0, 3, (n_rows, n_classes))
    x[rng.uniform(size=x.shape) < 0.3] = -np.inf
    x[rng.uniform(size=x.shape) < 0.05] = np.nan
    x[rng.uniform(size=x.shape) < 0.03] = np.inf
    x[0], x[1], x[2], x[3] = -np.inf, np.nan, np.inf, 0.0
    x[4:8] = np.rint(x[4:8])
    x[8] = rng.normal(0, 1e30 if dtype == np.float32 else 1e4, n_classes)
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("chunks", [(25, 11), (25, (4, 0, 1, 6)), (25, 1)], ids=["rows", "classes", "single"])
def test_special_values(chunks, dtype, backend):
    rng = generator("special", chunks, dtype)
    x = specials(rng, 60, 11, dtype)
    y = rng.integers(0, 11, 60)
    y[::9] = -100
    lazy = da.from_array(x, chunks=chunks)
    tolerance = {"rtol": 4 * np.finfo(result_dtype(dtype)).eps}
    scores, expected = dask.compute(*fastloss.score(lazy, y, top_k=3)), fastloss.score(x, y, top_k=3)
    for name, got, wanted in zip(expected._fields[:6], scores[:6], expected[:6], strict=True):
        assert got.dtype == wanted.dtype
        if name in ("nll", "lse"):
            np.testing.assert_allclose(got, wanted, **tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(got, wanted, err_msg=name)
    for function in (fastloss.log_softmax, fastloss.softmax, fastloss.logsumexp):
        got = function(lazy)
        assert got.dtype == result_dtype(dtype) and got.shape == function(x).shape
        got, wanted, atol = got.compute(), function(x), 0.0
        if backend == "numpy" and function is fastloss.softmax:
            # exp of log_softmax: what that is off by, relative to itself, is what its exp is off by
            with np.errstate(divide="ignore"):
                got, wanted, atol = np.log(got), np.log(wanted), tolerance["rtol"]
        np.testing.assert_allclose(got, wanted, **tolerance, atol=atol, err_msg=function.__name__)
    p = rng.dirichlet(np.ones(11), 60).astype(np.float32 if dtype == np.float16 else dtype)
    p[::5] = np.eye(11)[y[::5] % 11]
    for target, options in ((y, {}), (y, {"label_smoothing": 0.1}), (p, {}), (p, {"weight": rng.uniform(0, 1, 11)})):
        got = fastloss.cross_entropy(lazy, target, reduction="none", **options).compute()
        wanted = fastloss.cross_entropy(x, target, reduction="none", **options)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, err_msg=str(options))
        got = fastloss.value_and_grad(fastloss.cross_entropy)(lazy, target, reduction="sum", **options)[1].compute()
        wanted = fastloss.value_and_grad(fastloss.cross_entropy)(x, target, reduction="sum", **options)[1]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6, err_msg=str(options))


@pytest.mark.parametrize("chunks", [3, 1, (2, 1)])
def test_tiny_losses(chunks):
    """Nothing is lost where the target dwarfs the other classes, in whatever chunk it is."""
    for row in ([20, 0, 0], [0, 0, 40], [-40, 0, -90], [0, 88, 0]):
        x = np.array([row], np.float32)
        target = [int(np.argmax(row))]
        lazy = da.from_array(x, chunks=(1, chunks))
        exact = reference.loss("cross_entropy", x, target, reduction="none")
        assert_ulp(fastloss.cross_entropy(lazy, target, reduction="none").compute(), exact, 2)
        assert_ulp(fastloss.cross_entropy(lazy, target).compute(), exact[0], 2)
        assert_ulp(fastloss.score(lazy, target).nll.compute(), exact, 2)
        assert_ulp(fastloss.log_softmax(lazy).compute(), reference.log_softmax(x), 2)


def test_many_classes():
    """Chunks that are tiles by themselves; labels in each of them."""
    rng = generator("many")
    x = rng.normal(0, 5, (50, 3000)).astype(np.float32)
    y = rng.integers(0, 3000, 50)
    lazy = da.from_array(x, chunks=(20, 700))
    exact = reference.loss("cross_entropy", x, y, reduction="none")
    assert_ulp(fastloss.cross_entropy(lazy, y, reduction="none").compute(), exact, 2)
    scores = fastloss.score(lazy, y, top_k=10)
    np.testing.assert_array_equal(scores.rank.compute(), fastloss.score(x, y, top_k=10).rank)


def test_a_single_row():
    x = generator("row").normal(size=7).astype(np.float32)
    for chunks in (7, 3):
        lazy = da.from_array(x, chunks=chunks)
        for reduction in ("none", "mean"):
            got = fastloss.cross_entropy(lazy, 2, reduction=reduction)
            assert got.shape == ()
            assert_ulp(got.compute(), reference.loss("cross_entropy", x, np.array(2), reduction=reduction), 2)
        scores, wanted = fastloss.score(lazy, 2, top_k=2), fastloss.score(x, 2, top_k=2)
        assert [int(part.compute()) for part in scores[2:6]] == [int(part) for part in wanted[2:6]]
        assert fastloss.logsumexp(lazy).shape == ()


def test_all_ignored():
    x, y = np.ones((4, 6), np.float32), np.full(4, -100)
    x[1, 1] = np.nan
    for chunks in ((2, 6), (2, 3)):
        value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(da.from_array(x, chunks=chunks), y)
        assert np.isnan(value.compute()) and not gradient.compute().any()
        assert fastloss.cross_entropy(da.from_array(x, chunks=chunks), y, reduction="sum").compute() == 0.0


@pytest.mark.parametrize("kind", ["index", "probs"])
def test_linear(kind):
    rng = generator("linear", kind)
    h, a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 5, 6), (9, 6), (9,)))
    y = rng.integers(0, 9, (4, 5)) if kind == "index" else rng.dirichlet(np.ones(9), (4, 5)).astype(np.float32)
    w = rng.uniform(0.5, 2, 9)
    options = {"linear_bias": da.from_array(b, chunks=5), "weight": w, "label_smoothing": 0.1}
    plain = options | {"linear_bias": b}
    for lazy_layer in (a, da.from_array(a, chunks=(4, 3))):
        lazy = da.from_array(h, chunks=(3, 2, 4))
        for reduction in ("mean", "sum", "none"):
            got = fastloss.linear_cross_entropy(lazy, lazy_layer, y, reduction=reduction, **options)
            wanted = fastloss.linear_cross_entropy(h, a, y, reduction=reduction, **plain)
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            np.testing.assert_allclose(got.compute(), wanted, rtol=1e-5)
        got = dask.compute(*fastloss.value_and_grad(fastloss.linear_cross_entropy)(lazy, lazy_layer, y, **options))
        wanted = fastloss.value_and_grad(fastloss.linear_cross_entropy)(h, a, y, **plain)
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-4, atol=1e-7)
    got = fastloss.linear_cross_entropy(da.from_array(h[0, 0]), a, y[0, 0], reduction="none")
    np.testing.assert_allclose(
        got.compute(), fastloss.linear_cross_entropy(h[0, 0], a, y[0, 0], reduction="none"), rtol=1e-5
    )


def test_scores_of_hidden_states():
    rng = generator("hidden scores")
    h, a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 5, 6), (9, 6), (9,)))
    y = rng.integers(0, 9, (4, 5))
    y[0, :2] = -100
    lazy = da.from_array(h, chunks=(3, 2, 4))
    for top_k in (None, 3):
        options = {"linear_weight": a, "linear_bias": b, "top_k": top_k}
        got = fastloss.score(
            lazy, da.from_array(y, chunks=1), **options | {"linear_weight": da.from_array(a, chunks=4)}
        )
        wanted = fastloss.score(h, y, **options)
        for name, part in zip(wanted._fields, wanted, strict=True):
            if part is None:
                assert getattr(got, name) is None
                continue
            assert getattr(got, name).dtype == part.dtype
            np.testing.assert_allclose(getattr(got, name).compute(), part, rtol=1e-5, err_msg=name)
    one = fastloss.score(da.from_array(h[0, 0]), 3, **options)
    assert one.rank.shape == () and one.rank.compute() == fastloss.score(h[0, 0], 3, **options).rank
    y[3, 4] = 9
    with pytest.raises(IndexError, match=r"target\[3, 4\] = 9 is not in \[0, 9\)"):
        fastloss.score(lazy, y, **options).nll.compute()
    with pytest.raises(ValueError, match="linear_weight: expected shape"):
        fastloss.score(lazy, y, linear_weight=a[:, :5])


def test_scores_of_other_axes_and_types():
    rng = generator("score axes")
    x, y = rng.normal(size=(3, 5, 4)).astype(np.float16), rng.integers(0, 5, (3, 4)).astype(np.uint8)
    for chunks in ((2, 5, 3), (2, 2, 3)):
        lazy = fastloss.score(da.from_array(x, chunks=chunks), da.from_array(y, chunks=1), axis=1, ignore_index=4)
        assert lazy.rank is None and lazy.in_top_k is None
        wanted = fastloss.score(x, y, axis=1, ignore_index=4)
        for name in ("nll", "lse", "argmax", "correct"):
            got = getattr(lazy, name)
            assert got.shape == (3, 4) and got.dtype == getattr(wanted, name).dtype
            np.testing.assert_allclose(got.compute(), getattr(wanted, name), rtol=1e-6)
    got = fastloss.logsumexp(da.from_array(x, chunks=(2, 2, 3)), axis=1, keepdims=True)
    np.testing.assert_allclose(got.compute(), fastloss.logsumexp(x, axis=1, keepdims=True), rtol=1e-6)
    assert fastloss.logsumexp(da.zeros((3, 0))).compute().tolist() == [-np.inf] * 3


@pytest.mark.parametrize("chunks", [(1, 3), (1, 2)], ids=["rows", "classes"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("size", [1e60, 1e-60, np.inf])
def test_class_weights_outside_float32(size, reduction, chunks):
    """As on the host, and without a warning, whether the label is in the first chunk or not."""
    x, w = np.array([[1, 0, 0], [1, 0, 0]], np.float32), np.array([size, 1.0, size])
    for name in ("cross_entropy", "nll_loss", "categorical_cross_entropy"):
        function, probs = getattr(fastloss, name), {"cross_entropy": x, "nll_loss": x - 2}.get(name, (x + 1) / 4)
        for y in (np.array([0, 1]), np.array([0, 2])):
            lazy = da.from_array(probs, chunks=chunks)
            options = {"weight": w, "reduction": reduction}
            np.testing.assert_allclose(function(lazy, y, **options).compute(), function(probs, y, **options), rtol=1e-6)
            if reduction != "none":
                got = dask.compute(*fastloss.value_and_grad(function)(lazy, y, **options))
                expected = fastloss.value_and_grad(function)(probs, y, **options)
                for a, b in zip(got, expected, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_sums_of_gradients_outside_float32():
    """What Dask's own operations sum, and round to float32."""
    x = da.from_array(np.array([[3e38, 1.0]], np.float32), chunks=1)
    y = da.zeros((4, 2), dtype=np.float32, chunks=1)
    gradient = fastloss.value_and_grad(fastloss.mse_loss)(x, y, reduction="sum")[1].compute()
    np.testing.assert_array_equal(gradient, np.array([[np.inf, 8.0]], np.float32))
