"""Which backends, versions and settings are in use, and why: for bug reports and for the curious."""

from __future__ import annotations

import os
from typing import Any, TextIO

from fastloss import _config, _plan
from fastloss._version import __version__
from fastloss.backends import load


def backends() -> dict[str, str]:
    """{backend: "available", or why it is not}.

    Returns
    -------
    dict
        In the order in which ``auto`` tries them on the host; "cuda", which is for arrays on a GPU, comes last.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.backends()["numpy"]
    'available'
    """
    return {name: load(name).available() or "available" for name in (*_plan.AUTO_ORDER, "cuda")}


def backend_in_use() -> str:
    """The name of the backend that computes arrays on the host."""
    name: str = _config.backend.get()
    return _plan.automatic() if name == "auto" else name


def configuration() -> dict[str, Any]:
    """Versions, settings and backends as plain data."""
    import importlib.metadata  # these two imports take longer than the rest of the package
    import platform

    versions: dict[str, str | None] = {}
    for package in ("numpy", "numba", "llvmlite", "numba-cuda", "numba-cuda-mlir", "ml_dtypes"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "fastloss": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": versions,
        "backend": _config.backend.get(),
        "backend_in_use": backend_in_use(),
        "backends": backends(),
        "threads": _config.threads.get(),
        "cpus": _config.cpu_count(),
        "instruction_set": None if load("cython").available() else load("cython").instruction_set(),
        "cache": os.environ.get("NUMBA_CACHE_DIR")
        or "beside the package, or in the user's cache directory if read-only",
    }


def show_config(file: TextIO | None = None) -> None:
    """Print versions, backends and settings.

    Parameters
    ----------
    file : text file, optional
        Where to print; standard output if None.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.show_config()  # doctest: +ELLIPSIS
    fastloss ...
    """
    config = configuration()
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in config["packages"].items())
    lines = [
        f"fastloss {config['fastloss']} on Python {config['python']}, {config['platform']}",
        f"packages: {packages}",
        f"backend: {config['backend']}, in use: {config['backend_in_use']}",
        *(f"  {name}: {status}" for name, status in config["backends"].items()),
        f"instruction set of cython: {config['instruction_set']}",
        f"threads: {config['threads']} of {config['cpus']} CPUs",
        f"compiled kernels: {config['cache']}",
    ]
    print("\n".join(lines), file=file)
