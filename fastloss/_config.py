"""Which backend, and how many threads: the two settings, their environment variables and how long they last."""

import contextlib
import os
from contextvars import ContextVar

from fastloss import _errors

BACKENDS = ("auto", "cython", "numba", "numpy", "cuda")

_MAX_THREADS = 1024


class _Setting:
    """A value for the process, which a context (`with`) may override for itself."""

    def __init__(self, variable, parse):
        self.parse = parse
        self.variable = variable
        self._process = None  # read from the environment when first asked for
        self._context = ContextVar(variable, default=None)

    def get(self):
        value = self._context.get()
        if value is not None:
            return value
        if self._process is None:
            text = os.environ.get(self.variable, "")
            try:
                self._process = self.parse(text) if text else self.parse(None)
            except (ValueError, TypeError) as error:
                raise _errors.bad_environment(self.variable, text, str(error).split("expected ")[-1]) from None
        return self._process

    @contextlib.contextmanager
    def within(self, value):
        """The setting in this context alone, whatever other threads do; None leaves it as it is."""
        token = self._context.set(self._context.get() if value is None else value)
        try:
            yield
        finally:
            self._context.reset(token)


class _Use:
    """What `use_threads(n)` returns: the setting is made already; leaving a `with` undoes it."""

    _setting: _Setting

    def __init__(self, value):
        self._before = self._setting._process
        self._value = self._setting.parse(value)
        self._setting._process = self._value
        self._tokens = []

    def __enter__(self):
        # inside `with` the setting belongs to this context alone, not to other threads
        if not self._tokens:
            self._setting._process = self._before
        self._tokens.append(self._setting._context.set(self._value))
        return self

    def __exit__(self, *exception):
        self._setting._context.reset(self._tokens.pop())

    def __repr__(self):
        return f"<{self._setting.variable} = {self._value}>"


def _parse_threads(value):
    if value is None:
        return cpu_count()
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise _errors.out_of_range("threads", value, f"an integer in [1, {_MAX_THREADS}]") from None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _errors.not_integer("threads", value)
    value = value.__index__()
    if not 1 <= value <= _MAX_THREADS:
        raise _errors.out_of_range("threads", value, f"an integer in [1, {_MAX_THREADS}]")
    return value


def _parse_backend(value):
    if value is None:
        return "auto"
    if value not in BACKENDS:
        raise _errors.unknown_backend(value, BACKENDS)
    return value


def _parse_wait(value):
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
    (or asyncio task) alone.  The environment variable ``FASTLOSS_NUM_THREADS`` sets where it starts; without it, it is
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

    def __init__(self, n: int | None):
        super().__init__(n)


class use_backend(_Use):
    """Choose the backend by name: for the process when called, for a block as a context manager.

    Parameters
    ----------
    name : {"auto", "cython", "numba", "numpy", "cuda"}
        ``auto`` takes what is available on the host.  ``cuda`` sends arrays of the host to the GPU and results back; arrays that are
        there are computed there in any case.  A backend asked for by name never falls back to another: if it is missing,
        calls raise ``RuntimeError`` and say what to install.  ``FASTLOSS_BACKEND`` in the environment does the same.

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

    def __init__(self, name: str):
        super().__init__(name)


class use_wait(_Use):
    """Say whether calls on a CUDA device wait for it to learn of bad labels and of values outside a loss's domain.

    By default they do, where there may be some, and raise.  ``use_wait(False)`` lets such calls return as soon as the kernel has
    been launched: a bad label then gives NaN, in its row and in means and sums.  ``FASTLOSS_WAIT=0`` does the same.

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

    def __init__(self, wait: bool):
        super().__init__(wait)


def cpu_count():
    """CPUs this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
