"""Texts in the dialect of losses on a device: they mean what they mean to Python, with any number of operands and parameters."""

import numpy as np
import pytest
from dialect_texts import ACCEPTED, REFUSED, close, operands, plainly, text_of
from on_device import fetched, sent

from fastloss import losses, scalars


def run(formula, columns, real):
    """The formula on the device, all elements by one thread."""
    from numba import cuda

    from fastloss.backends.numba_cuda import _jit

    called = _jit.inlined(_jit.called_with(len(columns), 0), "test", formula=formula, Real=np.dtype(real).type)

    def kernel(x, y, out):
        for i in range(out.size):
            out[i] = called(x[i], y[i], x[i], (0.0,))

    x, y = (sent(np.array(column, real)) for column in columns)
    out = sent(np.zeros(x.size, real))
    cuda.jit(kernel)[1, 1](x, y, out)
    return fetched(out)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text, real):
    from fastloss.backends.numba_cuda import _jit

    pairs = operands()
    got = run(_jit.formulas(real, (), text)["f"], list(zip(*pairs, strict=True)), real)
    for (x, y), value in zip(pairs, got, strict=True):
        expected = plainly(text, x, y)
        assert close(value, expected, real == "float64"), f"f({x}, {y}) is {value}, Python has {expected}"


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_wins(name):
    from fastloss.backends.numba_cuda import _jit

    values = [np.nan, np.inf, -np.inf, 1.0, -1.0, 0.0]
    columns = np.repeat(values, 6), np.tile(values, 6)
    got = run(_jit.formulas("float32", (), text_of([f"return {name}(x, y)"]))["f"], columns, "float32")
    np.testing.assert_array_equal(got, getattr(np, f"{name}imum")(*columns))


@pytest.mark.parametrize("body, line, key", REFUSED[::9])
def test_refused(body, line, key):
    from fastloss.backends.numba_cuda import _jit

    with pytest.raises(SyntaxError, match=f"line {line}: "):
        _jit.formulas("float32", (), text_of(body))


ARITIES = [(operands, parameters) for operands in (2, 3) for parameters in range(5)]


@pytest.mark.parametrize("n_operands, n_parameters", ARITIES)
def test_any_number_of_operands_and_parameters(n_operands, n_parameters, monkeypatch, tmp_path):
    """A loss that weighs each of them differently, through the kernels themselves."""
    from fastloss.places.cuda.pointwise import Pointwise
    from fastloss.places.cuda.session import Session

    names = [*"xyz"[:n_operands], *(f"p{k}" for k in range(n_parameters))]
    weighted = " + ".join(f"T({k + 1}.0) * {name}" for k, name in enumerate(names))
    head, body = f"({', '.join(names)})", f"    T = type(x)\n    return {weighted}\n"
    name = f"mixed_{n_operands}_{n_parameters}"  # by which caches know its kernels, those of other processes too
    text = f"def {name}{head}:\n{body}\n\ndef {name}_slope{head}:\n{body}"
    source = tmp_path / "scalars.py"
    source.write_text(text, encoding="utf-8")
    monkeypatch.setattr(scalars, "__file__", str(source))
    loss = losses.Formula(name, operands=n_operands, parameters=tuple(names[n_operands:]))

    from fastloss.backends.numba_cuda import _jit, pointwise

    for cached in (_jit.formulas, pointwise.kernel):
        cached.cache_clear()
    try:
        arrays = [np.linspace(k, k + 1, 5, dtype=np.float32) for k in range(n_operands)]
        parameters = tuple(0.5 + k for k in range(n_parameters))
        given = dict(zip(names[:n_operands], map(sent, arrays), strict=True))
        session = Session(**given)
        views = [session.array(value, name) for name, value in given.items()]
        call = Pointwise(session, loss, (*views, *(None,) * (4 - n_operands)), "float32", parameters)
        got = call.each(None)
    finally:
        for cached in (_jit.formulas, pointwise.kernel):
            cached.cache_clear()
    expected = sum((k + 1.0) * value for k, value in enumerate([*arrays, *parameters]))
    np.testing.assert_allclose(fetched(got), expected, rtol=1e-6)
