"""Losses and metrics of data that arrives in batches."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastloss import _arrays, _errors, _reduce, functional, losses, places
from fastloss._exact import DIGITS, ExactSum
from fastloss.calls.bind import bind
from fastloss.calls.resolve import Signature, resolve, signature
from fastloss.calls.want import SUMS, Bins, Squares, Sums
from fastloss.evaluate import evaluate


def sums_of(function: losses.Function, *args: Any, **kwargs: Any) -> Sums | Squares | Bins:
    """The sums that the result of ``function(*args, **kwargs)`` is computed from."""
    operands, options = bind(function, args, kwargs)
    found: Sums | Squares | Bins = evaluate(function, operands, options, None, SUMS)
    return found


# --- measures: losses, and metrics made of what they sum up -----------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """What an accumulator adds up: here numerator and denominator of a mean.

    Attributes
    ----------
    name : of the loss or metric.
    function : the row of the function whose arguments it takes.
    found : a function from operands, and options by name, to `Sums` or `Bins`.
    options : names of the options that can be accumulated.
    finish : what is applied to the ratio of the sums in the end, such as exp for a perplexity.
    """

    name: str
    function: losses.Function
    found: Callable[..., Sums | Squares | Bins]
    options: frozenset[str]
    finish: Callable[[float], float] = float

    def n_sums(self, options: dict[str, Any]) -> int:
        """How many sums there are."""
        return 2

    def value(self, sums: Sequence[ExactSum], options: dict[str, Any]) -> float:
        """The loss or metric of all data so far, from its sums."""
        total, weight = sums
        if options.get("reduction") == "sum":
            return self.finish(float(total))
        return self.finish(_reduce.mean_of_sums(total, weight, self.function.family != "elements"))


class Rooted(Measure):
    """The root of a mean of squares; squares outside float64's range have sums of their own."""

    def n_sums(self, options: dict[str, Any]) -> int:
        return 4

    def value(self, sums: Sequence[ExactSum], options: dict[str, Any]) -> float:
        total, weight, huge, tiny = sums
        return _reduce.root_of_sums(total, None if options.get("reduction") == "sum" else weight, huge, tiny)


class Binned(Measure):
    """Three sums per bin: confidences, hits, rows."""

    def n_sums(self, options: dict[str, Any]) -> int:
        return 3 * int(self._values(options)["bins"])

    def value(self, sums: Sequence[ExactSum], options: dict[str, Any]) -> float:
        bins = Bins(*np.split(np.array([float(s) for s in sums]), 3))
        return _reduce.calibration_error(bins, self._values(options)["norm"])

    def _values(self, options: dict[str, Any]) -> dict[str, Any]:
        """All options by name."""
        return {option.name: options.get(option.name, option.default) for option in self.function.options}


def _bits_per_byte(logits: Any, target: Any, n_bytes: Any, **options: Any) -> Sums:
    found = sums_of(losses.CROSS_ENTROPY, logits, target, **options)
    assert isinstance(found, Sums)
    n_bytes = _arrays.asarray(n_bytes, "n_bytes")
    if n_bytes.dtype.kind not in "iu" or n_bytes.size and n_bytes.min() < 0:
        raise _errors.not_a_size("n_bytes", n_bytes.dtype)
    return Sums(found.total / math.log(2.0), float(np.sum(n_bytes, dtype=np.float64)), found.count)


def _accuracy(logits: Any, target: Any, *, top_k: Any = None, **options: Any) -> Sums:
    operands, values = bind(losses.SCORE, (logits, target), options | {"top_k": top_k})
    scores = evaluate(losses.SCORE, operands, values)
    place = places.of((logits, target))
    lazy = hasattr(place, "computed")
    target = target if lazy else _arrays.asarray(target, "target")
    hits = np.count_nonzero(scores.correct if top_k is None else scores.in_top_k)
    counted = np.count_nonzero(target != options.get("ignore_index", -100))
    if lazy:
        hits, counted = place.computed(hits, counted)
    return Sums(float(hits), float(counted), int(counted))


def _entropy(logits: Any, target: Any = None, **options: Any) -> Sums:
    """The summed entropies of rows; if there are targets, only of rows whose target is not ignored."""
    operands, values = bind(losses.SCORE, (logits, target), options | {"entropy": True})
    entropies = evaluate(losses.SCORE, operands, values).entropy.astype(np.float64)
    place = places.of((logits, target))
    lazy = hasattr(place, "computed")
    counted = np.ones(entropies.shape, bool)
    if target is not None:
        counted = (target if lazy else _arrays.asarray(target, "target")) != options.get("ignore_index", -100)
    total, count = np.sum(np.where(counted, entropies, 0.0)), np.count_nonzero(counted)
    if lazy:
        total, count = place.computed(total, count)
    return Sums(float(total), float(count), int(count))


_ROWS = frozenset(("axis", "ignore_index"))
_LOGITS = _ROWS | {option.name for option in losses.TRANSFORMS}


