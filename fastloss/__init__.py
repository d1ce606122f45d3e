"""Fused, numerically stable loss functions for arrays.

The functions carry the names and parameters of ``torch.nn.functional`` and take anything array-like; see the README, or
``help(fastloss.cross_entropy)``.  Importing the package imports neither Numba nor anything optional.
"""

from fastloss._config import use_backend, use_threads, use_wait
from fastloss._info import backends, show_config
from fastloss._scores import Scores
from fastloss._version import __version__
from fastloss.accumulate import Accumulator
from fastloss.functional import *  # noqa: F403  (the functions of the table, see its __all__)
from fastloss.functional import __all__ as _functions
from fastloss.grad import value_and_grad

__all__ = [
    "Accumulator",
    "Scores",
    "__version__",
    "backends",
    "show_config",
    "use_backend",
    "use_threads",
    "use_wait",
    "value_and_grad",
    *_functions,
]
