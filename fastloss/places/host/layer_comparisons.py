"""Comparisons of two linear layers' outputs, which exist for a few rows at a time, with all their classes: a divergence
needs both normalisers before its first term."""

import dataclasses

import numpy as np

from fastloss._comparison import Comparison, kinds
from fastloss.calls.resolve import reference_layer
from fastloss.places.host import comparisons
from fastloss.places.host.labels import raise_bad_label
from fastloss.places.host.layer import CONVERTED, ROWS, Head, multiply
from fastloss.places.host.operands import REALS, prepare, steps_of

# The number of logits of each model that exist at a time.  Products of fewer rows would be slower, as each reads all
# weights.
TILE = 1 << 24


def plan_of(resolved, arrays, out):
    """The plan of a `Comparisons` call."""
    return _Plan(resolved, arrays) if resolved.from_layer else comparisons.plan_of(resolved, arrays, out)


class _Plan:
    def __init__(self, resolved, arrays):
        self.resolved, self.real = resolved, REALS[resolved.real]
        # floating operands are converted as they are needed
        casts = [
            "float64" if cast is None and a is not None and name != "target" and a.dtype.kind in "biu" else cast
            for a, cast, name in zip(arrays, resolved.casts, resolved.names, strict=True)
        ]
        self.steps = steps_of(arrays, casts)
        self.height = max(1, min(ROWS, TILE // max(resolved.n_classes, 1), resolved.n_rows))

    def __call__(self, operands, out, scale):
        resolved, real = self.resolved, self.real
        if resolved.has_target:
            raise_bad_label(operands[2], resolved.n_classes, resolved.ignore_index)
        r, x, y, a, b, own_a, own_b = operands if self.steps is None else prepare(self.steps, operands)
        layer = _Layer(x, a, b, real, self.height)
        of_reference = _Layer(r, *reference_layer(a, b, own_a, own_b), real, self.height)
        y = None if y is None else y.reshape(-1)
        found = [np.empty(resolved.rows_shape, kind) for kind in kinds(real, y is not None)]
        flat = [result.reshape(-1) for result in found]
        plans = {}  # of the number of rows, which is another one at the end
        for start in range(0, resolved.n_rows, self.height):
            rows = slice(start, min(start + self.height, resolved.n_rows))
            _compute(rows, of_reference, layer)
            tile = *(one.logits[: rows.stop - start] for one in (of_reference, layer)), None if y is None else y[rows]
            if len(tile[0]) not in plans:
                plans[len(tile[0])] = comparisons.plan_of(_of_logits(resolved, tile), tile, None)
            for result, piece in zip(flat, plans[len(tile[0])](tile, None, None), strict=False):
                result[rows] = piece
        return Comparison(*found)


def _of_logits(resolved, tile):
    """The same call of these rows' logits."""
    return dataclasses.replace(
        resolved, casts=(None, None, resolved.casts[2]), shape=tile[0].shape, axis=1, from_layer=False
    )


class _Layer(Head):
    """A linear layer, its inputs, and its outputs for some rows."""

    def __init__(self, h, a, b, real, height):
        super().__init__(h, a, b, None, 0.0, real)
        n_classes, n_features = a.shape
        self.logits = np.empty((height, n_classes), real)
        converts = a.dtype != real
        self.width = min(n_classes, max(1, CONVERTED // max(n_features, 1)) if converts else n_classes)
        self.converted = np.empty((self.width, n_features), real) if converts else None


def _compute(rows, *layers):
    """Compute the logits of these rows; weights that layers have in common are converted once."""
    inputs = [layer.inputs(rows) for layer in layers]
    n_classes, width = len(layers[0].a), min(layer.width for layer in layers)
    with np.errstate(all="ignore"):
        for start in range(0, n_classes, max(width, 1)):
            stop, weights = min(start + width, n_classes), {}
            for layer, h in zip(layers, inputs, strict=True):
                if id(layer.a) not in weights:
                    weights[id(layer.a)] = layer.weights(start, stop)
                multiply(h, weights[id(layer.a)].T, layer.logits[: len(h), start:stop])
                if layer.b is not None:
                    layer.logits[: len(h), start:stop] += layer.b[start:stop]