def _of(
    function: losses.Function,
    kind: type[Measure] = Measure,
    name: str | None = None,
    options: frozenset[str] | None = None,
    finish: Callable[[float], float] = float,
) -> Measure:
    """The measure made of a function's own sums."""
    options = frozenset(function.keywords) if options is None else options
    return kind(name or function.name, function, functools.partial(sums_of, function), options, finish)


METRICS = {
    "perplexity": _of(losses.CROSS_ENTROPY, name="perplexity", options=_LOGITS, finish=np.exp),
    "bits_per_byte": Measure("bits_per_byte", losses.CROSS_ENTROPY, _bits_per_byte, _LOGITS),
    "accuracy": Measure("accuracy", losses.SCORE, _accuracy, _ROWS | {"top_k"}),
    "entropy": Measure("entropy", losses.SCORE, _entropy, _LOGITS),
    "brier": _of(losses.BRIER),
    "calibration": _of(losses.CALIBRATION, Binned),
}

# Functions that are not losses.
_SCORES: dict[Hashable, Measure] = {
    functional.brier_score: _of(losses.BRIER_SCORE),
    functional.calibration_error: _of(losses.CALIBRATION_ERROR, Binned),
}


def _measure(fn: object) -> Measure | None:
    """The measure that `fn` stands for, or None."""
    if isinstance(fn, str):
        return METRICS.get(fn)
    loss = functional.loss_of(fn)
    if loss is None:
        return _SCORES.get(fn) if isinstance(fn, Hashable) else None
    options = frozenset(loss.keywords) - (frozenset() if loss.rowwise else {"axis"})
    return _of(loss, Rooted if loss.root else Measure, options=options)


HEADER = 1  # how many numbers precede the sums in the array form: the count


