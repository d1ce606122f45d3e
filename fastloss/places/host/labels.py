"""Class indices: which are to be ignored, what they weigh, and which is the first that is none."""

import numpy as np

from fastloss import _errors
from fastloss.calls.resolve import ignored_label


def kernel_index(dtype, ignore_index):
    """How kernels tell labels of that dtype to be ignored: the dtype that they read them as, an int64, and whether that is not enough.

    Where labels can't be equal to `ignore_index`, kernels get a number that they can't be equal to either.  For int64 there is none, so these
    have to be checked before.
    """
    found = ignored_label(dtype, ignore_index)
    if found is None:
        return dtype, -(2**63), dtype == "int64"
    if found >= 2**63:  # of uint64, as int64 it is as different from the classes
        return "int64", found - 2**64, False
    return dtype, found, False


def first_bad_label(target, n_classes, ignore_index):
    """Position and value of the first label, in C order, that is neither a class nor to be ignored; or None."""
    # compared as Python integers would be: no label wraps round
    bad = (target < 0) | (target >= n_classes)
    counted = counted_labels(target, ignore_index)
    if counted is not None:
        bad &= counted
    if not bad.any():
        return None
    position = np.unravel_index(int(np.argmax(bad)), target.shape)
    return position, target[position]


def raise_bad_label(target, n_classes, ignore_index, name="target"):
    """IndexError for that label, if there is one."""
    found = first_bad_label(target, n_classes, ignore_index)
    if found is not None:
        raise _errors.label_out_of_range(*found, n_classes, ignore_index, name)


def counted_labels(y, ignore_index):
    """Which labels are not to be ignored; None if all count."""
    ignored = ignored_label(y.dtype.name, ignore_index)
    return None if ignored is None else y != ignored


def usable_labels(y, n_classes, ignore_index):
    """Labels as int64 that can be indices, whether each counts, or None if all do, and whether one is bad."""
    bad = (y < 0) | (y >= n_classes)
    counted = counted_labels(y, ignore_index)
    labels = np.where(bad, 0, y).astype(np.int64)
    return labels, counted, bool((bad if counted is None else bad & counted).any())


def weigh_labels(y, n_classes, w, ignore_index):
    """The summed weight of the labels that count; raises for bad ones."""
    raise_bad_label(y, n_classes, ignore_index)
    counted = counted_labels(y, ignore_index)
    labels = y.reshape(-1) if counted is None else y[counted]
    if w is None:
        return float(labels.size)
    counts = np.bincount(labels.astype(np.int64), minlength=n_classes)
    present = counts > 0  # a class that no target has does not count, whatever it weighs
    return float(np.dot(counts[present], w[present].astype(np.float64)))


def wide_labels(y, ignore_index):
    """Good labels as int64 (n_rows,), those to be ignored as -1."""
    labels = y.astype(np.int64).reshape(-1)
    counted = counted_labels(y, ignore_index)
    if counted is not None:
        labels[~counted.reshape(-1)] = -1
    return labels
