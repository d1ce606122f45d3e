"""Fused, numerically stable loss functions for arrays.

The functions carry the names and parameters of ``torch.nn.functional`` and take anything array-like; see the README, or
``help(fastloss.cross_entropy)``.  Importing the package imports neither Numba nor anything optional; NumPy and the
functions are imported when the first of them is accessed, so that the command line answers at once, even to Ctrl-C.
"""

import typing as _typing

# "as" marks these as public to type checkers.
from fastloss._config import use_backend as use_backend
from fastloss._config import use_threads as use_threads
from fastloss._config import use_wait as use_wait
from fastloss._info import backends as backends  # `backends` here is this function, not the subpackage of that name
from fastloss._info import show_config as show_config
from fastloss._version import __version__ as __version__

_MODULES = ("accumulate", "functional", "grad", "losses")
_HERE = ("__version__", "backends", "show_config", "use_backend", "use_threads", "use_wait")

if _typing.TYPE_CHECKING:  # type checkers see every name, and report those that do not exist
    from fastloss._api import *  # noqa: F403
    from fastloss.functional import *  # noqa: F403
else:

    def __getattr__(name):
        from importlib import import_module
        from importlib.util import find_spec

        if name in _MODULES:  # by itself, as one of these may be what asks for another
            return import_module(f"{__name__}.{name}")
        # All other submodules are left to the import statement that names them.
        special = name.startswith("__") and name != "__all__"
        if not special and find_spec(f"{__name__}.{name}") is None:
            from fastloss import _api

            globals().setdefault("__all__", sorted([*_HERE, *_api.__all__]))
            for public in _api.__all__:
                globals().setdefault(public, getattr(_api, public))
        if special or name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