class Accumulator:
    """A loss or metric of data that arrives in batches: chunks of a file, shards, processes, machines.

    The result is that of one call on all the data, because the mean's numerator and denominator are summed separately:
    weights, ignored targets and batches of any size count as they should.

    Parameters
    ----------
    fn : callable or str
        A loss of this package, `brier_score` or `calibration_error`; or a metric of logits: ``"perplexity"``, exp of
        the mean `cross_entropy`; ``"bits_per_byte"``, its sum in bits over the bytes of the text; ``"accuracy"``, the
        share of targets that are the arg max, or with ``top_k=k`` among the k largest logits; ``"entropy"``, the mean
        entropy of the rows, where targets may be left out; ``"brier"`` and ``"calibration"``, the Brier score and the
        calibration error of their softmax, or of the logistic function of logits (n,) with labels 0 or 1.
    **kwargs
        The options of `fn`, as in its calls; for metrics `axis` and `ignore_index`, `top_k`, `bins` and `norm`.  They
        are checked here.  Not allowed are ``reduction="none"``, the `axis` of regression losses, and `out`.

    Raises
    ------
    TypeError
        If `fn` is none of these, or has no such option.
    ValueError
        If `fn` refuses an option's value, and for ``reduction="none"``.

    Notes
    -----
    What each `update` adds is computed in float64; adding and merging are exact.  So the same updates give the same
    bits in any order and grouping, and with any number of accumulators that are then merged.  The same data cut into
    different batches agrees to about 1e-15, as other sums in float64 do.  The state has a fixed size.

    Several threads may update one accumulator.  It can be pickled.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> loss = fastloss.Accumulator(fastloss.cross_entropy, ignore_index=0)
    >>> loss.update(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [1, 1])
    >>> loss.update(np.array([[0.0, 0.0, 0.0]]), [2])
    >>> loss.compute(), loss.count
    (np.float64(1.14436...), 3)

    Merging, as at the end of parallel work:

    >>> other = fastloss.Accumulator(fastloss.cross_entropy, ignore_index=0)
    >>> other.update(np.array([[5.0, 0.0, 0.0]]), [0])
    >>> loss.merge(other).count
    3

    The sum over processes, where an MPI ``Allreduce`` would take the place of ``+``:

    >>> total = loss.from_array(loss.to_array() + other.to_array())
    >>> total.compute() == loss.compute()
    np.True_
    """

    def __init__(self, fn: Callable[..., Any] | str, **kwargs: Any) -> None:
        measure = _measure(fn)
        if measure is None:
            raise _errors.not_accumulated(fn, tuple(METRICS))
        for name in kwargs:
            if name not in measure.options:
                raise _errors.unknown_option(measure.name, name, sorted(measure.options))
        if isinstance(kwargs.get("reduction"), str) and kwargs["reduction"] == "none":
            raise _errors.accumulated_none()
        self._fn, self._measure, self._options = fn, measure, kwargs
        self._lock = threading.Lock()
        self._check_options()
        self.reset()

    def _check_options(self) -> None:
        """Check the options by resolving a call on empty arrays that fit them."""
        function, given = self._measure.function, self._options
        arrays = {
            name: _arrays.asarray(given[name], name) for name in function.more_arrays if given.get(name) is not None
        }
        known = {name: signature(a) for name, a in arrays.items()}
        axis = given.get("axis", -1)
        _, options = bind(function, (None,) * len(function.arrays), given)
        signatures = _fitting(function, known, axis)
        resolve(function, [signatures.get(name) for name in function.operands], options, SUMS)

    def update(self, *operands: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Add data.

        Parameters
        ----------
        *operands : array_like
            What `fn` takes before its options: predictions and targets; also variances for `gaussian_nll_loss`; hidden
            states, the layer's weights and targets for `linear_cross_entropy`; and for ``"bits_per_byte"``, after the
            targets, the number of bytes, as one number or an array.  Dask arrays are computed here, chunk by chunk.
        weight : array_like, optional
            Weights of these data, in place of the option.

        Raises
        ------
        IndexError, TypeError, ValueError
            As `fn` does; nothing has been added then.
        """
        options = self._options if weight is None else self._options | {"weight": weight}
        if "weight" in options and "weight" not in self._measure.options:
            raise _errors.unknown_option(self._measure.name, "weight", sorted(self._measure.options))
        found = self._measure.found(*operands, **options)
        with self._lock:
            for own, number in zip(self._sums, found.numbers, strict=True):
                own.add(number)
            self._count += found.count or 0

    def merge(self, other: Accumulator) -> Accumulator:
        """Add the sums of another accumulator, of the same loss and options; returns this one."""
        if not isinstance(other, Accumulator) or not self._is_alike(other):
            raise _errors.unlike_accumulators(self, other)
        sums, count = other._state()
        with self._lock:
            for own, its in zip(self._sums, sums, strict=True):
                own.merge(its)
            self._count += count
        return self

    def compute(self) -> np.float64:
        """The loss or metric of all data so far; NaN, or 0 for ``reduction="sum"``, if nothing has been counted."""
        sums, _ = self._state()
        with np.errstate(over="ignore", invalid="ignore"):
            return np.float64(self._measure.value(sums, self._options))

    def reset(self) -> None:
        """Forget all data."""
        with self._lock:
            self._sums, self._count = [ExactSum() for _ in range(self._measure.n_sums(self._options))], 0

    @property
    def count(self) -> int:
        """How many rows, or elements, have been counted; ignored targets are not."""
        return self._count

    def to_array(self) -> NDArray[np.float64]:
        """The state as a float64 array of fixed length; the element-wise sum of such arrays is the state of all their
        data."""
        sums, count = self._state()
        return np.concatenate(([float(count)], *(s.to_array() for s in sums)))

    def from_array(self, array: ArrayLike) -> Accumulator:
        """A new accumulator of the same loss and options, with the state in `array`, which comes from `to_array`."""
        array = np.asarray(array, np.float64)
        new = Accumulator(self._fn, **self._options)
        n_sums = len(new._sums)
        if array.shape != (HEADER + n_sums * (DIGITS + 1),):
            raise _errors.wrong_shape("array", array.shape, f"({HEADER + n_sums * (DIGITS + 1)},)")
        parts = np.split(array[HEADER:], n_sums)
        for numbers in (array[:HEADER], *(part[:DIGITS] for part in parts)):
            if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
                raise _errors.not_a_state(float(numbers[~np.isfinite(numbers) | (numbers != np.floor(numbers))][0]))
        new._sums, new._count = [ExactSum.from_array(part) for part in parts], int(array[0])
        return new

    def _state(self) -> tuple[list[ExactSum], int]:
        with self._lock:
            return [own.copy() for own in self._sums], self._count

    def _is_alike(self, other: Accumulator) -> bool:
        mine, others = self._options, other._options
        return (
            self._fn == other._fn
            and mine.keys() == others.keys()
            and all(np.array_equal(mine[name], others[name]) for name in mine)
        )

    def __getstate__(self) -> tuple[Any, ...]:
        return self._fn, self._options, self._state()

    def __setstate__(self, state: Any) -> None:
        fn, options, (sums, count) = state
        Accumulator.__init__(self, fn, **options)
        self._sums, self._count = sums, count

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._options.items())
        return f"Accumulator({self._measure.name}{options})"


def _fitting(function: losses.Function, known: dict[str, Signature], axis: Any) -> dict[str, Signature]:
    """{name: Signature} of empty arrays whose shapes fit the arrays among the options."""
    if function.family == "elements":
        shape: tuple[int, ...] = (0,) if not known else (0, *np.broadcast_shapes(*(s.shape for s in known.values())))
        return {name: Signature("float64", shape) for name in function.arrays} | known
    n_classes = next((math.prod(known[name].shape) for name in ("weight", "linear_bias") if name in known), 1)
    if function.family == "layer":
        layer, rows = Signature("float64", (n_classes, 1)), Signature("float64", (0, 1))
        return {"hidden": rows, "linear_weight": layer, "target": Signature("int64", (0,))} | known
    ndim = max(2, axis + 1, -axis) if isinstance(axis, int) else 2
    lengths = [0] * ndim
    lengths[axis if isinstance(axis, int) else -1] = n_classes
    return {
        function.arrays[0]: Signature("float64", tuple(lengths)),
        "target": Signature("int64", (0,) * (ndim - 1)),
    } | known
