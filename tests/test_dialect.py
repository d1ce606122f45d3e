"""The dialect of losses: what is refused, and that what is accepted means the same to every compiler as to Python."""

import ctypes
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from amounts import few_or_many
from dialect_texts import ACCEPTED, REFUSED, REFUSED_TEXTS, close, operands, plainly, text_of
from subprocesses import check_python

from fastloss import _branchless, _dialect, losses, scalars

ROOT = Path(__file__).parents[1]
ALL_REFUSED = [(text_of(body), line, key) for body, line, key in REFUSED] + REFUSED_TEXTS


# --- what is refused ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, line, key", ALL_REFUSED, ids=lambda v: v if isinstance(v, str) and "\n" not in v else None
)
def test_refused(text, line, key):
    with pytest.raises(SyntaxError) as caught:
        _dialect.functions(text, "mine.py", 100)
    message, shown = str(caught.value).split("\n")
    assert message.startswith(f"mine.py, line {line + 99}: ")
    assert caught.value.key == key
    assert shown.strip() == text.splitlines()[line - 1].strip()


def test_every_refusal_is_tried():
    assert {key for _, _, key in ALL_REFUSED} == set(_dialect.REFUSALS)


def test_messages_say_what_to_write():
    with pytest.raises(SyntaxError) as caught:
        _dialect.functions("def f(x, y):\n    return 0.5 * x")
    assert str(caught.value) == (
        "scalars.py, line 2: the bare constant 0.5; write T(0.5), with T = type(x) before\n    return 0.5 * x"
    )


@pytest.mark.parametrize(
    "text, line, key", ALL_REFUSED[::7], ids=lambda v: v if isinstance(v, str) and "\n" not in v else None
)
def test_every_compiler_refuses(text, line, key):
    from fastloss_c import translate

    with pytest.raises(SyntaxError, match=f"line {line}: "):
        _branchless.formulas({}, text=text)
    with pytest.raises(SyntaxError, match=f"line {line}: "):
        translate.functions(text)


def test_every_formula_is_in_the_dialect():
    found = _dialect.functions(Path(scalars.__file__).read_text(encoding="utf-8"))
    for loss in losses.COMPILED:
        for name in (loss.value, loss.slope):
            assert len(found[name].parameters) == loss.operands + len(loss.parameters)


@few_or_many("times", 5, 20)
def test_threads_parse_at_once(times):
    """CPython 3.11 raises SystemError where a garbage collection lets another thread in that parses, too."""
    check_python(f"""
        import gc, sys, threading
        from pathlib import Path
        from fastloss import _dialect, scalars

        gc.set_threshold(50)
        gc.callbacks.append(lambda phase, info: sum(range(50)))
        sys.setswitchinterval(1e-6)
        text = Path(scalars.__file__).read_text(encoding="utf-8")
        done = []

        def check():
            for _ in range({times}):
                _dialect.functions(text)
            done.append(True)

        threads = [threading.Thread(target=check) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(done) == 8
        print("fine")
    """)


def test_the_checker_needs_nothing_of_the_package():
    source = Path(_dialect.__file__).read_text(encoding="utf-8")
    assert "fastloss import" not in source and "import fastloss" not in source


# --- what is accepted -----------------------------------------------------------------------------------------------------------------------


def check_values(text, call, dtype):
    """call(x, y), of arrays, gives what Python does."""
    pairs = operands()
    got = call(*(np.array(column, dtype) for column in zip(*pairs, strict=True)))
    for (x, y), value in zip(pairs, got, strict=True):
        expected = plainly(text, x, y)
        assert close(value, expected, dtype == np.float64), f"f({x}, {y}) is {value}, Python has {expected}"


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_numpy(text):
    from fastloss import _array_formulas

    check_values(text, _branchless.formulas(_array_formulas.VOCABULARY, text=text)["f"], np.float64)


def in_numba(formula, dtype):
    """A loop over a formula."""
    numba = pytest.importorskip("numba")
    from fastloss.backends.numba_cpu import _math

    function = _math.as_function(formula, 2)

    @numba.njit(error_model="numpy")
    def loop(x, y, out):
        for i in range(x.size):
            out[i] = function(x[i], y[i])

    def call(x, y):
        out = np.empty_like(x)
        loop(x, y, out)
        return out

    return call


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_numba(text, dtype):
    pytest.importorskip("numba")
    from fastloss.backends.numba_cpu import _elements

    check_values(text, in_numba(_branchless.formulas(_elements._VOCABULARY, text=text)["f"], dtype), dtype)


