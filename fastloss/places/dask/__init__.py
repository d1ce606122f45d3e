"""Dask arrays: losses as lazy graphs over their chunks.

`_elements` and `_rows` turn what a call was resolved to into a graph.  What is computed later are `_tasks`, which know nothing of Dask; `_graph`
puts tasks over chunks and merges what they give.  Chunks of whole rows go to the host's own plans.  Where the class axis has several chunks, what
is known of a row is a state that tiles of classes are merged into, see `fastloss._tiles`.
"""

from fastloss.calls import resolve
from fastloss.places.dask._calls import computed, signature, taken
from fastloss.places.dask._elements import elements
from fastloss.places.dask._rows import comparisons, forecasts, layer, normalised, rows, scores

__all__ = ["KEEPS", "computed", "plan", "signature", "taken"]

KEEPS = False

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
    """What makes the graph of a call."""
    return _GRAPHS[type(resolved)](resolved)
