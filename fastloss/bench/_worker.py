"""Times one build of fastloss on request: run as a script, so that the build need not have a benchmark suite itself.

One JSON object a line: requests on standard input, answers on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

# Batches timed in one round.
TRIES = 3


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not get between the answers

    # This suite's modules, under a name of their own: `fastloss` is the build that is measured.
    suite = types.ModuleType("fastloss_bench")
    suite.__path__ = [str(Path(__file__).parent)]
    sys.modules["fastloss_bench"] = suite
    from fastloss_bench import cases, measure, subject  # type: ignore[import-not-found]

    import fastloss

    warnings.simplefilter("ignore")
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    batch: Any = None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal batch
        if request["do"] == "time":
            # Both workers go round the CPUs together: one that shares its CPU with another program would lose for ever.
            # Only this thread is bound; threads that the first call started are not.
            if cpus:
                os.sched_setaffinity(0, {cpus[request["round"] % len(cpus)]})
            # The best of a few is what the code can do, not what else the machine was doing.
            return {"seconds": min(batch.time(request["repeats"], settle=i == 0) for i in range(TRIES))}
        if cpus:
            os.sched_setaffinity(0, cpus)
        case = cases.from_dict(request["case"])
        fastloss.use_threads(request["threads"])
        batch = None  # its arrays go before there are new ones
        x, y = case.inputs()
        call = subject.fastloss_call(case, x, y, request["backend"])
        value = call()
        value = float(value[0] if isinstance(value, tuple) else value)
        batch = measure.Batch(call)
        return {"repeats": batch.repeats, "value": value}

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    send({"path": str(Path(fastloss.__file__).resolve().parent.parent), "version": fastloss.__version__})
    for line in sys.stdin:
        try:
            message = answer(json.loads(line))
        except Exception as error:  # the build cannot do this case; the next may work
            message = {"error": f"{type(error).__name__}: {error}"}
        send(message)


if __name__ == "__main__":
    main()
