"""Transforms of logits before their softmax: a soft cap, then a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastloss.losses import CAPPED, TEMPERED, Formula

# At this temperature logits that differ in float32 at all are so far apart that one class is certain and the other
# impossible, and yet neither leaves the range of float64.
COLDEST = 1e-269


class Transform(NamedTuple):
    """softcap tanh(x / softcap) / temperature; without a soft cap x / temperature.

    It is computed in float64 as a difference from a reference logit of the same row.  Softmax does not change if a
    constant is subtracted from a row, and so the result is as accurate as the logits themselves.
    """

    temperature: float
    softcap: float | None

    @property
    def formula(self) -> Formula:
        """The formula of two logits that gives the difference between their transforms."""
        return TEMPERED if self.softcap is None else CAPPED

    @property
    def parameters(self) -> tuple[float, ...]:
        return (self.temperature,) if self.softcap is None else (self.softcap, self.temperature)

    def absolute(self, narrow: bool) -> Transform:
        """The transform of single logits, relative to 0; those of up to 32 bits (`narrow`) stay finite at any
        temperature."""
        return self._replace(temperature=max(self.temperature, COLDEST)) if narrow else self


def values_of(transform: Transform | None) -> dict[str, Any]:
    """{option: value} of a transform."""
    return {"temperature": 1.0, "softcap": None} if transform is None else transform._asdict()


def of(values: Mapping[str, Any]) -> Transform | None:
    """The transform in {option: value}, or None if it changes nothing."""
    temperature, softcap = values.get("temperature", 1.0), values.get("softcap")
    return None if temperature == 1.0 and softcap is None else Transform(temperature, softcap)
