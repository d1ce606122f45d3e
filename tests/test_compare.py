"""compare: how two models differ on the same rows, held against mpmath and against `score`."""

import tracemalloc

import mpmath
import numpy as np
import pytest
from amounts import mostly_full
from cases import generator
from compare import result_dtype, same_bits
from layouts import KEEPING_DTYPE

import fastloss

INF, NAN = np.inf, np.nan
RELATIVE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-9}
LEAST = {np.dtype(np.float32): 1e-12, np.dtype(np.float64): 1e-20}  # from which on that is promised


def exact_row(r, x):
    """Divergence and both log-softmax of one row, to 40 digits."""
    with mpmath.workdps(40):
        sides, powers = [], []
        for row in (r, x):
            row = [mpmath.mpf(float(v)) for v in row]
            top = max(row)
            powers.append([mpmath.exp(v - top) for v in row])
            lse = top + mpmath.log(mpmath.fsum(powers[-1]))
            sides.append([v - lse for v in row])
        terms = (e * (p - q) for e, p, q in zip(powers[0], *sides, strict=True) if p > -mpmath.inf)
        return mpmath.fsum(terms) / mpmath.fsum(powers[0]), sides


def assert_divergence(got, r, x):
    """Of rows (n, n_classes): to the accuracy that is promised."""
    for kl, *row in zip(got, r, x, strict=True):
        expected, _ = exact_row(*row)
        at = max(expected, LEAST[got.dtype])
        assert kl >= 0
        assert abs(mpmath.mpf(float(kl)) - expected) <= RELATIVE[got.dtype] * at, (kl, expected)


def pair(n_rows, n_classes, distance, shift=0.0, dtype=np.float32, spread=3.0):
    """Logits, and others that differ by so much, as after quantisation, and by a constant."""
    rng = generator("compare", n_rows, n_classes)
    r = rng.normal(0, spread, (n_rows, n_classes)).astype(dtype)
    x = (r + distance * rng.normal(0, 1, r.shape) + shift).astype(dtype)
    return r, x


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-4, 1e-2, 0.3, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.1, -300.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 33, 127, 128, 1000, 1025])
def test_against_mpmath(n_classes, dtype, shift, distance):
    r, x = pair(2, n_classes, distance, shift, dtype)
    assert_divergence(fastloss.compare(r, x).kl, r, x)
    assert_divergence(fastloss.compare(r.T.copy(), x.T.copy(), axis=0).kl, r, x)


@pytest.mark.any_backend
@pytest.mark.parametrize("spread", [20.0, 60.0, 300.0])
@pytest.mark.parametrize("n_classes", [64, 300])
def test_maxima_far_above_the_first_logits(n_classes, spread):
    """Further than float32 has powers of two: terms relative to the first logits overflow."""
    rng = generator("far above", n_classes)
    r, x = (rng.normal(0, spread, (6, n_classes)).astype(np.float32) for _ in range(2))
    r[:, 50], x[:, 60] = 2 * spread, 6 * spread
    assert_divergence(fastloss.compare(r, x).kl, r, x)


@pytest.mark.one_backend  # mpmath takes seconds
@pytest.mark.parametrize("distance", mostly_full([2e-6, 0.1], (2e-6).__eq__))
def test_a_vocabulary(distance, backend):
    if backend == "numpy":
        pytest.skip("float64 throughout, and slow")
    r, x = pair(1, 128_256, distance)
    assert_divergence(fastloss.compare(r, x).kl, r, x)


