"""Fused, numerically stable loss functions for arrays.

The functions carry the names and parameters of ``torch.nn.functional`` and take anything array-like; see the README, or
``help(fastloss.cross_entropy)``.  Importing the package imports neither Numba nor anything optional.
"""

from fastloss._config import use_backend, use_threads, use_wait
from fastloss._info import backends, show_config
from fastloss._scores import Scores
from fastloss._version import __version__
from fastloss.accumulate import Accumulator
from fastloss.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    categorical_cross_entropy,
    cross_entropy,
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    linear_cross_entropy,
    log_cosh_loss,
    log_softmax,
    logsumexp,
    mse_loss,
    msle_loss,
    nll_loss,
    poisson_nll_loss,
    quantile_loss,
    rmse_loss,
    score,
    smooth_l1_loss,
    softmax,
)
from fastloss.grad import value_and_grad

__all__ = [
    "Accumulator",
    "Scores",
    "__version__",
    "backends",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "cross_entropy",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "log_cosh_loss",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "msle_loss",
    "nll_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "rmse_loss",
    "score",
    "show_config",
    "smooth_l1_loss",
    "softmax",
    "use_backend",
    "use_threads",
    "use_wait",
    "value_and_grad",
]
