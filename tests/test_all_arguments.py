"""The elementary functions of float32 over a sample of all arguments: `all_arguments.py` goes over every one of them."""

import numpy as np
import pytest

pytest.importorskip("numba")

import all_arguments
from all_arguments import FUNCTIONS, search, subjects

# In ulp: a little above what `all_arguments.py` has shown, see docs/accuracy.md.
MOST = {
    "exp": 1.1,
    "expm1": 1.6,
    "log": 1.0,
    "log1p": 1.0,
    "tanh": 2.6,
    "decay": 1.1,
    "softplus_tail": 1.7,
    "log_clamped": 1.0,
    "log1p_moderate": 1.0,  # 1.27 at one of all arguments, which is not in the sample
    "log_complement": 1.2,
}
STRIDE = 65_521  # a prime, so that every bit takes part


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sample(name):
    computing = subjects()
    found, n = search(name, computing, STRIDE)
    assert n > 10_000
    for subject, worst in found.items():
        assert worst.error <= MOST[name], f"{subject}: {worst}"


@pytest.mark.parametrize("subject", subjects())
def test_ends_of_loops(subject):
    """What is left over by full registers is computed alike."""
    x = np.random.default_rng(0).uniform(0.0, 0.5, 1013).astype(np.float32)
    for name in FUNCTIONS:
        out, alone = np.empty_like(x), np.empty(1, np.float32)
        subjects()[subject](name, x, out)
        for i in (0, 511, 1012):
            subjects()[subject](name, x[i : i + 1], alone)
            assert alone[0] == out[i], name


def test_errors_are_found():
    """A wrong result in the middle, and NaN that got lost."""

    def wrong(name, x, out):
        with np.errstate(all="ignore"):
            np.exp(x, out=out)
        out[x == 1.0] *= 1.0001

    def lost(name, x, out):
        with np.errstate(all="ignore"):
            np.exp(x, out=out)
        out[np.isnan(x)] = 0.0

    found, _ = search("exp", {"wrong": wrong, "lost": lost}, 65_536)
    assert found["lost"].error == np.inf and np.isnan(found["lost"].x)
    assert found["wrong"].x == 1.0 and 500 < found["wrong"].error < 2000


@pytest.mark.parametrize("got, error", [(np.inf, 0.0), (float(np.finfo(np.float32).max), np.inf)])
def test_overflow_is_told_by_mpmath(got, error):
    x = float(np.float32(88.7228394))  # exp of it is just above the largest number's last half unit
    assert all_arguments.precise_error(FUNCTIONS["exp"], x, got) == error
