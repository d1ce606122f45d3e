"""Where the arrays of a call live: on the host, or somewhere that evaluates its own.

A place is a module with the functions that evaluate calls on the host, under the same names and with the same arguments:
``pointwise`` (`_pointwise.evaluate`), ``classes`` (`_classes.evaluate`), ``normalise`` (`_classes.normalise`), ``score``
(`_score.evaluate`), ``linear`` (`_linear.evaluate`) and ``linear_score`` (`_linear_score.evaluate`).  It is imported when the
first of its arrays comes.  ``computed`` gives results that a place has yet to compute, several at once.
"""

import importlib

import numpy as np

# Types whose values are on the host for certain; others are asked.
_HOST = {np.ndarray, np.memmap, list, tuple, int, float, bool, type(None)}

_DASK = "fastloss.dask"


def elsewhere(*values):
    """The place that evaluates a call with these arguments, or None for the host."""
    for value in values:
        if type(value) not in _HOST and is_dask(value):
            return importlib.import_module(_DASK)
    return None


def is_dask(value):
    """Whether that is an array of Dask's; other collections of it are left to `__array__`."""
    return type(value).__module__.startswith("dask.array") and hasattr(value, "__dask_graph__")
