"""Plans of `score`."""

import numpy as np

from fastloss._scores import Scores, is_in_top_k, kinds
from fastloss.places.host import layer_scores
from fastloss.places.host.labels import raise_bad_label
from fastloss.places.host.operands import REALS
from fastloss.places.host.rows import RowKernel


def plan_of(resolved, arrays, out):
    """The plan of a `Scores` call."""
    return layer_scores.plan_of(resolved, arrays) if resolved.from_layer else _Scores(resolved, arrays)


class _Scores:
    def __init__(self, resolved, arrays):
        self.resolved, real = resolved, REALS[resolved.real]
        x, y, _, _ = arrays
        self.dtypes = [np.dtype(kind) for kind in kinds(real, resolved.top_k)[:5]]
        outs = [(dtype, False) for dtype in self.dtypes]
        self.rows = RowKernel(
            "score", real, (x, y, None), (*resolved.casts[:2], None), resolved.axis, outs, resolved.ignore_index
        )

    def __call__(self, operands, out, scale):
        resolved = self.resolved
        x, y, _ = self.rows.prepared((*operands[:2], None))
        if self.rows.compares_first:
            self._raise_bad_label(operands)
        found = tuple([np.empty(resolved.rows_shape, dtype) for dtype in self.dtypes])
        if self.rows.sums(x, y, None, found)[3] != np.inf:
            self._raise_bad_label(operands)
        if resolved.top_k is None:
            return Scores(*found)
        return Scores(*found, is_in_top_k(found[4], resolved.top_k))

    def _raise_bad_label(self, operands):
        raise_bad_label(operands[1], self.resolved.n_classes, self.resolved.ignore_index)
