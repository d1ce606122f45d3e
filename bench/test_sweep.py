"""`pytest bench -k sweep`: every function, size and way of calling, as `fastloss bench --sweep` measures them; tables come last."""

from __future__ import annotations

from collections.abc import Callable

from fastloss.bench.sweep import Outcome


def test_sweep(swept: str, sweep_of: Callable[[str], list[Outcome]]) -> None:
    """The cells of one function: in float32 others compute the same."""
    outcomes = sweep_of(swept)
    assert outcomes
    for outcome in outcomes:
        assert outcome.cell.case.dtype != "float32" or not outcome.differing, outcome.cell.name
