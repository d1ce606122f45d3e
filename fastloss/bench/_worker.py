"""Runs one side on request; a script, so that the build on that side need not contain a benchmark suite.

One JSON object per line: requests on standard input, answers on standard output.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

# Batches timed per request; the fastest counts.
TRIES = 2

# Distributions whose versions are reported for a side, if they are installed.
_TOLD = ("numpy", "numba", "llvmlite", "scipy", "dask", "ml_dtypes")


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that other output does not mix with the answers

    # This suite's modules get another name, because `fastloss` is the build that is measured.
    suite = types.ModuleType("fastloss_bench")
    suite.__path__ = [str(Path(__file__).parent)]
    sys.modules["fastloss_bench"] = suite
    from fastloss_bench import case as cases  # type: ignore[import-not-found]
    from fastloss_bench import machine_code, measure, subject

    before = set(sys.modules)
    import fastloss

    fastloss.cross_entropy  # noqa: B018  (what is imported with the first function counts as part of the import)
    imported = len(set(sys.modules) - before)
    warnings.simplefilter("ignore")
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    ready: dict[str, Any] = {}

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        if cpus:
            os.sched_setaffinity(0, cpus)
        case = cases.from_dict(request["case"])
        ready.clear()  # frees the previous case's arrays before new ones are made
        fastloss.use_threads(request["threads"])
        try:
            call = subject.fastloss_call(case, case.inputs(), request["backend"])
        except subject.Unsupported as reason:
            return {"missing": str(reason)}
        calls = measure.work(call) if request.get("count") else None
        value = subject.value_of(call())
        ready["call"] = call
        if not request.get("count"):
            clock = time.process_time if request.get("clock") == "cpu" else time.perf_counter
            ready["batch"] = measure.Batch(call, clock=clock)
        return {"value": value, "calls": calls, "repeats": ready["batch"].repeats if "batch" in ready else 0}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "prepare":
            return prepare(request)
        if request["do"] == "memory":
            return {"bytes": measure.peak_bytes(ready["call"])}
        if request["do"] == "code":
            return machine_code.counted(cases.from_dict(request["case"]), request["backend"])
        if request["do"] == "repeat":
            gc.disable()
            for _ in range(request["repeats"]):
                ready["call"]()
            return {}
        if cpus:
            # Both workers move from CPU to CPU together: one that always shared its CPU with another program would
            # always lose. Only this thread is bound; threads that the first call has started are not.
            os.sched_setaffinity(0, {cpus[request["round"] % len(cpus)]})
        # The fastest of a few shows what the code can do, rather than what else the machine was doing.
        return {"seconds": min(ready["batch"].time(request["repeats"], settle=i == 0) for i in range(TRIES))}

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    send(
        {
            "path": str(Path(fastloss.__file__).resolve().parent.parent),
            "versions": {"python": platform.python_version(), "fastloss": fastloss.__version__, **_versions()},
            "modules": imported,
        }
    )
    for line in sys.stdin:
        try:
            message = answer(json.loads(line))
        except Exception as error:  # this side can't run the case; the next one may work
            message = {"error": f"{type(error).__name__}: {error}"}
        send(message)


def _versions() -> dict[str, str]:
    found = {}
    for name in _TOLD:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
