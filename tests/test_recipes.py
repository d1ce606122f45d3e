"""The scripts for many processes in docs/evaluation.md run as they stand there, and find what one call on all data does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import generator

import fastloss

ROOT = Path(__file__).parents[1]


def recipe(module):
    """The page's script that imports this module."""
    section = (ROOT / "docs/evaluation.md").read_text().split("## Many processes")[1]
    (text,) = (
        code
        for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        if re.search(rf"^(from|import) {module}\b", code, re.MULTILINE)
    )
    return text


@pytest.fixture
def directory(tmp_path):
    """Shards of different lengths, and the loss of all."""
    rng = generator("recipes")
    logits, labels = rng.normal(0, 2, (500, 30)).astype(np.float32), rng.integers(0, 30, 500)
    for i, (first, last) in enumerate([(0, 100), (100, 101), (101, 350), (350, 350), (350, 500)]):
        np.save(tmp_path / f"logits-{i}.npy", logits[first:last])
        np.save(tmp_path / f"labels-{i}.npy", labels[first:last])
    return tmp_path, float(fastloss.cross_entropy(logits.astype(np.float64), labels))


def run(directory, text, *launcher):
    (directory / "recipe.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [*launcher, sys.executable, "recipe.py"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.split()  # of several processes one prints
    return float(line)


def test_joblib(directory):
    pytest.importorskip("joblib")
    where, expected = directory
    np.testing.assert_allclose(run(where, recipe("joblib")), expected, rtol=1e-6)


def test_ray(directory):
    pytest.importorskip("ray")
    where, expected = directory
    np.testing.assert_allclose(run(where, recipe("ray")), expected, rtol=1e-6)


def test_mpi(directory):
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if not mpiexec:
        pytest.skip("mpiexec is not installed")
    where, expected = directory
    for n in ("1", "3"):
        np.testing.assert_allclose(run(where, recipe("mpi4py"), mpiexec, "-n", n), expected, rtol=1e-6)
