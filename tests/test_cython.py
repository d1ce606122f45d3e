"""The compiled backend: against the oracle and the Numba backend, on each instruction set, without Numba, and its translator.

What every backend must do is tested elsewhere; here is what is this one's own.
"""

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from amounts import mostly_full
from cases import CASES, POINT_STAND_INS, STAND_INS, generator
from compare import assert_ulp, same_bits, ulp_error
from layouts import contiguous, fortran, reversed_axes, stretched, strided
from subprocesses import check_python, run_python

import fastloss
from fastloss import losses
from fastloss._info import configuration
from fastloss.backends import load

fastloss_c = pytest.importorskip("fastloss_c")
if load("cython").available():
    pytest.skip(load("cython").available(), allow_module_level=True)

ROOT = Path(__file__).parents[1]
TESTS = str(ROOT / "tests")
X86 = platform.machine() in ("x86_64", "AMD64")
ARM64 = platform.machine() in ("aarch64", "arm64", "ARM64")
BUILT = [name for name in fastloss_c.INSTRUCTION_SETS if importlib.util.find_spec(f"fastloss_c._{name}")]
# Those that this CPU can run: all up to the one that was chosen.
RUNNABLE = [name for name in BUILT if BUILT.index(name) <= BUILT.index(fastloss_c.instruction_set)]
ANOTHER = RUNNABLE[-2:][0]  # the next lower one than that in use, if there is one

has_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="compares with Numba")
LAYOUTS = (contiguous, fortran, reversed_axes, strided, stretched)
# Rows and columns, the borders between their blocks, and no multiple of any of them.
SHAPES = ((3, 2), (65, 3), (37, 11), (70, 33), (5, 128), (3, 1091))


@pytest.fixture(autouse=True)
def cython_backend():
    with fastloss.use_backend("cython"):
        yield


def call(case, arguments, **options):
    return getattr(fastloss, case.loss)(*arguments, **case.options, **options)


def values(case, arguments):
    return {reduction: np.asarray(call(case, arguments, reduction=reduction)) for reduction in case.reductions}


# --- against the oracle and Numba ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case, dtype):
    for shape in SHAPES:
        arguments = case.cast(case.arguments(generator(case), shape), dtype)
        for reduction, value in values(case, arguments).items():
            exact = reference.loss(case.loss, *arguments, reduction=reduction, **case.options)
            # the table's tolerances are those of elements; what a reduction divides by is rounded too
            ulp = case.tolerance(dtype) + (reduction != "none")
            assert_ulp(value, exact, ulp, case.at, f"{case} {shape} {reduction}")


# How many times a formula multiplies what the negative log-likelihood that it is given is off by: 1 + gamma.
STEEPNESS = {"focal_loss": 3}


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts_do_not_matter(case, layout):
    """Elements are brought into one form before anything is computed, so not a bit of theirs depends on strides."""
    for shape in ((67, 9), (4, 301)):
        arguments = [layout(a) for a in case.cast(case.arguments(generator(case), shape), np.float32)]
        straight = [contiguous(a) for a in arguments]
        if "none" in case.reductions:
            got, expected = call(case, arguments, reduction="none"), call(case, straight, reduction="none")
            if not case.rowwise:  # rows that are not contiguous are computed across rows
                assert same_bits(got, expected)
            assert_ulp(got, expected, 1.5 * STEEPNESS.get(case.loss, 1) if case.rowwise else 0, case.at)
        exact = reference.loss(case.loss, *arguments, reduction="mean", **case.options)
        assert_ulp(call(case, arguments, reduction="mean"), exact, case.tolerance(np.float32), case.at)


# Formulas of a row's likelihood multiply the one ulp by which likelihoods may be apart, and round once more.
APART = {"focal_loss": 5, "poly_loss_cross_entropy": 2}


