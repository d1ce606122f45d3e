"""Calls with arrays of a device: where results go, what is refused, and what labels out of range do."""

import numpy as np
import pytest
from cases import generator
from on_device import fetched, gappy, sent

import fastloss


def rows(n_rows=6, n_classes=5):
    rng = generator("calls", n_rows, n_classes)
    return rng.normal(size=(n_rows, n_classes)).astype(np.float32), rng.integers(0, n_classes, n_rows)


def test_results_stay_on_the_device():
    x, y = rows()
    loss = fastloss.cross_entropy(sent(x), sent(y))
    assert type(loss) is type(sent(x)) and loss.shape == () and loss.dtype == np.float32
    value, gradient = fastloss.value_and_grad(fastloss.mse_loss)(sent(x), sent(x + 1))
    assert type(value) is type(gradient) is type(loss)
    scores = fastloss.score(sent(x), sent(y))
    assert all(type(part) is type(loss) for part in scores if part is not None)


def test_out_on_the_device():
    x, y = rows()
    out = sent(np.zeros(6, np.float32))
    assert fastloss.cross_entropy(sent(x), sent(y), reduction="none", out=out) is out
    np.testing.assert_allclose(fetched(out), fastloss.cross_entropy(x, y, reduction="none"), rtol=1e-6)
    out = gappy(np.zeros(6, np.float64))
    assert fastloss.cross_entropy(sent(x), sent(y), reduction="none", out=out) is out
    np.testing.assert_allclose(fetched(out.copy_to_host()), fastloss.cross_entropy(x, y, reduction="none"), rtol=1e-6)
    gradient = sent(np.zeros_like(x))
    _, got = fastloss.value_and_grad(fastloss.cross_entropy)(sent(x), sent(y), out=gradient)
    assert got is gradient
    with pytest.raises(ValueError, match="out: expected a writeable floating array"):
        fastloss.cross_entropy(sent(x), sent(y), reduction="none", out=sent(np.zeros(5, np.float32)))
    with pytest.raises(ValueError, match="out on the host"):
        fastloss.cross_entropy(sent(x), sent(y), reduction="none", out=np.zeros(6, np.float32))


@pytest.mark.parametrize("bad", [5, -1, 2**31])
def test_bad_labels(bad):
    x, y = rows()
    y[4] = bad
    calls = [
        lambda **options: fastloss.cross_entropy(sent(x), sent(y), **options),
        lambda **options: fastloss.nll_loss(sent(-np.abs(x)), sent(y), **options),
        lambda **options: fastloss.value_and_grad(fastloss.cross_entropy)(sent(x), sent(y), **options),
    ]
    for call in calls:
        for reduction in ("mean", "sum"):
            with pytest.raises(IndexError, match=rf"target\[4\] = {bad} is not in \[0, 5\)"):
                call(reduction=reduction)
    with pytest.raises(IndexError, match=r"target\[4\]"):
        fastloss.score(sent(x), sent(y))
    with pytest.raises(IndexError, match=r"target\[4\]"):
        fastloss.cross_entropy(sent(x), sent(y), reduction="none")
    # and the next call is fine
    y[4] = 0
    np.testing.assert_allclose(
        fetched(fastloss.cross_entropy(sent(x), sent(y))), fastloss.cross_entropy(x, y), rtol=1e-6
    )


def test_the_first_bad_label_is_named_wherever_it_is():
    x, y = rows(90, 5)
    y[[71, 33]] = 7, 9
    with pytest.raises(IndexError, match=r"target\[3, 3\] = 9"):
        fastloss.cross_entropy(sent(x.reshape(9, 10, 5)), sent(y.reshape(9, 10)))


