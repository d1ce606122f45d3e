"""Rows of logits where terms cancel, overflow or drift, and what no row may depend on: the rows beside it."""

import mpmath
import numpy as np
import pytest
import reference
import search_errors
from cases import generator
from compare import assert_ulp, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastloss

pytestmark = pytest.mark.filterwarnings("error")
F32, F64 = np.float32, np.float64
FLOATS = pytest.mark.parametrize("dtype", [F32, F64])
AXES = pytest.mark.parametrize("axis", [0, 1])
cross_entropy, value_and_grad = fastloss.cross_entropy, fastloss.value_and_grad(fastloss.cross_entropy)
INF, NAN = np.inf, np.nan


def along(axis, rows, dtype=F32):
    """Rows of classes, with the classes on that axis."""
    rows = np.asarray(rows, dtype)
    return rows if axis == 1 else np.ascontiguousarray(rows.T)


# --- terms that cancel -------------------------------------------------------------------------------------------------------


@AXES
def test_a_sum_of_two_terms(axis):
    """2.33 ulp before terms of few classes were added up in float64."""
    rows = [[0.015393794514238834, 0.006658579688519239, 26.370168685913086]]
    got = cross_entropy(along(axis, rows), [2], axis=axis, reduction="none")
    assert_ulp(got, [np.longdouble("7.135164711316641664e-12")], 2)


@FLOATS
@AXES
@pytest.mark.parametrize("n_more", [0, 1, 40, 200])
@pytest.mark.parametrize("target", [1, -100])
def test_logsumexp_of_a_score_near_zero(dtype, axis, n_more, target):
    """Where the target is not the most likely class, or there is none, the maximum counts by itself all the same."""
    rows = np.array([[0.001, -300.0], [0.0, -40.0], [0.0, -INF], [-0.25, -2.0], [0.0009, -7.0]])
    rows = np.concatenate([rows, np.full((5, n_more), -310.0)], axis=1)
    x = along(axis, rows, dtype)
    with np.errstate(invalid="ignore"):
        exact = reference.logsumexp(np.asarray(rows, dtype))
    scores = fastloss.score(x, np.full(5, target), axis=axis)
    assert_ulp(scores.lse, exact, 4, at=0.1 * (np.arange(5) == 3))
    np.testing.assert_array_equal(scores.argmax, np.zeros(5))
    assert_ulp(fastloss.logsumexp(x, axis=axis), exact, 4, at=0.1 * (np.arange(5) == 3))


@AXES
def test_gaps_of_hundreds_in_float64(axis):
    rng = generator("gaps")
    for n_classes in (2, 3, 40, 300):
        rows = rng.normal(0, 5, (60, n_classes))
        target = rng.integers(0, n_classes, 60)
        rows[np.arange(60), target] += rng.uniform(80, 690, 60)
        exact = search_errors.Exact(rows, target, np.ones(n_classes), rows)
        x = along(axis, rows, F64)
        assert_ulp(cross_entropy(x, target, axis=axis, reduction="none"), exact.nll(), 8)
        gradient = value_and_grad(x, target, axis=axis, reduction="sum")[1]
        gradient = gradient if axis == 1 else gradient.T
        slopes = exact.slopes()
        shown = np.abs(slopes) > 1e-300
        assert_ulp(gradient[shown], slopes[shown], 16)


@FLOATS
def test_weighted_smoothing_keeps_a_small_tail(dtype):
    """The target weighs little, and the largest class much: what logsumexp adds to the maximum shows."""
    for n_more in (0, 300):
        x = np.array([[-60.0, 0.5, *[-61.0] * n_more]], dtype)
        w = np.array([1e-3, 1e3, *[1.0] * n_more], dtype)
        exact = search_errors.MPExact(x, np.array([0]), w, x)
        right = search_errors.smoothed(exact, exact.w)[0]
        got = cross_entropy(x, [0], weight=w, label_smoothing=search_errors.SMOOTHING, reduction="none")
        assert abs(mpmath.mpf(float(got[0])) - right) <= 8 * np.spacing(got[0])


# --- sums that drift ----------------------------------------------------------------------------------------------------------


@FLOATS
@AXES
def test_many_equal_classes(dtype, axis):
    """Roundings of equal terms go the same way."""
    n = 131072
    x = np.full((2, n), 0.3, dtype) if axis == 1 else np.full((n, 2), 0.3, dtype)
    eps = np.finfo(dtype).eps
    assert np.abs(F64(fastloss.softmax(x, axis=axis)) * n - 1).max() <= 2 * eps
    lse = np.longdouble(dtype(0.3)) + np.log(np.longdouble(n))
    assert_ulp(fastloss.logsumexp(x, axis=axis), [lse, lse], 2)
    got = cross_entropy(x, [0, n - 1], axis=axis, label_smoothing=0.25, reduction="none")
    assert_ulp(got, np.log(np.longdouble([n, n])), 2)
    uniform = np.full_like(x, 1.0 / n)
    assert_ulp(cross_entropy(x, uniform, axis=axis, reduction="none"), np.log(np.longdouble([n, n])), 2)


