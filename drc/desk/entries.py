"""The conflict log as people ask for it: lists, figures, a second decision, an end. Edge.

What lives here: reading ``drc.conflict`` at one site or all, what is counted, the resolver asked
again, and what is deleted. Settling an entry is ``settlement.py``.

1. Reading uses the source account, which may read schema ``drc`` and change nothing.
2. Entries that are open are never deleted: they are all that is known of a row that differs.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pymysql.cursors import DictCursor

from drc import mysql
from drc.config import Config
from drc.conflict.function import Version, load
from drc.conflict.resolver import Action, Change, Decision, Kind, Winner, resolve
from drc.conflict.writes import Rivals, Write
from drc.errors import ConfigError, PreflightError
from drc.gtid import Gtid
from drc.policy import TablePolicy
from drc.rows.mask import Mask
from drc.schema import conflict_log

Entry = dict[str, Any]  # JSON-ready; docs/operations/conflicts-json.md

STATES = ("auto", "open", "settled", "superseded")
_PAGE = 500
_PURGE_ROWS = 1000
_JSON = ("rivals", "row_local", "row_before", "row_after")
_NO_TABLE = 1146
_UNASKED = Gtid(b"", 0, "")  # the resolver goes by clocks


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries.

    :param table: a glob on ``schema.table``: ``*`` and ``?``.
    :param since_us: microseconds since the epoch; older ones are left out.
    """

    table: str = ""
    states: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since_us: int = 0

    def where(self) -> tuple[str, list[Any]]:
        """Return a condition and its values."""
        parts, values = ["TRUE"], list[Any]()
        if self.table:
            parts.append("CONCAT(schema_name, '.', table_name) LIKE %s ESCAPE '|'")
            values.append(_like(self.table))
        for column, wanted in (("state", self.states), ("kind", self.kinds)):
            if wanted:
                parts.append(f"{column} IN ({', '.join(['%s'] * len(wanted))})")
                values.extend(wanted)
        if self.since_us:
            parts.append("detected_at >= FROM_UNIXTIME(%s / 1000000)")
            values.append(self.since_us)
        return " AND ".join(parts), values


def _like(glob: str) -> str:
    """Return a glob as LIKE takes it, with ``|`` to escape."""
    for sign in "|%_":
        glob = glob.replace(sign, "|" + sign)
    return glob.replace("*", "%").replace("?", "_")


# ------------------------------------------------------------ reading


def chosen_sites(config: Config, site: str) -> list[str]:
    """Return ``site``, or all of them without one.

    :raises ConfigError: no such site.
    """
    if not site:
        return list(config.sites)
    config.site(site)
    return [site]


def read(config: Config, site: str, chosen: Filter, limit: int | None = None) -> Iterator[Entry]:
    """Yield entries of one site, the newest first, a page at a time.

    :raises PreflightError: the log is not there.
    """
    where, values = chosen.where()
    before, left = 1 << 63, limit
    with contextlib.closing(_reader(config, site)) as conn:
        while left is None or left > 0:
            size = min(_PAGE, left or _PAGE)
            sql = conflict_log.page(where, size)
            rows = _ask(conn, sql, [*values, before], site)
            yield from (entry(site, row) for row in rows)
            if len(rows) < size:
                return
            before, left = rows[-1]["id"], left and left - size


def one(config: Config, site: str, number: int) -> Entry:
    """Return one entry.

    :raises ConfigError: there is none of that number.
    """
    with contextlib.closing(_reader(config, site)) as conn:
        rows = _ask(conn, conflict_log.ONE, [number], site)
    if not rows:
        raise no_entry(site, number)
    return entry(site, rows[0])


def no_entry(site: str, number: int) -> ConfigError:
    """Return the error that says so."""
    return ConfigError(
        f"{site} has no conflict {number}", hint=f"`drc conflicts list --site {site}` shows all"
    )


def entry(site: str, row: dict[str, Any]) -> Entry:
    """Return a row of the log as a document."""
    out: Entry = {"site": site, **row}
    for name in _JSON:
        out[name] = json.loads(out[name]) if out[name] is not None else None
    out["table"] = f"{out.pop('schema_name')}.{out.pop('table_name')}"
    out["has_images"] = bool(out["has_images"])
    for name in ("detected_at", "settled_at"):
        out[name] = out[name] and out[name].isoformat(timespec="microseconds") + "Z"
    return out


def _reader(config: Config, site: str) -> mysql.Connection:
    conn = mysql.connect(config, site, "source")
    mysql.ask(conn, "SET time_zone = '+00:00'")
    return conn


