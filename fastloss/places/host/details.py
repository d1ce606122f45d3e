"""Details of rows, see `fastloss._details`: from all classes at once, and from some at a time."""

import numpy as np

from fastloss import _details
from fastloss.backends import HEAVIEST
from fastloss.places.host.labels import wide_labels
from fastloss.places.host.rows import RowKernel


def n_first(top, n_classes):
    """How many of a row's first elements kernels find."""
    return max(1, min(max(top or 0, HEAVIEST), n_classes))


def kernel_of(x, y, casts, axis, real, m, ignore_index=-1, rank=False):
    """A kernel that finds details of rows, and the ranks of targets."""
    outs = [
        (np.dtype(np.float64), 3),
        (np.dtype(np.int64), m),
        (real, m),
        (np.dtype(np.int64), False) if rank else None,
    ]
    return RowKernel("detail", real, (x, y, None), (*casts, None), axis, outs, ignore_index, m=m)


def room_for(shape, m, real):
    """Arrays for the states of rows, and the classes and values of their first elements."""
    return np.empty((*shape, 3)), np.empty((*shape, m), np.int64), np.empty((*shape, m), real)


class Gathered:
    """Details of rows (n_rows, n_classes), collected from some classes at a time.

    m : how many first elements are kept.  ids : int64 (n_rows, k), or None.
    """

    def __init__(self, n_rows, m, real, ids=None):
        self.m, self.real, self.ids = m, real, ids
        self.state = np.zeros((n_rows, 3))
        self.state[:, _details.TOP] = -np.inf
        self.places, self.values = np.empty((n_rows, 0), np.int64), np.empty((n_rows, 0), real)
        self.chosen = None if ids is None else np.zeros(ids.shape, real)

    def take(self, x, start):
        """Add the classes from `start` on: x is (n_rows, some classes)."""
        m = n_first(self.m, x.shape[1])
        state, places, values = room_for(x.shape[:1], m, self.real)
        kernel_of(x, None, (None, None), 1, self.real, m).sums(x, None, None, (state, places, values, None))
        self.join(state, places + start, values)
        if self.ids is not None:
            rows, columns = np.nonzero((self.ids >= start) & (self.ids < start + x.shape[1]))
            self.chosen[rows, columns] = x[rows, self.ids[rows, columns] - start]

    def join(self, state, places, values):
        """Add what was found in some classes."""
        self.state = _details.merged(self.state, state)
        values, places = np.concatenate([self.values, values], 1), np.concatenate([self.places, places], 1)
        self.values, self.places = _details.first_of(values, places, self.m)


def wide_ids(ids, ignore_index):
    """Valid ids as int64, ignored ones as -1."""
    return wide_labels(ids, ignore_index).reshape(ids.shape)
