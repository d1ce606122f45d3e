"""Show versions, backends, threads and where Numba's kernels are kept; or compile these ahead.

--warm calls losses once on the Numba backend, so that a container image holds their compiled kernels and no process compiles again. They
are kept where NUMBA_CACHE_DIR says: set it to the same directory while building and while running. Kernels for
weights, smoothing, probability targets and strided arrays are still compiled on their first use.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss info`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--warm",
        nargs="*",
        metavar="LOSS",
        help="compile these losses' kernels, or those of all losses (minutes), and keep them on disk",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        metavar="DTYPE",
        default=["float32"],
        help="what --warm compiles for: float32 (default), float64, float16",
    )


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    import io

    from .interrupt import ends_at_once

    with ends_at_once():
        from . import library
    from .printing import as_json, say

    if args.warm is not None:
        return _warm(tuple(args.warm), tuple(args.dtypes))
    if args.json:
        say(as_json(library.configuration()))
        return 0
    lines = io.StringIO()
    library.show_configuration(lines)
    say(lines.getvalue().rstrip())
    return 0


def _warm(names: tuple[str, ...], dtypes: tuple[str, ...]) -> int:
    """Compile ahead, and say what."""
    from fastloss import _warm as ahead

    from .failure import Failure
    from .printing import say

    for kind, given, known in (("loss", names, ahead.names()), ("dtype", dtypes, ahead.DTYPES)):
        for name in given:
            if name not in known:
                raise Failure("--warm", f"no {kind} {name!r}; there are {', '.join(known)}")
    for what in ahead.warm(names, dtypes):
        say(what)
    return 0
