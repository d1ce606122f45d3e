"""Losses and metrics of data that come in pieces."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastloss import _arrays, _errors, _reduce, functional, losses, places
from fastloss._exact import DIGITS, ExactSum
from fastloss.calls.bind import bind
from fastloss.calls.resolve import Signature, resolve, signature
from fastloss.calls.want import SUMS, Bins, Squares, Sums
from fastloss.evaluate import evaluate


def sums_of(function: losses.Function, *args: Any, **kwargs: Any) -> Sums | Squares | Bins:
    """What the result of a call is made of."""
    operands, options = bind(function, args, kwargs)
    return evaluate(function, operands, options, None, SUMS)


# --- measures: losses, and metrics made of what they sum up ----------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """What an accumulator adds up: here the two sums that a mean divides.

    Attributes
    ----------
    name : of the loss or metric.
    function : the row of the function whose arguments it takes.
    found : from operands and options by name to `Sums`, or to `Bins`.
    options : names of the options that can be accumulated.
    finish : what is done to the ratio of sums in the end.
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
        """The loss or metric of all data, from its sums."""
        total, weight = sums
        if options.get("reduction") == "sum":
            return self.finish(float(total))
        return self.finish(_reduce.mean_of_sums(total, weight, self.function.family != "elements"))


class Rooted(Measure):
    """A root of a mean of squares: sums of those outside float64's range are apart."""

    def n_sums(self, options):
        return 4

    def value(self, sums, options):
        total, weight, huge, tiny = sums
        return _reduce.root_of_sums(total, None if options.get("reduction") == "sum" else weight, huge, tiny)


class Binned(Measure):
    """Three sums for each bin: of confidences, of hits, of rows."""

    def n_sums(self, options):
        return 3 * self._values(options)["bins"]

    def value(self, sums, options):
        bins = Bins(*np.split(np.array([float(s) for s in sums]), 3))
        return _reduce.calibration_error(bins, self._values(options)["norm"])

    def _values(self, options):
        """All options by name."""
        return {option.name: options.get(option.name, option.default) for option in self.function.options}


def _bits_per_byte(logits, target, n_bytes, **options):
    found = sums_of(losses.CROSS_ENTROPY, logits, target, **options)
    n_bytes = _arrays.asarray(n_bytes, "n_bytes")
    if n_bytes.dtype.kind not in "iu" or n_bytes.size and n_bytes.min() < 0:
        raise _errors.not_a_size("n_bytes", n_bytes.dtype)
    return Sums(found.total / math.log(2.0), float(np.sum(n_bytes, dtype=np.float64)), found.count)


def _accuracy(logits, target, *, top_k=None, **options):
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


def _entropy(logits, target=None, **options):
    """The summed entropies of rows, of those alone whose target counts where there are targets."""
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


def _of(function, kind=Measure, name=None, options=None, finish=float):
    """The measure that a function's own sums are of."""
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

# Of functions that are no losses.
_SCORES = {
    functional.brier_score: _of(losses.BRIER_SCORE),
    functional.calibration_error: _of(losses.CALIBRATION_ERROR, Binned),
}


def _measure(fn):
    """What `fn` stands for, or None."""
    if isinstance(fn, str):
        return METRICS.get(fn)
    loss = functional.loss_of(fn)
    if loss is None:
        return _SCORES.get(fn) if isinstance(fn, Hashable) else None
    options = frozenset(loss.keywords) - (frozenset() if loss.rowwise else {"axis"})
    return _of(loss, Rooted if loss.root else Measure, options=options)


HEADER = 1  # numbers of an array before its sums: the count


