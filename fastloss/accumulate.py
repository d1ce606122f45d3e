"""Losses and metrics of data that come in pieces."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastloss import _arrays, _errors, _places, _reduce, _score, functional
from fastloss._exact import DIGITS, ExactSum
from fastloss._pointwise import Totals

# --- metrics: like the losses they put sums into `out` ------------------------------------------------------------------


def _perplexity(logits, target, *, axis=-1, ignore_index=-100, out):
    functional.cross_entropy(logits, target, axis=axis, ignore_index=ignore_index, out=out)


def _bits_per_byte(logits, target, n_bytes, *, axis=-1, ignore_index=-100, out):
    functional.cross_entropy(logits, target, axis=axis, ignore_index=ignore_index, out=out)
    n_bytes = _arrays.asarray(n_bytes, "n_bytes")
    if n_bytes.dtype.kind not in "iu" or n_bytes.size and n_bytes.min() < 0:
        raise _errors.not_a_size("n_bytes", n_bytes.dtype)
    out.take(out.total / math.log(2.0), np.sum(n_bytes, dtype=np.float64), out.count)


def _accuracy(logits, target, *, axis=-1, ignore_index=-100, top_k=None, out):
    scores = _score.evaluate(logits, target, axis, ignore_index, top_k)
    place = _places.elsewhere(logits, target)
    lazy = hasattr(place, "computed")
    target = target if lazy else _arrays.asarray(target, "target")
    hits = np.count_nonzero(scores.correct if top_k is None else scores.in_top_k)
    counted = np.count_nonzero(target != ignore_index)
    if lazy:
        hits, counted = place.computed(hits, counted)
    out.take(hits, counted, counted)


METRICS = {"perplexity": _perplexity, "bits_per_byte": _bits_per_byte, "accuracy": _accuracy}

# What is done to a ratio of sums at the end.
_FINISH = {functional.rmse_loss: np.sqrt, _perplexity: np.exp}

_ROWWISE = {
    functional.cross_entropy,
    functional.nll_loss,
    functional.categorical_cross_entropy,
    functional.linear_cross_entropy,
    *METRICS.values(),
}

HEADER = 1  # numbers of an array before its two sums: the count


class Accumulator:
    """A loss or metric over data that come in pieces: chunks of a file, shards, processes, machines.

    The result is that of one call over all data, as the mean's numerator and denominator are summed apart: weights, ignored
    targets and pieces of any size count as they should.

    Parameters
    ----------
    fn : callable or str
        A loss of this package, or a metric: ``"perplexity"``, exp of the mean `cross_entropy`; ``"bits_per_byte"``, its sum in bits
        over the bytes of the text; ``"accuracy"``, the share of targets that are the arg max, or with ``top_k=k`` among the k
        largest logits.
    **kwargs
        The options of `fn`, as in its calls; of metrics `axis`, `ignore_index` and `top_k`.  They are checked here.  The
        exceptions are ``reduction="none"``, `axis` of regression losses, and `out`, which an accumulator has no use for.

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
        measure = METRICS.get(fn) if isinstance(fn, str) else fn
        if measure not in functional.LOSSES and measure not in METRICS.values() or measure is None:
            raise _errors.not_accumulated(fn, tuple(METRICS))
        known = set(measure.__kwdefaults__) - {"out"}
        if measure not in _ROWWISE:
            known.discard("axis")
        for name in kwargs:
            if name not in known:
                raise _errors.unknown_option(fn if isinstance(fn, str) else fn.__name__, name, sorted(known))
        if kwargs.get("reduction") == "none":
            raise _errors.accumulated_none()
        self._fn, self._measure, self._options = fn, measure, kwargs
        self._lock = threading.Lock()
        self.reset()
        self._check_options()

    def _check_options(self):
        """Have the options checked by calling the function with nothing to compute."""
        options = self._options
        if self._measure in _ROWWISE:
            weight = options.get("weight")
            n_classes = 1 if weight is None else np.size(_arrays.asarray(weight, "weight"))
            axis = _arrays.integer(options.get("axis", -1), "axis")
            shape = [0] * max(2, axis + 1, -axis)
            rows_shape = shape[1:]
            shape[axis] = n_classes
            operands = [np.zeros(shape), np.zeros(rows_shape, np.int64)]
            if self._measure is functional.linear_cross_entropy:
                bias = options.get("linear_bias")
                n_classes = n_classes if bias is None else np.size(_arrays.asarray(bias, "linear_bias"))
                operands = [np.zeros((0, 1)), np.zeros((n_classes, 1)), np.zeros(0, np.int64)]
            elif self._measure is _bits_per_byte:
                operands.append(0)
        else:
            arrays = [options[name] for name in ("weight", "pos_weight") if options.get(name) is not None]
            shape = (0, *np.broadcast_shapes(*(np.shape(array) for array in arrays)))
            operands = [np.zeros(shape)] * (3 if self._measure is functional.gaussian_nll_loss else 2)
        self._measure(*operands, **options, out=Totals())

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
        if "weight" in options and "weight" not in self._measure.__kwdefaults__:
            raise _errors.unknown_option(self._name(), "weight", sorted(self._measure.__kwdefaults__))
        totals = Totals()
        self._measure(*operands, **options, out=totals)
        with self._lock:
            self._total.add(totals.total)
            self._weight.add(totals.weight)
            self._count += totals.count

    def merge(self, other: Accumulator) -> Accumulator:
        """Add what another accumulator, of the same loss and options, has added up; returns this one."""
        if not isinstance(other, Accumulator) or not self._is_alike(other):
            raise _errors.unlike_accumulators(self, other)
        total, weight, count = other._state()
        with self._lock:
            self._total.merge(total)
            self._weight.merge(weight)
            self._count += count
        return self

    def compute(self) -> np.float64:
        """The loss or metric of all data so far; NaN, or 0 for ``reduction="sum"``, where nothing has been counted."""
        total, weight, _ = self._state()
        if self._options.get("reduction") == "sum":
            value = float(total)
        else:
            value = _reduce.mean_of_sums(total, weight, self._measure in _ROWWISE)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.float64(_FINISH.get(self._measure, np.float64)(value))

    def reset(self) -> None:
        """Forget all data."""
        with self._lock:
            self._total, self._weight, self._count = ExactSum(), ExactSum(), 0

    @property
    def count(self) -> int:
        """How many rows, or elements, have been counted; ignored targets are not."""
        return self._count

    def to_array(self) -> np.ndarray:
        """The state as float64 numbers, always as many; element-wise sums of such arrays are states of the data together."""
        total, weight, count = self._state()
        return np.concatenate(([float(count)], total.to_array(), weight.to_array()))

    def from_array(self, array: ArrayLike) -> Accumulator:
        """A new accumulator of the same loss and options, with the state that `to_array` gave."""
        array = np.asarray(array, np.float64)
        if array.shape != (HEADER + 2 * (DIGITS + 1),):
            raise _errors.wrong_shape("array", array.shape, f"({HEADER + 2 * (DIGITS + 1)},)")
        new = Accumulator(self._fn, **self._options)
        total, weight = np.split(array[HEADER:], 2)
        new._total, new._weight, new._count = ExactSum.from_array(total), ExactSum.from_array(weight), int(array[0])
        return new

    def _state(self):
        with self._lock:
            return self._total.copy(), self._weight.copy(), self._count

    def _name(self):
        return self._fn if isinstance(self._fn, str) else self._fn.__name__

    def _is_alike(self, other):
        mine, others = self._options, other._options
        return (
            self._measure is other._measure
            and mine.keys() == others.keys()
            and all(np.array_equal(mine[name], others[name]) for name in mine)
        )

    def __getstate__(self):
        return self._fn, self._options, self._state()

    def __setstate__(self, state):
        fn, options, (total, weight, count) = state
        self.__init__(fn, **options)
        self._total, self._weight, self._count = total, weight, count

    def __repr__(self):
        options = "".join(f", {name}={value!r}" for name, value in self._options.items())
        return f"Accumulator({self._name()}{options})"
