"""The layout of the project: unit tests mirror the modules; the contract has each pure module."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.unit.project.sources import ROOT, name, python_files, text_of

UNIT = ROOT / "tests/unit"
PURE = "Pure modules reach no server, socket, process or database"


def test_each_unit_test_file_is_named_after_the_module_that_it_tests() -> None:
    strangers = []
    for file in UNIT.rglob("test_*.py"):
        room = file.parent.relative_to(UNIT)
        if room == Path("project"):  # tests files around drc/: docs, scripts, containers
            continue
        tested = file.stem.removeprefix("test_")
        module = ROOT / "drc" / room / tested
        # tests/unit/cli/test_cli.py tests drc/cli/__init__.py.
        if not (module.with_suffix(".py").is_file() or tested == room.name):
            strangers.append(name(file))
    assert strangers == []


def test_each_folder_of_unit_tests_is_a_package() -> None:
    folders = {file.parent for file in UNIT.rglob("test_*.py")}
    assert [str(f) for f in folders if not (f / "__init__.py").is_file()] == []


def test_each_module_that_calls_itself_pure_is_held_pure() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    held = next(c["source_modules"] for c in contracts["contracts"] if c["name"] == PURE)
    loose = [
        module
        for module in _pure_modules()
        if not any(f"{module}.".startswith(f"{room}.") for room in held)
    ]
    assert loose == [], "add these to the contract in pyproject.toml"


def _pure_modules() -> Iterator[str]:
    for file in python_files("drc"):
        docstring = text_of(file).removeprefix('"""').partition('"""')[0]
        # "Pure." ends a headline, "Pure:" begins a sentence; "pure" in lower case is of a function.
        if re.search(r"\bPure\b", docstring):
            path = file.relative_to(ROOT).with_suffix("")
            yield ".".join(path.parts).removesuffix(".__init__")
