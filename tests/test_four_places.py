"""A loss of elements and one of rows are added in four places: scalars, table, public function, and (here) reference; everything else follows.

The places are edited in a copy of the package, which runs in processes of its own.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from subprocesses import check_python

ROOT = Path(__file__).parents[1]

SCALARS = '''

def lorentzian(x, y, scale):
    """log(1 + d^2 / (2 scale^2)), which leaves outliers with little weight (Black and Anandan 1996)."""
    T = type(x)
    d = (x - y) / scale
    return log1p(T(0.5) * d * d)


def lorentzian_slope(x, y, scale):
    T = type(x)
    d = (x - y) / scale
    return d / (scale * (T(1.0) + T(0.5) * d * d))


def truncated(nll, lse, q):
    """(1 - p^q) / q (Zhang and Sabuncu 2018)."""
    return -expm1(-q * nll) / q


def truncated_factor(nll, lse, q):
    return exp(-q * nll)


def truncated_at_target(nll, lse, q):
    return exp(-q * nll) * expm1(-nll)
'''

FUNCTION = '''
def lorentzian_loss(pred, target, *, weight=None, axis=None, scale=1.0, reduction="mean", out=None):
    """The Lorentzian loss: of large errors hardly more than of smaller ones."""
    return evaluate(losses.LORENTZIAN_LOSS, (pred, target, None, weight), (axis, reduction, scale), out)


def truncated_loss(logits, target, *, weight=None, q=0.7, ignore_index=-100, axis=-1, reduction="mean", out=None):
    """The generalised cross-entropy of rows."""
    return evaluate(losses.TRUNCATED_LOSS, (logits, target, weight), (axis, reduction, ignore_index, q), out)


'''

REFERENCE = """
import numpy as np


def reference(x, y, scale=1.0):
    x, y, scale = np.asarray(x, np.longdouble), np.asarray(y, np.longdouble), np.longdouble(scale)
    ratio = (x - y) ** 2 / (2 * scale**2)
    return np.log1p(ratio), (x - y) / scale**2 / (1 + ratio)


rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 300, 7))
value, slope = reference(x, y, 0.5)


def reference_of_rows(x, labels, q=0.7):
    p = np.exp(np.asarray(x, np.longdouble))
    p /= p.sum(axis=1, keepdims=True)
    own, onehot = p[np.arange(len(x)), labels], np.arange(x.shape[1]) == labels[:, None]
    return (1 - own**q) / q, (own**q)[:, None] * (p - onehot)


labels = rng.integers(0, 7, 300)
row_value, row_slope = reference_of_rows(x, labels, 0.5)
"""

# Everything that follows from the row, on the backend in force.
CHECK = """
import fastloss
from fastloss import losses

loss = fastloss.lorentzian_loss
close = lambda a, b, rtol=1e-12: np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=1e-15)
close(loss(x, y, scale=0.5), value.mean())
close(loss(x, y, scale=0.5, reduction="none"), value)
close(loss(x, y, scale=0.5, axis=0, reduction="sum"), value.sum(0))
close(loss(x, y[:, ::-1][:, ::-1], scale=0.5, weight=np.arange(7.0)), (value * np.arange(7)).sum() / (300 * 21))
got, gradient = fastloss.value_and_grad(loss)(x, y, scale=0.5, reduction="sum")
close(got, value.sum()), close(gradient, slope)
close(loss(x.astype("f"), y.astype("f"), scale=0.5), value.mean(), 1e-6)
accumulator = fastloss.Accumulator(loss, scale=0.5)
accumulator.update(x[:100], y[:100]), accumulator.update(x[100:], y[100:])
close(accumulator.compute(), value.mean())
try:
    loss(x, y, scale=0.0)
except ValueError as error:
    assert "scale" in str(error)
else:
    raise AssertionError("scale=0 was accepted")

