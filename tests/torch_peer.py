"""Torch's values and gradients, and the tolerances, for comparisons with torch."""

import numpy as np
import pytest

# Raised while a test module is imported, this skips the module.
torch = pytest.importorskip("torch", minversion="2.13")
F = torch.nn.functional


def equal(got, expected, what, atol=0.0, rtol=1e-12):
    got, expected = np.asarray(got, np.float64), expected.detach().numpy()
    assert got.shape == expected.shape, what
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)


def tensor(array):
    return None if array is None else torch.from_numpy(np.array(array, order="C"))


def torch_value_and_grad(function, prediction, *arguments, **options):
    prediction = tensor(prediction).clone().requires_grad_()
    value = function(prediction, *map(tensor, arguments), **options)
    value.sum().backward()
    return value, prediction.grad
