"""Every Python snippet of the README runs and prints what it says; every command it names exists."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_snippets(monkeypatch):
    monkeypatch.chdir(README.parent)  # examples name files
    # a fence that follows an example's output would count as output
    text = README.read_text().replace("```", "")
    examples = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert len(examples.examples) > 10
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(examples)
    assert runner.failures == 0


@pytest.mark.parametrize("command", ["eval", "bench", "info"])
def test_documented_options_exist(command, capsys):
    from fastloss.cli import main

    synopsis = README.read_text().split("## Command line")[1].split("```")[1]
    usage = "".join(re.findall(rf"fastloss {command}\b(.*?)(?=\nfastloss|\Z)", synopsis, re.DOTALL))
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in set(re.findall(r"--[a-z-]+", usage)):
        assert option in shown, option
