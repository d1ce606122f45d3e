"""The same bits for any number of threads, from run to run, and wherever in memory the array begins."""

import numpy as np
import pytest
from cases import CASES, PLAIN_CASES, generator
from compare import same_bits

import fastloss
from fastloss import _reduce, _threads, losses

pytestmark = pytest.mark.any_backend("case")
# Small, and some MB with lengths that fit no block: there the work is divided among threads.
SIZES = {"small": (37, 11), "wide": (53, 30_001), "long": (170_003, 9)}


def everything(case, arguments, options):
    """Each reduction and each gradient, one after the other."""
    function = getattr(fastloss, case.loss)
    options = case.options | options
    for reduction in case.reductions:
        yield reduction, function(*arguments, reduction=reduction, **options)
        if reduction != "none":
            value, gradient = fastloss.value_and_grad(function)(*arguments, reduction=reduction, **options)
            yield f"value with gradient, {reduction}", value
            yield f"gradient, {reduction}", gradient


def assert_same(expected, results):
    for (what, a), (_, b) in zip(expected, results, strict=True):
        assert same_bits(a, b), what


def test_sizes_want_threads():
    for size in ("wide", "long"):
        work = np.prod(SIZES[size]) * min(formula.ns for formula in losses.POINTWISE)
        assert work >= max(_threads.WORTHWHILE, _threads.WAKE_FROM)


@pytest.mark.expensive
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads(case, size):
    arguments = case.cast(case.arguments(generator(case), SIZES[size]), np.float32)
    layouts = [({}, arguments)]
    if case.rowwise:
        # Classes first: another loop, with another way to divide the work. The same for an axis of a mean.
        layouts.append(({"axis": 0}, [np.ascontiguousarray(a.T) for a in arguments]))
    for options, arrays in layouts:
        with fastloss.use_threads(1):
            expected = list(everything(case, arrays, options))
        for threads in (2, 3, 8, 8):  # twice: from run to run
            with fastloss.use_threads(threads):
                assert_same(expected, everything(case, arrays, options))
        assert_same(expected, everything(case, arrays, options))  # whatever the default is


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", [case for case in PLAIN_CASES if case.loss in ("mse_loss", "kl_div")], ids=str)
def test_threads_with_an_axis(case, axis):
    function = getattr(fastloss, case.loss)
    for shape in SIZES.values():
        arguments = case.cast(case.arguments(generator(case), shape), np.float32)
        results = []
        for threads in (1, 2, 3, 8):
            with fastloss.use_threads(threads):
                results.append(function(*arguments, axis=axis))
        assert all(same_bits(results[0], result) for result in results[1:])


@pytest.mark.any_backend
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss"])
def test_threads_of_other_dtypes(name, dtype):
    case = next(case for case in PLAIN_CASES if case.loss == name)
    arguments = case.cast(case.arguments(generator(case), SIZES["long"]), dtype)
    with fastloss.use_threads(1):
        expected = list(everything(case, arguments, {}))
    for threads in (2, 3, 8):
        with fastloss.use_threads(threads):
            assert_same(expected, everything(case, arguments, {}))


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["log_softmax", "softmax", "logsumexp"])
def test_threads_of_softmax_functions(name):
    function = getattr(fastloss, name)
    for shape in SIZES.values():
        x = generator(name).normal(0, 3, shape).astype(np.float32)
        for axis in (0, 1):
            results = []
            for threads in (1, 2, 3, 8):
                with fastloss.use_threads(threads):
                    results.append(function(x, axis=axis))
            assert all(same_bits(results[0], result) for result in results[1:])


def shifted(array, offset):
    """A copy that begins `offset` bytes after a multiple of 128."""
    buffer = np.empty(array.nbytes + 256, np.uint8)
    start = -buffer.ctypes.data % 128 + offset
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert copy.ctypes.data % 128 == offset % 128
    return copy


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
@pytest.mark.parametrize("shape", [(37, 11), (3, 1001), (2001, 3), (1, 300_001)], ids=str)
def test_alignment(case, shape):
    arguments = case.cast(case.arguments(generator(case), shape), np.float32)
    expected = list(everything(case, [shifted(a, 0) for a in arguments], {}))
    for offset in [*range(4, 68, 4), 1, 2, 3, 63]:
        offset_of = [offset if a.itemsize == 4 else 2 * offset for a in arguments]  # labels have 8 bytes
        arrays = [shifted(a, o) for a, o in zip(arguments, offset_of, strict=True)]
        assert_same(expected, everything(case, arrays, {}))


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype, step", [(np.float16, 2), (np.float64, 8)])
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy_with_logits", "mse_loss"])
def test_alignment_of_other_dtypes(name, dtype, step):
    case = next(case for case in PLAIN_CASES if case.loss == name)
    arguments = case.cast(case.arguments(generator(case), (41, 701)), dtype)
    expected = list(everything(case, [shifted(a, 0) for a in arguments], {}))
    for offset in [*range(step, 68, step), 1, 4]:
        assert_same(expected, everything(case, [shifted(a, offset) for a in arguments], {}))


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_slices_of_one_array(case):
    """The same rows at different places of a larger array."""
    arguments = case.cast(case.arguments(generator(case), (64, 33)), np.float32)
    doubled = [np.concatenate([np.roll(a, 5, axis=0)] * 2) for a in arguments]
    expected = list(everything(case, arguments, {}))
    assert_same(expected, everything(case, [a[5:69] for a in doubled], {}))


def test_blocks_are_added_in_one_order_however_few():
    generator = np.random.default_rng(0)
    for n in (1, 2, _reduce.FEW - 1, _reduce.FEW, _reduce.FEW + 1):
        partials = generator.normal(size=(n, 4)) * 10.0 ** generator.integers(-8, 8, (n, 4))
        in_order = partials[0].copy()
        for row in partials[1:]:
            in_order += row
        assert _reduce.total(partials).tolist() == _reduce.totals(partials) == in_order.tolist()
        assert _reduce.totals_and_least(partials) == (*in_order[:3].tolist(), partials[:, 3].min())


@pytest.mark.parametrize("n_rows", [1, 70])
def test_contiguous_classes_give_the_same_bits_wherever_their_axis_is(n_rows):
    """As the last axis, before an axis of length 1, and in column-major order."""
    generator = np.random.default_rng(0)
    x, reference = generator.normal(size=(2, n_rows, 300)).astype(np.float32)
    labels = generator.integers(0, 300, n_rows)

    def results(x, reference, labels, axis):
        yield fastloss.cross_entropy(x, labels, axis=axis, reduction="none").ravel()
        yield fastloss.cross_entropy(x, labels, axis=axis, label_smoothing=0.1)
        yield fastloss.logsumexp(x, axis=axis).ravel()
        yield fastloss.score(x, labels, axis=axis).nll.ravel()
        yield fastloss.compare(x, reference, labels, axis=axis).kl.ravel()
        softmax = fastloss.softmax(x, axis=axis)
        yield softmax if softmax.ndim == 3 or softmax.shape[0] == n_rows else None

    expected = list(results(x, reference, labels, -1))
    with_axis = list(results(x[:, :, None], reference[:, :, None], labels[:, None], 1))
    in_columns = list(results(x.T, reference.T, labels, 0))
    for a, b, c in zip(expected, with_axis, in_columns, strict=True):
        assert same_bits(a, b.reshape(a.shape))
        assert c is None or same_bits(a, c)
