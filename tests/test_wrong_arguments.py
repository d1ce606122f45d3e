"""What is refused, and in which words, depends neither on the size of the arrays, nor on their layout or place, nor on earlier calls."""

import contextlib
import re

import numpy as np
import pytest

import fastloss
from fastloss import losses

SIZES = (3, 3_000, 300_000, 3_000_000)
N_CLASSES = 3

# Wrong values of each kind of option, and right ones that some of them compare equal to.
WRONG = {
    "axis": [1.0, 0.0, True, False, "0", None, 7, -8, (0,), [0], np.float64(1)],
    "axes": [1.0, 0.0, True, "x", 7, -8, (0, 0), (0, True), (0.0,), [0.0], {0}, np.float64(0), b"0"],
    "reduction": [None, "median", "MEAN", "", 1, True, np.array("mean"), ["mean"], b"mean", "batch"],
    "choice": [None, "L1", "", 1, True, np.array("l1"), ["l1"], b"l1", "linf"],
    "number": [None, "0.1", 1j, [0.1], np.array([0.1]), np.complex64(1), 10**400, b"1", float("nan"), -1.0, -1],
    "integer": [1.0, True, "3", [1], np.float32(1), 0.5, b"3", 1j],
    "flag": [None, 1, 0, 1.0, "True", np.array(True), [True]],
}
ALIKE = {
    "axis": (0, 1),
    "axes": (0, 1, (0, 1)),
    "reduction": ("mean",),
    "choice": ("l1",),
    "number": (1.0,),
    "integer": (1,),
    "flag": (True, False),
}
OUT = [[0.0], 1.0, np.zeros((2, 2, 2, 2)), np.zeros((), np.int64), "out"]


def arrays(function, n, strided):
    """Right operands, by name, of n predictions."""
    step = 2 if strided else 1
    dtype = np.float32

    def full(shape, value):
        base = np.full((*shape[:-1], shape[-1] * step), value, dtype)
        return base[..., ::step]

    rows = n // N_CLASSES
    labels = np.zeros(rows * step, np.int64)[::step]
    if function.family == "elements":
        return {name: full((rows, N_CLASSES), 0.5) for name in function.arrays}
    if function.family == "layer":
        return {"hidden": full((rows, 2), 0.5), "linear_weight": full((N_CLASSES, 2), 0.5), "target": labels}
    logits = [name for name in function.arrays if name != "target"]
    return {name: full((rows, N_CLASSES), 0.5) for name in logits} | (
        {"target": labels} if "target" in function.arrays else {}
    )


def wrong_arrays(function, operands, name):
    """Arrays that are wrong in the place of one of the operands; those of odd types take no memory."""
    shape = operands[name].shape
    for value in (1j, None, "1", np.datetime64(0, "s")):
        yield np.broadcast_to(np.array(value), shape)
    if name not in function.optional:
        yield None
    yield "text"
    if function.family in ("elements", "layer") and len(shape) == 2:
        yield np.broadcast_to(np.float32(0.0), (shape[0], shape[1] + 2))


def cases():
    """(function, what is wrong, a function of operands to arguments)."""
    for function in losses.FUNCTIONS:
        for option in function.options:
            for i, value in enumerate(WRONG[option.kind]):
                if option.kind == "number" and type(value) in (int, float) and value == -1 and option.allows(value):
                    continue
                if value is None and option.optional:
                    continue
                yield function, f"{option.name}={value!r:.20}-{i}", {option.name: value}
        for i, value in enumerate(OUT):
            if function.family not in ("scores", "comparison", "forecasts"):  # which have no `out`
                yield function, f"out-{i}", {"out": value}
        for name in function.arrays:
            for i in range(7):
                if i != 4 or name not in function.optional:  # the fourth is None
                    yield function, f"{name}-{i}", (name, i)
        for name in function.more_arrays:
            for i, value in enumerate((np.zeros((2, 2, 2, 2)), np.zeros(4, complex), "text", np.zeros(7), object())):
                yield function, f"{name}-{i}", {name: value}


