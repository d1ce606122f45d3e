"""The largest errors found of every function, by dtype, backend and instruction set, as the tables that docs/accuracy.md has.

    python tests/table_of_errors.py [--rows 1000000] [--elements 10000000] [--backends cython,numba,numpy] [--only focal] [--seed 1]

Rows are drawn and computed as in `search_errors.py`, elements as in `sweep_pointwise.py`: in float32 against 80-bit arithmetic, in float64
(a thousandth as many) and where terms cancel by mpmath.  Errors are in ulp of the result, or of the largest term of a sum that cancels.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import search_errors
import sweep_pointwise

PLACES = [("cython", cpu) for cpu in ("baseline", "avx2", "avx512")] + [("numba", ""), ("numpy", "")]
EXACTLY = 1000  # one of how many elements mpmath takes


def named(sweep):
    """A loss with its options, and what its operands are where there are several such."""
    alike = sum(str(other) == str(sweep) for other in sweep_pointwise.SWEEPS)
    return str(sweep) if alike == 1 else f"{sweep} ({', '.join(sweep.domains)})"


def elements(n, seed, only=""):
    """Lines of losses of elements: name, dtype, errors of values and of slopes."""
    for sweep in sweep_pointwise.SWEEPS:
        if only not in named(sweep):
            continue
        for dtype in sweep_pointwise.DTYPES:
            found = [(np.nan,), (np.nan,)]
            if dtype == np.float64 or sweep.cancels or sweep.slope_cancels:
                found = sweep_pointwise.worst(sweep, dtype, max(n // EXACTLY, 100), seed)
            if dtype == np.float32 and not sweep.cancels:
                wide = sweep_pointwise.searched(sweep, n, seed)
                found = wide[0], found[1] if sweep.slope_cancels else wide[1]
            yield named(sweep), np.dtype(dtype).name, [float(error) for error, *_ in found]


def rows(n, seed, only=""):
    """Lines of functions of rows: name, dtype, the error."""
    names = [name for name in search_errors.FUNCTIONS if only in name]
    for dtype in search_errors.DTYPES if names else ():
        for name, worst in search_errors.search(names, dtype, n, seed).items():
            yield name, np.dtype(dtype).name, [worst.error]


def n_rows(n):
    """How many rows are drawn of each function and dtype."""
    drawn = (np.prod(search_errors.sizes(n, c)) for c in search_errors.CLASSES)
    return int(sum(drawn)) * len(search_errors.FAMILIES)


def print_table(found, places, title):
    """found : of each place, a dictionary of (name, dtype) to errors."""
    heads = [" ".join(filter(None, place)) for place in places]
    print(f"| {title} | dtype | {' | '.join(heads)} |")
    print(f"| --- | --- |{' ---: |' * len(heads)}")
    for key in dict.fromkeys(key for errors in found for key in errors):
        cells = [", ".join(f"{e:.1f}" for e in errors.get(key, ())) or "-" for errors in found]
        print("|", " | ".join([*key, *cells]), "|")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of few classes, a family of rows")
    parser.add_argument("--elements", type=int, default=10_000_000, help="of each loss in float32")
    parser.add_argument("--backends", default="cython,numba,numpy")
    parser.add_argument("--only", default="", help="functions whose names, with their options, contain this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", choices=["rows", "elements"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        search, n = (rows, args.rows) if args.here == "rows" else (elements, args.elements)
        for line in search(n, args.seed, args.only):
            print(json.dumps(line), flush=True)
        return
    places = [place for place in PLACES if place[0] in args.backends.split(",")]
    for what, title in (("rows", "rows"), ("elements", "elements: value, slope")):
        found = []
        for backend, cpu in places:
            environment = os.environ | {"FASTLOSS_BACKEND": backend} | ({"FASTLOSS_CPU": cpu} if cpu else {})
            numbers = ["--rows", str(args.rows), "--elements", str(args.elements), "--seed", str(args.seed)]
            command = [sys.executable, __file__, "--here", what, "--only", args.only, *numbers]
            lines = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append({(name, dtype): errors for name, dtype, errors in map(json.loads, lines.splitlines())})
        if not any(found):
            continue
        drawn = f"{n_rows(args.rows):,} rows" if what == "rows" else f"{args.elements:,} elements in float32"
        print(f"Drawn for each: {drawn}.\n")
        print_table(found, places, title)


if __name__ == "__main__":
    main()
