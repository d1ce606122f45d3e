"""What is measured: one table of named cases, each with inputs that are the same in every run."""

from __future__ import annotations

import fnmatch
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# What the second argument of each loss is.
TARGETS = {
    "cross_entropy": "indices",
    "binary_cross_entropy_with_logits": "labels",
    "binary_cross_entropy": "labels",
    "mse_loss": "values",
    "l1_loss": "values",
    "huber_loss": "values",
    "smooth_l1_loss": "values",
}

# What a call's time goes to: its overhead, arithmetic on data in cache, or reading memory.
BOUNDS = ("launch", "cache", "memory")

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_INDEX = np.dtype(np.int64)  # torch takes no other


@dataclass(frozen=True)
class Case:
    """One loss over one array of one shape and dtype.

    Parameters
    ----------
    name : str
        Unique; inputs are seeded by it.
    loss : str
        The function's name in fastloss.
    shape : tuple of int
        Of the predictions.
    bound : {"launch", "cache", "memory"}
        What limits it.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        Of the predictions, and of targets that are no indices.
    op : {"value", "grad"}
        The mean alone, or with its gradient.
    axis : int
        The class axis, for losses over classes.
    headline : bool
        Whether it is among the few that `fastloss bench` runs unless told otherwise.
    """

    name: str
    loss: str
    shape: tuple[int, ...]
    bound: str
    dtype: str = "float32"
    op: str = "value"
    axis: int = -1
    headline: bool = False

    @property
    def target(self) -> str:
        """ "indices" of classes, "labels" 0 or 1, or "values"."""
        return TARGETS[self.loss]

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def target_shape(self) -> tuple[int, ...]:
        if self.target != "indices":
            return self.shape
        axis = self.axis % len(self.shape)
        return self.shape[:axis] + self.shape[axis + 1 :]

    @property
    def input_bytes(self) -> int:
        """Bytes of predictions and targets: what the definition needs, each once."""
        item = _INDEX.itemsize if self.target == "indices" else ITEM_BYTES[self.dtype]
        return self.n_elements * ITEM_BYTES[self.dtype] + math.prod(self.target_shape) * item

    @property
    def output_bytes(self) -> int:
        """Bytes of the gradient, if there is one."""
        return self.n_elements * max(ITEM_BYTES[self.dtype], 4) if self.op == "grad" else 0

    @property
    def moved_bytes(self) -> int:
        """What GB/s count."""
        return self.input_bytes + self.output_bytes

    @property
    def title(self) -> str:
        """For people: loss, shape, dtype."""
        shape = "x".join(map(str, self.shape))
        axis = "" if self.axis == -1 else f", axis={self.axis}"
        return f"{self.loss}{' and its gradient' if self.op == 'grad' else ''}, {self.dtype} {shape}{axis}"

    def missing(self) -> str | None:
        """Why the case cannot be made here, or None."""
        try:
            _dtype(self.dtype)
        except ImportError:
            return "needs ml_dtypes: pip install 'fastloss[bfloat16]'"
        return None

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and targets, C-contiguous, equal in every run."""
        rng = np.random.default_rng(self.seed)
        dtype = _dtype(self.dtype)
        if self.loss == "binary_cross_entropy":
            x = rng.random(self.shape, dtype=np.float32)
            x *= 0.998  # clear of 0 and 1, where libraries clamp differently
            x += 0.001
        else:
            x = rng.standard_normal(self.shape, dtype=np.float32)
            x *= 2
        if self.target == "indices":
            n_classes = self.shape[self.axis]
            return x.astype(dtype, copy=False), rng.integers(0, n_classes, self.target_shape, dtype=_INDEX)
        if self.target == "labels":
            y = (rng.random(self.shape, dtype=np.float32) < 0.5).astype(dtype)
        else:
            y = rng.standard_normal(self.shape, dtype=np.float32).astype(dtype, copy=False)
        return x.astype(dtype, copy=False), y

    def scaled(self, fraction: float) -> Case:
        """The same case over about that fraction of its rows; the class axis keeps its length."""
        kept = self.axis % len(self.shape) if self.target == "indices" else None
        each = fraction ** (1 / (len(self.shape) - (kept is not None)))
        shape = tuple(n if i == kept else max(1, round(n * each)) for i, n in enumerate(self.shape))
        return replace(self, name=f"{self.name}*{fraction:g}", shape=shape)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        keys = ("name", "loss", "dtype", "target", "axis", "op", "bound", "input_bytes", "output_bytes")
        return {**{key: getattr(self, key) for key in keys}, "shape": list(self.shape)}


def from_dict(data: Mapping[str, Any]) -> Case:
    """The case that `as_dict` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it describes none.
    """
    if data["loss"] not in TARGETS or data["dtype"] not in ITEM_BYTES or data["op"] not in ("value", "grad"):
        raise ValueError(f"no such case: {data['loss']!r}, {data['dtype']!r}, {data['op']!r}")
    shape = tuple(int(n) for n in data["shape"])
    name, axis = str(data["name"]), int(data["axis"])
    return Case(name, data["loss"], shape, str(data["bound"]), data["dtype"], data["op"], axis)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(name)


def _table() -> dict[str, Case]:
    found: dict[str, Case] = {}

    def add(name: str, *args: Any, **kwargs: Any) -> None:
        assert name not in found, name
        found[name] = Case(name, *args, **kwargs)

    def classes(n_rows: int, n_classes: int, bound: str, *, rows: str | None = None, headline: bool = False) -> None:
        name = f"ce_f32_{rows or n_rows}x{n_classes}"
        add(name, "cross_entropy", (n_rows, n_classes), bound, headline=headline)

    classes(1, 10, "launch", headline=True)
    classes(1797, 10, "cache")  # scikit-learn's digits
    classes(64, 1000, "cache")
    classes(65536, 1000, "memory", headline=True)  # ImageNet's classes
    classes(2048, 32000, "memory")  # vocabularies of language models, from here on
    classes(512, 128256, "memory", headline=True)
    classes(432, 151936, "memory")
    classes(256, 262144, "memory")
    classes(1_000_000, 2, "cache", rows="1e6")  # 16 MB, half of them targets: the last level of many caches
    classes(1_000_000, 10, "memory", rows="1e6", headline=True)
    classes(1_000_000, 64, "memory", rows="1e6")
    segmentation = (8, 21, 512, 512)
    add("ce_f32_axis1_8x21x512x512", "cross_entropy", segmentation, "memory", axis=1, headline=True)
    for tag, dtype in (("f16", "float16"), ("bf16", "bfloat16")):
        for n_rows, n_classes in ((65536, 1000), (2048, 32000)):
            headline = (tag, n_classes) == ("f16", 1000)  # float16 needs no further package
            name = f"ce_{tag}_{n_rows}x{n_classes}"
            add(name, "cross_entropy", (n_rows, n_classes), "memory", dtype, headline=headline)
    for tag, loss in (("bce_logits", "binary_cross_entropy_with_logits"), ("bce", "binary_cross_entropy")):
        add(f"{tag}_f32_3.2e7", loss, (32_000_000,), "memory", headline=tag == "bce_logits")
        add(f"{tag}_f32_1e5", loss, (100_000,), "cache")
    for tag in ("mse", "l1", "huber", "smooth_l1"):
        add(f"{tag}_f32_3.2e7", f"{tag}_loss", (32_000_000,), "memory", headline=tag == "mse")
        add(f"{tag}_f32_1e5", f"{tag}_loss", (100_000,), "cache")
        add(f"{tag}_f32_10", f"{tag}_loss", (10,), "launch", headline=tag == "mse")
    for name in ("ce_f32_65536x1000", "bce_logits_f32_3.2e7", "mse_f32_3.2e7"):
        of = found[name]
        add(f"grad_{name}", of.loss, of.shape, "memory", op="grad", headline=name.startswith("ce"))
    return found


CASES = _table()


def select(patterns: Iterable[str] | None) -> list[Case]:
    """The cases that a pattern names, in the table's order; the headline ones for None.

    A pattern is ``all``, ``headline``, a name, a shell pattern over names, or a part of a name.

    Raises
    ------
    LookupError
        If a pattern names none.
    """
    wanted: set[str] = set()
    for pattern in ("headline",) if patterns is None else patterns:
        names = {name for name, case in CASES.items() if _matches(case, pattern)}
        if not names:
            raise LookupError(f"{pattern!r} matches no case; --list shows them")
        wanted |= names
    return [case for name, case in CASES.items() if name in wanted]


def _matches(case: Case, pattern: str) -> bool:
    if pattern == "all" or pattern in CASES:
        return pattern in ("all", case.name)
    if pattern == "headline":
        return case.headline
    return fnmatch.fnmatchcase(case.name, pattern if set(pattern) & set("*?[") else f"*{pattern}*")