# Both types of one text: {number} keeps the functions of one apart from those of another.
_C = """
#define REAL {real}
#define UINT {bits}
#define NAME(f) f##_{real}_{number}
#undef log1p_double
#define log1p_double log1p_double_{number}
#define SINGLE {single}
#include "elementary.h"
{text}
void loop_{real}_{number}(const REAL *x, const REAL *y, REAL *out, int n)
{{
    for (int i = 0; i < n; i++)
        out[i] = NAME(f_)(x[i], y[i]);
}}
#undef REAL
#undef UINT
#undef NAME
#undef SINGLE
"""

NANS = {"max": text_of(["return max(x, y)"]), "min": text_of(["return min(x, y)"])}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All texts through the translator and the C compiler: a shared library."""
    from fastloss_c import translate

    compiler = shlex.split(sysconfig.get_config_var("CC") or "")
    if not compiler or not shutil.which(compiler[0]):
        pytest.skip("no C compiler")
    parts = ['#include "machine.h"']
    for number, text in enumerate([*ACCEPTED.values(), *NANS.values()]):
        # functions may stand after those that call them
        found = [c for _, c in translate.functions(text, replaced=()).values()]
        body = "\n".join([*(c.splitlines()[0] + ";" for c in found), *found])
        for real, bits, single in (("double", "uint64_t", 0), ("float", "uint32_t", 1)):
            parts.append(_C.format(real=real, bits=bits, single=single, number=number, text=body))
    folder = tmp_path_factory.mktemp("dialect")
    (folder / "texts.c").write_text("\n".join(parts), encoding="utf-8")
    flags = ["-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC"]
    includes = [f"-I{ROOT / 'fastloss_c'}", f"-I{sysconfig.get_path('include')}"]
    command = [*compiler, *flags, *includes, folder / "texts.c", "-o", folder / "texts.so", "-lm"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return ctypes.CDLL(str(folder / "texts.so"))


def in_c(library, number, dtype):
    loop = library[f"loop_{'double' if dtype == np.float64 else 'float'}_{number}"]

    def call(x, y):
        out = np.empty_like(x)
        loop(*(ctypes.c_void_p(a.ctypes.data) for a in (x, y, out)), ctypes.c_int(x.size))
        return out

    return call


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("number", range(len(ACCEPTED)), ids=list(ACCEPTED))
def test_c(number, dtype, library):
    check_values(list(ACCEPTED.values())[number], in_c(library, number, dtype), dtype)


# --- max and min ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NANS)
def test_nan_wins(name, dtype, library):
    """As NumPy's maximum and minimum, whichever operand it is."""
    pytest.importorskip("numba")
    from fastloss import _array_formulas
    from fastloss.backends.numba_cpu import _elements

    text = NANS[name]
    values = np.array([np.nan, np.inf, -np.inf, 1.0, -1.0, 0.0], dtype)
    x, y = np.repeat(values, values.size), np.tile(values, values.size)
    expected = getattr(np, f"{name}imum")(x, y)
    for call in (
        _branchless.formulas(_array_formulas.VOCABULARY, text=text)["f"],
        in_numba(_branchless.formulas(_elements._VOCABULARY, text=text)["f"], dtype),
        in_c(library, len(ACCEPTED) + list(NANS).index(name), dtype),
    ):
        np.testing.assert_array_equal(call(x, y), expected)


# --- squares under a root ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, scale", [(1e200, 2.0**-600), (1e-200, 2.0**600), (1.6e308, 2.0**-600), (5e-324, 2.0**600)]
)
def test_scaled_squares(size, scale):
    """What callers take the root of where the squares themselves are no normal numbers."""
    from fastloss import _array_formulas

    square = _branchless.formulas(_array_formulas.VOCABULARY)["mse_scaled"]
    x, y = np.array([size, size, 0.0, size]), np.array([0.0, size, size, -size])
    with np.errstate(all="ignore"):
        got = np.sqrt(square(x, y, np.float64(scale)))
    np.testing.assert_allclose(got, [size * scale, 0.0, size * scale, 2 * (size * scale)], rtol=1e-15)
