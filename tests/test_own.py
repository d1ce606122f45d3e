"""Losses of one's own apart from their numbers: where their text comes from, what is refused, slopes, copies, caches, and other places."""

import ast
import copy
import functools
import importlib.util
import inspect
import linecache
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import own_losses
import own_rows
import pytest
from dialect_texts import ACCEPTED, REFUSED, REFUSED_TEXTS, operands, plainly, text_of
from subprocesses import check_python, run_python

import fastloss
from fastloss import _branchless, _dialect
from fastloss.own import _slope
from fastloss.own._source import Source

QUADRATIC = "def quadratic(x, y):\n    return (x - y) * (x - y)\n"


@pytest.fixture(autouse=True)
def numpy_alone():
    """What is tested here does not depend on what computes."""
    with fastloss.use_backend("numpy"):
        yield


# --- what is refused --------------------------------------------------------------------------------------------------------

ALL_REFUSED = [(text_of(body), line, key) for body, line, key in REFUSED] + REFUSED_TEXTS


@pytest.mark.parametrize("text, line, key", ALL_REFUSED)
def test_wrong_texts(text, line, key):
    """The message has the line, what stands there, and what is allowed."""
    with pytest.raises(SyntaxError) as caught:
        fastloss.pointwise_loss(text)
    message, shown = str(caught.value).split("\n")
    assert message.startswith(f"value, line {line}: ")
    assert caught.value.key == key
    assert shown.strip() == text.splitlines()[line - 1].strip()


@pytest.mark.parametrize("n", [101, 300, 3000, 30_000])
def test_nested_too_deeply(n):
    """Neither Python's parser nor derived slopes are taken to their limits."""
    texts = ["    return " + " + ".join(["x"] * n), "    return " + "x if x > y else " * n + "y"]
    texts.append("    if x > y:\n        return x\n" + "    elif x < y:\n        return y\n" * n + "    return x")
    if n < 3000:
        texts.append("    return " + "abs(" * n + "x" + ")" * n)
    for body in texts:
        with pytest.raises(SyntaxError, match="value, line [0-9]+: ") as caught:
            fastloss.pointwise_loss(f"def f(x, y):\n{body}\n")
        assert caught.value.key in ("deep", "syntax")
    deepest = "    T = type(x)\n    return " + "tanh(" * 90 + "x * y" + ")" * 90
    assert fastloss.pointwise_loss(f"def f(x, y):\n{deepest}\n")([0.0], [1.0]) == 0.0


def test_a_wrong_slope():
    with pytest.raises(SyntaxError, match=r"slope, line 3: the bare constant 2.0; write T\(2.0\)"):
        fastloss.pointwise_loss(QUADRATIC, "\n    def s(x, y):\n        return 2.0 * (x - y)\n")


def imported(folder, text, name="losses_of_mine"):
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRONG = '''
import math
import os
from math import exp as e, exp, log
import numpy as np


def constant(x, y):
    """Says 0.5."""
    return 0.5 * x


def attribute(x, y):
    return math.exp(x - y)


def default(x, y, p=2.0):
    return x - y


def other_constant(x, y):
    return x * EPS


EPS = 1e-6


def helper(u):
    for i in range(3):
        u = u * u
    return u


def through_a_helper(x, y):
    return helper(x - y)


def of_a_library(x, y):
    return np.square(x - y)


def decorated(f):
    return f


@decorated
def with_a_decorator(x, y):
    return x - y


def made_of_a_class(x, y):
    return int(x)
'''


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("constant", 10, "the bare constant 0.5; write T(0.5), with T = type(x) before\n    return 0.5 * x"),
        ("attribute", 14, "'math.exp' can't be called; there are the text's own functions, abs, max, min, exp"),
        ("default", 17, "'p' is no plain argument"),
        ("other_constant", 22, "the name 'EPS' means nothing here"),
        ("through_a_helper", 29, "'for i in range(3):' is not allowed; statements are"),
        ("of_a_library", 39, "'np.square' can't be called"),
        ("with_a_decorator", 47, "decorators are not allowed"),
        ("made_of_a_class", 52, "'int' can't be called"),
    ],
)
def test_wrong_functions(name, line, message, tmp_path):
    """The place is the file and the line in it, be it of a function that is called by that which was given."""
    module = imported(tmp_path, WRONG)
    with pytest.raises(SyntaxError) as caught:
        fastloss.pointwise_loss(getattr(module, name))
    assert str(caught.value).startswith(f"{module.__file__}, line {line}: {message}")


