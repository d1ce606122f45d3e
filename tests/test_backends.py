"""Each test runs on the backend that its name says, and so do the processes that it starts."""

import os
from types import SimpleNamespace

import pytest

from fastloss import _config
from fastloss.backends import numba_cpu


def test_the_backend_is_the_one_in_the_name(request):
    name = request.node.callspec.params["backend"]
    assert _config.backend.get() == os.environ["FASTLOSS_BACKEND"] == name


@pytest.mark.one_backend
def test_a_numba_that_is_too_old_is_not_used(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba, "version_info", SimpleNamespace(short=(0, 61)))
    monkeypatch.setattr(numba, "__version__", "0.61.2")
    reason = numba_cpu.available.__wrapped__()
    assert reason == "numba 0.61.2 is too old, 0.62 is needed (pip install -U numba)"
