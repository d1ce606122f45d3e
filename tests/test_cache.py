"""Compiled kernels are found again by the next process, unless a formula changed, and are not needed."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from amounts import mostly_full
from subprocesses import check_python

pytest.importorskip("numba")

PACKAGE = Path(__file__).parents[1] / "fastloss"
HEAD = """
import numpy as np, fastloss
from fastloss.backends import load
from fastloss import _arrays, losses
x = np.linspace(0, 1, 5000, dtype=np.float32)
kernels = [load("numba").kernel(losses.HUBER, "flat_each", _arrays.FLOAT32)]
print(fastloss.huber_loss(x, x[::-1].copy(), reduction="none")[0])
"""
# Of rows as well: the kernel takes several times as long to compile.
ROWS = """
kernels += [load("numba").kernel(None, "index_rows", _arrays.FLOAT32)]
print(fastloss.cross_entropy(x.reshape(10, 500), np.arange(10)))
"""
COUNTS = """
print(*(sum(k.stats.cache_hits.values()) for k in kernels), *(sum(k.stats.cache_misses.values()) for k in kernels))
"""
CODE = HEAD + COUNTS


def copied(folder):
    shutil.copytree(PACKAGE, folder / "fastloss", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def copy(tmp_path):
    """A copy of the package that may be edited."""
    return copied(tmp_path)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A copy that stays as it is, its cache, and the value that the process that filled it has found."""
    folder = copied(tmp_path_factory.mktemp("compiled"))
    value, counts = run(folder, folder / "cache")
    assert counts == "0 1"
    return folder, folder / "cache", value


def run(folder, cache, code=CODE, **environment):
    """Standard output, line by line, of a process that uses the package in `folder`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FASTLOSS_BACKEND": "numba",
        **environment,
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def files(folder):
    return sorted(p.name for p in Path(folder).rglob("*.nb?"))


@pytest.mark.parametrize("more", ["", pytest.param(ROWS, marks=pytest.mark.full)], ids=["elements", "rows"])
def test_second_process_hits_and_an_edit_misses(copy, more):
    cache, code, n = copy / "cache", HEAD + more + COUNTS, 2 if more else 1
    hits, misses = " ".join("1" * n + "0" * n), " ".join("0" * n + "1" * n)
    huber, *others, counts = run(copy, cache, code)
    assert counts == misses and len(others) == n - 1
    stored = files(cache)
    assert stored

    assert run(copy, cache, code) == [huber, *others, hits]
    assert files(cache) == stored, "a process that hits writes nothing"

    scalars = copy / "fastloss" / "scalars.py"
    old = "return T(0.5) * a * a if a <= delta else delta * (a - T(0.5) * delta)"
    text = scalars.read_text()
    assert old in text
    scalars.write_text(text.replace(old, "return T(4.5) * a * a if a <= delta else delta * (a - T(0.5) * delta)"))
    changed, *unchanged, counts = run(copy, cache, code)
    assert counts == misses
    assert float(changed) == 9 * float(huber)
    assert unchanged == others


def test_damaged_cache(compiled, tmp_path):
    copy, filled, value = compiled
    cache = shutil.copytree(filled, tmp_path / "cache")
    for path in Path(cache).rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(copy, cache) == [value, "0 1"]
    assert run(copy, cache) == [value, "1 0"], "the damaged files were replaced"


@pytest.mark.parametrize("place", mostly_full(["in a file", "read-only"], "in a file".__eq__))
def test_nowhere_to_write(compiled, copy, place):
    """A cache directory below a file, and one that may not be written to (which root may all the same)."""
    _, _, expected = compiled
    if place == "in a file":
        (copy / "file").write_text("")
        cache = copy / "file" / "cache"
    else:
        cache = copy / place
        cache.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert run(copy, cache)[0] == expected


def test_working_directory_deleted(copy):
    """Numba names sources relative to it."""
    code = """
import os, sys, tempfile
sys.modules["coverage"] = None  # Numba imports it where it is installed, and it can't do without a working directory
gone = tempfile.mkdtemp()
os.chdir(gone)
os.rmdir(gone)
"""
    value, counts = run(copy, copy / "cache", code + CODE)
    assert counts == "0 1"
    assert run(copy, copy / "cache", code + CODE) == [value, "1 0"]


def test_read_only_installation(compiled):
    """Neither the package's folder nor the user's cache can be written to."""
    code = (
        "import numba.core.caching as c\n"
        "def refuse(self): raise OSError('read-only file system')\n"
        "for locator in c.FunctionCache._impl_class._locator_classes: locator.ensure_cache_path = refuse\n"
    )
    copy, _, expected = compiled
    value, counts = run(copy, None, code + CODE)
    assert counts in ("0 0", "0 1")
    assert not files(copy / "fastloss")
    assert value == expected


def test_kernels_compiled_by_different_processes_share_no_symbols(tmp_path):
    """Two of one name in one process would be taken for one, and one loss computed with the other's formula."""
    lines = "import numpy as np, fastloss; x = np.arange(300, dtype=np.float32)\n"
    calls = {"mse": "print(fastloss.mse_loss(x, x[::-1]))", "l1": "print(fastloss.l1_loss(x, x[::-1]))"}
    alone = [run(PACKAGE.parent, tmp_path, lines + call)[0] for call in calls.values()]
    symbols = []
    for name in calls:
        code = b"".join(p.read_bytes() for p in tmp_path.rglob(f"pointwise.{name}_*.nbc"))
        # what follows the counter of the process is left out
        named = re.findall(
            rb"_ZN8fastloss[\w$]*pointwise[\w$]*_span[\w$]*", code
        )  # helpers that know no loss may be alike
        found = {re.split(rb"B\d+v\d+", s)[0] for s in named}
        assert found
        symbols.append(found)
    assert not symbols[0] & symbols[1]
    assert run(PACKAGE.parent, tmp_path, lines + "\n".join(calls.values())) == alone


def test_threads_that_compile_the_same_kernel_at_once(tmp_path):
    """Types have one entry afterwards: with two, every later call may look in Python for a better match, which takes 0.2 ms."""
    check_python(
        """
        import numpy as np, fastloss
        from fastloss.backends.numba_cpu import _jit

        looked = []
        look = _jit._compile_undisturbed
        _jit._compile_undisturbed = lambda *arguments: looked.append(1) or look(*arguments)
        x, labels = np.zeros((150_000, 2), np.float32), np.zeros(150_000, np.int64)
        fastloss.cross_entropy(x, labels)  # on two threads
        n = len(looked)
        for _ in range(5):
            fastloss.cross_entropy(x, labels)
        assert len(looked) == n > 0, (n, len(looked))
        print("fine")
        """,
        FASTLOSS_BACKEND="numba",
        FASTLOSS_NUM_THREADS="2",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
