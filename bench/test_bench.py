"""Every case with every contender; see README.md beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastloss.bench.report import contender_data
from fastloss.bench.session import Result


def test_case(case: str, contender: str, replay: Any, sitting: Callable[[str], Result], benchmark: Any) -> None:
    """One contender in one case: its rounds, bandwidth, share of the roof and ratio; its value is fastloss's."""
    result = sitting(case)
    if contender in result.skipped:
        pytest.skip(f"{contender} {result.skipped[contender]}")
    figures = contender_data(result, contender)
    rounds = figures.pop("rounds")
    benchmark.extra_info.update({**result.case.as_dict(), **figures}, case=case, contender=contender)
    benchmark.extra_info.update(
        threads=result.threads,
        roof_kind=result.roof_kind,
        roof_threads=result.roof_threads,
        roof_gigabytes_per_second=result.roof_bandwidth / 1e9,
    )
    replay.load(rounds)
    benchmark.pedantic(lambda: None, rounds=len(rounds))
    assert figures["agrees"], f"{contender} computes {figures['value']:.9g}, {figures['reference']} another value"
