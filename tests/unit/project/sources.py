"""Files of the project, for the tests of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]


def python_files(*folders: str) -> Iterator[Path]:
    """Yield each Python file in ``folders`` of the project."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@cache
def text_of(file: Path) -> str:
    """Return the text of ``file``."""
    return file.read_text()


def name(file: Path) -> str:
    """Return the path of ``file`` inside the project, for messages."""
    return file.relative_to(ROOT).as_posix()


def parse(file: Path) -> ast.Module:
    """Return the syntax tree of ``file``; hundreds of kept trees slow the garbage collection."""
    return ast.parse(text_of(file))
