"""``drc conflicts``: the log of concurrent writes; docs/conflicts.md."""

from __future__ import annotations

import datetime
import getpass
import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drc import config as configuration
from drc.cli.output import config_option, console, emit, gathered, json_option, table
from drc.conflict.resolver import ConflictKind
from drc.desk import entries
from drc.errors import ConfigError
from drc.rows.decoded import one_line

if TYPE_CHECKING:
    from drc.verify.orphans import Orphans

_STATE_STYLES = {"open": "bold red", "settled": "green"}
_ORPHANS_SHOWN = 3
_UNITS = {"m": 60, "h": 3600, "d": 86400}


class _Since(click.ParamType):  # type: ignore[type-arg]
    """``90m``, ``24h``, ``7d``, or a time in UTC."""

    name = "when"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return microseconds since the epoch."""
        if isinstance(value, int):
            return value
        now = datetime.datetime.now(datetime.UTC)
        try:
            if value[-1:] in _UNITS:
                then = now - datetime.timedelta(seconds=float(value[:-1]) * _UNITS[value[-1]])
            else:
                then = datetime.datetime.fromisoformat(value)
                then = then if then.tzinfo else then.replace(tzinfo=datetime.UTC)
            return int(then.timestamp() * 1_000_000)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither 90m, 24h, 7d nor a time such as 2026-11-24T08:00")


_site_option = click.option("--site", default="", help="One site's log; all by default.")
_filters = gathered(
    "chosen",
    entries.Filter,
    click.option("--table", default="", help="A glob such as 'shop.*'."),
    click.option("--state", "states", multiple=True, type=click.Choice(entries.STATES)),
    click.option(
        "--kind", "kinds", multiple=True, type=click.Choice([str(k) for k in ConflictKind])
    ),
    click.option(
        "--since", "since_us", type=_Since(), default=0, help="90m, 24h, 7d, or a UTC time."
    ),
)


class _Decision(NamedTuple):
    """The decision that an operator asks for: one version, or other values."""

    take: str | None
    values: tuple[str, ...]
    nulls: tuple[str, ...]

    def wanted(self) -> dict[str, str | None]:
        """Return the values by column, None for NULL; none with ``take``.

        :raises UsageError: both are asked for, or neither.
        """
        wanted: dict[str, str | None] = dict(map(_assignment, self.values))
        wanted.update(dict.fromkeys(self.nulls))
        if bool(self.take) == bool(wanted):
            raise click.UsageError("either --take or --set")
        return wanted


@click.group()
def command() -> None:
    """Concurrent writes: what met what, what became of it, and what a person decides."""


@command.command("list")
@config_option
@json_option
@_site_option
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_(*, path: Path, as_json: bool, site: str, limit: int, chosen: entries.Filter) -> None:
    """Show conflicts, the newest of each site first."""
    config = configuration.load(path)
    found = [
        entry
        for name in entries.chosen_sites(config, site)
        for entry in entries.read(config, name, chosen, limit)
    ]
    if as_json:
        emit({"conflicts": found})
    else:
        console().print(render_list(found))


@command.command()
@config_option
@json_option
@click.option("--site", required=True, help="Whose log.")
@click.argument("number", type=click.IntRange(min=1))
def show(*, path: Path, as_json: bool, site: str, number: int) -> None:
    """Show one conflict, both versions side by side."""
    config = configuration.load(path)
    config.site(site)
    entry = entries.one(config, site, number)
    if as_json:
        emit(entry)
    else:
        console().print(render(entry))


@command.command()
@config_option
@json_option
@_site_option
@_filters
def stats(*, path: Path, as_json: bool, site: str, chosen: entries.Filter) -> None:
    """Count conflicts by table, kind and winner, and by hour."""
    config = configuration.load(path)
    found = [entries.stats(config, name, chosen) for name in entries.chosen_sites(config, site)]
    if as_json:
        emit({"sites": found})
    else:
        console().print(render_stats(found))


@command.command()
@config_option
@_site_option
@_filters
def export(path: Path, site: str, chosen: entries.Filter) -> None:
    """Print conflicts as JSON, one a line, the newest of each site first."""
    config = configuration.load(path)
    for entry in _all(config, site, chosen):
        click.echo(json.dumps(entry, ensure_ascii=False))


@command.command()
@config_option
@json_option
@_site_option
@_filters
@click.option("--limit", type=click.IntRange(min=1), help="The newest ones only.")
def replay(
    *, path: Path, as_json: bool, site: str, limit: int | None, chosen: entries.Filter
) -> int:
    """Let the resolver decide logged conflicts again; exit 1 if any comes out differently."""
    config = configuration.load(path)
    found = entries.replay(config, islice(_all(config, site, chosen), limit))
    if as_json:
        emit(
            {
                "same": found.same,
                "differ": found.differ,
                "passed_over": dict(found.passed_over),
            }
        )
    else:
        out = console()
        for one in found.differ:
            out.print(Text(f"differs: {one_line(one)}", "bold red"))
        for why, count in found.passed_over.items():
            out.print(Text(f"passed over, {count:,}: {why}", "dim"))
        out.print(Text(f"{found.same:,} decided the same, {len(found.differ):,} differently"))
    return 1 if found.differ else 0


@command.command()
@config_option
@json_option
@click.option("--site", required=True, help="Whose entry.")
@click.argument("number", type=click.IntRange(min=1))
@gathered(
    "decision",
    _Decision,
    click.option("--take", type=click.Choice(["remote", "local"]), help="As that entry has them."),
    click.option("--set", "values", multiple=True, metavar="COLUMN=VALUE", help="For its own row."),
    click.option("--null", "nulls", multiple=True, metavar="COLUMN", help="Set it to NULL."),
)
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--by", default="", help="Who says so, beside the operating system's user.")
def settle(
    *,
    path: Path,
    as_json: bool,
    site: str,
    number: int,
    decision: _Decision,
    reason: str,
    by: str,
) -> None:
    """Decide a conflict: one version, or other values, at all sites.

    The change is made at one site and replicated as any other. Of two rows with one unique value
    --take keeps one; --set gives this site's own row other values, and both rows stay.
    """
    from drc.desk.settlement import Choice
    from drc.desk.settlement import settle as settled

    wanted = decision.wanted()
    who = f"{getpass.getuser()} ({by})" if by else getpass.getuser()
    choice = Choice(site, decision.take or "", wanted, who, reason)
    outcome = settled(configuration.load(path), site, number, choice)
    if as_json:
        emit({"changed_at": outcome.changed_at, "settled": outcome.settled})
    else:
        counts = ", ".join(f"{count} at {name}" for name, count in outcome.settled.items())
        click.echo(f"settled by a change at {outcome.changed_at}; entries: {counts}")


@command.command()
@config_option
@click.option("--site", default="", help="One site's log; all by default.")
@click.option("--days", type=click.IntRange(min=1), help="Instead of conflicts.retention_days.")
def purge(path: Path, site: str, days: int | None) -> None:
    """Delete old conflicts, as the operator account; those that are open stay."""
    config = configuration.load(path)
    days = days or config.conflicts.retention_days
    if not days:
        raise ConfigError("conflicts.retention_days is 0: all are kept", hint="or give --days")
    for name in entries.chosen_sites(config, site):
        click.echo(f"{name}: {entries.purge(config, name, days):,} deleted")


@command.command()
@config_option
@json_option
@click.option("--site", default="", help="One site's tables; all by default.")
def orphans(*, path: Path, as_json: bool, site: str) -> int:
    """Look for rows whose parent is not there; exit 1 if there are any.

    One site may delete a parent while the other inserts its child: rows are replicated without
    foreign key checks, and no policy looks at two tables.
    """
    from drc.verify.orphans import scan

    config = configuration.load(path)
    keys = [one for name in entries.chosen_sites(config, site) for one in scan(config, name)]
    found = [one for one in keys if one.rows]
    if as_json:
        emit({"foreign_keys": len(keys), "orphans": [one.document() for one in found]})
    else:
        if found:
            console().print(render_orphans(found))
        rows = sum(one.rows for one in found)
        click.echo(f"{len(keys)} foreign keys looked at, {rows:,} rows without their parent")
    return 1 if found else 0


def _all(
    config: configuration.Config, site: str, chosen: entries.Filter
) -> Iterator[entries.EntryDocument]:
    sites = entries.chosen_sites(config, site)
    return chain.from_iterable(entries.read(config, name, chosen) for name in sites)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--set {text!r} is not COLUMN=VALUE")
    return name, value


# ------------------------------------------------------------ rendering


def plain(value: Any) -> str:
    """Return text of a row for a terminal: control characters are escaped."""
    return one_line(str(value))[1:-1]


def render_list(entries: list[entries.EntryDocument]) -> Table:
    """Return a table of conflicts."""
    columns = ("site", "id>", "when", "table", "key", "kind", "winner", "state", "reason")
    return table(columns, map(_line, entries))


def render_orphans(found: list[Orphans]) -> Table:
    """Return a table of the keys that have orphans, each with a few of them."""
    columns = ("site", "table", "constraint", "parent", "rows>", "such as")
    return table(
        columns,
        (
            [
                *(one.site, plain(".".join(one.key.table)), plain(one.key.name)),
                *(plain(".".join(one.key.parent)), f"{one.rows:,}"),
                "; ".join(one_line(row) for row in one.sample[:_ORPHANS_SHOWN]),
            ]
            for one in found
        ),
    )


def _line(entry: entries.EntryDocument) -> list[str | Text]:
    state = entry["state"]
    why = f"{entry['settlement']}, by {entry['settled_by']}" if entry["settled_by"] else ""
    return [
        *(entry["site"], str(entry["id"]), entry["detected_at"][:19]),
        *(plain(entry["table"]), plain(entry["row_key"]), entry["kind"], entry["winner"]),
        Text(state, _STATE_STYLES.get(state, "")),
        plain(why or entry["reason"]),
    ]


def render(entry: entries.EntryDocument) -> Group:
    """Return one conflict: what it is, who wrote when, and the versions side by side."""
    facts = {
        "table": entry["table"],
        "key": entry["row_key"],
        "kind": entry["kind"],
        "policy": entry["policy"],
        "winner": entry["winner"],
        "reason": entry["reason"],
        "state": entry["state"],
        "remote": f"{entry['origin']} {entry['gtid']} at {_time(entry['ets'])}",
        "had seen": entry["seen"] or "nothing of other sites",
    }
    for rival in entry["rivals"]:
        gap = (entry["ets"] - rival["ets"]) / 1e6
        facts[f"rival {rival['gtid']}"] = (
            f"{rival['origin']} at {_time(rival['ets'])}; the remote change is {abs(gap):.6f} s"
            f" {'later' if gap > 0 else 'earlier'}"
        )
    if entry["rival_count"] > len(entry["rivals"]):
        facts["more rivals"] = str(entry["rival_count"] - len(entry["rivals"]))
    if entry["settled_by"]:
        facts["settled"] = f"{entry['settled_at']} by {entry['settled_by']}: {entry['settlement']}"
    head = table(("", ""), ((plain(k), plain(v)) for k, v in facts.items()))
    head.show_header = False
    title = f"conflict {entry['id']} at {entry['site']}"
    return Group(Text(title, "bold"), head, _versions(entry))


def _versions(entry: entries.EntryDocument) -> Table:
    """Return the columns: those in which the versions differ are marked."""
    versions = [entry["row_local"], entry["row_before"], entry["row_after"]]
    names = dict.fromkeys(name for row in versions if row for name in row)
    rows: list[list[str | Text]] = []
    for name in names:
        here, before, after = (_value(row, name) for row in versions)
        differs = here != after
        style = "yellow" if differs else ""
        rows.append(
            [
                "≠" if differs else "",
                plain(name),
                Text(here, style),
                Text(before, "dim"),
                Text(after, style),
            ]
        )
    site, origin = entry["site"], entry["origin"]
    return table(("", "column", f"here, {site}", "remote before", f"remote, {origin}"), rows)


def _value(row: dict[str, Any] | None, name: str) -> str:
    if row is None:
        return "(no row)"
    return one_line(row[name]) if name in row else "(no column)"


def _time(ets_us: int) -> str:
    moment = datetime.datetime.fromtimestamp(ets_us / 1e6, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def render_stats(sites: list[dict[str, Any]]) -> Group:
    """Return counts by table, kind, winner and state, and by hour."""
    counts = table(
        ("site", "table", "kind", "winner", "state", "conflicts>"),
        (
            (s["site"], plain(c["table"]), c["kind"], c["winner"], c["state"], f"{c['entries']:,}")
            for s in sites
            for c in s["counts"]
        ),
    )
    hours = table(
        ("site", "hour", "conflicts>", "open>"),
        (
            (s["site"], h["hour"], f"{h['entries']:,}", f"{h['open']:,}")
            for s in sites
            for h in s["hours"]
        ),
    )
    return Group(counts, hours)
