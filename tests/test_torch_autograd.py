"""fastloss.torch: values, gradients and signatures of torch.nn.functional, on the CPU; see test_torch*.py for the losses' edge cases."""

import inspect

import numpy as np
import pytest
from cases import generator
from torch_peer import F, torch

import fastloss
import fastloss.torch as ft

LOSSES = {name: getattr(ft, name) for name in ft.__all__}


def normal(*shape, dtype=torch.float64):
    return torch.from_numpy(generator("autograd", *shape).normal(0, 2, shape)).to(dtype)


def uniform(*shape):
    return torch.from_numpy(generator("uniform", *shape).uniform(0.05, 0.95, shape))


LABELS = torch.from_numpy(generator("labels").integers(0, 5, (7,)))
MAPS = torch.from_numpy(generator("maps").integers(0, 5, (2, 3, 4)))
SOME = torch.where(torch.arange(7) % 3 == 0, -100, LABELS)
WEIGHTS = torch.tensor([0.5, 2.0, 1.25, 0.1, 1.0], dtype=torch.float64)

# Arguments, and options, that a function takes as torch's function of that name does.
CALLS = [
    ("cross_entropy", (normal(7, 5), LABELS), {}),
    ("cross_entropy", (normal(7, 5), SOME, WEIGHTS), {"label_smoothing": 0.1}),
    ("cross_entropy", (normal(7, 5), LABELS), {"ignore_index": 1}),
    ("cross_entropy", (normal(7, 5), torch.softmax(normal(5, 7), 0).T), {"weight": WEIGHTS}),
    ("cross_entropy", (normal(2, 5, 3, 4), MAPS), {}),
    ("cross_entropy", (normal(5), LABELS[0]), {}),
    ("nll_loss", (normal(2, 5, 3, 4), MAPS, WEIGHTS), {}),
    ("nll_loss", (normal(7, 5), SOME), {}),
    ("binary_cross_entropy", (uniform(7, 5), uniform(5, 7).T, uniform(5)), {}),
    ("binary_cross_entropy_with_logits", (normal(7, 5), uniform(7, 5), uniform(7, 1)), {"pos_weight": WEIGHTS}),
    ("mse_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("l1_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("huber_loss", (normal(7, 5), normal(5, 7).T), {"delta": 0.7}),
    ("smooth_l1_loss", (normal(7, 5), normal(5, 7).T), {"beta": 0.7}),
    ("poisson_nll_loss", (normal(7, 5), 4 * uniform(7, 5), True, True), {}),
    ("poisson_nll_loss", (uniform(7, 5), 4 * uniform(7, 5), False), {"eps": 1e-3}),
    ("gaussian_nll_loss", (normal(7, 5), normal(5, 7).T, uniform(7, 5), True), {}),
    ("gaussian_nll_loss", (normal(7, 5), normal(5, 7).T, uniform(7)), {}),
    ("soft_margin_loss", (normal(7, 5), normal(5, 7).T.sign()), {}),
    ("hinge_embedding_loss", (normal(7, 5), normal(5, 7).T.sign()), {}),
    ("hinge_embedding_loss", (normal(7, 5), normal(5, 7).T.sign(), 0.3), {}),
    ("margin_ranking_loss", (normal(7, 5), 2 * normal(5, 7).T, normal(5, 7).T.sign()), {}),
    ("margin_ranking_loss", (normal(7, 5), 2 * normal(5, 7).T, normal(5, 7).T.sign(), 0.7), {}),
    ("kl_div", (-4 * uniform(7, 5), uniform(5, 7).T), {}),
    ("kl_div", (-4 * uniform(7, 5), -uniform(5, 7).T), {"log_target": True}),
]


def both(fn, arguments, upstream=None, **options):
    x = arguments[0].detach().clone().requires_grad_()
    value = fn(x, *arguments[1:], **options)
    value.backward(torch.ones_like(value) if upstream is None else upstream.reshape(value.shape))
    return value.detach(), x.grad


@pytest.mark.parametrize("name, arguments, options", CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_as_torch(name, arguments, options):
    """Values, and what goes back to the input, for upstream gradients that are 1 and that are not."""
    theirs = getattr(F, name)
    for reduction in ("mean", "sum", "none"):
        size = LOSSES[name](*arguments, **options, reduction=reduction).numel()
        for upstream in (None, normal(size) if reduction == "none" else torch.tensor(-2.5, dtype=torch.float64)):
            got, slope = both(LOSSES[name], arguments, upstream, **options, reduction=reduction)
            expected, their_slope = both(theirs, arguments, upstream, **options, reduction=reduction)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
            torch.testing.assert_close(slope, their_slope, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_weights(name):
    """Of the losses whose weights torch does not know, or divides by otherwise."""
    arguments, weight = (normal(7, 5), normal(5, 7).T), uniform(7, 1)
    got, slope = both(LOSSES[name], arguments, weight=weight)
    each, _ = both(LOSSES[name], arguments, reduction="none")
    torch.testing.assert_close(got, (each * weight).sum() / (5 * weight.sum()))
    _, unweighted = both(LOSSES[name], arguments, reduction="sum")
    torch.testing.assert_close(slope, unweighted * weight / (5 * weight.sum()))


MORE = [
    ("categorical_cross_entropy", (torch.softmax(normal(7, 5), 1), LABELS, WEIGHTS), {}),
    ("categorical_cross_entropy", (uniform(7, 5), torch.softmax(normal(7, 5), 1)), {}),
    ("log_cosh_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("msle_loss", (uniform(7, 5), uniform(5, 7).T), {}),
    ("quantile_loss", (normal(7, 5), normal(5, 7).T), {"q": 0.9}),
    ("rmse_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("charbonnier_loss", (normal(7, 5), normal(5, 7).T), {"eps": 0.3}),
    ("sigmoid_focal_loss", (normal(7, 5), uniform(7, 5)), {}),
    ("sigmoid_focal_loss", (normal(7, 5), uniform(7, 5).round()), {"alpha": -1, "gamma": 0.5}),
    ("poisson_deviance_loss", (uniform(7, 5), 4 * uniform(5, 7).T), {}),
    ("gamma_deviance_loss", (uniform(7, 5), 4 * uniform(5, 7).T), {}),
    ("tweedie_deviance_loss", (uniform(7, 5), 4 * uniform(5, 7).T), {"power": 1.5}),
    ("tweedie_deviance_loss", (uniform(7, 5), 4 * uniform(5, 7).T), {"power": 3.0}),
    ("generalized_kl_div", (uniform(7, 5), 4 * uniform(5, 7).T), {}),
    ("mape_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("smape_loss", (normal(7, 5), normal(5, 7).T), {}),
    ("hinge_loss", (normal(7, 5), normal(5, 7).T.sign()), {}),
    ("squared_hinge_loss", (normal(7, 5), normal(5, 7).T.sign()), {}),
    ("kl_div", (-4 * uniform(7, 5), uniform(5, 7).T), {"reduction": "batchmean"}),
]


@pytest.mark.parametrize("name, arguments, options", CALLS + MORE, ids=lambda v: v if isinstance(v, str) else "")
def test_gradcheck(name, arguments, options):
    for reduction in ("mean", "none"):
        if name == "rmse_loss" and reduction == "none":
            continue
        x = arguments[0].clone().requires_grad_()
        options = {"reduction": reduction} | options
        assert torch.autograd.gradcheck(lambda x, o=options: LOSSES[name](x, *arguments[1:], **o), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_both_inputs_of_a_ranking(dtype):
    """Have gradients, as those of one model's scores need them."""
    x, other, y = normal(7, 5, dtype=dtype), normal(1, 5, dtype=dtype) / 2, normal(5, 7).T.sign()
    leaves = [x.clone().requires_grad_(), other.clone().requires_grad_()]
    ours = ft.margin_ranking_loss(*leaves, y.to(dtype), 0.25)
    got = torch.autograd.grad(ours, leaves)
    wide = [x.double().requires_grad_(), other.double().requires_grad_()]
    theirs = F.margin_ranking_loss(*wide, y, 0.25)
    expected = torch.autograd.grad(theirs, wide)
    assert [g.dtype for g in got] == [dtype, dtype]
    rtol = 1e-12 if dtype == torch.float64 else 1e-6 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=0)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=rtol, atol=1e-4 if dtype == torch.float16 else 1e-8)


def test_broadcasting():
    """Of the input too: autograd gives back what it takes."""
    for shape, other, weight in (
        ((5,), (7, 5), None),
        ((7, 1), (7, 5), (5,)),
        ((), (3,), None),
        ((2, 1), (1, 3), (4, 1, 1)),
    ):
        options = {} if weight is None else {"weight": uniform(*weight)}
        for reduction in ("mean", "none"):
            x = normal(*shape).requires_grad_()
            target = normal(*other)
            assert torch.autograd.gradcheck(
                lambda x, t=target, r=reduction, o=options: ft.mse_loss(x, t, reduction=r, **o), x
            )
    x = normal(5).requires_grad_()
    for var in (uniform(7, 5), uniform(5), torch.tensor(0.3, dtype=torch.float64), 0.3, torch.tensor([[0.5]] * 7)):
        assert torch.autograd.gradcheck(lambda x, v=var: ft.gaussian_nll_loss(x, normal(7, 5), v, reduction="none"), x)


def test_the_class_axis():
    """torch's by default, any that is asked for."""
    x = normal(2, 3, 4, 5)
    y = torch.from_numpy(generator("axis").integers(0, 3, (2, 4, 5)))
    expected, slope = both(F.cross_entropy, (x, y), reduction="none")
    for axis in range(4):
        for function in (ft.cross_entropy, ft.nll_loss):
            moved = x.movedim(1, axis)
            target = torch.zeros([n for i, n in enumerate(moved.shape) if i != axis], dtype=torch.int64)
            assert function(moved, target, axis=axis, reduction="none").shape == target.shape
    got, moved = both(ft.cross_entropy, (x.movedim(1, -1), y), axis=-1, reduction="none")
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(moved.movedim(-1, 1), slope)


# --- the linear layer -------------------------------------------------------------------------------------------------------


def layer():
    return normal(7, 6).requires_grad_(), normal(5, 6).requires_grad_(), normal(5).requires_grad_()


@pytest.mark.parametrize("target", [SOME, torch.softmax(normal(7, 5), 1)], ids=["labels", "probabilities"])
def test_linear(target):
    options = {"weight": WEIGHTS, "label_smoothing": 0.1}
    for reduction in ("mean", "sum"):
        h, a, b = layer()
        value = ft.linear_cross_entropy(h, a, target, linear_bias=b, reduction=reduction, **options)
        value.mul(3).backward()
        got = [x.grad for x in (h, a, b)]
        h, a, b = layer()
        expected = F.cross_entropy(F.linear(h, a, b), target, reduction=reduction, **options)
        expected.mul(3).backward()
        torch.testing.assert_close(value, expected)
        for slope, x in zip(got, (h, a, b), strict=True):
            torch.testing.assert_close(slope, x.grad)


def test_linear_with_some_gradients():
    for names in ("h", "a", "b", "ha", "ab", "hb"):
        inputs = {name: x.detach().requires_grad_(name in names) for name, x in zip("hab", layer(), strict=True)}
        value = ft.linear_cross_entropy(inputs["h"], inputs["a"], LABELS, linear_bias=inputs["b"])
        value.backward()
        assert {name for name, x in inputs.items() if x.grad is not None} == set(names)
    h, a, b = layer()
    assert torch.autograd.gradcheck(lambda *x: ft.linear_cross_entropy(x[0], x[1], LABELS, linear_bias=x[2]), (h, a, b))
    rows = lambda h: ft.linear_cross_entropy(h, a.detach(), LABELS, reduction="none")  # noqa: E731
    assert torch.autograd.gradcheck(rows, h)
    with pytest.raises(ValueError, match="reduction: expected 'mean' or 'sum' where the layer's"):
        ft.linear_cross_entropy(h, a, LABELS, reduction="none")


# --- tensors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    if dtype == torch.bfloat16:
        pytest.importorskip("ml_dtypes")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = normal(7, 5, dtype=dtype)
    for reduction in ("mean", "none"):
        got, slope = both(ft.cross_entropy, (x, LABELS), reduction=reduction)
        expected, their_slope = both(F.cross_entropy, (x.to(wide), LABELS), reduction=reduction)
        assert got.dtype == wide and slope.dtype == dtype and slope.shape == x.shape
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(slope, their_slope.to(dtype), rtol=1e-3, atol=1e-6)


def test_strides():
    x = normal(5, 7).T
    assert not x.is_contiguous()
    for leaf in (x, x[:, ::2], normal(1, 5).expand(7, 5)):
        got, slope = both(ft.cross_entropy, (leaf, LABELS % leaf.shape[1]))
        expected, theirs = both(F.cross_entropy, (leaf, LABELS % leaf.shape[1]))
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(slope, theirs)


def test_graphs():
    """Within a graph, twice through one graph, and without one."""
    x = normal(7, 5).requires_grad_()
    w = normal(5, 5).requires_grad_()
    (ft.cross_entropy(torch.tanh(x @ w), LABELS) * 2 + ft.mse_loss(x, torch.zeros_like(x))).backward()
    got = x.grad.clone(), w.grad.clone()
    x.grad = w.grad = None
    (F.cross_entropy(torch.tanh(x @ w), LABELS) * 2 + F.mse_loss(x, torch.zeros_like(x))).backward()
    torch.testing.assert_close(got, (x.grad, w.grad))
    x.grad = None
    loss = ft.mse_loss(x, torch.zeros_like(x))
    loss.backward(retain_graph=True)
    once = x.grad.clone()
    loss.backward()
    torch.testing.assert_close(x.grad, 2 * once)
    with torch.no_grad():
        assert not ft.mse_loss(x, x).requires_grad
    assert not ft.mse_loss(x.detach(), x.detach()).requires_grad
    with torch.inference_mode():
        assert ft.mse_loss(x, x) == 0


def test_values_are_the_packages():
    x = normal(7, 5, dtype=torch.float32)
    assert ft.cross_entropy(x, LABELS).item() == fastloss.cross_entropy(x, LABELS)
    assert ft.cross_entropy(x, LABELS, reduction="none").numpy().tobytes() == (
        fastloss.cross_entropy(x, LABELS, reduction="none").tobytes()
    )
    assert ft.mse_loss(x, 1.0).item() == fastloss.mse_loss(x, 1.0)
    assert ft.mse_loss(x, np.ones((7, 5), np.float32)).item() == fastloss.mse_loss(x, 1.0)


def test_compile():
    """The graph breaks; the numbers are the same."""

    def fn(x, y):
        return ft.cross_entropy(x * 2, y) * 3

    x = normal(7, 5).requires_grad_()
    torch.compile(fn, backend="eager")(x, LABELS).backward()
    got, x.grad = x.grad, None
    fn(x, LABELS).backward()
    torch.testing.assert_close(got, x.grad, rtol=0, atol=0)


def test_errors():
    x = normal(7, 5).requires_grad_()
    y = normal(7, 5).requires_grad_()
    with pytest.raises(ValueError, match="target: expected a tensor that requires no gradient"):
        ft.mse_loss(x, y)
    with pytest.raises(ValueError, match="weight: expected a tensor that requires no gradient"):
        ft.cross_entropy(x, LABELS, WEIGHTS.clone().requires_grad_())
    with pytest.raises(ValueError, match="var: expected a tensor that requires no gradient"):
        ft.gaussian_nll_loss(x.detach(), x.detach(), y * y)
    with torch.no_grad():
        ft.mse_loss(x, y)  # nothing is recorded
    with pytest.raises(TypeError, match="input: expected a tensor, got ndarray"):
        ft.mse_loss(np.zeros(3), x)
    with pytest.raises(TypeError, match="input: expected a tensor, got list"):
        ft.cross_entropy([[1.0, 2.0]], [0])
    with pytest.raises(IndexError, match=r"target\[1\] = 9 "):
        ft.cross_entropy(x[:2], torch.tensor([0, 9]))
    with pytest.raises(ValueError, match="reduction"):
        ft.mse_loss(x, y.detach(), reduction="average")
    with pytest.raises(ValueError, match="rmse"):
        ft.rmse_loss(x, y.detach(), reduction="none")
    for reduction in ("mean", "none"):
        value = ft.mse_loss(x, y.detach(), reduction=reduction).sum()
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(value, x, create_graph=True)
    for transform in (torch.vmap, torch.func.grad):
        with pytest.raises(RuntimeError, match="setup_context"):
            transform(lambda v: ft.mse_loss(v, 0.0))(x.detach())


def test_every_loss_is_there():
    assert list(ft.__all__) == sorted(fn.__name__ for fn in fastloss.functional.LOSSES)
    for name, fn in LOSSES.items():
        assert inspect.getdoc(fn)
        parameters = list(inspect.signature(fn).parameters)
        if not hasattr(F, name):
            continue
        theirs = list(inspect.signature(getattr(F, name)).parameters)
        gone = {"size_average", "reduce", "options"}
        assert set(theirs) - gone <= set(parameters), name
        n = 4 if name == "poisson_nll_loss" else 3 if "entropy" in name or name == "gaussian_nll_loss" else 2
        assert parameters[:n] == theirs[:n], name
