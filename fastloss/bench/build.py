"""Identifies the build of fastloss that is measured: its folder, and a digest of its sources."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def this_build() -> dict[str, str]:
    """The build that is running."""
    import fastloss

    folder = Path(fastloss.__file__).resolve().parent.parent
    return {"version": fastloss.__version__, "path": str(folder), "digest": digest(folder)}


def digest(folder: Path) -> str:
    """Digest of the sources and extension modules in `folder`; "" if there is no package `fastloss`."""
    if not os.path.isfile(folder / "fastloss" / "__init__.py"):  # False, too, for names that no file can have
        return ""
    found = hashlib.sha256()
    packages = (folder / name for name in ("fastloss", "fastloss_c"))  # the second holds compiled kernels, if any
    kinds = ("*.py", "*.so", "*.pyd")
    for path in sorted(path for package in packages for kind in kinds for path in package.rglob(kind)):
        found.update(str(path.relative_to(folder)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
