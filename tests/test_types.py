"""Types: the stub follows the functions and the table, and mypy agrees with typed.py and the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import stubs

ROOT = Path(__file__).parents[1]


def test_the_stub_is_up_to_date():
    pytest.importorskip("ruff")
    assert stubs.STUB.read_text() == stubs.text(), "run python tests/stubs.py"


def test_public_results_are_not_any():
    for path in (stubs.STUB, stubs.PACKAGE / "functional.py"):
        public = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert public
        assert [node.name for node in public if "Any" in ast.unparse(node.returns)] == []


@pytest.mark.full  # as in a leg of its own of .ci/run
def test_mypy(tmp_path):
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
