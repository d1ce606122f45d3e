"""Linear layers on a device: products are the library's own.  In the simulator a stand-in multiplies with NumPy, on a GPU torch does."""

import importlib

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp
from on_device import SIMULATED, fetched

import fastloss


class Matrix:
    """Memory of the simulated device with the operators that torch and CuPy have."""

    __cuda_ndarray__ = True

    def __init__(self, values):
        self._ary = np.asarray(values)

    def __getattr__(self, name):
        return getattr(self._ary, name)

    def __getitem__(self, key):
        return Matrix(self._ary[key])

    def __setitem__(self, key, value):
        self._ary[key] = plain(value)

    def __matmul__(self, other):
        return Matrix(self._ary @ other._ary)

    def __add__(self, other):
        return Matrix(self._ary + plain(other))

    def __iadd__(self, other):
        self._ary += plain(other)
        return self

    def __imul__(self, other):
        self._ary *= other
        return self

    T = property(lambda self: Matrix(self._ary.T))

    def reshape(self, *shape):
        return Matrix(self._ary.reshape(*shape))

    def sum(self, axis):
        return Matrix(self._ary.sum(axis=axis))

    def copy_to_host(self):
        return self._ary


def plain(value):
    return value._ary if isinstance(value, Matrix) else value


@pytest.fixture
def send(monkeypatch):
    if not SIMULATED:
        torch = pytest.importorskip("torch")
        return lambda a: torch.from_numpy(np.ascontiguousarray(a)).cuda()
    arrays, linear = (importlib.import_module(f"fastloss.places.cuda.{name}") for name in ("arrays", "linear"))

    class StandIn(arrays.Numba):
        @staticmethod
        def empty(shape, name, device, queue):
            return Matrix(np.empty(shape, name))

        @staticmethod
        def plain(array):
            return array

        @staticmethod
        def cast(array, name):
            return Matrix(array._ary.astype(name))

    monkeypatch.setitem(arrays._LIBRARIES, Matrix.__module__, StandIn)
    monkeypatch.setattr(linear, "CuPy", StandIn)
    monkeypatch.setattr(linear, "TILE", 30)  # a few rows at a time
    return Matrix


def received(a):
    return fetched(a) if SIMULATED or isinstance(a, np.ndarray) else a.cpu().numpy()


