"""Which backend, and how many threads: the two settings, their environment variables and how long they last."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Self

from fastloss import _errors

BACKENDS = ("auto", "cython", "numba", "numpy", "cuda")

_MAX_THREADS = 1024

_lock = threading.Lock()  # guards what calls have set


def _forget() -> None:
    """Replace the lock in a forked child: the thread that held it does not exist there."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _nobody() -> object:
    """Stands for the weak reference of a setting that nobody can take back."""


class _Setting:
    """A value for the process, which a context (`with`) may override for itself."""

    def __init__(self, variable: str, parse: Callable[[Any], Any]) -> None:
        self.parse = parse
        self.variable = variable
        # a stack: the environment's value, read when first needed, then what calls have set, as (weak reference to who
        # may undo it, value)
        self._uses = [(_nobody, None)]
        self._process = None  # the value on top of the stack
        self._context: ContextVar[tuple[Any, Any] | None] = ContextVar(
            variable, default=None
        )  # a value, and the one it hides

    def get(self) -> Any:
        inner = self._context.get()
        if inner is not None:
            return inner[0]
        value = self._process
        return self._from_environment() if value is None else value

    def _from_environment(self) -> Any:
        text = os.environ.get(self.variable, "")
        try:
            value = self.parse(text) if text else self.parse(None)
        except (ValueError, TypeError) as error:
            expected = str(error).partition("expected ")[2].rpartition(", got ")[0]
            raise _errors.bad_environment(self.variable, text, expected) from None
        with _lock:
            if self._process is None:
                self._uses[-1] = _nobody, value
                self._process = value
            return self._process

    def set(self, use: object, value: Any) -> None:
        """Set the process's value until `use` undoes that; permanently, if `use` is garbage collected."""
        with _lock:
            # a permanent value hides everything below it
            last = max(i for i, (owner, _) in enumerate(self._uses) if owner() is None)
            del self._uses[:last]
            self._uses.append((weakref.ref(use), value))
            self._process = value

    def undo(self, use: object) -> None:
        """Undo what `use` has set, whatever was set since; does nothing if that has been undone already."""
        with _lock:
            self._uses = [entry for entry in self._uses if entry[0]() is not use]
            self._process = self._uses[-1][1]

    def enter(self, value: Any) -> None:
        """Override the process's value in this context, until `leave`."""
        self._context.set((value, self._context.get()))

    def leave(self) -> None:
        inner = self._context.get()
        if inner is not None:  # where it was entered
            self._context.set(inner[1])

    @contextlib.contextmanager
    def within(self, value: Any) -> Iterator[None]:
        """A context manager that sets the value in this context only; None leaves it as it is.

        `with use_...`, in contrast, sets it for the whole process for a moment, before the block is entered.
        """
        if value is None:
            yield
            return
        self.enter(self.parse(value))
        try:
            yield
        finally:
            self.leave()


class _Use:
    """What `use_threads(n)` returns.  It has set the value for the process; `with` undoes that, and sets it for the
    block only."""

    _setting: _Setting

    def __init__(self, value: Any) -> None:
        self._value = self._setting.parse(value)
        self._setting.set(self, self._value)

    def __enter__(self) -> Self:
        self._setting.undo(self)
        self._setting.enter(self._value)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._setting.leave()

    def __repr__(self) -> str:
        return f"<{self._setting.variable} = {self._value}>"


def _parse_threads(value: Any) -> int:
    if value is None:
        return cpu_count()
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise _errors.out_of_range("threads", value, f"an integer in [1, {_MAX_THREADS}]") from None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _errors.not_integer("threads", value)
    n = int(value.__index__())
    if not 1 <= n <= _MAX_THREADS:
        raise _errors.out_of_range("threads", n, f"an integer in [1, {_MAX_THREADS}]")
    return n


def _parse_backend(value: Any) -> str:
    if value is None:
        return "auto"
    if value not in BACKENDS:
        raise _errors.unknown_backend(value, BACKENDS)
    return str(value)


def _parse_wait(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        value = {"1": True, "0": False}.get(value, value)
    if not isinstance(value, bool):
        raise _errors.out_of_range("wait", value, "True or False (in the environment 1 or 0)")
    return value


threads = _Setting("FASTLOSS_NUM_THREADS", _parse_threads)
backend = _Setting("FASTLOSS_BACKEND", _parse_backend)
wait = _Setting("FASTLOSS_WAIT", _parse_wait)


class use_threads(_Use):
    """Set how many threads large arrays are computed with.

    ``use_threads(4)`` sets the number for the whole process; ``with use_threads(4): ...`` for the block, in this thread
    (or asyncio task) only.  The environment variable ``FASTLOSS_NUM_THREADS`` sets the initial value; the default is
    the number of CPUs this process may use.  Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1; None for the number of CPUs.

    Raises
    ------
    TypeError, ValueError
        If n is no integer, or less than 1.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.use_threads(1):
    ...     loss = fastloss.mse_loss([1.0, 2.0], [1.0, 4.0])
    """

    _setting = threads

    def __init__(self, n: int | None) -> None:
        super().__init__(n)


class use_backend(_Use):
    """Choose the backend by name: for the process when called, for a block as a context manager.

    Parameters
    ----------
    name : {"auto", "cython", "numba", "numpy", "cuda"}
        ``auto`` is the first that is available on the host.  ``cuda`` sends host arrays to the GPU and results back;
        arrays that live on a GPU are computed there in any case.  A backend chosen by name never falls back to another:
        if it is missing, calls raise ``RuntimeError`` and say what to install.  The environment variable
        ``FASTLOSS_BACKEND`` does the same.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.use_backend("numpy"):
    ...     loss = fastloss.mse_loss([1.0, 2.0], [1.0, 4.0])
    """

    _setting = backend

    def __init__(self, name: str) -> None:
        super().__init__(name)


class use_wait(_Use):
    """Set whether calls on a CUDA device wait for it, so that they can raise for bad labels and values outside a loss's
    domain.

    By default they wait wherever such values are possible.  With ``use_wait(False)`` they return as soon as the kernel
    has been launched: a bad label then gives NaN, in its row and in means and sums.  ``FASTLOSS_WAIT=0`` does the same.

    Parameters
    ----------
    wait : bool

    Raises
    ------
    ValueError
        If it is neither True nor False.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.use_wait(False):
    ...     pass  # losses of arrays on a device
    """

    _setting = wait

    def __init__(self, wait: bool) -> None:
        super().__init__(wait)


def cpu_count() -> int:
    """CPUs this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
