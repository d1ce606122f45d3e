"""Tests that need a CUDA device, or Numba's simulator: a process with NUMBA_ENABLE_CUDASIM=1 (`test_simulator.py`)."""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle and the table of losses

from on_device import SIMULATED


@functools.cache
def reason_not_to_run():
    if SIMULATED:
        np.seterr(all="ignore")  # device arithmetic does not warn
    from fastloss.backends import load

    return load("cuda").available()


# Without a device nothing is collected here: hundreds of skipped tests would hide those that are skipped for other
# reasons.
collect_ignore_glob = ["test_*.py"] if reason_not_to_run() else []


def pytest_report_header():
    reason = reason_not_to_run()
    return reason and f"tests/device: not collected: {reason}"


def pytest_collection_modifyitems(items):
    if not items:
        return
    reason = reason_not_to_run()  # of modules that are asked for by name, which are collected all the same
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
