"""Reposition: reports the consequences of another place for a stream, before the stream moves.

1. The target's ledger stays the truth: no decided transaction is applied again. A step back
   therefore only repeats reading and does no harm. A step forward gives up the transactions in
   between, and is refused unless an operator forces the step with a reason.
2. :class:`Plan` and :func:`judge` are pure; :func:`plan` asks the servers.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from drc import mysql
from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.errors import ConfigError, DataError
from drc.gtid import GtidSet
from drc.rows.images import column_walkers
from drc.schema import ledger
from drc.schema.servers import foreign_uuids
from drc.source.recorded import recorded
from drc.source.resume import native_set

_COUNT_S = 15.0  # for reading binlogs to count rows; then the rest is not counted
_READER = "reposition"


@dataclass(frozen=True, slots=True)
class Counted:
    """Row changes by table, such as ``{"shop.t": 7}``; ``all`` is False after a timeout."""

    rows: dict[str, int] = field(default_factory=dict)
    all: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The fate of an origin's native transactions when their stream goes on from ``to``.

    All sets but ``already_read`` hold transactions of the origin only.

    :param to: the transactions that count as read.
    :param already_read: all GTIDs that the next session does not read.
    :param repeated: decided, and read again.
    :param skipped: not decided, and passed over.
    :param gone: decided, and not read again, because the origin has purged these.
    :param lost: not decided, and purged at the origin: lost wherever the stream begins.
    :param unknown: part of ``to``, and never executed at the origin.
    """

    origin: str
    target: str
    to: GtidSet
    already_read: GtidSet
    repeated: GtidSet
    skipped: GtidSet
    gone: GtidSet
    lost: GtidSet
    unknown: GtidSet
    repeats: Counted = field(default_factory=Counted)
    skips: Counted = field(default_factory=Counted)

    @property
    def refusal(self) -> DataError | None:
        """Return the error that forbids the plan without force; None for a harmless plan."""
        if self.unknown:
            return DataError(
                f"{self.origin} has never executed {self.unknown}",
                gtid=str(self.unknown),
                hint=f"name a set that is part of gtid_executed of {self.origin}",
            )
        if self.skipped or self.lost:
            missing = self.skipped | self.lost
            return DataError(
                f"{len(missing):,} transactions of {self.origin} are not decided at"
                f" {self.target} and never would be applied: {missing}",
                gtid=str(missing),
                hint="let the stream apply these transactions first; or repair their rows by hand"
                " and use --force with --reason",
            )
        return None

    @property
    def forcible(self) -> bool:
        """Return whether ``--force`` may override the refusal."""
        return not self.unknown

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON values; docs/operations/control.md has the keys."""
        refusal = self.refusal
        return {
            "origin": self.origin,
            "target": self.target,
            "to": str(self.to),
            "harmless": refusal is None,
            "refusal": refusal.message if refusal else None,
            "repeated": _part(self.repeated, self.repeats),
            "skipped": _part(self.skipped, self.skips),
            "purged": {"transactions": len(self.gone), "gtids": str(self.gone)},
            "lost": {"transactions": len(self.lost), "gtids": str(self.lost)},
            "unknown": str(self.unknown),
        }


def judge(
    origin: str,
    target: str,
    to: GtidSet,
    *,
    decided: GtidSet,
    executed: GtidSet,
    purged: GtidSet,
    foreign: AbstractSet[bytes],
) -> Plan:
    """Compare a new place with the decided set and the origin's binlog; pure.

    :param to: the GTIDs that are to count as read, such as
        ``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-90``; GTIDs of other sites do not matter.
    :param decided: the GTIDs that are decided at the target, the given up included.
    :param executed: the origin's ``gtid_executed``.
    :param purged: the origin's ``gtid_purged``.
    :param foreign: server UUIDs of all other sites.
    """
    wanted, known = native_set(to, foreign), native_set(decided, foreign)
    gone = native_set(purged, foreign)
    behind = known - wanted
    repeated = behind - gone
    return Plan(
        origin,
        target,
        to=wanted,
        already_read=decided - repeated,
        repeated=repeated,
        skipped=(wanted & executed) - known - gone,
        gone=behind & gone,
        lost=gone - known,
        unknown=wanted - executed,
    )


def plan(config: Config, origin: str, target: str, text: str, *, count: bool = True) -> Plan:
    """Ask both sites for the consequences of the place ``text``.

    :param text: a GTID set, a time such as ``2026-11-24T03:00:00Z``, or an offset of the topic,
        such as ``4711``.
    :param count: count the rows concerned in the origin's binlog, for 15 s at most.
    :raises ConfigError: ``text`` is not such a place, or the stream has no ledger row yet.
    :raises DrcError: a site or Kafka does not answer.
    """
    with contextlib.closing(mysql.connect(config, origin, "source")) as conn:
        facts = mysql.server_facts(conn)
        to = _place(config, conn, origin, text)
    with contextlib.closing(mysql.connect(config, target, "applier")) as conn:
        state = ledger.read(conn, origin)
    if state is None:
        raise ConfigError(
            f"the stream {origin} {target} has not begun",
            hint="set replicate.start: that key says where a new stream begins",
        )
    foreign = foreign_uuids(config, origin, at=target)
    found = judge(
        origin,
        target,
        to,
        decided=state.decided,
        executed=facts.gtid_executed,
        purged=facts.gtid_purged,
        foreign=foreign,
    )
    if not count or not (found.repeated or found.skipped):
        return found
    repeats, skips = _counted(config, origin, facts.gtid_executed, found)
    return replace(found, repeats=repeats, skips=skips)


def _part(gtids: GtidSet, counted: Counted) -> dict[str, Any]:
    return {
        "transactions": len(gtids),
        "gtids": str(gtids),
        "rows": counted.rows,
        "rows_complete": counted.all,
    }


# ------------------------------------------------------------ which place is meant


def _place(config: Config, conn: mysql.Connection, origin: str, text: str) -> GtidSet:
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        return _at_offset(config, origin, int(text))
    if re.match(r"\d{4}-\d\d-\d\d", text) and not re.match(r"[0-9a-fA-F]{8}-", text):
        return _at_time(config, conn, origin, _instant(text))
    return GtidSet.parse(text)


def _at_offset(config: Config, origin: str, offset: int) -> GtidSet:
    if config.log != "kafka":
        raise ConfigError(
            "an offset is a place in a topic, and this pair has no Kafka between the sites",
            hint="set --to to a GTID set or a time",
        )
    from drc.kafka.topic import open_topic  # not loaded where Kafka is not used

    with contextlib.closing(open_topic(config, origin)) as topic:
        return topic.covered_before(offset)


def _instant(text: str) -> int:
    """Return a time in microseconds since the epoch."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not a valid time", hint="set a time such as 2026-11-24T03:00:00Z"
        ) from error
    if at.tzinfo is None:
        raise ConfigError(
            f"{text} is not a valid time: the time zone is missing",
            hint=f"append Z for UTC: {text}Z",
        )
    return int(at.timestamp() * 1e6)


