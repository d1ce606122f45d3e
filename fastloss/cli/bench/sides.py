"""What `fastloss bench --against` and `--bisect` do, once their arguments are read."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Sequence

from fastloss.bench import bisect as bisecting
from fastloss.bench import environments, findings, gates, history, machine, session, verdicts
from fastloss.bench.against import Comparison, Outcome
from fastloss.bench.side import Side
from fastloss.bench.turns import Subject
from fastloss.bench.workers import WorkerError
from fastloss.cli import library
from fastloss.cli.failure import Failure, failing, told
from fastloss.cli.files import read_text
from fastloss.cli.files.output import OutputFile
from fastloss.cli.printing import note, say, show_passing

from .measure import chosen_cases, chosen_contenders, finish

_SECONDS = 300.0  # to measure in, unless told otherwise


def compare(args: argparse.Namespace) -> int:
    """Set two sides against each other; the exit code is that of the gravest problem."""
    for option, given in (("--plot", args.plot), ("--case", args.case)):
        if given is not None:
            raise Failure(option, "does not go with --against")
    subjects = _subjects(args)
    with failing("--allow", ValueError):
        allowed = findings.allowances(args.allow)
    with failing("--gates", ValueError):
        tolerated = gates.tolerances(args.gates)
    names = [*gates.DEFAULT, *["instructions"] * args.instructions, *gates.CODE * args.machine_code]
    warnings = machine.warnings()  # before this run loads the machine
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.settings(None, args.threads))
        output = None if args.output is None else stack.enter_context(OutputFile(args.output))
        sides = _side(args.new or [], "--with"), _side(args.against, "--against")
        comparison = Comparison(
            subjects,
            sides,
            limit=args.limit,
            seconds=args.seconds or _SECONDS,
            threads=library.n_threads(),
            seed=args.seed,
            cpu_time=args.cpu_time,
            say=show_passing,
        )
        with failing(None, WorkerError):
            comparison.same_code()
            outcome = comparison.run()
            comparison.check_gates(tolerated, names)
        show_passing("")
        problems = findings.problems(outcome.findings, allowed, outcome.whole)
        code = findings.exit_code(problems)
        conditions = session.conditions([], library.n_threads())
        document = verdicts.document(outcome, problems, warnings, code, conditions)
        finish(document, args, output)
        _write_others(args, outcome, document, verdicts.markdown(outcome, problems, warnings))
        if not args.json:
            say(verdicts.text(outcome, problems, warnings))
    return code


def _subjects(args: argparse.Namespace) -> list[Subject]:
    cases = chosen_cases(args, "suite")
    backends: Sequence[str | None] = (None,)
    if args.contenders is not None:
        ours = [each.name.removeprefix("fastloss-") for each in chosen_contenders(args) if each.is_fastloss]
        if not ours:
            raise Failure("--contenders", "two sides are compared on backends of fastloss")
        backends = ours
    return [Subject(case, backend, len(backends) > 1) for case in cases for backend in backends]


def _side(words: Sequence[str], option: str) -> Side:
    with failing(option, environments.SideError):
        return environments.side(words, note, read_text)


def _write_others(args: argparse.Namespace, outcome: Outcome, document: dict[str, object], summary: str) -> None:
    if args.markdown is not None:
        # GitHub's file collects what all steps have to say
        how = "ab" if args.markdown == os.environ.get("GITHUB_STEP_SUMMARY") else "wb"
        try:
            with open(args.markdown, how) as file:
                file.write(summary.encode())
        except OSError as error:
            raise Failure(args.markdown, f"cannot be written: {told(error)}") from None
    if args.pytest_benchmark is not None:
        with OutputFile(args.pytest_benchmark) as file:
            file.write(json.dumps(verdicts.benchmark_json(document), indent=1).encode() + b"\n")
            file.commit()
    if args.store is not None:
        with failing(args.store, OSError, ValueError):
            page = history.keep(args.store, document)
        note(f"fastloss: history: {page}")


def bisect(args: argparse.Namespace) -> int:
    """Find the revision since which a case is slower."""
    good, dots, bad = args.bisect.partition("..")
    if not dots or not good or not bad:
        raise Failure("--bisect", f"expected GOOD..BAD, got {args.bisect!r}")
    if args.case is None:
        raise Failure("--bisect", "needs --case NAME")
    args.cases = [args.case]
    subjects = _subjects(args)
    if len(subjects) != 1:
        raise Failure("--case", f"{args.case!r} names {len(subjects)} cases")
    with library.settings(None, args.threads):
        threads = library.n_threads()

        def measured(revision: str) -> str:
            """The verdict on a revision against the good one."""
            sides = _side([revision], "--bisect"), _side([good], "--bisect")
            seconds = args.seconds or _SECONDS / 5
            with failing(None, WorkerError):
                comparison = Comparison(
                    subjects,
                    sides,
                    limit=args.limit,
                    seconds=seconds,
                    threads=threads,
                    seed=args.seed,
                    cpu_time=args.cpu_time,
                    say=show_passing,
                )
                found = comparison.run().findings[0]
            show_passing("")
            note(
                f"fastloss: {revision[:12]}: {found.verdict}"
                + (f", {found.estimate.ratio:.3f}" if found.estimate else "")
            )
            return found.verdict

        with failing("--bisect", environments.SideError):
            result = bisecting.search(environments.commits(good, bad), measured)
    say(json.dumps(result.as_dict()) if args.json else str(result))
    return result.exit_code