def test_labels_that_wrap_round():
    x, _ = rows(3, 300)
    for label, dtype in [(2**64 - 100, np.uint64), (156, np.uint8), (-100, np.int8)]:
        y = np.array([0, label, 1]).astype(dtype) if label < 2**63 else np.array([0, label, 1], np.uint64)
        small = x[:, :100]
        if dtype is np.int8:
            assert fetched(fastloss.cross_entropy(sent(small), sent(y), reduction="none"))[1] == 0
        else:
            with pytest.raises(IndexError, match=r"target\[1\]"):
                fastloss.cross_entropy(sent(small), sent(y))


def test_not_waiting():
    x, y = rows()
    y[2] = 99
    with fastloss.use_wait(False):
        losses = fetched(fastloss.cross_entropy(sent(x), sent(y), reduction="none"))
        assert np.isnan(losses[2]) and np.isfinite(np.delete(losses, 2)).all()
        assert np.isnan(fetched(fastloss.cross_entropy(sent(x), sent(y))))
        assert np.isnan(fetched(fastloss.binary_cross_entropy(sent(x), sent(x * 0))))


def test_values_outside_the_domain():
    p, y = np.array([[0.1, 0.5], [1.5, 0.2]], np.float32), np.zeros((2, 2), np.float32)
    for reduction in ("mean", "none"):
        with pytest.raises(ValueError, match=r"probs: expected values in \[0, 1\], got probs\[1, 0\] = 1.5"):
            fastloss.binary_cross_entropy(sent(p), sent(y), reduction=reduction)
    with pytest.raises(ValueError, match=r"var: expected values of at least 0, got var\[0, 1\] = -2"):
        fastloss.gaussian_nll_loss(sent(y), sent(y), sent(np.array([[1, -2], [1, 1]], np.float32)))
    with pytest.raises(ValueError, match=r"probs\[1, 0\]"):
        fastloss.categorical_cross_entropy(sent(p), sent(np.array([0, 0])))


def test_mixed_places():
    x, y = rows()
    with pytest.raises(ValueError, match="logits on a CUDA device, target on the host"):
        fastloss.cross_entropy(sent(x), y)
    with pytest.raises(ValueError, match="pred on the host, target on a CUDA device"):
        fastloss.mse_loss(x, sent(x))
    with pytest.raises(ValueError, match="weight on the host"):
        fastloss.cross_entropy(sent(x), sent(y), weight=np.ones(5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: fastloss.cross_entropy(x, x[:, 0]), TypeError, "target"),
        (lambda x, y: fastloss.cross_entropy(x, y[1:]), ValueError, "target"),
        (lambda x, y: fastloss.cross_entropy(x, y, axis=2), ValueError, "axis"),
        (lambda x, y: fastloss.cross_entropy(x, y, label_smoothing=2), ValueError, "label_smoothing"),
        (lambda x, y: fastloss.cross_entropy(x, y, weight=y), ValueError, "weight"),
        (lambda x, y: fastloss.cross_entropy(x, y, reduction="median"), ValueError, "reduction"),
        (lambda x, y: fastloss.mse_loss(x, y), ValueError, "broadcast"),
        (lambda x, y: fastloss.binary_cross_entropy(x, y), ValueError, "target"),
        (lambda x, y: fastloss.score(x, y, top_k=0), ValueError, "top_k"),
        (lambda x, y: fastloss.value_and_grad(fastloss.mse_loss)(x, x, reduction="none"), ValueError, "vector"),
        (lambda x, y: fastloss.linear_cross_entropy(x, x, y), TypeError, "torch or CuPy"),
    ],
)
def test_bad_arguments(call, error, message):
    x, y = rows(6, 5)
    with pytest.raises(error, match=message):
        call(sent(x), sent(y))


def test_accumulator():
    x, y = rows(20, 7)
    loss, hits = fastloss.Accumulator(fastloss.cross_entropy), fastloss.Accumulator(fastloss.mse_loss)
    for part in (slice(0, 9), slice(9, 20)):
        loss.update(sent(x[part]), sent(y[part]))
        hits.update(sent(x[part]), sent(x[part] + 1))
    assert loss.count == 20
    np.testing.assert_allclose(loss.compute(), fastloss.cross_entropy(x, y), rtol=1e-6)
    np.testing.assert_allclose(hits.compute(), 1.0, rtol=1e-6)


