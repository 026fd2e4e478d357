"""``drc forecast``: forecasts conflicts from binlogs; docs/operations/forecast-json.md."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.gtid import GtidSet

if TYPE_CHECKING:
    from drc.desk.binlogs import Report, Span

_HOT_SHOWN = 3
_duration = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)?").fullmatch
_UNITS_US: dict[str | None, int] = {
    "us": 1,
    "ms": 1000,
    "s": 10**6,
    None: 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
}


def duration_us(text: str) -> int:
    """Return a duration in microseconds: of ``0.5s``, ``20ms``, ``2h``, or seconds like ``3``."""
    match = _duration(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a valid duration such as 0.5s, 20ms or 2h")
    return round(float(match[1]) * _UNITS_US[match[2]])


def _option_us(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    return None if text is None else duration_us(text)


@click.command()
@config_option
@json_option
@click.option(
    "--start",
    default="earliest",
    show_default=True,
    metavar="earliest|TIME|GTID_SET",
    help="Where to begin: an ISO time, UTC without a zone, or the GTIDs of both sites to leave"
    " out.",
)
@click.option(
    "--for",
    "live",
    callback=_option_us,
    metavar="DURATION",
    help="Read the writes from now on, for so long.",
)
@click.option(
    "--lag",
    "lag_us",
    callback=_option_us,
    metavar="DURATION",
    default="0.5s",
    show_default=True,
    help="The assumed lag of a write, where the binlogs do not show the lag.",
)
def command(*, path: Path, as_json: bool, start: str, live: int | None, lag_us: int) -> None:
    """Forecast, from the binlogs, which writes would conflict if both sites were replicated.

    Use the forecast before replication runs both ways. Nothing is applied or written.
    """
    from drc.desk.binlogs import Span, forecast

    config = configuration.load(path)
    span = Span(GtidSet(), live_s=live / 1e6) if live else _span(start)
    with Progress(console=Console(stderr=True), transient=True) as shown:
        bars = {site: shown.add_task(f"binlog of {site}", total=None) for site in config.sites}

        def progress(site: str, done: int, total: int) -> None:
            shown.update(bars[site], completed=done, total=total)

        report = forecast(config, span, lag_us, progress)
    if as_json:
        emit(report.document())
    else:
        _render(report)


def _span(start: str) -> Span:
    from drc.desk.binlogs import Span

    if start == "earliest":
        return Span(GtidSet())
    try:
        moment = datetime.datetime.fromisoformat(start)
    except ValueError:
        return Span(GtidSet.parse(start))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return Span(GtidSet(), since_us=int(moment.timestamp() * 1e6))


def _render(report: Report) -> None:
    out = console()
    columns = ("table", "writes>", "conflicts>", "per hour>", "unique>", "hottest keys", "advice")
    rows = [
        (
            name,
            ", ".join(f"{site} {n:,}" for site, n in found.writes.items()),
            f"{found.pairs:,}",
            f"{report.per_hour(found.pairs):,.1f}",
            f"{found.unique_pairs:,}",
            "\n".join(f"{key}: {n:,}" for key, n in found.keys.most_common(_HOT_SHOWN)),
            Text(found.advice(), style="yellow" if found.pairs or found.risks else ""),
        )
        for name, found in report.sorted()
    ]
    out.print(table(columns, rows))
    read = ", ".join(f"{site} {n:,}" for site, n in report.transactions.items())
    span = time.strftime("%H:%M:%S", time.gmtime(report.seconds % 86400))
    days = f"{int(report.seconds // 86400)} d " if report.seconds >= 86400 else ""
    out.print(f"transactions: {read}; in {days}{span}, lag assumed: {report.lag_us / 1e6:g} s")
    for direction in report.causal:
        origin, target = direction.split("->")
        out.print(
            f"the binlog of {target} shows the transactions of {origin} that {target} had seen"
        )
    if report.skew_us * 4 > report.lag_us:
        out.print(f"clocks are {report.skew_us / 1e6:.3f} s apart: run NTP, then forecast again")
