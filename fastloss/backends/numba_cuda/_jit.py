"""How CUDA kernels are made: templates filled with readers, sizes and a loss's scalars, compiled for a device, cached
on disk."""

import ast
import functools
import hashlib
import textwrap
from pathlib import Path

import numpy as np

from fastloss import _dialect, _templates, scalars
from fastloss.backends.numba_cuda import _target
from fastloss.backends.numba_cuda._compiler import MLIR, cuda

_HERE = Path(__file__).parent
_SOURCES = (Path(scalars.__file__), Path(_dialect.__file__), _HERE.parent / "__init__.py", *sorted(_HERE.glob("*.py")))


@functools.cache
def fingerprint():
    return _templates.fingerprint(_SOURCES) + "m" * MLIR  # both compilers keep kernels in the same folder


def inlined(template, purpose, **holes):
    """`template` with its holes filled, for use inside kernels."""
    return _target.inlined(_templates.filled(template, f"{template.__name__}_{purpose}_{fingerprint()}", holes))


def kernel(template, purpose, n_threads, /, resident=None, **holes):
    """`template` with its holes filled, as a kernel for blocks of n_threads, which limits the registers per thread.

    resident : threads that a multiprocessor should have room for; their registers are limited further if necessary.
    """
    copy = _templates.filled(template, f"{template.__name__}_{purpose}_{fingerprint()}", holes)
    if _target.SIMULATED:
        return cuda.jit(copy)
    dispatcher = cuda.jit(launch_bounds=(n_threads, resident // n_threads) if resident else n_threads)(copy)
    try:
        # the successor's keys have the launch bounds in them
        dispatcher._cache = _cache()(copy, dispatcher.targetoptions) if MLIR else _cache()(copy)
    except (RuntimeError, OSError):  # no writeable cache: every process compiles for itself
        pass
    return dispatcher


@functools.cache
def _cache():
    from fastloss.backends.numba_cuda._compiler import Cache

    class ForgivingCache(_templates.Forgiving, Cache):
        pass

    return ForgivingCache


# --- the formulas -----------------------------------------------------------------------------------------------------


class _Specials(ast.NodeTransformer):
    """Replaces float("nan") and float("inf"), which kernels can't parse, by names."""

    def visit_Call(self, call):
        self.generic_visit(call)
        return ast.Name(f"_{call.args[0].value}", ast.Load()) if _dialect.special(call) else call


@functools.cache
def formulas(real, shorter=(), text=None):
    """{name: function} for every function of a text (by default scalars.py), for use in kernels on numbers of type
    `real`.

    They call each other and this target's elementary functions.

    shorter : pairs (name, template that replaces the function of that name).
    """
    path = Path(scalars.__file__)
    text = path.read_text(encoding="utf-8") if text is None else text
    checked = _dialect.functions(text)
    module = _Specials().visit(_dialect.parsed(textwrap.dedent(text)))
    module.body = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    namespace = {}
    exec(compile(ast.fix_missing_locations(module), str(path), "exec"), namespace)
    digest = hashlib.sha256("\n".join([text, *dict(shorter)]).encode()).hexdigest()[:12]
    holes = {**_target.elementary, "_nan": np.nan, "_inf": np.inf}
    templates = {name: namespace[name] for name in checked} | dict(shorter)
    for name, template in templates.items():
        given = {"Real": np.dtype(real).type} if name in dict(shorter) else {}
        # a function sees those it calls, whatever their order in the text
        holes[name] = _templates.filled(template, f"{name}_{real}_{digest}_{fingerprint()}", given)
    copies = {name: holes[name] for name in templates}
    made = {name: _target.inlined(copy) for name, copy in copies.items()}
    for copy in copies.values():
        copy.__globals__.update(holes | made)
    return made


@functools.cache
def called_with(n_operands, n_parameters):
    """A template call(x, y, z, p) that calls `formula` with this many operands and parameters, the latter in the type
    `Real`."""
    arguments = [*"xyz"[:n_operands], *(f"Real(p[{k}])" for k in range(n_parameters))]
    namespace = {}
    exec(f"def call(x, y, z, p):\n    return formula({', '.join(arguments)})\n", namespace)
    return namespace["call"]


def family(templates, purpose, **holes):
    """{name: function} of `templates` with their holes filled, for use in kernels; each is visible to the later
    ones."""
    made = {}
    for template in templates:
        made[template.__name__] = inlined(template, purpose, **holes, **made)
    return made
