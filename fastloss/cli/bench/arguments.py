"""Measure fastloss and what else is installed against the roof of memory.

Each case is one call over given arrays. Contenders take turns (A B C A B C
...) on the same data, together with a plain read of that data (for gradients
a copy): the roof. A table shows the median time, GB/s of what the definition
has to read, the share of the roof, and how many times as long as fastloss
each takes, with the 95 % interval.

With --sweep everything is measured instead of chosen cases: each function,
from 1 to 3e7 elements, in every way of calling, beside the best of the others
and beside what this CPU allows at most. Tables show the worst of both.

With --against two sides are set against each other instead: builds of
fastloss, versions of what it stands on, interpreters or settings. Pairs of
processes take turns until each case is told to be slower, faster or the same
within the limit, or time is up.
"""

from __future__ import annotations

import argparse

from fastloss.cli import argument_types
from fastloss.cli.failure import Failure

EPILOG = """\
--list names cases and contenders. PATTERN is a name, a part of one, a shell
pattern, or a set: "headline" (the default), "suite" (small and middle sizes
of every function, the default of --against), "peers" (what other libraries
are measured on), "all". "--contenders all" adds torch.compile, which compiles
for seconds a case. scikit-learn is given probabilities, not timed; it, NumPy
and SciPy use one thread. --seconds counts all but the last case's
preparations; large cases need several seconds each.

A SIDE is one or several of: a folder with an installed fastloss, a wheel, a
revision of the checkout, the JSON of a build that is still there, a
requirement (numba==0.67.*), python=VERSION, NAME=VALUE for an environment
variable; CC and CFLAGS compile anew. What is installed is kept in the user's
cache. --with names the new side, which is this build otherwise.

Problems are shown first, and each kind has an exit code: 6 nothing was
measured, 3 (differs) values differ, 1 (slower), 7 (gate) memory or a count
above its tolerance, 4 (missing) one side lacks a case, 5 (cant-tell) noise
allows no verdict; the gravest counts, in this order. --allow KIND or
KIND:PATTERN lets such problems pass. Besides: 0, 2 for bad input, 74 where
standard output cannot be written, 130 after Ctrl-C. docs/regression.md has
the rest.

examples:
  fastloss bench --plot losses.png
  fastloss bench --cases 'ce_*' --contenders fastloss torch --json > today.json
  fastloss bench --sweep --functions 'mse_loss' 'cross_entropy/C=10*' --plot heat.png
  fastloss bench --against main --markdown "$GITHUB_STEP_SUMMARY"
  fastloss bench --against 'numba==0.67.*' --contenders fastloss-numba
  fastloss bench --against FASTLOSS_CPU=avx2 --cases 'mse_loss/*' --limit 1.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss bench`."""
    parser.epilog = EPILOG
    parser.add_argument("--cases", nargs="+", metavar="PATTERN", help="which cases (default: the headline ones)")
    parser.add_argument("--cases-from", metavar="FILE.py", help="a file with cases of your own; these alone by default")
    parser.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        help="which contenders (default: all that are installed, but not torch.compile; with --against the backend in use)",
    )
    parser.add_argument(
        "--seconds",
        type=argument_types.seconds,
        metavar="S",
        help="how long to measure in all (default: 60; with --against 300, with --sweep 3600)",
    )
    parser.add_argument("--threads", type=argument_types.positive, metavar="N", help="number of threads (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--output", metavar="FILE", help="write that object there as well")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the results (.png, .svg or .pdf)")
    parser.add_argument("--list", action="store_true", help="show cases and contenders, and measure nothing")
    everywhere = parser.add_argument_group("everywhere")
    everywhere.add_argument(
        "--sweep",
        action="store_true",
        help="every function, size and way of calling, beside the best of the others and beside the CPU's limit",
    )
    everywhere.add_argument(
        "--functions",
        nargs="+",
        metavar="PATTERN",
        help="of these functions alone, or function/way (default: all; --list shows them)",
    )
    everywhere.add_argument(
        "--sizes",
        nargs="+",
        type=argument_types.size,
        metavar="N",
        help="of these numbers of elements alone (default: half decades from 1 to 3e7)",
    )
    two = parser.add_argument_group("two sides")
    two.add_argument(
        "--against", "--compare", nargs="+", metavar="SIDE", help="what to compare with, such as an earlier --json"
    )
    two.add_argument("--with", nargs="+", metavar="SIDE", dest="new", help="the new side (default: this build)")
    two.add_argument(
        "--limit",
        "--fail-above",
        type=argument_types.factor,
        default=1.05,
        metavar="X",
        help="the slowdown allowed (default: 1.05)",
    )
    two.add_argument("--allow", nargs="+", default=[], metavar="KIND[:PATTERN]", help="problems that are let pass")
    two.add_argument(
        "--gates", nargs="+", default=[], metavar="NAME[:PATTERN]=X", help="tolerances of memory, calls, ..."
    )
    two.add_argument("--instructions", action="store_true", help="count instructions too (perf, or Valgrind: slow)")
    two.add_argument(
        "--machine-code", action="store_true", help="compare vectors and registers of the kernels' loops, too"
    )
    two.add_argument("--seed", type=int, default=0, metavar="N", help="of the random order (default: 0)")
    two.add_argument("--cpu-time", action="store_true", help="measure CPU time, which a busy machine disturbs less")
    two.add_argument("--bisect", metavar="GOOD..BAD", help="find the revision that made --case slower")
    two.add_argument("--case", metavar="NAME", help="of --bisect")
    two.add_argument(
        "--markdown", metavar="FILE", help="write a summary for a pull request; added to GitHub's own file"
    )
    two.add_argument("--pytest-benchmark", metavar="FILE", help="write what pytest-benchmark would have written")
    two.add_argument("--store", metavar="DIR", help="keep the run there, and draw the history as index.html")


def run(args: argparse.Namespace) -> int:
    """Measure and report, or compare; bad input raises a `Failure`."""
    from fastloss.cli.interrupt import ends_at_once

    with ends_at_once():
        from . import measure, sides

    if args.sweep:
        return _sweep(args)
    for option, given in (("--functions", args.functions), ("--sizes", args.sizes)):
        if given is not None:
            raise Failure(option, "goes with --sweep")
    if args.list:
        return measure.show_list(args)
    if args.bisect is not None:
        return sides.bisect(args)
    if args.against is not None:
        return sides.compare(args)
    _refuse_of_two_sides(args)
    return measure.measure(args)


def _refuse_of_two_sides(args: argparse.Namespace) -> None:
    for option, given in (
        ("--with", args.new),
        ("--allow", args.allow),
        ("--gates", args.gates),
        ("--instructions", args.instructions),
        ("--machine-code", args.machine_code),
        ("--cpu-time", args.cpu_time),
        ("--markdown", args.markdown),
        ("--pytest-benchmark", args.pytest_benchmark),
        ("--store", args.store),
    ):
        if given:
            raise Failure(option, "goes with --against")
    if args.case is not None:
        raise Failure("--case", "goes with --bisect")


def _sweep(args: argparse.Namespace) -> int:
    for option, given in (
        ("--cases", args.cases),
        ("--cases-from", args.cases_from),
        ("--against", args.against),
        ("--bisect", args.bisect),
    ):
        if given is not None:
            raise Failure(option, "does not go with --sweep")
    _refuse_of_two_sides(args)
    from . import sweep

    return sweep.run(args)
