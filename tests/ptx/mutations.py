"""Do the tests notice when a kernel is wrong?  Changes the CUDA kernels' text in one place at a time, and runs the tests here on the result.

``python tests/ptx/mutations.py`` takes a copy of the package for each of `MUTATIONS`, makes the one change in it, runs the tests that are named
beside it, up to the first that fails, and prints a table: what was changed, where, and what has noticed it.  ``--only NAME`` runs those whose
names contain NAME.  It fails if one goes unnoticed that is not argued to be equivalent, or one that is argued to be is noticed after all.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from mutants import MUTATIONS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIMIT = 900  # seconds for the tests of a mutation

# What reports of the driver, and of failed tests, mean; the first that is found counts.
SIGNS = {
    "races: ": "race",
    "what was never written": "uninitialised read",
    "of which byte": "uninitialised result",
    "in no memory of this space": "out of bounds",
    "that are there": "out of bounds",
    "which is not a multiple": "misaligned access",
    "waits for thread": "divergent barrier",
    "is not in the mask": "lanes and mask differ",
    "can't be launched": "refused launch",
    "DID NOT RAISE": "no error raised",
    "Regex pattern did not match": "wrong error",
    "if not all(same_bits": "other bits in another order",
    "assert all(same_bits": "other bits in another order",
    "ulp at": "wrong value",
    "Not equal to tolerance": "wrong value",
    "Arrays are not equal": "wrong value",
    "assert ": "wrong value",
    "outside of [": "wrong error",
}


def changed_text(mutation):
    """A file's text with the change; the old part is there once, or the mutation is about a text that has gone."""
    text = (ROOT / "fastloss" / mutation.file).read_text(encoding="utf-8")
    found = text.count(mutation.old)
    assert found == 1, f"{mutation.name}: its text is {found} times in {mutation.file}"
    assert mutation.old != mutation.new
    return text.replace(mutation.old, mutation.new)


def failure(tests, mutation=None):
    """None if these tests pass with a mutation; otherwise (what kind of failure, which test)."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "fastloss")
        shutil.copytree(ROOT / "fastloss", copy, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            (copy / mutation.file).write_text(changed_text(mutation), encoding="utf-8")
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, [folder, str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(Path(folder, "numba")),
            "DRIVER_CACHE": folder,
            "COLUMNS": "500",
        }
        kept = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "", "-rf"]
        try:
            process = subprocess.run(
                [
                    *command,
                    f"--rootdir={ROOT}",
                    "-c",
                    str(ROOT / "pyproject.toml"),
                    *(str(HERE / test) for test in tests),
                ],
                cwd=folder,
                env=kept | machine.environment(**own),
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            return "does not end", tests[0]
    found = re.search(r"^FAILED \S*?([\w/]+\.py::\S+?)(?: - |$)", process.stdout.replace(", ", ",_"), re.M)
    if process.returncode == 0:
        return None
    assert process.returncode == 1 and found, process.stdout[-3000:] + process.stderr[-3000:]
    kinds = [kind for sign, kind in SIGNS.items() if sign in process.stdout]
    return kinds[0] if kinds else "error", found.group(1).replace(",_", ", ")


def row_of(mutation):
    """(whether all is as it should be, a row of the table)."""
    found = failure(mutation.tests, mutation)
    where = f"`{Path(mutation.file).name}`"
    if found is None:
        return bool(mutation.equivalent), (mutation.name, where, mutation.equivalent or "**not noticed**", "")
    name = found[1].rpartition("/")[2].replace(".py::", ": ")
    return not mutation.equivalent, (mutation.name, where, found[0], f"`{name}`")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="run the mutations whose names contain this")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if arguments.only in m.name]
    missing = machine.reason_missing()
    if missing:
        sys.exit(missing)
    start, all_right, counts = time.monotonic(), True, [0, 0]
    tests = sorted({test for m in chosen for test in m.tests})
    assert failure(tests) is None, "a test fails where nothing is changed"
    print("| changed | in | noticed as | by |\n| --- | --- | --- | --- |", flush=True)
    for mutation in chosen:
        is_right, row = row_of(mutation)
        all_right &= is_right
        counts[bool(mutation.equivalent)] += 1
        print("| " + " | ".join(row) + " |", flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"\n{counts[0]} mutations and {counts[1]} equivalent ones in {minutes:.0f} minutes", file=sys.stderr)
    return 0 if all_right else 1


if __name__ == "__main__":
    sys.exit(main())
