"""Dask arrays: losses as lazy graphs over their chunks.

`_elements` and `_rows` have a function for each of the host's that evaluate a call, with the same arguments: arguments are checked at
once, by the host, on stand-ins for the arrays; what is computed later are `_tasks`, which know nothing of Dask; `_graph` puts tasks over chunks and
merges what they give.  Chunks of rows go to the host's own functions.  Where the class axis has several chunks, what is known of a row
is a state that tiles of classes are merged into, see `fastloss._tiles`.
"""

from fastloss.dask._calls import computed
from fastloss.dask._elements import pointwise
from fastloss.dask._rows import classes, linear, linear_score, normalise, score

__all__ = ["classes", "computed", "linear", "linear_score", "normalise", "pointwise", "score"]