def layer(seed, bias):
    rng = generator("layer", seed)
    h, w = rng.normal(size=(2, 4, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
    b = rng.normal(size=9).astype(np.float32) if bias else None
    y = rng.integers(0, 9, (2, 4))
    y[1, 2] = -100
    return h, w, b, y


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradients(send, smoothing, bias):
    h, w, b, y = layer(smoothing, bias)
    logits = h.astype(np.float64) @ w.T.astype(np.float64) + (0 if b is None else b)
    options = {} if b is None else {"linear_bias": send(b)}
    for reduction in ("none", "mean", "sum"):
        got = fastloss.linear_cross_entropy(
            send(h), send(w), send(y), label_smoothing=smoothing, reduction=reduction, **options
        )
        exact = reference.loss("cross_entropy", logits, y, label_smoothing=smoothing, reduction=reduction)
        assert_ulp(received(got), exact, 8, at=1.0)
    names = ("hidden", "linear_weight", *(("linear_bias",) if bias else ()))
    function = fastloss.value_and_grad(fastloss.linear_cross_entropy, wrt=names)
    value, gradients = function(send(h), send(w), send(y), label_smoothing=smoothing, **options)
    exact, slopes = reference.value_and_grad("cross_entropy", logits, y, label_smoothing=smoothing)
    slopes = slopes.astype(np.float64)
    flat = slopes.reshape(-1, 9)
    expected = (slopes @ w, flat.T @ h.reshape(-1, 6), flat.sum(axis=0))
    assert_ulp(received(value), exact, 8, at=1.0)
    for got, exact in zip(gradients, expected, strict=False):
        assert_ulp(received(got), exact, 16, at=1.0)
    value, gradient = fastloss.value_and_grad(fastloss.linear_cross_entropy)(send(h), send(w), send(y), **options)
    assert gradient.shape == h.shape


def test_scores(send):
    h, w, b, y = layer(3, True)
    got = fastloss.score(send(h), send(y), top_k=2, linear_weight=send(w), linear_bias=send(b))
    expected = fastloss.score(h @ w.T + b, y, top_k=2)
    for name in ("argmax", "correct", "rank", "in_top_k"):
        np.testing.assert_array_equal(received(getattr(got, name)), getattr(expected, name), err_msg=name)
    for name in ("nll", "lse"):
        np.testing.assert_allclose(received(getattr(got, name)), getattr(expected, name), rtol=1e-5)


def test_comparisons(send):
    h, w, b, y = layer(5, True)
    r, own, own_b, _ = layer(6, True)
    r = np.concatenate([r, r[..., :2]], axis=-1)
    own = np.concatenate([own, own[:, :2]], axis=-1)
    for options in ({}, {"temperature": 0.5, "softcap": 3.0}):
        for dense, given, layers in (
            (h / 2 @ w.T + b, h / 2, {}),
            (r @ own.T, r, {"reference_linear_weight": send(own)}),
            (
                r @ own.T + own_b,
                r,
                {"reference_linear_weight": send(own), "reference_linear_bias": send(own_b)},
            ),
        ):
            layers |= {"linear_weight": send(w), "linear_bias": send(b)}
            for target in (y, None):
                sent = None if target is None else send(target)
                got = fastloss.compare(send(given), send(h), sent, **layers, **options)
                expected = fastloss.compare(dense, h @ w.T + b, target, **options)
                for name, found, wanted in zip(got._fields, got, expected, strict=True):
                    if wanted is None:
                        assert found is None
                        continue
                    assert received(found).dtype == wanted.dtype
                    np.testing.assert_allclose(received(found), wanted, rtol=1e-4, atol=1e-6, err_msg=name)
        same = fastloss.compare(send(h), send(h), linear_weight=send(w), **options)
        assert not received(same.kl).any()
    with pytest.raises(ValueError, match="reference_linear_weight: expected shape"):
        fastloss.compare(send(r), send(h), linear_weight=send(w), reference_linear_weight=send(own[:, 1:]))
    y[0, 0] = 9
    with pytest.raises(IndexError, match="9 is not in"):
        fastloss.compare(send(h), send(h), send(y), linear_weight=send(w))


def test_refused(send):
    h, w, b, y = layer(4, True)
    for arguments, message in [
        ((h, w[:, 1:], y), "linear_weight"),
        ((h, w, y[:1]), "target"),
        ((h[0, 0, 0], w, y), "hidden"),
    ]:
        with pytest.raises(ValueError, match=message):
            fastloss.linear_cross_entropy(*map(send, arguments))
    y[0, 0] = 9
    with pytest.raises(IndexError, match="9 is not in"):
        fastloss.linear_cross_entropy(send(h), send(w), send(y))


def test_transforms(send):
    """Temperature and soft cap go to the cross-entropy, and the score, of each part."""
    h, w, b, y = layer("transforms", True)
    logits = h.astype(np.float64) @ w.T.astype(np.float64) + b
    options = {"softcap": 2.0, "temperature": 1.5}
    function = fastloss.value_and_grad(fastloss.linear_cross_entropy)
    got, slopes = function(send(h), send(w), send(y), linear_bias=send(b), **options)
    exact, expected = reference.value_and_grad("cross_entropy", logits, y, **options)
    np.testing.assert_allclose(received(got), float(exact), rtol=1e-5)
    np.testing.assert_allclose(received(slopes), (expected @ w).astype(np.float64), rtol=1e-3, atol=1e-6)
    scores = fastloss.score(send(h), send(y), linear_weight=send(w), linear_bias=send(b), **options)
    np.testing.assert_allclose(
        received(scores.lse), reference.logsumexp(logits, **options).astype(np.float64), rtol=1e-5
    )
