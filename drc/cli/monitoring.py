"""``drc monitoring``: prints files for Prometheus and Grafana."""

from __future__ import annotations

from pathlib import Path

import click

from drc.shipped import shipped


@click.group()
def command() -> None:
    """Print the alert rules for Prometheus and the dashboard for Grafana."""


@command.command()
def alerts() -> None:
    """Print alert rules for Prometheus (YAML).

    drc monitoring alerts > /etc/prometheus/drc.yml
    """
    _print(shipped("conf/alerts.yml"))


@command.command()
def dashboard() -> None:
    """Print a dashboard to import into Grafana (JSON).

    drc monitoring dashboard > drc.json
    """
    _print(shipped("conf/grafana/dashboards/drc.json"))


def _print(path: Path) -> None:
    click.echo(path.read_text(encoding="utf-8"), nl=False)
