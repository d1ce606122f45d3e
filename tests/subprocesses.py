"""Runs Python code in another interpreter, for what must not happen in the one that runs the tests."""

import os
import subprocess
import sys
import textwrap


def run_python(code, *, file=None, timeout=1800, **environment):
    """Run code, and return the finished process; variables set to None are removed from its environment.

    With `file` the code is written there first, for children that import the main module from its file.  The timeout is
    for processes that hang; it is long, because what takes 15 seconds on an idle machine may take minutes on a busy
    one.
    """
    env = {key: value for key, value in (os.environ | environment).items() if value is not None}
    code = textwrap.dedent(code)
    if file:
        file.write_text(code)
    command = [sys.executable, file] if file else [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)


def check_python(code, **options):
    """Assert that the code runs to its end without a crash, and prints ``fine`` last."""
    process = run_python(code, **options)
    report = f"exit status {process.returncode}\n{process.stdout}\n{process.stderr}"
    assert process.returncode == 0, report
    assert process.stdout.splitlines()[-1:] == ["fine"], report
    return process
