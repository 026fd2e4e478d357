"""Lane: a connection to the target that applies batches by ``BINLOG``. Edge.

1. The ledger row is the first row change of every transaction here. The ledger statement changes
   exactly 1 row, or the transaction is rolled back.
2. Nothing is overwritten: ``BINLOG`` runs in STRICT mode, so an existing key (1062) or a missing
   row (1032) is an error.
3. ``gtid_next`` is set after the format description event, because that event resets the variable.
4. COMMIT is sent only after every earlier reply was read and was good.

A lane does not know order, retries or other lanes, which are the conveyor's.
"""

from __future__ import annotations

import struct
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pymysql
from isal.isal_zlib import crc32
from pymysql.constants import CLIENT, COMMAND
from pymysql.cursors import DictCursor

from drc import mysql
from drc.binlog.events import Buffer, TableMap
from drc.binlog.framing import Position
from drc.errors import NO_RIGHT, DataError, DrcError, TransientError
from drc.mysql import translate
from drc.rows import literals
from drc.rows.changes import Changes, as_events
from drc.schema import ledger

Connect = Callable[[int], "pymysql.Connection[Any]"]  # client flag → connection

# Source: MySQL 9.7 manual 29.12.13.2. A lock that was implicit until a session waited for the lock
# is listed under the waiting session. A wait of drc's own next batch hurts no user.
_AWAITED = (
    "SELECT EXISTS (SELECT 1 FROM performance_schema.data_lock_waits w"
    " JOIN performance_schema.threads t ON t.THREAD_ID = w.REQUESTING_THREAD_ID"
    " WHERE w.BLOCKING_THREAD_ID IN (PS_CURRENT_THREAD_ID(), w.REQUESTING_THREAD_ID)"
    " AND t.PROCESSLIST_USER <> SUBSTRING_INDEX(USER(), '@', 1))"
)
_PACKET_MAX = 0xFFFFFF
_ENCODE_BYTES = 3 << 20  # base64 of a multiple of three needs no padding inside the text


