"""Logits with a soft cap or a temperature on a device: kernels get a float64 array of the transformed logits in their
place."""

from fastloss.calls.resolve import FLOATS
from fastloss.places.cuda.arrays import viewed
from fastloss.places.cuda.pointwise import Pointwise


class Transformed:
    """Logits, and their transforms."""

    def __init__(self, session, transform, x):
        self.session, self.x = session, x
        self.transform = transform.absolute(FLOATS.get(x.name, 8) <= 4)
        self.view = viewed(session.new(x.shape, "float64", scratch=True), "logits")
        self._run("EACH", None, self.view)

    def differentiate(self, slopes, out):
        """Write derivatives with respect to the logits, from those with respect to the transforms; contiguous float64
        views."""
        # a weight of 0, as in ignored rows, gives 0 even if the logit is NaN or infinite
        self._run("SLOPE", slopes, out)

    def _run(self, op, weights, out):
        session, transform = self.session, self.transform
        operands = self.x, 0.0, None, weights
        call = Pointwise(session, transform.formula, operands, "float64", transform.parameters, ("logits", "", "", ""))
        if call.size:
            with session.queue.lock:
                call.run(getattr(session.kernels, op), out.address)


def logits_of(session, transform, x):
    """(`Transformed`, or None if there is no transform; the view that kernels read)."""
    if transform is None:
        return None, x
    found = Transformed(session, transform, x)
    return found, found.view
