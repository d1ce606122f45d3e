"""A linear layer's outputs on a device, some rows at a time: products are made by the arrays' own library, torch or CuPy."""

from fastloss import _arrays, _errors, _reduce
from fastloss._device import classes
from fastloss._device.arrays import CuPy, Torch, viewed
from fastloss._device.session import Session
from fastloss._linear import wanted_of
from fastloss._pointwise import Gradient, Totals
from fastloss._score import Scores

# Elements of the logits that exist at a time.
TILE = 1 << 26


class Layer:
    """A linear layer and its inputs: what the logits would be made of."""

    def __init__(self, hidden, linear_weight, bias, **others):
        arrays = {"hidden": hidden, "linear_weight": linear_weight, "linear_bias": bias}
        self.session = Session(**arrays, **others)
        self.library = self.session.library
        if self.library not in (Torch, CuPy):
            raise _errors.no_matmul("the host" if self.session.to_host else self.library.__name__)
        self.views = {name: array if array is None else viewed(array, name) for name, array in arrays.items()}
        h, a, b = self.views.values()
        if h.ndim == 0:
            raise _errors.no_axis("hidden")
        if a.ndim != 2 or a.shape[1] != h.shape[-1]:
            raise _errors.wrong_shape(
                "linear_weight", a.shape, f"(n_classes, {h.shape[-1]}), as hidden has shape {h.shape}"
            )
        if b is not None and b.shape != a.shape[:1]:
            raise _errors.wrong_shape("linear_bias", b.shape, f"({a.shape[0]},), one a class")
        self.n_classes, self.rows_shape = a.shape[0], h.shape[:-1]
        self.real = classes.real_type(*(view for view in (h, a, b) if view is not None))
        self.hidden = self.library.plain(hidden).reshape(-1, h.shape[-1])
        self.weight = self.library.plain(linear_weight)
        self.bias = None if bias is None else self.library.plain(bias)

    def parts(self):
        """Slices of as many rows as are computed together."""
        step = max(1, TILE // max(self.n_classes, 1))
        return [slice(start, start + step) for start in range(0, self.hidden.shape[0], step)]

    def logits(self, part):
        product = self.hidden[part] @ self.weight.T
        return product if self.bias is None else product + self.bias

    def product(self, slopes, other):
        """slopes @ other in the layer's dtype, as the gradients' dtype."""
        return self.library.cast(self.library.cast(slopes, self.views["linear_weight"].name) @ other, self.real)


def evaluate(hidden, linear_weight, target, *, bias, weight, ignore_index, label_smoothing, reduction, out):
    """`linear_cross_entropy`: each row's logits exist with all classes, but only some rows' at a time."""
    _reduce.check(reduction)
    layer = Layer(hidden, linear_weight, bias, target=target, weight=weight)
    session = layer.session
    request = out if isinstance(out, Gradient) else None
    totals = out if isinstance(out, Totals) else None
    receives = None if request or totals else out
    if request and reduction == "none":
        raise _errors.vector_gradient("reduction='none'")
    y = session.array(target, "target")
    is_index = classes.holds_indices(y, (*layer.rows_shape, layer.n_classes), len(layer.rows_shape))
    target = layer.library.plain(target)
    target = target.reshape(-1) if is_index else target.reshape(-1, layer.n_classes)
    options = {
        "weight": weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing, "axis": -1, "op": "softmax", "take_log": False,
    }  # fmt: skip
    losses = None
    if reduction == "none":
        losses, _ = session.destination(receives, layer.rows_shape, layer.real)
    gradients = {}
    for name, (requested, view) in wanted_of(request, *layer.views.values(), session.check_out).items():
        gradients[name], _ = session.destination(requested, view.shape, layer.real)
        gradients[name][...] = 0.0
    loss = divisor = count = 0.0
    for part in layer.parts():
        logits, y = layer.logits(part), target[part]
        if losses is not None:
            found = classes.evaluate("logits", logits, y, reduction="none", out=None, **options)
            losses.reshape(-1)[part] = found
            continue
        sums = Totals()
        classes.evaluate("logits", logits, y, reduction="mean", out=sums, **options)
        loss, divisor, count = loss + sums.total, divisor + sums.weight, count + sums.count
        if gradients:
            slopes = Gradient()
            classes.evaluate("logits", logits, y, reduction="sum", out=slopes, **options)
            _add(layer, part, slopes.array, gradients)
    if totals:
        return totals.take(loss, divisor, count)
    if losses is not None:
        return session.delivered(losses, out)
    if request:
        scale = request.scale if request.scale is not None else _reduce.inverse(divisor) if reduction == "mean" else 1.0
        for gradient in gradients.values():
            gradient *= scale if divisor else 0.0  # where no row counts there is no slope
        request.array = gradients.get("hidden")
        if hasattr(request, "arrays"):
            request.arrays |= gradients
    result, _ = session.destination(receives, (), layer.real)
    result[...] = loss if reduction == "sum" else loss / divisor if divisor else float("nan")
    return session.delivered(result, receives)


def _add(layer, part, slopes, gradients):
    """Add what some rows contribute to the gradients."""
    if "hidden" in gradients:
        gradients["hidden"].reshape(layer.hidden.shape)[part] = layer.product(slopes, layer.weight)
    if "linear_weight" in gradients:
        gradients["linear_weight"] += layer.product(slopes.T, layer.hidden[part])
    if "linear_bias" in gradients:
        gradients["linear_bias"] += slopes.sum(axis=0)


def score(hidden, linear_weight, target, *, bias, axis, ignore_index, top_k):
    """`score` of hidden states."""
    layer = Layer(hidden, linear_weight, bias, target=target)
    h = layer.views["hidden"]
    if _arrays.one_axis(axis, h.ndim) != h.ndim - 1:
        raise _errors.out_of_range("axis", axis, "-1 or the last, as hidden states have no class axis")
    if tuple(target.shape) != layer.rows_shape:
        raise _errors.wrong_shape(
            "target", tuple(target.shape), f"{layer.rows_shape}, that of hidden without the last axis"
        )
    labels = layer.library.plain(target).reshape(-1)
    results = None
    for part in layer.parts() or [slice(0, 0)]:
        found = classes.score(layer.logits(part), labels[part], -1, ignore_index, top_k)
        if results is None:
            results = [
                None if a is None else layer.session.new(layer.rows_shape, viewed(a, "score").name) for a in found
            ]
        for result, piece in zip(results, found, strict=True):
            if result is not None:
                result.reshape(-1)[part] = piece
    return Scores(*results)
