"""The most likely class of each row, for the accuracy."""

from __future__ import annotations

import numpy as np

_PIECE = 1 << 18  # scores looked at together: what is made of them on the way should stay in the cache


def best_class(scores: np.ndarray, axis: int) -> np.ndarray:
    """The index of the largest score of each row, the first of equals. Rows that hold NaN get any index."""
    cut = 1 if axis == 0 else 0
    n_slices = scores.shape[cut]
    step = max(1, n_slices * _PIECE // scores.size)
    if step >= n_slices:
        return _argmax(scores, axis)
    pieces = (scores[(slice(None),) * cut + (slice(start, start + step),)] for start in range(0, n_slices, step))
    return np.concatenate([_argmax(piece, axis) for piece in pieces])


def _argmax(scores: np.ndarray, axis: int) -> np.ndarray:
    if scores.dtype.itemsize == 2 and scores.dtype.kind in "fV" and scores.dtype.isnative:
        # NumPy compares half-precision numbers one by one; integers in the same order are faster.
        # Halves are stored as sign and magnitude: negating the magnitude keeps -0 equal to +0.
        bits = scores.view(np.int16)
        sign = bits >> 15
        scores = bits & 0x7FFF
        scores ^= sign
        scores -= sign
    return np.argmax(scores, axis=axis)
