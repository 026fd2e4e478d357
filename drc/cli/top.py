"""``drc top``: the daemons' streams in a terminal, live."""

from __future__ import annotations

from pathlib import Path

import click

from drc import config as configuration
from drc.cli.output import config_option
from drc.client.daemons import Daemon, daemons
from drc.errors import DrcError


@click.command()
@config_option
@click.option("--url", "urls", multiple=True, help="A daemon elsewhere: https://host:port.")
def command(path: Path, urls: tuple[str, ...]) -> None:
    """Watch lag, throughput and what holds a stream; pause and resume it.

    Asks the daemons over HTTP, those that the configuration says listen here, or those of --url.
    """
    config = configuration.load(path)
    asked = [Daemon(url, config.web.token()) for url in urls] if urls else daemons(config)
    _require_one(asked)
    from drc.client.top import Top  # what draws is loaded once there is something to draw

    Top(asked).run()


def _require_one(asked: list[Daemon]) -> None:
    """Raise what the first daemon answers if none of them tells anything."""
    errors: list[DrcError] = []
    for daemon in asked:
        try:
            daemon.snapshot()
            return
        except DrcError as error:
            errors.append(error)
    raise errors[0]
