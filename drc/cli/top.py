"""``drc top``: shows the daemons' streams in a terminal, live."""

from __future__ import annotations

from pathlib import Path

import click

from drc import config as configuration
from drc.cli.output import config_option
from drc.client.daemons import Daemon, daemons
from drc.errors import DrcError


@click.command()
@config_option
@click.option("--url", "urls", multiple=True, help="A daemon elsewhere, https://host:port.")
def command(path: Path, urls: tuple[str, ...]) -> None:
    """Watch lag, throughput and holds of the streams; pause and resume a stream.

    Asks daemons over HTTP: the daemons that listen by the configuration, or the daemons of --url.
    """
    config = configuration.load(path)
    asked = [Daemon(url, config.web.token()) for url in urls] if urls else daemons(config)
    _require_answer(asked)
    from drc.client.top import Top  # imports Textual, which an error does not need

    Top(asked).run()


def _require_answer(asked: list[Daemon]) -> None:
    """Require that a daemon answers.

    :raises DrcError: no daemon answers; the error of the first daemon.
    """
    errors: list[DrcError] = []
    for daemon in asked:
        try:
            daemon.snapshot()
            return
        except DrcError as error:
            errors.append(error)
    raise errors[0]
