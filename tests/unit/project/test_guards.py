"""The guards that `make guards` takes out are still where it looks for them."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_each_guard_stands_once_in_its_file() -> None:
    guards = runpy.run_path(str(ROOT / "scripts/guards.py"))["GUARDS"]
    assert guards
    stale = [g for g in guards if (ROOT / g.file).read_text().count(g.text) != 1]
    assert stale == []
