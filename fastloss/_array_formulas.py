"""The formulas of scalars.py on NumPy arrays, in float64."""

import functools

import numpy as np

from fastloss import _branchless

VOCABULARY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "where": np.where,
    "both": np.logical_and,
    "either": np.logical_or,
    "opposite": np.logical_not,
    "equal": np.equal,
    "differ": np.not_equal,
    "type": lambda x: np.float64,
}


@functools.cache
def formulas(text=None):
    """{name: function} for every function of a text, by default scalars.py.  NumPy warns wherever it would."""
    return _branchless.formulas(VOCABULARY, text=text)


def formulas_of_rows():
    """Those of scalars.py that the loss of a row of logits is put together from."""
    return formulas(_branchless.text_of_rows())
