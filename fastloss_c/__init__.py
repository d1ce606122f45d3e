"""Ahead-of-time compiled kernels for fastloss: the losses' inner loops in C, wrapped by Cython.

Each kernel is compiled once per instruction set; on import the best one that the CPU has is chosen.  ``FASTLOSS_CPU`` in the
environment (``baseline``, ``avx2`` or ``avx512``) caps the choice.

Attributes
----------
instruction_set : the one in use, as FASTLOSS_CPU calls it, or None if no kernels could be loaded.
vectors : what its vector instructions are called: the same, but "neon" for the baseline of ARM64.
reason : why none could be loaded, otherwise None.
scalars : CRC-32 of the formulas' text that the kernels were built from.
share : lets the calling thread's next kernel use more threads; None if kernels have no threads of their own.
"""

import importlib
import os

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")

instruction_set = vectors = reason = ElementKernel = RowKernel = TileKernels = finish = scalars = share = None


def _load():
    """Import the best build that there is."""
    global instruction_set, vectors, reason, ElementKernel, RowKernel, TileKernels, finish, scalars, share
    cap = os.environ.get("FASTLOSS_CPU", "")
    if cap and cap not in INSTRUCTION_SETS:
        raise ValueError(
            f"environment variable FASTLOSS_CPU: expected one of {', '.join(INSTRUCTION_SETS)}, got {cap!r}"
        )
    try:
        from fastloss_c._cpu import baseline, best
    except ImportError as error:
        reason = f"its extension modules are missing ({error})"
        return
    most = min(best(), INSTRUCTION_SETS.index(cap) if cap else len(INSTRUCTION_SETS))
    for name in reversed(INSTRUCTION_SETS[: most + 1]):
        try:
            module = importlib.import_module(f"fastloss_c._{name}")
        except ImportError as error:  # not built, because the compiler does not support the instructions
            reason = f"its extension modules are missing ({error})"
            continue
        instruction_set, scalars, finish, reason = name, module.scalars, module.finish, None
        vectors = baseline if name == "baseline" else name
        ElementKernel, RowKernel, TileKernels = module.ElementKernel, module.RowKernel, module.TileKernels
        share = module.share if module.pooled else None
        return


_load()
