"""Makes sides from the words of a command line: other builds, other packages, another Python, other variables.

What is installed for a side is kept in the user's cache directory, in a folder named after everything it was made from,
and reused.  A folder is made under a temporary name, and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import build, report
from .side import Side, this_side

FORMS = (
    "a folder with an installed fastloss, a wheel, a revision of this checkout, the JSON of a build that is still there, "
    "a requirement such as numba==0.67.*, python=VERSION, or NAME=VALUE for an environment variable"
)

# If one of these variables is set, the build is compiled again.
_OF_COMPILERS = ("CC", "CXX", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS")

# Kept at the installed versions unless they are what is changed; other dependencies may change with a requirement.
_KEPT = ("numpy", "numba", "scipy", "dask", "ml_dtypes")

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?\s*(==|>=|<=|~=|!=|<|>)\s*\S+")
_VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)


class SideError(ValueError):
    """There is no such side, or it can't be installed."""


@dataclass(frozen=True)
class Words:
    """The words for one side, sorted by meaning."""

    label: str
    build: str = ""  # a folder
    wheel: str = ""
    revision: str = ""
    python: str = ""
    requirements: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def compilers(self) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in self.environment if pair[0] in _OF_COMPILERS)


def parsed(words: Sequence[str], read: Callable[[str], str]) -> Words:
    """Sort the words for one side; `read` returns the text of a file.

    Raises
    ------
    SideError
        If a word has none of the `FORMS`, or there are two builds.
    """
    found = Words(" ".join(words))
    for word in words:
        if python := re.fullmatch(r"python=(\S+)", word):
            found = replace(found, python=python[1])
        elif _REQUIREMENT.fullmatch(word):
            found = replace(found, requirements=(*found.requirements, word))
        elif variable := _VARIABLE.fullmatch(word):
            found = replace(found, environment=(*found.environment, (variable[1], variable[2])))
        else:
            if found.build or found.wheel or found.revision:
                raise SideError(f"{word!r} names a second build")
            if os.path.isdir(word):
                if not (Path(word) / "fastloss" / "__init__.py").is_file():
                    raise SideError(f"{word}: there is no package fastloss in this directory")
                found = replace(found, build=word)
            elif word.endswith(".json"):
                found = replace(found, build=_build_of(word, read(word)))
            elif word.endswith(".whl"):
                if not os.path.isfile(word):
                    raise SideError(f"{word}: no such file")
                found = replace(found, wheel=word)
            else:
                found = replace(found, revision=commit(word))
    return found


def _build_of(figures: str, text: str) -> str:
    """The folder of the build that wrote these figures.

    The figures themselves are not used: the speed of a machine changes more from hour to hour than the slowdowns we
    look for.
    """
    try:
        named = report.read(text)["build"]
    except ValueError as error:
        raise SideError(f"{figures}: {error}") from None
    if build.digest(Path(named["path"])) not in {named["digest"]} - {""}:
        raise SideError(
            f"{figures}: the build that wrote it is no longer in {named['path']}; name its revision or a wheel"
        )
    return named["path"]


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def side(
    words: Sequence[str], say: Callable[[str], None] = lambda text: None, read: Callable[[str], str] = _text
) -> Side:
    """The side that the words describe, installed if necessary; without words this build.

    Raises
    ------
    SideError
        If there is no such side, or it cannot be installed.
    """
    if not words:
        return this_side()
    asked = parsed(words, read)
    python = _python(asked, say) if asked.python else sys.executable
    folder = asked.build
    if asked.wheel or asked.revision or asked.compilers or asked.python:
        folder = folder or _installed_build(asked, python, say)
    packages = _packages(asked, python, say) if asked.requirements else ""
    kernels = (("NUMBA_CACHE_DIR", _kernels(python, packages)),) if packages else ()
    folder = str(Path(folder or this_side().build).resolve())
    return Side(asked.label, python, folder, packages, (*kernels, *asked.environment))


# --- builds -----------------------------------------------------------------------------------------------------------


def checkout() -> Path:
    """The checkout that contains this build, or otherwise the one that contains the current directory.

    Raises
    ------
    SideError
        If there is none.
    """
    for folder in (this_side().build, os.getcwd()):
        done = _git("-C", folder, "rev-parse", "--show-toplevel")
        if done.returncode == 0 and (Path(done.stdout.strip()) / "fastloss").is_dir():
            return Path(done.stdout.strip())
    raise SideError("neither this build nor the current directory lies in a checkout of fastloss")


