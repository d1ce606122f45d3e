"""From how much work on more than one thread is asked for."""

import numpy as np
import pytest

import fastloss
from fastloss import _costs, _plan, _threads, losses


@pytest.fixture
def asked(monkeypatch):
    """What `_threads.run` was asked for: (n_threads, ns of work, whether kernels have threads of their own) per call."""
    calls, run = [], _threads.run

    def noted(call, n_blocks, n_threads, work, share=None):
        calls.append((n_threads, work, share is not None))
        run(call, n_blocks, n_threads, work, share)

    monkeypatch.setattr(_threads, "run", noted)
    with fastloss.use_threads(2):
        yield calls


def test_every_loss_has_a_cost():
    assert {loss.name for loss in losses.POINTWISE} == set(_costs.ELEMENTS)
    assert _costs.of_elements("one of a user's own") == _costs.OTHER


def test_costs_grow_with_what_is_done():
    for name in _costs.ELEMENTS:
        assert _costs.of_elements(name) < _costs.of_elements(name, slopes=True)
        assert _costs.of_elements(name) < _costs.of_elements(name, wide=True)
    rows = [[_costs.of_rows(n, written) for n in (2, 10, 64, 200, 1000, 200_000)] for written in (False, True)]
    assert all(row == sorted(row, reverse=True) for row in rows)
    assert all(a < b for a, b in zip(*rows, strict=True))


def test_threads_are_asked_for_by_time(asked):
    done = []

    def call(first, last):
        done.extend(range(first, last))

    _plan.run(call, 10, 1000, ns=_threads.WORTHWHILE / 1000 - 1, kernel=False)
    assert not asked
    _plan.run(call, 10, 1000, ns=_threads.WORTHWHILE / 1000 + 1, kernel=False)
    _plan.run(call, 10, 10_000_000, light=True, kernel=False)
    assert asked == [(2, _threads.WORTHWHILE + 1000, False), (2, 1_000_000, False)]
    assert sorted(done) == sorted(3 * list(range(10)))


@pytest.mark.parametrize("backend", ["cython", "numba", "numpy"])
def test_whose_threads(asked, backend):
    if fastloss.backends()[backend] != "available":
        pytest.skip(f"no backend {backend!r}")
    with fastloss.use_backend(backend):
        fastloss.mse_loss(*np.zeros((2, 1_000_000), np.float32))
    fastloss_c = pytest.importorskip("fastloss_c")
    assert [own for *_, own in asked] == [backend == "cython" and fastloss_c.share is not None]
