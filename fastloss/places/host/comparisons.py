"""Plans of `compare`."""

import numpy as np

from fastloss._comparison import Comparison, kinds
from fastloss.places.host.labels import raise_bad_label
from fastloss.places.host.operands import REALS
from fastloss.places.host.rows import RowKernel


def plan_of(resolved, arrays, out):
    """The plan of a `Comparisons` call on logits."""
    return _Comparisons(resolved, arrays)


class _Comparisons:
    def __init__(self, resolved, arrays):
        self.resolved, real = resolved, REALS[resolved.real]
        reference, x, y = arrays[:3]
        self.dtypes = [np.dtype(kind) for kind in kinds(real, y is not None)]
        outs = [(dtype, False) for dtype in self.dtypes]
        casts = (resolved.casts[1], resolved.casts[2], resolved.casts[0])
        self.rows = RowKernel(
            "compare",
            real,
            (x, y, reference),
            casts,
            resolved.axis,
            outs,
            resolved.ignore_index,
            transform=resolved.transform,
        )

    def __call__(self, operands, out, scale):
        resolved = self.resolved
        reference, x, y = operands[:3]
        x, y, reference = self.rows.prepared((x, y, reference))
        if self.rows.compares_first:
            self._raise_bad_label(operands)
        found = tuple([np.empty(resolved.rows_shape, dtype) for dtype in self.dtypes])
        if self.rows.sums(x, y, reference, found)[3] != np.inf:
            self._raise_bad_label(operands)
        return Comparison(*found)

    def _raise_bad_label(self, operands):
        raise_bad_label(operands[2], self.resolved.n_classes, self.resolved.ignore_index)
