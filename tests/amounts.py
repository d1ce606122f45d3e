"""How many cases of a kind a test runs: a few by default, enough to be convincing under ``-m full``."""

import pytest


def few_or_many(name, few, many):
    """A parameter that is `few` by default, and `many` in a separate test under ``-m full``."""
    return pytest.mark.parametrize(name, [few, _full(many)])


def mostly_full(values, by_default):
    """Values of a parameter; those for which `by_default(value)` is true run by default, the others under
    ``-m full``."""
    return [value if by_default(value) else _full(value) for value in values]


def _full(value):
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.full)
