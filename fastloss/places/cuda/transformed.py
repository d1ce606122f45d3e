"""Logits that go through a soft cap or a temperature first, on a device: an array of float64, which kernels take in their place."""

from fastloss.calls.resolve import FLOATS
from fastloss.places.cuda.arrays import viewed
from fastloss.places.cuda.pointwise import Pointwise


class Transformed:
    """Logits and what becomes of them."""

    def __init__(self, session, transform, x):
        self.session, self.x = session, x
        self.transform = transform.absolute(FLOATS.get(x.name, 8) <= 4)
        self.view = viewed(session.new(x.shape, "float64", scratch=True), "logits")
        self._run("EACH", None, self.view)

    def differentiate(self, slopes, out):
        """Derivatives with respect to the logits from those with respect to what became of them; views, contiguous, of float64."""
        # weights of 0, as in rows that are left out, take out whatever the logits are
        self._run("SLOPE", slopes, out)

    def _run(self, op, weights, out):
        session, transform = self.session, self.transform
        operands = self.x, 0.0, None, weights
        call = Pointwise(session, transform.formula, operands, "float64", transform.parameters, ("logits", "", "", ""))
        if call.size:
            with session.queue.lock:
                call.run(getattr(session.kernels, op), out.address)


def logits_of(session, transform, x):
    """A `Transformed`, or None where logits are taken as they are; and the view that kernels take."""
    if transform is None:
        return None, x
    found = Transformed(session, transform, x)
    return found, found.view
