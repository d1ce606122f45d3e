"""Kernels with one thing wrong are noticed, by tests without a GPU: see `ptx/mutations.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "ptx"))
import machine
import mutations

needs_executor = pytest.mark.skipif(machine.reason_missing() is not None, reason=str(machine.reason_missing()))

# An access out of bounds, for a start.
QUICK = ("a whole warp's rows are copied at the end",)


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda m: m.name)
def test_there_is_such_a_text(mutation):
    compile(mutations.changed_text(mutation), mutation.file, "exec")


@needs_executor
@pytest.mark.parametrize(
    "mutation",
    [pytest.param(m, marks=() if m.name in QUICK else pytest.mark.slow) for m in mutations.MUTATIONS],
    ids=lambda m: m.name,
)
def test_is_noticed(mutation):
    found = mutations.failure(mutation.tests, mutation)
    assert (found is None) == bool(mutation.equivalent), found


@pytest.mark.full
@needs_executor
def test_the_script():
    """A table, and the tests pass where nothing is changed."""
    command = [sys.executable, Path(mutations.__file__), "--only", "one vector too many"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0, process.stderr
    assert "| one vector too many | `pointwise.py` | out of bounds | `test_package: test_elements` |" in process.stdout
