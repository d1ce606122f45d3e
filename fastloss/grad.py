"""Values together with gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, overload

from numpy.typing import ArrayLike, NDArray

from fastloss import _errors, functional
from fastloss._types import AnyArray, DeviceT, LazyT, OutT, Real, RealArray
from fastloss.calls.bind import bind
from fastloss.calls.want import slopes
from fastloss.evaluate import evaluate
from fastloss.losses import Loss


def with_gradient(fn: Callable[..., object]) -> tuple[str, ...]:
    """The names of the arguments with respect to which a loss can be differentiated."""
    loss = functional.loss_of(fn)
    if loss is None:
        raise _errors.not_a_loss(fn)
    return loss.differentiable


class ValueAndGradient(Protocol):
    """A loss that returns its value and its gradient."""

    @overload
    def __call__(self, first: LazyT, /, *args: AnyArray, out: None = ..., **kwargs: Any) -> tuple[LazyT, LazyT]: ...
    @overload
    def __call__(
        self, first: DeviceT, /, *args: AnyArray, out: None = ..., **kwargs: Any
    ) -> tuple[DeviceT | Real, DeviceT | RealArray]: ...
    @overload
    def __call__(self, *args: ArrayLike, out: None = ..., **kwargs: Any) -> tuple[Real, RealArray]: ...
    @overload
    def __call__(self, *args: ArrayLike, out: OutT, **kwargs: Any) -> tuple[Real, OutT]: ...


class ValueAndGradients(Protocol):
    """A loss that returns its value and several gradients."""

    @overload
    def __call__(
        self, first: LazyT, /, *args: AnyArray, out: None = ..., **kwargs: Any
    ) -> tuple[LazyT, tuple[LazyT, ...]]: ...
    @overload
    def __call__(
        self, first: DeviceT, /, *args: AnyArray, out: Sequence[DeviceT | None] | None = ..., **kwargs: Any
    ) -> tuple[DeviceT | Real, tuple[DeviceT | RealArray, ...]]: ...
    @overload
    def __call__(
        self, *args: ArrayLike, out: Sequence[NDArray[Any] | None] | None = ..., **kwargs: Any
    ) -> tuple[Real, tuple[RealArray, ...]]: ...


@overload
def value_and_grad(fn: Callable[..., object], wrt: str | None = None) -> ValueAndGradient: ...
@overload
def value_and_grad(fn: Callable[..., object], wrt: list[str] | tuple[str, ...]) -> ValueAndGradients: ...


def value_and_grad(
    fn: Callable[..., object], wrt: str | Sequence[str] | None = None
) -> ValueAndGradient | ValueAndGradients:
    """Turn a loss into a function that returns its value and its gradient, computed in one sweep.

    Parameters
    ----------
    fn : callable
        A loss of this package, such as ``fastloss.cross_entropy``.
    wrt : str or sequence of str, optional
        Names of the arguments to differentiate with respect to; by default the first.  All losses have a gradient for
        that one; `linear_cross_entropy` also has one for ``"linear_weight"`` and ``"linear_bias"``.

    Returns
    -------
    callable
        Takes the arguments of `fn` and returns ``(value, gradient)``; can be pickled.  The gradient is the derivative of
        the value with respect to the argument: an array of its shape, float32 for inputs of up to 32 bits, float64
        otherwise.  For a sequence in `wrt` it is a tuple of such, in that order.  ``out=``, if given, is an array for the
        gradient, or a sequence of arrays (or None) for several.

    Raises
    ------
    TypeError
        If `fn` is not a loss of this package.
    ValueError
        For ``reduction="none"``, or an `axis` that leaves more than one value: a vector has no gradient.  For names in
        `wrt` that the loss has no gradient for.

    Notes
    -----
    Where every target is ignored the mean is NaN and the gradient 0.  An ignored row's gradient is 0 even if the row
    holds NaN.  At the kinks of the absolute, quantile and Huber losses the slope is 0 or the one-sided limit that
    ``torch.autograd`` also gives; the gradient of the root mean squared error is 0 where that error is 0.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> value, gradient = fastloss.value_and_grad(fastloss.mse_loss)(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> value, gradient
    (np.float64(2.0), array([ 0., -2.]))
    """
    loss = functional.loss_of(fn)
    if loss is None:
        raise _errors.not_a_loss(fn)
    single = wrt is None or isinstance(wrt, str)
    known = loss.differentiable
    names = known[:1] if wrt is None else _names((wrt,) if single else wrt, known)
    return _WithGradients(fn, loss, names, single)


class _WithGradients:
    """What `value_and_grad` returns: an object rather than a function, so that it can be pickled."""

    def __init__(self, fn: Callable[..., object], loss: Loss, names: tuple[str, ...], single: bool) -> None:
        self._fn, self._loss, self._names, self._single = fn, loss, names, single
        self._want = slopes(*names)
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        loss, single = self._loss, self._single
        operands, options = bind(loss, args, kwargs)
        value, gradients = evaluate(loss, operands, options, _outs(out, len(self._names), single), self._want)
        return value, gradients[0] if single else gradients

    def __reduce__(self) -> tuple[Any, ...]:
        return value_and_grad, (self._fn, self._names[0] if self._single else self._names)

    def __repr__(self) -> str:
        wrt = self._names[0] if self._single else self._names
        return f"fastloss.value_and_grad({self._fn!r}, wrt={wrt!r})"


def _names(wrt: object, known: tuple[str, ...]) -> tuple[Any, ...]:
    """Names of the arguments to differentiate with respect to; raises for unknown and repeated ones."""
    if not isinstance(wrt, Iterable):
        raise _errors.unknown_argument(wrt, known)
    names = tuple(wrt)
    for i, name in enumerate(names):
        if name not in known or name in names[:i]:
            raise _errors.unknown_argument(name, known)
    if not names:
        raise _errors.unknown_argument(names, known)
    return names


def _outs(out: Any, n: int, single: bool) -> tuple[Any, ...]:
    """`out` as a tuple with one array, or None, per gradient."""
    if single:
        return (out,)
    if out is None:
        return (None,) * n
    if not isinstance(out, (tuple, list)) or len(out) != n:
        raise _errors.not_so_many_outs(n, out)
    return tuple(out)
