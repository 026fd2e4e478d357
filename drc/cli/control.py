"""``drc pause`` and its likes: commands to running daemons; docs/operations/control.md."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.text import Text

from drc import config as configuration
from drc.cli.output import (
    config_option,
    console,
    emit,
    error_document,
    gathered,
    json_option,
    table,
)
from drc.client.daemons import Daemon, daemon_of
from drc.config import Config
from drc.errors import ConfigError, DrcError

_STYLES = {"running": "green", "paused": "yellow", "stopped": "bold red"}


def _daemon_options(function: Any) -> Any:
    for option in (
        click.option("--url", help="URL of the target's daemon; else as configured."),
        click.option("--reason", default="", help="The reason; goes into the audit."),
        json_option,
        config_option,
    ):
        function = option(function)
    return function


def _stream_command(action: str, text: str) -> click.Command:
    """Return the CLI command that sends ``action`` to a stream, or to all streams."""

    @click.command(name=action, help=text)
    @_daemon_options
    @click.argument("origin", required=False)
    @click.argument("target", required=False)
    def command(
        *, path: Path, as_json: bool, reason: str, url: str, origin: str | None, target: str | None
    ) -> int:
        config = configuration.load(path)
        rows: list[dict[str, Any]] = []
        failed: list[DrcError] = []
        for one, other in _streams(config, origin, target):
            try:
                asked = _daemon(config, other, url)
                rows.append(asked.command(one, action, reason))
            except DrcError as error:
                failed.append(error)
                rows.append({"stream": f"{one}->{other}", "state": "", **error_document(error)})
        if as_json:
            emit(rows)
        else:
            console().print(table(("stream", "state", ""), map(_line, rows)))
        return max((error.exit_code for error in failed), default=0)

    return command


class _Move(NamedTuple):
    """The place where a stream is to go on, and the consent of the operator."""

    to: str
    force: bool
    yes: bool
    dry_run: bool


_ALL = " Without ORIGIN and TARGET: all streams."
pause = _stream_command(
    "pause", "Let a stream commit its transactions in flight, and hold the stream." + _ALL
)
resume = _stream_command("resume", "Let a paused stream go on." + _ALL)
stop = _stream_command("stop", "Hold a stream as `drc pause` does, but for longer." + _ALL)
start = _stream_command(
    "start", "Let a stream go on that an operator or an error has stopped." + _ALL
)
restart = _stream_command("restart", "End a stream's session and begin the next session." + _ALL)


@click.command()
@_daemon_options
@click.argument("origin")
@click.argument("target")
@gathered(
    "move",
    _Move,
    click.option("--to", required=True, help="A GTID set, a time, or an offset of the topic."),
    click.option("--force", is_flag=True, help="Give up transactions left out; needs --reason."),
    click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    click.option("--dry-run", is_flag=True, help="Report the consequences, and do nothing."),
)
def reposition(
    *,
    path: Path,
    as_json: bool,
    reason: str,
    url: str,
    origin: str,
    target: str,
    move: _Move,
) -> int:
    """Let a stream go on from another place; report the consequences first.

    A step back is harmless: applied transactions are read again, and not applied again. A step
    forward, past transactions that are not applied, is refused unless forced.
    """
    config = configuration.load(path)
    asked = _daemon(config, target, url)
    with console().status("Asking both sites, counting rows"):
        report = asked.command(origin, "reposition", "", to=move.to, dry_run=True)
    if not as_json:
        _show_report(report)
    if move.dry_run:
        if as_json:
            emit(report)
        return 0 if report["harmless"] else 1
    if (report["harmless"] or move.force) and not move.yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("cannot ask for confirmation: no terminal", hint="run with --yes")
        click.confirm(f"Reposition {origin} {target}?", abort=True)
    report = asked.command(origin, "reposition", reason, to=report["to"], force=move.force)
    if as_json:
        emit(report)
    else:
        console().print(Text("repositioned", style="green"))
    return 0


@click.command()
@_daemon_options
@click.argument("origin")
@click.argument("target")
@click.argument("gtids")
def skip(
    *, path: Path, as_json: bool, reason: str, url: str, origin: str, target: str, gtids: str
) -> int:
    """Give up transactions of ORIGIN: TARGET never applies these transactions.

    GTIDS is a GTID set such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:7. An XA transaction has two
    GTIDs. Repair the rows by hand; the audit and `drc.skip` at the target keep the GTIDs.
    """
    config = configuration.load(path)
    answer = _daemon(config, target, url).command(origin, "skip", reason, gtids=gtids)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{answer['stream']}: not applied: {answer['skipped']}")
    return 0


@click.command()
@_daemon_options
def reload(*, path: Path, as_json: bool, reason: str, url: str) -> int:
    """Let the daemons read the configuration file again, without a restart.

    Tables, policies, parallelism and throttle can change so. If another key has changed, the answer
    names the key and no change takes effect.
    """
    config = configuration.load(path)
    places = [Daemon(url, config.web.token())] if url else _all(config)
    answers = {daemon.url: daemon.reload(reason) for daemon in places}
    if as_json:
        emit(answers)
        return 0
    for place, answer in answers.items():
        click.echo(f"{place}: {', '.join(answer['changed']) or 'nothing changed'}")
    return 0


@click.command()
@config_option
@json_option
@click.option("--limit", default=50, show_default=True, help="Show so many commands.")
def audit(*, path: Path, as_json: bool, limit: int) -> int:
    """Show the commands of operators, and the reasons; the newest first."""
    from drc.state.store import Store  # imports SQLAlchemy, which --help does not need

    config = configuration.load(path)
    entries = Store(config.state_url, config.state_password()).noted(limit)
    if as_json:
        emit(entries)
        return 0
    rows = [
        (
            _time(e["at_us"]),
            e["actor"],
            e["action"],
            e["subject"],
            e["reason"],
            _detail(e["detail"]),
        )
        for e in entries
    ]
    console().print(table(("when", "who", "what", "where", "why", "detail"), rows))
    return 0


# ------------------------------------------------------------ parts


def _streams(config: Config, origin: str | None, target: str | None) -> list[tuple[str, str]]:
    """Return (origin, target) of the named stream, or of all streams without names.

    :raises ConfigError: the pair has no stream of these names.
    """
    everything = [(o, t) for t in config.sites for o in config.sites if o != t]
    if origin is None:
        return everything
    if target is None or (origin, target) not in everything:
        known = ", ".join(" ".join(pair) for pair in everything)
        raise ConfigError(
            f"{' '.join(filter(None, (origin, target)))} is not a stream of this pair",
            hint=f"name a stream by ORIGIN TARGET: {known}",
        )
    return [(origin, target)]


def _daemon(config: Config, target: str, url: str | None) -> Daemon:
    config.site(target)
    return Daemon(url, config.web.token()) if url else daemon_of(config, target)


def _all(config: Config) -> list[Daemon]:
    return list(dict.fromkeys(daemon_of(config, name) for name in config.sites))


def _line(row: dict[str, Any]) -> tuple[Text | str, ...]:
    error = row.get("error") or {}
    text = ". ".join(filter(None, (error.get("message"), error.get("hint"))))
    return (
        row["stream"].replace("->", " → "),
        Text(row["state"], _STYLES.get(row["state"], "")),
        text,
    )


def _show_report(report: dict[str, Any]) -> None:
    rows = []
    for name, text in (
        ("repeated", "decided, and read again; not applied again"),
        ("skipped", "not decided, and would never be applied"),
        ("purged", "decided, and no longer at the origin: not read again"),
        ("lost", "not decided, and no longer at the origin"),
    ):
        part = report[name]
        rows.append((name, f"{part['transactions']:,}", _rows(part), text, _short(part["gtids"])))
    columns = ("", "transactions>", "rows", "meaning", "GTIDs")
    title = f"{report['origin']} → {report['target']}"
    console().print(table(columns, rows, title=title))
    verdict = (
        Text("harmless", "green") if report["harmless"] else Text(report["refusal"], "bold red")
    )
    console().print(verdict)


def _rows(part: dict[str, Any]) -> str:
    counted = [f"{name} {count:,}" for name, count in sorted(part.get("rows", {}).items())]
    more = [] if part.get("rows_complete", True) else ["and more"]
    return ", ".join(counted + more)


def _short(gtids: str, most: int = 120) -> str:
    return gtids if len(gtids) <= most else f"{gtids[: most - 1]}…"


def _detail(detail: dict[str, Any]) -> str:
    return _short(
        ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in detail.items())
    )


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
