"""Every loss × reduction × dtype × layout against the oracle, the dtypes of the results, and ``out=``."""

import itertools

import numpy as np
import pytest
import reference
from cases import CASES, PLAIN_CASES, POINT_CASES, STAND_INS, generator
from compare import assert_ulp, result_dtype
from layouts import KEEPING_DTYPE, big_endian, contiguous, misaligned

import fastloss

DTYPES = [np.float32, np.float64, np.float16, np.int8, np.int64, np.uint16, np.bool_]
try:
    from ml_dtypes import bfloat16

    DTYPES.append(bfloat16)
except ImportError:  # an optional package
    pass


def check(case, arguments, dtype, **options):
    """All reductions. A sum may be off by what its elements may be off by, and by its own rounding."""
    options = case.options | options
    function, tolerance = getattr(fastloss, case.loss), case.tolerance(dtype)
    with np.errstate(all="ignore"):
        each = reference.terms(case.loss, *arguments, **options).each
        size = (np.abs(each) + case.at).sum() / np.abs(each.sum())
    for reduction in case.reductions:
        if reduction == "batchmean" and each.ndim == 0:
            continue  # there is no batch
        got = function(*arguments, reduction=reduction, **options)
        with np.errstate(all="ignore"):
            expected = reference.loss(case.loss, *arguments, reduction=reduction, **options)
        assert got.dtype == dtype, reduction
        if reduction == "none":
            assert type(got) is np.ndarray or (type(got) is dtype.type and each.ndim == 0)
            assert_ulp(got, expected, tolerance, case.at, what=f"{case} none")
        else:
            assert type(got) is dtype.type, reduction
            # Where nothing cancels (`at` is 0), a sum is as good as its terms.
            at = float(abs(expected) * size) if case.at and np.isfinite(size) else 0.0
            assert_ulp(got, expected, tolerance + 1, at, what=f"{case} {reduction}")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_dtypes(case, dtype):
    arguments = case.cast(case.arguments(generator(case), (13, 7)), dtype)
    check(case, arguments, result_dtype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("case", [case for case in CASES if case.options], ids=str)
def test_options(case, dtype):
    check(case, case.cast(case.arguments(generator(case), (13, 7)), dtype), np.dtype(dtype))


@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_layouts(case, layout):
    arguments = case.cast(case.arguments(generator(case), (6, 21)), np.float32)
    check(case, [layout(argument) for argument in arguments], np.dtype(np.float32))


@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_one_odd_array_among_plain_ones(case, layout):
    arguments = case.cast(case.arguments(generator(case), (6, 21)), np.float32)
    for odd in range(len(arguments)):
        mixed = [layout(argument) if i == odd else argument for i, argument in enumerate(arguments)]
        check(case, mixed, np.dtype(np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", KEEPING_DTYPE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("case", [STAND_INS[0], STAND_INS[3]], ids=str)
def test_layouts_of_other_dtypes(case, layout, dtype):
    arguments = case.cast(case.arguments(generator(case), (6, 21)), dtype)
    check(case, [layout(argument) for argument in arguments], result_dtype(dtype))


@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_three_dimensional_views(case):
    """Axes that neither merge nor come in order."""
    arguments = case.cast(case.arguments(generator(case), (4, 5, 6)), np.float32)
    views = []
    for argument in arguments:
        order = (1, 0, 2) if argument.ndim == 3 else (1, 0)
        base = np.zeros([n + 2 for n in np.transpose(argument, order).shape], argument.dtype)
        view = base.transpose(order)[tuple(slice(1, 1 + n) for n in argument.shape)]
        view[...] = argument
        views.append(view)
    check(case, views, np.dtype(np.float32))


def other_objects(dtype):
    """Arrays like one whose dtype is not the object that NumPy usually has: after unpickling, swapping bytes, or with metadata."""
    swapped = dtype.newbyteorder(">")
    for other in (swapped.newbyteorder("="), np.dtype(dtype, metadata={"unit": "nat"}), swapped):
        yield lambda a, other=other: a.astype(other) if a.dtype == dtype else a
    other = np.dtype(dtype, metadata={"unit": "nat"})
    yield lambda a: misaligned(a).view(other) if a.dtype == dtype else a


def test_dtypes_that_are_equal_but_not_identical():
    """By plans of their own, and by those of plain arrays, from which they differ in nothing that plans are kept by."""
    # one test, so that each dtype meets each backend by default
    for dtype, plain_first in itertools.product([np.float32, np.float64, np.float16], [False, True]):
        for n, other in enumerate(other_objects(np.dtype(dtype)), 4 if plain_first else 8):
            for case in STAND_INS if dtype is np.float32 else (STAND_INS[0], STAND_INS[3]):
                arguments = case.cast(case.arguments(generator(case), (n, 21)), dtype)
                if plain_first:
                    check(case, arguments, result_dtype(dtype))
                check(case, [other(a) for a in arguments], result_dtype(dtype))


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_lists(case):
    arguments = [argument.tolist() for argument in case.arguments(generator(case), (3, 4))]
    check(case, arguments, np.dtype(np.float64))


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_memory_mapped_files(case, tmp_path):
    arguments = []
    for i, argument in enumerate(case.cast(case.arguments(generator(case), (5, 6)), np.float32)):
        np.save(tmp_path / f"{i}.npy", argument)
        arguments.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    check(case, arguments, np.dtype(np.float32))


class Wrapped:
    """Something with ``__array__`` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_objects_with_array_method(case):
    arguments = case.cast(case.arguments(generator(case), (5, 6)), np.float32)
    function = getattr(fastloss, case.loss)
    got = function(*map(Wrapped, arguments))
    assert type(got) is np.float32 and got == function(*arguments)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_torch_tensors(case):
    torch = pytest.importorskip("torch")
    arguments = case.cast(case.arguments(generator(case), (5, 6)), np.float32)
    function = getattr(fastloss, case.loss)
    got = function(*(torch.from_numpy(argument) for argument in arguments))
    assert got == function(*arguments)


@pytest.mark.parametrize("case", POINT_CASES, ids=str)
def test_zero_dimensions(case):
    arguments = case.cast(case.arguments(generator(case), ()), np.float32)
    check(case, [np.asarray(argument) for argument in arguments], np.dtype(np.float32))
    check(case, arguments, np.dtype(np.float32))  # NumPy scalars
    check(case, [float(argument) for argument in arguments], np.dtype(np.float64))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (2, 0, 3)])
@pytest.mark.parametrize("case", POINT_CASES, ids=str)
def test_empty(case, shape):
    function = getattr(fastloss, case.loss)
    arguments = case.cast(case.arguments(generator(case), shape), np.float32)
    assert np.isnan(function(*arguments, **case.options))
    assert function(*arguments, reduction="sum", **case.options) == 0
    assert function(*arguments, **case.options).dtype == np.float32
    if "none" in case.reductions:
        assert function(*arguments, reduction="none", **case.options).shape == shape


@pytest.mark.parametrize("n", [1, 7, 8, 9, 31, 32, 33, 255, 257, 1023, 1025, 4097, 70001])
@pytest.mark.parametrize("case", [case for case in PLAIN_CASES if not case.rowwise], ids=str)
def test_lengths(case, n):
    """Remainders of vector loops and of blocks."""
    check(case, case.cast(case.arguments(generator(case, n), (n,)), np.float32), np.dtype(np.float32))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_stay_as_they_are(case):
    arguments = case.cast(case.arguments(generator(case), (6, 5)), np.float64)
    before = [argument.copy() for argument in arguments]
    check(case, arguments, np.dtype(np.float64))
    fastloss.value_and_grad(getattr(fastloss, case.loss))(*arguments, **case.options)
    for a, b in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", [case for case in PLAIN_CASES if "none" in case.reductions], ids=str)
def test_out(case):
    function = getattr(fastloss, case.loss)
    for dtype in (np.float32, np.float64):
        arguments = case.cast(case.arguments(generator(case), (4, 3, 5)), dtype)
        expected = function(*arguments, reduction="none")
        out = np.full(expected.shape, -7, dtype)
        assert function(*arguments, reduction="none", out=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("case", STAND_INS, ids=str)
def test_out_of_any_layout(case):
    function = getattr(fastloss, case.loss)
    arguments = case.cast(case.arguments(generator(case), (4, 3, 5)), np.float32)
    expected = function(*arguments, reduction="none")
    out = np.full(expected.shape, -7, np.float32, order="F")
    assert function(*arguments, reduction="none", out=out) is out
    np.testing.assert_array_equal(out, expected)
    wide = np.full((expected.shape[0], 2 * expected.shape[1], *expected.shape[2:]), -7, np.float32)
    function(*arguments, reduction="none", out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], expected)
    assert (wide[:, 1::2] == -7).all()


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_out_of_a_mean(case):
    function = getattr(fastloss, case.loss)
    arguments = case.cast(case.arguments(generator(case), (4, 5)), np.float32)
    out = np.zeros((), np.float32)
    assert function(*arguments, out=out) is out
    assert out == function(*arguments)


@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
def test_out_of_softmax_functions(name):
    function = getattr(fastloss, name)
    x = generator(name).normal(0, 3, (4, 5)).astype(np.float32)
    for axis in (0, 1):
        expected = function(x, axis=axis)
        out = np.empty_like(expected)
        assert function(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "dtype, layout",
    [(np.float32, layout) for layout in KEEPING_DTYPE]
    + [(dtype, layout) for dtype in DTYPES for layout in (contiguous, big_endian)],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
@pytest.mark.parametrize("name, ulp", [("log_softmax", 4), ("softmax", 12), ("logsumexp", 4)])
def test_softmax_functions(name, ulp, layout, dtype):
    x = layout(generator(name).normal(0, 3, (6, 9)).astype(dtype))
    for axis in (0, -1):
        got = getattr(fastloss, name)(x, axis=axis)
        expected = getattr(reference, name)(x, axis=axis)
        assert type(got) is np.ndarray and got.dtype == result_dtype(dtype)
        assert_ulp(got, expected, ulp, at=1.0 if name == "logsumexp" else 0.0, what=name)
