"""Optional packages, imported where they are needed, with an error that names the extra to install."""

from __future__ import annotations

import functools
import importlib
from typing import Any


def require(module: str, extra: str, purpose: str) -> Any:
    """Import `module`, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs the package {module!r}: pip install 'fastloss[{extra}]'") from None


@functools.cache
def bfloat16() -> Any:
    """The NumPy dtype of bfloat16."""
    return require("ml_dtypes", "bfloat16", "bfloat16").bfloat16
