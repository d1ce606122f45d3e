"""Texts inside and outside the dialect of losses, for `test_dialect.py` and `device/test_device_dialect.py`."""

import math


def text_of(body, head="f(x, y)"):
    """A function with these lines as its body, which starts at line 4."""
    return f"from math import exp, expm1, log, log1p, sqrt, tanh\n\ndef {head}:\n" + "\n".join(
        f"    {line}" for line in body
    )


# Name: text of a function f(x, y).
ACCEPTED = {
    "arithmetic": text_of(["T = type(x)", "return (x - y) * x / (y * y + T(1.0)) + -x"]),
    "constants": text_of(["T = type(y)", "return T(-2.0) * x + T(0.25) * y - T(1e-3)"]),
    "infinite constants": text_of(
        [
            "T = type(x)",
            'm = min(x, T(float("inf")))',
            'n = max(m, T(-float("inf")))',
            'return n if n == n else T(float("nan"))',
        ]
    ),
    "conditional expression": text_of(["T = type(x)", "return x if x > y else y * T(2.0)"]),
    "nested conditional expressions": text_of(
        ["T = type(x)", "return x if x > y else (y if y > T(1.0) else -y) if y > T(0.0) else x * y"]
    ),
    "early return": text_of(["T = type(x)", "if x > T(0.5):", "    return x - y", "return x * y"]),
    "an else that returns": text_of(["if x < y:", "    return x - y", "else:", "    return x * y"]),
    "elif": text_of(
        [
            "T = type(x)",
            "if x < T(-1.0):",
            "    return x",
            "elif x < T(0.5):",
            "    d = x * y",
            "elif y > T(0.0):",
            "    return y",
            "else:",
            "    d = x + y",
            "return d * d",
        ]
    ),
    "assignment in a branch": text_of(["T = type(x)", "d = x - y", "if d < T(2.0):", "    d = T(2.0)", "return d * d"]),
    "assignment in both branches": text_of(
        ["if x < y:", "    low = x", "    high = y", "else:", "    low = y", "    high = x", "return low - high * high"]
    ),
    "assignment and return in a branch": text_of(
        ["T = type(x)", "d = x", "if x > y:", "    d = d + T(1.0)", "    return d * y", "d = d * T(3.0)", "return d"]
    ),
    "a return deep inside": text_of(
        [
            "T = type(x)",
            "d = x",
            "if x > T(0.0):",
            "    if y > x:",
            "        return y",
            "    d = d * y",
            "else:",
            "    if y > T(0.0):",
            "        d = d - y",
            "return d + T(1.0)",
        ]
    ),
    "branches one after the other": text_of(
        [
            "T = type(x)",
            "d = x",
            "e = d",
            "if x > y:",
            "    d = y",
            "if d > T(0.0):",
            "    e = e * d",
            "if e > T(1.0):",
            "    d = d + e",
            "    e = T(0.5)",
            "return d * T(10.0) + e",
        ]
    ),
    "variables that change": text_of(
        ["d = x", "e = d", "d = d * y", "e = e + d", "d = e - d", "return d * e"],
    ),
    "truth values": text_of(
        [
            "T = type(x)",
            "near = abs(x) < T(1.5) and y > T(0.0)",
            "far = not near and (x > y or y <= T(-1.0))",
            "if far:",
            "    near = x > T(0.0)",
            "return x if near else (y if far else x * y)",
        ]
    ),
    "all comparisons": text_of(
        [
            "T = type(x)",
            "a = T(1.0) if x < y else T(0.0)",
            "b = T(2.0) if x <= y else T(0.0)",
            "c = T(4.0) if x > y else T(0.0)",
            "d = T(8.0) if x >= y else T(0.0)",
            "e = T(16.0) if x == y else T(0.0)",
            "g = T(32.0) if x != y else T(0.0)",
            "return a + b + c + d + e + g",
        ]
    ),
    "elementary functions": text_of(
        [
            "T = type(x)",
            "a = abs(x) + T(0.5)",
            "return exp(x) + expm1(y) + log(a) + log1p(a) + sqrt(a) + tanh(x - y)",
        ]
    ),
    "max and min": text_of(["T = type(x)", "return max(x, y) * T(3.0) + min(x, max(y, T(0.25)))"]),
    "charbonnier": text_of(["T = type(x)", "d = x - y", "return sqrt(d * d + T(1e-3))"]),
    "other functions": "def f(x, y):\n    return g(h(x), y)\n\ndef g(a, b):\n    return a - h(b)\n\n"
    "def h(a):\n    T = type(a)\n    return a * T(2.0)\n",
    "docstrings": '"""Losses."""\n\n\ndef f(x, y):\n    """A difference."""\n    return x - y\n',
    # names that mean something to C, to Numba or to the array backends
    "names of others": "def exponent(double):\n    return -double\n\ndef where(a):\n    return exponent(a)\n\n"
    "def decay(a):\n    return a + a\n\ndef log_clamped(a):\n    return a\n\n"
    "def f(x, y):\n    register = where(x)\n    equal = decay(y)\n    both = register * equal\n    return both + log_clamped(x)\n",
}

