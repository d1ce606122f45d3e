"""Every pointwise formula over the whole range of its operands, on a sample: `sweep_pointwise.py` goes over more of them."""

import numpy as np
import pytest
from sweep_pointwise import DTYPES, SWEEPS, Sweep, _sigmoid_focal, _tweedie, worst

import fastloss
from fastloss import losses
from fastloss.backends import load

BACKENDS = [name for name in ("cython", "numpy", "numba") if load(name).available() is None]

# In ulp of the result, or of its largest term: what 10^7 operands have shown, and not more than is promised.  Those that take a logarithm
# of a rounded ratio, and square it, have more in float64, where there is no wider type to do it in.
MOST = {np.float32: 4.0, np.float64: 4.0}
# Powers of rounded numbers have more there, too: Tweedie's three terms cancel by their nature, and of labels that are probabilities
# 1 - y and the sum with it are rounded before the focal loss raises them.
MORE = {
    ("msle_loss", "positive", np.float64): 7.5,
    ("sigmoid_focal_loss", "probability", np.float64): 8.0,
    **{("tweedie_deviance_loss", y, np.float64): 8.0 for y in ("positive", "rate", "real")},
}


def most(sweep, dtype):
    return MORE.get((sweep.loss, sweep.domains[1], dtype), MOST[dtype])


def test_every_loss_of_elements_is_swept():
    elements = {loss.name for loss in losses.LOSSES if loss.kind != "classes"}
    assert {sweep.loss for sweep in SWEEPS} == elements - {"rmse_loss"}  # whose formula is that of `mse_loss`


def test_every_formula_is_compiled():
    defined = {formula for formula in vars(losses).values() if isinstance(formula, losses.Formula)}
    assert defined == set(losses.POINTWISE)


@pytest.mark.any_backend("sweep")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_within_a_few_ulp(sweep, dtype, backend):
    with fastloss.use_backend(backend):
        for what, (error, operands, got, exact) in zip(("value", "slope"), worst(sweep, dtype, 250), strict=True):
            assert error <= most(sweep, dtype), f"{what} of {operands}: {got}, exact {exact}, {error} ulp"


STEEP = [
    *(Sweep("tweedie_deviance_loss", ("rate", "real"), _tweedie, {"power": p}, cancels=True) for p in (-30.0, -5.3)),
    *(Sweep("tweedie_deviance_loss", ("rate", "rate"), _tweedie, {"power": p}, cancels=True) for p in (5.0, 17.5)),
    *(
        Sweep(
            "sigmoid_focal_loss",
            ("logit", label),
            _sigmoid_focal,
            {"alpha": 0.25, "gamma": g},
            ("gamma",),
            cancels=True,
        )
        for g in (50.0, 1000.0)
        for label in ("label", "probability")
    ),
]


@pytest.mark.any_backend("sweep")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sweep", STEEP, ids=str)
def test_steep_powers(sweep, backend):
    """In float32 the power does not matter, and finite results do not overflow on the way, whatever the dtype."""
    with fastloss.use_backend(backend):
        for error, operands, got, exact in worst(sweep, np.float32, 250):
            assert error <= MOST[np.float32], f"{operands}: {got}, exact {exact}, {error} ulp"
        for error, operands, got, exact in worst(sweep, np.float64, 250):
            assert error < np.inf, f"{operands}: {got}, exact {exact}"


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_many(sweep, backend):
    for dtype in DTYPES:
        with fastloss.use_backend(backend):
            found = worst(sweep, dtype, 20_000, seed=1)
        for error, operands, got, exact in found:
            assert error <= most(sweep, dtype), f"{operands}: {got}, exact {exact}"


def test_the_sweep_can_fail(monkeypatch):
    """A loss that cancels is found out."""
    sweep = next(s for s in SWEEPS if s.loss == "msle_loss")

    def naive(x, y, *, reduction="none"):
        d = np.log(1 + x) - np.log(1 + y)
        return d * d

    monkeypatch.setattr(fastloss, "msle_loss", naive)
    monkeypatch.setattr(fastloss, "value_and_grad", lambda f: lambda x, y, **_: (0.0, np.zeros_like(x)))
    assert worst(sweep, np.float32, 250)[0][0] > 100
