"""What calls with Dask arrays share: arguments checked by the host, what is asked for, and results from sums."""

import dask
import numpy as np

from fastloss import _config, _errors
from fastloss._pointwise import Checks, Gradient, Totals
from fastloss.dask import _sums
from fastloss.dask._graph import reduced


def checked(evaluate, *arguments, **options):
    """What the host makes of the arguments, whatever backend is to compute."""
    checks = Checks()
    with _config.backend.within("auto"):
        evaluate(*arguments, out=checks, **options)
    return checks


def computed(*values):
    """Values of Dask collections, computed together."""
    return dask.compute(*values)


def requested(out, reduction):
    """The gradient that `out` asks for, or None; an array can't be asked for."""
    if out is None or isinstance(out, Totals):
        return None
    if not isinstance(out, Gradient) or out.requested is not None:
        raise _errors.lazy_out()
    if reduction == "none":
        raise _errors.vector_gradient("reduction='none'")
    return out


def delivered(sums, out, real, **options):
    """The reduced loss, lazily; or now, where the sums themselves are asked for."""
    if isinstance(out, Totals):
        (part,) = dask.compute(sums)
        part = part.item().checked()
        return out.take(part.total, part.weight, part.count)
    return reduced(_sums.result_of, sums, real, real=real, **options)


def scale_from(sums, **options):
    """What the gradient of the sum is multiplied by."""
    return reduced(_sums.scale_of, sums, np.float64, **options)
