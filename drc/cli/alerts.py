"""``drc alerts``: the alerts of the daemons; ``--test`` tests the webhook."""

from __future__ import annotations

import time
from pathlib import Path

import click

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.errors import ConfigError, TransientError
from drc.monitor.alerts import Note
from drc.monitor.webhook import post
from drc.worker.snapshot import Alert


@click.command()
@config_option
@json_option
@click.option("--test", is_flag=True, help="Post a test alert, and show the answer.")
def command(*, path: Path, as_json: bool, test: bool) -> None:
    """Show the alerts that the daemons have raised."""
    config = configuration.load(path)
    if test:
        if not config.alerts.webhook_url:
            raise ConfigError(
                "cannot post a test alert: no webhook is configured",
                hint="set alerts.webhook_url",
            )
        alert = Alert(
            "test", "warn", "", "", time.time_ns() // 1000, "a test of the webhook", "drc status"
        )
        try:
            status = post(config.alerts, config.name, Note("test", alert))
        except OSError as error:
            raise TransientError(
                f"the webhook did not accept the alert: {error}", hint="check alerts.webhook_url"
            ) from error
        emit({"status": status}) if as_json else click.echo(f"the webhook answered {status}")
        return
    from drc.state.store import Store  # imports SQLAlchemy, which --help does not need

    said = Store(config.state_url, config.state_password()).statuses()
    alerts = [alert for one in said.values() for alert in one.alerts]
    if as_json:
        emit(alerts)
    else:
        rows = [(a.severity, a.sentence, a.command) for a in alerts]
        console().print(table(("", "alert", "command that helps"), rows))
