"""The contenders that compute a case: fastloss on each backend, and the libraries people use today, if they are
installed."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .cases import PEERS, Case
from .subject import Unsupported, fastloss_call, value_of

Call = Callable[[], Any]

# prepare(case, arrays, threads) -> the call to be timed; raises Unsupported, before any work, if there is none
Prepare = Callable[[Case, Sequence[np.ndarray], int], Call]


@dataclass(frozen=True)
class Contender:
    """A library, or a way of using it.

    Parameters
    ----------
    name : str
        Unique.
    packages : tuple of str
        The distributions it needs.
    modules : tuple of str
        The modules to look for.
    prepare : callable
        See `Prepare`.  Converting the data to arrays of its own is not timed.
    compiles : bool
        Whether the first call takes longer than later ones.
    native : bool
        Whether it allocates memory that Python can't trace, so that only large allocations can be seen.
    patient : bool
        Whether preparing takes so long that it takes part only on request.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    prepare: Prepare
    compiles: bool = True
    native: bool = False
    patient: bool = False

    @property
    def is_fastloss(self) -> bool:
        return self.packages[0] == "fastloss"

    def missing(self) -> str | None:
        """The names of what is not installed, or None."""
        pairs = zip(self.packages, self.modules, strict=True)
        lacking = [package for package, module in pairs if importlib.util.find_spec(module) is None]
        return f"not installed: {', '.join(lacking)}" if lacking else None

    def versions(self) -> dict[str, str]:
        """The installed versions of its packages."""
        found = {}
        for package in self.packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:  # on the path, but not installed by pip
                module = importlib.import_module(self.modules[self.packages.index(package)])
                found[package] = getattr(module, "__version__", "unknown")
        return found


# The losses for which the peers' calls are written.
_KNOWN = {case.loss for case in PEERS.values()}


def _peer(module: str, function: str) -> Prepare:
    """A function of one of this package's modules, which is imported on the first call."""

    def prepare(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
        if not case.plain or case.loss not in _KNOWN:
            raise Unsupported("has no counterpart here")
        x, y = arrays
        return getattr(importlib.import_module(f"{__package__}.{module}"), function)(case, x, y, threads)

    return prepare


def _fastloss(case: Case, arrays: Sequence[np.ndarray], threads: int, *, backend: str) -> Call:
    return fastloss_call(case, arrays, backend)  # the number of threads is in force while a session runs


_PEERS = (
    Contender("numpy", ("numpy",), ("numpy",), _peer("array_peers", "numpy_call"), compiles=False),
    Contender("scipy", ("scipy",), ("scipy",), _peer("array_peers", "scipy_call"), compiles=False),
    Contender("scikit-learn", ("scikit-learn",), ("sklearn",), _peer("array_peers", "sklearn_call"), compiles=False),
    Contender("torch", ("torch",), ("torch",), _peer("torch_peer", "eager_call"), native=True),
    Contender("torch.compile", ("torch",), ("torch",), _peer("torch_peer", "compiled_call"), native=True, patient=True),
    Contender("jax", ("jax", "optax"), ("jax", "optax"), _peer("jax_peer", "jitted_call"), native=True),
)


def contenders() -> dict[str, Contender]:
    """All contenders by name, fastloss first, whether installed or not.

    Only the compiled backends of the host take part: the data is in host memory, and the NumPy backend is not meant to
    be fast.
    """
    import fastloss

    status = fastloss.backends()
    available = [name for name in ("cython", "numba") if status[name] == "available"]
    ours = [
        Contender(f"fastloss-{name}", ("fastloss",), ("fastloss",), partial(_fastloss, backend=name))
        for name in available
    ]
    return {contender.name: contender for contender in (*ours, *_PEERS)}


def select(patterns: Iterable[str] | None) -> list[Contender]:
    """The contenders that a pattern matches; for None all that are installed, except the `patient` ones.

    A pattern is ``all``, a name, a shell pattern over names, or ``fastloss`` for all of its backends.

    Raises
    ------
    LookupError
        If a pattern matches none, or one that is not installed.
    """
    return chosen(patterns, contenders())


def chosen(patterns: Iterable[str] | None, everyone: Mapping[str, Contender]) -> list[Contender]:
    """Likewise, of `everyone`."""
    installed = {name for name, contender in everyone.items() if not contender.missing()}
    if patterns is None:
        return [contender for name, contender in everyone.items() if name in installed and not contender.patient]
    wanted: set[str] = set()
    for pattern in patterns:
        names = {name for name in everyone if _matches(name, pattern)}
        if not names:
            raise LookupError(f"{pattern!r} is not one of {', '.join(everyone)}")
        if not names & installed:
            lacking = everyone[min(names)]
            raise LookupError(f"{lacking.name} is {lacking.missing()}")
        wanted |= names & installed
    return [contender for name, contender in everyone.items() if name in wanted]


def _matches(name: str, pattern: str) -> bool:
    return pattern == "all" or fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}-")


def gradient_of(result: Any) -> np.ndarray:
    """The gradient in a call's result, widened to at least float32."""
    return np.asarray(result[1])


def tolerance(case: Case) -> float:
    """The largest allowed difference between the values of two contenders, relative to the larger."""
    return 1e-10 if case.dtype == "float64" else 1e-4


__all__ = ["Call", "Contender", "Unsupported", "contenders", "gradient_of", "select", "tolerance", "value_of"]
