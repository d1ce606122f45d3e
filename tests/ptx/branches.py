"""Which ways kernels go in the tests: ``python tests/ptx/branches.py [options of pytest]`` runs the matrix, the edges and the device's tests in the
executor, all but the slow ones unless options say otherwise, and prints a table of the conditional branches of all kernels that were launched.

A branch is one of the PTX, so that a condition in a template counts once for every kernel that is made of it, and what a compiler has made a select
or taken out does not count.  Branches have gone both ways, one way, or have not been reached.
"""

import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import machine

HERE = Path(__file__).parent
TESTS = HERE / "test_matrix.py", HERE / "test_edges.py", HERE / "test_package.py", HERE.parent / "device"
STRAIGHT, AWAY = 1, 2


# The name of a kernel in PTX: where it is defined, the template, and for rows the operation.
_NAME = re.compile(
    r"\.entry\s+_Z(?:N\w*?numba_cuda\d+[a-z]+)?\d+(?:((?:groups|teams)_[a-z]+(?:_[a-z]+)?)_\d|([a-z]+)_)"
)


def ways_of(path):
    """(name of the template, a number for each conditional branch: the sum of the ways that threads have gone)."""
    name = _NAME.search((machine.folder() / path.name).with_suffix(".ptx").read_text())
    return (name.group(1) or name.group(2)) if name else "others", path.read_bytes()


def table(folder):
    found = collections.defaultdict(list)
    for path in sorted(folder.glob("*.so")):
        template, ways = ways_of(path)
        found[template].append(ways)
    yield "kernel", "compiled as", "branches", "both ways", "one way", "not reached"
    yield ("---",) * 6
    rows = [(name, len(all_ways), b"".join(all_ways)) for name, all_ways in sorted(found.items())]
    for name, n, ways in [*rows, ("all", sum(n for _, n, _ in rows), b"".join(ways for *_, ways in rows))]:
        both, none = ways.count(STRAIGHT | AWAY), ways.count(0)
        yield name, n, len(ways), both, len(ways) - both - none, none


def main():
    missing = machine.reason_missing()
    if missing:
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **machine.environment(DRIVER_BRANCHES=folder)}
        environment.pop("NUMBA_ENABLE_CUDASIM", None)
        options = sys.argv[1:] or ["-m", "not slow", *map(str, TESTS)]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *options]
        code = subprocess.run(command, env=environment).returncode
        for row in table(Path(folder)):
            print("| " + " | ".join(map(str, row)) + " |")
    return code


if __name__ == "__main__":
    sys.exit(main())
