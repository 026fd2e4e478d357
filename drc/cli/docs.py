"""``drc docs``: shows the manual, on a terminal or as Markdown."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

import click
from rich.markdown import Markdown

from drc.cli.output import console, table
from drc.shipped import shipped

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]+)\]\(([^)\s]+)\)")
_WIDTH = 110  # of a page on a wide terminal


@click.command()
@click.argument("page", required=False)
def command(page: str | None) -> None:
    """List the pages of the manual, or show PAGE.

    A page is formatted on a terminal, and plain Markdown in a pipe or file.

    drc docs install
    """
    paths = pages()
    if page is None:
        rows = [(name, _title(path)) for name, path in paths.items()]
        console().print(table(("page", "title"), rows))
        return
    if page not in paths:
        near = difflib.get_close_matches(page, paths, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise click.UsageError(f"no page {page!r}; {hint}run `drc docs` for the list")
    text = paths[page].read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    out = console()
    out.print(Markdown(without_links(text, paths[page])), width=min(out.width, _WIDTH))


def pages() -> dict[str, Path]:
    """Return the pages by name, such as ``install``: operations first, decisions last."""
    root = shipped("docs")
    folders = ("operations", ".", "reference", "adr")
    return {p.stem: p for folder in folders for p in sorted((root / folder).glob("*.md"))}


def without_links(text: str, page: Path) -> str:
    """Return Markdown with links to files replaced by the command that shows the page.

    For example ``[lag](docs/operations/lag.md)`` becomes ``lag (`drc docs lag`)``. Code blocks
    stay as written.
    """

    known_pages = {path.resolve() for path in pages().values()}

    def named(link: re.Match[str]) -> str:
        shown, target = link[1], link[2].partition("#")[0]
        if "://" in target:
            return link[0]
        path = (page.parent / target).resolve()
        known = target and path != page.resolve() and path in known_pages
        return f"{shown} (`drc docs {path.stem}`)" if known else shown

    parts = _FENCED.split(text)
    return "".join(p if n % 2 else _LINK.sub(named, p) for n, p in enumerate(parts))


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return next(lines).strip("# \n").replace("`", "")
