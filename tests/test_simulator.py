"""The tests of `device/` in Numba's simulator of a GPU, in a process of its own: what it patches would be in the way of all others."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEVICE = Path(__file__).parent / "device"


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda, of the extra 'cuda', is not installed"
)
# torch, CuPy and JAX see no simulated GPU
@pytest.mark.parametrize("module", sorted({path.stem for path in DEVICE.glob("test_*.py")} - {"test_libraries"}))
def test_in_the_simulator(module):
    options = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
    ]  # with what the run around it may leave to -m full
    command = [sys.executable, "-m", "pytest", *options, DEVICE / f"{module}.py"]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-1000:]
    passed = int(re.search(r"(\d+) passed", process.stdout).group(1))
    assert passed > 0 and "skipped" not in process.stdout
