"""Sides: what the words for one mean, what is installed for it, and that it is kept."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastloss
from fastloss.bench import bisect, build, environments, report
from fastloss.bench.cases import CASES
from fastloss.bench.environments import SideError, parsed, side
from fastloss.bench.side import Side, this_side
from fastloss.bench.workers import Worker, WorkerError

HERE = Path(fastloss.__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastloss" / "bench"


def words(*given):
    return parsed(given, lambda path: Path(path).read_text())


# --- words --------------------------------------------------------------------------------------------------------------------


def test_words():
    assert words("numba==0.67.*", "numpy>=2.3,<2.4").requirements == ("numba==0.67.*", "numpy>=2.3,<2.4")
    assert words("python=3.12").python == "3.12"
    assert words("FASTLOSS_CPU=avx2", "EMPTY=").environment == (("FASTLOSS_CPU", "avx2"), ("EMPTY", ""))
    assert words("CFLAGS=-O2 -g", "X=1").compilers == (("CFLAGS", "-O2 -g"),)
    found = words(str(HERE), "A=1", "numpy==2.3.*")
    assert (found.build, found.environment, found.requirements) == (str(HERE), (("A", "1"),), ("numpy==2.3.*",))
    assert found.label == f"{HERE} A=1 numpy==2.3.*"


def test_words_that_name_no_side(tmp_path):
    with pytest.raises(SideError, match="names a second build"):
        words(str(HERE), str(HERE))
    for word in ("--help", "no-such-revision", "numpy", "lower=1"):
        with pytest.raises(SideError, match="is not a folder with an installed fastloss, a wheel, a revision"):
            words(word)


def test_variables_and_folders(tmp_path):
    shown = side(["SHOWN=yes", str(HERE)])
    assert shown.variables()["SHOWN"] == "yes" and shown.variables()["PYTHONPATH"].startswith(str(HERE))
    assert side([]) == this_side() and this_side().build == str(HERE)
    with Worker(shown) as worker:
        assert worker.hello["path"] == str(HERE) and worker.hello["versions"]["fastloss"] == fastloss.__version__
        assert worker.ask(do="prepare", case={}, backend=None, threads=1)["error"].startswith("KeyError")
        described = {"case": CASES["mse_loss/value/small"].as_dict(), "backend": None, "threads": 1}
        assert worker.ask(do="prepare", **described)["value"] > 0  # it lives on
    broken = tmp_path / "broken" / "fastloss"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('not today')")
    with pytest.raises(WorkerError, match="its process stopped: RuntimeError: not today"):
        Worker(side([str(broken.parent)]))


def test_figures_name_their_build(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(f'{{"format": {report.FORMAT}, "build": {{"path": "{HERE}", "digest": "{build.digest(HERE)}"}}}}')
    assert side([str(path)]).build == str(HERE)
    path.write_text(path.read_text().replace(build.digest(HERE), "another"))
    with pytest.raises(SideError, match="the build that wrote it is no longer in"):
        side([str(path)])
    for nowhere in ("nowhere", "[" * 5000, "a\0b"):  # names that no file can have among them
        path.write_text(json.dumps({"format": report.FORMAT, "build": {"path": nowhere, "digest": ""}}))
        with pytest.raises(SideError, match="the build that wrote it is no longer in"):
            side([str(path)])
    path.write_text('{"format": 1}')
    with pytest.raises(SideError, match="is not what `fastloss bench --json` of this version writes: format"):
        side([str(path)])


# --- what is installed ---------------------------------------------------------------------------------------------------------


class Installer:
    """Stands for pip: notes what it is asked for, and puts a module there."""

    def __init__(self, monkeypatch):
        self.commands = []
        monkeypatch.setattr(environments, "_run", self)
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "uv" else f"/bin/{name}")

    def __call__(self, command, environment=None):
        self.commands.append((list(command), environment or {}))
        if "--constraint" in command:
            self.constraints = Path(command[command.index("--constraint") + 1]).read_text().split()
        if "--target" in command:
            Path(command[command.index("--target") + 1], "installed.py").touch()


def test_requirements_come_before_what_is_installed(monkeypatch, cache):
    pip, told = Installer(monkeypatch), []
    first = side(["numba==0.67.*"], told.append)
    assert (Path(first.packages) / "installed.py").exists() and Path(first.packages).parent == cache
    path = first.variables()["PYTHONPATH"].split(os.pathsep)
    assert path[:2] == [str(HERE), first.packages] and told == ["installing numba==0.67.*"]
    assert any(pin.startswith("numpy==") for pin in pip.constraints)
    assert not any(pin.startswith("numba==") for pin in pip.constraints)
    assert side(["numba==0.67.*"], told.append) == first and len(pip.commands) == 1  # it is kept
    assert side(["numba==0.66.*"]).packages != first.packages and len(pip.commands) == 2
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_versions_of_numba_keep_their_kernels_apart(monkeypatch, cache):
    Installer(monkeypatch)
    sides = [side(["numba==0.67.*"]), side(["numba==0.66.*"])]
    kept = [Path(each.variables()["NUMBA_CACHE_DIR"]) for each in sides]
    assert kept[0] != kept[1] and all(folder.is_dir() for folder in kept)
    assert side(["numba==0.67.*"]) == sides[0]
    assert side(["numba==0.67.*", f"NUMBA_CACHE_DIR={cache}"]).variables()["NUMBA_CACHE_DIR"] == str(cache)


def test_what_fails_leaves_nothing(monkeypatch, cache):
    def fail(command, environment=None):
        raise SideError("pip: ERROR: no matching distribution")

    monkeypatch.setattr(environments, "_run", fail)
    with pytest.raises(SideError, match="no matching distribution"):
        side(["numba==0.0.1"])
    assert list(cache.iterdir()) == []
    with pytest.raises(SideError, match=r"python=9.9: there is no python9\.9, and no uv|no matching"):
        side(["python=9.9"])
    assert list(cache.iterdir()) == []


def test_uv_where_it_is_there(monkeypatch):
    pip = Installer(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    side(["numba==0.67.*"])
    assert pip.commands[0][0][:4] == ["/bin/uv", "pip", "install", "--quiet"]


def test_compilers_build_anew(monkeypatch):
    pip = Installer(monkeypatch)
    monkeypatch.setattr(environments, "checkout", lambda: HERE)
    built = side(["CFLAGS=-O1"])
    ((command, environment),) = pip.commands
    assert environment == {"CFLAGS": "-O1"} and command[-2:] == ["--no-deps", str(HERE)]
    assert built.build != str(HERE) and built.environment == (("CFLAGS", "-O1"),)


# --- revisions -------------------------------------------------------------------------------------------------------------------

# Copies the package into a wheel, so that nothing has to be downloaded or compiled.
BACKEND = """
import pathlib, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "fastloss-0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for path in pathlib.Path("fastloss").rglob("*.py"):
            wheel.write(path, str(path))
        wheel.writestr("fastloss-0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: fastloss\\nVersion: 0\\n")
        wheel.writestr("fastloss-0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("fastloss-0.dist-info/RECORD", "")
    return name
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A checkout of three commits, the second of which marks itself."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(HERE / "fastloss", folder / "fastloss", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)

    def git(*arguments):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    for number in range(3):
        with open(folder / "fastloss" / "__init__.py", "a") as file:
            file.write(f"\nmark = {number}\n")
        git("add", ".")
        git("commit", "-q", "-m", str(number))
        git("tag", f"v{number}")
    return folder


def test_revisions(repository, monkeypatch, cache):
    pytest.importorskip("pip")
    monkeypatch.setattr(environments, "this_side", lambda: Side("this build", build=str(repository)))
    old = side(["v1"])
    code = "import fastloss; print(fastloss.__file__, fastloss.mark)"
    done = subprocess.run(
        [old.python, "-P", "-c", code], env=old.variables(), capture_output=True, text=True, check=True
    )
    file, mark = done.stdout.split()
    assert mark == "1" and Path(file).is_relative_to(cache)
    assert side([environments.commit("v1")]).build == old.build  # by another name, the same
    found = environments.commits("v0", "main")
    assert found == [environments.commit("v1"), environments.commit("v2")]
    assert bisect.search(found, lambda revision: "slower").suspects == (found[0],)


def test_a_wheel(repository, tmp_path):
    pytest.importorskip("pip")
    code = f"import sys; sys.path.insert(0, '.'); import backend; backend.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert (Path(side([str(wheel)]).build) / "fastloss" / "__init__.py").read_text().endswith("mark = 2\n")