class Lane:
    """A session that applies; not safe for several threads at once.

    :param format_description: the source's format description event as received.
    :param tag: write transactions under the GTID tag ``drc`` (server 8.3 or newer).
    :param epoch: the epoch of the lease under which ledger rows are written.
    """

    def __init__(
        self,
        connect: Connect,
        format_description: bytes,
        *,
        tag: bool,
        lock_wait_s: int,
        epoch: int = 0,
    ) -> None:
        self.epoch = epoch
        self._conn = connect(CLIENT.MULTI_STATEMENTS)
        self._status = mysql.binlog_status_sql(self._conn)
        fde = b2a_base64(without_checksum(format_description), newline=False)
        for sql in (
            literals.SESSION,
            "SET SESSION transaction_isolation='READ-COMMITTED', foreign_key_checks=0,"
            f" innodb_lock_wait_timeout={lock_wait_s}, autocommit=1",
            f"BINLOG '{fde.decode()}'",
            "SET gtid_next='AUTOMATIC:drc'" if tag else "SET gtid_next='AUTOMATIC'",
        ):
            self._query(sql)

    def render(self, changes: Changes) -> list[Buffer]:
        """Return changes as the events of one ``BINLOG`` statement."""
        return as_events(changes)

    def begin(
        self, ledger_sql: str, rendered: Sequence[Buffer], *, ask_end: bool = False
    ) -> Position | None:
        """Open a transaction, write the ledger row, apply ``rendered``: in a single round trip.

        :param ask_end: also return the end of the server's binlog after that, with all locks held.
        :raises DrcError: classed by errno; the caller must roll back.
        """
        head = f"BEGIN;{ledger_sql}".encode()
        self._send(head + b";" if rendered else head, rendered)
        if ask_end:
            self._send_behind(self._status)
        changed, refused, end = None, None, None
        try:
            self._reply()
            self._reply()
            changed = self._conn._affected_rows  # type: ignore[attr-defined]
            if rendered:
                self._reply()
        except DrcError as error:
            refused = error
        if ask_end:
            end = self._end_behind()
        if changed is not None and changed != 1:
            self.require_lease()
            # Mostly a commit by this daemon in the past: the daemon was killed during the commit,
            # which succeeded after the ledger was read. The next session reads the ledger again.
            raise TransientError(
                "cannot write the ledger row: the ledger is not as the session read it,"
                " because another applier is or was at work",
                stage="apply",
                hint="stop one of two daemons that replicate into this site, if this repeats",
            )
        if refused:
            raise refused
        return end

    def require_lease(self) -> None:
        """Check that this lane's lease is the newest, for work outside a ledger transaction.

        :raises TransientError: another daemon has taken over.
        """
        ((newest,),) = self.rows(ledger.NEWEST_EPOCH)
        if int(str(newest)) > self.epoch:
            raise ledger.fenced()

    def awaited(self) -> bool:
        """Return True if a local user waits, or may wait, for a lock of the open transaction.

        Also returns True if the account has no right to ask.
        """
        try:
            ((found,),) = self.rows(_AWAITED)
        except DrcError as error:
            if error.errno not in NO_RIGHT:
                raise
            return True
        return bool(found)

    @property
    def connection(self) -> int:
        """Return the server's number for this session."""
        return int(self._conn.thread_id())  # type: ignore[no-untyped-call]

    def lock_gaps(self) -> None:
        """Let locking reads of the next transaction also lock the gaps of absent rows."""
        self._query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def apply(self, events: Sequence[Buffer]) -> None:
        """Apply more events in the open transaction."""
        self._send(b"", events)
        self._reply()

    def commit(self) -> None:
        """Commit.

        :raises TransientError: the link broke; the ledger tells whether the commit succeeded.
        """
        self._query("COMMIT")

    def rollback(self) -> None:
        """Undo the open transaction."""
        self._query("ROLLBACK")

    def execute(self, sql: str | bytes) -> None:
        """Run a statement of drc or, for DDL, of the origin."""
        self._query(sql)

    def rows(self, sql: str) -> tuple[tuple[object, ...], ...]:
        """Run a query and return its rows."""
        self._query(sql)
        result = self._conn._result  # type: ignore[attr-defined]
        return tuple(result.rows or ())

    def row(self, sql: str) -> dict[str, Any] | None:
        """Run a query for a single row; return the values by column, None without a row."""
        with self._conn.cursor(DictCursor) as cursor:
            try:
                cursor.execute(sql)
            except pymysql.MySQLError as error:
                raise _refused(error) from error
            return cursor.fetchone()

    def locked(self, table: TableMap, where: str) -> dict[str, Any] | None:
        """Lock a row; return the values by column, invisible columns too; None without a row.

        :param where: SQL condition that is true for that row alone.
        """
        columns = ", ".join(literals.quote(column.name) for column in table.columns)
        name = literals.table_name(table)
        return self.row(f"SELECT {columns} FROM {name} WHERE {where} FOR UPDATE")

    def run(self, sql: str, values: Sequence[Any]) -> None:
        """Run a statement of drc with bound values."""
        with self._conn.cursor() as cursor:
            self._query(cursor.mogrify(sql, tuple(values)))

    @property
    def changed(self) -> int:
        """Return the number of rows that the last statement of :meth:`run` changed."""
        count: int = self._conn._affected_rows  # type: ignore[attr-defined]
        return count

    @property
    def found(self) -> tuple[tuple[Any, ...], ...]:
        """Return the rows that a query of :meth:`run` found."""
        return tuple(self._conn._result.rows or ())  # type: ignore[attr-defined]

    def end_position(self) -> Position:
        """Return the position where the server's binlog ends now."""
        self._query(self._status)
        return self._position()

    def _position(self) -> Position:
        ((file, offset, *_),) = self._conn._result.rows  # type: ignore[attr-defined]
        return Position(str(file), int(str(offset)))

    def close(self) -> None:
        """Drop the connection; the server rolls back an open transaction."""
        self._conn._force_close()  # type: ignore[attr-defined]

    # ------------------------------------------------------------ protocol

    def _query(self, sql: str | bytes) -> None:
        try:
            self._conn.query(sql)
        except pymysql.MySQLError as error:
            raise _refused(error) from error

    def _send(self, head: bytes, events: Sequence[Buffer]) -> None:
        """Send ``head`` and, as the last statement, the events, without reading replies."""
        conn, size = self._conn, sum(map(len, events))
        try:
            if size <= _ENCODE_BYTES:
                raw = b2a_base64(b"".join(events), newline=False)
                body = b"%sBINLOG '%s'" % (head, raw) if raw else head
                conn._execute_command(COMMAND.COM_QUERY, body)  # type: ignore[attr-defined]
            else:
                self._stream(head, events, size)
        except pymysql.MySQLError as error:
            raise _refused(error) from error

    def _stream(self, head: bytes, events: Sequence[Buffer], size: int) -> None:
        """Send a statement of any size without building it in memory."""
        conn = self._conn
        left = 1 + len(head) + 8 + (size + 2) // 3 * 4 + 1
        pieces = _binlog_pieces(head, events)
        seq, rest = 0, b""
        while True:
            length = room = min(left, _PACKET_MAX)
            conn._write_bytes(struct.pack("<I", length | seq << 24))  # type: ignore[attr-defined]
            while room:
                piece = rest or next(pieces)
                conn._write_bytes(piece[:room])  # type: ignore[attr-defined]
                rest, room = piece[room:], room - min(room, len(piece))
            seq = (seq + 1) & 0xFF
            left -= length
            if length < _PACKET_MAX:
                break
        conn._next_seq_id = seq  # type: ignore[attr-defined]

    def _send_behind(self, sql: str) -> None:
        """Send a command before the previous reply is read.

        The server runs both commands, first the previous, and the wait is no round trip longer.
        """
        conn = self._conn
        numbered = conn._next_seq_id  # type: ignore[attr-defined]
        try:
            conn._execute_command(COMMAND.COM_QUERY, sql)  # type: ignore[attr-defined]
        except pymysql.MySQLError as error:
            raise _refused(error) from error
        conn._next_seq_id = numbered  # type: ignore[attr-defined]

    def _end_behind(self) -> Position:
        """Read the reply to :meth:`_send_behind`, the end of the binlog."""
        self._conn._next_seq_id = 1  # type: ignore[attr-defined]
        self._reply()
        return self._position()

    def _reply(self) -> None:
        """Read the reply to the next statement."""
        conn = self._conn
        try:
            conn._affected_rows = conn._read_query_result(unbuffered=False)  # type: ignore[attr-defined]
        except pymysql.MySQLError as error:
            raise _refused(error) from error


def _binlog_pieces(head: bytes, events: Sequence[Buffer]) -> Iterator[bytes]:
    """Yield a ``BINLOG`` statement piece by piece."""
    yield b"\x03" + head + b"BINLOG '"
    held = bytearray()
    for event in events:
        for at in range(0, len(event), _ENCODE_BYTES):
            held += event[at : at + _ENCODE_BYTES]
            if len(held) >= _ENCODE_BYTES:
                yield b2a_base64(held[:_ENCODE_BYTES], newline=False)
                del held[:_ENCODE_BYTES]
    yield b2a_base64(held, newline=False) if held else b""
    yield b"'"


def without_checksum(format_description: bytes) -> bytes:
    """Return the event, changed to announce events without checksums, with a valid checksum."""
    plain = bytearray(format_description)
    plain[-5] = 0
    plain[-4:] = struct.pack("<I", crc32(bytes(plain[:-4])))
    return bytes(plain)


def _refused(error: pymysql.MySQLError) -> DrcError:
    """Class an error of the target; an errno that no table lists concerns the data."""
    return translate(error, stage="apply", default=DataError)
