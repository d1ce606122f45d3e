"""Bad input: the right exception, raised before anything is computed, with the argument and what came named.

The wording is free; the tests look for the name of the argument and the offending numbers as whole words.
"""

import re

import numpy as np
import pytest
from cases import CASES, PLAIN_CASES, REGRESSION_CASES, generator

import fastloss

try:
    import ml_dtypes
except ImportError:  # the package does without, and some tests as well
    ml_dtypes = None

pytestmark = pytest.mark.any_backend

# A loss of numbers that must not be negative, or must be above 0; which operand; a number that is outside, and what is said of it.
OUTSIDE = [
    ("generalized_kl_div", {}, 0, -1.5, "of at least 0"),
    ("generalized_kl_div", {}, 1, -0.5, "of at least 0"),
    ("poisson_deviance_loss", {}, 0, 0.0, "above 0"),
    ("poisson_deviance_loss", {}, 1, -2.0, "of at least 0"),
    ("gamma_deviance_loss", {}, 0, -1.0, "above 0"),
    ("gamma_deviance_loss", {}, 1, -0.0, "above 0"),
    ("tweedie_deviance_loss", {"power": 1.5}, 0, 0.0, "above 0"),
    ("tweedie_deviance_loss", {"power": 1.5}, 1, -1.0, "of at least 0"),
    ("tweedie_deviance_loss", {"power": 3.0}, 1, 0.0, "above 0"),
    ("tweedie_deviance_loss", {"power": -1.0}, 0, 0.0, "above 0"),
    ("sigmoid_focal_loss", {}, 1, 1.25, "in [0, 1]"),
    ("sigmoid_focal_loss", {}, 1, -0.25, "in [0, 1]"),
]

LABEL_LOSSES = ("cross_entropy", "nll_loss", "categorical_cross_entropy")
BAD_DTYPES = {
    "complex": np.zeros((3, 4), complex),
    "object": np.zeros((3, 4), object),
    "string": np.full((3, 4), "1"),
    "bytes": np.full((3, 4), b"1"),
    "dates": np.zeros((3, 4), "M8[s]"),
    "records": np.zeros((3, 4), "f4,f4"),
}
if ml_dtypes is not None:
    # the first one's kind is "f", as if NumPy knew it
    BAD_DTYPES |= {n: np.ones((3, 4), getattr(ml_dtypes, n)) for n in ("float8_e5m2", "float8_e4m3fn", "int4")}


def raises(error, *words):
    """pytest.raises for a message that contains every one of `words`, in any order."""
    anywhere = "".join(rf"(?=.*(?<!\w){re.escape(str(word))}(?!\w))" for word in words)
    return pytest.raises(error, match=f"(?s){anywhere}")


def probabilities(*shape):
    return np.full(shape, 0.25, np.float32)


# ---------------------------------------------------------------------------------- labels out of range


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("bad", [11, 23, 10**6, 2**31, 2**32 + 3, 2**62, -1, -2, -99, -101, -(2**63)])
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_labels_out_of_range(name, bad, axis, reduction):
    function = getattr(fastloss, name)
    target = np.arange(40) % 11
    target[17] = bad
    with raises(IndexError, 17, bad):
        function(probabilities(*((40, 11) if axis else (11, 40))), target, axis=axis, reduction=reduction)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_gradient_with_labels_out_of_range(name):
    with raises(IndexError, 5, 77):
        target = np.array([0, 1, -100, 3, 0, 77, 78])
        fastloss.value_and_grad(getattr(fastloss, name))(probabilities(7, 11), target)


@pytest.mark.parametrize(
    "dtype, bad, options",
    [
        ("uint8", 156, {}),  # the bits of int8 -100
        ("uint8", 255, {}),
        ("uint8", 255, {"ignore_index": -1}),
        ("int8", -1, {}),
        ("int8", -128, {}),
        ("int8", 127, {}),
        ("uint16", 2**16 - 100, {}),
        ("uint32", 2**32 - 100, {}),
        ("uint64", 2**64 - 100, {}),
        ("uint64", 2**64 - 1, {"ignore_index": -1}),
        ("uint64", 2**63, {"ignore_index": -(2**63)}),
        ("uint64", 2**32 + 1, {}),
        ("int64", 2**32 + 1, {}),
        (">i4", -7, {}),
    ],
)
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_labels_keep_their_own_width(name, dtype, bad, options):
    target = np.array([0, 1, 2, bad, 1], dtype)
    with raises(IndexError, 3, bad):
        getattr(fastloss, name)(probabilities(5, 11), target, **options)


