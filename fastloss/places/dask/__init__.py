"""Dask arrays: losses as lazy graphs over their chunks.

`_elements` and `_rows` turn a resolved call into a graph.  `_tasks` are the functions that the graph runs later, which
know nothing of Dask; `_graph` maps them over chunks and merges their results.  Chunks of complete rows go to the host's
own plans.  If the class axis has several chunks, each row has a state, into which its tiles of classes are merged, see
`fastloss._tiles`.
"""

from fastloss.calls import resolve
from fastloss.places.dask._calls import as_arrays, computed, signature
from fastloss.places.dask._elements import elements
from fastloss.places.dask._rows import comparisons, forecasts, layer, normalised, rows, scores

__all__ = ["KEEPS", "as_arrays", "computed", "plan", "repeated", "signature"]

KEEPS = False
repeated = None

_GRAPHS = {
    resolve.Elements: elements,
    resolve.Rows: rows,
    resolve.Layer: layer,
    resolve.Normalised: normalised,
    resolve.Scores: scores,
    resolve.Comparisons: comparisons,
    resolve.Forecasts: forecasts,
}


def plan(resolved, arrays, out):
    """A function that makes the graph of a call."""
    return _GRAPHS[type(resolved)](resolved)
