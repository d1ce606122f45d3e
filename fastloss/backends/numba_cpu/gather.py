"""Kernels that read one element per row: negative log-likelihood from log-probabilities or probabilities."""

import numpy as np

from fastloss.backends.numba_cpu._jit import across, specialise
from fastloss.backends.numba_cpu._load import load, smaller, weight
from fastloss.backends.numba_cpu._math import log
from fastloss.backends.numba_cpu._softmax import NAN, count, is_class, is_ignored, note_bad, put, scaled, start_block
from fastloss.backends.numba_cpu.probabilities import never, rows_beyond

Real = some_beyond = None  # holes


def gather_index(
    x,  # IN (outer, n_classes, inner)
    target,  # IN (outer, inner) any integer dtype
    w,  # IN (n_classes,) float64, or None
    ignore_index,
    take_log,  # IN whether x holds probabilities: the loss is -log x, and x outside [0, 1] gives NaN
    scale,  # IN factor of the gradient
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4)
    out,  # OUT (outer, inner) losses, or None
    gradient,  # OUT like x, or None
):
    """-x[target] or -log x[target], weighted by class; of probabilities, all are checked first, but not if there is a gradient, before
    which that has been done."""
    outer, n_classes, inner = x.shape
    for b in range(first, last):
        start_block(partials, b)
        r, end, bad = b * block, smaller((b + 1) * block, outer * inner), False
        while r < end:
            i, j = r // inner, r % inner
            rows = smaller(inner - j, end - r)
            if gradient is None:
                bad |= some_beyond(x, i, j, j + rows)
            elif abs(gradient.strides[1]) < abs(gradient.strides[2]):  # a row's classes lie side by side
                for k in range(j, j + rows):
                    for c in range(n_classes):
                        gradient[i, c, k] = Real(0.0)
            else:
                for c in range(n_classes):
                    for k in range(j, j + rows):
                        gradient[i, c, k] = Real(0.0)
            r += rows
        for r in range(b * block, end):
            i, j = r // inner, r % inner
            label = target[i, j]
            if is_ignored(label, ignore_index):
                put(out, (i, j), 0.0)
                continue
            if not is_class(label, n_classes):
                note_bad(partials, b, r)
                put(out, (i, j), NAN)
                continue
            value = np.float64(load(x[i, label], j))
            slope = -1.0
            if take_log:
                slope = -1.0 / value if value != 0.0 else -np.inf
                value = log(value) if value <= 1.0 else NAN
            v = weight(w, label)
            loss = scaled(v, -value)
            count(partials, b, loss, v, 1)
            put(out, (i, j), loss)
            if gradient is not None:
                gradient[i, label, j] = scaled(v * scale, slope)
        if bad:
            partials[b, 3] = -1.0


TEMPLATES = {"gather_index": gather_index, "gather_probabilities": gather_index}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), computing in `real`."""
    some_beyond = rows_beyond if op == "gather_probabilities" else never
    name = f"{op}_{np.dtype(real).name}"
    return specialise(TEMPLATES[op], name, takes_strides=across, Real=real, some_beyond=some_beyond)
