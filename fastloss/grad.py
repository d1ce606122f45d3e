"""Values together with gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastloss import _errors, functional
from fastloss._pointwise import Gradient


def value_and_grad(fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Turn a loss into a function that returns its value and its gradient, computed in one sweep.

    Parameters
    ----------
    fn : callable
        A loss of this package, such as ``fastloss.cross_entropy``.

    Returns
    -------
    callable
        Takes the arguments of `fn` and returns ``(value, gradient)``.  The gradient is the derivative of the value with
        respect to the first argument: an array of its shape, float32 for inputs of up to 32 bits, float64 otherwise.
        ``out=``, if given, is an array for the gradient.

    Raises
    ------
    TypeError
        If `fn` is no loss of this package.
    ValueError
        For ``reduction="none"``, or an `axis` that leaves more than one value: a vector has no gradient.

    Notes
    -----
    Where every target is ignored the mean is NaN and the gradient 0.  An ignored row's gradient is 0 even if the row holds
    NaN.  At the kinks of the absolute, quantile and Huber losses the slope is 0 or the one-sided limit that
    ``torch.autograd`` also gives; the gradient of the root mean squared error is 0 where the error is.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> value, gradient = fastloss.value_and_grad(fastloss.mse_loss)(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> value, gradient
    (np.float64(2.0), array([ 0., -2.]))
    """
    if fn not in functional.LOSSES:
        raise _errors.not_a_loss(fn)

    @functools.wraps(fn)
    def value_and_gradient(*args, out=None, **kwargs):
        request = Gradient(out)
        value = fn(*args, out=request, **kwargs)
        return value, request.array

    return value_and_gradient