CASES = list(cases())


def told(call, n):
    """Type and text of what a call raises, without the numbers that follow from its size."""
    try:
        result = call()
        if hasattr(result, "compute"):
            result.compute(scheduler="synchronous")
    except Exception as error:
        return type(error), re.sub(
            r"\([\d, ]*\)", lambda shape: re.sub(rf"\b{n // N_CLASSES}\b", "ROWS", shape[0]), str(error)
        )
    return None


def arguments(function, operands, wrong):
    if isinstance(wrong, dict):
        return operands, wrong
    name, i = wrong
    found = list(wrong_arrays(function, operands, name))
    return operands | {name: found[i % len(found)]}, {}


@pytest.mark.parametrize("function", losses.FUNCTIONS, ids=lambda function: function.name)
def test_the_same_error_at_every_size_and_layout_and_after_any_call(function):
    fn = getattr(fastloss, function.name)
    mine = [(what, wrong) for owner, what, wrong in CASES if owner is function]
    prepared = [(n, strided, arrays(function, n, strided)) for n in SIZES for strided in (False, True)]
    for what, wrong in mine:
        seen = {}
        for n, strided, operands in prepared:
            args, options = arguments(function, operands, wrong)
            positional = [args[name] for name in function.arrays]
            for name in options:
                kind = next((option.kind for option in function.options if option.name == name), None)
                for right in ALIKE.get(kind, ()) if n == SIZES[0] else ():
                    with contextlib.suppress(Exception):
                        fn(*positional, **{name: right})
            for again in (False, True):
                seen[n, strided, again] = told(lambda p=positional, o=options: fn(*p, **o), n)
        assert None not in seen.values(), f"{what}: accepted by {[key for key, value in seen.items() if value is None]}"
        assert len(set(seen.values())) == 1, f"{what}: {seen}"
        kind, text = seen[SIZES[0], False, False]
        assert issubclass(kind, (TypeError, ValueError)), f"{what}: {kind.__name__}: {text}"


def test_there_are_enough_of_them():
    assert len(CASES) >= 300


@pytest.mark.parametrize("function", losses.FUNCTIONS, ids=lambda function: function.name)
def test_dask_says_what_the_host_says(function):
    da = pytest.importorskip("dask.array")
    fn = getattr(fastloss, function.name)
    for owner, what, wrong in CASES:
        if owner is not function or isinstance(wrong, dict) and "out" in wrong:
            continue  # lazy results are written to nothing
        for n in (3, 3_000):
            operands = arrays(function, n, False)
            args, options = arguments(function, operands, wrong)
            positional = [args[name] for name in function.arrays]
            lazy = [
                da.from_array(a, chunks=-1) if isinstance(a, np.ndarray) and a.dtype.kind in "iuf" else a
                for a in positional
            ]
            if not any(hasattr(a, "dask") for a in lazy):
                continue
            host, there = (
                told(lambda p=positional, o=options: fn(*p, **o), n),
                told(lambda p=lazy, o=options: fn(*p, **o), n),
            )
            assert host == there, what


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("n", SIZES)
def test_wrong_values(n, reduction):
    """The first one is named, wherever else there are more."""
    rows = n // N_CLASSES
    for strided in (False, True):
        for function in (losses.CROSS_ENTROPY, losses.NLL_LOSS, losses.CATEGORICAL_CROSS_ENTROPY):
            x, labels = arrays(function, n, strided).values()
            labels[rows // 2 :] = 9
            for _ in range(2):
                kind, text = told(
                    lambda x=x, y=labels, f=function: getattr(fastloss, f.name)(x, y, reduction=reduction), n
                )
                assert kind is IndexError and text.startswith(f"target[{rows // 2}] = 9")
        x, y = arrays(losses.BINARY_CROSS_ENTROPY, n, strided).values()
        y[-1, 1] = 1.5
        for _ in range(2):
            with pytest.raises(ValueError, match=rf"target\[{rows - 1}, 1\] = 1.5"):
                fastloss.binary_cross_entropy(x, y, reduction=reduction)
