"""Which build of fastloss is measured: where it lies, and a digest of its sources."""

from __future__ import annotations

import hashlib
from pathlib import Path


def this_build() -> dict[str, str]:
    """The build that is running."""
    import fastloss

    folder = Path(fastloss.__file__).resolve().parent.parent
    return {"version": fastloss.__version__, "path": str(folder), "digest": digest(folder)}


def digest(folder: Path) -> str:
    """Of the sources and extension modules of the package `fastloss` in `folder`; "" where there is none."""
    package = folder / "fastloss"
    if not (package / "__init__.py").is_file():
        return ""
    found = hashlib.sha256()
    for path in sorted(path for pattern in ("*.py", "*.so", "*.pyd") for path in package.rglob(pattern)):
        found.update(str(path.relative_to(package)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