def test_other_functions_of_known_names(tmp_path):
    module = imported(
        tmp_path,
        "from math import exp, log\n\ndef f(x, y):\n    return exp(x) - g(y)\n\ndef h(a):\n    return a\n\ng = h\n",
    )
    with pytest.raises(ValueError, match="'g' is another name of 'h'"):
        fastloss.pointwise_loss(module.f)
    module.g, module.exp = abs, math.log
    with pytest.raises(
        ValueError, match="value: 'exp' must be the function of the math module, got <built-in function log>"
    ):
        fastloss.pointwise_loss(module.f)
    module.exp = np.exp
    with pytest.raises(SyntaxError, match="'g' can't be called"):
        fastloss.pointwise_loss(module.f)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((3,), {}, TypeError, "value: expected a Python function or the text of one, got 3"),
        ((np.exp,), {}, TypeError, "value: expected a Python function or the text of one"),
        ((lambda x, y: x - y,), {}, ValueError, "value: expected a function with a name, got a lambda"),
        (("",), {}, ValueError, "value: expected the text of a function"),
        (("def f(x, y):\n    return x\n\ndef g(x, y):\n    return y",), {}, ValueError, "value: .* got 'f', 'g'"),
        (("def f(x):\n    return x",), {}, ValueError, r"value: expected .* no parameters, as none were given, got f\(x\)"),
        (("def f(x, y, z, a):\n    return x",), {}, ValueError, r"value: expected .* got f\(x, y, z, a\)"),
        ((QUADRATIC,), {"parameters": {"p": 1.0}}, ValueError, "value: expected .* the parameters p, got quadratic"),
        (("def f(p, x, y):\n    return x",), {"parameters": {"p": 1.0}}, ValueError, "value: .* the parameters p, got f"),
        (("def f(x, y, out):\n    return x",), {"parameters": {"out": 1.0}}, ValueError, "parameters: .* got 'out'"),
        (("def f(x, y, pred):\n    return x",), {}, ValueError, "f: 'pred' is the name of an argument that all losses have"),
        (("def f(x, y, weight):\n    return x",), {}, ValueError, "f: 'weight' is the name of an argument that all losses have"),
        ((QUADRATIC, "def s(x):\n    return x"), {}, ValueError, r"slope: expected the arguments of quadratic\(x, y\), got s\(x\)"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": "(0, 1"}}, ValueError, r"parameters\['p'\]: expected a domain"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": (2, 1)}}, ValueError, r"parameters\['p'\]: expected a domain"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": None}}, ValueError, r"parameters\['p'\]: expected a default"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": (2.0, (0, 1))}}, ValueError, "a default that is a number in"),
        ((QUADRATIC,), {"domain": 5}, TypeError, "domain: expected a dict of what is given by name, got 5"),
        ((QUADRATIC,), {"parameters": ["p"]}, TypeError, "parameters: expected a dict of what is given by name"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": 10**400}}, ValueError, r"parameters\['p'\]: expected a default"),
        (("def f(x, y, p):\n    return x",), {"parameters": {"p": (0, 10**400)}}, ValueError, r"parameters\['p'\]: expected a dom"),
        ((QUADRATIC,), {"domain": {"x": (0, 1)}}, ValueError, "domain: expected one of 'pred', 'target', got 'x'"),
        ((QUADRATIC,), {"domain": {"pred": "(0, 1]"}}, ValueError, r"domain\['pred'\]: expected bounds that are included"),
        ((QUADRATIC,), {"domain": {"pred": (0, 1e-60)}}, ValueError, r"domain\['pred'\]: .* float32"),
        ((QUADRATIC,), {"mean": "count"}, ValueError, "mean: expected one of 'weights', 'elements', got 'count'"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        fastloss.pointwise_loss(*arguments, **options)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("def f(x, y):\n    return x",), {}, ValueError, "value: expected a function of some of nll, lse, p"),
        (
            ("def f(a):\n    return a",),
            {"parameters": {"a": 1.0}},
            ValueError,
            r"value: .* and the parameters a, got f\(a\)",
        ),
        (("def f(nll):\n    return nll",), {"parameters": {"a": 1.0}}, ValueError, "value: .* and the parameters a"),
        (
            ("def f(nll, axis):\n    return nll",),
            {"parameters": {"axis": 1.0}},
            ValueError,
            "parameters: .* got 'axis'",
        ),
        (
            ("def f(nll, target):\n    return nll",),
            {"parameters": {"target": 1.0}},
            ValueError,
            "f: 'target' is the name of an argument",
        ),
        (("def f(nll):\n    return nll", "def g(nll):\n    return nll"), {}, TypeError, "slope: expected a dict"),
        (
            ("def f(nll):\n    return nll", {"x": "def g(nll):\n    return nll"}),
            {},
            TypeError,
            "slope: expected a dict",
        ),
        (
            ("def f(nll):\n    return nll", {"nll": "def g(a, b):\n    return a"}),
            {},
            ValueError,
            "slope: expected the arg",
        ),
        (("def f(nll):\n    return nll * 2",), {}, SyntaxError, "value, line 2: the bare constant 2"),
        (
            ("def f(p):\n    return p", {"p": "def g(a):\n    return 1.0"}),
            {},
            SyntaxError,
            r"slope\['p'\], line 2: the bare",
        ),
    ],
)
def test_wrong_rows(arguments, options, error, message):
    with pytest.raises(error, match=message):
        fastloss.row_loss(*arguments, **options)