def test_host_arrays_by_name():
    """What `use_backend("cuda")` is given on the host comes back to it."""
    x, y = rows()
    with fastloss.use_backend("cuda"):
        loss = fastloss.cross_entropy(x, y)
        losses = fastloss.cross_entropy(x.tolist(), y.tolist(), reduction="none")
        value, gradient = fastloss.value_and_grad(fastloss.mse_loss)(x, x + 1)
        p = fastloss.softmax(x.T, axis=0)
        scores = fastloss.score(x, y)
        out = np.zeros(6, np.float16)
        assert fastloss.cross_entropy(x, y, reduction="none", out=out) is out
        small = fastloss.mse_loss(x[0].copy(), x[1].copy())
    assert type(loss) is np.float32 and losses.dtype == np.float64 and type(gradient) is np.ndarray
    np.testing.assert_allclose(loss, fastloss.cross_entropy(x, y), rtol=1e-6)
    np.testing.assert_allclose(losses, fastloss.cross_entropy(x.tolist(), y.tolist(), reduction="none"), rtol=1e-6)
    np.testing.assert_allclose(out, losses, rtol=1e-3)
    np.testing.assert_allclose(p, fastloss.softmax(x.T, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(scores.argmax, x.argmax(axis=1))
    np.testing.assert_allclose(small, fastloss.mse_loss(x[0], x[1]), rtol=1e-6)
    assert value == 1.0 and gradient.shape == x.shape


def test_same_bits_again_and_in_any_layout():
    x, y = rows(50, 60)
    first = fetched(fastloss.cross_entropy(sent(x), sent(y)))
    shifted = sent(np.concatenate([[0], x.reshape(-1)]).astype(np.float32))[1:].reshape(x.shape)
    for other in (sent(x), shifted):
        assert fetched(fastloss.cross_entropy(other, sent(y))).tobytes() == first.tobytes()
    first = fetched(fastloss.mse_loss(sent(x), sent(x * 0.5)))
    assert fetched(fastloss.mse_loss(shifted, sent(x * 0.5))).tobytes() == first.tobytes()


def test_out_that_overlaps_an_input():
    x, y = rows()
    for dtype in (np.float32, np.float64):
        x = x.astype(dtype)
        memory = sent(np.concatenate([x.reshape(-1), np.zeros(5, dtype)]))
        here, shifted_out = memory[:30].reshape(x.shape), memory[5:].reshape(x.shape)
        assert fastloss.softmax(here, out=shifted_out) is shifted_out
        np.testing.assert_allclose(fetched(shifted_out), fastloss.softmax(x), rtol=1e-6)
        inplace = sent(x)
        assert fastloss.log_softmax(inplace, out=inplace) is inplace
        np.testing.assert_allclose(fetched(inplace), fastloss.log_softmax(x), rtol=1e-5)
        backwards = sent(x.reshape(-1))
        assert fastloss.mse_loss(backwards[::-1], sent(x.reshape(-1)), reduction="none", out=backwards) is backwards
        np.testing.assert_allclose(fetched(backwards), (x.reshape(-1)[::-1] - x.reshape(-1)) ** 2, rtol=1e-5)


def test_what_the_host_alone_computes():
    x, y = rows()
    probs = fastloss.softmax(x)
    for fn, name in ((fastloss.brier_score, "brier_score"), (fastloss.calibration_error, "calibration_error")):
        with pytest.raises(TypeError, match=f"{name} is not available for arrays on a CUDA device: copy them"):
            fn(sent(probs), sent(y))
        with pytest.raises(ValueError, match="target: expected shape"):
            fn(sent(probs), sent(y[:2]))
        assert fn(probs, y) >= 0
    for metric in ("brier", "calibration"):
        with pytest.raises(TypeError, match=f"{metric} is not available"):
            fastloss.Accumulator(metric).update(sent(x), sent(y))
