"""Every Python snippet of the README and of the pages in docs/ runs and prints what it says; every command it names exists."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from fastloss.cli.commands import COMMANDS

README = Path(__file__).parents[1] / "README.md"
PAGES = sorted((README.parent / "docs").glob("*.md"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(page):
    # a fence that follows an example's output would count as output
    text = page.read_text().replace("```", "")
    return doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)


def test_the_readme_has_snippets():
    assert len(examples_of(README).examples) > 10


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 prints numbers without their type")
@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_snippets(page, monkeypatch):
    monkeypatch.chdir(README.parent)  # examples name files
    examples = examples_of(page)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(examples)
    assert runner.failures == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_options_exist(command, capsys):
    from fastloss.cli import main

    synopsis = (README.parent / "docs/command-line.md").read_text().split("```")[1]
    usage = "".join(re.findall(rf"fastloss {command}\b(.*?)(?=\nfastloss|\Z)", synopsis, re.DOTALL))
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert usage, f"docs/command-line.md has no synopsis of {command}"
    documented, there = (set(re.findall(r"--[a-z-]+", text)) for text in (usage, shown.partition("\n\n")[0]))
    assert documented <= set(re.findall(r"--[a-z-]+", shown)), "docs/command-line.md names options that are not there"
    assert there - {"--help"} <= documented, "options that the synopsis in docs/command-line.md does not have"
