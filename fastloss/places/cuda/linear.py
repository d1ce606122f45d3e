"""A linear layer's outputs on a device, some rows at a time; the arrays' own library, torch or CuPy, computes the
products."""

from fastloss import _errors, _reduce, losses
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss.calls import transforms
from fastloss.calls.resolve import reference_layer, resolve
from fastloss.calls.want import SUMS, VALUE, Sums, slopes
from fastloss.places.cuda import classes
from fastloss.places.cuda.arrays import CuPy, Torch, viewed
from fastloss.places.cuda.comparisons import of_logits
from fastloss.places.cuda.session import as_arrays
from fastloss.places.cuda.session import signature as signature_of

# The number of logits that exist at a time.
TILE = 1 << 26


class Layer:
    """A linear layer and its inputs, from which logits are computed when they are needed."""

    def __init__(self, operands, real, hidden, linear_weight, bias):
        self.session, self.real = operands.session, real
        self.session.spoil()  # the library launches, too
        self.library = self.session.library
        if self.library not in (Torch, CuPy):
            raise _errors.no_matmul("the host" if self.session.to_host else self.library.__name__)
        arrays = {"hidden": hidden, "linear_weight": linear_weight, "linear_bias": bias}
        self.views = {name: array if array is None else viewed(array, name) for name, array in arrays.items()}
        self.n_classes, self.rows_shape = linear_weight.shape[0], tuple(hidden.shape[:-1])
        self.hidden = self.library.plain(hidden).reshape(-1, hidden.shape[-1])
        self.weight = self.library.plain(linear_weight)
        self.bias = None if bias is None else self.library.plain(bias)

    def parts(self):
        """Slices of the rows that are computed together."""
        step = max(1, TILE // max(self.n_classes, 1))
        return [slice(start, start + step) for start in range(0, self.hidden.shape[0], step)]

    def logits(self, part):
        product = self.hidden[part] @ self.weight.T
        return product if self.bias is None else product + self.bias

    def product(self, slopes, other):
        """slopes @ other, computed in the layer's dtype, returned in the gradients'."""
        return self.library.cast(self.library.cast(slopes, self.views["linear_weight"].name) @ other, self.real)


_EXECUTED_BY = {
    losses.CROSS_ENTROPY: classes.rows,
    losses.SCORE: classes.scores,
    losses.COMPARE: of_logits,
}


def on_logits(function, operands, values, want=VALUE):
    """Evaluate a function of logits, for those of some rows.

    values : of its options, by name; others have their defaults.
    """
    options = [values.get(option.name, option.default) for option in function.options]
    arrays, weak = as_arrays(function, operands)
    signatures = [None if a is None else signature_of(a, i in weak) for i, a in enumerate(arrays)]
    out = (None,) if want.wrt else None
    return _EXECUTED_BY[function](resolve(function, signatures, options, want))(arrays, out, None)


def layer(resolved):
    """A function that executes a `Layer` call: the logits of some rows exist at a time, with all their classes."""

    def execute(operands, out, scale):
        hidden, linear_weight, target, bias, weight = operands.given
        what, reduction, wrt = resolved.want.what, resolved.reduction, resolved.want.wrt
        layer = Layer(operands, resolved.real, hidden, linear_weight, bias)
        session = layer.session
        receives = out if what == "value" else None
        target = layer.library.plain(target)
        target = target.reshape(-1) if resolved.is_index else target.reshape(-1, layer.n_classes)
        losses_of_rows = None
        if reduction == "none":
            losses_of_rows, _ = session.destination(receives, layer.rows_shape, layer.real)
        requested = dict(zip(wrt, out, strict=True)) if wrt else {}
        for name, array in requested.items():
            if array is not None:
                session.check_out(array, layer.views[name].shape)
        gradients = {}
        for name in wrt:
            gradients[name], _ = session.destination(requested[name], layer.views[name].shape, layer.real)
            gradients[name][...] = 0.0

        def computed(part, want, reduction):
            values = {
                "reduction": reduction,
                "ignore_index": resolved.ignore_index,
                "label_smoothing": resolved.smoothing,
                **transforms.values_of(resolved.transform),
            }
            return on_logits(losses.CROSS_ENTROPY, (layer.logits(part), target[part], weight), values, want)

        loss = divisor = 0.0
        count = 0
        for part in layer.parts():
            if losses_of_rows is not None:
                losses_of_rows.reshape(-1)[part] = computed(part, VALUE, "none")
                continue
            sums = computed(part, SUMS, "mean")
            loss, divisor, count = loss + sums.total, divisor + sums.weight, count + sums.count
            if gradients:
                _add(layer, part, computed(part, slopes("logits"), "sum")[1][0], gradients)
        if what == "sums":
            return Sums(loss, divisor, count)
        if losses_of_rows is not None:
            return session.array_result(losses_of_rows, out)
        if wrt:
            if scale is None:
                scale = _reduce.inverse(divisor) if reduction == "mean" else 1.0
            for gradient in gradients.values():
                gradient *= scale if divisor else 0.0  # if all rows are ignored, the gradient is 0
        result, _ = session.destination(receives, (), layer.real)
        result[...] = loss if reduction == "sum" else loss / divisor if divisor else float("nan")
        if wrt:
            found = tuple(session.array_result(gradients[name], requested[name]) for name in wrt)
            return session.array_result(result), found
        return session.array_result(result, receives)

    return execute


def _add(layer, part, slopes, gradients):
    """Add the contribution of some rows to the gradients."""
    if "hidden" in gradients:
        gradients["hidden"].reshape(layer.hidden.shape)[part] = layer.product(slopes, layer.weight)
    if "linear_weight" in gradients:
        gradients["linear_weight"] += layer.product(slopes.T, layer.hidden[part])
    if "linear_bias" in gradients:
        gradients["linear_bias"] += slopes.sum(axis=0)


def scores(resolved):
    """A function that executes a `Scores` call on hidden states."""

    def execute(operands, out, scale):
        hidden, target, linear_weight, bias, ids = operands.given
        layer = Layer(operands, resolved.real, hidden, linear_weight, bias)
        labels = None if target is None else layer.library.plain(target).reshape(-1)
        ids = None if ids is None else layer.library.plain(ids).reshape(-1, resolved.n_ids)
        values = {name: getattr(resolved, name) for name in ("ignore_index", "top_k", "top", "entropy")}
        values |= transforms.values_of(resolved.transform)

        def scored(part):
            own, of_ids = (None if a is None else a[part] for a in (labels, ids))
            return on_logits(losses.SCORE, (layer.logits(part), own, None, None, of_ids), values)

        return Scores(*_of_all_rows(layer, scored))

    return execute


def compared(resolved):
    """A function that executes a `Comparisons` call on hidden states."""

    def execute(operands, out, scale):
        reference, hidden, target, *layers = operands.given
        sides = [
            Layer(operands, resolved.real, h, *of_side)
            for h, of_side in ((reference, reference_layer(*layers)), (hidden, layers[:2]))
        ]
        labels = None if target is None else sides[0].library.plain(target).reshape(-1)
        values = {"ignore_index": resolved.ignore_index, **transforms.values_of(resolved.transform)}

        def compared(part):
            logits = [side.logits(part) for side in sides]
            own = None if labels is None else labels[part]
            return on_logits(losses.COMPARE, (*logits, own, None, None, None, None), values)

        return Comparison(*_of_all_rows(sides[0], compared))

    return execute


def _of_all_rows(layer, found_for):
    """The arrays that `found_for` returns for some rows, or None, put together."""
    results = None
    for part in layer.parts() or [slice(0, 0)]:
        found = found_for(part)
        if results is None:
            results = [
                None if a is None else layer.session.new((*layer.rows_shape, *a.shape[1:]), viewed(a, "score").name)
                for a in found
            ]
        for result, piece in zip(results, found, strict=True):
            if result is not None:
                result.reshape(-1, *piece.shape[1:])[part] = piece
    return results