class Accumulator:
    """A loss or metric over data that come in pieces: chunks of a file, shards, processes, machines.

    The result is that of one call over all data, as the mean's numerator and denominator are summed apart: weights, ignored
    targets and pieces of any size count as they should.

    Parameters
    ----------
    fn : callable or str
        A loss of this package, `brier_score` or `calibration_error`; or a metric of logits: ``"perplexity"``, exp of the mean
        `cross_entropy`; ``"bits_per_byte"``, its sum in bits over the bytes of the text; ``"accuracy"``, the share of targets that
        are the arg max, or with ``top_k=k`` among the k largest logits; ``"entropy"``, the mean entropy of the rows, where targets
        may be left out; ``"brier"`` and ``"calibration"``, the Brier score and
        the calibration error of their softmax, or of the logistic function of logits (n,) with labels 0 or 1.
    **kwargs
        The options of `fn`, as in its calls; of metrics `axis` and `ignore_index`, `top_k`, `bins` and `norm`.  They are checked
        here.  The exceptions are ``reduction="none"``, `axis` of regression losses, and `out`, which an accumulator has no use for.

    Raises
    ------
    TypeError
        If `fn` is neither, or has no such option.
    ValueError
        If `fn` refuses an option's value, and for ``reduction="none"``.

    Notes
    -----
    What each `update` adds is computed in float64; adding and merging are exact.  So the same updates give the same bits in any
    order, in any grouping, by any number of accumulators that are merged.  The same data cut into other pieces agree to about
    1e-15, as other sums of float64 do.  The state is of fixed size whatever is added.

    Updates may come from several threads.  An accumulator can be pickled.

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

    def __init__(self, fn: Callable[..., Any] | str, **kwargs: Any):
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

    def _check_options(self):
        """Have the options resolved for arrays that fit them, of which there is no data."""
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
            What `fn` takes before its options: predictions and targets; the variances of `gaussian_nll_loss`; hidden states,
            weights of the layer and targets of `linear_cross_entropy`; and for ``"bits_per_byte"`` the number of bytes, one or an
            array of them, after the targets.  Dask arrays are computed here, chunk by chunk.
        weight : array_like, optional
            Weights of these data, in place of the option.

        Raises
        ------
        IndexError, TypeError, ValueError
            As `fn` does; then nothing has been added.
        """
        options = self._options if weight is None else self._options | {"weight": weight}
        if "weight" in options and "weight" not in self._measure.options:
            raise _errors.unknown_option(self._measure.name, "weight", sorted(self._measure.options))
        found = self._measure.found(*operands, **options)
        with self._lock:
            for own, number in zip(self._sums, found.numbers, strict=True):
                own.add(number)
            self._count += found.count

    def merge(self, other: Accumulator) -> Accumulator:
        """Add what another accumulator, of the same loss and options, has added up; returns this one."""
        if not isinstance(other, Accumulator) or not self._is_alike(other):
            raise _errors.unlike_accumulators(self, other)
        sums, count = other._state()
        with self._lock:
            for own, its in zip(self._sums, sums, strict=True):
                own.merge(its)
            self._count += count
        return self

    def compute(self) -> np.float64:
        """The loss or metric of all data so far; NaN, or 0 for ``reduction="sum"``, where nothing has been counted."""
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

    def to_array(self) -> np.ndarray:
        """The state as float64 numbers, always as many; element-wise sums of such arrays are states of the data together."""
        sums, count = self._state()
        return np.concatenate(([float(count)], *(s.to_array() for s in sums)))

    def from_array(self, array: ArrayLike) -> Accumulator:
        """A new accumulator of the same loss and options, with the state that `to_array` gave."""
        array = np.asarray(array, np.float64)
        new = Accumulator(self._fn, **self._options)
        n_sums = len(new._sums)
        if array.shape != (HEADER + n_sums * (DIGITS + 1),):
            raise _errors.wrong_shape("array", array.shape, f"({HEADER + n_sums * (DIGITS + 1)},)")
        parts = np.split(array[HEADER:], n_sums)
        new._sums, new._count = [ExactSum.from_array(part) for part in parts], int(array[0])
        return new

    def _state(self):
        with self._lock:
            return [own.copy() for own in self._sums], self._count

    def _is_alike(self, other):
        mine, others = self._options, other._options
        return (
            self._fn == other._fn
            and mine.keys() == others.keys()
            and all(np.array_equal(mine[name], others[name]) for name in mine)
        )

    def __getstate__(self):
        return self._fn, self._options, self._state()

    def __setstate__(self, state):
        fn, options, (sums, count) = state
        self.__init__(fn, **options)
        self._sums, self._count = sums, count

    def __repr__(self):
        options = "".join(f", {name}={value!r}" for name, value in self._options.items())
        return f"Accumulator({self._measure.name}{options})"


def _fitting(function, known, axis):
    """Signatures, by name, of arrays that go with those of the options: of no rows, or of no elements."""
    if function.family == "elements":
        shape = (0,) if not known else (0, *np.broadcast_shapes(*(s.shape for s in known.values())))
        return {name: Signature("float64", shape) for name in function.arrays} | known
    n_classes = next((math.prod(known[name].shape) for name in ("weight", "linear_bias") if name in known), 1)
    if function.family == "layer":
        layer, rows = Signature("float64", (n_classes, 1)), Signature("float64", (0, 1))
        return {"hidden": rows, "linear_weight": layer, "target": Signature("int64", (0,))} | known
    ndim = max(2, axis + 1, -axis) if isinstance(axis, int) else 2
    shape = [0] * ndim
    shape[axis if isinstance(axis, int) else -1] = n_classes
    return {
        function.arrays[0]: Signature("float64", tuple(shape)),
        "target": Signature("int64", (0,) * (ndim - 1)),
    } | known
