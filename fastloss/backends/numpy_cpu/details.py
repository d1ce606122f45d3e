"""Details of rows, see `fastloss._details`; the arguments are those of the compiled kernel."""

import numpy as np

from fastloss._details import TOP, S, W, first_of
from fastloss._order import n_before
from fastloss.backends.numpy_cpu._widen import quietly
from fastloss.backends.numpy_cpu.softmax import (
    Batch,
    as_rows,
    begin,
    column_batches,
    labels_of,
    note,
    row_batches,
    scaled,
)


def _first(x, m):
    """(the first m elements of each row (n_rows, n_classes), their classes)."""
    level = np.partition(x, x.shape[1] - m, axis=1)[:, x.shape[1] - m, None]  # NaN sorts last
    missing, none = np.isnan(x), np.isnan(level)
    ahead = (x > level) | missing & ~none
    equal = (x == level) | missing & none
    left = m - np.count_nonzero(ahead, axis=1, keepdims=True)
    taken = ahead | equal & (np.cumsum(equal, axis=1) <= left)
    places = np.nonzero(taken)[1].reshape(len(x), m)
    return first_of(np.take_along_axis(x, places, 1), places, m)


@quietly
def _detail(batches, x, target, ignore_index, m, first, last, partials, state, places, values, rank):
    begin(partials, first, last)
    for b, i, rows in batches:
        batch = Batch(x[i, rows])
        values[i, rows], places[i, rows] = _first(batch.x, m)
        state[i, rows, TOP] = batch.top[:, 0]
        state[i, rows, S] = batch.rest[:, 0]
        spread = np.sum(scaled(batch.powers, batch.top - batch.x), axis=1)
        state[i, rows, W] = np.where(np.isinf(batch.top[:, 0]), np.nan, spread)
        if target is not None:
            counted, bad, labels = labels_of(target[i, rows], x.shape[2], ignore_index)
            note(partials, b, counted, counted, counted, bad, i * x.shape[1] + rows.start)
            if rank is not None:
                own = batch.x[batch.every, labels]
                rank[i, rows] = np.where(counted, n_before(batch.x, np.arange(x.shape[2]), own, labels), -1)


def detail_rows(x, target, ignore_index, m, block, first, last, *outs):
    _detail(row_batches(x, block, first, last), x, target, ignore_index, m, first, last, *outs)


def detail_columns(x, target, ignore_index, m, block, first, last, *outs):
    _detail(column_batches(x, block, first, last), as_rows(x), target, ignore_index, m, first, last, *outs)


KERNELS = {f.__name__: f for f in (detail_rows, detail_columns)}
