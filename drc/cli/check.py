"""``drc check``: preflight for operators and for scripts; docs/operations/check-json.md."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, level_text, table
from drc.preflight import Finding, inspect


@click.command()
@config_option
@json_option
@click.option("--site", "sites", multiple=True, help="Check this site in full; may be repeated.")
@click.option("--all", "show_all", is_flag=True, help="Show the settings that are as wanted, too.")
def command(*, path: Path, as_json: bool, sites: tuple[str, ...], show_all: bool) -> int:
    """Check whether servers, accounts and tables allow replication.

    Exits with 0 when nothing fails, 1 when a server fails, 2 when the configuration fails.
    """
    config = configuration.load(path)
    for name in sites:
        config.site(name)
    found = inspect(config, sites)
    code = exit_code(found)
    if as_json:
        emit({"ok": code == 0, "exit_code": code, "findings": [f.as_dict() for f in found]})
    else:
        _render(found, show_all=show_all)
    return code


def exit_code(found: list[Finding]) -> int:
    """Return 2 if a finding about the configuration fails, 1 if another finding fails, else 0."""
    kinds = {f.kind for f in found if f.level == "fail"}
    return 2 if "config" in kinds else 1 if kinds else 0


def _render(found: list[Finding], *, show_all: bool) -> None:
    out = console()
    shown = [f for f in found if show_all or f.level != "ok"]
    if shown:
        rows = [
            (level_text(f.level), f.site, f.setting, f.found, f"wanted: {f.wanted}", _remedy(f))
            for f in shown
        ]
        out.print(table(("", "site", "setting", "found", "wanted", "why, and the fix"), rows))
    counts = {level: sum(f.level == level for f in found) for level in ("ok", "warn", "fail")}
    text = ", ".join(f"{n} {level}" for level, n in counts.items())
    out.print(f"{len(found)} findings: {text}")


def _remedy(finding: Finding) -> Text:
    text = Text(finding.why)
    if finding.fix and finding.level != "ok":
        text.append("\nfix: ", style="bold green")
        text.append(finding.fix)
    return text