# --- one class ------------------------------------------------------------------------------------------------------------------


@pytest.mark.any_backend("dtype", "value")
@FLOATS
@pytest.mark.parametrize("value", [0.0, 77.7, -345.6, 1e30, -25000.0])
def test_one_class_is_certain(dtype, value):
    for x in (np.array([[value]] * 70, dtype), np.array([[value, *[-INF] * 200]], dtype)):
        label = np.zeros(len(x), np.int64)
        assert (fastloss.softmax(x)[:, 0] == 1).all() and (fastloss.softmax(x)[:, 1:] == 0).all()
        assert (fastloss.log_softmax(x)[:, 0] == 0).all()
        assert (cross_entropy(x, label, reduction="none") == 0).all()
        assert (value_and_grad(x, label)[1] == 0).all()
    x = x[:, :1].repeat(3, axis=0)
    for options in ({"label_smoothing": 0.1}, {"label_smoothing": 0.3, "weight": [0.7]}):
        for target in (np.zeros(3, np.int64), np.ones((3, 1), dtype), np.full((3, 1), 0.3, dtype)):
            assert (value_and_grad(x, target, **options)[1] == 0).all()
    linear = fastloss.value_and_grad(fastloss.linear_cross_entropy)
    hidden, layer = np.ones((4, 3), dtype), np.full((1, 3), 0.37, dtype)
    for options in ({}, {"label_smoothing": 0.1}):
        assert (linear(hidden, layer, np.zeros(4, np.int64), **options)[1] == 0).all()


# --- infinities ----------------------------------------------------------------------------------------------------------------


@FLOATS
@AXES
@pytest.mark.parametrize("n_more", [0, 200])
def test_a_row_with_infinity_is_nan_as_a_whole(dtype, axis, n_more):
    rows = np.zeros((3, 3 + n_more))
    rows[0, 1], rows[1, 1] = INF, -INF
    x, target = along(axis, rows, dtype), np.array([0, 0, 0])
    uniform = np.full_like(x, 1.0 / (3 + n_more))
    for result in (
        fastloss.softmax(x, axis=axis),
        fastloss.log_softmax(x, axis=axis),
        value_and_grad(x, target, axis=axis)[1],
        value_and_grad(x, target, axis=axis, label_smoothing=0.1)[1],
        value_and_grad(x, uniform, axis=axis)[1],
    ):
        result = result if axis == 1 else result.T
        assert np.isnan(result[0]).all()
        assert not np.isnan(result[1:]).any()


@FLOATS
def test_differences_that_only_a_wider_type_holds(dtype):
    most = dtype(2e38) if dtype is F32 else dtype(1.5e308)
    for n_more in (0, 200):
        x = np.array([[most, -most, *[most] * n_more]], dtype)
        got = cross_entropy(x, [0], label_smoothing=1e-6)
        right = 2 * np.longdouble(most) * np.longdouble(1e-6) / (2 + n_more)
        right += np.log(np.longdouble(1 + n_more))
        assert_ulp(np.array([got]), [right], 4)
        assert_ulp(cross_entropy(x.T.copy(), [0], axis=0, label_smoothing=1e-6, reduction="none"), [right], 4)


# --- weights --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64, np.float16])
@pytest.mark.parametrize("size", [1e60, 1e-60, 1e-300])
@pytest.mark.parametrize("n_more", [0, 200])
def test_weights_that_float32_cannot_hold(dtype, size, n_more):
    x = np.array([[1.0, 0.0, *[-1000.0] * n_more]] * 2, dtype)
    weight = np.full(2 + n_more, size)
    value, gradient = value_and_grad(x, [0, 0], weight=weight)
    np.testing.assert_allclose([value, cross_entropy(x, [0, 0], weight=weight)], 0.31326168751822286, rtol=1e-7)
    np.testing.assert_allclose(gradient[:, :2], [[-0.13447071, 0.13447071]] * 2, rtol=1e-6)
    layer = np.concatenate([np.eye(2), np.full((n_more, 2), -1000.0)]).astype(dtype)
    got = fastloss.linear_cross_entropy(np.array([[1.0, 0.0]], dtype), layer, [0], weight=weight)
    np.testing.assert_allclose(got, np.log1p(np.exp(-1.0) + 0.0), rtol=1e-6)


