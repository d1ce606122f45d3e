"""Public functions on the driver without a GPU: what is computed × dtype × number of classes × layout, against the oracle.

Every kernel takes seconds to compile, so that by default there are a few, which reach every kind of kernel.  With `-m full` each value of a
parameter is there at least once, each time with others; `-m slow` runs some hundred combinations more.
"""

import inspect
import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "device")]
import reference  # noqa: E402
from amounts import mostly_full  # noqa: E402
from cases import POINT_CASES, generator  # noqa: E402
from compare import assert_ulp, same_bits  # noqa: E402
from on_device import fetched, gappy, sent, shifted, transposed, ulp_of  # noqa: E402

import fastloss  # noqa: E402

try:
    from ml_dtypes import bfloat16

    DTYPES = ["float32", "bfloat16", "float64", "float16"]
except ImportError:  # an optional package
    bfloat16, DTYPES = None, ["float32", "float64", "float16"]

# Where ways part: vectors and single elements, lanes of a row, staging up to 32, teams from 1024 or 4096 on, chunks from 16384 on.
CLASSES = [10, 1, 2, 32, 33, 64, 65, 129, 255, 256, 1000, 1023, 1024, 1025, 4096, 4097, 32000, 3, 16, 100]
LAYOUTS = ["rows", "transposed", "shifted", "gappy", "columns"]
FEW, MANY = 5, 2100  # rows below and above 2048, from which on columns are read along rows

ULP = {"float32": 2, "float64": 8, "float16": 5, "bfloat16": 5}  # of a row's loss; halves are computed in float32


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    return tmp_path_factory.mktemp("launches") / "launches"


@pytest.fixture(autouse=True)
def noted(launches, monkeypatch):
    monkeypatch.setenv("DRIVER_LAUNCHES", str(launches))


def some(*values, by_default):
    """As many combinations as the longest list has values, all lists gone through together, and others marked `slow`.

    Of the former so many run by default, the rest is marked `full`.
    """
    n = max(map(len, values))
    steps = [1 if len(v) == n else next(s for s in (3, 2, 1) if np.gcd(s, len(v)) == 1) for v in values]
    chosen = [tuple(v[k * s % len(v)] for v, s in zip(values, steps, strict=True)) for k in range(n)]
    others = [c for c in itertools.product(*values) if c not in chosen]
    more = random.Random(0).sample(others, 200)
    full = [pytest.param(c, marks=pytest.mark.full) for c in chosen[by_default:]]
    return chosen[:by_default] + full + [pytest.param(c, marks=pytest.mark.slow) for c in more]


def named(case):
    return "-".join(map(str, case)).replace(" ", "_")


def twice(monkeypatch, call):
    """What a call returns, in any order of blocks, warps and lanes."""
    results = []
    for order in ("0", "1"):
        monkeypatch.setenv("DRIVER_ORDER", order)
        results.append([fetched(part) for part in call()])
    assert all(same_bits(a, b) for a, b in zip(*results, strict=True))
    return results[0]


def dtype_of(name):
    return np.dtype(bfloat16 if name == "bfloat16" else name)


# --- rows -------------------------------------------------------------------------------------------------------------


def laid_out(x, layout):
    """Rows of an array of two axes on the device, and the axis of its classes."""
    if layout == "columns":
        return sent(np.ascontiguousarray(x.T)), 0
    if layout == "transposed":
        return transposed(x), 1
    return {"rows": sent, "shifted": shifted, "gappy": gappy}[layout](x), 1


def loss(function, x, y, axis, **options):
    return [getattr(fastloss, function)(x, y, axis=axis, **options)]


def slopes(x, y, axis, **options):
    return list(fastloss.value_and_grad(fastloss.cross_entropy)(x, y, axis=axis, **options))


WHATS = ["none", "mean", "slopes", "axis", "weights"]
KINDS = [
    "index",
    "index mean",
    "index slopes",
    "smoothed",
    "smoothed slopes",
    "weights",
    "probabilities",
    "probabilities slopes",
    "logsumexp",
    "log_softmax",
    "softmax",
    "score",
    "rank",
    "nll",
    "categorical",
]


