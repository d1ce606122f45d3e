"""Builds this folder's CUDA driver, and the environment of processes in which Numba finds it."""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
KEPT = 14 * 24 * 3600  # seconds for which compiled kernels are kept after their last use


def reason_missing():
    """None if kernels can be executed, otherwise what is missing."""
    import importlib.util

    if all(importlib.util.find_spec(name) is None for name in ("numba_cuda", "numba_cuda_mlir")):
        return "numba-cuda, of the extra 'cuda', is missing"
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return "the driver is for Linux on x86-64"
    if shutil.which("gcc") is None:
        return "the driver has to be compiled, with gcc"
    if " fma " not in Path("/proc/cpuinfo").read_text():
        return "the processor has no fused multiply-add"
    return None


@functools.cache
def _version():
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.c"), *HERE.glob("*.h"), *HERE.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def folder():
    """The folder of the driver and of what it has compiled: in Numba's cache, or among the system's temporary files."""
    above = os.environ.get("NUMBA_CACHE_DIR") or Path(tempfile.gettempdir(), f"fastloss-{os.getuid()}")
    made = Path(above, "ptx")
    made.mkdir(parents=True, exist_ok=True)
    return made


@functools.cache
def built():
    """The folder of the libraries `libcuda.so.1` and `libnvJitLink.so.13`, which are built if necessary."""
    libraries = folder() / f"driver-{_version()}"
    if libraries.exists():
        return libraries
    _prune()
    with tempfile.TemporaryDirectory(dir=folder()) as partial:
        cuda, linker = Path(partial, "libcuda.so.1"), Path(partial, "libnvJitLink.so.13")
        texts = {
            "VERSION": _version(),
            "TRANSLATE": f"'{sys.executable}' -I '{HERE / 'translate.py'}'",
            "OWN": f"'{libraries / 'libcuda.so.1'}'",
        }
        definitions = [f'-D{name}="{text}"' for name, text in texts.items()]
        sources = [HERE / name for name in ("driver.c", "launch.c", "memory.c", "counts.c")]
        command = ["gcc", "-O2", "-fPIC", "-shared", *definitions, "-pthread"]
        _run([*command, "-Wl,-soname,libcuda.so.1", "-o", cuda, *sources, "-ldl", "-lm"])
        _run(["gcc", "-fPIC", "-shared", "-Wl,-soname,libnvJitLink.so.13", "-o", linker, HERE / "nvjitlink.c"])
        try:
            os.rename(partial, libraries)
        except OSError:  # another process was faster
            pass
        os.makedirs(partial, exist_ok=True)  # for the context, which deletes it
    return libraries


def _run(command):
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def _prune():
    now = time.time()
    for path in folder().iterdir():
        if now - path.stat().st_mtime > KEPT:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def environment(**settings):
    """The environment of a process that uses this driver; it has a Numba cache of its own, which contains PTX instead
    of machine code."""
    libraries = built()
    given = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_LIBRARY_PATH": f"{libraries}:{given}" if given else str(libraries),
        "LD_PRELOAD": str(libraries / "libnvJitLink.so.13"),
        "NUMBA_CACHE_DIR": str(folder() / "numba"),
        "DRIVER_CACHE": str(folder()),
        **settings,
    }


def main():
    """``python machine.py COMMAND ...``: run a command in such an environment."""
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)
    os.execvpe(sys.argv[1], sys.argv[1:], {**os.environ, **environment()})


if __name__ == "__main__":
    main()
