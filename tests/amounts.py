"""How much of a kind a test goes through: few by default, as many as convince under ``-m full``."""

import pytest


def few_or_many(name, few, many):
    """A parameter that is `few` by default, and `many` in a test of its own under ``-m full``."""
    return pytest.mark.parametrize(name, [few, _full(many)])


def mostly_full(values, by_default):
    """Values of a parameter, of which those run by default that the function says so of, the others under ``-m full``."""
    return [value if by_default(value) else _full(value) for value in values]


def _full(value):
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.full)
