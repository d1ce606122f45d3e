"""The same numbers as torch 2.13 in float64, values and gradients, to a relative 1e-12.

Every test runs twice: for the oracle of these tests, which shows that the oracle is right, and for the
package. Where the contract departs from torch on purpose (NaN in ignored rows, infinities times zero, means
of weighted Huber losses) the tests are elsewhere, against the oracle alone.
"""

import numpy as np
import pytest
from cases import generator
from subjects import for_oracle_and_package
from torch_peer import F, equal, tensor, torch, torch_value_and_grad

pytestmark = [for_oracle_and_package, pytest.mark.any_backend]


# ------------------------------------------------------------------------------------------- cross entropy

# torch's layouts: the classes are axis 0 of a vector and axis 1 of everything else.
SHAPES = {1: (4,), 2: (7, 4), 3: (3, 4, 2), 4: (2, 4, 3, 2), 5: (2, 4, 2, 1, 3)}
WEIGHTS = {
    "plain": None,
    "weights": np.array([0.5, 2.0, 1.25, 0.1]),
    "one-zero": np.array([0.5, 0.0, 1.25, 0.1]),
    "all-zero": np.zeros(4),
}
IGNORED = ("none", "some", "class-1", "all")
LAYOUTS = [(ndim, axis) for ndim in SHAPES for axis in range(ndim)]


def logits_and_labels(ndim, ignored):
    rng = generator("cross_entropy", ndim, ignored)
    shape = SHAPES[ndim]
    logits = rng.normal(0, 3, shape)
    target = np.asarray(rng.integers(0, 4, shape[:1] * (ndim > 1) + shape[2:]))
    if ignored == "all":
        target[...] = -100
    elif ignored == "some":
        target[rng.random(target.shape) < 0.4] = -100
    return logits, target, {"ignore_index": 1} if ignored == "class-1" else {}


def compare_all_reductions(subject, name, function, class_axis, axis, logits, target, options):
    """`target` is in torch's layout; the subject gets its classes on `axis`."""
    # Contiguous in the order of axes that is asked for: views are for test_values.py and test_softmax_family.py.
    moved = np.array(np.moveaxis(logits, class_axis, axis), order="C")
    moved_target = np.moveaxis(target, class_axis, axis) if target.ndim == logits.ndim else target
    moved_target = np.array(moved_target, order="C")
    torch_options = {key: tensor(value) if key == "weight" else value for key, value in options.items()}
    for reduction in ("none", "mean", "sum"):
        value, gradient = torch_value_and_grad(function, logits, target, reduction=reduction, **torch_options)
        got = subject.call(name, moved, moved_target, axis=axis, reduction=reduction, **options)
        equal(got, value, f"reduction={reduction}")
        if reduction != "none":
            got, slope = subject.value_and_grad(name, moved, moved_target, axis=axis, reduction=reduction, **options)
            equal(got, value, f"value with gradient, reduction={reduction}")
            slope = np.moveaxis(slope, axis, class_axis)
            equal(slope, gradient, f"gradient, reduction={reduction}", atol=1e-15)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ndim, axis", LAYOUTS)
def test_cross_entropy_of_indices(subject, ndim, axis, smoothing, ignored, weight):
    logits, target, options = logits_and_labels(ndim, ignored)
    options |= {"weight": WEIGHTS[weight], "label_smoothing": smoothing}
    compare_all_reductions(subject, "cross_entropy", F.cross_entropy, min(ndim - 1, 1), axis, logits, target, options)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ndim, axis", LAYOUTS)
def test_cross_entropy_of_probabilities(subject, ndim, axis, smoothing, weight):
    class_axis = min(ndim - 1, 1)
    rng = generator("probabilities", ndim)
    logits = rng.normal(0, 3, SHAPES[ndim])
    target = rng.dirichlet(np.ones(4), SHAPES[ndim][:1] * (ndim > 1) + SHAPES[ndim][2:])
    target = np.moveaxis(target, -1, class_axis)
    options = {"weight": WEIGHTS[weight], "label_smoothing": smoothing}
    compare_all_reductions(subject, "cross_entropy", F.cross_entropy, class_axis, axis, logits, target, options)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("ndim, axis", LAYOUTS)
def test_nll_loss(subject, ndim, axis, ignored, weight):
    log_probs, target, options = logits_and_labels(ndim, ignored)
    options |= {"weight": WEIGHTS[weight]}
    compare_all_reductions(subject, "nll_loss", F.nll_loss, min(ndim - 1, 1), axis, log_probs, target, options)


@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", ["plain", "weights", "all-zero"])
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 2), (2, 4, 0), (2, 4, 0, 3)])
def test_cross_entropy_without_rows(subject, shape, weight, smoothing, kind):
    target = np.zeros(shape[:1] + shape[2:], np.int64) if kind == "index" else np.zeros(shape)
    options = {"weight": WEIGHTS[weight], "label_smoothing": smoothing}
    compare_all_reductions(subject, "cross_entropy", F.cross_entropy, 1, 1, np.zeros(shape), target, options)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 1, 3)])
def test_cross_entropy_of_one_class(subject, shape, smoothing):
    """With a single class every loss and every slope is 0."""
    axis = min(len(shape) - 1, 1)
    logits = generator("one class").normal(0, 3, shape)
    target = np.zeros(shape[:1] * axis + shape[2:], np.int64)
    options = {"label_smoothing": smoothing}
    compare_all_reductions(subject, "cross_entropy", F.cross_entropy, axis, axis, logits, target, options)


@pytest.mark.parametrize("row", [[-np.inf, 1, 2], [-np.inf] * 3, [np.inf, 1, 2], [np.nan, 1, 2]])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_infinite_logits(subject, row, label):
    logits, target = np.array([row, [0.0, 1.0, 2.0]]), np.array([label, 2])
    compare_all_reductions(subject, "cross_entropy", F.cross_entropy, 1, 1, logits, target, {})


# ------------------------------------------------------------------------------------- softmax and friends


@pytest.mark.parametrize("ndim, axis", LAYOUTS)
@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
def test_softmax_functions(subject, name, ndim, axis):
    x = generator(name, ndim).normal(0, 3, SHAPES[ndim])
    equal(subject.call(name, x, axis=axis), getattr(torch, name)(tensor(x), axis), "positive axis")
    equal(subject.call(name, x, axis=axis - ndim), getattr(torch, name)(tensor(x), axis), "negative axis")
    if name == "logsumexp":
        expected = torch.logsumexp(tensor(x), axis, keepdim=True)
        equal(subject.call(name, x, axis=axis, keepdims=True), expected, "keepdims")


@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
def test_softmax_functions_at_infinity(subject, name):
    inf, nan = np.inf, np.nan
    rows = [[inf, 0, 1], [-inf, 0, 1], [-inf] * 3, [nan, 0, 1], [nan, inf, 0], [nan, -inf, -inf]]
    x = np.array(rows)
    equal(subject.call(name, x), getattr(torch, name)(tensor(x), -1), name)
    empty = np.zeros((2, 0))
    equal(subject.call(name, empty), getattr(torch, name)(tensor(empty), -1), name)
