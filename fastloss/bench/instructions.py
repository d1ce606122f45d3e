"""Counts the instructions of a warm call: those of a process that makes many calls, minus those of one that makes few.

`perf stat` counts them in hardware.  Virtual machines often have no counters; then Valgrind is used, which does not
support AVX-512, so that both sides are restricted to AVX2 (Haswell), in compiled kernels, NumPy and Numba alike.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from .side import Side
from .turns import Subject

# How many calls the one process makes, and how many more the other one: two starts of the interpreter differ by up to a million
# instructions, which must not matter beside those of the calls.
_FEW, _FEWEST_MORE, _MOST_MORE, _ELEMENTS = 10, 10, 10_000, 100_000_000

# How long these calls may take at full speed, of which Valgrind makes a minute.  Cases of one's own need not say how many elements they have.
_LONGEST = 1.0

_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_NO_AVX512 = (
    ("FASTLOSS_CPU", "avx2"),
    ("NPY_DISABLE_CPU_FEATURES", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"),
    ("NUMBA_CPU_NAME", "haswell"),
    ("NUMBA_CPU_FEATURES", ""),
    ("OPENBLAS_CORETYPE", "Haswell"),
)


# One thread: those that wait by spinning would be counted, too.
_ONE_THREAD = tuple((f"{name}_NUM_THREADS", "1") for name in ("FASTLOSS", "OMP", "OPENBLAS", "MKL", "NUMBA"))


@functools.cache
def counter() -> str:
    """ "perf", "valgrind", or "" if neither can count."""
    if shutil.which("perf"):
        done = subprocess.run(
            ["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and re.match(r"\d+,", done.stderr):
            return "perf"
    return "valgrind" if shutil.which("valgrind") else ""


def of(subject: Subject, side: Side, seconds: float) -> int | None:
    """Instructions per call, which takes so many seconds, on a side; None if they can't be counted."""
    if not counter():
        return None
    before = ["perf", "stat", "-x,", "-e", "instructions:u", "--"]
    side = replace(side, environment=(*_ONE_THREAD, *side.environment))
    if counter() == "valgrind":
        before, side = list(_VALGRIND), replace(side, environment=(*_NO_AVX512, *side.environment))
        # Numba's kernels are compiled, and kept on disk, at full speed: it would take minutes under Valgrind
        _whole(subject, side, 1, [])
    affordable = min(_ELEMENTS // max(subject.case.n_elements, 1), int(_LONGEST / seconds), _MOST_MORE)
    more = max(affordable, _FEWEST_MORE)
    few, many = (_counted(_whole(subject, side, repeats, before)) for repeats in (_FEW, _FEW + more))
    return None if few is None or many is None else round((many - few) / more)


def _whole(subject: Subject, side: Side, repeats: int, before: list[str]) -> subprocess.CompletedProcess[str]:
    """A process that makes `repeats` calls, run by the command `before`."""
    requests = [
        {"do": "prepare", "case": subject.case.as_dict(), "backend": subject.backend, "threads": 1, "count": True},
        {"do": "repeat", "repeats": repeats},
    ]
    told = "".join(json.dumps(request) + "\n" for request in requests)
    # without address randomisation, which changes the order of sets of objects
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    command = [*fixed, *before, side.python, "-P", str(Path(__file__).with_name("_worker.py"))]
    return subprocess.run(command, input=told, capture_output=True, text=True, env=side.variables(), check=False)


def _counted(done: subprocess.CompletedProcess[str]) -> int | None:
    if done.returncode or '"error"' in done.stdout:
        return None
    found = re.search(r"^(\d+),.*instructions|I\s+refs:\s+([\d,]+)", done.stderr, re.MULTILINE)
    return None if found is None else int((found[1] or found[2]).replace(",", ""))