def _ask(conn: mysql.Connection, sql: str, values: list[Any], site: str) -> list[dict[str, Any]]:
    import pymysql

    with conn.cursor(DictCursor) as cursor:
        try:
            cursor.execute(sql, values)
        except pymysql.MySQLError as error:
            if error.args[0] == _NO_TABLE:
                raise PreflightError(
                    "there is no conflict log", site=site, hint="run `drc migrate`"
                ) from error
            raise mysql.translate(error, site=site) from error
        return list(cursor.fetchall())


# ------------------------------------------------------------ figures


def stats(config: Config, site: str, chosen: Filter) -> dict[str, Any]:
    """Count one site's entries by table, kind, winner and state, and by hour."""
    where, values = chosen.where()
    with contextlib.closing(_reader(config, site)) as conn:
        hours = _ask(conn, conflict_log.hours(where), values, site)
        return {
            "site": site,
            "counts": _ask(conn, conflict_log.counts(where), values, site),
            "hours": [{**hour, "open": int(hour["open"])} for hour in hours],
        }


# ------------------------------------------------------------ a second decision


@dataclass(slots=True)
class Replayed:
    """What came of asking again: entries that agree, that differ, that cannot be asked."""

    same: int = 0
    differ: list[dict[str, Any]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def replay(config: Config, entries: Iterable[Entry]) -> Replayed:
    """Let the resolver decide logged entries again, by what the log says they were."""
    out = Replayed()
    policies = config.conflicts.policies()
    mask = Mask(config.conflicts.mask, config.name)
    for logged in entries:
        policy = policies.of(logged["table"])
        winner = Winner(logged["winner"])
        if logged["kind"] == Kind.MULTIPLE_UNIQUE_CONFLICTS:
            out.passed_over["the server found the collision, not the resolver"] += 1
            continue
        if logged["policy"] != policy.policy:
            out.passed_over["the table has another policy now"] += 1
            continue
        if policy.owner_column and mask.column(logged["table"], policy.owner_column):
            out.passed_over["the column that tells the owner is masked"] += 1
            continue
        if policy.owner_column and not (logged["row_before"] or logged["row_after"]):
            out.passed_over["its row came and went, so the log does not have the owner"] += 1
            continue
        change, found = _asked(logged, policy)
        decision = resolve(change, found, logged["ets"], logged["origin"], policy)
        if decision.action is Action.ASK:
            if mask.table(logged["table"]):
                out.passed_over["its function saw values that are masked"] += 1
                continue
            if winner is Winner.OPEN and not logged["reason"].startswith(policy.function):
                out.passed_over["its function was not asked"] += 1
                continue
            decision = _answered(logged, policy)
        if decision.action is Action.MERGE and winner is Winner.OPEN:
            out.passed_over["its columns could not be merged"] += 1
        elif (decision.kind, decision.winner, decision.reason[:255]) == (
            logged["kind"],
            winner,
            logged["reason"],
        ):
            out.same += 1
        else:
            out.differ.append(
                {
                    **{name: logged[name] for name in ("site", "id", "table", "row_key", "gtid")},
                    "logged": {name: logged[name] for name in ("kind", "winner", "reason")},
                    "now": {
                        "kind": decision.kind and str(decision.kind),
                        "winner": str(decision.winner),
                        "reason": decision.reason[:255],
                    },
                }
            )
    return out


def _answered(logged: Entry, policy: TablePolicy) -> Decision:
    """Ask the function of a table again."""
    (rival,) = logged["rivals"]
    here = Version(logged["row_local"], rival["ets"], rival["origin"])
    remote = Version(logged["row_after"], logged["ets"], logged["origin"])
    kind, before = Kind(logged["kind"]), logged["row_before"]
    return load(policy.function).verdict(kind, logged["table"], before, remote, here).decision


def _asked(logged: Entry, policy: TablePolicy) -> tuple[Change, Rivals]:
    rows = [logged[name] for name in ("row_before", "row_after", "row_local")]
    before, after, exists = (row is not None for row in rows)
    owner: str | None = ""
    if policy.owner_column and logged["rivals"]:
        owner = policy.owner(row.get(policy.owner_column) for row in rows if row)
    writes = tuple(Write(rival["origin"], _UNASKED, rival["ets"]) for rival in logged["rivals"])
    return Change(before=before, after=after, exists=exists, owner=owner), Rivals(writes)


# ------------------------------------------------------------ the end


def purge(config: Config, site: str, days: int) -> int:
    """Delete entries older than ``days`` that are not open; return how many.

    A thousand at a time, so that the daemon's own transactions wait for none of them long. Deletes
    are in schema ``drc``, so they stay at this site.

    :raises ConfigError: no operator account is configured: no other may delete.
    """
    deleted = 0
    sql = conflict_log.purge(_PURGE_ROWS)
    with contextlib.closing(mysql.connect(config, site, "operator")) as conn:
        while True:
            with conn.cursor() as cursor:
                rows = int(cursor.execute(sql, (days,)))
            deleted += rows
            if rows < _PURGE_ROWS:
                return deleted
