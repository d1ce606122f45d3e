"""CUDA devices: calls are executed where their arrays are.

Each call is a kernel or two on the caller's stream.  It is waited for only where the host must know something: whether a label was bad or a
value outside the loss's domain, what a gradient of a weighted mean or of a root is divided by, or the result itself if it goes to the host.
`use_wait(False)` leaves the first two to the result: NaN.
"""

from fastloss import _errors
from fastloss.calls import resolve
from fastloss.places.cuda.classes import normalised, rows, scores
from fastloss.places.cuda.comparisons import comparisons
from fastloss.places.cuda.linear import layer
from fastloss.places.cuda.pointwise import elements
from fastloss.places.cuda.session import signature, taken

__all__ = ["KEEPS", "plan", "signature", "taken"]

KEEPS = False  # grids depend on addresses, too


def _refused(resolved):
    """TypeError for what the host alone computes."""
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
    """How a call is executed."""
    return _PLANS[type(resolved)](resolved)
