"""CUDA devices: calls are executed where their arrays are.

Each call launches one or two kernels on the caller's stream.  The host waits for them only if it must know something:
whether a label was bad or a value outside the loss's domain, what the gradient of a weighted mean or of a root is
divided by, or the result itself if that goes to the host.  With `use_wait(False)` it does not check labels and values;
the result is NaN instead.
"""

from fastloss import _errors
from fastloss.calls import resolve
from fastloss.places.cuda.classes import normalised, rows, scores
from fastloss.places.cuda.comparisons import comparisons
from fastloss.places.cuda.linear import layer
from fastloss.places.cuda.pointwise import elements
from fastloss.places.cuda.repeats import repeated
from fastloss.places.cuda.session import as_arrays, signature

__all__ = ["KEEPS", "as_arrays", "plan", "repeated", "signature"]

KEEPS = False  # a plan allocates and decides anew: `repeats` keeps what it has come to


def _refused(resolved):
    """A plan that raises TypeError, for what only the host computes."""
    raise _errors.not_on_device(resolved.function.name)


_PLANS = {
    resolve.Elements: elements,
    resolve.Rows: rows,
    resolve.Layer: layer,
    resolve.Normalised: normalised,
    resolve.Scores: scores,
    resolve.Comparisons: comparisons,
    resolve.Forecasts: _refused,
}


def plan(resolved, operands, out):
    """A function that executes a call."""
    return _PLANS[type(resolved)](resolved)
