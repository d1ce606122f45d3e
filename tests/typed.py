"""What type checkers see of the package: mypy reads this file, nothing runs it.  tests/test_types.py says whether it is content."""

from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastloss

# As a user reads them in an editor.
Real = np.float32 | np.float64
Reals = NDArray[np.float32 | np.float64]

logits = np.zeros((2, 3), np.float32)
labels = np.array([0, 1])
out64 = np.zeros(2)


class Lazy:
    """As Dask's arrays."""

    def __dask_graph__(self) -> Any:
        raise NotImplementedError


class OnDevice:
    """As arrays of CuPy, torch and Numba."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        raise NotImplementedError


lazy, on_device = Lazy(), OnDevice()


def results_of_losses(reduction: str) -> None:
    assert_type(fastloss.cross_entropy(logits, labels), Real)
    assert_type(fastloss.cross_entropy([[0.0, 1.0]], [1], reduction="sum", axis=1), Real)
    assert_type(fastloss.cross_entropy(logits, labels, reduction="none"), Reals)
    assert_type(fastloss.cross_entropy(logits, labels, reduction=reduction), Real | Reals)
    assert_type(
        fastloss.cross_entropy(logits, labels, reduction="none", out=out64),
        np.ndarray[tuple[int], np.dtype[np.float64]],
    )
    assert_type(fastloss.mse_loss(logits, 0.0), Real)
    assert_type(fastloss.mse_loss(logits, logits, axis=0), Real | Reals)
    assert_type(fastloss.mse_loss(logits, logits, axis=(0, 1), weight=[1.0, 2.0, 3.0]), Real | Reals)
    assert_type(fastloss.rmse_loss(logits, logits), Real)
    assert_type(fastloss.kl_div(logits, logits, reduction="batchmean"), Real)
    assert_type(fastloss.focal_loss(logits, labels, gamma=1.0), Real)
    assert_type(fastloss.poly_loss_cross_entropy(logits, labels, reduction="none"), Reals)
    assert_type(fastloss.linear_cross_entropy(logits, logits, labels), Real)
    assert_type(fastloss.gaussian_nll_loss(logits, logits, logits), Real)


def wherever_arrays_live() -> None:
    assert_type(fastloss.mse_loss(lazy, lazy), Lazy)
    assert_type(fastloss.cross_entropy(lazy, labels, reduction="none"), Lazy)
    assert_type(fastloss.mse_loss(on_device, on_device), OnDevice | Real | Reals)
    assert_type(fastloss.softmax(on_device), OnDevice | Reals)
    assert_type(fastloss.softmax(on_device, out=on_device), OnDevice)


def arrays() -> None:
    assert_type(fastloss.softmax(logits), Reals)
    assert_type(fastloss.log_softmax([0.0, 1.0]), Reals)
    assert_type(fastloss.logsumexp(logits), Real | Reals)
    assert_type(fastloss.logsumexp(logits, keepdims=True), Reals)


def records() -> None:
    scores = fastloss.score(logits, labels, top_k=2)
    assert_type(scores, fastloss.Scores)
    assert_type(scores.lse, Reals)
    assert_type(scores.argmax, NDArray[np.int64])
    assert_type(scores.nll, Reals | None)
    assert_type(scores.in_top_k, NDArray[np.bool_] | None)
    comparison = fastloss.compare(logits, logits)
    assert_type(comparison, fastloss.Comparison)
    assert_type(comparison.kl, Reals)
    comparison = fastloss.compare(logits, logits, linear_weight=logits, reference_linear_bias=logits)
    assert_type(comparison, fastloss.Comparison)
    assert_type(fastloss.brier_score(logits, labels), np.float64)
    assert_type(fastloss.calibration_error(logits, labels, norm="max"), np.float64)


def gradients() -> None:
    assert_type(fastloss.value_and_grad(fastloss.cross_entropy)(logits, labels), tuple[Real, Reals])
    assert_type(fastloss.value_and_grad(fastloss.mse_loss, "pred")(pred=logits, target=logits), tuple[Real, Reals])
    assert_type(fastloss.value_and_grad(fastloss.mse_loss)(lazy, lazy), tuple[Lazy, Lazy])
    both = fastloss.value_and_grad(fastloss.linear_cross_entropy, ["hidden", "linear_weight"])
    assert_type(both(logits, logits, labels), tuple[Real, tuple[Reals, ...]])


def losses_of_ones_own() -> None:
    loss = fastloss.pointwise_loss("def cubed(x, y):\n    return abs(x - y) * (x - y) * (x - y)\n")
    assert_type(loss(logits, logits), Real)
    assert_type(loss(logits, logits, reduction="none"), Reals)
    assert_type(loss(logits, logits, axis=0), Real | Reals)
    assert_type(fastloss.value_and_grad(loss)(logits, logits), tuple[Real, Reals])


def sums_and_settings() -> None:
    accumulator = fastloss.Accumulator(fastloss.cross_entropy, ignore_index=0)
    accumulator.update(logits, labels)
    assert_type(accumulator.compute(), np.float64)
    assert_type(accumulator.merge(accumulator), fastloss.Accumulator)
    assert_type(accumulator.count, int)
    assert_type(accumulator.to_array(), NDArray[np.float64])
    assert_type(fastloss.Accumulator("perplexity").compute(), np.float64)
    assert_type(fastloss.backends(), dict[str, str])
    assert_type(fastloss.__version__, str)
    with fastloss.use_threads(1), fastloss.use_backend("numpy") as used:
        assert_type(used, fastloss.use_backend)


def mistakes() -> None:
    """Each would be reported, or mypy says that its comment is not needed."""
    fastloss.cross_entropy(logits)  # type: ignore[call-overload]
    fastloss.cross_entropy(logits, labels, 0)  # type: ignore[call-overload]
    fastloss.mse_loss(logits, logits, delta=1.0)  # type: ignore[call-overload]
    fastloss.softmax(logits, axis="last")  # type: ignore[call-overload]
    fastloss.cross_entropy_loss(logits, labels)  # type: ignore[attr-defined]
    fastloss.use_threads("two")  # type: ignore[arg-type]