# Lines of a body, the line number of what is wrong, and the key of the refusal.
REFUSED = [
    (["return x * 0.5"], 4, "bare constant"),
    (["return x + 1"], 4, "bare constant"),
    (["return x ** y"], 4, "operator"),
    (["return x // y"], 4, "operator"),
    (["return x % y"], 4, "operator"),
    (["return +x"], 4, "operator"),
    (["for i in x:", "    y = i", "return y"], 4, "statement"),
    (["while x > y:", "    pass", "return y"], 4, "statement"),
    (["d = x", "d += y", "return d"], 5, "statement"),
    (["d: float = x", "return d"], 4, "statement"),
    (["if x < y:", "    pass", "return x"], 5, "statement"),
    (["import os", "return x"], 4, "statement"),
    (["def g(a):", "    return a", "return g(x)"], 4, "statement"),
    (["print(x)", "return x"], 4, "statement"),
    (["a = b = x", "return a"], 4, "target"),
    (["a, b = x, y", "return a"], 4, "target"),
    (["x = y", "return x"], 4, "to argument"),
    (["z = y", "return sin(x)"], 5, "call"),
    (["return x.conjugate()"], 4, "call"),
    (["return (lambda a: a)(x)"], 4, "call"),
    (["return pow(x, y)"], 4, "call"),
    (["return exp(x, y)"], 4, "arity"),
    (["return max(x)"], 4, "arity"),
    (["return min(x, y, x)"], 4, "arity"),
    (["return max(x, b=y)"], 4, "keyword"),
    (["return max(*x)"], 4, "keyword"),
    (["d = x", "return " + " + ".join(["d"] * 150)], 5, "deep"),
    (["return " + "abs(" * 120 + "x" + ")" * 120], 4, "deep"),
    (["return unknown"], 4, "unknown"),
    (["return exp"], 4, "unknown"),
    (["T = float", "return T(x)"], 4, "T"),
    (["T = type(x + y)", "return x"], 4, "T"),
    (["if x < y:", "    T = type(x)", "return x"], 5, "T"),
    (["T = type(x)", "return T"], 5, "T is no number"),
    (["T = type(x)", "return T(1)"], 5, "integer"),
    (["T = type(x)", "return T(x)"], 5, "constant"),
    (["T = type(x)", "return T(True)"], 5, "constant"),
    (["T = type(x)", "return T(1.0, 2.0)"], 5, "constant"),
    (["T = type(x)", 'return T(float("1"))'], 5, "constant"),
    (["T = type(x)", "return T(1e39)"], 5, "range"),
    (["T = type(x)", "return T(-1e400)"], 5, "range"),
    (["T = type(x)", "return x / T(1e-300)"], 5, "range"),
    (["return T(1.0)"], 4, "no T"),
    (['return float("nan")'], 4, "call"),
    (["return x[0]"], 4, "expression"),
    (["return x.real"], 4, "expression"),
    (["return [x for _ in y]"], 4, "expression"),
    (["return (d := x)"], 4, "expression"),
    (["return x if y else x"], 4, "condition"),
    (["if x:", "    return x", "return y"], 4, "condition"),
    (["near = x < y and y", "return x"], 4, "condition"),
    (["return x if not y else x"], 4, "condition"),
    (["if True:", "    return x", "return y"], 4, "condition"),
    (["return x if x < y < x else x"], 4, "chain"),
    (["return x if x is y else x"], 4, "comparison"),
    (["near = x < y", "return near"], 5, "number"),
    (["return x * (x < y)"], 4, "number"),
    (["near = x < y", "return exp(near)"], 5, "number"),
    (["near = x < y", "far = near == near", "return x"], 5, "number"),
    (["d = x", "d = x < y", "return x"], 5, "kind"),
    (["if x < y:", "    d = x", "else:", "    d = x > y", "return x"], 7, "kind"),
    (["if x < y:", "    d = x", "return d"], 6, "unset"),
    (
        ["d = x", "if x < y:", "    return x", "else:", "    e = y", "if x > y:", "    g = d", "return e + g"],
        11,
        "unset",
    ),
    (["if x < y:", "    return x"], 3, "no return"),
    (["d = x"], 3, "no return"),
    (["return"], 4, "bare return"),
    (["return x", "d = y"], 5, "unreachable"),
    (["if x < y:", "    return x", "else:", "    return y", "return x"], 8, "unreachable"),
    (["exp = x", "return exp"], 4, "reserved"),
    (["_d = x", "return _d"], 4, "private"),
    (["d\u00e9 = x", "return d\u00e9"], 4, "ascii"),
    (["f = x", "return f"], 4, "shadow"),
    (["return f(x, y)"], 4, "recursion"),
    (["return x +"], 4, "syntax"),
]

