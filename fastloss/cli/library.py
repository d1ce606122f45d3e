"""The one place where the command line touches the library: imported as a subcommand runs, not before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from fastloss import _config, _info, _plan, functional
from fastloss._version import __version__
from fastloss.accumulate import sums_of
from fastloss.calls.want import Bins, Squares

from .failure import failing

# What the library raises where it refuses a setting.
_REFUSALS = (ValueError, TypeError, RuntimeError, ImportError)


def version() -> str:
    """The package's version."""
    return __version__


def loss(name: str, *arrays: Any, **options: Any) -> Any:
    """The value of the loss called `name`."""
    return getattr(functional, name)(*arrays, **options)


def total(name: str, *arrays: Any, **options: Any) -> float:
    """The sum that its mean is made of, in float64."""
    sums = sums_of(functional.LOSSES[getattr(functional, name)], *arrays, **options)
    assert not isinstance(sums, Bins)  # which no loss has
    return float(sums.total)


def squared_distances(
    x: np.ndarray, y: np.ndarray, axis: int | None, ignore_index: int, from_logits: bool
) -> np.ndarray:
    """Of each row what its Brier score would be, in float64."""
    from fastloss.places.host import forecasts  # only here: few runs want it

    return forecasts.distances(x, y, axis, ignore_index, from_logits)


def squares(name: str, *arrays: Any, **options: Any) -> dict[str, Any]:
    """The sums that the root of a mean of squared errors is made of, by name: those outside float64's range are apart, see `Squares`."""
    sums = sums_of(functional.LOSSES[getattr(functional, name)], *arrays, **options)
    assert isinstance(sums, Squares)
    return {"squared": sums.total, "squared_huge": sums.huge, "squared_tiny": sums.tiny}


@contextlib.contextmanager
def settings(backend: str | None, threads: int | None) -> Iterator[None]:
    """Run the block on this backend and with this many threads; None leaves what the environment says.

    Raises
    ------
    Failure
        The backend is unknown or missing, there cannot be so many threads, or the environment says nonsense.
    """
    with contextlib.ExitStack() as stack:
        with failing("--backend", *_REFUSALS, prefix="backend: "):
            stack.enter_context(_config.backend.within(backend))
        with failing("--threads", *_REFUSALS, prefix="threads: "):
            stack.enter_context(_config.threads.within(threads))
        with failing(None, *_REFUSALS):  # now, rather than in the midst of the first file
            _plan.backend()
            _config.threads.get()
        yield


def backend_in_use() -> str:
    """The name of the backend that is used for arrays on the host."""
    return _info.backend_in_use()


def n_threads() -> int:
    """The number of threads in force."""
    return _config.threads.get()


def configuration() -> dict[str, Any]:
    """Versions, settings and backends as plain data."""
    with failing(None, *_REFUSALS):
        return _info.configuration()


def show_configuration(file: TextIO) -> None:
    """Print the same for people."""
    with failing(None, *_REFUSALS):
        _info.show_config(file)
