"""The length of functions: each fits on a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from tests.unit.project.sources import name, parse, python_files, text_of

LINES_MAX = 70
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name(file)}: {function.name} has {_lines(function)} lines"
        for file in python_files("drc", "scripts", "tests")
        if text_of(file).count("\n") > LINES_MAX
        for function in _functions(parse(file).body)
        if _lines(function) > LINES_MAX
    ]
    assert long == []


def _functions(statements: Iterable[ast.stmt]) -> Iterator[Function]:
    # Only statements hold functions; expressions, most of a tree, are skipped.
    for statement in statements:
        if isinstance(statement, Function):
            yield statement
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _functions(getattr(statement, part, ()))


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