@pytest.mark.parametrize("dtype, ignored", [("uint8", 255), ("uint8", 156), ("int8", -100), ("uint64", 2**40)])
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_labels_that_are_ignored_on_purpose(name, dtype, ignored):
    target = np.array([0, ignored, 2], dtype)
    got = getattr(fastloss, name)(probabilities(3, 11), target, ignore_index=ignored, reduction="none")
    assert (got == 0).tolist() == [False, True, False]


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_the_first_of_many_is_named(name):
    """In the order of the array, whatever thread meets which first."""
    target = np.zeros(300_000, np.int32)
    target[[123_457, 123_458, 250_000, 299_999]] = [31, 32, 33, 34]
    with raises(IndexError, 123457, 31):
        getattr(fastloss, name)(probabilities(300_000, 3), target)
    with raises(IndexError, 123457, 31):
        getattr(fastloss, name)(probabilities(3, 300_000), target, axis=0)


def test_positions_of_several_dimensions():
    target = np.zeros((4, 6, 8), np.int64)
    target[2, 5, 7] = 29
    for axis in range(4):
        shape = [4, 6, 8]
        shape.insert(axis, 3)
        with raises(IndexError, 2, 5, 7, 29):
            fastloss.cross_entropy(probabilities(*shape), target, axis=axis)


def test_a_single_label():
    with raises(IndexError, 9):
        fastloss.cross_entropy(np.zeros(4), 9)
    assert fastloss.cross_entropy(np.zeros(4), 3) == pytest.approx(np.log(4))


# ------------------------------------------------------------------------------------ shapes and options


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unknown_reduction(case):
    arguments = case.arguments(generator(case), (3, 4))
    unknown = ["average", "Mean", "", None, 3] + ([] if case.loss == "kl_div" else ["batchmean"])
    for reduction in unknown + (["none"] if case.loss == "rmse_loss" else []):
        with raises((ValueError, TypeError), "reduction", *filter(None, [reduction])):
            getattr(fastloss, case.loss)(*arguments, reduction=reduction, **case.options)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_no_gradient_of_a_vector(case):
    arguments = case.arguments(generator(case), (3, 4))
    with raises(ValueError, "reduction", "none"):
        fastloss.value_and_grad(getattr(fastloss, case.loss))(*arguments, reduction="none")