@has_numba
@pytest.mark.expensive  # for each, Numba compiles kernels
@pytest.mark.parametrize("dtype", mostly_full(["float32", "float16", "bfloat16"], "float32".__eq__))
@pytest.mark.parametrize("case", mostly_full(CASES, CASES[::12].__contains__), ids=str)
def test_one_ulp_from_numba(case, dtype):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    if fastloss_c.instruction_set == "baseline" and X86:
        pytest.skip("without fused multiply-add roundings differ; see the tests on each instruction set")
    for shape in SHAPES:
        arguments = case.cast(case.arguments(generator(case), shape), dtype)
        if not case.rowwise and case.domains[0] == "probability" and np.any(np.asarray(arguments[0], float) > 1):
            continue
        got = values(case, arguments)
        with fastloss.use_backend("numba"):
            expected = values(case, arguments)
        for reduction in got:
            error = ulp_error(got[reduction], expected[reduction], case.at)
            assert error.max() <= APART.get(case.loss, 1), f"{shape} {reduction}: {error.max()} ulp"


@has_numba
@pytest.mark.parametrize("case", mostly_full(CASES, (*STAND_INS[:1], *POINT_STAND_INS).__contains__), ids=str)
def test_gradients_agree_with_numba(case):
    """In ulp of the largest entry: where a slope is a difference, the last bits of what cancels show."""
    gradient = fastloss.value_and_grad(getattr(fastloss, case.loss))
    for shape in SHAPES:
        for layout in (contiguous, fortran):
            arguments = [layout(a) for a in case.cast(case.arguments(generator(case), shape), np.float32)]
            value, got = gradient(*arguments, **case.options)
            with fastloss.use_backend("numba"):
                expected_value, expected = gradient(*arguments, **case.options)
            assert ulp_error(value, expected_value, case.at) <= 1
            assert ulp_error(got, expected, np.abs(expected).max()).max() <= 2


@pytest.mark.parametrize("name", ["logsumexp", "log_softmax", "softmax"])
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_functions(name, axis):
    for shape in SHAPES:
        for dtype, ulp in ((np.float32, 4), (np.float64, 8)):
            x = generator(name).normal(0, 5, shape).astype(dtype)
            assert_ulp(getattr(fastloss, name)(x, axis=axis), getattr(reference, name)(x, axis=axis), ulp, 1e-3)


# --- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads_do_not_matter(case):
    arguments = case.cast(case.arguments(generator(case), (3001, 257)), np.float32)
    views = [a[..., ::2] if a.ndim == 2 and not case.rowwise else a[::2] for a in arguments]
    results = []
    for threads in (1, 2, 3, 8):
        with fastloss.use_threads(threads):
            results.append([*values(case, arguments).values(), *values(case, views).values()])
    for other in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(results[0], other, strict=True))


def test_losses_too_large_for_sums_in_float32():
    x = np.full(5000, 1.5e19, np.float32)  # two of their squares overflow
    assert fastloss.mse_loss(x, np.zeros_like(x)) == x[0] * x[0]
    assert fastloss.mse_loss(x[:4999:2], np.zeros(2500, np.float32)) == x[0] * x[0]


