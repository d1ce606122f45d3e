"""What importing costs and brings along, and which module may import which."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from subprocesses import check_python

PACKAGE = Path(__file__).parents[1] / "fastloss"

# Lowest first.  A module imports from lower steps alone, or from its own package.
LADDER = (
    ("scalars", "losses", "_dialect", "_version", "_optional", "_schema", "_templates", "_types", "_costs"),
    ("_errors", "_exact", "_branchless", "_order"),
    ("_foreign", "_array_formulas"),
    ("_config", "_arrays", "_reduce", "_threads", "_scores", "_comparison", "_tiles"),
    ("_viewed", "_details"),
    ("backends",),
    ("_plan",),
    ("calls",),
    ("places",),
    ("evaluate",),
    ("own",),
    ("functional",),
    ("grad", "_info", "accumulate"),
    ("_warm", "torch", "sklearn"),
    ("_api",),
    ("bench",),
    ("cli",),
    ("__init__", "__main__"),
)
STEP = {name: step for step, names in enumerate(LADDER) for name in names}


def own_imports(path):
    """First parts of the names imported from this package, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("fastloss."))
            # the bare package is for what stands above it: the command line's and the benchmarks' users' view
            yield from ("__init__" for a in node.names if a.name == "fastloss")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fastloss":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [a.name for a in node.names]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_ladder(path):
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert module in STEP, f"{module} has no step on the ladder"
    for imported in own_imports(path):
        # names of the package itself, such as its functions, come through the top
        step = STEP.get(imported, STEP["__init__"])
        allowed = step < STEP[module] or imported == module or module in ("bench", "cli") and step == STEP["__init__"]
        assert allowed, f"{module} imports {imported}"


# Rooms of the command line, lowest first: a module imports from its own and from lower ones.
ROOMS = (
    ("failure", "interrupt", "argument_types"),
    ("printing", "library"),
    ("files",),
    ("eval.stats",),
    ("eval.plan",),
    ("eval.work",),
    ("eval.show",),
    ("eval", "bench"),
    ("info",),
    ("commands",),
    ("",),
)


def room(module):
    """The room of a module of the command line, and its step."""
    fitting = [
        (name, step) for step, names in enumerate(ROOMS) for name in names if f"{module}.".startswith(f"{name}.")
    ]
    return max(fitting, key=lambda found: len(found[0])) if fitting else ("", len(ROOMS) - 1)


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms(path):
    own_name, own_step = room(".".join(path.relative_to(PACKAGE / "cli").with_suffix("").parts).replace("__init__", ""))
    assert own_name or path == PACKAGE / "cli" / "__init__.py", "the module has no room in ROOMS"
    package = ("fastloss", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join((*base, *([node.module] if node.module else [])))
        if module.split(".")[:2] != ["fastloss", "cli"]:
            continue
        for alias in node.names:
            name, step = room(f"{module}.{alias.name}".removeprefix("fastloss.cli").removeprefix("."))
            assert name == own_name or step < own_step, f"{own_name or 'cli'} imports {module}.{alias.name}"


def test_backends_do_not_import_each_other():
    backends = [p for p in (PACKAGE / "backends").iterdir() if p.name not in ("__init__.py", "__pycache__")]
    names = {p.stem for p in backends}
    for backend in backends:
        for path in backend.rglob("*.py") if backend.is_dir() else [backend]:
            for other in names - {backend.stem}:
                assert f"backends.{other}" not in path.read_text()


def test_import_brings_nothing_heavy():
    code = (
        "import sys, numpy; before = set(sys.modules); import fastloss;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"numba", "llvmlite", "ml_dtypes", "scipy", "torch", "tqdm", "dask", "matplotlib", "argparse", "logging"}
    assert not unwanted & set(loaded)


@pytest.mark.parametrize("module", ["accumulate", "functional", "grad", "losses"])
def test_any_public_module_first(module):
    """As unpickling in another process imports them."""
    code = f"""
        import fastloss.{module}
        assert not hasattr(fastloss, "nowhere") and "mse_loss" in dir(fastloss)
        print("fine")
    """
    check_python(code)


def test_numpy_waits_for_the_first_function():
    code = """
        import sys, fastloss
        assert "numpy" not in sys.modules
        assert set(fastloss.__all__) <= set(dir(fastloss))
        assert callable(fastloss.backends) and callable(fastloss.mse_loss) and callable(fastloss.backends)
        assert "numpy" in sys.modules and fastloss.score is fastloss.functional.score
        try:
            fastloss.nonesuch
        except AttributeError as error:
            assert str(error) == "module 'fastloss' has no attribute 'nonesuch'"
            print("fine")
    """
    check_python(code)


def test_import_time(tmp_path):
    """A fraction of what NumPy's own import takes, from bytecode, which installing writes, and this test to a place of its own."""
    code = (
        "import time; start = time.perf_counter(); import numpy; between = time.perf_counter(); import fastloss;"
        "print(between - start, time.perf_counter() - between)"
    )
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run():
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return [float(seconds) for seconds in done.stdout.split()]

    run()
    # Whatever else the machine does only adds to a time, so the least of several is the import's own.
    numpys, own = (min(seconds) for seconds in zip(*(run() for _ in range(7)), strict=True))
    assert own < 0.6 * numpys
