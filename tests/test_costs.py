"""From how much work on more than one thread is asked for."""

import numpy as np
import pytest

import fastloss
from fastloss import _costs, _plan, _threads, losses


@pytest.fixture
def asked(monkeypatch):
    """What `_threads.run` was asked for: (n_threads, ns of work, whether kernels have threads of their own) per call."""
    calls, run = [], _threads.run

    def noted(call, n_blocks, n_threads, work, share=None, *more):
        calls.append((n_threads, work, share is not None))
        return run(call, n_blocks, n_threads, work, share, *more)

    monkeypatch.setattr(_threads, "run", noted)
    with fastloss.use_threads(2):
        yield calls


def test_costs_grow_with_what_is_done():
    for loss in losses.POINTWISE:
        assert 0 < _costs.of_elements(loss.ns) < _costs.of_elements(loss.ns, slopes=True)
        assert _costs.of_elements(loss.ns) < _costs.of_elements(loss.ns, wide=True)
    rows = [[_costs.of_rows(n, written) for n in (2, 10, 64, 200, 1000, 200_000)] for written in (False, True)]
    assert all(row == sorted(row, reverse=True) for row in rows)
    assert all(a < b for a, b in zip(*rows, strict=True))


@pytest.mark.parametrize("op", ["value", "none", "gradient"])
def test_what_is_written_counts(asked, op):
    """Memory takes its time even where hardly anything is computed."""
    x, y = np.zeros((2, 90_000), np.float32)
    calls = {
        "value": lambda: fastloss.mse_loss(x, y),
        "none": lambda: fastloss.mse_loss(x, y, reduction="none"),
        "gradient": lambda: fastloss.value_and_grad(fastloss.mse_loss)(x, y),
    }
    with fastloss.use_backend("numpy"):
        calls[op]()
    assert [work for _, work, _ in asked] == ([] if op == "value" else [int(90_000 * 12 * _costs.NEAR)])


def test_bytes_that_are_far_away_take_longer():
    assert _costs.of_bytes(_costs.FAR_FROM) > 1.3 * _costs.of_bytes(_costs.FAR_FROM - 1)


def test_threads_are_asked_for_by_time(asked):
    done = []

    def call(first, last):
        done.extend(range(first, last))

    _plan.run(call, 10, 1000, ns=_threads.WORTHWHILE / 1000 - 1, kernel=False)
    assert not asked
    _plan.run(call, 10, 1000, ns=_threads.WORTHWHILE / 1000 + 1, kernel=False)
    _plan.run(call, 10, 10_000_000, ns=0.1, kernel=False)
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
