"""Two arrays of logits compared on a device."""

import dataclasses

import numpy as np

from fastloss._comparison import Comparison
from fastloss.places.cuda.arrays import viewed
from fastloss.places.cuda.classes import Rows, ignored, raise_bad_label, run_rows
from fastloss.places.cuda.transformed import logits_of


def comparisons(resolved):
    """A function that executes a `Comparisons` call."""
    from fastloss.places.cuda import linear

    return linear.compared(resolved) if resolved.from_layer else of_logits(resolved)


def of_logits(resolved):
    """The same of arrays of logits."""

    def execute(operands, out, scale):
        session = operands.session
        if resolved.transform is None:
            return Comparison(*[session.array_result(result) for result in compared(session, resolved, *operands[:3])])
        plain = compared(session, resolved, *operands[:3])  # transforms do not change the order of logits
        r, x = (logits_of(session, resolved.transform, a)[1] for a in operands[:2])
        found = compared(session, dataclasses.replace(resolved, real="float64"), r, x, operands[2])
        rounded = [session.rounded(result, resolved.real) for k, result in enumerate(found) if k != 1]
        return Comparison(*[session.array_result(result) for result in (rounded[0], plain[1], *rounded[1:])])

    def compared(session, resolved, r, x, y):
        rows, real = Rows(session, x, resolved.axis), resolved.real
        names = [real, "bool", *([real] * 3 if y is not None else [])]
        results = [session.new(rows.shape, name) for name in names]
        if rows.n_rows:
            kl, same, nll, reference_nll, rise = [viewed(result, "out").address for result in results] + [0] * (
                5 - len(results)
            )
            with session.queue.lock:
                bad = _likelihoods(session, resolved, (x, r), y, (nll, reference_nll)) if y is not None else np.inf
                _launch(session, resolved, rows, r, x, y, (reference_nll, nll), (kl, same, rise))
            if bad < np.inf:
                raise_bad_label(session, y, rows, int(bad), resolved.ignore_index)
        return results

    return execute


def _likelihoods(session, resolved, arrays, y, losses):
    """Compute the negative log-likelihoods for each of the arrays; returns the first row whose label is bad, or inf."""
    bad = np.inf
    constants = (ignored(y.name, resolved.ignore_index), 1.0, 0.0)
    for logits, address in zip(arrays, losses, strict=True):
        rows = Rows(session, logits, resolved.axis)  # the arrays' strides may differ
        labels = (*rows.row_strides(y), 0)
        run_rows(
            session, rows, "index", session.softmax.NONE, logits, resolved.real, labels, y.name, 0, constants, losses=address
        )  # fmt: skip
        bad = min(bad, session.first_bad() if session.waits else np.inf)
    return bad


def _launch(session, resolved, rows, r, x, y, losses, outs):
    from fastloss.backends.numba_cuda import comparing

    kernel = comparing.kernel(r.name, x.name, resolved.real)
    labels = (0, 0, 0, 0, 0)
    if y is not None:
        kind = session.softmax.LABEL_KINDS[y.name]
        labels = (*rows.row_strides(y), kind, ignored(y.name, resolved.ignore_index))
    arguments = (
        *rows.strides(r), *rows.strides(x), *labels, rows.split[1], rows.n_rows, rows.n_classes, *losses, *outs
    )  # fmt: skip
    session.launch_blocks(kernel, min(rows.n_rows, 1 << 16), comparing.THREADS, arguments)
