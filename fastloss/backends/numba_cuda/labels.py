"""Class labels, and kernels that read only labels, or labels and the elements they select."""

import math

import numpy as np

from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._settle import NO_BAD, TOTALS, WEIGHT
from fastloss.backends.numba_cuda._softmax import GRADIENT
from fastloss.backends.numba_cuda._target import block, log, n_blocks, quotient, read_label, thread

INF, NAN = math.inf, math.nan

Real = THREADS = SECOND = None  # holes
read = read_weight = read_sum = write_loss = None  # holes: memory
settle = scaled = None  # holes: `_settle` and a formula


def place_of(row, middle):
    """(outer, inner) index of a row."""
    if row < middle:
        return np.int64(0), row
    outer = quotient(row, middle)
    return outer, row - outer * middle


def label_of(y, offset, kind, ignore, n_classes):
    """(label, whether it is not ignored, whether it is bad)."""
    label = read_label(y, offset, kind)
    counts = label >= 0 and label < n_classes and label != ignore
    return label, counts, not counts and label != ignore


def weigh(y, y_outer, y_row, kind, w, ignore, middle, n_rows, n_classes, ws, weights):
    """Sum the weights of labels that are not ignored, to TOTALS; unless `weights` is 0, write each row's weight there,
    0 if ignored."""
    sums = cuda.shared.array((THREADS, 4), np.float64)
    weight, count, bad = 0.0, 0.0, NO_BAD
    row = block() * THREADS + thread()
    while row < n_rows:
        outer, inner = place_of(row, middle)
        label, counts, is_bad = label_of(y, outer * y_outer + inner * y_row, kind, ignore, n_classes)
        own = 0.0
        if counts:
            own = np.float64(read_weight(w, label)) if w != 0 else 1.0
            weight += own
            count += 1.0
        if weights != 0:
            write_loss(weights, row, Real(own))
        if is_bad:
            bad = np.float64(row) if np.float64(row) < bad else bad
        row += n_blocks() * THREADS
    settle(sums, 0.0, weight, count, bad, ws, 0, 0, 1.0, 1.0, 0.0)


def place(
    y, y_outer, y_row, kind, ignore, middle, n_rows, n_classes,
    values,  # IN (n_rows,) Real
    out, out_outer, out_row, out_class,
):  # fmt: skip
    """out[row, label] = values[row] for labels that are not ignored."""
    row = block() * THREADS + thread()
    while row < n_rows:
        outer, inner = place_of(row, middle)
        label, counts, _ = label_of(y, outer * y_outer + inner * y_row, kind, ignore, n_classes)
        if counts:
            write_loss(out, outer * out_outer + inner * out_row + label * out_class, Real(read(values, row)))
        row += n_blocks() * THREADS


def gather(
    x, x_outer, x_row, x_class, y, y_outer, y_row, kind, w, ignore, take_log, middle, n_rows, n_classes,
    losses, out, out_outer, out_row, out_class, scale, by_weight, ws, value, mode,
):  # fmt: skip
    """Negative log-likelihood from the elements that labels select: -x, or -log x for probabilities; slopes to an `out`
    of zeros."""
    sums = cuda.shared.array((THREADS, 4), np.float64)
    if SECOND == GRADIENT and by_weight:
        scale = scale / read_sum(ws, TOTALS + WEIGHT)
    loss_sum, weight_sum, count, bad = 0.0, 0.0, 0.0, NO_BAD
    row = block() * THREADS + thread()
    while row < n_rows:
        outer, inner = place_of(row, middle)
        label, counts, is_bad = label_of(y, outer * y_outer + inner * y_row, kind, ignore, n_classes)
        loss = NAN if is_bad else 0.0
        if counts:
            v = np.float64(read(x, outer * x_outer + inner * x_row + label * x_class))
            slope = -1.0
            if take_log:
                slope = -1.0 / v if v != 0.0 else -INF
                v = (log(v) if v > 0.0 else -INF if v == 0.0 else NAN) if v <= 1.0 else NAN
            weight = np.float64(read_weight(w, label)) if w != 0 else 1.0
            loss = scaled(weight, -v)
            loss_sum += loss
            weight_sum += weight
            count += 1.0
            if SECOND == GRADIENT:
                at = outer * out_outer + inner * out_row + label * out_class
                write_loss(out, at, Real(scaled(weight * scale, slope)))
        if is_bad:
            bad = np.float64(row) if np.float64(row) < bad else bad
        if losses != 0:
            write_loss(losses, row, Real(loss))
        row += n_blocks() * THREADS
    settle(sums, loss_sum, weight_sum, count, bad, ws, value, mode, 1.0, 1.0, 0.0)
