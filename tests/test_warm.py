"""`fastloss info --warm`: the next process compiles nothing."""

import os
import subprocess
import sys

import pytest

from fastloss import _warm
from fastloss.cli import main

pytest.importorskip("numba")

# Every kernel that answers these calls must come from the cache: compiling is made impossible.
CODE = """
import numpy as np, fastloss, numba
from numba.core import dispatcher
def refuse(*args): raise AssertionError("compiled")
dispatcher._FunctionCompiler.compile = refuse
for size in (5, 50_000):
    x = np.linspace(0, 1, size, dtype=np.float32)
    fastloss.l1_loss(x, x), fastloss.l1_loss(x, x, reduction="none"), fastloss.value_and_grad(fastloss.l1_loss)(x, x)
"""


def test_next_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    fastloss = (sys.executable, "-m", "fastloss", "info")
    done = subprocess.run([*fastloss, "--warm", "l1_loss"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "l1_loss float32\n", "")
    subprocess.run([sys.executable, "-c", CODE], check=True, env={**environment, "FASTLOSS_BACKEND": "numba"})


def test_every_loss_has_arguments(monkeypatch):
    called = []

    class Recorder:
        def __getattr__(self, name):
            return lambda *args, **options: called.append((name, len(args)))

    monkeypatch.setattr(_warm, "functional", Recorder())
    monkeypatch.setattr(_warm.grad, "value_and_grad", lambda function: function)
    names = ("mse_loss", "gaussian_nll_loss", "cross_entropy", "score", "compare", "linear_cross_entropy")
    assert list(_warm.warm(names, ("float64",))) == [f"{name} float64" for name in names]
    operands = {"mse_loss": 2, "gaussian_nll_loss": 3, "cross_entropy": 2, "score": 2, "linear_cross_entropy": 3}
    operands["compare"] = 3
    assert dict(called) == operands
    assert set(called) == set(operands.items())


@pytest.mark.parametrize("option", [["--warm", "nix"], ["--warm", "--dtypes", "int8"]])
def test_unknown_names(option, capsys):
    assert main(["info", *option]) == 2
    assert "there are" in capsys.readouterr().err
