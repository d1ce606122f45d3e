"""A case, the subject of one measurement: a function, its arrays and options, and how it is called."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from . import arrays as making
from .arrays import ITEM_BYTES, Array

# What a call spends its time on: its overhead, arithmetic on data in cache, or reading memory.
BOUNDS = ("launch", "cache", "memory")

# How it is called: the function itself, value and gradient, the same with a new array for the gradient, in batches by an Accumulator, as chunks of Dask arrays,
# from files by `fastloss eval`, or a user's own case.
WAYS = ("value", "grad", "fresh", "accumulate", "dask", "eval", "own")


@dataclass(frozen=True)
class Case:
    """One function on arrays of given shapes and dtypes.

    Attributes
    ----------
    name : unique; also the seed of the inputs.
    loss : the function's name in fastloss; "" for a user's own case.
    arrays : its array arguments.
    bound : "launch", "cache" or "memory": what limits its speed.
    op : one of `WAYS`.
    options : the other keywords, as (name, value).
    output_bytes : what the call has to write.
    headline : whether it is one of the few cases that `fastloss bench` runs by default.
    source : the file of a user's own case, whose parameters are in `options`.
    declared : bytes and elements of a user's own case, as the file declares them.
    """

    name: str
    loss: str
    arrays: tuple[Array, ...]
    bound: str
    op: str = "value"
    options: tuple[tuple[str, Any], ...] = ()
    output_bytes: int = 0
    headline: bool = False
    source: str = ""
    declared: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the predictions."""
        return self.arrays[0].shape if self.arrays else ()

    @property
    def dtype(self) -> str:
        """Of the predictions."""
        return self.arrays[0].dtype if self.arrays else ""

    @property
    def axis(self) -> int:
        """The class axis, for functions of classes."""
        axis = dict(self.options).get("axis", -1)
        return axis if isinstance(axis, int) else -1

    @property
    def target(self) -> str:
        """The content of the second array; "" if there is none."""
        return self.arrays[1].content if len(self.arrays) > 1 else ""

    @property
    def plain(self) -> bool:
        """Whether it is a loss of predictions and targets, perhaps with its gradient, without options: peers are
        measured on these."""
        return (
            self.op in ("value", "grad")
            and [array.keyword for array in self.arrays] == [False, False]
            and {name for name, _ in self.options} <= {"axis"}
        )

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def n_elements(self) -> int:
        return self.declared[1] if self.source else math.prod(self.shape)

    @property
    def input_bytes(self) -> int:
        """The bytes of all arrays, each counted once."""
        return self.declared[0] if self.source else sum(array.n_bytes for array in self.arrays)

    @property
    def moved_bytes(self) -> int:
        """The bytes that GB/s are computed from."""
        return self.input_bytes + self.output_bytes

    @property
    def title(self) -> str:
        """A readable name: loss, dtype, shape, options."""
        options = "".join(f", {name}={value}" for name, value in self.options)
        if self.source:
            return f"{self.loss} of {self.source}{options}"
        how = {
            "grad": " and its gradient",
            "fresh": " and its gradient in a new array",
            "accumulate": " in pieces",
            "dask": " of Dask arrays",
            "eval": " of files",
        }.get(self.op, "")
        more = "".join(f", {array.name}" for array in self.arrays if array.keyword)
        return f"{self.loss}{how}, {self.dtype} {'x'.join(map(str, self.shape))}{more}{options}"

    def missing(self) -> str | None:
        """Why the case can't be run here, or None."""
        try:
            for array in self.arrays:
                making.dtype_of(array.dtype)
        except ImportError:
            return "needs ml_dtypes: pip install 'fastloss[bfloat16]'"
        return None

    def inputs(self) -> tuple[np.ndarray, ...]:
        """All arrays, C-contiguous, identical in every run."""
        rng = np.random.default_rng(self.seed)
        return tuple(array.made(rng) for array in self.arrays)

    def scaled(self, fraction: float) -> Case:
        """The same case on about this fraction of its rows; the class axis keeps its length.

        Only plain cases, whose arrays are predictions and targets, can be scaled.
        """
        if not self.plain or len(self.arrays) != 2:
            return self
        x, y = self.arrays
        kept = self.axis % len(x.shape) if y.content == "indices" else None
        each = fraction ** (1 / (len(x.shape) - (kept is not None)))
        shape = tuple(n if i == kept else max(1, round(n * each)) for i, n in enumerate(x.shape))
        target = shape if kept is None else shape[:kept] + shape[kept + 1 :]
        arrays = (replace(x, shape=shape), replace(y, shape=target))
        out = math.prod(shape) * max(ITEM_BYTES[x.dtype], 4) if self.output_bytes else 0
        return replace(self, name=f"{self.name}*{fraction:g}", arrays=arrays, output_bytes=out)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "headline"}
        shown = {"shape": list(self.shape), "dtype": self.dtype, "input_bytes": self.input_bytes}
        return {
            **own,
            **shown,
            "arrays": [array.as_dict() for array in self.arrays],
            "options": dict(self.options),
            "declared": list(self.declared),
        }


def from_dict(data: Mapping[str, Any]) -> Case:
    """The case that `as_dict` described."""
    known = {field.name: data[field.name] for field in fields(Case) if field.name in data}
    known["arrays"] = tuple(making.from_dict(array) for array in data["arrays"])
    known["options"] = tuple(dict(data["options"]).items())
    known["declared"] = tuple(data["declared"])
    return Case(**known)
