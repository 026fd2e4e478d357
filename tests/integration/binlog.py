"""The binlog of a server, for tests: whole transactions, their ends, and their rows."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import pymysql

from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.framing import Framer, Position
from drc.binlog.transaction import RawTransaction
from drc.gtid import GtidSet
from drc.rows.images import Walkers, column_walkers
from drc.sandbox.servers import SandboxSite
from drc.source.dump import reads, start_dump


class Change(NamedTuple):
    """A row of a rows event; an image is None where the row does not exist."""

    table: TableMap
    before: bytes | None
    after: bytes | None


def executed(site: SandboxSite) -> GtidSet:
    """Return the GTIDs that the server has executed."""
    return GtidSet.parse(site.query("SELECT @@GLOBAL.gtid_executed")[0][0])


def transactions(site: SandboxSite, since: GtidSet) -> Iterator[tuple[RawTransaction, Position]]:
    """Yield the transactions after ``since`` that are executed by now, each with its end."""
    wanted = executed(site) - since
    left = len(wanted)
    out: list[RawTransaction] = []
    framer = Framer(out.extend)
    conn = site.connect("drc_source")
    with contextlib.closing(_packets(conn, since)) as packets:
        while left:
            framer.feed(next(packets))
            for transaction in out:
                left -= transaction.last and transaction.gtid in wanted
                yield transaction, framer.position
            out.clear()
    conn._force_close()  # type: ignore[attr-defined]


def _packets(conn: pymysql.Connection[Any], since: GtidSet) -> Generator[bytes]:
    """Yield packet by packet: the position of the framer is that of the newest event."""
    buffer = b""
    sock = start_dump(conn, since, server_id=4000, stream="tests", heartbeat_s=1)
    for data in reads(sock):
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            end = at + 4 + int.from_bytes(buffer[at : at + 3], "little")
            if end > len(buffer):
                break
            yield buffer[at:end]
            at = end
        buffer = buffer[at:]


def changes(transaction: RawTransaction) -> Iterator[Change]:
    """Yield the row changes of a transaction with full images."""
    data, tables = transaction.data, {}
    for at in transaction.events:
        kind = data[at + 4]
        end = at + ev.u32(data, at + 9)[0] - transaction.checksum
        if kind == ev.TABLE_MAP:
            table, walkers = _parsed(bytes(data[at + ev.HEADER_BYTES : end]))
            tables[table.table_id] = table, walkers
        elif kind in ev.ROWS_EVENTS:
            table_id, body = ev.rows_header(data, at)
            table, walkers = tables[table_id]
            update = kind == ev.UPDATE_ROWS
            at = ev.lenenc(data, body)[1] + len(table.full_bitmap) * (1 + update)
            images = _images(walkers, data, at, end)
            if kind == ev.WRITE_ROWS:
                yield from (Change(table, None, after) for after in images)
            elif kind == ev.DELETE_ROWS:
                yield from (Change(table, before, None) for before in images)
            else:
                yield from (Change(table, *pair) for pair in zip(images, images, strict=True))


def _images(walkers: Walkers, data: bytes, at: int, end: int) -> Iterator[bytes]:
    while at < end:
        stop, _ = walkers[bytes(data[at : at + walkers.null_bytes])](data, at)
        yield bytes(data[at:stop])
        at = stop


@lru_cache(1024)
def _parsed(body: bytes) -> tuple[TableMap, Walkers]:
    table = ev.parse_table_map(body)
    return table, column_walkers(table, ())