def test_no_gradient_of_other_functions():
    for function in (fastloss.softmax, len, lambda x, y: 0, None):
        with pytest.raises((TypeError, ValueError)):
            fastloss.value_and_grad(function)(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_options_are_keyword_only(case):
    with pytest.raises(TypeError):
        getattr(fastloss, case.loss)(*case.arguments(generator(case), (3, 4)), None)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_target_shapes(name):
    function = getattr(fastloss, name)
    for shape in [(4,), (3, 4, 1), (2,), (), (1, 3)]:
        with raises(ValueError, "target"):
            function(probabilities(3, 4), np.zeros(shape, np.int64))
    for shape in [(3,), (4, 3), (3, 4, 1), ()]:
        with raises((ValueError, TypeError), "target"):
            function(probabilities(3, 4), np.zeros(shape))
    with raises((ValueError, TypeError), "target"):  # whole numbers are no probabilities
        function(probabilities(3, 4), np.zeros((3, 4), np.int64))


@pytest.mark.parametrize("name", ["cross_entropy", "categorical_cross_entropy"])
def test_both_forms_of_targets_are_explained(name):
    with pytest.raises((ValueError, TypeError), match=r"(?is)(?=.*(index|indices))(?=.*probabilit)"):
        getattr(fastloss, name)(probabilities(3, 4), np.zeros(3))


def test_nll_loss_takes_no_probabilities():
    with raises((ValueError, TypeError), "target"):
        fastloss.nll_loss(-probabilities(3, 4), probabilities(3, 4))


@pytest.mark.parametrize("name", ["cross_entropy", "categorical_cross_entropy"])
def test_no_ignored_index_with_probabilities(name):
    with raises(ValueError, "ignore_index"):
        getattr(fastloss, name)(probabilities(3, 4), probabilities(3, 4), ignore_index=2)
    getattr(fastloss, name)(probabilities(3, 4), probabilities(3, 4), ignore_index=-5)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_class_weight_and_axis(name):
    function, target = getattr(fastloss, name), np.zeros(3, np.int64)
    for weight in (np.ones(3), np.ones(5), np.ones((4, 1)), np.ones((3, 4)), 1.0):
        with raises(ValueError, "weight"):
            function(probabilities(3, 4), target, weight=weight)
    for axis in (2, -3):
        with raises(ValueError, "axis"):
            function(probabilities(3, 4), target, axis=axis)
    with pytest.raises(TypeError):
        function(probabilities(3, 4), target, axis="0")
    with pytest.raises(ValueError):
        function(np.float32(0.5), np.int64(0))  # no class axis


@pytest.mark.parametrize("case", REGRESSION_CASES, ids=str)
def test_broadcasting_and_axis(case):
    function, arguments = getattr(fastloss, case.loss), case.arguments(generator(case), (3, 4))
    with raises(ValueError, "target"):
        function(arguments[0], arguments[1][:, :3], *arguments[2:], **case.options)
    with raises(ValueError, "weight"):
        function(*arguments, weight=np.ones(3), **case.options)
    for axis in (2, -3, (0, 2)):
        with raises(ValueError, "axis"):
            function(*arguments, axis=axis, **case.options)
    with pytest.raises(ValueError):
        function(*arguments, axis=(0, 0), **case.options)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_binary_losses_do_not_broadcast(name):
    function = getattr(fastloss, name)
    for shape in [(4,), (1, 4), (3, 1), (), (4, 3), (3, 4, 1)]:
        with raises(ValueError, "target"):
            function(probabilities(3, 4), np.zeros(shape, np.float32))
    with raises(ValueError, "weight"):
        function(probabilities(3, 4), probabilities(3, 4), weight=np.ones(3))


def test_pos_weight_shape():
    logits = target = probabilities(3, 4)
    with raises(ValueError, "pos_weight"):
        fastloss.binary_cross_entropy_with_logits(logits, target, pos_weight=np.ones(3))


@pytest.mark.parametrize(
    "name, option, values",
    [
        ("cross_entropy", "label_smoothing", (-0.1, 1.1, np.nan, np.inf)),
        ("cross_entropy", "temperature", (0, -1.0, np.nan, np.inf)),
        ("cross_entropy", "softcap", (0, -1.0, np.nan, np.inf)),
        ("quantile_loss", "q", (-0.1, 1.1, np.nan)),
        ("huber_loss", "delta", (0, -1.0, np.nan)),
        ("smooth_l1_loss", "beta", (-1.0, np.nan)),
        ("poisson_nll_loss", "eps", (-1e-3, np.nan)),
        ("gaussian_nll_loss", "eps", (-1e-3, np.nan)),
    ],
)
def test_options_outside_their_range(name, option, values):
    case = next(case for case in PLAIN_CASES if case.loss == name)
    arguments = case.arguments(generator(case), (3, 4))
    for value in values:
        with raises(ValueError, option):
            getattr(fastloss, name)(*arguments, **{option: value})
    with raises((TypeError, ValueError), option):
        getattr(fastloss, name)(*arguments, **{option: "0.5"})


# -------------------------------------------------------------------------------------- values and dtypes


@pytest.mark.parametrize("bad", [-0.001, 1.001, 7.5, -np.inf, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_probabilities_outside_0_1(bad, dtype):
    probs = np.full((50, 3), 0.25, dtype)
    probs[31, 2] = bad
    fine = np.full((50, 3), 0.25, dtype)
    for arguments, name in [((probs, fine), "probs"), ((fine, probs), "target")]:
        with raises(ValueError, name):
            fastloss.binary_cross_entropy(*arguments)
    with raises(ValueError, "probs"):
        fastloss.categorical_cross_entropy(probs, np.full(50, 2))
    with raises(ValueError, "probs"):
        fastloss.value_and_grad(fastloss.categorical_cross_entropy)(probs, fine)
    with raises(ValueError, "probs"):
        fastloss.categorical_cross_entropy(probs, fine, reduction="none")


def test_probabilities_outside_0_1_beside_the_target():
    """The sum over y log p does not read them, but they are no probabilities all the same."""
    with raises(ValueError, "probs"):
        fastloss.categorical_cross_entropy(np.array([[0.25, 7.5], [0.5, 0.5]]), np.array([0, 1]))


def test_negative_variance():
    var = np.ones(300, np.float32)
    var[211] = -1e-3
    with raises(ValueError, "var"):
        fastloss.gaussian_nll_loss(np.zeros(300, np.float32), np.zeros(300, np.float32), var)


@pytest.mark.parametrize("kind", BAD_DTYPES)
@pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
def test_dtypes_that_are_no_numbers(case, kind):
    function, arguments = getattr(fastloss, case.loss), case.arguments(generator(case), (3, 4))
    for i, argument in enumerate(arguments):
        bad = np.resize(BAD_DTYPES[kind], argument.shape)
        with pytest.raises(TypeError):
            function(*arguments[:i], bad, *arguments[i + 1 :])
    with raises(TypeError, "weight"):
        function(*arguments, weight=BAD_DTYPES[kind][0])


@pytest.mark.parametrize("kind", BAD_DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_of_what_is_no_number(name, kind):
    with raises(TypeError, "x"):
        getattr(fastloss, name)(BAD_DTYPES[kind])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_axis(name):
    for x, axis in [(np.zeros((3, 4)), 2), (np.zeros((3, 4)), -3), (np.float64(1), 0)]:
        with pytest.raises(ValueError):
            getattr(fastloss, name)(x, axis=axis)


@pytest.mark.parametrize("case", [case for case in PLAIN_CASES if "none" in case.reductions], ids=str)
def test_out_that_does_not_fit(case):
    function, arguments = getattr(fastloss, case.loss), case.arguments(generator(case), (3, 4))
    shape = function(*arguments, reduction="none").shape
    frozen = np.zeros(shape)
    frozen.flags.writeable = False
    fine = np.zeros(shape)
    small = [] if ml_dtypes is None else [fine.astype(ml_dtypes.float8_e5m2)]
    for out in (np.zeros((5, *shape)), np.zeros(()), fine.astype(np.int64), frozen, fine.tolist(), *small):
        with raises((ValueError, TypeError), "out"):
            function(*arguments, reduction="none", out=out)
    with raises((ValueError, TypeError), "out"):
        function(*arguments, out=np.zeros(shape))


def test_settings():
    for threads in (0, -1, 1.5, "two"):
        with pytest.raises((ValueError, TypeError)):
            with fastloss.use_threads(threads):
                pass
    with pytest.raises((ValueError, ImportError, RuntimeError), match="nonesuch"):
        with fastloss.use_backend("nonesuch"):
            fastloss.mse_loss([1.0], [2.0])


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name, options, operand, bad, said", OUTSIDE)
def test_numbers_outside_a_domain(name, options, operand, bad, said, dtype, reduction):
    """The first is named; NaN, and the smallest number above 0, are none."""
    function = getattr(fastloss, name)
    arguments = [np.full((3, 5), 0.5, dtype), np.full((3, 5), 0.5, dtype)]
    arguments[operand][0, 1] = np.nan
    arguments[0][1] = np.finfo(dtype).smallest_subnormal
    function(*arguments, reduction=reduction, **options)
    arguments[operand][[1, 2], [3, 4]] = bad
    operand_name = ("pred", "target")[operand]
    with raises(ValueError, operand_name, said, 1, 3, bad):
        function(*arguments, reduction=reduction, **options)
    with raises(ValueError, operand_name, said, 1, 3, bad):
        fastloss.value_and_grad(function)(*arguments, **options)


@pytest.mark.parametrize("power", [0.5, 1e-9, 1 - 1e-9, np.inf, np.nan])
def test_powers_that_no_distribution_has(power):
    with raises(ValueError, "power", power):
        fastloss.tweedie_deviance_loss([1.0], [1.0], power=power)
