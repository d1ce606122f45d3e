"""Collects the text of functions, given as Python functions or as text, together with that of the functions they
call."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap
import types
from typing import Any

import numpy as np

from fastloss import _dialect, _errors

# What parsing raises for texts that the checker then says what is wrong with.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


class Source:
    """A text assembled from several files; remembers where each line comes from, for messages."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, str, int]] = []  # (text, file or the like, first line there)
        self.collected: dict[str, types.FunctionType] = {}  # functions by name

    def add(self, given: Any, role: str) -> Any:
        """Add a function, or a text with functions; returns the names of the candidates for what was meant, of which a
        text may have several.

        role : the name of the argument, for messages.
        """
        if isinstance(given, str):
            text = textwrap.dedent(given)
            self.pieces.append((text, role, 1))
            return _defined(text)
        if not isinstance(given, types.FunctionType):
            raise _errors.no_text(role, given)
        self.collect(given, role)
        return [given.__code__.co_name]

    def collect(self, function: Any, role: str) -> None:
        """Add a function and those that it calls."""
        name = function.__code__.co_name  # as in the text, whatever `functools.wraps` has made of it
        known = self.collected.get(name)
        if known is not None and known.__code__ is function.__code__:
            return
        if not name.isidentifier():
            raise _errors.lambda_function(role)
        text, first = _text_of(function, role)
        self.collected[name] = function
        self.pieces.append((text, function.__code__.co_filename, first))
        outside = inspect.getclosurevars(function)
        names = {**outside.globals, **outside.nonlocals}
        for called in _called(text):
            meant = names.get(called)
            if called in _dialect.IMPORTED or called in _dialect.BUILT_IN:
                if meant is not None and meant not in (
                    getattr(math, called, None), getattr(np, called, None), getattr(builtins, called, None),
                ):  # fmt: skip
                    raise _errors.another_function(role, called, meant)
            elif isinstance(meant, types.FunctionType):
                if meant.__code__.co_name != called:
                    raise _errors.alias(role, called, meant)
                self.collect(meant, role)

    @property
    def text(self) -> str:
        return "\n".join(text for text, _, _ in self.pieces)

    def functions(self) -> Any:
        """The functions of the text, checked, by name."""
        return _dialect.functions(self.text, self.place_of)

    def place_of(self, line: Any) -> Any:
        """(file or the like, line there) of a line of the assembled text."""
        for text, place, first in self.pieces:
            n_lines = text.count("\n") + 1
            if line <= n_lines:
                return place, line + first - 1
            line -= n_lines
        return place, first + n_lines - 1


def _text_of(function: Any, role: str) -> Any:
    """(dedented text, first line) of a function."""
    try:
        lines, first = inspect.getsourcelines(function.__code__)
    except (OSError, TypeError, IndentationError):
        raise _errors.no_source(role, function) from None
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    text = "".join(line.removeprefix(indent) for line in lines).rstrip("\n")
    if not _made(function.__code__, text):
        raise _errors.changed_source(role, function)
    return text, max(first, 1)


def _made(code: Any, text: str) -> Any:
    """Whether a function was compiled from this text; its file may have changed since."""
    try:
        tree = _dialect.parsed(text)
    except _UNREADABLE:
        return True  # the checker will say what is wrong
    if any(isinstance(node, ast.Attribute) for node in ast.walk(tree)):
        return True  # likewise; such code depends on what the module imports
    constants = compile(text, "<text>", "exec", dont_inherit=True).co_consts
    found = next((c for c in constants if isinstance(c, types.CodeType) and c.co_name == code.co_name), None)
    if found is None:
        return False
    alike = found.co_varnames == code.co_varnames and _constants(found) == _constants(code)
    return alike and (found.co_code == code.co_code or bool(code.co_freevars))


def _constants(code: Any) -> Any:
    """The constants of a function's code, without multi-line docstrings, whose indentation differs."""
    return [c for c in code.co_consts if not (isinstance(c, str) and "\n" in c)]


def _called(text: str) -> Any:
    """Names of all functions that are called in a text."""
    try:
        tree = _dialect.parsed(text)
    except _UNREADABLE:
        return []
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return dict.fromkeys(f.id for f in calls if isinstance(f, ast.Name))


def _defined(text: str) -> Any:
    """Names of the functions of a text that none of its other functions calls."""
    try:
        names = [node.name for node in _dialect.parsed(text).body if isinstance(node, ast.FunctionDef)]
    except _UNREADABLE:
        return []
    called = _called(text)
    return [name for name in names if name not in called]
