"""Every public function has a docstring with the sections a user looks for, and its example runs."""

import doctest
import inspect

import numpy as np
import pytest

import fastloss

FUNCTIONS = [getattr(fastloss, name) for name in fastloss.__all__ if name != "__version__"]
LOSSES = [f for f in FUNCTIONS if inspect.isfunction(f) and f.__module__ == "fastloss.functional"]


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 prints numbers without their type")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_example(function):
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    text = inspect.getdoc(function)
    test = parser.get_doctest(text, {}, function.__name__, None, 0)
    assert test.examples, "no example"
    runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)
def test_sections(function):
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters.values():
        assert f"\n{parameter.name} : " in text, parameter.name
        assert parameter.annotation is not parameter.empty


def test_everything_public_is_exported():
    assert sorted(fastloss.__all__) == list(fastloss.__all__)
    for name in fastloss.__all__:
        assert hasattr(fastloss, name)
