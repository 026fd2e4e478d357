"""Conflict entries: lists, counts, replays and purges entries of the conflict log. Edge.

Contents: reading ``drc.conflict`` at a single site or at all sites, counting, asking the resolver
again, and deleting. ``settlement.py`` settles an entry.

1. Reading uses the source account, which may read schema ``drc`` and change nothing.
2. Open entries are never deleted, because nothing else records that a row differs between sites.
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
from drc.conflict.resolver import Change, ConflictKind, Decision, RowAction, Winner, resolve
from drc.conflict.writes import Rivals, Write
from drc.errors import ConfigError, PreflightError
from drc.gtid import Gtid
from drc.policy import TablePolicy
from drc.rows.mask import Mask
from drc.schema import conflict_log

EntryDocument = dict[str, Any]  # JSON-ready; docs/operations/conflicts-json.md

STATES = ("auto", "open", "settled", "superseded")
_PAGE = 500
_PURGE_ROWS = 1000
_JSON = ("rivals", "row_local", "row_before", "row_after")
_NO_TABLE = 1146
_UNASKED = Gtid(b"", 0, "")  # a placeholder: the resolver compares clocks, not GTIDs


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter for entries; an empty field matches every entry.

    :param table: a glob on ``schema.table`` with ``*`` and ``?``, for example ``shop.*``.
    :param since_us: microseconds since the epoch; older entries are left out.
    """

    table: str = ""
    states: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since_us: int = 0

    def where(self) -> tuple[str, list[Any]]:
        """Return an SQL condition and the values to bind."""
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
    """Convert a glob to a pattern of LIKE with escape sign ``|``: ``o_d*`` to ``o|_d%``."""
    for sign in "|%_":
        glob = glob.replace(sign, "|" + sign)
    return glob.replace("*", "%").replace("?", "_")


# ------------------------------------------------------------ reading


def chosen_sites(config: Config, site: str) -> list[str]:
    """Return ``site`` alone, or all sites if ``site`` is empty.

    :raises ConfigError: the site does not exist.
    """
    if not site:
        return list(config.sites)
    config.site(site)
    return [site]


def read(
    config: Config, site: str, chosen: Filter, limit: int | None = None
) -> Iterator[EntryDocument]:
    """Yield entries of a site, the newest first, read page by page.

    :raises PreflightError: the conflict log does not exist.
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


def one(config: Config, site: str, number: int) -> EntryDocument:
    """Return the entry ``number`` of a site.

    :raises ConfigError: the entry does not exist.
    """
    with contextlib.closing(_reader(config, site)) as conn:
        rows = _ask(conn, conflict_log.ONE, [number], site)
    if not rows:
        raise no_entry(site, number)
    return entry(site, rows[0])


def no_entry(site: str, number: int) -> ConfigError:
    """Return the error for an entry that does not exist."""
    return ConfigError(
        f"{site} has no conflict {number}",
        hint=f"run `drc conflicts list --site {site}` to see all conflicts",
    )


def entry(site: str, row: dict[str, Any]) -> EntryDocument:
    """Convert a row of the conflict log to a document."""
    out: EntryDocument = {"site": site, **row}
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
                    "the conflict log does not exist", site=site, hint="run `drc migrate`"
                ) from error
            raise mysql.translate(error, site=site) from error
        return list(cursor.fetchall())


# ------------------------------------------------------------ figures


def stats(config: Config, site: str, chosen: Filter) -> dict[str, Any]:
    """Count the entries of a site by table, kind, winner and state, and by hour."""
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
    """The result of a replay.

    ``same`` counts entries with the same decision, ``differ`` has the entries with another
    decision, ``passed_over`` counts entries that cannot be decided again, by reason.
    """

    same: int = 0
    differ: list[dict[str, Any]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def replay(config: Config, entries: Iterable[EntryDocument]) -> Replayed:
    """Let the resolver decide logged entries again, from the state that the conflict log holds."""
    out = Replayed()
    policies = config.conflicts.policies()
    mask = Mask(config.conflicts.mask, config.name)
    for logged in entries:
        policy = policies.of(logged["table"])
        winner = Winner(logged["winner"])
        if logged["kind"] == ConflictKind.MULTIPLE_UNIQUE_CONFLICTS:
            out.passed_over["the server found the collision, not the resolver"] += 1
            continue
        if logged["policy"] != policy.policy:
            out.passed_over["the table has another policy now"] += 1
            continue
        if policy.owner_column and mask.column(logged["table"], policy.owner_column):
            out.passed_over["the owner column is masked"] += 1
            continue
        if policy.owner_column and not (logged["row_before"] or logged["row_after"]):
            out.passed_over["the row came and went, so the entry does not have the owner"] += 1
            continue
        change, found = _asked(logged, policy)
        decision = resolve(change, found, logged["ets"], logged["origin"], policy)
        if decision.action is RowAction.ASK:
            if mask.table(logged["table"]):
                out.passed_over["the table's function saw values that are masked"] += 1
                continue
            if winner is Winner.OPEN and not logged["reason"].startswith(policy.function):
                out.passed_over["the table's function was not asked"] += 1
                continue
            decision = _answered(logged, policy)
        if decision.action is RowAction.MERGE and winner is Winner.OPEN:
            out.passed_over["the columns could not be merged"] += 1
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


def _answered(logged: EntryDocument, policy: TablePolicy) -> Decision:
    """Ask the conflict function of a table again."""
    (rival,) = logged["rivals"]
    here = Version(logged["row_local"], rival["ets"], rival["origin"])
    remote = Version(logged["row_after"], logged["ets"], logged["origin"])
    kind, before = ConflictKind(logged["kind"]), logged["row_before"]
    return load(policy.function).verdict(kind, logged["table"], before, remote, here).decision


def _asked(logged: EntryDocument, policy: TablePolicy) -> tuple[Change, Rivals]:
    rows = [logged[name] for name in ("row_before", "row_after", "row_local")]
    before, after, exists = (row is not None for row in rows)
    owner: str | None = ""
    if policy.owner_column and logged["rivals"]:
        owner = policy.owner(row.get(policy.owner_column) for row in rows if row)
    writes = tuple(Write(rival["origin"], _UNASKED, rival["ets"]) for rival in logged["rivals"])
    return Change(before=before, after=after, exists=exists, owner=owner), Rivals(writes)


# ------------------------------------------------------------ the end


def purge(config: Config, site: str, days: int) -> int:
    """Delete entries older than ``days`` that are not open; return the number of entries.

    Each statement deletes a thousand entries at most, so that the daemon's own transactions never
    wait long for a delete. The deletes are in schema ``drc``, so other sites keep their entries.

    :raises ConfigError: no operator account is configured, and no other account may delete.
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