@pytest.mark.parametrize("far", [40, 100, 1000, 30000])
@pytest.mark.parametrize("n_classes", [128, 1000, 3000])
def test_rows_whose_first_classes_say_nothing(n_classes, far):
    """A row's sum begins relative to its first elements; here the others are much larger, or much smaller."""
    x = generator("far", n_classes).normal(0, 1, (6, n_classes)).astype(np.float32)
    x[:3, 64:] += far
    x[3:, :64] += far
    x[2, :64] = -np.inf
    target = np.array([0, n_classes - 1, n_classes // 2] * 2)
    exact = reference.loss("cross_entropy", x, target, reduction="none")
    assert_ulp(fastloss.cross_entropy(x, target, reduction="none"), exact, 2)
    wide = x.astype(np.float64)
    assert_ulp(fastloss.cross_entropy(wide, target, reduction="none"), exact, 8 + n_classes)


@pytest.mark.parametrize("temperature", [2.0**-30, 1e-3, 0.7, 1.2345, 900.0, 2.0**30])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 70, 200, 1100])
def test_temperatures(n_classes, temperature):
    """Kernels divide by a temperature what is left of logits, not these: nothing is lost however large all of them are."""
    rng = generator("temperatures", n_classes)
    n_rows = max(2000 // n_classes, 24)
    x = rng.normal(size=(n_rows, n_classes)) * rng.choice([0.1, 3, 30], (n_rows, 1)) + rng.choice(
        [0, 50, 1e5], (n_rows, 1)
    )
    x = (x * temperature).astype(np.float32)
    x[3, 0] = -np.inf
    target = np.where(rng.random(n_rows) < 0.5, x.argmax(axis=1), rng.integers(0, n_classes, n_rows))
    target[3] = n_classes - 1
    across = np.ascontiguousarray(x.T)
    options = {"temperature": temperature}
    exact = reference.loss("cross_entropy", x, target, reduction="none", **options)
    losses = fastloss.cross_entropy(x, target, reduction="none", **options)
    assert_ulp(losses, exact, 2, what="rows")
    assert_ulp(fastloss.cross_entropy(across, target, axis=0, reduction="none", **options), exact, 2, what="columns")
    assert same_bits(fastloss.cross_entropy(x[5:11], target[5:11], reduction="none", **options), losses[5:11])
    exact = reference.logsumexp(x, **options)
    for scores in (fastloss.score(x, target, **options), fastloss.score(across, target, axis=0, **options)):
        assert np.array_equal(scores.argmax, np.argmax(x, axis=1))
        assert_ulp(scores.lse, exact, 4, what="score")  # the maximum and what comes on top of it may cancel
    for name in ("log_softmax", "softmax"):
        exact = getattr(reference, name)(x, **options)
        for got in (getattr(fastloss, name)(x, **options), getattr(fastloss, name)(across, axis=0, **options).T):
            assert_ulp(got, exact, 4, at=1e-30, what=name)
    for more in ({}, {"label_smoothing": 0.1}):
        _, exact = reference.value_and_grad("cross_entropy", x, target, **options, **more)
        for a, axis in ((x, 1), (across, 0)):
            _, got = fastloss.value_and_grad(fastloss.cross_entropy)(a, target, axis=axis, **options, **more)
            # the smoothed part cancels, and in the oracle 1 less a target's probability does
            at = (0.1 if more else 1e-11) / temperature / n_rows
            assert_ulp(got if axis else got.T, exact, 4, at=at, what=f"gradient, axis={axis}, {more}")


@pytest.mark.parametrize("softcap, temperature", [(30.0, 1.0), (30.0, 0.3), (2.0, 1e-3), (1e5, 100.0), (1e-3, 1.0)])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 70, 192, 193, 1100])
def test_soft_caps(n_classes, softcap, temperature):
    """Kernels cap logits below and beyond the cap in two ways, and take a maximum only where caps are far apart."""
    rng = generator("soft caps", n_classes)
    n_rows = max(2000 // n_classes, 24)
    x = softcap * rng.normal(size=(n_rows, n_classes)) * rng.choice([0.01, 0.5, 1.0, 4.0], (n_rows, 1))
    x[rng.random(x.shape) < 0.1] = softcap
    x = x.astype(np.float32)
    x[3, 0] = -np.inf
    x[4] = -np.float32(softcap)
    target = np.where(rng.random(n_rows) < 0.5, x.argmax(axis=1), rng.integers(0, n_classes, n_rows))
    target[3] = n_classes - 1
    across = np.ascontiguousarray(x.T)
    options = {"softcap": softcap, "temperature": temperature}
    exact = reference.loss("cross_entropy", x, target, reduction="none", **options)
    losses = fastloss.cross_entropy(x, target, reduction="none", **options)
    assert_ulp(losses, exact, 2, what="rows")
    assert_ulp(fastloss.cross_entropy(across, target, axis=0, reduction="none", **options), exact, 2, what="columns")
    assert same_bits(fastloss.cross_entropy(x[5:11], target[5:11], reduction="none", **options), losses[5:11])
    exact = reference.logsumexp(x, **options)
    assert_ulp(fastloss.logsumexp(x, **options), exact, 2, what="logsumexp")
    for scores in (fastloss.score(x, target, **options), fastloss.score(across, target, axis=0, **options)):
        assert np.array_equal(scores.argmax, np.argmax(x, axis=1))
        assert_ulp(scores.lse, exact, 2, what="score")
        assert same_bits(scores.nll, losses) or n_classes >= 192
    for name in ("log_softmax", "softmax"):
        exact = getattr(reference, name)(x, **options)
        for got in (getattr(fastloss, name)(x, **options), getattr(fastloss, name)(across, axis=0, **options).T):
            assert_ulp(got, exact, 4, at=1e-30, what=name)
    for more in ({}, {"label_smoothing": 0.1}):
        _, exact = reference.value_and_grad("cross_entropy", x, target, **options, **more)
        for a, axis in ((x.copy(), 1), (across.copy(), 0)):
            _, got = fastloss.value_and_grad(fastloss.cross_entropy)(a, target, axis=axis, out=a, **options, **more)
            # the smoothed part cancels, and in the oracle 1 less a target's probability does
            at = (0.1 if more else 1e-11) / temperature / n_rows
            assert_ulp(got if axis else got.T, exact, 4, at=at, what=f"gradient, axis={axis}, {more}")


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n_classes", [1, 2, 10, 70, 200, 1100])
def test_smoothed_rows(n_classes, smoothing):
    """Also of targets far below the maximum, whose losses nearly cancel in those of the other classes."""
    rng = generator("smoothed rows", n_classes)
    n_rows = max(2000 // n_classes, 24)
    x = rng.normal(size=(n_rows, n_classes)) * rng.choice([0.1, 3, 30], (n_rows, 1)) + rng.choice(
        [0, 50, 1e5], (n_rows, 1)
    )
    x = x.astype(np.float32)
    target = np.where(rng.random(n_rows) < 0.5, x.argmax(axis=1), x.argmin(axis=1))
    x[2], x[3, 0], x[4, target[4]], x[5, 0] = 1e30, -np.inf, -np.inf, np.inf
    for probabilities in (False, True):
        y = np.eye(n_classes, dtype=np.float32)[target] if probabilities else target
        options = {"reduction": "none", "label_smoothing": smoothing}
        with np.errstate(invalid="ignore"):
            exact = reference.loss("cross_entropy", x, y, **options)
        assert_ulp(fastloss.cross_entropy(x, y, **options), exact, 2, what="rows")
        across = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
        assert_ulp(fastloss.cross_entropy(*across, axis=0, **options), exact, 2, what="columns")


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_log_softmax_of_two_classes(temperature):
    """A difference's softplus where float32 reaches that far, another way elsewhere: for each row by itself, whatever is beside it."""
    rng = generator("log-softmax of pairs")
    x = (rng.normal(size=(300, 2)) * rng.choice([1e-3, 1, 30, 1e4], (300, 1)) + rng.choice([0, 50], (300, 1))).astype(
        np.float32
    )
    x[70], x[140], x[141, 1] = (1e30, -1e30), -np.inf, np.nan
    x[211], x[212] = (0, -np.inf), (0, 86)
    x[281] = np.inf
    with np.errstate(invalid="ignore"):
        exact = reference.log_softmax(x, temperature=temperature)
    got = fastloss.log_softmax(x, temperature=temperature)
    assert_ulp(got, exact, 3, what="rows")
    across = fastloss.log_softmax(np.ascontiguousarray(x.T), axis=0, temperature=temperature)
    assert same_bits(np.ascontiguousarray(across.T), got)
    for i in range(300):
        assert same_bits(fastloss.log_softmax(x[i : i + 1], temperature=temperature), got[i : i + 1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps and protects memory pages")
@pytest.mark.parametrize("name", RUNNABLE)
def test_labels_at_the_end_of_a_page(name):
    code = """
        from fences import BAD_LABELS, attempt_bad_labels
        import fastloss
        attempt_bad_labels(37, BAD_LABELS, ("none", "mean", "sum"))
        attempt_bad_labels(200_000, [11, -1], ("mean",))
        print("fine")
    """
    check_python(code, PYTHONPATH=os.pathsep.join([TESTS, str(ROOT)]), FASTLOSS_BACKEND="cython", FASTLOSS_CPU=name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps and protects memory pages")
def test_nothing_beyond_the_arrays_is_read():
    code = """
        import fastloss, numpy as np
        from cases import CASES, generator
        from fences import fenced
        for case in CASES:
            for shape in ((1, 1), (3, 7), (65, 10), (2, 130), (67, 5), (3, 1025)):
                for dtype in (np.float16, np.float32, np.float64):
                    arguments = case.cast(case.arguments(generator(case), shape), dtype)
                    for at_end in (True, False):
                        fences = [fenced(a, at_end) for a in arguments]
                        for options in ({}, {"axis": 0}) if case.rowwise and shape[0] > 1 else ({},):
                            if options:
                                fences = [fenced(a.T.copy(), at_end) for a in fences]
                            getattr(fastloss, case.loss)(*fences, **case.options, **options)
                            fastloss.value_and_grad(getattr(fastloss, case.loss))(*fences, **case.options, **options)
        print("fine")
    """
    check_python(code, PYTHONPATH=os.pathsep.join([TESTS, str(ROOT)]), FASTLOSS_BACKEND="cython")


# --- builds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selection", ["not slow and not full", pytest.param("full", marks=pytest.mark.full)], ids=["pairs", "full"]
)
# the one in force is what the other tests have run on
@pytest.mark.parametrize("name", mostly_full(RUNNABLE, ANOTHER.__eq__))
def test_each_instruction_set(name, selection):
    """Every loss within the contract's accuracy, by the tests of accuracy and special values and those above.

    What is not arithmetic is the same on each: how builds are found, their machine code, and the translator.
    """
    elsewhere = "instruction_set numba numpy page threads extension build registers calls translat given".split()
    chosen = ["test_accuracy.py", "test_accuracy_pointwise.py", "test_special_values.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        selection,
        *(f"{TESTS}/{file}" for file in chosen),
    ]
    command += [
        f"{TESTS}/test_cython.py",
        "-k",
        " and ".join(f"not {word}" for word in elsewhere),
    ]
    environment = {**os.environ, "FASTLOSS_CPU": name, "FASTLOSS_BACKEND": "cython", "PYTHONPATH": str(ROOT)}
    for variable in [key for key in environment if key.startswith("PYTEST_")]:
        del environment[variable]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=1800)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_environment_caps_the_instruction_set(name):
    process = run_python(
        "import fastloss_c; print(fastloss_c.instruction_set)", FASTLOSS_CPU=name, PYTHONPATH=str(ROOT)
    )
    assert process.stdout.split() == [name], process.stderr


def test_vector_instructions_are_named():
    """Of ARM64 by the name that people know; elsewhere as FASTLOSS_CPU calls them."""
    expected = "neon" if ARM64 else fastloss_c.instruction_set
    assert configuration()["instruction_set"] == fastloss_c.vectors == expected


@pytest.mark.parametrize("source", sorted(ROOT.glob("fastloss_c/*.pyx")), ids=lambda path: path.name)
def test_no_extension_module_brings_the_gil_back(source):
    """Free-threaded Pythons enable it when a module is imported that does not declare to do without."""
    first = source.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# cython:") and "freethreading_compatible=True" in first


def test_an_unknown_instruction_set_is_refused():
    process = run_python("import fastloss_c", FASTLOSS_CPU="mmx", PYTHONPATH=str(ROOT))
    assert "FASTLOSS_CPU" in process.stderr and "baseline" in process.stderr


def test_without_numba(tmp_path):
    """Nothing imports it, `auto` answers, and the first result is there in a fraction of the time that importing NumPy takes."""
    code = """
        import sys, time
        sys.modules["numba"] = None
        import importlib.util as u
        find = u.find_spec
        u.find_spec = lambda name, *rest: None if name == "numba" else find(name, *rest)
        start = time.perf_counter()
        import numpy as np
        imported = time.perf_counter() - start
        from fastloss import cross_entropy
        x, y = np.array([[20, 0, 0]], np.float32), np.array([0])
        start = time.perf_counter()
        loss = cross_entropy(x, y)
        took = time.perf_counter() - start
        assert abs(loss - 4.1223073e-9) < 1e-15, loss
        assert took < imported / 3, (took, imported)  # a fifteenth on a quiet machine; compiling anything takes more than an import
        import fastloss
        assert "cython" in fastloss.backends() and fastloss.backends()["cython"] == "available"
        assert not [name for name in sys.modules if name.startswith("numba.") or name == "llvmlite"]
        print("fine")
    """
    # from bytecode, which installing a package writes, and the first of these processes to a place of its own
    environment = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    run_python("import fastloss; fastloss.cross_entropy([[0.0, 1.0]], [0])", PYTHONPATH=str(ROOT), **environment)
    check_python(code, PYTHONPATH=str(ROOT), FASTLOSS_BACKEND="auto", **environment)


def test_a_missing_extension_says_what_to_do():
    code = """
        import sys
        sys.modules["fastloss_c"] = None
        import fastloss
        try:
            with fastloss.use_backend("cython"):
                fastloss.mse_loss([1.0], [2.0])
        except RuntimeError as error:
            assert "compiler" in str(error), error
            print("fine")
    """
    check_python(code, PYTHONPATH=str(ROOT))
    assert fastloss.backends()["cython"] == "available"


def test_extension_modules_that_were_not_built():
    code = """
        import sys
        for name in ("_cpu", "_baseline", "_avx2", "_avx512"):
            sys.modules[f"fastloss_c.{name}"] = None
        import fastloss, fastloss_c
        assert fastloss_c.instruction_set is None
        assert "reinstall with a C compiler" in fastloss.backends()["cython"], fastloss.backends()
        print("fine")
    """
    check_python(code, PYTHONPATH=str(ROOT))


def test_a_build_of_other_formulas_is_not_used():
    code = """
        import fastloss, fastloss_c
        fastloss_c.scalars = 1
        assert "build it again" in fastloss.backends()["cython"], fastloss.backends()
        print("fine")
    """
    check_python(code, PYTHONPATH=str(ROOT))


# --- machine code ----------------------------------------------------------------------------------------------------

# Under QEMU the machine's own objdump reads another code.
OBJDUMP = ARM64 and shutil.which("aarch64-linux-gnu-objdump") or shutil.which("objdump")
CALL = r"\bbl" if ARM64 else "call"
# Arithmetic on whole registers, or what stores them.
PACKED = {
    "baseline": r"\bf\w+\s+v\d+\.(4s|2d),|\bst[rp]\s+q\d+," if ARM64 else r"\w+p[sd]\s.*%xmm",
    "avx2": r"\w+p[sd]\s.*%ymm",
    "avx512": r"\w+p[sd]\s.*%zmm",
}


@functools.cache
def disassembled(name):
    """{function: its instructions} of one build."""
    module = importlib.util.find_spec(f"fastloss_c._{name}").origin
    text = subprocess.run(
        [OBJDUMP, "-d", "--no-show-raw-insn", module], capture_output=True, text=True, check=True
    ).stdout
    functions = {}
    for part in re.split(r"\n(?=[0-9a-f]+ <)", text):
        head = re.match(r"[0-9a-f]+ <([^>]+)>:", part)
        if head:
            name = re.sub(r"(\.(constprop|isra|part)\.\d+)+$", "", head[1])  # gcc's copies for some arguments
            functions[name] = functions.get(name, "") + part
    return functions


machine_code = pytest.mark.skipif(
    not (OBJDUMP and (X86 or ARM64 and sys.platform == "linux")),
    reason="reads machine code of x86-64 or ARM64 with GNU's objdump",
)


@machine_code
@pytest.mark.parametrize("name", BUILT)
def test_no_calls_to_elementary_functions(name):
    calls = re.findall(rf"{CALL}\s+\S+\s+<([^>@]+)", "\n".join(disassembled(name).values()))
    assert calls  # or else nothing was read
    assert not {c for c in calls if re.fullmatch(r"(exp|expm1|log|log1p|tanh|pow|fma)[fl]?", c)}


@machine_code
@pytest.mark.parametrize("name", BUILT)
def test_loops_use_whole_registers(name):
    functions = disassembled(name)
    loops = [f"{scalar}_loop_float" for loss in losses.COMPILED for scalar in (loss.value, loss.slope)]
    loops += [
        *(f"{loss.value}_sums_float" for loss in losses.COMPILED),
        "likelihoods_float",
        "find_tails",
    ]
    for kernels in ("float", "tempered"):
        for kernel in ("add_terms", "take_up_classes", "losses_of_strip", "losses_of_pairs", "slope_columns", "fill"):
            loops.append(f"{kernel}_{kernels}")
    for loop in loops:
        code = functions[loop]
        same = re.search(
            r"\b(?:jmp|b)\s+\S+\s+<(\w+_(?:loop|sums)_float)>", code
        )  # gcc keeps one of two loops that are alike
        if same and same[1] in loops:
            continue
        assert re.search(PACKED[name], code), loop


# --- the translator --------------------------------------------------------------------------------------------------


def translated(body, name="f(x, y)"):
    from fastloss_c import translate

    return translate.functions(f"from math import exp, log\n\n\ndef {name}:\n" + "\n".join(f"    {x}" for x in body))


def test_translation():
    text = translated(
        ["T = type(x)", "near = abs(x) < T(0.5) and y > T(0.0)", "return exp(-x) * y if near else T(-1.0)"]
    )
    assert text["f"][0] == 2
    lines = text["f"][1].splitlines()
    assert lines[0] == "INLINE REAL NAME(f_)(REAL x_, REAL y_)"
    assert "    near_ = ((ABS(x_) < ((REAL)0.5)) & (y_ > ((REAL)0.0)));" in lines
    assert "    return (near_ ? (NAME(exp)((-x_)) * y_) : ((REAL)-1.0));" in lines


def test_every_formula_is_translated():
    from fastloss_c import translate

    found = translate.functions((ROOT / "fastloss" / "scalars.py").read_text())
    for loss in losses.COMPILED:
        for name in (loss.value, loss.slope):
            assert found[name][0] == loss.operands + len(loss.parameters)


# --- what it doesn't take --------------------------------------------------------------------------------------------


def test_kernels_check_what_they_are_given():
    x = np.zeros(3, np.float32)
    one, absent = ("float32", 0, 0, 4), (None, None)

    def kernel(name, p, *layouts):
        return fastloss_c.ElementKernel(name, False, "flat_total", p, (1, 1, 3), layouts, 1024)

    with pytest.raises(KeyError, match="nothing"):
        kernel("nothing", (), one, one, *absent)
    with pytest.raises(ValueError, match="parameters"):
        kernel("mse", (1.0,), one, one, *absent)
    with pytest.raises(ValueError, match="operands"):
        kernel("gaussian", (1.0, 2.0), one, one, *absent)
    with pytest.raises(TypeError):
        kernel("mse", (), one, one, *absent).sums(([1.0], x, None, None), 1.0, None, 1)
    edges = np.array([0.5, np.inf])
    bins = fastloss_c.RowKernel(
        False,
        "calibration",
        True,
        (1, 2, 1),
        ("float32", 0, 4, 0),
        ("int64", 0, 0, 0),
        ("float64", 0, 0, 8),
        (),
        256,
        m=2,
    )
    with pytest.raises(TypeError, match="bins"):
        bins.sums(np.zeros(2, np.float32), np.zeros(1, np.int64), edges, (), 1.0, 1)


# --- sums of blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [1, 2, 9, 64, 65, 200])
def test_blocks_are_added_in_their_order(n_blocks):
    """The same bits as if each block's sums were added up here, also where there are more than lie on the stack."""
    n, block = 64 * n_blocks - 5, 64
    x, y = generator(n_blocks).standard_normal((2, n)).astype(np.float32) * np.float32(1e3)
    vector = ("float32", 0, 0, 4)
    kernel = fastloss_c.ElementKernel("mse", False, "flat_total", (), (1, 1, n), (vector, vector, None, None), block)
    partials = np.zeros((n_blocks, 2))
    kernel.run((x, y, None, None), 1.0, None, 0, n_blocks, partials)
    expected = functools.reduce(np.add, partials)
    assert kernel.sums((x, y, None, None), 1.0, None, n_blocks) == tuple(expected)


@pytest.mark.parametrize("n_blocks", [1, 3, 65, 130])
@pytest.mark.parametrize("bad", [False, True])
def test_blocks_of_rows_are_added_in_their_order(n_blocks, bad):
    """And the first row with a label that is no class is the first of all blocks'."""
    n, n_classes = 64 * n_blocks - 5, 3
    rng = generator(n_blocks)
    x, labels = rng.standard_normal((n, n_classes)).astype(np.float32), rng.integers(0, n_classes, n)
    if bad:
        labels[[n // 2, n - 1]] = n_classes
    arguments = (
        False,
        "index",
        True,
        (1, n_classes, n),
        ("float32", 0, 4, 4 * n_classes),
        ("int64", 0, 0, 8),
        None,
        (),
    )
    kernel = fastloss_c.RowKernel(*arguments, 1)
    partials = np.zeros((n_blocks, 4))
    kernel.run(x, labels, None, (), 1.0, 0, n_blocks, partials)
    *sums, first_bad = kernel.sums(x, labels, None, (), 1.0, n_blocks)
    assert sums == list(functools.reduce(np.add, partials[:, :3]))
    assert first_bad == partials[:, 3].min() == (n // 2 if bad else np.inf)


# --- class weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("n_classes", [2, 5, 40, 300])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
def test_class_weights_are_read_as_they_are(loss, n_classes, dtype):
    """Of any dtype, and from any strides, they give what the same numbers in float64 give."""
    rng = generator(n_classes)
    x, labels = rng.standard_normal((100, n_classes)).astype(np.float32), rng.integers(0, n_classes, 100)
    labels[::7] = -100
    own = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    w = rng.integers(0, 9, n_classes).astype(own)
    function = getattr(fastloss, loss)
    for reduction in ("none", "sum", "mean"):
        for smoothing in (0.0, 0.1)[: 2 if loss == "cross_entropy" else 1]:
            more = {"label_smoothing": smoothing} if smoothing else {}
            expected = function(x, labels, weight=w.astype(np.float64), reduction=reduction, **more)
            every_second, reversed_ = np.repeat(w, 2)[::2], w[::-1].copy()[::-1]
            for weight in (w, every_second, reversed_):
                assert same_bits(function(x, labels, weight=weight, reduction=reduction, **more), expected)
            gradients = [
                fastloss.value_and_grad(function)(x, labels, weight=weight, **more)[1]
                for weight in (w.astype(np.float64), w, reversed_)
            ]
            assert same_bits(gradients[0], gradients[1]) and same_bits(gradients[0], gradients[2])


# --- rows beside others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("n_classes", [2, 3, 128, 129, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_rows_change_no_others(name, n_classes, dtype):
    """A row of infinities or NaN, or one that float32 is too short for, takes another way than those beside it."""
    rng = generator(n_classes)
    x = rng.standard_normal((150, n_classes)).astype(dtype)
    mixed = x.copy()
    rows = slice(3, 150, 9)
    special = mixed[rows]
    special[0::5, 0] = np.inf
    special[1::5, -1] = np.nan
    special[2::5] = -np.inf
    special[3::5, 0] = np.finfo(dtype).max
    special[4::5, 1] = 1e3
    others = np.delete(np.arange(150), np.arange(150)[rows])

    def along_the_first(x):
        return getattr(fastloss, name)(np.ascontiguousarray(x.T), axis=0).T

    for function in (getattr(fastloss, name), along_the_first):
        found = function(mixed)
        assert same_bits(found[others], function(x)[others])
        assert same_bits(found[rows], np.concatenate([function(row[None]) for row in special]))


def test_smooth_l1_with_a_beta_of_1_is_huber_with_a_delta_of_1():
    x = generator(1).standard_normal(1000).astype(np.float32) * np.float32(3)
    y = np.concatenate([x[:500] + np.float32(1), np.zeros(500, np.float32)])
    y[:4] = np.nan, np.inf, -np.inf, x[3]
    for reduction in ("none", "sum"):
        assert same_bits(
            fastloss.smooth_l1_loss(x, y, reduction=reduction), fastloss.huber_loss(x, y, reduction=reduction)
        )
    both = [fastloss.value_and_grad(loss)(x, y)[1] for loss in (fastloss.smooth_l1_loss, fastloss.huber_loss)]
    assert same_bits(*both)
    near = fastloss.smooth_l1_loss(x, y, beta=1.0 + 1e-7, reduction="none")
    np.testing.assert_allclose(near, fastloss.smooth_l1_loss(x, y, reduction="none"), rtol=1e-6)