def commit(revision: str) -> str:
    """The full name of a commit of the checkout."""
    refused = f"{revision!r} is not {FORMS}"
    if revision.startswith("-"):
        raise SideError(refused)
    try:
        done = _git("-C", str(checkout()), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except SideError as error:
        raise SideError(f"{refused}; {error}") from None
    if done.returncode:
        raise SideError(refused)
    return done.stdout.strip()


def commits(good: str, bad: str) -> list[str]:
    """The commits after `good` up to `bad`, oldest first, along first parents."""
    done = _git("-C", str(checkout()), "rev-list", "--reverse", "--first-parent", f"{commit(good)}..{commit(bad)}")
    return done.stdout.split()


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SideError("git is not installed") from None


def _installed_build(asked: Words, python: str, say: Callable[[str], None]) -> str:
    """A folder with fastloss from a wheel or from sources, without its dependencies."""
    if asked.wheel:
        made_from = hashlib.sha256(Path(asked.wheel).read_bytes()).hexdigest()
    else:
        made_from = asked.revision or _digest_of(checkout())
    with _cached("build", python, made_from, *asked.compilers) as folder:
        if folder.fresh is not None:
            say(f"installing fastloss of {asked.label}")
            with tempfile.TemporaryDirectory() as sources:
                if asked.revision:
                    _extract(asked.revision, sources)
                source = asked.wheel or (sources if asked.revision else str(checkout()))
                _install(python, folder.fresh, ["--no-deps", source], dict(asked.compilers))
    return str(folder.path)


def _extract(revision: str, folder: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(checkout()), "archive", "--format=tar", revision], capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _digest_of(folder: Path) -> str:
    """Digest of the sources in a folder, committed or not."""
    digest = hashlib.sha256()
    for path in sorted(path for name in ("fastloss", "fastloss_c") for path in (folder / name).rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxi", ".h"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


# --- packages and interpreters ----------------------------------------------------------------------------------------


def _packages(asked: Words, python: str, say: Callable[[str], None]) -> str:
    """A folder with the requested packages and their dependencies."""
    constraints = _constraints(asked.requirements)
    with _cached("packages", python, *asked.requirements, *constraints) as folder:
        if folder.fresh is not None:
            say(f"installing {' '.join(asked.requirements)}")
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "constraints.txt"
                file.write_text("\n".join(constraints))
                _install(python, folder.fresh, [*asked.requirements, "--constraint", str(file)])
    return str(folder.path)


def _kernels(python: str, packages: str) -> str:
    """A folder for what Numba compiles with these packages.

    Numba discards what another version has compiled: if two sides shared a folder, each process would compile
    everything anew.
    """
    with _cached("kernels", python, packages) as folder:
        pass
    return str(folder.path)


def _constraints(requirements: Sequence[str]) -> list[str]:
    """Constraints that keep the other important packages at their versions, so that only one thing changes."""
    changed = {_REQUIREMENT.fullmatch(each)[1].lower().replace("-", "_") for each in requirements}  # type: ignore[index]
    found = []
    for name in _KEPT:
        if name not in changed:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.append(f"{name}=={importlib.metadata.version(name)}")
    return found


def _python(asked: Words, say: Callable[[str], None]) -> str:
    """An interpreter in a new environment, with the same versions of NumPy and Numba as here."""
    versions = _constraints([])
    with _cached("python", asked.python, *versions) as folder:
        if folder.fresh is not None:
            say(f"making an environment of Python {asked.python}")
            uv = shutil.which("uv")
            if uv:
                _run([uv, "venv", "--quiet", "--python", asked.python, str(folder.fresh)])
            else:
                name = asked.python if os.path.isabs(asked.python) else f"python{asked.python}"
                if shutil.which(name) is None:
                    raise SideError(f"python={asked.python}: there is no {name}, and no uv to install it")
                _run([name, "-m", "venv", str(folder.fresh)])
            needed = [each for each in versions if each.startswith(("numpy=", "numba="))]
            _install(str(folder.fresh / "bin" / "python"), None, needed)
    return str(folder.path / "bin" / "python")


def _install(python: str, target: Path | None, what: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Install with uv if it is available, otherwise with pip."""
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "--quiet", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
    into = [] if target is None else ["--target", str(target)]
    _run([*command, *into, *what], environment)


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    own = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **(environment or {})}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**variables, **own})
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        raise SideError(f"{Path(command[0]).name}: {errors[0] if errors else f'exit code {done.returncode}'}")


# --- the cache --------------------------------------------------------------------------------------------------------


@dataclass
class _Folder:
    path: Path
    fresh: Path | None  # where to make it; None where it is there already


@contextlib.contextmanager
def _cached(kind: str, *made_from: object) -> Iterator[_Folder]:
    """The cached folder for exactly these inputs, or a new one, which is put in place if the block ends without an
    error."""
    key = hashlib.sha256(repr((kind, sys.version, made_from)).encode()).hexdigest()[:20]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastloss" / "bench"
    path = home / f"{kind}-{key}"
    if path.is_dir():
        yield _Folder(path, None)
        return
    home.mkdir(parents=True, exist_ok=True)
    # environments contain their own path, so they are made in place
    fresh = path if kind == "python" else Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=home))
    try:
        yield _Folder(path, fresh)
        if fresh != path:
            with contextlib.suppress(OSError):  # another process was first
                fresh.rename(path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if fresh != path:
        shutil.rmtree(fresh, ignore_errors=True)
