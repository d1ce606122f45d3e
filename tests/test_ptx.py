"""Kernels executed without a GPU, by the driver of `ptx/`: its own tests, and the package's functions, in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PTX = Path(__file__).parent / "ptx"
sys.path.insert(0, str(PTX))
import machine  # noqa: E402

pytestmark = pytest.mark.skipif(machine.reason_missing() is not None, reason=str(machine.reason_missing()))


def run(path, *options):
    """The number of tests that have passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *options, path]
    environment = {
        key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"
    } | machine.environment()
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-1000:]
    assert "skipped" not in process.stdout
    return int(re.search(r"(\d+) passed", process.stdout).group(1))


MODULES = sorted(path.stem for path in PTX.glob("test_*.py"))
LONG = ("test_edges", "test_matrix", "test_repeats")  # a minute and more


@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=pytest.mark.full) if name in LONG else name for name in MODULES]
)
def test_in_the_executor(module):
    assert run(PTX / f"{module}.py", "-m", "not slow and not full") > 0


@pytest.mark.full
@pytest.mark.parametrize("module", MODULES)
def test_every_value_in_the_executor(module):
    run(PTX / f"{module}.py", "-m", "full and not slow")


@pytest.mark.slow
def test_many_combinations_in_the_executor():
    assert run(PTX / "test_matrix.py", "-m", "slow") > 0
