"""How files are cut into chunks of rows: views that never copy, whatever the class axis and memory order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from fastloss.cli.failure import Failure
from fastloss.cli.files import Source, Stored, shape_text

_CHUNK_BYTES = 16 << 20  # of predictions: enough for every thread, few enough to stay near the cache


@dataclass(frozen=True)
class Layout:
    """Views of the arrays that can be cut into chunks.

    A slice is what one index of the cut axis selects: a row, several rows (`(N, C, d1)`), or an element. They
    keep the order of the user's array, so a position in the views is a position in the file.

    Parameters
    ----------
    predictions : array
        Cut along `cut`, which is 0 for arrays that have to be decoded, as it is for their `targets`.
    targets : array
        Cut along `target_cut`.
    weight : array or None
        Of elements or rows, of as many dimensions as `predictions`; cut along 0 unless it has length 1 there.
    axis : int or None
        The class axis of `predictions`; None for element-wise losses.
    cut, target_cut : int
        The axes that are cut.
    shape : tuple of int
        What `reduction="none"` gives: the rows' shape for the softmax family, else the predictions' shape.
    n_rows : int
        Rows in all, for `--chunk-size` and the progress bar: of class scores, or of the first axis of elements.
    reference : array or None
        Another model's predictions, of the same shape and cut alike; hidden states may have other features.
    """

    predictions: np.ndarray | Stored
    targets: np.ndarray | Stored
    weight: np.ndarray | None
    axis: int | None
    cut: int
    target_cut: int
    shape: tuple[int, ...]
    n_rows: int
    reference: np.ndarray | Stored | None = None

    @property
    def n_slices(self) -> int:
        return self.predictions.shape[self.cut]

    @property
    def n_losses(self) -> int:
        """The losses that `reduction="none"` gives."""
        return math.prod(self.shape)

    @property
    def losses_per_slice(self) -> int:
        return self.n_losses // self.n_slices

    @property
    def losses_per_sample(self) -> int:
        """A sample is what one index of the first axis selects, such as a document of several tokens."""
        return self.n_losses // (self.shape[0] if self.shape else 1)

    def slices_per_chunk(self, chunk_rows: int | None) -> int:
        """How many slices a chunk has: those of `chunk_rows` rows, by default about 16 MiB of predictions."""
        if chunk_rows is not None:
            return max(1, chunk_rows * self.n_slices // max(1, self.n_rows))
        n_bytes = _CHUNK_BYTES if self.axis is None or not self._is_scattered else 4 * _CHUNK_BYTES
        return max(1, n_bytes * self.n_slices // max(1, self.predictions.nbytes))

    @property
    def _is_scattered(self) -> bool:
        """Whether slices lie all over the file, as those of a column-major one: each chunk goes through the whole."""
        x = self.predictions
        return isinstance(x, np.ndarray) and any(
            abs(stride) > abs(x.strides[self.cut]) for n, stride in zip(x.shape, x.strides, strict=True) if n > 1
        )

    def chunk(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Predictions, targets and weights of slices [start, stop)."""
        x = self.predictions[(slice(None),) * self.cut + (slice(start, stop),)]
        y = self.targets[(slice(None),) * self.target_cut + (slice(start, stop),)]
        w = self.weight
        if w is not None and w.shape[0] == self.n_slices:
            w = w[start:stop]
        return x, y, w

    def reference_chunk(self, start: int, stop: int) -> np.ndarray | None:
        """The other model's predictions of slices [start, stop)."""
        return None if self.reference is None else self.reference[(slice(None),) * self.cut + (slice(start, stop),)]

    def mapped(self, start: int, stop: int) -> list[np.ndarray]:
        """Those predictions and targets of slices [start, stop) that need no decoding."""
        arrays = ((self.predictions, self.cut), (self.targets, self.target_cut), (self.reference, self.cut))
        return [a[(slice(None),) * cut + (slice(start, stop),)] for a, cut in arrays if isinstance(a, np.ndarray)]


def lay_out_classes(
    x: np.ndarray | Stored, y: np.ndarray | Stored, axis: int, reference: np.ndarray | Stored | None = None
) -> Layout:
    """The layout of class scores `x`, of targets `y` (labels, of x's shape without `axis`, or distributions, of x's
    shape), and of another model's scores."""
    lead, n_classes, trail = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    labels = y.shape != x.shape
    n_reference = 0 if reference is None else reference.shape[axis]  # its own, where it has hidden states
    shape = lead + trail
    n_lead, n_trail, n_rows = math.prod(lead), math.prod(trail), math.prod(shape)
    if _in_order(x) and _in_order(y) and (reference is None or _in_order(reference)):
        # All axes before the classes, and all after them, become one: (1, T, V) can then be cut along T.
        if n_lead == 1 and trail:
            x, axis = x.reshape(n_classes, n_trail), 0
            y = y.reshape(n_trail) if labels else y.reshape(x.shape)
        else:
            inner = (n_trail,) if trail else ()
            x, axis = x.reshape(n_lead, n_classes, *inner), 1
            y = y.reshape(n_lead, *inner) if labels else y.reshape(x.shape)
        if reference is not None:
            reference = reference.reshape(*x.shape[:axis], n_reference, *x.shape[axis + 1 :])
    elif x.ndim == 1 and isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        x, y, axis = x[np.newaxis], y[np.newaxis], 1
        reference = None if reference is None else reference[:][np.newaxis]
    cut = 1 if axis == 0 else 0
    return Layout(x, y, None, axis, cut, 0 if labels else cut, shape, n_rows, reference)


def lay_out_elements(
    x: np.ndarray | Stored, y: np.ndarray | Stored, weight: np.ndarray | None, per_output: bool
) -> Layout:
    """The layout of an element-wise loss; `per_output` keeps the outputs, the axes after the first, apart."""
    shape = x.shape
    n_rows = shape[0] if shape else 1
    flat = y.shape == shape and (weight is None or weight.shape == shape and _in_order(weight))
    if not per_output and flat and _in_order(x) and _in_order(y):
        x, y, weight = x.reshape(-1), y.reshape(-1), None if weight is None else weight.reshape(-1)
    elif x.ndim == 0 and isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        x, y, weight = x[np.newaxis], y[np.newaxis], None if weight is None else weight.reshape(1)
    return Layout(x, y, weight, None, 0, 0, shape, n_rows)


def _in_order(array: np.ndarray | Stored) -> TypeGuard[np.ndarray]:
    return isinstance(array, np.ndarray) and array.flags.c_contiguous


def check_class_weights(weight: Source, n_classes: int) -> None:
    """The weights of a loss over classes: one for each."""
    if weight.array.shape != (n_classes,):
        raise Failure(
            weight.name,
            f"class weights have shape {shape_text((n_classes,))}, not {shape_text(weight.array.shape)}",
        )


def check_element_weights(weight: Source, shape: tuple[int, ...]) -> None:
    """Weights of rows `(N,)` or of elements, for predictions of that shape."""
    w = weight.array
    if w.ndim == 1 and w.shape == shape[:1]:
        return
    if w.ndim == len(shape) and all(own in (1, length) for own, length in zip(w.shape, shape, strict=True)):
        return
    expected = " or ".join(dict.fromkeys((shape_text(shape), shape_text(shape[:1]))))
    raise Failure(weight.name, f"weights of shape {shape_text(w.shape)} do not fit; expected {expected}")


def element_weights(w: np.ndarray, n_axes: int) -> np.ndarray:
    """The weights with as many axes as the predictions have."""
    return w.reshape(w.shape + (1,) * (n_axes - w.ndim))
