"""Files of an installed drc: in the wheel, and found there by the commands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from drc import __version__, cli
from drc.cli import docs
from drc.shipped import shipped

ROOT = Path(__file__).parents[2]
PRINTED = {
    "config example": "conf/pair.toml",
    "systemd": "conf/drc@.service",
    "monitoring alerts": "conf/alerts.yml",
    "monitoring dashboard": "conf/grafana/dashboards/drc.json",
    "docs install": "docs/operations/install.md",
    "docs frames": "docs/reference/frames.md",
    "docs conflicts": "docs/conflicts.md",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an unpacked wheel of this project."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder))
    assert Path(wheel).name.startswith(f"drc-{__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_all_files_that_commands_read(installed: Path) -> None:
    wanted = [*PRINTED.values(), *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
    for folder in ("docs/operations", "docs/reference", "migrations/site", "migrations/store"):
        found = [p.relative_to(ROOT) for p in (ROOT / folder).rglob("*.*")]
        wanted += [str(p) for p in found if p.suffix in (".md", ".py")]
    assert len(wanted) > 25
    for path in wanted:
        assert (installed / "drc" / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_an_installed_drc_prints_them_far_from_the_repository(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from drc import cli, shipped\n"
        "print(shipped.__file__)\n"
        "for line in sys.argv[1:]: cli.invoke(line.split())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *PRINTED],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    where, _, printed = done.stdout.partition("\n")
    assert Path(where).is_relative_to(installed)
    assert printed == "".join((ROOT / path).read_text() for path in PRINTED.values())


def test_each_file_of_the_wheel_is_found_in_a_checkout_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    forced = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for path, place in forced.items():
        assert place == f"drc/{path}"
        assert shipped(path) == ROOT / path
        assert shipped(path).exists()


def test_the_unit_file_names_the_program_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    assert cli.invoke(["systemd"]) == 0
    assert "\nExecStart=/usr/bin/drc run -c" in capsys.readouterr().out
    (tmp_path / "drc").touch()
    assert cli.invoke(["systemd"]) == 0
    assert f"\nExecStart={tmp_path}/drc run -c" in capsys.readouterr().out


def test_the_manual_lists_its_pages_and_knows_a_name_that_is_nearly_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.invoke(["docs"]) == 0
    shown = capsys.readouterr().out
    for path in (ROOT / "docs").rglob("*.md"):
        assert f"│ {path.stem} " in shown
    assert cli.invoke(["docs", "instal"]) == 2
    error = capsys.readouterr().err
    assert "no page 'instal'; did you mean install? run `drc docs` for the list" in error


def test_names_of_pages_are_unique() -> None:
    assert len(docs.pages()) == len(list((ROOT / "docs").rglob("*.md")))


def test_a_link_to_a_page_becomes_the_command_that_shows_the_page() -> None:
    page = docs.pages()["install"]
    text = (
        "[guide](../../docs/operations/standby.md), [frames](../../docs/reference/frames.md#keys),"
        " [x](https://a/b) [y](#z)"
    )
    fenced = "```\n[code](../../docs/operations/standby.md)\n```\n"
    assert docs.without_links(f"{text}\n{fenced}", page) == (
        "guide (`drc docs standby`), frames (`drc docs frames`), [x](https://a/b) y\n" + fenced
    )


def test_a_terminal_gets_a_rendered_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.invoke(["docs", "install"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO 'drc_applier'@'%';" in shown
    assert "```" not in shown


# ------------------------------------------------------------ texts that users read

_OF_THE_REPOSITORY = re.compile(
    r"\b(docs|conf|scripts|tests|migrations)/\w"
    r"|\w\.md\b|\bMakefile\b|`make |\bdocker-compose\b|\brequirements\.lock\b"
)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of strings that users may see.

    Docstrings are left out, except for commands; so are arguments of ``shipped``.
    """
    tree = ast.parse(path.read_text())
    unseen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", ())]
            is_command = any(re.search(r"\b(command|group)\(", d) for d in decorators)
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and not is_command:
                unseen.add(id(first.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "shipped":
            unseen |= {id(n) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in unseen
        ):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_messages_name_only_what_an_installed_user_has() -> None:
    wrong = [
        f"{place}: {text}"
        for path in (ROOT / "drc").rglob("*.py")
        for place, text in _texts(path)
        if _OF_THE_REPOSITORY.search(text)
    ]
    assert not wrong


def test_the_page_and_printed_files_name_only_what_an_installed_user_has() -> None:
    paths = list((ROOT / "drc/web/page").iterdir())
    paths += [ROOT / path for path in PRINTED.values() if path.startswith("conf/")]
    for path in paths:
        assert not _OF_THE_REPOSITORY.search(path.read_text()), path
    for path in (ROOT / "docs/operations").glob("*.md"):
        if path.name != "docker.md":  # docker-compose.yml is in the repository only
            assert "conf/" not in path.read_text(), path


def test_commands_in_messages_exist() -> None:
    """Check that a hint such as `drc docs install` names an existing page."""
    texts = [text for path in (ROOT / "drc").rglob("*.py") for _, text in _texts(path)]
    texts += [(ROOT / path).read_text() for path in PRINTED.values() if path.startswith("conf/")]
    named = {page for text in texts for page in re.findall(r"drc docs ([a-z-]+)", text)}
    assert {"install", "conflicts", "invariants"} <= named <= set(docs.pages())
