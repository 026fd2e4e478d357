"""``drc cdc``: publish a site's row changes as JSON messages in Debezium's form, until a signal."""

from __future__ import annotations

import os
import signal
import threading
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

import click
import structlog

from drc import config as configuration
from drc.cli.output import config_option, configure_logs
from drc.errors import DrcError
from drc.selection import Selection

log = structlog.get_logger("drc.cdc")


@click.command()
@config_option
@click.option("--site", required=True, help="The site whose row changes are published.")
@click.option(
    "--start",
    default="now",
    show_default=True,
    metavar="now|earliest|GTID_SET",
    help="Where to begin the first time; a later run goes on where the last run ended.",
)
@click.option("--tables", multiple=True, help="A glob such as 'shop.*'; may be repeated.")
@click.option("--exclude", multiple=True, help="A glob of tables to leave out; may be repeated.")
def command(
    path: Path, site: str, start: str, tables: tuple[str, ...], exclude: tuple[str, ...]
) -> int:
    """Read a site's topic and publish each row change as a JSON message, a topic for each table.

    Publishes all replicated tables, unless --tables names some. Needs no MySQL. A site has a single
    such process: a second process takes over from the first.
    """
    from drc.cdc.publisher import JsonPublisher

    configure_logs(site=site)
    config = configuration.load(path)
    config.site(site)
    selection = Selection(config.replicate)

    def chosen(schema: str, table: str) -> bool:
        name = f"{schema}.{table}"
        if not selection.table(schema, table) or any(fnmatchcase(name, g) for g in exclude):
            return False
        return not tables or any(fnmatchcase(name, g) for g in tables)

    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        JsonPublisher(config, site, start, chosen, stop).run()
    except DrcError as error:
        log.error(error.message, **error.fields())
        return error.exit_code
    return 0


def _stop_on_signals(stop: threading.Event) -> None:
    """Stop after the present round on the first signal, and at once on the second.

    An immediate stop costs no more than a crash.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
