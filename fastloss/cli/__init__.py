"""The command line: `fastloss eval`, `fastloss bench`, `fastloss info`."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; `sys.argv[1:]` by default.

    Returns
    -------
    int
        The exit code: 0, 2 for bad input or usage (one line on stderr says which), 74 if stdout cannot be written, 130 after
        Ctrl-C, 141 when the reader of stdout went away; those of problems that `bench --against` finds.
    """
    from .interrupt import ends_at_once

    with ends_at_once():  # importing takes longer than a hasty user
        from .commands import run

    return run(argv)