def _at_time(config: Config, conn: mysql.Connection, origin: str, at_us: int) -> GtidSet:
    """Return the GTIDs that the origin had executed at a time, as far as its binlogs reach back.

    :param at_us: microseconds since the epoch.
    """
    files = [str(row[0]) for row in mysql.ask(conn, "SHOW BINARY LOGS")]
    low, high = 0, len(files)  # searches the last file that begins before at_us
    while high - low > 1:
        middle = (low + high) // 2
        first = _first_us(config, origin, _before_file(conn, files[middle]))
        low, high = (middle, high) if first is not None and first <= at_us else (low, middle)
    out = _before_file(conn, files[low])
    for transactions in recorded(config, origin, out, reader=_READER):
        for transaction in transactions:
            if transaction.commit_us > at_us:
                return out
            out.add(transaction.gtid)
    return out


def _before_file(conn: mysql.Connection, name: str) -> GtidSet:
    """Return the GTIDs that were executed before a binlog file began."""
    rows = mysql.ask(conn, "SHOW BINLOG EVENTS IN %s LIMIT 3", (name,))
    text = next((str(row[5]) for row in rows if row[2] == "Previous_gtids"), "")
    return GtidSet.parse(text)


def _first_us(config: Config, origin: str, before: GtidSet) -> int | None:
    found = next(recorded(config, origin, before, reader=_READER), None)
    return found[0].commit_us if found else None


# ------------------------------------------------------------ rows


def _counted(
    config: Config, origin: str, executed: GtidSet, found: Plan
) -> tuple[Counted, Counted]:
    """Count the row changes of repeated and of skipped transactions, by table."""
    repeats, skips = Counter[str](), Counter[str]()
    left = len(found.repeated) + len(found.skipped)
    deadline = time.monotonic() + _COUNT_S
    others = executed - found.repeated - found.skipped
    for transactions in recorded(config, origin, others, reader=_READER):
        for transaction in transactions:
            into = repeats if transaction.gtid in found.repeated else skips
            into.update(_rows(transaction))
            left -= transaction.last
        if time.monotonic() > deadline:
            break
    return Counted(dict(repeats), all=not left), Counted(dict(skips), all=not left)


def _rows(transaction: RawTransaction) -> Counter[str]:
    """Return the row changes of a transaction, by table."""
    out, data = Counter[str](), transaction.data
    tables: dict[int, TableMap] = {}
    for kind, at, end in transaction.spans():
        if kind == ev.TABLE_MAP:
            table = ev.parse_table_map(bytes(data[at + ev.HEADER_BYTES : end]))
            tables[table.table_id] = table
        elif kind in ev.ROWS_EVENTS:
            table_id, body = ev.rows_header(data, at)
            if found := tables.get(table_id):
                out[found.name] += _images(found, kind, data, body, end)
    return out


def _images(table: TableMap, kind: int, data: bytes, at: int, end: int) -> int:
    """Return the number of rows that an event changes; 1 for partial images, as a lower bound."""
    pair = kind in (ev.UPDATE_ROWS, ev.UPDATE_ROWS_V1, ev.PARTIAL_UPDATE_ROWS)
    walkers = column_walkers(table, ())
    size, (_, at) = walkers.null_bytes, ev.lenenc(data, at)
    whole = all(
        data[at + n * size : at + (n + 1) * size] == table.full_bitmap for n in range(1 + pair)
    )
    if not whole or kind == ev.PARTIAL_UPDATE_ROWS:
        return 1
    at, images = at + size * (1 + pair), 0
    while at < end:
        at, _ = walkers[bytes(data[at : at + size])](data, at)
        images += 1
    return images // (1 + pair)
