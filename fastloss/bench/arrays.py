"""The arrays that cases are computed from: described as plain data, and identical in every run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8}
INDEX = "int64"  # torch takes no other


@dataclass(frozen=True)
class Array:
    """One argument of a case.

    Attributes
    ----------
    name : of the function's argument.
    content : a key of `CONTENTS`.
    shape, dtype : of the array.
    keyword : whether it is passed by name.
    classes : for class indices, the number of classes.
    axis : along which probabilities are normalised.
    """

    name: str
    content: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    keyword: bool = False
    classes: int = 0
    axis: int = -1

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def made(self, rng: np.random.Generator) -> np.ndarray:
        """The array, C-contiguous, made from the next random numbers of `rng`."""
        return CONTENTS[self.content](self, rng).astype(dtype_of(self.dtype), copy=False)

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "shape": list(self.shape)}


def from_dict(data: Mapping[str, Any]) -> Array:
    """The array that `as_dict` described."""
    return Array(**{**data, "shape": tuple(data["shape"])})


def dtype_of(name: str) -> np.dtype:
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(name)


# --- contents ---------------------------------------------------------------------------------------------------------


def _values(array: Array, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(array.shape, dtype=np.float32)


def _logits(array: Array, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal(array.shape, dtype=np.float32)
    x *= 2
    return x


def _positive(array: Array, rng: np.random.Generator) -> np.ndarray:
    x = rng.random(array.shape, dtype=np.float32)
    x *= 1.9
    x += 0.1
    return x


def _probabilities(array: Array, rng: np.random.Generator) -> np.ndarray:
    x = rng.random(array.shape, dtype=np.float32)
    x *= 0.998  # away from 0 and 1, where libraries clamp differently
    x += 0.001
    return x


def _labels(array: Array, rng: np.random.Generator) -> np.ndarray:
    return rng.random(array.shape, dtype=np.float32) < 0.5


def _indices(array: Array, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, array.classes, array.shape, dtype=np.int64)


def _distributions(array: Array, rng: np.random.Generator) -> np.ndarray:
    p = np.exp(_logits(array, rng))
    p /= p.sum(axis=array.axis, keepdims=True)
    return p


def _log_distributions(array: Array, rng: np.random.Generator) -> np.ndarray:
    return np.log(_distributions(array, rng))


CONTENTS = {
    "values": _values,
    "logits": _logits,
    "positive": _positive,
    "probabilities": _probabilities,
    "labels": _labels,
    "indices": _indices,
    "distributions": _distributions,
    "log distributions": _log_distributions,
}