@FLOATS
@pytest.mark.parametrize("odd", [INF, NAN, 0.0])
@pytest.mark.parametrize("n_more", [0, 200])
def test_the_weight_of_a_class_without_targets(dtype, odd, n_more):
    x = np.zeros((3, 2 + n_more), dtype)
    x[:, 2:] = -INF
    weight = np.ones(2 + n_more)
    weight[1] = odd
    for target in (np.zeros(3, np.int64), np.eye(2 + n_more)[[0, 0, 0]].astype(dtype)):
        value, gradient = value_and_grad(x, target, weight=weight)
        np.testing.assert_allclose([value, cross_entropy(x, target, weight=weight)], np.log(2), rtol=1e-7)
        np.testing.assert_allclose(gradient[:, :2], [[-1 / 6, 1 / 6]] * 3, rtol=1e-6)


@pytest.mark.parametrize("wrt", ["hidden", "linear_weight"])
def test_all_ignored_layers_have_no_gradient(wrt):
    hidden, layer = np.ones((4, 3), F32), np.ones((5, 3), F32)
    function = fastloss.value_and_grad(fastloss.linear_cross_entropy, wrt=wrt)
    value, gradient = function(hidden, layer, np.full(4, -100))
    assert np.isnan(value) and (gradient == 0).all()


# --- a row's result is that row's alone ---------------------------------------------------------------------------------------


def per_row(x, target, dense, weight, smoothing, axis):
    """Everything that is computed of each row; classes on the last axis in what comes back."""
    options = {"label_smoothing": smoothing, "axis": axis}
    shape = (-1, 1) if axis == 1 else (1, -1)
    yield cross_entropy(x, target, weight=weight, reduction="none", **options).reshape(-1, 1)
    yield cross_entropy(x, dense, weight=weight, reduction="none", **options).reshape(-1, 1)
    scores = fastloss.score(x, target, axis=axis, top_k=2)
    yield from (np.asarray(part).reshape(-1, 1) for part in scores if part is not None)
    details = fastloss.score(x, axis=axis, top=1, entropy=True)
    yield from (part.reshape(len(part), -1) for part in details if part is not None)
    yield fastloss.logsumexp(x, axis=axis).reshape(shape).reshape(-1, 1)
    yield fastloss.softmax(x, axis=axis)
    yield fastloss.log_softmax(x, axis=axis)
    for y in (target, dense):
        yield fastloss.value_and_grad(cross_entropy)(x, y, weight=weight, reduction="sum", **options)[1]


@pytest.mark.one_backend  # Numba compiles for three minutes
@settings(max_examples=60, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_classes=st.integers(1, 140),
    n_rows=st.integers(1, 150),
    dtype=st.sampled_from([F32, F64, np.float16]),
    smoothing=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
)
def test_batch_invariance(seed, n_classes, n_rows, dtype, smoothing, weighted):
    rng = np.random.default_rng(seed)
    families = rng.choice(len(search_errors.FAMILIES), n_rows)
    with np.errstate(over="ignore"):
        rows = [search_errors.FAMILIES[family](rng, 1, n_classes) for family in families]
        x = np.concatenate(rows).clip(-6e4, 6e4).astype(dtype)
    target = search_errors.labels(rng, x)
    dense = rng.dirichlet(np.ones(n_classes), n_rows).astype(dtype)
    weight = rng.uniform(0, 2, n_classes).astype(F32) if weighted else None
    together = list(per_row(x, target, dense, weight, smoothing, 1))
    some = np.sort(rng.choice(n_rows, rng.integers(1, n_rows + 1), replace=False))
    for part in (some, some[:1], some[-1:]):
        apart = per_row(x[part], target[part], dense[part], weight, smoothing, 1)
        for i, (a, b) in enumerate(zip(together, apart, strict=True)):
            assert same_bits(a[part], b), (i, part)


@AXES
def test_a_suspect_neighbour(axis):
    """A row that is summed up again must not have its neighbours done so."""
    rows = [
        [42.342986842266406, -43.91410615056829, -12.97805298473434],
        [32.85737901917915, -26.90286326138217, -24.88578331016853],
        [500.0, -500.0, -200.0],
        [1e300, 0.0, 0.0],
    ]
    x = along(axis, rows, F64)
    together = cross_entropy(x, [0] * 4, axis=axis, reduction="none")
    for i in range(4):
        alone = cross_entropy(along(axis, rows[i : i + 1], F64), [0], axis=axis, reduction="none")
        assert alone[0] == together[i]
    assert_ulp(together[:1], [np.longdouble("9.427090362342207728e-25")], 4)


