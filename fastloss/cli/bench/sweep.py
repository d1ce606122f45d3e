"""What `fastloss bench --sweep` does, once its arguments are read."""

from __future__ import annotations

import argparse
import contextlib

from fastloss.bench import build, grid, limit, report, session, sweep, sweep_plot, sweep_report
from fastloss.cli import library
from fastloss.cli.failure import Failure, failing
from fastloss.cli.files.output import OutputFile
from fastloss.cli.printing import as_json, note, say, show_passing

from .measure import EXIT_OK, check_plot, finish

_SECONDS = 3600.0  # to measure in, unless told otherwise


def run(args: argparse.Namespace) -> int:
    """Measure the cells, and print tables or one JSON object."""
    with failing("--functions", LookupError):
        cells = grid.cells(args.functions, args.sizes)
    if not cells:
        raise Failure("--sizes", "no function has a cell of these sizes")
    if args.list:
        say(as_json({"cells": [cell.name for cell in cells]}) if args.json else sweep_report.listing(cells))
        return EXIT_OK
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.settings(None, args.threads))
        threads = library.n_threads()
        with failing("--contenders", LookupError):
            runners = sweep.select(args.contenders, threads)
        output = None if args.output is None else stack.enter_context(OutputFile(args.output))
        if args.plot is not None:
            check_plot(args.plot)
        conditions = session.conditions([runner.contender for runner in runners], threads)
        conditions["instruction_set"] = sweep.instruction_set()
        if not args.json:
            say(report.heading(conditions))
        for reason in sorted({reason for cell in cells if (reason := cell.case.missing())}):
            note(f"fastloss: some cells are left out: {reason}")
        if limit.yardsticks() is None:
            note("fastloss: shares of the limit are left out: what they are measured with was not compiled")
        seconds = args.seconds or _SECONDS
        outcomes = sweep.run(cells, runners, seconds=seconds, threads=threads, progress=_progress)
        show_passing("")
        document = sweep_report.document(outcomes, len(cells), conditions, build.this_build())
        finish(document, args, output)
        if args.plot is not None:
            with failing(args.plot, ValueError, OSError):
                sweep_plot.save(outcomes, conditions, args.plot)
        if not args.json:
            say(sweep_report.text(outcomes, len(cells)))
    return EXIT_OK


def _progress(k: int, n: int, cell: grid.Cell) -> None:
    show_passing(f"measuring {cell.name} ({k + 1} of {n}) ...")
