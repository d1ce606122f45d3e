"""What `fastloss bench` does, once its arguments are read: loads NumPy, Numba and the peers."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from typing import Any

from fastloss.bench import build, cases, contenders, own, plot, report, session
from fastloss.cli import library
from fastloss.cli.failure import Failure, failing
from fastloss.cli.files.output import OutputFile
from fastloss.cli.printing import as_json, note, passing, say

EXIT_OK = 0

_SECONDS = 60.0  # to measure in, unless told otherwise


def chosen_cases(args: argparse.Namespace, default: str = "headline") -> list[cases.Case]:
    """Those of --cases, among them the user's own."""
    mine = {}
    if args.cases_from is not None:
        with failing(args.cases_from, ValueError):
            mine = own.cases_from(args.cases_from)
    with failing("--cases", LookupError):
        return cases.select(args.cases, mine, default)


def chosen_contenders(args: argparse.Namespace) -> list[contenders.Contender]:
    with failing("--contenders", LookupError):
        return contenders.select(args.contenders)


def show_list(args: argparse.Namespace) -> int:
    """Print cases and contenders."""
    everyone = contenders.contenders().values()
    chosen = chosen_cases(args, "all")
    if args.json:
        document = {
            "cases": [{**case.as_dict(), "headline": case.headline} for case in chosen],
            "contenders": [{"name": who.name, "missing": who.missing()} for who in everyone],
        }
        say(as_json(document))
        return EXIT_OK
    lines = ["cases (* headline):"]
    for case in chosen:
        mark = "*" if case.headline else " "
        lines.append(f"{mark} {case.name:<28} {case.bound:<7} {report.size(case.moved_bytes):>8}  {case.title}")
    lines.append("contenders:")
    lines += [f"  {who.name:<16} {who.missing() or 'installed'}" for who in everyone]
    say("\n".join(lines))
    return EXIT_OK


def measure(args: argparse.Namespace) -> int:
    """Run the cases; print tables as they come, or one JSON object."""
    chosen, who = chosen_cases(args), chosen_contenders(args)
    seconds = args.seconds or _SECONDS
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.settings(None, args.threads))
        output = None if args.output is None else stack.enter_context(OutputFile(args.output))
        if args.plot is not None:
            check_plot(args.plot)
        threads = library.n_threads()
        conditions = session.conditions(who, threads)
        if not args.json:
            say(report.heading(conditions))
        results = []
        end = time.perf_counter() + seconds
        for i, case in enumerate(chosen):
            if reason := case.missing():
                note(f"fastloss: {case.name} is left out: {reason}")
                continue
            with passing(f"measuring {case.name} ({i + 1} of {len(chosen)}) ..."):
                share = max((end - time.perf_counter()) / (len(chosen) - i), 0.25 * seconds / len(chosen))
                result = session.run_case(case, who, seconds=share, threads=threads)
            results.append(result)
            if not args.json:
                say(f"\n{report.table(result)}")
        if not results:
            raise Failure("--cases", "none of them can run here")
        document = report.document(results, conditions, build.this_build())
        finish(document, args, output)
        if args.plot is not None:
            with failing(args.plot, ValueError, OSError):
                plot.save(results, conditions, args.plot)
    return EXIT_OK


def finish(document: dict[str, Any], args: argparse.Namespace, output: OutputFile | None) -> None:
    """Write the document where it is wanted."""
    text = as_json(document)
    if output is not None:
        output.write(text.encode() + b"\n")
        output.commit()
    if args.json:
        say(text)


def check_plot(path: str) -> None:
    """Fail now rather than after a minute."""
    with failing("--plot", ImportError):
        plot.require()
    if os.path.splitext(path)[1].lower() not in (".png", ".svg", ".pdf"):
        raise Failure(path, "expected a name that ends in .png, .svg or .pdf")
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise Failure(path, "cannot be written")
