"""``drc status``: shows how far behind each stream is; docs/operations/status-json.md."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.config import MiB
from drc.monitor.document import SiteReport, Status, StreamReport
from drc.monitor.status import collect
from drc.worker.snapshot import CanarySnapshot, PublisherSnapshot, WatcherSnapshot

_WATCH_S = 1.0
_STATE_STYLES = {"running": "green", "connecting": "yellow", "stopped": "bold red"}


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Show the status again every second, until Ctrl-C.")
def command(*, path: Path, as_json: bool, watch: bool) -> None:
    """Show how far behind each stream is, by the servers' answers."""
    from drc.state.store import Store  # imports SQLAlchemy, which --help does not need

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
            click.echo(msgspec.json.encode(collect(config, store)))
            time.sleep(_WATCH_S)
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(render(collect(config, store)), refresh=True)
            time.sleep(_WATCH_S)


def render(status: Status) -> Group:
    """Return the status as tables for a terminal."""
    rows = [_row(s) for s in status.streams]
    fresh = {name: site.daemon for name, site in status.sites.items() if site.daemon.fresh}
    rows += [_publisher(name, said.publisher) for name, said in fresh.items() if said.publisher]
    rows += [
        _watcher(name, watcher)
        for name, said in fresh.items()
        if (watcher := said.watcher)
        if watcher.state != "running" or watcher.spilled_slots or watcher.spill_error
    ]
    columns = (
        *("stream", "state", "behind>", "lag p50>", "lag p99>", "lag p99.9>", "applied>"),
        *("canary>", "why"),
    )
    parts: list[Table | Text] = [table(columns, rows)]
    for name, site in status.sites.items():
        parts += _complaints(name, site)
    return Group(*parts)


def _complaints(name: str, site: SiteReport) -> list[Table | Text]:
    """Return the error of a site that does not answer, and the alerts of its daemon."""
    out: list[Table | Text] = []
    if not site.reachable:
        why, hint = (site.error.message, site.error.hint) if site.error else ("not reachable", "")
        out.append(Text.assemble((f"{name}: {why}", "bold red"), f"  {hint}"))
    for alert in site.daemon.alerts if site.daemon.fresh else ():
        out.append(Text.assemble((alert.sentence, "bold red"), f"  {alert.command}"))
    return out


def _row(stream: StreamReport) -> tuple[Text | str, ...]:
    said = stream.snapshot if stream.snapshot_fresh else None
    behind = stream.transactions_behind
    return (
        f"{stream.origin} → {stream.target}",
        _state(stream.state),
        "?" if behind is None else f"{'' if stream.exact else '≤ '}{behind:,}",
        _ms(said.lag_us_p50) if said else "",
        _ms(said.lag_us_p99) if said else "",
        _ms(said.lag_us.p999) if said else "",
        f"{said.transactions:,}" if said else "",
        _canary(said.canary) if said else "",
        said.blocked.sentence if said and said.blocked else stream.reason,
    )


def _publisher(site: str, said: PublisherSnapshot) -> tuple[Text | str, ...]:
    return (
        f"{site} → Kafka",
        _state(said.state),
        "",
        _ms(said.lag_us_p50),
        _ms(said.lag_us_p99),
        "",
        f"{said.transactions:,}",
        "",
        said.reason,
    )


def _watcher(site: str, said: WatcherSnapshot) -> tuple[Text | str, ...]:
    why = said.reason
    if error := said.spill_error:
        why = f"cannot spill to disk, {said.forgotten:,} transactions forgotten: {error}"
    elif spilled := said.spilled_slots:
        took = said.spilled_bytes / MiB
        why = f"{spilled:,} of {said.slots:,} keys are on disk, {took:,.0f} MiB"
    return (f"{site} → its own index", _state(said.state), "", "", "", "", "", "", why)


def _state(state: str) -> Text:
    return Text(state, style=_STATE_STYLES.get(state, "dim"))


def _canary(said: CanarySnapshot | None) -> str:
    """Return the time that the newest canary took; '' without canaries."""
    if not said:
        return ""
    if said.bounced:
        return "came back"
    landed_us, sent_us = said.landed_us, said.sent_us
    return _ms(landed_us - sent_us) if landed_us and sent_us is not None else "none yet"


def _ms(us: int | None) -> str:
    return "" if us is None else f"{us / 1000:,.1f} ms"
