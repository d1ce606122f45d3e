"""The cases of `gpu.py`: what is called, with which arrays.  Nothing here needs a GPU."""

import math
from collections.abc import Callable
from typing import NamedTuple

import fastloss

BYTES = 1 << 30  # of logits a case, about
READ, COPY = "read", "copy"

NORMAL, UNIFORM, ZERO_OR_ONE, CLASSES = "normal", "uniform", "0 or 1", "classes"
SIZES = {"float32": 4, "bfloat16": 2, "int64": 8}


class Input(NamedTuple):
    kind: str
    shape: tuple
    dtype: str
    n_classes: int = 0

    @property
    def n_bytes(self):
        return math.prod(self.shape) * SIZES[self.dtype]


class Case(NamedTuple):
    name: str
    loss: str  # of PyTorch's functions, too; none if it is ""
    inputs: tuple
    call: Callable
    gradient: bool = False

    @property
    def roof(self):
        return COPY if self.gradient else READ


def rows(n_classes, dtype):
    n_rows = max(64, min(BYTES // (n_classes * SIZES[dtype]), 1 << 26))
    return Input(NORMAL, (n_rows, n_classes), dtype), Input(CLASSES, (n_rows,), "int64", n_classes)


def cross_entropy(n_classes, dtype, gradient=False):
    inputs = rows(n_classes, dtype)
    name = f"cross_entropy {inputs[0].shape[0]}x{n_classes} {dtype}"
    if gradient:
        call = fastloss.value_and_grad(fastloss.cross_entropy)
        return Case(f"{name} and gradient", "cross_entropy", inputs, call, True)
    return Case(name, "cross_entropy", inputs, fastloss.cross_entropy)


def images():
    shape = 8, 21, 1024, 1024
    inputs = Input(NORMAL, shape, "float32"), Input(CLASSES, (8, 1024, 1024), "int64", 21)
    return Case("cross_entropy 8x21x1024x1024 axis=1", "cross_entropy", inputs, along_axis_1)


def along_axis_1(x, y):
    return fastloss.cross_entropy(x, y, axis=1)


def elementwise(loss, x, y, dtype="float32", gradient=False):
    n, ours = BYTES // 8, getattr(fastloss, loss)
    inputs = Input(x, (n,), dtype), Input(y, (n,), dtype)
    if gradient:
        return Case(f"{loss} {n} {dtype} and gradient", loss, inputs, fastloss.value_and_grad(ours), True)
    return Case(f"{loss} {n} {dtype}", loss, inputs, ours)


def scores(n_classes, dtype):
    inputs = rows(n_classes, dtype)
    return Case(f"score {inputs[0].shape[0]}x{n_classes} {dtype}, top=5, entropy", "", inputs, score_with_extras)


def score_with_extras(x, y):
    return fastloss.score(x, y, top=5, entropy=True)


def cases():
    for dtype in ("float32", "bfloat16"):
        for n_classes in (2, 10, 256, 1000, 32000, 128256, 262144):
            yield cross_entropy(n_classes, dtype)
    yield images()
    yield elementwise("binary_cross_entropy_with_logits", NORMAL, ZERO_OR_ONE)
    yield elementwise("binary_cross_entropy_with_logits", NORMAL, ZERO_OR_ONE, "bfloat16")
    yield elementwise("binary_cross_entropy", UNIFORM, ZERO_OR_ONE)
    yield elementwise("mse_loss", NORMAL, NORMAL)
    yield cross_entropy(1000, "float32", gradient=True)
    yield cross_entropy(32000, "bfloat16", gradient=True)
    yield elementwise("mse_loss", NORMAL, NORMAL, gradient=True)
    yield scores(128256, "bfloat16")