# --- the same value every way it is asked for -----------------------------------------------------------------------------------


@pytest.mark.any_backend("n_classes", "option")  # Numba compiles for each
@FLOATS
@pytest.mark.parametrize("n_classes", [2, 10, 127, 128, 200, 1000])
@pytest.mark.parametrize("option", [None, "weight", "label_smoothing"])
def test_the_same_value_every_way(dtype, n_classes, option):
    """Plain, with a gradient, with out=, with labels of another width, as rows of three axes."""
    rng = generator("ways", n_classes)
    n_rows = 6 * 61
    x = rng.normal(0, 4, (n_rows, n_classes)).astype(dtype)
    x[::7] = -100 + rng.normal(0, 1, (len(x[::7]), n_classes))
    x[::7, 1] = 0
    target = rng.integers(0, n_classes, n_rows)
    target[::7] = 1
    options = {option: {"weight": rng.uniform(0.5, 2, n_classes), "label_smoothing": 0.1}[option]} if option else {}
    each = cross_entropy(x, target, reduction="none", **options)
    ways = [
        cross_entropy(x, target.astype(np.int32), reduction="none", **options),
        cross_entropy(x, target, reduction="none", out=np.empty_like(each), **options),
        cross_entropy(x.reshape(6, 61, -1), target.reshape(6, 61), reduction="none", **options).reshape(-1),
    ]
    assert all(same_bits(each, way) for way in ways)
    for reduction in ("mean", "sum"):
        plain = cross_entropy(x, target, reduction=reduction, **options)
        out = np.empty((), dtype)
        assert same_bits(plain, value_and_grad(x, target, reduction=reduction, **options)[0])
        assert same_bits(plain, cross_entropy(x, target.astype(np.uint16), reduction=reduction, **options))
        assert same_bits(plain, np.asarray(cross_entropy(x, target, reduction=reduction, out=out, **options))[()])


# --- bounds -----------------------------------------------------------------------------------------------------------------------

# Largest errors in ulp that the search may find in float32 and, for OTHERS, in either; it finds up to three quarters of these in a
# million rows.
BOUNDS = {"cross_entropy": 2, "log_softmax": 2, "score().nll": 2, "focal_loss gradient": 5}
OTHERS = {"float32": 4, "float64": 16}


def bound_of(name, kind, backend):
    """As documented, or closer."""
    name, _, gamma = name.partition(", gamma=")
    if gamma and kind == "float64":
        return (10 if backend == "numpy" else 6) * (1 + float(gamma))
    return BOUNDS.get(name.split(",")[0], OTHERS[kind]) if kind == "float32" else OTHERS[kind]


@pytest.mark.any_backend
@FLOATS
def test_errors_where_they_are_large(backend, dtype):
    kind = np.dtype(dtype).name
    classes = (1, 2, 3, 4, 7, 10, 33, 100, 128, 200, 1000)
    for name, worst in search_errors.search(search_errors.FUNCTIONS, dtype, 2000, 3, classes).items():
        assert worst.error <= bound_of(name, kind, backend), (name, worst.error, worst.where, worst.case)


# --- wild values -------------------------------------------------------------------------------------------------------------------

WILD = [0.0, 88.0, -104.0, 1e4, -2.5e4, 1e30, -1e30, 3e38, 1e-40, -INF]


def exact_nll(row, label):
    """In mpmath, of numbers that may be as far apart as they like."""
    own, others = row[label], [v for i, v in enumerate(row) if i != label]
    most = max(others)
    if most == -INF:
        return NAN if own == -INF else 0.0
    if own == -INF:
        return INF
    s = sum(others.count(v) * search_errors.MP.exp(search_errors.MP.mpf(v) - most) for v in set(others) if v > -INF)
    gap = search_errors.MP.mpf(most) - search_errors.MP.mpf(own)
    if gap > 700:
        return gap + search_errors.MP.log(s)
    return search_errors.MP.log1p(s * search_errors.MP.exp(gap)) if gap > -1000 else 0.0


@FLOATS
@pytest.mark.parametrize("n_more", [0, 130])
def test_gaps_of_any_size(dtype, n_more):
    rows = np.array([(a, b, c, *[a] * n_more) for a in WILD for b in WILD for c in WILD], dtype)
    rows = rows[generator("wild", n_more).permutation(len(rows))[:300]]
    for label in range(3):
        got = cross_entropy(rows, np.full(len(rows), label), reduction="none")
        exact = [exact_nll([float(v) for v in row], label) for row in rows]
        assert_ulp(got, np.array([np.longdouble(search_errors.MP.nstr(v, 30)) for v in exact]), 8)
