"""Cross-entropy of a linear layer's outputs on a device: rows by rows, through the matrix product of the arrays' own library."""

from fastloss import _errors, _reduce
from fastloss._device import classes
from fastloss._device.arrays import CuPy, Torch, viewed
from fastloss._device.session import Session
from fastloss._pointwise import Gradient, Totals

# Elements of the logits that exist at a time.
TILE = 1 << 26


def evaluate(hidden, linear_weight, target, *, bias, weight, ignore_index, label_smoothing, reduction, out):
    """`linear_cross_entropy`: some rows' logits at a time, each with all classes."""
    _reduce.check(reduction)
    session = Session(hidden=hidden, linear_weight=linear_weight, target=target, linear_bias=bias, weight=weight)
    if session.library not in (Torch, CuPy):
        raise _errors.no_matmul("the host" if session.to_host else session.library.__name__)
    h, a = viewed(hidden, "hidden"), viewed(linear_weight, "linear_weight")
    if h.ndim == 0:
        raise _errors.no_axis("hidden")
    if a.ndim != 2 or a.shape[1] != h.shape[-1]:
        raise _errors.wrong_shape(
            "linear_weight", a.shape, f"(n_classes, {h.shape[-1]}), as hidden has shape {h.shape}"
        )
    n_classes, rows_shape = a.shape[0], h.shape[:-1]
    if bias is not None and tuple(bias.shape) != (n_classes,):
        raise _errors.wrong_shape("linear_bias", tuple(bias.shape), f"({n_classes},), one a class")
    _, is_index = classes.target_of(session, (*rows_shape, n_classes), len(rows_shape), target)
    request = out if isinstance(out, Gradient) else None
    totals = out if isinstance(out, Totals) else None
    if request and reduction == "none":
        raise _errors.vector_gradient("reduction='none'")
    real = classes.real_type(h, a)
    hidden = hidden.reshape(-1, h.shape[-1])
    target = target.reshape(-1) if is_index else target.reshape(-1, n_classes)
    options = {
        "weight": weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing, "axis": -1, "op": "softmax", "take_log": False,
    }  # fmt: skip
    step = max(1, TILE // max(n_classes, 1))
    gradient = losses = None
    if request:
        gradient, _ = session.destination(request.requested, h.shape, real)
    if reduction == "none":
        losses, _ = session.destination(None if request or totals else out, rows_shape, real)
    loss = divisor = count = 0.0
    for start in range(0, hidden.shape[0], step):
        part = slice(start, start + step)
        logits = hidden[part] @ linear_weight.T
        if bias is not None:
            logits += bias
        if losses is not None:
            losses.reshape(-1)[part] = classes.evaluate(
                "logits", logits, target[part], reduction="none", out=None, **options
            )
            continue
        sums, slopes = Totals(), Gradient()
        classes.evaluate("logits", logits, target[part], reduction="mean", out=sums, **options)
        loss, divisor, count = loss + sums.total, divisor + sums.weight, count + sums.count
        if request:
            classes.evaluate("logits", logits, target[part], reduction="sum", out=slopes, **options)
            product = slopes.array.astype(a.name) if session.library is CuPy else slopes.array.to(linear_weight.dtype)
            gradient.reshape(-1, h.shape[-1])[part] = product @ linear_weight
    if totals:
        return totals.take(loss, divisor, count)
    if losses is not None:
        return session.delivered(losses, out)
    value = loss if reduction == "sum" else loss / divisor if divisor else float("nan")
    if request:
        if reduction == "mean":
            gradient *= _reduce.inverse(divisor) if divisor else 0.0
        request.array = session.delivered(gradient, request.requested)
    result, _ = session.destination(None if request else out, (), real)
    result[...] = value
    return session.delivered(result, None if request else out)