@pytest.mark.any_backend("distance")
@pytest.mark.parametrize("distance", [1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("what", ["first", "last", "sharp", "spread", "shifted"])
@pytest.mark.parametrize("n_classes", [130, 9_000])
def test_rows_that_are_not_alike_throughout(n_classes, what, distance):
    """Some classes tell little of the others: what the first ones say of logsumexp, how far apart logits are, or what is likely."""
    r, x = pair(2, n_classes, distance)
    if what == "first":
        x[:, :64] += 0.3
    elif what == "last":
        x[:, -5:] += 2.0
        r[0, -3] += 60.0
    elif what == "sharp":
        r[:, 70] += 15.0
        x[:, 70] += 15.0
    elif what == "spread":
        r[:, ::3] -= 40.0
        x[:, 1::7] -= 50.0
    else:
        x[:, 65:] += 0.01
        x += np.float32(37.3)
    got = fastloss.compare(r, x)
    assert_divergence(got.kl, r, x)
    np.testing.assert_array_equal(got.same_argmax, r.argmax(-1) == x.argmax(-1))
    with_target = fastloss.compare(r, x, np.array([70, 3]))
    np.testing.assert_allclose(with_target.kl, got.kl, rtol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("place", [0, 63, 64, 1000, 8191, 8192, 8999])
def test_nan_and_maxima_wherever_they_are(place):
    r, x = pair(5, 9_000, 0.01)
    r[0, place] = NAN
    x[1, place] = NAN
    r[2, place] = 50.0
    x[3, place] = -INF
    r[4, place] = x[4, place] = 50.0
    kl, same, *_ = fastloss.compare(r, x)
    assert np.isnan(kl[:2]).all() and np.isinf(kl[3])
    assert_divergence(kl[[2, 4]], r[[2, 4]], x[[2, 4]])
    np.testing.assert_array_equal(same, r.argmax(-1) == x.argmax(-1))


@pytest.mark.parametrize("n_classes", [2, 10, 200])
@pytest.mark.parametrize("gap", [20.0, 60.0, 150.0, 5000.0])
def test_far_apart(n_classes, gap):
    """One class that dwarfs the others, in one of the two, in both, in either; and a class that only one makes likely."""
    r = np.zeros((4, n_classes), np.float32)
    x = np.zeros((4, n_classes), np.float32)
    r[0, 0] = x[1, 0] = r[2, 0] = x[2, 1] = r[3, 1] = gap
    x[3] = r[3]
    x[3, 1] += 0.5
    assert_divergence(fastloss.compare(r, x).kl, r, x)


@pytest.mark.any_backend("dtype")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n_classes", [1, 2, 10, 128, 1000])
def test_equal_rows_are_0(n_classes, dtype):
    r, _ = pair(17, n_classes, 0.0, dtype=dtype, spread=8.0)
    target = np.zeros(17, np.int64)
    got = fastloss.compare(r, r.copy(), target)
    assert (got.kl == 0).all() and (got.delta_p == 0).all() and got.same_argmax.all()
    assert same_bits(got.nll, got.reference_nll)
    if dtype != np.float16:  # shifted by what rounds nothing, they are equal distributions
        r = np.round(r * 64).astype(dtype) / 64
        shifted = fastloss.compare(r, r + dtype(3.5))
        assert (shifted.kl >= 0).all() and shifted.kl.max() < 1e-17


def test_a_shift_of_many_logits_is_not_rounded_away():
    """Differences of logits that float32 can't hold: one close to 0, the other near 1000."""
    rng = generator("compare shift")
    r = (rng.normal(0, 1e-3, (4, 300))).astype(np.float32)
    x = (r + rng.normal(0, 1e-4, r.shape) + 1000.0).astype(np.float32)
    assert_divergence(fastloss.compare(r, x).kl, r, x)
    assert_divergence(fastloss.compare(x, r).kl, x, r)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("copies", [1, 100])
def test_special_values(copies):
    cases = [  # reference, logits, divergence
        ([0.0, -INF], [0.0, 0.0], np.log(2)),  # what the reference rules out costs nothing
        ([0.0, 0.0], [0.0, -INF], INF),  # what it does not rule out
        ([0.0, -200.0], [0.0, -INF], INF),  # however unlikely
        ([0.0, -INF], [7.0, -INF], 0.0),
        ([-INF, 0.0], [0.0, -INF], INF),
        ([0.0, NAN], [0.0, 0.0], NAN),
        ([0.0, 0.0], [NAN, 0.0], NAN),
        ([NAN, NAN], [NAN, NAN], NAN),
        ([INF, 0.0], [0.0, 0.0], NAN),
        ([0.0, 0.0], [0.0, INF], NAN),
        ([-INF, -INF], [0.0, 0.0], NAN),
        ([0.0, 0.0], [-INF, -INF], NAN),
        ([3e4, -3e4], [-3e4, 3e4], 6e4),
        ([0.0, -3.4e38], [0.0, 0.0], np.log(2)),
        ([0.0, -95.0], [0.0, -3.4e38], np.exp(-95.0) * 3.4e38),
    ]
    for dtype in (np.float32, np.float64):
        r, x = (np.array([np.tile(case[k], copies) for case in cases], dtype) for k in (0, 1))
        expected = np.array([case[2] for case in cases])
        if copies > 1:
            expected[13] = np.log(2)
        for axis in (-1, 0):
            got = fastloss.compare(np.moveaxis(r, -1, axis).copy(), np.moveaxis(x, -1, axis).copy(), axis=axis)
            np.testing.assert_allclose(got.kl, expected, rtol=1e-6)
            # another row's NaN is not one's own
            assert not np.isnan(got.kl[expected == expected]).any()
            np.testing.assert_array_equal(got.same_argmax, r.argmax(-1) == x.argmax(-1))


@pytest.mark.any_backend("dtype")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("shape", [(7, 3), (65, 10), (5, 128), (33, 129), (20, 1000), (2, 9000)], ids=str)
def test_with_targets(shape, dtype):
    """Likelihoods are those of `score`; the change of the probability keeps the digits of a small one."""
    r, x = pair(*shape, 0.02, dtype=dtype)
    rng = generator("compare target", *shape)
    target = rng.integers(0, shape[1], shape[0])
    target[::3] = -100
    got = fastloss.compare(r, x, target)
    real = result_dtype(dtype)
    assert [a.dtype for a in got] == [real, np.bool_, real, real, real]
    old, new = fastloss.score(r, target), fastloss.score(x, target)
    np.testing.assert_array_max_ulp(got.nll, new.nll, 2, dtype=real)
    np.testing.assert_array_max_ulp(got.reference_nll, old.nll, 2, dtype=real)
    np.testing.assert_array_equal(got.same_argmax, old.argmax == new.argmax)
    assert same_bits(got.same_argmax, fastloss.compare(r, x).same_argmax)
    np.testing.assert_allclose(got.kl, fastloss.compare(r, x).kl, rtol=1e-6)
    for k in range(shape[0]):
        if target[k] == -100:
            assert got.nll[k] == got.reference_nll[k] == got.delta_p[k] == 0
        elif k < 12:
            _, (p, q) = exact_row(r[k], x[k])
            with mpmath.workdps(40):
                change = mpmath.exp(q[target[k]]) - mpmath.exp(p[target[k]])
                assert abs(mpmath.mpf(float(got.delta_p[k])) - change) <= 2e-6 * abs(change)


@pytest.mark.parametrize("n_classes", [64, 1000, 9001])
def test_losses_large_and_tiny(n_classes):
    """To 2 ulp, whether the target has next to all of the probability, some or none: what others have is summed in different ways."""
    r, x = pair(60, n_classes, 0.1)
    rng = generator("compare losses", n_classes)
    y = rng.integers(0, n_classes, 60)
    heights = np.repeat([0.0, 5.0, 10.0, 16.0, 22.0, 40.0], 10).astype(np.float32)
    for logits in (r, x):
        logits[np.arange(60), y] += heights
    found = fastloss.compare(r, x, y)
    np.testing.assert_array_equal(found.kl > 0, True)
    least = np.inf
    for got, logits in ((found.nll, x), (found.reference_nll, r)):
        wide = logits.astype(np.longdouble)
        others = np.exp(wide - wide[np.arange(60), y][:, None])
        others[np.arange(60), y] = 0
        exact = np.log1p(others.sum(axis=1))
        unit = np.spacing(exact.astype(np.float32)).astype(np.longdouble)
        assert (np.abs(got.astype(np.longdouble) - exact) <= 2 * unit).all()
        least = min(least, float(exact.min()))
    assert least < 1e-8  # where nothing is left of a difference


FAR_APART = [  # reference, logits, target
    ([-3e29, 7e29], [0.0, -88.0], 1),
    ([1.0, 2.0], [2e30, 2e30], 0),
    ([-1.0, 1e30, -931.0, -342.0], [1.5, -0.5, 0.0, -0.5], 3),
    ([0.5, -0.25, -20.0, -0.5], [0.5, 3e38, 1e4, -0.5], 1),
    ([-1.0, 0.0], [-1e4, 0.25], 1),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("reference, logits, target", FAR_APART, ids=str)
def test_logits_far_apart(reference, logits, target, dtype):
    """The two logsumexp are so far apart that their difference has no digits for the divergence, or the divergence none for that."""
    r, x = np.array([reference] * 3, dtype), np.array([logits] * 3, dtype)
    kl, change = _far_apart(r[0], x[0], target)
    for found in (
        fastloss.compare(r, x, [target] * 3),
        fastloss.compare(np.ascontiguousarray(r.T), np.ascontiguousarray(x.T), [target] * 3, axis=0),
    ):
        np.testing.assert_allclose(found.kl, kl, rtol=1e-5)
        np.testing.assert_allclose(found.delta_p, change, rtol=1e-5, atol=1e-9)


def _far_apart(r, x, target):
    """The divergence, and the change of the target's probability, by mpmath."""
    with mpmath.workdps(60):

        def logs(row):
            row = [mpmath.mpf(float(v)) for v in row]
            top = max(row)
            total = mpmath.log(mpmath.fsum(mpmath.exp(v - top) for v in row))
            return [v - top - total for v in row]

        p, q = logs(r), logs(x)
        kl = mpmath.fsum(mpmath.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
        return float(kl), float(mpmath.exp(q[target]) - mpmath.exp(p[target]))


def test_a_missing_logit_beside_a_class_that_only_the_reference_has():
    """NaN, whichever comes first; and where the logits are so far apart that the row is computed in float64."""
    for top in (0.0, 3e38):
        for place in (0, 20):
            r, x = np.zeros((2, 40), np.float32), np.full((2, 40), top, np.float32)
            x[:, 10], x[:, place] = -np.inf, np.nan
            assert np.isnan(fastloss.compare(r, x).kl).all()
            assert np.isnan(fastloss.compare(np.ascontiguousarray(r.T), np.ascontiguousarray(x.T), axis=0).kl).all()
            assert np.isnan(fastloss.compare(r[:, :21], x[:, :21]).kl).all()


def test_shapes_and_axes():
    r, x = (a.reshape(4, 5, 3, 7) for a in pair(60, 7, 0.1))
    rng = generator("compare axes")
    for axis in (-1, 1, 0, 2):
        target = rng.integers(0, r.shape[axis], r.shape[:axis] + r.shape[axis % 4 + 1 :] if axis >= 0 else r.shape[:-1])
        got = fastloss.compare(r, x, target, axis=axis)
        moved = [np.moveaxis(a, axis, -1) for a in (r, x)]
        plain = fastloss.compare(*(np.ascontiguousarray(a) for a in moved), target)
        for a, b in zip(got, plain, strict=True):
            assert a.shape == target.shape
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-9)
    one = fastloss.compare(r[0, 0, 0], x[0, 0, 0], 3)
    assert one.kl.shape == one.delta_p.shape == ()
    empty = fastloss.compare(np.zeros((0, 5), np.float32), np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
    assert empty.kl.shape == (0,) and empty.nll.shape == (0,)


@pytest.mark.parametrize("n_classes", [511, 512, 1000, 9000])
def test_many_classes_across_rows(n_classes):
    """As contiguous rows, the same whatever lies beside a row, and the right label is named."""
    r, x = (a.reshape(2, 35, n_classes).transpose(0, 2, 1).copy() for a in pair(70, n_classes, 0.1))
    target = np.arange(70).reshape(2, 35)
    got = fastloss.compare(r, x, target, axis=1)
    plain = fastloss.compare(*(np.ascontiguousarray(a.transpose(0, 2, 1)) for a in (r, x)), target)
    for a, b in zip(got, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)
    for rows in (slice(0, 2), slice(3, 7), slice(14, 31), slice(19, 35)):
        sides = [np.ascontiguousarray(a[..., rows]) for a in (r, x)]
        part = fastloss.compare(*sides, np.ascontiguousarray(target[:, rows]), axis=1)
        assert all(same_bits(a, np.ascontiguousarray(b[:, rows])) for a, b in zip(part, got, strict=True))
    for place in ((0, 3), (1, 0), (1, 34)):
        labels = target.copy()
        labels[place] = n_classes
        with pytest.raises(
            IndexError, match=rf"{n_classes}.*{place[0]}, {place[1]}|{place[0]}, {place[1]}.*{n_classes}"
        ):
            fastloss.compare(r, x, labels, axis=1)


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("n_classes", [5, 200])
def test_layouts(layout, n_classes):
    r, x = pair(9, n_classes, 0.1)
    target = np.arange(9) % n_classes
    for a, b in ((layout(r), x), (r, layout(x)), (layout(r), layout(x))):
        got = fastloss.compare(a, b, target)
        expected = fastloss.compare(np.array(a, np.float32, order="C"), np.array(b, np.float32, order="C"), target)
        for mine, plain in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine, plain, rtol=2e-6, atol=1e-9)


TYPES = [
    (np.float16, np.float32, np.float32),
    (np.float32, np.float16, np.float32),
    (np.float64, np.float32, np.float64),
    (np.float16, np.float64, np.float64),
    (np.int32, np.float32, np.float64),
    (np.float32, np.int8, np.float64),
    (np.int16, np.int16, np.float64),
    ("bfloat16", np.float16, np.float32),
]


@pytest.mark.any_backend  # Numba compiles for each
@pytest.mark.parametrize("one, other, real", TYPES)
def test_types(one, other, real):
    """Halves are computed in float32; the wider of two types is; integers are float64."""
    r, x = pair(6, 40, 0.1)
    one = pytest.importorskip("ml_dtypes").bfloat16 if one == "bfloat16" else one
    a, b = r.astype(one), x.astype(other)
    got = fastloss.compare(a, b)
    assert got.kl.dtype == real
    assert_divergence(got.kl, a, b)


@pytest.mark.parametrize("n_classes", [2, 10, 64, 128, 1000, 9000])
def test_a_row_is_the_same_in_any_batch(n_classes):
    r, x = pair(150, n_classes, 0.2)
    target = np.arange(150) % n_classes
    whole = fastloss.compare(r, x, target)
    for rows in (slice(0, 1), slice(149, 150), slice(3, 70), slice(40, 57)):
        part = fastloss.compare(r[rows], x[rows], target[rows])
        assert all(same_bits(a, b[rows]) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize("n_classes", [3, 500])
def test_any_number_of_threads(n_classes):
    r, x = pair(400_000 // n_classes, n_classes, 0.2)
    target = np.arange(len(r)) % n_classes
    with fastloss.use_threads(1):
        one = fastloss.compare(r, x, target)
    for n in (2, 3):
        with fastloss.use_threads(n):
            several = fastloss.compare(r, x, target)
        assert all(same_bits(a, b) for a, b in zip(one, several, strict=True))


def test_memory():
    r, x = pair(400, 20_000, 0.1)
    fastloss.compare(r, x)
    tracemalloc.start()
    fastloss.compare(r, x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < r.nbytes / 4


def test_errors():
    r, x = pair(4, 6, 0.1)
    y = np.zeros(4, np.int64)
    with pytest.raises(ValueError, match=r"logits.*\(4, 6\), that of reference"):
        fastloss.compare(r, x[:3])
    with pytest.raises(ValueError, match="target"):
        fastloss.compare(r, x, y[:3])
    with pytest.raises(TypeError, match="target"):
        fastloss.compare(r, x, y.astype(float))
    with pytest.raises(TypeError, match="reference"):
        fastloss.compare(r.astype(complex), x)
    with pytest.raises(TypeError, match="logits"):
        fastloss.compare(r, None)
    with pytest.raises(ValueError, match="axis"):
        fastloss.compare(r, x, axis=2)
    with pytest.raises(ValueError, match="reference"):
        fastloss.compare(np.float32(1), np.float32(1))
    with pytest.raises(ValueError, match="class"):
        fastloss.compare(np.zeros((3, 0)), np.zeros((3, 0)))
    for bad in (6, -1, 2**40):
        for axis in (0, -1):
            labels = np.zeros(4 if axis else 6, np.int64)
            labels[2] = bad
            with pytest.raises(IndexError, match=rf"\(?2.*{bad}|{bad}.*2"):
                fastloss.compare(r, x, labels, axis=axis)
    assert fastloss.compare(r, x, np.full(4, 9), ignore_index=9).nll.tolist() == [0.0] * 4


@pytest.mark.any_backend
@pytest.mark.parametrize("chunks", [(3, 40), (5, 7), ((2, 0, 8), (40,))], ids=str)
def test_dask(chunks, backend):
    da = pytest.importorskip("dask.array")
    r, x = pair(10, 40, 0.1)
    target = np.arange(10) % 40
    expected = fastloss.compare(r, x, target)
    lazy = da.from_array(x, chunks=chunks)
    for reference in (r, da.from_array(r, chunks=(4, 40))):
        got = fastloss.compare(reference, lazy, target)
        assert all(same_bits(a.compute(scheduler="synchronous"), b) for a, b in zip(got, expected, strict=True))
    without = fastloss.compare(r, lazy)
    assert without.nll is None
    assert same_bits(without.kl.compute(scheduler="synchronous"), fastloss.compare(r, x).kl)
    target[7] = 40
    with pytest.raises(IndexError, match=r"40 at position \(7,\)|7.*40|40.*7"):
        fastloss.compare(lazy, r, target).nll.compute(scheduler="synchronous")