# --- where texts come from --------------------------------------------------------------------------------------------------


def check_quadratic(loss):
    value, gradient = fastloss.value_and_grad(loss)(np.array([1.0, 3.0]), np.array([0.0, 1.0]), reduction="sum")
    assert value == 5.0
    np.testing.assert_array_equal(gradient, [2.0, 4.0])


def test_functions_inside_functions():
    def square(d):
        """The docstring of a helper
        that is not indented."""
        # nor is this comment
        return d * d

    def quadratic(x, y):
        return square(x - y)

    check_quadratic(fastloss.pointwise_loss(quadratic))


def test_notebooks():
    """Cells are in linecache, as IPython and Python's prompt from 3.13 on keep them."""
    cells = [
        "def square(d):\n    return d * d\n",
        "\ndef quadratic(x, y):\n    return square(x - y)\n",
        "def quadratic(x, y):\n    return square(x) * 0.5\n",
    ]
    namespace = {}

    def run(number):
        name = f"<cell-{number}>"
        linecache.cache[name] = (len(cells[number]), None, cells[number].splitlines(True), name)
        exec(compile(cells[number], name, "exec"), namespace)

    run(0), run(1)
    check_quadratic(fastloss.pointwise_loss(namespace["quadratic"]))
    run(2)
    with pytest.raises(SyntaxError, match="<cell-2>, line 2: the bare constant 0.5"):
        fastloss.pointwise_loss(namespace["quadratic"])


def test_functions_of_another_name():
    """What `functools.wraps` and assignments make of a function's name is not in its text."""

    def other(a, b, c):
        return a

    @functools.wraps(other)
    def quadratic(x, y):
        return (x - y) * (x - y)

    with pytest.raises(SyntaxError, match="decorators are not allowed"):
        fastloss.pointwise_loss(quadratic)

    def square(x, y):
        return (x - y) * (x - y)

    square.__name__ = "something else"
    check_quadratic(fastloss.pointwise_loss(square))


def test_no_source():
    namespace = {}
    exec(QUADRATIC, namespace)
    with pytest.raises(ValueError, match="value: expected a function whose source can be read.*text as a string"):
        fastloss.pointwise_loss(namespace["quadratic"])
    check_quadratic(fastloss.pointwise_loss(QUADRATIC))


