"""Optional packages, imported where they are needed, with an error that names the extra to install."""

import importlib


def require(module, extra, purpose):
    """Import `module`, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs the package {module!r}: pip install 'fastloss[{extra}]'") from None


def bfloat16():
    """The NumPy dtype of bfloat16."""
    return require("ml_dtypes", "bfloat16", "bfloat16").bfloat16
