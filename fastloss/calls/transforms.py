"""What a call does to its logits before their softmax: a soft cap, then a temperature."""

from typing import NamedTuple

from fastloss.losses import CAPPED, TEMPERED

# Whatever float32 tells apart is so far apart at that temperature that one is certain and the other impossible, and neither leaves the
# range of float64.
COLDEST = 1e-269


class Transform(NamedTuple):
    """softcap tanh(x / softcap) / temperature; without a soft cap x / temperature.

    It is computed in float64, relative to a reference in each row, which no softmax can tell: so nothing is lost that is not in the
    logits themselves.
    """

    temperature: float
    softcap: float | None

    @property
    def formula(self):
        """The formula of two logits that says how far they are apart afterwards."""
        return TEMPERED if self.softcap is None else CAPPED

    @property
    def parameters(self):
        return (self.temperature,) if self.softcap is None else (self.softcap, self.temperature)

    def absolute(self, narrow):
        """The same for logits one by one, relative to 0: `narrow` ones, of up to 32 bits, stay finite at any temperature."""
        return self._replace(temperature=max(self.temperature, COLDEST)) if narrow else self


def values_of(transform):
    """The options that say so, by name."""
    return {"temperature": 1.0, "softcap": None} if transform is None else transform._asdict()


def of(values):
    """The transform that options say, by name; None where logits are taken as they are."""
    temperature, softcap = values.get("temperature", 1.0), values.get("softcap")
    return None if temperature == 1.0 and softcap is None else Transform(temperature, softcap)
