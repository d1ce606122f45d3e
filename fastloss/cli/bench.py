"""Measure fastloss and what else is installed against the roof of memory.

Each case is one loss over one array. Contenders take turns (A B C A B C ...)
on the same data, together with a plain read of that data (for gradients a
copy): the roof. A table shows the median time, GB/s of what the definition
has to read, the share of the roof, and how many times as long as fastloss
each takes, with the 95 % interval.

With --compare two builds of fastloss are set against each other instead, and
the exit code is 1 if this one is slower than allowed, chance excluded.
"""

from __future__ import annotations

import argparse

from ._failure import Failure

EPILOG = """\
--list names cases and contenders. PATTERN is a name, a part of one, a shell
pattern, or "all"; without it a few headline cases run. "--contenders all" adds
torch.compile, which compiles for seconds a case. scikit-learn is given
probabilities, not timed; it, NumPy and SciPy use one thread. --seconds counts
all but the last case's preparations; large cases need several seconds each.

--compare runs the baseline's cases again. Where the build that wrote it is
still importable from another directory, or --baseline-path names one, both
builds take turns and a regression must exceed --fail-above with the whole
99 % interval, in two pairs of processes. Otherwise times are divided by the
roof of each run and the limit is widened by a further 1.25.

Exit codes: 0, 1 for a regression, 2 for bad input, 74 where standard output
cannot be written, 130 after Ctrl-C.

examples:
  fastloss bench --plot losses.png
  fastloss bench --cases 'ce_*' --contenders fastloss torch --json > today.json
  pip install --no-deps --target old path/to/older/checkout
  fastloss bench --compare today.json --baseline-path old
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss bench`."""
    parser.epilog = EPILOG
    parser.add_argument("--cases", nargs="+", metavar="PATTERN", help="which cases (default: the headline ones)")
    parser.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        help="which contenders (default: all that are installed, but not torch.compile)",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=60.0, metavar="S", help="how long to measure in all (default: 60)"
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="number of threads (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--output", metavar="FILE", help="write that object there as well")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the results (.png, .svg or .pdf)")
    parser.add_argument("--list", action="store_true", help="show cases and contenders, and measure nothing")
    parser.add_argument("--compare", metavar="BASELINE.json", help="what an earlier --json printed")
    parser.add_argument("--baseline-path", metavar="DIR", help="a directory with another installed fastloss")
    parser.add_argument(
        "--fail-above", type=_factor, default=1.25, metavar="X", help="the slowdown allowed (default: 1.25)"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    if number >= 1 << 63:  # nothing can be counted so far
        raise argparse.ArgumentTypeError(f"must be below 2**63, not {number}")
    return number


_positive.__name__ = "whole number"  # argparse names the type in its message


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return number


_seconds.__name__ = "number"


def _factor(text: str) -> float:
    number = float(text)
    if not 1 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


_factor.__name__ = "number"


def run(args: argparse.Namespace) -> int:
    """Measure and report, or compare; bad input raises a `Failure`."""
    from ._interrupt import ends_at_once

    with ends_at_once():
        from . import _bench

    if args.list:
        return _bench.show_list(args)
    if args.compare is not None:
        return _bench.compare(args)
    if args.baseline_path is not None:
        raise Failure("--baseline-path", "goes with --compare")
    return _bench.measure(args)
