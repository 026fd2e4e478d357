"""``drc tail``: shows the transactions of a site's binlog or topic, rows decoded."""

from __future__ import annotations

import datetime
import itertools
import json
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, json_option

_KEY_STYLES = {"insert": "green", "update": "yellow", "delete": "red"}


@click.command()
@config_option
@json_option
@click.option("--site", required=True, help="The site whose transactions are shown.")
@click.option(
    "--from",
    "read_from",
    type=click.Choice(["binlog", "kafka"]),
    default="binlog",
    show_default=True,
    help="Read the server's binlog, or the site's topic, which needs no MySQL.",
)
@click.option(
    "--start",
    default="now",
    show_default=True,
    metavar="now|earliest|GTID_SET",
    help="Where to begin; a GTID set names the transactions to leave out.",
)
@click.option("--tables", default="", help="A glob such as 'shop.*'; all but drc's by default.")
@click.option("--limit", type=click.IntRange(min=1), help="End after this many transactions.")
def command(
    *,
    path: Path,
    as_json: bool,
    site: str,
    read_from: str,
    start: str,
    tables: str,
    limit: int | None,
) -> None:
    """Watch a site's binlog or topic, rows decoded, until Ctrl-C.

    With --json each transaction is a line. The library mysql-replication decodes the values: some
    values, such as zero dates, differ from the values in the table. Nothing is applied from here. A
    topic holds the native transactions of its site, and only the GTIDs of replicated transactions.
    """
    from drc.cdc.tail import follow

    config = configuration.load(path)
    out = console()
    try:
        for document in itertools.islice(follow(config, site, start, tables, read_from), limit):
            if as_json:
                click.echo(json.dumps(document, ensure_ascii=False))
            else:
                out.print(render(document), soft_wrap=True)
    except KeyboardInterrupt:
        return


def render(document: dict[str, Any]) -> Text:
    """Return a transaction for a terminal."""
    from drc.rows.decoded import one_line

    when = datetime.datetime.fromtimestamp(document["commit_us"] / 1e6, datetime.UTC)
    note = " replicated here" if document.get("replicated") else ""
    part = f" part {document['part']}" if "part" in document else ""
    head = (
        f" {when:%Y-%m-%d %H:%M:%S.%f} {document['kind']}{part}{note} {document['bytes']:,} bytes"
    )
    text = Text.assemble((document["gtid"], "bold"), (head, "dim"))
    if "sql" in document:
        return text.append(f"\n  {one_line(document['sql'])}")
    for change in document["changes"]:
        style = _KEY_STYLES.get(change["change"], "magenta")
        text.append(f"\n  {change['change']:<7} ", style)
        text.append(f"{one_line(change['table'])[1:-1]} ")
        text.append(_values(change))
    return text


def _values(change: dict[str, Any]) -> str:
    from drc.rows.decoded import one_line

    if "hex" in change:
        return f"0x{change['hex']}"
    if "row" in change:
        return ", ".join(f"{one_line(k)[1:-1]}={one_line(v)}" for k, v in change["row"].items())
    parts = []
    for name, before in change["before"].items():
        after = change["after"].get(name)
        same = before == after
        value = one_line(before) if same else f"{one_line(before)} → {one_line(after)}"
        parts.append(f"{one_line(name)[1:-1]}={value}")
    return ", ".join(parts)
