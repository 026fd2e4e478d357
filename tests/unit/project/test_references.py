"""References between files: paths, anchors, names in docstrings and tests in tables all exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.unit.project.sources import ROOT, name, parse, text_of

_FOLDERS = ("drc", "tests", "scripts", "conf", "docs", "migrations", ".github")
_KINDS = (".md", ".py", ".js", ".css", ".html", ".toml", ".yml", ".yaml", ".sh", ".service")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path of this project: Python or Markdown with or without a folder, other files with a folder.
_PATH = re.compile(
    r"(?<![\w./:@<>{}*$~-])((?:[\w-]+/)+[\w.-]+\.(?:py|md|js|toml|yml|sh|json|sql)"
    r"|[\w-]+\.(?:py|md))(?![\w/({-])"
)
_FOLDER = re.compile(r"`((?:[\w-]+/)+)`")
_DECISION = re.compile(r"\bdocs/adr/(\d{4})\b")
_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`~?([\w.]+)`")
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
# `unit/tee`: `one_promise`, `another` names tests/unit/…/test_tee.py and two of the functions.
_TESTS = re.compile(
    r"`(unit|property|integration|faults|simulation|browser)/(\w+)`((?:[:,] `\w+`)*)"
)


def test_links_between_pages_lead_to_files_and_headings() -> None:
    broken = []
    for page in _pages():
        for target in _LINK.findall(_FENCE.sub("", text_of(page))):
            path, _, anchor = target.partition("#")
            if ":" in path:  # a page of another host
                continue
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{name(page)}: {target}")
    assert broken == []


def test_paths_that_texts_name_exist() -> None:
    broken = []
    made = {line.lstrip("/") for line in (ROOT / ".gitignore").read_text().split()}
    for file in _texts():
        for text in _paragraphs(file):
            near = _folders_near(file, text)
            named = [m[1] for m in _PATH.finditer(text) if not _is_code(text, m)]
            if file.suffix == ".md":
                named += _FOLDER.findall(text)
            broken += [
                f"{name(file)}: {path}"
                for path in named
                if path not in made and not any((folder / path).exists() for folder in near)
            ]
    assert broken == []


def test_decisions_that_texts_name_exist() -> None:
    known = {page.name[:4] for page in (ROOT / "docs/adr").glob("*.md")}
    named = {(number, name(f)) for f in _texts() for number in _DECISION.findall(text_of(f))}
    assert [f"{file}: {number}" for number, file in sorted(named) if number not in known] == []


def test_names_in_docstrings_exist() -> None:
    broken = []
    for file in _texts():
        if file.suffix == ".py":
            named = {*_ROLE.findall(text_of(file))}
            broken += [f"{name(file)}: {n}" for n in sorted(named) if not _exists(n, file)]
    assert broken == []


def test_tests_that_pages_name_exist() -> None:
    broken = []
    for page in _pages():
        for room, stem, functions in _TESTS.findall(text_of(page)):
            files = [*(ROOT / "tests" / room).rglob(f"test_{stem}.py")]
            known = "".join(text_of(file) for file in files)
            names = re.findall(r"\w+", functions)
            if not files or any(f"def test_{n}" not in known for n in names if n != "all"):
                broken.append(f"{name(page)}: {room}/{stem}{functions}")
    assert broken == []


def _pages() -> list[Path]:
    return sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "migrations/README.md"]
    )


@cache
def _texts() -> list[Path]:
    found = (f for folder in _FOLDERS for f in (ROOT / folder).rglob("*") if f.suffix in _KINDS)
    top = (ROOT / one for one in ("Makefile", "docker-compose.yml", "pyproject.toml"))
    return sorted({*found, *top, *_pages()} - {Path(__file__)})


def _paragraphs(file: Path) -> Iterator[str]:
    # On a page, a bare name belongs to a folder that the same paragraph or table row names.
    text = text_of(file)
    if file.suffix != ".md":
        yield text
        return
    for block in re.split(r"\n\s*\n", _LINK.sub("]", text)):
        yield from block.split("\n") if block.startswith("|") else [block]


def _folders_near(file: Path, text: str) -> list[Path]:
    near = [ROOT, ROOT / "drc", ROOT / "tests", file.parent]
    if file.suffix == ".md":
        named = {m[1].rpartition("/")[0] for m in _PATH.finditer(text)} | {*_FOLDER.findall(text)}
        near += [
            ROOT / "docs",
            *(base / folder for folder in named for base in (ROOT, ROOT / "drc")),
        ]
    return near


def _is_code(text: str, match: re.Match[str]) -> bool:
    # "x.py" in quotes is a value of the program; "NNNN" is a placeholder in a name.
    return text[match.start() - 1 : match.start()] in ('"', "'") or "NNNN" in match[1]


@cache
def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes from the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", text_of(page)))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def _exists(target: str, file: Path) -> bool:
    """Return whether a docstring's name is a module of drc, or a name known in ``file``."""
    parts = target.split(".")
    if parts[0] == "drc":
        for size in range(len(parts), 0, -1):
            for path in ("/".join(parts[:size]) + ".py", "/".join([*parts[:size], "__init__.py"])):
                if (ROOT / path).is_file():
                    return {*parts[size:]} <= _names(ROOT / path)
        return False
    origin = _imported(file).get(parts[0])
    known = _names(file) | (_names(origin) if origin else set())
    return {*parts} <= known


@cache
def _names(file: Path) -> set[str]:
    """Return the names that a file defines, assigns, or imports, on any level."""
    found: set[str] = set()
    for node in ast.walk(parse(file)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Attribute(ctx=ast.Store()):
                found.add(node.attr)
            case ast.alias():
                found.add((node.asname or node.name).split(".")[0])
    return found


@cache
def _imported(file: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for node in parse(file).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drc."):
            origin = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            if origin.is_file():
                found |= {alias.asname or alias.name: origin for alias in node.names}
    return found
