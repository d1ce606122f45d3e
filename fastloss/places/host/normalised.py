"""Plans of logsumexp, log-softmax and softmax."""

from fastloss._arrays import stored
from fastloss.places.host.operands import REALS, check_out, destination
from fastloss.places.host.rows import RowKernel

_NAMES = ("logsumexp", "log_softmax", "softmax")


def plan_of(resolved, arrays, out):
    """The plan of a `Normalised`."""
    return _Normalised(resolved, arrays, out)


class _Normalised:
    def __init__(self, resolved, arrays, out):
        self.shape, self.real = resolved.result_shape, REALS[resolved.real]
        check_out(out, self.shape)
        self.place = _NAMES.index(resolved.name)
        outs = [None] * 3
        outs[self.place] = self.real, self.place > 0
        self.rows = RowKernel(
            "normalise",
            self.real,
            (*arrays, None, None),
            (*resolved.casts, None, None),
            resolved.axis,
            outs,
            transform=resolved.transform,
        )
        self.is_scalar = self.shape == ()

    def __call__(self, operands, out, scale):
        x, _, _ = self.rows.prepared((*operands, None, None))
        result = destination(None if self.rows.goes_aside else out, self.shape, self.real, (x,))
        outs = [None] * 3
        outs[self.place] = result
        self.rows.write(x, tuple(outs))
        if out is None and self.is_scalar:
            return self.real.type(result[()])
        return stored(result, out)