# The same for complete texts.
REFUSED_TEXTS = [
    ("import os\n\ndef f(x):\n    return x", 1, "outside"),
    ("def f(x):\n    return x\n\nEPS = 1e-6", 4, "outside"),
    ("class A:\n    pass", 1, "outside"),
    ("from os import exp", 1, "outside"),
    ("from math import sin", 1, "import"),
    ("from math import *", 1, "import"),
    ("from math import exp as e", 1, "alias"),
    ("def f(x):\n    return sin(x)", 2, "call"),
    ("def f(x):\n    return x\n\ndef f(x):\n    return -x", 4, "twice"),
    ("def f(x, x):\n    return x", 1, "twice"),
    ("def f(x):\n    return x\0", 1, "syntax"),
    ("@staticmethod\ndef f(x):\n    return x", 2, "decorator"),
    ("async def f(x):\n    return x", 1, "async"),
    ("def f(x, y=1):\n    return x", 1, "argument"),
    ("def f(*x):\n    return x", 1, "argument"),
    ("def f(**x):\n    return x", 1, "argument"),
    ("def f(x, /, y):\n    return x", 1, "argument"),
    ("def f(x, *, y):\n    return x", 1, "argument"),
    ("def f(x: float):\n    return x", 1, "annotation"),
    ("def f(x) -> float:\n    return x", 1, "annotation"),
    ("def f():\n    return x", 1, "no arguments"),
    ("def f(x, T):\n    return x", 1, "reserved"),
    ("def sqrt(x):\n    return x", 1, "reserved"),
    ("def f(x, g):\n    return g(x)\n\ndef g(x):\n    return x", 1, "shadow"),
    ("def f(x):\n    return g(x)\n\ndef g(x):\n    return h(x)\n\ndef h(x):\n    return f(x)", 8, "recursion"),
]


def operands():
    """Pairs of numbers at and between all thresholds in the texts."""
    values = (-2.5, -1.0, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 3.5)
    return [(x, y) for x in values for y in values]


def plainly(text, x, y):
    """f(x, y) as plain Python computes it."""
    namespace = {}
    exec(text, namespace)
    return namespace["f"](x, y)


def close(value, expected, double):
    return math.isclose(value, expected, rel_tol=1e-13 if double else 3e-6, abs_tol=1e-14 if double else 3e-6)