def at_the_prompt(lines):
    process = subprocess.run(
        [sys.executable, "-q", "-i"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=600
    )
    return process.stdout, process.stderr


def test_the_prompt_of_python():
    text = repr(QUADRATIC)
    out, _ = at_the_prompt(["import fastloss", f"loss = fastloss.pointwise_loss({text})", "float(loss([1.0], [3.0]))"])
    assert "4.0" in out
    typed = ["import fastloss", *QUADRATIC.splitlines(), "", "float(fastloss.pointwise_loss(quadratic)([1.0], [3.0]))"]
    out, error = at_the_prompt(typed)
    assert "4.0" in out or "give the function's text as a string" in error


def typed(name, cases, operands):
    """The lines that make a loss of a text at the prompt, and print its value and gradient."""
    made, options, _ = cases.CASES[name]
    maker = "pointwise_loss" if cases is own_losses else "row_loss"
    function = getattr(cases, name, None) or getattr(cases, name.upper(), None) or f"def {name}(nll):\n    return nll\n"
    source = Source()
    source.add(function, "value")
    arrays = ", ".join(f"np.array({a.tolist()}, '{a.dtype}')" for a in operands)
    yield f"loss = fastloss.{maker}({source.text!r}, parameters={options!r})"
    yield f"value, gradient = fastloss.value_and_grad(loss)({arrays}, reduction='sum')"
    yield f"print({name!r}, float(value), gradient.tolist())"


def test_every_loss_at_the_prompt():
    """As texts, typed one after another, some of them twice with another meaning."""
    expected, lines = {}, ["import numpy as np, fastloss", "_ = fastloss.use_backend('numpy')"]
    for name in own_losses.CASES:
        operands = own_losses.operands(name, "float64", (4, 3))
        values, slopes = own_losses.exact(name, operands, own_losses.CASES[name][1])
        expected[name] = values.sum(), slopes
        lines += typed(name, own_losses, operands)
    for name in own_rows.CASES:
        x, target, _ = own_rows.operands((6, 4), -1, "float64")
        losses, gradients, _ = own_rows.exact(name, x, target, None, -1, own_rows.CASES[name][1])
        expected[name] = losses.sum(), gradients
        lines += typed(name, own_rows, (x, target))
    assert len(expected) >= 10
    for sign in "+-":
        lines.append(f"again = fastloss.pointwise_loss('def again(x, y):\\n    return x {sign} y')")
        lines.append(
            "print('again', float(again([5.0], [3.0])), fastloss.value_and_grad(again)([5.0], [3.0])[1].tolist())"
        )
    out, error = at_the_prompt(lines)
    answers = [line.removeprefix(">>> ") for line in out.splitlines()]
    found = [line.split(" ", 2) for line in answers if line.split(" ")[0] in (*expected, "again")]
    assert [name for name, *_ in found] == [*expected, "again", "again"], error
    for name, value, gradient in found[:-2]:
        np.testing.assert_allclose(float(value), expected[name][0], rtol=1e-12)
        np.testing.assert_allclose(ast.literal_eval(gradient), expected[name][1], rtol=1e-9, atol=1e-9)
    assert [value for _, value, _ in found[-2:]] == ["8.0", "2.0"]


def test_a_file_that_was_changed(tmp_path):
    module = imported(tmp_path, "def quadratic(x, y):\n    return (x - y) * (x - y)\n")
    check_quadratic(fastloss.pointwise_loss(module.quadratic))
    imported(
        tmp_path, "def quadratic(x, y):\n    return (x + y) * (x - y)\n"
    )  # the same length, and nothing of this one is used
    linecache.clearcache()
    with pytest.raises(ValueError, match="the source of 'quadratic' has changed since it was defined"):
        fastloss.pointwise_loss(module.quadratic)


def test_two_texts():
    """A slope may call the value's helpers; a text's own `_slope` is its slope."""
    value = "def square(d):\n    return d * d\n\ndef quadratic(x, y):\n    return square(x - y)\n"
    slope = "def half(x, y):\n    return x - y\n\ndef s(x, y):\n    return half(x, y) + half(x, y)\n"
    check_quadratic(fastloss.pointwise_loss(value, slope))
    own = value + "\ndef quadratic_slope(x, y):\n    T = type(x)\n    return T(7.0) * square(x - y)\n"
    _, gradient = fastloss.value_and_grad(fastloss.pointwise_loss(own))(np.array([3.0]), np.array([1.0]))
    assert gradient == 28.0
    with pytest.raises(SyntaxError, match="slope, line 1: 'square' is defined twice"):
        fastloss.pointwise_loss(value, "def square(x, y):\n    return x")


# --- derived slopes -----------------------------------------------------------------------------------------------------------


def of_text(text, name):
    from fastloss import _array_formulas

    return _branchless.formulas(_array_formulas.VOCABULARY, text=text)[name]


@pytest.mark.parametrize("name", ACCEPTED)
def test_slopes_of_every_kind_of_text(name):
    """As finite differences have them, away from what the texts compare with."""
    text = ACCEPTED[name]
    slope_name, more = _slope.derived(_dialect.functions(text), "f")
    found = _dialect.functions(f"{text}\n{more}")
    assert found[slope_name].parameters == ("x", "y")
    pairs = [(x + 0.0131, y + 0.0067) for x, y in operands()]
    x, y = np.array(pairs).T
    with np.errstate(all="ignore"):
        slopes = of_text(f"{text}\n{more}", slope_name)(x, y)
    h = 1e-6
    differences = [(plainly(text, a + h, b) - plainly(text, a - h, b)) / (2 * h) for a, b in pairs]
    np.testing.assert_allclose(np.broadcast_to(slopes, x.shape), differences, rtol=1e-7, atol=1e-7)


def at(text, x, y=0.0):
    slope_name, more = _slope.derived(_dialect.functions(text), "f")
    with np.errstate(all="ignore"):
        return of_text(f"{text}\n{more}", slope_name)(np.float64(x), np.float64(y))


def test_ties():
    assert [at("def f(x, y):\n    return abs(x - y)", x) for x in (-2.0, 0.0, 3.0)] == [-1.0, 0.0, 1.0]
    for name, left, right in (("max", 0.0, 1.0), ("min", 1.0, 0.0)):
        text = f"def f(x, y):\n    return {name}(x, y)"
        assert [at(text, x, 1.0) for x in (0.0, 1.0, 2.0)] == [left, 0.5, right]
        assert np.isnan(at(text, np.nan, 1.0)) and np.isnan(at(text, 1.0, np.nan))
        assert at(text, np.inf, np.inf) == 0.5
    assert np.isnan(at("def f(x, y):\n    return abs(x - y)", np.nan))


def test_tanh_does_not_cancel():
    assert math.isclose(at("def f(x, y):\n    return tanh(x)", 30.0), 4 * math.exp(-60.0), rel_tol=1e-14)


def test_names_that_are_taken():
    text = "def abs_slope(d):\n    return d\n\ndef f(x, x_slope):\n    d_slope = x * x_slope\n    d = abs(d_slope)\n    return d * abs_slope(d)\n"
    assert at(text, 3.0, 2.0) == 2 * 3.0 * 4.0


def test_what_does_not_depend_on_the_prediction():
    """Infinite factors of what is constant don't turn a slope into NaN."""
    assert at("def f(x, y):\n    c = log(y)\n    return x - y * c", 1.0, 0.0) == 1.0
    assert at("def f(x, y):\n    return y", 1.0) == 0.0


# --- the function that comes back ---------------------------------------------------------------------------------------------


def charbonnier(**options):
    return fastloss.pointwise_loss(own_losses.charbonnier, parameters={"eps": (1e-3, "(0, inf)")}, **options)


def test_signature_and_documentation():
    loss = charbonnier()
    assert (
        str(inspect.signature(loss))
        == "(pred, target, *, weight=None, axis=None, reduction='mean', eps=0.001, out=None)"
    )
    assert loss.__name__ == "charbonnier" and inspect.getdoc(loss) == "A smooth absolute error."
    assert repr(loss).startswith("<loss charbonnier(pred, target")
    third = own_losses.CASES["student"][0]()
    assert list(inspect.signature(third).parameters)[:3] == ["pred", "target", "scale"]
    assert "def charbonnier_slope(x, y, eps):" in loss.text
    ast.parse(loss.text)


def test_equal_losses():
    assert charbonnier() == charbonnier() and hash(charbonnier()) == hash(charbonnier())
    assert charbonnier() != charbonnier(mean="elements")
    assert charbonnier() != fastloss.pointwise_loss(own_losses.charbonnier, parameters={"eps": 1e-3})
    a, b = (fastloss.Accumulator(charbonnier(), eps=0.5) for _ in range(2))
    a.update(np.ones(3), np.zeros(3)), b.update(np.zeros(2), np.ones(2))
    assert a.merge(b).count == 5


def test_pickling():
    loss = pickle.loads(pickle.dumps(charbonnier()))
    assert loss == charbonnier() and loss.__doc__ == charbonnier().__doc__
    for made, _, _ in (*own_losses.CASES.values(), *own_rows.CASES.values()):
        assert pickle.loads(pickle.dumps(made())) == made()
    accumulator = fastloss.Accumulator(loss, eps=0.5)
    accumulator.update(np.ones(3), np.zeros(3))
    again = pickle.loads(pickle.dumps(accumulator))
    assert again.compute() == accumulator.compute() and accumulator.merge(again).count == 6


def test_pickling_what_is_made_of_losses():
    """Gradients of losses, and losses of tensors."""
    x, y = np.array([3.0, 1.0]), np.array([0.0, 1.0])
    function = fastloss.value_and_grad(charbonnier())
    for again in (pickle.loads(pickle.dumps(function)), copy.deepcopy(function)):
        assert str(again(x, y, eps=0.5)) == str(function(x, y, eps=0.5)) and again.__name__ == function.__name__
    torch = pytest.importorskip("torch")
    from fastloss.torch import of

    tensors = torch.tensor(x), torch.tensor(y)
    again = pickle.loads(pickle.dumps(of(charbonnier())))
    assert again(*tensors, eps=0.5) == of(charbonnier())(*tensors, eps=0.5)
    assert again.__name__ == charbonnier().__name__ and again.__doc__ == charbonnier().__doc__


def test_another_process_unpickles(tmp_path):
    """Neither the module of the functions nor their file is there any more."""
    module = imported(
        tmp_path, "from math import sqrt\n\ndef rooted(x, y, eps):\n    d = x - y\n    return sqrt(d * d + eps * eps)\n"
    )
    loss = fastloss.pointwise_loss(module.rooted, parameters={"eps": 4.0})
    (tmp_path / "loss.pickle").write_bytes(pickle.dumps(loss))
    (tmp_path / "losses_of_mine.py").unlink()
    code = f"""
        import pickle, fastloss
        with open({str(tmp_path / "loss.pickle")!r}, "rb") as file:
            loss = pickle.load(file)
        assert loss([3.0], [0.0]) == 5.0
        print("fine")
    """
    check_python(code, FASTLOSS_BACKEND="numpy")


def test_many_threads_make_the_same_loss():
    found, barrier = [], threading.Barrier(8)

    def work():
        barrier.wait()
        loss = charbonnier()
        found.append((loss, loss(np.arange(5.0), np.zeros(5))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len({id(loss.row) for loss, _ in found}) == 1 and len({value for _, value in found}) == 1


def test_no_loss_of_ones_own():
    with pytest.raises(TypeError):
        fastloss.value_and_grad(own_losses.charbonnier)


# --- compiled, and kept on disk -------------------------------------------------------------------------------------------------

CACHED = """
import numpy as np, fastloss
loss = fastloss.pointwise_loss(TEXT, parameters={"delta": 1.0})
x = np.linspace(0, 1, 5000, dtype=np.float32)
print(loss(x, x[::-1].copy(), reduction="none")[0], loss(x, x, delta=2.0))
from fastloss.backends import load
formula = loss.row.formula({"delta": 1.0}, False)[0]
kernels = [load("numba").kernel(formula, op, np.dtype("f")) for op in ("flat_each", "flat_total")]
print(sum(sum(k.stats.cache_hits.values()) for k in kernels), sum(sum(k.stats.cache_misses.values()) for k in kernels))
"""
TEXT = """
def mine(x, y, delta):
    T = type(x)
    a = abs(x - y)
    return T(0.5) * a * a if a <= delta else delta * (a - T(0.5) * delta)
"""


def test_second_process_hits_and_an_edit_misses(tmp_path):
    pytest.importorskip("numba")

    def run(text):
        process = run_python(
            f"TEXT = {text!r}\n{CACHED}",
            FASTLOSS_BACKEND="numba",
            NUMBA_CACHE_DIR=str(tmp_path),
            NUMBA_ENABLE_CUDASIM=None,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout.splitlines()

    value, counts = run(TEXT)
    assert counts == "0 2"
    stored = sorted(p.name for p in tmp_path.rglob("*.nb?"))
    assert stored
    assert run(TEXT) == [value, "2 0"]
    assert run(TEXT.replace("\n    T =", "\n    # a comment\n    T =")) == [value, "2 0"], (
        "what is computed is the same"
    )
    assert sorted(p.name for p in tmp_path.rglob("*.nb?")) == stored
    changed, counts = run(TEXT.replace("T(0.5) * a * a", "T(4.5) * a * a"))
    assert counts == "0 2"
    assert float(changed.split()[0]) == 9 * float(value.split()[0])


# --- other places and libraries -----------------------------------------------------------------------------------------------

ELSEWHERE = """
import numpy as np, fastloss
import own_losses

x, y = own_losses.operands("charbonnier", "float64", (12, 3))
loss = own_losses.CASES["charbonnier"][0]()
values, slopes = own_losses.exact("charbonnier", (x, y), {"eps": 0.5})
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
"""
TESTS = str(own_losses.__file__).rpartition("/")[0]


def elsewhere(code, file, **environment):
    path = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))
    check_python(ELSEWHERE + textwrap.dedent(code), file=file, PYTHONPATH=path, **environment)


def test_dask_processes(tmp_path):
    """Tasks are pickled: the loss goes along as its text."""
    pytest.importorskip("dask.array")
    code = """
        if __name__ == "__main__":
            import dask.array as da
            lazy = [da.from_array(a, chunks=(5, 3)) for a in (x, y)]
            value, gradient = fastloss.value_and_grad(loss)(*lazy, eps=0.5, reduction="sum")
            close(value.compute(scheduler="processes"), values.sum())
            close(gradient.compute(scheduler="threads"), slopes)
            close(loss(*lazy, eps=0.5, axis=0).compute(), values.mean(0))
            close(loss(*lazy, eps=0.5, reduction="none").compute(), values)
            accumulator = fastloss.Accumulator(loss, eps=0.5)
            accumulator.update(*lazy)
            close(accumulator.compute(), values.mean())
            print("fine")
    """
    elsewhere(code, tmp_path / "run.py", FASTLOSS_BACKEND="numpy")  # where results keep their dtype


def test_dask_rows():
    """Chunks of rows, and of classes, which are brought together."""
    da = pytest.importorskip("dask.array")
    loss = own_rows.CASES["with_z"][0]()
    x, target, w = own_rows.operands((20, 7), -1, "float64")
    options = {"weight": w, "z": 0.1}
    value, gradient = fastloss.value_and_grad(loss)(x, target, **options)
    for chunks in ((6, 7), (6, 3)):
        lazy = da.from_array(x, chunks=chunks), da.from_array(target, chunks=chunks[0])
        got = fastloss.value_and_grad(loss)(*lazy, **options)
        np.testing.assert_allclose(got[0].compute(), value, rtol=1e-13)
        np.testing.assert_allclose(got[1].compute(), gradient, rtol=1e-13)
        assert got[1].chunks == lazy[0].chunks
        each = loss(*lazy, **options, reduction="none").compute()
        np.testing.assert_allclose(each, loss(x, target, **options, reduction="none"), rtol=1e-13)
        accumulator = fastloss.Accumulator(loss, **options)
        accumulator.update(*lazy)
        np.testing.assert_allclose(accumulator.compute(), value, rtol=1e-13)
        bad = da.from_array(np.where(np.arange(20) == 17, 9, target), chunks=chunks[0])
        with pytest.raises(IndexError, match=r"target\[17\] = 9"):
            loss(lazy[0], bad).compute()


INSTALLED = {"all": (), "no numba": ("numba",), "no fastloss_c": ("fastloss_c",), "neither": ("numba", "fastloss_c")}


@pytest.mark.parametrize("missing", INSTALLED.values(), ids=list(INSTALLED))
def test_whatever_is_installed(missing, tmp_path):
    """The same numbers by the backend that is chosen, in a script of their own."""
    code = f"""
        import sys, warnings
        for name in {missing!r}:
            sys.modules[name] = None
        warnings.simplefilter("ignore")  # of NumPy in Numba's place
        import own_rows
        chosen = ("charbonnier", "biweight", "student") if "numba" not in {missing!r} else own_losses.CASES
        for name in chosen:
            made, options, _ = own_losses.CASES[name]
            for dtype, tolerance in (("float32", 3e-6), ("float64", 1e-12)):
                arrays = own_losses.operands(name, dtype, (6, 5))
                values, slopes = own_losses.exact(name, arrays, options)
                value, gradient = fastloss.value_and_grad(made())(*arrays, **options, reduction="sum")
                np.testing.assert_allclose(gradient, slopes, rtol=tolerance, atol=tolerance)
                np.testing.assert_allclose(value, values.sum(), rtol=tolerance)
        for name in ("focal",) if "numba" not in {missing!r} else own_rows.CASES:
            made, options, _ = own_rows.CASES[name]
            x, target, w = own_rows.operands((6, 5), -1, "float64")
            losses, gradients, weights = own_rows.exact(name, x, target, w, -1, options)
            value, gradient = fastloss.value_and_grad(made())(x, target, weight=w, **options)
            np.testing.assert_allclose(value, losses.sum() / weights.sum(), rtol=1e-12)
            np.testing.assert_allclose(gradient, gradients / weights.sum(), rtol=1e-9, atol=1e-12)
        print("fine")
    """
    elsewhere(code, tmp_path / "run.py", FASTLOSS_BACKEND=None)


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_simulator_rows(tmp_path):
    code = """
        import own_rows
        from numba import cuda
        fetched = lambda a: a.copy_to_host()
        for name, shape, axis, dtype in (
            ("focal", (5, 4), 1, "float64"), ("with_z", (2, 4, 3), 1, "float64"), ("hard", (3, 20), 1, "float32"), ("gap", (4,), 0, "float32"),
        ):
            x, target, w = own_rows.operands(shape, axis, dtype)
            made, options, _ = own_rows.CASES[name]
            loss, options = made(), options | {"axis": axis}
            losses, gradients, weights = own_rows.exact(name, x, target, w, axis, own_rows.CASES[name][1])
            close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6) if dtype == "float32" else (
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
            )
            there = [cuda.to_device(a) for a in (x, target)]
            options |= {"weight": cuda.to_device(w)}
            close(fetched(loss(*there, **options, reduction="none")), losses)
            value, gradient = fastloss.value_and_grad(loss)(*there, **options)
            close(fetched(value), losses.sum() / weights.sum())
            close(fetched(gradient), gradients / weights.sum())
            accumulator = fastloss.Accumulator(loss, **options)
            accumulator.update(*there)
            close(accumulator.compute(), losses.sum() / weights.sum())
            assert accumulator.count == np.count_nonzero(weights)
        ignored = cuda.to_device(np.full(2, -100))
        value, gradient = fastloss.value_and_grad(loss)(cuda.to_device(np.full((2, 3), np.nan)), ignored)
        assert np.isnan(fetched(value)) and not fetched(gradient).any()
        try:
            loss(cuda.to_device(np.ones((2, 3))), cuda.to_device(np.array([0, 3])))
        except IndexError as error:
            assert "target[1] = 3" in str(error)
        else:
            raise AssertionError("a bad label was accepted")
        print("fine")
    """
    elsewhere(code, tmp_path / "run.py", NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_simulator(tmp_path):
    code = """
        from numba import cuda
        fetched = lambda a: a.copy_to_host()
        there = [cuda.to_device(a) for a in (x, y)]
        close(fetched(loss(*there, eps=0.5)), values.mean())
        close(fetched(loss(*there, eps=0.5, reduction="none")), values)
        close(fetched(loss(*there, eps=0.5, axis=0)), values.mean(0))
        value, gradient = fastloss.value_and_grad(loss)(*there, eps=0.5, reduction="sum")
        close(fetched(gradient), slopes)
        for name in ("student", "margin", "biweight", "hellinger"):
            made, options, _ = own_losses.CASES[name]
            arrays = own_losses.operands(name, "float32", (6, 2))
            values, slopes = own_losses.exact(name, arrays, options)
            there = [cuda.to_device(a) for a in arrays]
            value, gradient = fastloss.value_and_grad(made())(*there, **options, reduction="sum")
            np.testing.assert_allclose(fetched(gradient), slopes, rtol=3e-6, atol=3e-6)
            np.testing.assert_allclose(fetched(value), values.sum(), rtol=3e-6)
        gamma = own_losses.CASES["gamma"][0]()
        try:
            gamma(*[cuda.to_device(np.array(a)) for a in ([1.0, 2.0], [1.0, -2.0])])
        except ValueError as error:
            assert "target[1] = -2.0" in str(error)
        print("fine")
    """
    elsewhere(code, tmp_path / "run.py", NUMBA_ENABLE_CUDASIM="1")


def test_torch():
    torch = pytest.importorskip("torch")
    import fastloss.torch

    function = fastloss.torch.of(own_losses.CASES["expectile"][0]())
    x, y = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(5, 3, dtype=torch.float64)
    for reduction in ("mean", "none"):
        of_x = functools.partial(function, target=y, low=0.3, high=0.7, reduction=reduction)
        assert torch.autograd.gradcheck(of_x, (x,))
    function = fastloss.torch.of(own_rows.CASES["focal"][0]())
    x, labels = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True), torch.randint(3, (5, 2))
    for reduction in ("mean", "none"):
        of_x = functools.partial(function, target=labels, gamma=1.5, reduction=reduction)
        assert torch.autograd.gradcheck(of_x, (x,))
    with pytest.raises(TypeError, match="of: expected a loss from pointwise_loss"):
        fastloss.torch.of(fastloss.mse_loss)


def test_scorer():
    linear_model = pytest.importorskip("sklearn.linear_model")
    from fastloss.sklearn import get_scorer

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    estimator = linear_model.Ridge().fit(X, y)
    loss = charbonnier()
    scorer = pickle.loads(pickle.dumps(get_scorer(loss, eps=0.5)))
    assert math.isclose(scorer(estimator, X, y), -loss(estimator.predict(X), y, eps=0.5), rel_tol=1e-12)
    weights = rng.uniform(size=30)
    expected = -loss(estimator.predict(X), y, eps=0.5, weight=weights)
    assert math.isclose(scorer(estimator, X, y, sample_weight=weights), expected, rel_tol=1e-12)
    with pytest.raises(TypeError, match="charbonnier: expected one of 'eps', got 'delta'"):
        get_scorer(loss, delta=1.0)
    labels = rng.integers(0, 3, size=30) + 5
    estimator = linear_model.LogisticRegression().fit(X, labels)
    for sample_weight in (None, weights):
        found = get_scorer(own_rows.CASES["text"][0]())(estimator, X, labels, sample_weight=sample_weight)
        expected = get_scorer("neg_cross_entropy")(estimator, X, labels, sample_weight=sample_weight)
        assert math.isclose(found, expected, rel_tol=1e-12)
