"""The host: plans that run a backend's kernels over NumPy's arrays."""

from fastloss.calls import resolve
from fastloss.calls.resolve import signature
from fastloss.places.host.elements import plan_of as _elements
from fastloss.places.host.forecasts import plan_of as _forecasts
from fastloss.places.host.layer import plan_of as _layer
from fastloss.places.host.layer_comparisons import plan_of as _comparisons
from fastloss.places.host.normalised import plan_of as _normalised
from fastloss.places.host.operands import as_arrays
from fastloss.places.host.rows import plan_of as _rows
from fastloss.places.host.scores import plan_of as _scores

__all__ = ["KEEPS", "as_arrays", "plan", "repeated", "signature"]

KEEPS = True
repeated = None

_PLANS = {
    resolve.Elements: _elements,
    resolve.Rows: _rows,
    resolve.Layer: _layer,
    resolve.Normalised: _normalised,
    resolve.Scores: _scores,
    resolve.Comparisons: _comparisons,
    resolve.Forecasts: _forecasts,
}


def plan(resolved, arrays, out):
    """A plan that executes calls with arrays of the same dtypes, shapes and strides."""
    return _PLANS[type(resolved)](resolved, arrays, out)