loss, w = fastloss.truncated_loss, np.arange(1.0, 8.0)
close(loss(x, labels, q=0.5), row_value.mean())
close(loss(x.T, labels, q=0.5, axis=0, reduction="none"), row_value)
close(loss(x, labels, q=0.5, weight=w), (row_value * w[labels]).sum() / w[labels].sum())
got, gradient = fastloss.value_and_grad(loss)(x, labels, q=0.5, reduction="sum")
close(got, row_value.sum()), close(gradient, row_slope)
accumulator = fastloss.Accumulator(loss, q=0.5, ignore_index=3)
accumulator.update(x[:100], labels[:100]), accumulator.update(x[100:], labels[100:])
close(accumulator.compute(), row_value[labels != 3].mean())
"""


def insert(path, marker, text, after=False):
    old = path.read_text()
    assert old.count(marker) == 1, f"{marker!r} stands {old.count(marker)} times in {path.name}"
    path.write_text(old.replace(marker, marker + text if after else text + marker))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the repository with the loss in it; without compiled kernels, which know nothing of it."""
    copy = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("fastloss", "fastloss_c"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    scalars, table = copy / "fastloss/scalars.py", copy / "fastloss/losses.py"
    scalars.write_text(scalars.read_text() + SCALARS)
    insert(table, "\nPOINTWISE = (\n", '\nLORENTZIAN = Formula("lorentzian", parameters=("scale",))\n')
    insert(table, "\nPOINTWISE = (\n", "    LORENTZIAN,\n", after=True)
    row = '\nLORENTZIAN_LOSS = _regression("lorentzian_loss", _always(LORENTZIAN, "scale"), _positive("scale", 1.0))\n'
    insert(table, "\nLOSSES = (\n", row)
    insert(table, "\nLOSSES = (\n", "    LORENTZIAN_LOSS,\n    TRUNCATED_LOSS,\n", after=True)
    insert(table, "\nOF_ROWS = (\n", '\nTRUNCATED = _of_rows("truncated", "q")\n')
    insert(table, "\nOF_ROWS = (\n", "    TRUNCATED,\n", after=True)
    insert(
        table,
        "\nNLL_LOSS = ",
        '\nTRUNCATED_LOSS = _classes("truncated_loss", _always(TRUNCATED, "q"), _positive("q", 0.7))\n',
    )
    insert(copy / "fastloss/functional.py", "# The losses by their functions", FUNCTION)
    return copy


def run(package, code, **environment):
    check_python(
        f"{REFERENCE}\n{code}\nassert fastloss.__file__.startswith({str(package)!r})\nprint('fine')",
        file=package / "run.py",  # its folder comes first on the path, whatever the current one is
        PYTHONPATH=str(package),
        NUMBA_CACHE_DIR=str(package / "cache"),
        **environment,
    )


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_on_the_host(package, backend):
    run(package, CHECK, FASTLOSS_BACKEND=backend)


def test_dask(package):
    pytest.importorskip("dask")
    code = """
import dask.array as da, fastloss
lazy = da.from_array(x, chunks=(100, 7)), da.from_array(y, chunks=(100, 7))
np.testing.assert_allclose(fastloss.lorentzian_loss(*lazy, scale=0.5).compute(), float(value.mean()), rtol=1e-12)
got, gradient = fastloss.value_and_grad(fastloss.lorentzian_loss)(*lazy, scale=0.5, reduction="sum")
np.testing.assert_allclose(gradient.compute(), slope.astype(float), rtol=1e-12)
lazy = da.from_array(x, chunks=(100, 3)), da.from_array(labels, chunks=100)
np.testing.assert_allclose(fastloss.truncated_loss(*lazy, q=0.5).compute(), float(row_value.mean()), rtol=1e-12)
"""
    run(package, code, FASTLOSS_BACKEND="numpy")


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_simulator(package):
    code = """
from numba import cuda
import fastloss
x, y, value, slope = x[:6], y[:6], value[:6], slope[:6]
there = cuda.to_device(x), cuda.to_device(y)
fetched = lambda a: a.copy_to_host()
np.testing.assert_allclose(fetched(fastloss.lorentzian_loss(*there, scale=0.5)), float(value.mean()), rtol=1e-12)
got, gradient = fastloss.value_and_grad(fastloss.lorentzian_loss)(*there, scale=0.5, reduction="sum")
np.testing.assert_allclose(fetched(gradient), slope.astype(float), rtol=1e-12)
there = cuda.to_device(x), cuda.to_device(labels[:6])
got, gradient = fastloss.value_and_grad(fastloss.truncated_loss)(*there, q=0.5, reduction="sum")
np.testing.assert_allclose(fetched(got), float(row_value[:6].sum()), rtol=1e-12)
np.testing.assert_allclose(fetched(gradient), row_slope[:6].astype(float), rtol=1e-12, atol=1e-15)
"""
    run(package, code, NUMBA_ENABLE_CUDASIM="1")


def test_command_line_and_scorer(package):
    code = """
import contextlib, io, os, tempfile
import fastloss
from fastloss.cli import main
folder = tempfile.mkdtemp()
paths = [os.path.join(folder, name) for name in ("x.npy", "y.npy")]
np.save(paths[0], x[:, 0]), np.save(paths[1], y[:, 0])
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    assert main(["eval", *paths, "--loss", "lorentzian_loss"]) == 0
assert "lorentzian_loss" in printed.getvalue()
np.save(paths[0], x), np.save(paths[1], labels)
with contextlib.redirect_stdout(printed):
    assert main(["eval", *paths, "--loss", "truncated_loss"]) == 0
assert "truncated_loss" in printed.getvalue()
"""
    run(package, code, FASTLOSS_BACKEND="numpy")


@pytest.mark.full
def test_compiled(package):
    pytest.importorskip("Cython")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "FASTLOSS_REQUIRE_EXTENSION": "1"}
    built = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, timeout=1200)
    assert built.returncode == 0, built.stderr
    run(package, CHECK, FASTLOSS_BACKEND="cython")
