"""The tests of `device/` in Numba's simulator of a GPU, in a process of its own: what it patches would be in the way of all others."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amounts import few_or_many

DEVICE = Path(__file__).parent / "device"
# torch, CuPy and JAX see no simulated GPU.  In two processes of about the same length: each of them takes a second and a half to start.
OTHERS = sorted({path.stem for path in DEVICE.glob("test_*.py")} - {"test_rows", "test_libraries"})


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda, of the extra 'cuda', is not installed"
)
@pytest.mark.parametrize(
    "modules", [pytest.param(["test_rows"], marks=pytest.mark.full), OTHERS], ids=["rows", "others"]
)
@few_or_many("selection", "not slow and not full", "not slow")
def test_in_the_simulator(modules, selection):
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", selection]
    command = [sys.executable, "-m", "pytest", *options, *(DEVICE / f"{module}.py" for module in modules)]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-1000:]
    passed = int(re.search(r"(\d+) passed", process.stdout).group(1))
    assert passed > 0 and "skipped" not in process.stdout
