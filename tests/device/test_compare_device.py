"""compare on a device: against the host's NumPy backend, which computes in float64."""

import numpy as np
import pytest
from cases import generator
from on_device import LAYOUTS, fetched, sent

import fastloss

INF, NAN = np.inf, np.nan


def assert_compared(r, x, y=None, *, layout=sent, **options):
    there = [None if a is None else layout(a) if a.ndim > 1 else sent(a) for a in (r, x, y)]
    got = fastloss.compare(*there, **options)
    with fastloss.use_backend("numpy"):
        expected = fastloss.compare(r, x, y, **options)
    for name, mine, exact in zip(got._fields, got, expected, strict=True):
        if exact is None:
            assert mine is None
            continue
        mine = fetched(mine)
        assert mine.dtype == exact.dtype and mine.shape == exact.shape, name
        if exact.dtype == bool:
            np.testing.assert_array_equal(mine, exact)
        else:
            tolerance = {"rtol": 1e-5, "atol": 1e-17} if name != "delta_p" else {"rtol": 1e-5, "atol": 1e-9}
            np.testing.assert_allclose(mine, exact, **tolerance, err_msg=name)
    return got


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("size", [(3, 1), (4, 2), (3, 9), (2, 40), (1, 130)], ids=str)
def test_rows(size, dtype):
    rng = generator("device compare", *size)
    for distance, shift in ((1e-5, 0.0), (0.1, 0.0), (0.1, 50.0), (2.0, -3.0)):
        r = (rng.normal(size=size) * 3).astype(dtype)
        x = (r + distance * rng.normal(size=size) + shift).astype(dtype)
        y = rng.integers(0, size[1], size[0])
        y[0] = -100
        assert_compared(r, x)
        assert_compared(r, x, y)
    equal = assert_compared(r, r)
    assert (fetched(equal.kl) == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts_axes_and_types(layout):
    rng = generator("device compare layouts")
    r = rng.normal(size=(2, 5, 4)).astype(np.float32)
    x = (r + 0.1 * rng.normal(size=r.shape)).astype(np.float16)
    for axis in (0, 1, 2):
        y = rng.integers(0, r.shape[axis], np.delete(r.shape, axis)).astype(np.uint8)
        assert_compared(r, x, y, layout=layout, axis=axis)
    assert_compared(r, x.astype(np.float64), layout=layout)
    assert_compared(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))


@pytest.mark.parametrize("n_classes", [10, 130])
def test_halves_beside_float64_are_computed_in_float64(n_classes):
    rng = generator("device compare widths", n_classes)
    x = (rng.normal(size=(5, n_classes)) * 3).astype(np.float16)
    got = fastloss.compare(sent(x.astype(np.float64)), sent(x), sent(rng.integers(0, n_classes, 5)))
    np.testing.assert_allclose(fetched(got.nll), fetched(got.reference_nll), rtol=1e-13)


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"softcap": 2.0, "temperature": 1.5}], ids=str)
def test_transforms(options):
    rng = generator("device compare transforms")
    for dtype in (np.float16, np.float32, np.float64):
        r = rng.normal(size=(4, 9)).astype(dtype) * 3
        x, y = (r + 0.1 * rng.normal(size=r.shape)).astype(dtype), np.array([0, -100, 8, 3])
        assert_compared(r, x, y, **options)
        assert_compared(r.T.copy(), x.T.copy(), axis=0, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_logits_far_apart(dtype):
    """Their difference has no digits for what the divergence is made of."""
    r = np.array([[-3e29, 7e29], [1.0, 2.0], [1.0, 2.0], [3e30, 3e30]], dtype)
    x = np.array([[0.0, -88.0], [2e30, 2e30], [-1e30, 3e30], [1.0, 0.0]], dtype)
    got = assert_compared(r, x, np.array([1, 0, 1, 0]))
    np.testing.assert_allclose(fetched(got.kl)[0], 88.0, rtol=1e-6)


def test_special_values():
    r = np.array([[0, -INF], [0, 0], [0, NAN], [0, 0], [0, INF], [-INF, -INF], [0, -INF], [0, -200]], np.float32)
    x = np.array([[0, 0], [0, -INF], [0, 0], [NAN, 0], [0, 0], [0, 0], [7, -INF], [-200, 0]], np.float32)
    assert_compared(r, x)
    assert_compared(r, x, np.zeros(8, np.int64))


def test_errors():
    r = np.zeros((4, 6), np.float32)
    for bad in (6, -1, 2**40):
        y = np.array([0, -100, bad, 7])
        with pytest.raises(IndexError, match=rf"{bad}"):
            fastloss.compare(sent(r), sent(r), sent(y))
    with pytest.raises(ValueError, match="logits"):
        fastloss.compare(sent(r), sent(r[:3]))