def check_rows(monkeypatch, kind, dtype, n_rows, n_classes, layout):
    rng = generator(kind, n_rows, n_classes, layout)
    x = (rng.normal(size=(n_rows, n_classes)) * 4).astype(dtype_of(dtype))
    y = rng.integers(0, n_classes, n_rows)
    y[0], y[-1] = -100, n_classes - 1
    ulp, real = ULP[dtype], "float64" if dtype == "float64" else "float32"
    name = kind.split()[0]
    options = {"label_smoothing": 0.1} if name == "smoothed" else {}
    if name == "weights":
        options = {"weight": rng.uniform(0.5, 2, n_classes).astype(real)}
    if name == "probabilities":
        y = rng.dirichlet(np.ones(n_classes), n_rows).astype(real)
    if name in ("nll", "categorical"):
        x = -np.abs(x) if name == "nll" else (1 / (1 + np.abs(x))).astype(x.dtype)
    there, axis = laid_out(x, layout)
    targets = laid_out(y, layout)[0] if y.ndim == 2 else sent(y)
    moved = {key: sent(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    back = (lambda a: a.T) if layout == "columns" else (lambda a: a)

    if name in ("logsumexp", "log_softmax", "softmax"):
        (got,) = twice(monkeypatch, lambda: [getattr(fastloss, name)(there, axis=axis)])
        at = 1e-3 if name == "log_softmax" else 0
        assert_ulp(back(got) if got.ndim == 2 else got, getattr(reference, name)(x), 2 * ulp, at=at)
    elif name in ("score", "rank"):
        scores = twice(
            monkeypatch,
            lambda: fastloss.score(there, targets, axis=axis, top_k=3 if name == "rank" else None)[
                : 6 if name == "rank" else 4
            ],
        )
        expected = fastloss.score(x, y, top_k=3)
        for part, right in zip(
            scores[2:], [expected.argmax, expected.correct, expected.rank, expected.in_top_k], strict=False
        ):
            np.testing.assert_array_equal(part, right)
        assert_ulp(scores[1], reference.logsumexp(x), ulp, at=1e-3)
        assert_ulp(scores[0], np.where(y < 0, 0, reference.loss("cross_entropy", x, y, reduction="none")), ulp)
    else:
        function = {"nll": "nll_loss", "categorical": "categorical_cross_entropy"}.get(name, "cross_entropy")
        if kind.endswith("slopes"):
            value, gradient = twice(monkeypatch, lambda: slopes(there, targets, axis, reduction="sum", **moved))
            exact, slope = reference.value_and_grad(function, x, y, reduction="sum", **options)
            assert_ulp(value, exact, ulp, at=n_rows)
            assert_ulp(back(gradient), slope, 4, at=0.5)
        else:
            reduction = "mean" if kind.endswith("mean") else "none"
            (got,) = twice(monkeypatch, lambda: loss(function, there, targets, axis, reduction=reduction, **moved))
            exact = reference.loss(function, x, y, reduction=reduction, **options)
            assert_ulp(
                got, exact, ulp + 2 if name == "probabilities" else ulp, at=1e-3 if name == "probabilities" else 0
            )


@pytest.mark.parametrize("case", some(KINDS, DTYPES, CLASSES, LAYOUTS, by_default=5), ids=named)
def test_rows(monkeypatch, case):
    kind, dtype, n_classes, layout = case
    n_rows = MANY if n_classes < 20 and layout in ("columns", "transposed") else 40 if n_classes < 300 else FEW
    check_rows(monkeypatch, kind, dtype, n_rows, n_classes, layout)


# --- elements ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", some(POINT_CASES, WHATS, DTYPES, LAYOUTS[:-1], by_default=4), ids=named)
def test_elements(monkeypatch, case):
    case, what, dtype, layout = case
    rng = generator(case, what, dtype)
    arguments = case.cast(case.arguments(rng, (13, 37)), dtype_of(dtype))
    there = [laid_out(a, layout)[0] for a in arguments]
    real = "float64" if dtype == "float64" else "float32"
    function = getattr(fastloss, case.loss)
    ulp, at = ulp_of(case, real), max(case.at, 1e-3)
    options, moved = dict(case.options), {}
    if what == "axis" and "axis" in inspect.signature(function).parameters:
        options["axis"] = 0
    if what == "weights":
        options["weight"] = rng.uniform(0, 2, (13, 37)).astype(real)
        moved["weight"] = sent(options["weight"])
    if what == "slopes":
        value, gradient = twice(
            monkeypatch, lambda: fastloss.value_and_grad(function)(*there, reduction="sum", **options)
        )
        exact, slope = reference.value_and_grad(case.loss, *arguments, reduction="sum", **options)
        assert_ulp(value, exact, ulp, at=at * gradient.size)
        assert_ulp(gradient, slope, 12, at=max(at, 0.1))
    else:
        reduction = "none" if what == "none" and case.loss != "rmse_loss" else "mean"
        (got,) = twice(monkeypatch, lambda: [function(*there, reduction=reduction, **(options | moved))])
        exact = reference.loss(case.loss, *arguments, reduction=reduction, **options)
        assert_ulp(got, exact, ulp + 2 * (what == "weights"), at=at)


@pytest.mark.parametrize("case", mostly_full(POINT_CASES, lambda case: case.loss == "poisson_nll_loss"), ids=str)
def test_elements_do_not_depend_on_what_the_hardware_has_for_exponentials(monkeypatch, case):
    """In float32 they have the same bits where approximate instructions are off by all that their documentation allows."""
    there = [sent(a) for a in case.cast(case.arguments(generator(case), (40, 50)), np.float32)]
    function, reduction = getattr(fastloss, case.loss), "mean" if case.loss == "rmse_loss" else "none"
    results = []
    for off in ("0", "1"):
        monkeypatch.setenv("DRIVER_APPROXIMATE", off)
        results.append(fetched(function(*there, reduction=reduction, **case.options)))
    assert same_bits(*results)


def test_every_kind_of_kernel_has_run(launches):
    """Among the tests above and the calls here."""
    p, labels = np.full((3, 4), 0.25, np.float32), np.array([0, 1, 2])
    with pytest.raises(ValueError, match=r"probs\[1, 2\]"):
        bad = p.copy()
        bad[1, 2] = 1.5
        fastloss.binary_cross_entropy(sent(bad), sent(p))
    for contiguous in (sent(p), sent(np.ones((3, 9), np.float32))[:, ::2][:, :4]):
        fastloss.mse_loss(contiguous, sent(p), axis=0)
        fastloss.mse_loss(contiguous, sent(p))
    fastloss.value_and_grad(fastloss.nll_loss)(sent(-p), sent(labels))
    fastloss.cross_entropy(sent(p), sent(labels))
    fastloss.cross_entropy(sent(np.ones((2, 5000), np.float32)), sent(labels[:2]))
    names = launches.read_text()
    for template in ("groups", "teams", "gather", "weigh", "vectors", "strided", "lanes", "outside"):
        assert f"{template}_" in names, template
