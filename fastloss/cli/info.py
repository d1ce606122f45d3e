"""Show versions, backends, threads and where compiled kernels are kept."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss info`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    import io

    from . import _library, _report

    if args.json:
        _report.show(_report.as_json(_library.configuration()))
        return 0
    lines = io.StringIO()
    _library.show_configuration(lines)
    _report.show(f"{lines.getvalue()}backend in use: {_library.backend_in_use()}")
    return 0
