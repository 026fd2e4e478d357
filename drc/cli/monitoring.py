"""``drc monitoring``: files for Prometheus and Grafana."""

from __future__ import annotations

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
    _print("conf/alerts.yml")


@command.command()
def dashboard() -> None:
    """Print a dashboard to import into Grafana (JSON).

    drc monitoring dashboard > drc.json
    """
    _print("conf/grafana/dashboards/drc.json")


def _print(path: str) -> None:
    click.echo(shipped(path).read_text(encoding="utf-8"), nl=False)
