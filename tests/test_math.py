"""The elementary functions of the Numba backend: errors in ulp, special values, over dense and (slow) all arguments."""

import numpy as np
import pytest
from compare import LONGER

numba = pytest.importorskip("numba")

from fastloss.backends.numba_cpu import _math  # noqa: E402

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-30, -104.0, -87.5, 88.7, 89.0, -2.0, 3e38]

# Largest error in ulp, and the interval that arguments are taken from, on a logarithmic and a linear scale.
FUNCTIONS = {
    "exp": (1.1, -104.0, 88.7),
    "expm1": (2.0, -104.0, 1.0),
    "log": (1.0, 1e-37, 3e38),
    "log1p": (1.0, -0.999999, 3e38),
    "tanh": (2.6, -10.0, 10.0),
    "decay": (1.1, 0.0, 104.0),
    "softplus_tail": (1.6, 0.0, 104.0),
    "log_clamped": (1.2, 0.0, 0.5),
    "log1p_moderate": (1.8, 0.0, 1e30),
    "log_complement": (1.1, 0.0, 0.5),
}


def exact(name, x):
    match name:
        case "decay":
            return np.exp(-x)
        case "softplus_tail":
            return np.log1p(np.exp(-x))
        case "log_clamped":
            return np.maximum(np.log(x), -100.0)
        case "log_complement":
            return np.log1p(-x)
        case "log1p_moderate":
            return np.log1p(x)
    return getattr(np, name)(x)


@pytest.fixture(scope="module")
def compiled():
    """Loops over each function."""

    def make(name):
        function = _math.as_function(getattr(_math, f"{name}_of"))

        @numba.njit(error_model="numpy")
        def loop(x, out):
            for i in range(x.size):
                out[i] = function(x[i])

        return loop

    loops = {name: make(name) for name in FUNCTIONS}

    def call(name, x):
        out = np.empty_like(x)
        loops[name](x, out)
        return out

    return call


def error_in_ulp(name, x, got):
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        right = exact(name, x.astype(wide))
        spacing = np.spacing(np.abs(right.astype(x.dtype)))
        error = np.abs((got - right) / spacing)
    finite = np.isfinite(right.astype(x.dtype))
    np.testing.assert_array_equal(got[~finite], right.astype(x.dtype)[~finite])
    return error[finite].max()


def arguments(low, high, n, dtype):
    rng = np.random.default_rng(1)
    near_zero = np.exp(rng.uniform(-80, 0, n))
    both = np.concatenate([near_zero, -near_zero, rng.uniform(max(low, -1e3), min(high, 1e3), n)])
    if high > 1e30:
        both = np.concatenate([both, np.exp(rng.uniform(-80, 88, n))])
    return both[(both >= low) & (both <= high)].astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_dense(name, dtype, compiled):
    if dtype == np.float64 and not LONGER:
        pytest.skip("nothing here is more exact than the functions that are tested")
    most, low, high = FUNCTIONS[name]
    x = arguments(low, high, 300_000, dtype)
    assert error_in_ulp(name, x, compiled(name, x)) <= most


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_special(name, dtype, compiled):
    x = np.array(SPECIAL, dtype)
    x = x[~((name == "expm1") & (x > 88) & np.isfinite(x))]  # not called there, and early by one binade in overflowing
    assert error_in_ulp(name, x, compiled(name, x)) <= 2.6


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_float32(name, compiled):
    """All 2^32 arguments, in pieces."""
    most, low, high = FUNCTIONS[name]
    for start in range(0, 2**32, 2**24):
        x = np.arange(start, start + 2**24, dtype=np.uint32).view(np.float32)
        with np.errstate(invalid="ignore"):
            x = x[(x >= low) & (x <= high)]
        if x.size:
            assert error_in_ulp(name, x, compiled(name, x)) <= most
