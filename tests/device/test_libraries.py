"""Arrays of the libraries that have them on a GPU: what comes in is what goes out, on the streams of whoever calls."""

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp
from on_device import SIMULATED

import fastloss


def torch():
    torch = pytest.importorskip("torch")
    if SIMULATED or not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch


def cupy():
    if SIMULATED:
        pytest.skip("CuPy sees no GPU")
    return pytest.importorskip("cupy")


def jax():
    jax = pytest.importorskip("jax")
    if SIMULATED or jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    return jax


def to_torch(a):
    return torch().from_numpy(np.ascontiguousarray(a)).cuda()


def to_cupy(a):
    return cupy().asarray(a)


def to_jax(a):
    return jax().numpy.asarray(a)


SENDERS = {"torch": to_torch, "cupy": to_cupy, "jax": to_jax}


def back(array):
    """An array of any of them on the host."""
    if hasattr(array, "detach"):
        return array.detach().cpu().numpy()
    return array.get() if hasattr(array, "get") else np.asarray(array)


def rows(n_rows=37, n_classes=50, dtype=np.float32):
    rng = generator("libraries", n_rows, n_classes)
    return (rng.normal(size=(n_rows, n_classes)) * 3).astype(dtype), rng.integers(0, n_classes, n_rows)


@pytest.fixture(params=SENDERS)
def send(request):
    SENDERS[request.param](np.zeros(1, np.float32))  # skips where it is not to be had
    return SENDERS[request.param]


def test_losses(send):
    x, y = rows()
    like = type(send(x))
    for reduction in ("none", "mean", "sum"):
        got = fastloss.cross_entropy(send(x), send(y), reduction=reduction)
        assert type(got) is like
        assert_ulp(back(got), reference.loss("cross_entropy", x, y, reduction=reduction), 3)
    value, slopes = fastloss.value_and_grad(fastloss.cross_entropy)(send(x), send(y))
    exact, exact_slopes = reference.value_and_grad("cross_entropy", x, y)
    assert type(value) is type(slopes) is like
    assert_ulp(back(value), exact, 3)
    assert_ulp(back(slopes), exact_slopes, 12, at=0.5)
    got = fastloss.mse_loss(send(x), send(x * 0.5))
    assert type(got) is like
    assert_ulp(back(got), reference.loss("mse_loss", x, x * np.float32(0.5)), 3)


def test_layouts(send):
    x, y = rows()
    expected = reference.loss("cross_entropy", x, y, reduction="none")
    by_columns = send(x.T.copy()).T
    assert_ulp(back(fastloss.cross_entropy(by_columns, send(y), reduction="none")), expected, 2)
    steps = send(np.repeat(x, 2, axis=1))[:, ::2]
    assert_ulp(back(fastloss.cross_entropy(steps, send(y), reduction="none")), expected, 2)
    odd = send(np.concatenate([x[:1], x]))[1:]
    assert_ulp(back(fastloss.cross_entropy(odd, send(y), reduction="none")), expected, 2)


