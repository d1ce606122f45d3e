"""Class indices: which are ignored, their weights, and the first invalid one."""

import numpy as np

from fastloss import _errors
from fastloss._arrays import first_place, pieces
from fastloss.calls.resolve import ignored_label


def kernel_index(dtype, ignore_index):
    """How kernels recognise ignored labels: (dtype they read labels as, int64 to compare with, whether labels must be
    checked before).

    If labels of this dtype can't equal `ignore_index`, kernels get a number that they can't equal either.  For int64
    there is no such number, so the labels have to be checked before.
    """
    found = ignored_label(dtype, ignore_index)
    if found is None:
        return dtype, -(2**63), dtype == "int64"
    if found >= 2**63:  # for uint64: reinterpreted as int64 it still differs from all classes
        return "int64", found - 2**64, False
    return dtype, found, False


def first_bad_label(target, n_classes, ignore_index):
    """Position and value of the first label, in C order, that is neither a class nor to be ignored; or None."""
    for piece in pieces(target.shape):
        part = target[piece]
        # compared like Python integers: no label wraps around
        bad = np.asarray((part < 0) | (part >= n_classes))
        counted = counted_labels(part, ignore_index)
        if counted is not None:
            bad &= counted
        if bad.any():
            position = first_place(piece, bad)
            return position, target[position]
    return None


def raise_bad_label(target, n_classes, ignore_index, name="target"):
    """Raise IndexError for that label, if there is one."""
    found = first_bad_label(target, n_classes, ignore_index)
    if found is not None:
        raise _errors.label_out_of_range(*found, n_classes, ignore_index, name)


def counted_labels(y, ignore_index):
    """Which labels are not ignored; None if none is."""
    ignored = ignored_label(y.dtype.name, ignore_index)
    return None if ignored is None else y != ignored


def usable_labels(y, n_classes, ignore_index):
    """(labels as int64 that are valid indices, perhaps the same array; which are not ignored or None if all are not; whether any is
    bad)."""
    if y.size and 0 <= y.min() and y.max() < n_classes and not 0 <= ignore_index < n_classes:
        return y.astype(np.int64, copy=False), None, False
    labels, all_counted, any_bad = np.empty(y.shape, np.int64), None, False
    if ignored_label(y.dtype.name, ignore_index) is not None:
        all_counted = np.empty(y.shape, bool)
    for piece in pieces(y.shape):
        part = y[piece]
        bad = (part < 0) | (part >= n_classes)
        labels[piece] = np.where(bad, 0, part)
        if all_counted is not None:
            all_counted[piece] = counted = counted_labels(part, ignore_index)
            bad = bad & counted
        any_bad = any_bad or bool(bad.any())
    return labels, all_counted, any_bad


def weigh_labels(y, n_classes, w, ignore_index):
    """The summed weight of the labels that are not ignored; raises for bad ones."""
    raise_bad_label(y, n_classes, ignore_index)
    counts = np.zeros(1 if w is None else n_classes, np.int64)
    for piece in pieces(y.shape):
        part = np.asarray(y[piece])
        counted = counted_labels(part, ignore_index)
        if w is None:
            counts[0] += part.size if counted is None else np.count_nonzero(counted)
        else:
            labels = part.reshape(-1) if counted is None else part[counted]
            counts += np.bincount(labels.astype(np.int64), minlength=n_classes)
    if w is None:
        return float(counts[0])
    present = counts > 0  # the weight of a class that no target has does not matter, even if it is NaN
    return float(np.dot(counts[present], w[present].astype(np.float64)))


def wide_labels(y, ignore_index):
    """Valid labels as int64 (n_rows,), ignored ones as -1."""
    labels = np.empty(y.shape, np.int64)
    for piece in pieces(y.shape):
        labels[piece] = y[piece]
        counted = counted_labels(y[piece], ignore_index)
        if counted is not None:
            labels[piece] = np.where(counted, labels[piece], -1)
    return labels.reshape(-1)
