"""Reads the machine code of a case's kernels: how wide the arithmetic in their innermost loops is, and what does not fit in registers.

Numba's code is what it has compiled in a process that has made the call once; that of the compiled kernels is the extension, as `objdump`
shows it.  Only x86-64 is read.
"""

from __future__ import annotations

import gc
import itertools
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from .side import Side
from .turns import Subject
from .workers import Worker

# Arithmetic on floating-point numbers: packed, or scalar (ss, sd).  Names with p are those of integers and permutations.
_ARITHMETIC = re.compile(r"(?!v?(?:p|mov|broadcast|gather|unpck|shuf))[a-z0-9]+(ps|pd|ss|sd)$")
_SCALAR = {"ss": 32, "sd": 64}
_REGISTERS = {"x": 128, "y": 256, "z": 512}

# Memory at a fixed distance from the stack pointer: what was put there for lack of registers.  Arrays on the stack have an index.
_ON_STACK = re.compile(r"[\w-]*\(%rsp\)")

_LABEL = re.compile(r"([.\w$]+):")
_FUNCTION = re.compile(r"[0-9a-f]+ <([^>]+)>:")
_LINE = re.compile(r"\s*([0-9a-f]+):\t(.+)")
_JUMP = re.compile(r"(j[a-z]+)\s+([.\w$]+)")

Code = list[tuple[str, str]]  # of one function or module: (label or address, "" if there is none; instruction)


class Unreadable(Exception):
    """Why there is no machine code to read."""


def of(subject: Subject, side: Side) -> dict[str, Any]:
    """Of a side, in a process of its own with an empty cache: the counts of `counted`, or `missing`: why there are none."""
    with tempfile.TemporaryDirectory(prefix="fastloss-bench-") as cache:
        own = replace(side, environment=(*side.environment, ("NUMBA_CACHE_DIR", cache)))
        with Worker(own) as worker:
            ready = worker.ask(
                do="prepare", case=subject.case.as_dict(), backend=subject.backend, threads=1, count=True
            )
            found = worker.ask(do="code", case=subject.case.as_dict(), backend=subject.backend)
    return {"missing": why} if (why := ready.get("missing") or ready.get("error") or found.get("error")) else found


def counted(case: Any, backend: str | None) -> dict[str, Any]:
    """In this process, which has made the call: {"vector-bits", "stack"}, or {"missing"}."""
    try:
        return _counts(_code(case, backend))
    except Unreadable as reason:
        return {"missing": str(reason)}


def _code(case: Any, backend: str | None) -> Iterable[Code]:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Unreadable(f"the machine code of {platform.machine()} is not read")
    if backend is None:
        import fastloss

        backend = next(name for name, status in fastloss.backends().items() if status == "available")
    if backend == "numba" or case.source:
        return _of_numba()
    if backend == "cython":
        return _of_extension(case)
    raise Unreadable(f"{backend} has no machine code of its own")


# --- what there is ----------------------------------------------------------------------------------------------------


def _of_numba() -> list[Code]:
    dispatcher = sys.modules.get("numba.core.dispatcher")
    known = [each for each in gc.get_objects() if dispatcher and isinstance(each, dispatcher.Dispatcher)]
    texts = [text for each in known for text in each.inspect_asm().values()]
    if not texts:
        raise Unreadable("Numba has compiled nothing")
    return [list(_assembly(text)) for text in texts]


def _assembly(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        stripped = line.split("#")[0].strip()
        if label := _LABEL.fullmatch(stripped):
            yield label[1], ""
        elif stripped and not stripped.startswith("."):
            yield "", stripped


def _of_extension(case: Any) -> list[Code]:
    """The functions of the case's formula, or for other functions all that belong to no formula, for the type it computes in."""
    import fastloss_c

    if not shutil.which("objdump"):
        raise Unreadable("objdump is not installed (it is part of binutils)")
    module = sys.modules[fastloss_c.ElementKernel.__module__]
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(module.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unreadable(f"objdump failed: {done.stderr.strip()[-200:]}")
    functions = dict(_disassembled(done.stdout))
    # without what compilers add to the names of parts and copies, such as ".constprop.0"
    chosen = _chosen(case, {name: name.split(".")[0] for name in functions})
    if not chosen:
        raise Unreadable(f"{module.__file__} has no symbols of {case.loss}'s kernels: it may have been stripped")
    return [functions[name] for name in chosen]


def _disassembled(text: str) -> Iterator[tuple[str, Code]]:
    name, code = "", Code()
    for line in text.splitlines():
        if start := _FUNCTION.fullmatch(line):
            if code:
                yield name, code
            name, code = start[1], []
        elif found := _LINE.fullmatch(line.split("#")[0].rstrip()):
            code.append((found[1], found[2]))
    if code:
        yield name, code


def _chosen(case: Any, plain: dict[str, str]) -> list[str]:
    from fastloss import losses

    formulas = [loss.name for loss in losses.POINTWISE]
    real = "double" if case.dtype == "float64" else "float"
    row: Any = next((each for each in losses.FUNCTIONS if each.name == case.loss), None)
    if row is None:
        raise Unreadable(f"this version has no {case.loss}")
    its = None
    if row.family == "elements":
        values = {option.name: option.default for option in row.options} | dict(case.options)
        its = row.formula(values, len(row.arrays) > 2)[0].name

    def belongs(name: str) -> bool:
        of_formula = max((each for each in formulas if name.startswith(f"{each}_")), key=len, default=None)
        return name.endswith(f"_{real}") and of_formula == its

    return [name for name, bare in plain.items() if belongs(bare)]


# --- what it says -----------------------------------------------------------------------------------------------------


def _counts(codes: Iterable[Code]) -> dict[str, Any]:
    """The mean width in bits of the loops' arithmetic, and how often these loops access what is on the stack for lack of registers."""
    widths, n_on_stack = [], 0
    for loop in itertools.chain.from_iterable(map(_loops, codes)):
        its_widths = [width for width in map(_width, loop) if width]
        if its_widths:
            widths += its_widths
            n_on_stack += sum(1 for instruction in loop if _ON_STACK.search(instruction))
    if not widths:
        raise Unreadable("its loops have no floating-point arithmetic")
    return {"vector-bits": round(sum(widths) / len(widths)), "stack": n_on_stack}


def _width(instruction: str) -> int:
    """The number of bits that it computes with; 0 if it is not arithmetic on floating-point numbers."""
    arithmetic = _ARITHMETIC.match(instruction.split()[0]) if instruction else None
    if not arithmetic:
        return 0
    widest = max((_REGISTERS[kind] for kind in re.findall(r"%([xyz])mm", instruction)), default=0)
    return _SCALAR.get(arithmetic[1], widest)


def _loops(code: Code) -> list[list[str]]:
    """The innermost loops: from the target of a jump back to the jump, with no other such jump between."""
    places = {label: i for i, (label, _) in enumerate(code) if label}
    loops = set()
    for i, (_, instruction) in enumerate(code):
        jump = _JUMP.match(instruction)
        start = places.get(jump[2]) if jump else None
        if start is not None and start <= i:
            loops.add((start, i))

    def is_innermost(first: int, last: int) -> bool:
        return not any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops)

    return [[instruction for _, instruction in code[a : b + 1]] for a, b in sorted(loops) if is_innermost(a, b)]
