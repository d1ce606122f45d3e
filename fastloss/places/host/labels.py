"""Class indices: which are to be ignored, what they weigh, and which is the first that is none."""

import numpy as np

from fastloss import _errors
from fastloss._arrays import first_place, pieces
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
    for piece in pieces(target.shape):
        part = target[piece]
        # compared as Python integers would be: no label wraps round
        bad = np.asarray((part < 0) | (part >= n_classes))
        counted = counted_labels(part, ignore_index)
        if counted is not None:
            bad &= counted
        if bad.any():
            position = first_place(piece, bad)
            return position, target[position]
    return None


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
    """The summed weight of the labels that count; raises for bad ones."""
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
    present = counts > 0  # a class that no target has does not count, whatever it weighs
    return float(np.dot(counts[present], w[present].astype(np.float64)))


def wide_labels(y, ignore_index):
    """Good labels as int64 (n_rows,), those to be ignored as -1."""
    labels = np.empty(y.shape, np.int64)
    for piece in pieces(y.shape):
        labels[piece] = y[piece]
        counted = counted_labels(y[piece], ignore_index)
        if counted is not None:
            labels[piece] = np.where(counted, labels[piece], -1)
    return labels.reshape(-1)
