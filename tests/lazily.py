"""Compares results from Dask arrays with the oracle."""

import dask
import dask.array as da
import numpy as np
import reference
from compare import assert_ulp

import fastloss


def chunked(array, chunks):
    return da.from_array(array, chunks=chunks[: array.ndim])


def check(case, arguments, dtype, inputs, **options):
    """Check all reductions of `inputs`: the arguments, some of them as Dask arrays."""
    options = case.options | options
    function, tolerance = getattr(fastloss, case.loss), case.tolerance(dtype)
    with np.errstate(all="ignore"):
        each = reference.terms(case.loss, *arguments, **options).each
        size = (np.abs(each) + case.at).sum() / np.abs(each.sum())
    lazy = {reduction: function(*inputs, reduction=reduction, **options) for reduction in case.reductions}
    assert all(isinstance(result, da.Array) for result in lazy.values())
    (values,) = dask.compute(lazy)
    for reduction, got in values.items():
        expected = reference.loss(case.loss, *arguments, reduction=reduction, **options)
        assert got.dtype == lazy[reduction].dtype == lazy[reduction]._meta.dtype == dtype
        assert np.shape(got) == lazy[reduction].shape
        if reduction == "none":
            assert_ulp(got, expected, tolerance, case.at, what=f"{case} none")
        else:
            at = float(abs(expected) * size) if case.at and np.isfinite(size) else 0.0
            assert_ulp(got, expected, tolerance + 1, at, what=f"{case} {reduction}")


def check_gradient(case, arguments, inputs, ulp=16, **options):
    function, options = getattr(fastloss, case.loss), case.options | options
    for reduction in case.reductions:
        if reduction == "none":
            continue
        lazy = fastloss.value_and_grad(function)(*inputs, reduction=reduction, **options)
        value, gradient = dask.compute(*lazy)
        expected, slope = reference.value_and_grad(case.loss, *arguments, reduction=reduction, **options)
        np.testing.assert_allclose(np.float64(value), np.float64(expected), rtol=1e-5)
        assert gradient.dtype == lazy[1].dtype and gradient.shape == lazy[1].shape == np.shape(arguments[0])
        if isinstance(inputs[0], da.Array):
            assert lazy[1].chunks == tuple(tuple(n for n in c if n) or (0,) for c in inputs[0].chunks) or (
                lazy[1].chunks == inputs[0].chunks
            )
        assert_ulp(gradient, slope, ulp, at=float(np.abs(slope).max(initial=0)), what=f"{case} {reduction}")
