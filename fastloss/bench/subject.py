"""fastloss as a contender: the call to be timed, for this build and any other."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]

# The number of batches given to an Accumulator, and of chunks of a Dask array.
_PIECES = 4


class Unsupported(Exception):
    """A contender can't compute a case; the message says why."""


def fastloss_call(case: Any, arrays: Sequence[np.ndarray], backend: str | None) -> Call:
    """`case` on these inputs, as a function without arguments; on `backend`, or the current one if that is None."""
    import fastloss

    if case.source:
        call = _own_call(case)
    else:
        function = getattr(fastloss, case.loss, None)
        if function is None:
            raise Unsupported(f"this version has no {case.loss}")
        call = _WAYS[case.op](case, function, arrays)
    if backend is None:
        return call
    others = [name for name, status in fastloss.backends().items() if status == "available" and name != backend]
    if not others:
        return call

    # With several backends each call runs in a context of its own, which costs some 50 ns.
    def choose() -> contextvars.Context:
        fastloss.use_backend(backend).__enter__()
        return contextvars.copy_context()

    return partial(contextvars.copy_context().run(choose).run, call)


def value_of(result: Any) -> float:
    """One number that stands for what a call returned: a value, (value, gradient), an array's mean, the first of
    several arrays'.

    NaN where it returned no numbers.
    """
    while isinstance(result, (tuple, list)) and len(result):
        result = result[0]
    if isinstance(result, dict):
        return value_of(list(result.values()))
    try:
        return float(np.mean(np.asarray(result, np.float64)))
    except (TypeError, ValueError):
        return float("nan")


# --- ways of calling --------------------------------------------------------------------------------------------------


def _arguments(case: Any, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], dict[str, Any]]:
    """(positional arguments, keywords) of the call."""
    named = list(zip(case.arrays, arrays, strict=True))
    keywords = {array.name: given for array, given in named if array.keyword}
    return [given for array, given in named if not array.keyword], {**keywords, **dict(case.options)}


def _value(case: Any, function: Call, arrays: Sequence[np.ndarray]) -> Call:
    positional, keywords = _arguments(case, arrays)
    return partial(function, *positional, **keywords)


def _grad(case: Any, function: Call, arrays: Sequence[np.ndarray]) -> Call:
    import fastloss

    if not hasattr(fastloss, "value_and_grad"):
        raise Unsupported("this version has no value_and_grad")
    positional, keywords = _arguments(case, arrays)
    if case.op == "fresh":
        return partial(fastloss.value_and_grad(function), *positional, **keywords)
    # Gradients are written to the same array each time, as in training; otherwise the allocation of fresh pages would
    # be timed.
    first = positional[0]
    keywords["out"] = np.zeros(first.shape, np.float64 if case.dtype == "float64" else np.float32)
    return partial(fastloss.value_and_grad(function), *positional, **keywords)


def _accumulate(case: Any, function: Call, arrays: Sequence[np.ndarray]) -> Call:
    import fastloss

    positional, keywords = _arguments(case, arrays)
    total = fastloss.Accumulator(function, **keywords)
    # every batch needs all weights of the layer
    n = len(positional[0])
    cut = [np.array_split(array, _PIECES) if len(array) == n else [array] * _PIECES for array in positional]
    pieces = list(zip(*cut, strict=True))

    def call() -> Any:
        total.reset()
        for piece in pieces:
            total.update(*piece)
        return total.compute()

    return call


def _dask(case: Any, function: Call, arrays: Sequence[np.ndarray]) -> Call:
    try:
        import dask.array
    except ImportError:
        raise Unsupported("needs Dask: pip install 'fastloss[dask]'") from None
    positional, keywords = _arguments(case, arrays)
    chunks = [dask.array.from_array(array, (-(-len(array) // _PIECES), *array.shape[1:])) for array in positional]
    return lambda: function(*chunks, **keywords).compute(scheduler="synchronous")


def _eval(case: Any, function: Call, arrays: Sequence[np.ndarray]) -> Call:
    try:
        # from the build that is measured, which may not have it
        main = importlib.import_module("fastloss.cli").main
    except ImportError:
        raise Unsupported("this version has no command line") from None
    folder = tempfile.TemporaryDirectory(prefix="fastloss-bench-")
    files = []
    for array, given in zip(case.arrays, arrays, strict=True):
        files.append(str(Path(folder.name) / f"{array.name}.npy"))
        np.save(files[-1], given)
    arguments = ["eval", *files, "--loss", case.loss, "--json"]

    def call(folder: Any = folder) -> float:  # keeps the files as long as the call exists
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if main(arguments):
                raise RuntimeError("fastloss eval failed")
        return json.loads(printed.getvalue())["value"]

    return call


_WAYS: dict[str, Callable[[Any, Call, Sequence[np.ndarray]], Call]] = {
    "value": _value,
    "grad": _grad,
    "fresh": _grad,
    "accumulate": _accumulate,
    "dask": _dask,
    "eval": _eval,
}


# --- a user's own cases -----------------------------------------------------------------------------------------------


def definitions(source: str) -> dict[str, Any]:
    """The `CASES` of a file; see `own`."""
    spec = importlib.util.spec_from_file_location("fastloss_bench_own", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


def _own_call(case: Any) -> Call:
    definition = definitions(case.source)[case.loss]
    setup = definition.get("setup")
    parameters = dict(case.options)
    if setup is None:
        return partial(definition["call"], **parameters)
    made = setup(**parameters)
    return partial(definition["call"], *(made if isinstance(made, tuple) else (made,)))
