"""``drc status``: how far behind each stream is; docs/operations/status-json.md."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.config import MiB
from drc.monitor.status import collect

_WATCH_S = 1.0
_STATE_STYLES = {"running": "green", "connecting": "yellow", "stopped": "bold red"}


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def command(*, path: Path, as_json: bool, watch: bool) -> None:
    """Show how far behind each stream is, asked of the servers."""
    from drc.state.store import Store  # SQLAlchemy: --help does without

    config = configuration.load(path)
    store = Store(config.state_url, config.state_password())
    if not watch:
        status = collect(config, store)
        if as_json:
            emit(status)
        else:
            console().print(render(status))
        return
    if as_json:
        while True:
            click.echo(json.dumps(collect(config, store)))
            time.sleep(_WATCH_S)
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(render(collect(config, store)), refresh=True)
            time.sleep(_WATCH_S)


def render(status: dict[str, Any]) -> Group:
    """Return the status for people."""
    rows = [_row(s) for s in status["streams"]]
    rows += [
        _publisher(name, site["daemon"]["publisher"])
        for name, site in status["sites"].items()
        if site["daemon"]["publisher"] and site["daemon"]["fresh"]
    ]
    rows += [
        _watcher(name, said)
        for name, site in status["sites"].items()
        if (said := site["daemon"]["watcher"]) and site["daemon"]["fresh"]
        if said["state"] != "running" or said.get("spilled_slots") or said.get("spill_error")
    ]
    columns = (
        *("stream", "state", "behind>", "lag p50>", "lag p99>", "lag p99.9>", "applied>"),
        *("canary>", "why"),
    )
    parts: list[Table | Text] = [table(columns, rows)]
    for name, site in status["sites"].items():
        if not site["reachable"]:
            error = site["error"] or {}
            text = f"{name}: {error.get('message', 'not reachable')}"
            parts.append(Text.assemble((text, "bold red"), f"  {error.get('hint', '')}"))
        for alert in site["daemon"].get("alerts", ()) if site["daemon"]["fresh"] else ():
            parts.append(Text.assemble((alert["sentence"], "bold red"), f"  {alert['command']}"))
    return Group(*parts)


def _row(stream: dict[str, Any]) -> tuple[Text | str, ...]:
    snapshot = (stream["snapshot"] or {}) if stream["snapshot_fresh"] else {}
    state = stream["state"]
    behind = stream["transactions_behind"]
    return (
        f"{stream['origin']} → {stream['target']}",
        Text(state, style=_STATE_STYLES.get(state, "dim")),
        "?" if behind is None else f"{'' if stream['exact'] else '≤ '}{behind:,}",
        _ms(snapshot.get("lag_us_p50")),
        _ms(snapshot.get("lag_us_p99")),
        _ms((snapshot.get("lag_us") or {}).get("p999")),
        f"{snapshot['transactions']:,}" if "transactions" in snapshot else "",
        _canary(snapshot.get("canary")),
        blocked["sentence"] if (blocked := snapshot.get("blocked")) else stream["reason"],
    )


def _publisher(site: str, said: dict[str, Any]) -> tuple[Text | str, ...]:
    return (
        f"{site} → Kafka",
        Text(said["state"], style=_STATE_STYLES.get(said["state"], "dim")),
        "",
        _ms(said["lag_us_p50"]),
        _ms(said["lag_us_p99"]),
        "",
        f"{said['transactions']:,}",
        "",
        said["reason"],
    )


def _watcher(site: str, said: dict[str, Any]) -> tuple[Text | str, ...]:
    state = Text(said["state"], style=_STATE_STYLES.get(said["state"], "dim"))
    why = said["reason"]
    if error := said.get("spill_error"):
        why = f"cannot spill to disk, {said['forgotten']:,} transactions forgotten: {error}"
    elif spilled := said.get("spilled_slots"):
        took = said["spilled_bytes"] / MiB
        why = f"{spilled:,} of {said['slots']:,} keys are on disk, {took:,.0f} MiB"
    return (f"{site} → its own index", state, "", "", "", "", "", "", why)


def _canary(said: dict[str, Any] | None) -> str:
    """Return how long the newest took, by when it was sent; '' where none is."""
    if not said:
        return ""
    if said["bounced"]:
        return "came back"
    landed_us = said["landed_us"]
    return _ms(landed_us - said["sent_us"]) if landed_us else "none yet"


def _ms(us: int | None) -> str:
    return "" if us is None else f"{us / 1000:,.1f} ms"