def test_families(send):
    x, y = rows()
    assert_ulp(back(fastloss.log_softmax(send(x))), reference.log_softmax(x), 8, at=1e-3)
    scores, expected = fastloss.score(send(x), send(y), top=3, entropy=True), fastloss.score(x, y, top=3, entropy=True)
    for name in ("nll", "lse", "entropy", "top_log_probs"):
        np.testing.assert_allclose(back(getattr(scores, name)), getattr(expected, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(back(scores.rank), expected.rank)
    np.testing.assert_array_equal(back(scores.top_ids), expected.top_ids)
    comparison = fastloss.compare(send(x), send(x[::-1].copy()))
    expected = fastloss.compare(x, x[::-1].copy())
    np.testing.assert_allclose(back(comparison.kl), expected.kl, rtol=1e-5)


def test_labels_out_of_range(send):
    x, y = rows()
    y[5] = 50
    with pytest.raises(IndexError, match=r"target\[5\] = 50 is not in \[0, 50\)"):
        fastloss.cross_entropy(send(x), send(y))
    y[5] = 0  # and the device still works
    assert_ulp(back(fastloss.cross_entropy(send(x), send(y))), reference.loss("cross_entropy", x, y), 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_of_torch(dtype):
    x, y = rows(500, 1000)
    there = to_torch(x).to(getattr(torch(), dtype))
    x = there.float().cpu().numpy()
    got = fastloss.cross_entropy(there, to_torch(y), reduction="none")
    assert str(got.dtype) == "torch.float32"
    assert_ulp(back(got), reference.loss("cross_entropy", x, y, reduction="none"), 2)


def test_a_stream_of_torch():
    """What is enqueued before the call is seen by it, and what comes after sees its result, without anybody waiting."""
    stream = torch().cuda.Stream()
    x, y = rows(4096, 1000)
    expected = 2 * reference.loss("cross_entropy", x, y).astype(np.float64)
    for _ in range(5):
        with torch().cuda.stream(stream):
            busy = torch().randn(4096, 4096, device="cuda")
            for _ in range(10):
                busy = busy @ busy * 1e-3
            there = to_torch(np.zeros_like(x))
            there.copy_(torch().from_numpy(x).pin_memory(), non_blocking=True)
            with fastloss.use_wait(False):
                twice = fastloss.cross_entropy(there, to_torch(y)) * 2
        stream.synchronize()
        np.testing.assert_allclose(back(twice), float(expected), rtol=1e-6)


def test_a_stream_of_cupy():
    x, y = rows(4096, 1000)
    expected = reference.loss("cross_entropy", x, y)
    with cupy().cuda.Stream(non_blocking=True) as stream:
        for _ in range(5):
            busy = cupy().random.standard_normal((2048, 2048), dtype="float32")
            for _ in range(10):
                busy = busy @ busy * 1e-3
            there = cupy().asarray(x) + 0
            loss = fastloss.cross_entropy(there, cupy().asarray(y)) + 0
        stream.synchronize()
    np.testing.assert_allclose(back(loss), float(expected), rtol=1e-6)


def test_autograd():
    x, y = rows()
    ours, its = (to_torch(x).requires_grad_() for _ in range(2))
    from fastloss import torch as losses

    losses.cross_entropy(ours, to_torch(y), label_smoothing=0.1).backward()
    torch().nn.functional.cross_entropy(its, to_torch(y), label_smoothing=0.1).backward()
    np.testing.assert_allclose(back(ours.grad), back(its.grad), rtol=1e-4, atol=1e-7)


def test_two_libraries_in_one_call():
    x, y = rows()
    cupy()
    got = fastloss.cross_entropy(to_torch(x), to_cupy(y))
    assert type(got) is type(to_torch(x))
    assert_ulp(back(got), reference.loss("cross_entropy", x, y), 3)


def test_more_elements_than_32_bits_count():
    """Positions are of 64 bits: rows beyond the first 2**31 elements, and elements beyond it."""
    n_rows, n_classes = 70_000, 32_768
    if torch().cuda.mem_get_info()[0] < 20 << 30:
        pytest.skip("the GPU has too little free memory")
    x = torch().zeros(n_rows, n_classes, dtype=torch().bfloat16, device="cuda")
    y = torch().full((n_rows,), n_classes - 1, device="cuda")
    x[-1, -1] = 12.0
    got = fastloss.cross_entropy(x, y, reduction="none")
    x = x.reshape(-1)
    assert bool((got[:-1] == np.float32(np.log(n_classes))).all())
    last = np.zeros((1, n_classes))
    last[0, -1] = 12
    assert_ulp(back(got[-1:]), reference.loss("cross_entropy", last, [n_classes - 1], reduction="none"), 2)
    each = fastloss.mse_loss(x, torch().zeros((), dtype=x.dtype, device="cuda").expand_as(x), reduction="sum")
    assert float(each) == 144


SIZES = (2, 3, 10, 21, 64, 127, 128, 200, 256, 1000, 1023, 4097, 32_000, 50_257, 128_256, 262_144)


def exact_losses(x, y):
    """In float64, of which torch's own takes the difference of two numbers that may be nearly equal."""
    x, target = x.double(), y[:, None]
    left = x.gather(1, target)[:, 0]
    others = x.scatter(1, target, -np.inf)
    r = others.amax(1)
    s, gap = (others - r[:, None]).exp().sum(1), r - left
    return (s * gap.exp()).log1p().where(gap <= 0, gap + (s + (-gap).exp()).log())


def exact_entropies(x):
    """log(sum exp(-d)) + sum p d of the gaps d to the largest logit, which is excluded from the first sum: nothing cancels."""
    x = x.double()
    top = x.argmax(1, keepdim=True)
    gap = x.gather(1, top) - x
    tail = (-gap).exp().scatter(1, top, 0.0).sum(1).log1p()
    return tail + ((-gap - tail[:, None]).exp() * gap).sum(1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("n_classes", SIZES)
def test_large(n_classes, dtype):
    """Millions of elements against float64 on the same device, values and slopes."""
    n_rows = max(8, (1 << 22) // n_classes)
    torch().manual_seed(n_classes)
    x = (torch().randn(n_rows, n_classes, device="cuda") * 4).to(getattr(torch(), dtype))
    y = torch().randint(0, n_classes, (n_rows,), device="cuda")
    exact = exact_losses(x, y)
    got = fastloss.cross_entropy(x, y, reduction="none")
    ulp = 2 if dtype == "float32" else 6
    if dtype == "float64":
        assert float(((got - exact).abs() / exact).max()) < 1e-12
    else:
        assert_ulp(back(got), back(exact), ulp)
    value, slopes = fastloss.value_and_grad(fastloss.cross_entropy)(x, y)
    wide = x.double().requires_grad_()
    torch().nn.functional.cross_entropy(wide, y).backward()
    assert abs(float(value) / float(exact.mean()) - 1) < 1e-6
    error = n_rows * (slopes.double() - wide.grad).abs() / (n_rows * wide.grad.abs()).clamp(min=1e-3)
    assert float(error.max()) < (1e-12 if dtype == "float64" else 1e-6)
    across = fastloss.cross_entropy(x.T, y, axis=0, reduction="none")
    if dtype == "float64":
        assert float(((across - exact).abs() / exact).max()) < 1e-12
    else:
        assert_ulp(back(across), back(exact), ulp)
    scores = fastloss.score(x, y, entropy=True)
    assert bool((scores.argmax == x.double().argmax(1)).float().mean() > 0.99)  # ties among halves
    entropy = exact_entropies(x)
    assert float(((scores.entropy.double() - entropy).abs() / entropy).max()) < 1e-6
