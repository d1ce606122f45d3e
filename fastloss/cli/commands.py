"""Arguments, and what becomes of errors.

A subcommand is a module of this package with `add_arguments(parser)` and `run(args) -> int`, plus one row in
`COMMANDS`. Those modules import nothing heavy at their top, and only the one asked for is imported at all, so
that `fastloss --help` costs no more than `import fastloss`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .failure import Failure
from .interrupt import EXIT_INTERRUPTED, ends_at_once
from .printing import Unwritten, give_up, note, say

# name -> (module, what `fastloss --help` says of it)
COMMANDS = {
    "eval": ("fastloss.cli.eval.arguments", "score predictions in files against their targets"),
    "bench": ("fastloss.cli.bench.arguments", "measure speed: against memory, other libraries, another build"),
    "info": ("fastloss.cli.info", "show versions, backends, threads and the cache directory"),
}

EXIT_OK, EXIT_BAD_INPUT = 0, 2
EXIT_UNWRITTEN = 74  # EX_IOERR of sysexits.h
EXIT_BROKEN_PIPE = 141  # as shells name the end by this signal


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as all errors of this command are."""

    def error(self, message: str) -> NoReturn:
        raise Failure(None, f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: object = None) -> None:
        say(message, end="")  # argparse would keep quiet about a full disk


class _Version(argparse.Action):
    """`--version`, which asks for the number only when it is wanted."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: object) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from .library import version

        say(f"fastloss {version()}")
        parser.exit()


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="fastloss", description="Losses of predictions: fast, exact and in one pass.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, summary) in COMMANDS.items():
        if name not in argv:
            commands.add_parser(name, help=summary)
            continue
        with ends_at_once():
            module = importlib.import_module(module_name)
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def run(argv: Sequence[str] | None) -> int:
    """Run the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        say("", end="")  # before any work is done for nothing
        args = _parser(argv).parse_args(argv)
        return args.run(args)
    except SystemExit as stop:  # argparse ends --help and --version this way
        return stop.code if isinstance(stop.code, int) else EXIT_OK
    except Failure as failure:
        note(f"fastloss: error: {failure}")
        return EXIT_BAD_INPUT
    except Unwritten as problem:
        give_up(sys.stdout)
        note(f"fastloss: error: standard output {problem}")
        return EXIT_UNWRITTEN
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        give_up(sys.stdout)
        return EXIT_BROKEN_PIPE
    except MemoryError as error:
        note(f"fastloss: error: {Failure(None, f'out of memory: {error}')}")
        return EXIT_BAD_INPUT
