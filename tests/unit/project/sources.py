"""The Python files of the project, parsed once for all tests of this folder."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]


@cache
def trees(*folders: str) -> dict[Path, ast.Module]:
    """Return the syntax tree of each Python file in ``folders`` of the project."""
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return {file: parsed(file) for file in files}


@cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of ``file``."""
    return ast.parse(file.read_text())


def name(file: Path) -> str:
    """Return the path of ``file`` in the project, as messages show it."""
    return file.relative_to(ROOT).as_posix()
