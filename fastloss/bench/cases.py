"""The table of cases: those that peers are measured on too, those of every public function, and users' own."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from typing import Any

from .arrays import INDEX, ITEM_BYTES, Array
from .case import BOUNDS, Case
from .catalogue import catalogue

# The contents of the arrays of losses that peers are measured on.
_CONTENTS = {
    "cross_entropy": ("logits", "indices"),
    "binary_cross_entropy_with_logits": ("logits", "labels"),
    "binary_cross_entropy": ("probabilities", "labels"),
    "mse_loss": ("logits", "values"),
    "l1_loss": ("logits", "values"),
    "huber_loss": ("logits", "values"),
    "smooth_l1_loss": ("logits", "values"),
}


def plain(
    name: str,
    loss: str,
    shape: tuple[int, ...],
    bound: str,
    dtype: str = "float32",
    op: str = "value",
    axis: int = -1,
    headline: bool = False,
) -> Case:
    """A loss of predictions and targets."""
    predictions, targets = _CONTENTS[loss]
    y = Array("target", targets, shape, dtype)
    if targets == "indices":
        class_axis = axis % len(shape)
        n_classes = shape[class_axis]
        y = Array("target", targets, shape[:class_axis] + shape[class_axis + 1 :], INDEX, classes=n_classes)
    out = math.prod(shape) * max(ITEM_BYTES[dtype], 4) if op == "grad" else 0
    options = () if axis == -1 else (("axis", axis),)
    first = Array("pred", predictions, shape, dtype)
    return Case(name, loss, (first, y), bound, op, options, out, headline)


def _peers() -> dict[str, Case]:
    found: dict[str, Case] = {}

    def add(name: str, *args: Any, **kwargs: Any) -> None:
        assert name not in found, name
        found[name] = plain(name, *args, **kwargs)

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


PEERS = _peers()
CASES = {**PEERS, **catalogue()}

# Small and middle cases of every function, with default options.
_SUITE = {name for name in CASES if name.endswith(("/value/small", "/value/middle", "/grad/small", "/grad/middle"))}

# Names for sets of cases, beside patterns.
GROUPS = ("all", "headline", "peers", "suite")


def select(
    patterns: Iterable[str] | None, own: Mapping[str, Case] | None = None, default: str = "headline"
) -> list[Case]:
    """The cases that a pattern matches, in the table's order; for None the user's own cases if there are any, otherwise
    `default`.

    A pattern is a name, a shell pattern over names, or a part of a name; ``all``; ``headline``; ``peers`` (what other
    libraries are measured on); or ``suite`` (small and middle ones of every function, without options).

    Raises
    ------
    LookupError
        If a pattern matches none.
    """
    own = own or {}
    table, wanted = {**CASES, **own}, set()
    if patterns is None:
        patterns = own or (default,)
    for pattern in patterns:
        names = {pattern} if pattern in table else {name for name, case in table.items() if _matches(case, pattern)}
        if not names:
            raise LookupError(f"{pattern!r} matches no case; --list shows them")
        wanted |= names
    return [case for name, case in table.items() if name in wanted]


def _matches(case: Case, pattern: str) -> bool:
    if pattern in GROUPS:
        return {
            "all": True,
            "headline": case.headline,
            "peers": case.name in PEERS,
            "suite": case.name in _SUITE,
        }[pattern]
    return fnmatch.fnmatchcase(case.name, pattern if set(pattern) & set("*?[") else f"*{pattern}*")


__all__ = ["BOUNDS", "CASES", "GROUPS", "PEERS", "Case", "plain", "select"]
