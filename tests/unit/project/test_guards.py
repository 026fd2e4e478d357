"""Guards that `make guards` removes: the script finds each guard and the tests of the guard."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def test_each_guard_stands_once_in_its_file() -> None:
    guards = _guards()
    assert guards
    stale = [g for g in guards if (ROOT / g.file).read_text().count(g.text) != 1]
    assert stale == []


def test_the_tests_of_each_guard_exist() -> None:
    named = {test for guard in _guards() for test in guard.tests.split()}
    assert named
    assert [test for test in sorted(named) if not _exists(test)] == []


def _guards() -> Any:
    return runpy.run_path(str(ROOT / "scripts/guards.py"))["GUARDS"]


def _exists(test: str) -> bool:
    file, _, function = test.partition("::")
    return (ROOT / file).is_file() and f"def {function}" in (ROOT / file).read_text()
