"""Operands of calls with Dask arrays, and results from sums."""

import dask
import numpy as np

from fastloss import _errors
from fastloss.calls.resolve import signature as _signature
from fastloss.calls.want import Squares, Sums
from fastloss.places.dask import _sums
from fastloss.places.dask._graph import operand_array, operand_or_number, reduced


def as_arrays(function, operands):
    """The operands as Dask arrays, ndarrays and Python numbers, and the positions of these numbers."""
    take = operand_or_number if function.family == "elements" else operand_array
    arrays = tuple(take(a, name) for a, name in zip(operands, function.operands, strict=True))
    return arrays, tuple(i for i, a in enumerate(arrays) if a is not None and not hasattr(a, "shape"))


def signature(a, weak):
    return _signature(np.asarray(a) if weak else a, weak)


def computed(*values):
    """Values of Dask collections, computed together."""
    return dask.compute(*values)


def check_no_out(out):
    """TypeError if `out` is given."""
    if any(a is not None for a in out) if isinstance(out, tuple) else out is not None:
        raise _errors.lazy_out()


def lazy_result(sums, resolved, gradients=None, divisor=None, root=False, rowwise=True):
    """The lazy result from the sums: the reduced loss, with `gradients` if there are any.  If the sums are wanted, they
    are computed now."""
    real = np.dtype(resolved.real)
    if resolved.want.what == "sums":
        (part,) = dask.compute(sums)
        part = part.item().checked()
        found = Sums(float(part.total), float(part.weight) if divisor is None else divisor, part.count)
        return Squares(*found, float(part.huge), float(part.tiny)) if root else found
    value = reduced(
        _sums.result_of,
        sums,
        real,
        real=real,
        reduction=resolved.reduction,
        divisor=divisor,
        root=root,
        rowwise=rowwise,
    )
    return value if gradients is None else (value, gradients)


def scale_from(sums, *, root=False, **options):
    """The factor of the gradient of the sum, or of its root."""
    return reduced(
        _sums.root_scale_of if root else _sums.scale_of, sums, _sums.FACTOR if root else np.float64, **options
    )
