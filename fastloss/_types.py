"""Types of what goes into the public functions and comes out, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

# What functions compute in, and return: float32 for inputs of up to 32 bits, float64 otherwise.
Real: TypeAlias = np.float32 | np.float64
RealArray: TypeAlias = NDArray[Real]


class LazyArray(Protocol):
    """A Dask array: nothing is computed yet, and neither is what a function returns of it."""

    def __dask_graph__(self) -> Any: ...


class DeviceArray(Protocol):
    """An array that may live on a CUDA device: of CuPy, torch or Numba. What is there stays there; what is on the host gives NumPy's arrays."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]: ...


AnyArray: TypeAlias = ArrayLike | LazyArray | DeviceArray

LazyT = TypeVar("LazyT", bound=LazyArray)
DeviceT = TypeVar("DeviceT", bound=DeviceArray)
OutT = TypeVar("OutT", bound="NDArray[Any] | LazyArray | DeviceArray")
