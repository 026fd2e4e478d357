"""Framer: cuts the bytes of a dump stream into transactions. Pure: no socket, no clock.

:class:`Framer` takes network reads of any size, cuts MySQL packets, verifies checksums by the
algorithm in the format description event, and groups events by GTID.

1. Between a GTID event and the end of the transaction, every event is known or an error,
   because an event that is skipped silently is a change that is lost silently.
2. A transaction is delivered complete, or as parts in order (see ``transaction.py``). After an
   error or a disconnect, an incomplete transaction is never delivered as ``last``.
3. Bytes are copied once, from the network read; all transactions of a read share the copy.
4. Memory is bounded by the streaming bound plus the size of an event.

Not here: rows, and the choice of the transactions that drc ships (``source/tagger.py``).

The loop in :meth:`Framer._cut` is the hottest of the reader, with about ten events for each
transaction: so methods handle the rare events, and the loop handles the common events inline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import zstandard
from isal.isal_zlib import crc32

from drc.binlog import events as ev
from drc.binlog.events import GtidAndTime, lenenc, parse_gtid, u16, u32
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DataError, InvariantError, PreflightError, TransientError, from_errno

_PACKET_MAX = 0xFFFFFF  # a longer payload continues in the next packet
_LARGE_EVENT_BYTES = 4 << 20  # assembled in a buffer of its own, without joining reads
# CRC32 over any bytes followed by their own CRC32, little-endian.
_CRC_RESIDUE = 0x2144DF1C
_UNWRAP_BYTES = 1 << 20  # decompressed at a time: a payload may expand without bound
_IDLE = frozenset({ev.STOP, ev.PREVIOUS_GTIDS, ev.HEARTBEAT, ev.HEARTBEAT_V2})


class Position(NamedTuple):
    """The end of an event, for example ``("binlog.000042", 1187)``.

    Positions compare in binlog order, because the names of binlog files count up.
    """

    file: str
    offset: int


class Framer:
    """Cut a dump stream into transactions.

    :param deliver: takes lists of transactions in binlog order; the call may block.
    :param stream_bytes: a transaction above this many bytes is delivered in parts.

    ``format_description`` is the newest format description event as received, checksum
    included; ``position`` is the end of the newest event of the last read.
    """

    def __init__(
        self, deliver: Callable[[list[RawTransaction]], None], stream_bytes: int = 8 << 20
    ) -> None:
        self._deliver = deliver
        self.format_description = b""
        self.position = Position("", 4)
        self._stream_bytes = stream_bytes
        self._checksum = 0
        self._rest = b""
        self._scan = 0  # offset in _rest of the first packet not yet cut
        self._large: _LargeEvent | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget the transaction that has just ended; afterwards no transaction is open."""
        self._gtid: GtidAndTime | None = None
        self._start = 0  # offset where the transaction or part begins; negative: before the buffer
        self._events: list[int] = []
        self._part = 0
        self._kind = TransactionKind.ROWS
        self._xid = b""
        self._begun = False
        self._plain = True  # no part yet, rows only: the hot loop may close the transaction

    def feed(self, data: bytes) -> None:
        """Take the bytes of a network read; deliver the transactions that these bytes complete.

        :raises DataError: an event cannot be replicated; the message names the event.
        :raises TransientError: a bad checksum, or the source ended the stream.
        """
        rest: bytes | None = self._feed_large(data) if self._large else data
        while rest is not None:
            rest = self._cut(rest)

    def _cut(self, data: bytes) -> bytes | None:
        """Cut packets; return the bytes after a large event, None when all bytes are used."""
        out: list[RawTransaction] = []
        buf = self._rest + data if self._rest else data
        view = memoryview(buf)
        size, pos, checksum, stream_bytes = len(buf), self._scan, self._checksum, self._stream_bytes
        gtid, start, events = self._gtid, self._start, self._events
        newest = -1
        while size - pos >= 9:  # an EOF packet is the shortest
            end = pos + 4 + (u32(buf, pos)[0] & 0xFFFFFF)
            if end > size:
                if end - pos >= _LARGE_EVENT_BYTES and size - pos >= 4 + 1 + ev.HEADER_BYTES:
                    self._gtid, self._start, self._events = gtid, start, events
                    return self._begin_large(buf, pos, out)
                break
            if buf[pos + 4]:
                _ended(buf, pos + 4, end)
            newest = at = pos + 5
            kind = buf[pos + 9]
            pos = end
            if checksum and kind != 15 and crc32(view[at:end]) != _CRC_RESIDUE:
                raise TransientError(
                    f"the checksum of a binlog event of type {kind} is not valid",
                    stage="read",
                    hint="check the source's disk if this repeats: drc reads the event again",
                )
            if (kind == 19 or 30 <= kind <= 32) and gtid and end - start <= stream_bytes:
                events.append(at)
            elif kind == 16 and gtid and self._plain:
                out.append(RawTransaction(gtid[0], gtid[1], buf, events, end - start, checksum))
                gtid, events = None, []
            elif kind == 33 and gtid is None:
                gtid, start, self._begun = parse_gtid(buf, at), at, False
            elif kind == 2 and gtid and buf[end - checksum - 6 : end - checksum] == b"\0BEGIN":
                self._begun = True
            else:
                self._gtid, self._start, self._events = gtid, start, events
                self._rare(kind, buf, at, end, out)
                gtid, start, events = self._gtid, self._start, self._events
                checksum = self._checksum
        self._gtid, self._start, self._events = gtid, start, events
        if newest >= 0:
            self.position = Position(self.position.file, u32(buf, newest + 13)[0])
        self._keep(buf, pos)
        self._flush(out)
        return None

    def _flush(self, out: list[RawTransaction]) -> None:
        """Deliver the transactions of ``out`` as a new list, which the receiver may keep."""
        if out:
            self._deliver(out[:])
            out.clear()

    def _keep(self, buf: bytes, pos: int) -> None:
        """Keep the bytes of the open transaction or incomplete packet for the next read."""
        start = self._events[0] if self._events else pos
        self._rest = buf[start:] if start < len(buf) else b""
        self._scan = pos - start
        self._events = [at - start for at in self._events]
        self._start -= start

    # ------------------------------------------------------------ ends of transactions

    def _close(self, buf: bytes, end: int) -> RawTransaction:
        """End and return the open transaction, or the last part of a large transaction."""
        if self._gtid is None:
            raise _outside(ev.XID)
        transaction = RawTransaction(
            self._gtid[0],
            self._gtid[1],
            buf,
            self._events,
            end - self._start,
            self._checksum,
            self._kind,
            self._xid,
        )
        transaction.part = self._part
        self._reset()
        return transaction

    def _close_part(self, buf: bytes, end: int, out: list[RawTransaction]) -> None:
        """Append the events so far of a large transaction to ``out``, as a part."""
        assert self._gtid is not None
        if self._kind is not TransactionKind.ROWS or self._xid:
            raise DataError(
                "cannot split an XA or CREATE … SELECT transaction: it is larger than"
                f" {self._stream_bytes} bytes",
                stage="read",
                gtid=self._name(),
                hint="raise apply.transaction_stream_bytes",
            )
        self._plain = False
        part = RawTransaction(
            self._gtid[0],
            self._gtid[1],
            buf,
            self._events,
            end - self._start,
            self._checksum,
        )
        out.append(part.as_part(self._part, last=False))
        self._part += 1
        self._events = []
        self._start = end

    # ------------------------------------------------------------ rare events

    def _rare(self, kind: int, buf: bytes, at: int, end: int, out: list[RawTransaction]) -> None:
        stop = end - self._checksum
        if self._gtid is not None:
            self._inside(kind, buf, at, stop, end, out)
        elif kind == ev.GTID_TAGGED:
            self._gtid, self._start = ev.parse_gtid_tagged(buf, at, stop), at
            self._begun = False
        elif kind == ev.ROTATE:
            if not self.format_description and crc32(buf[at:end]) == _CRC_RESIDUE:
                stop = end - 4  # this artificial event before the format description has a checksum
            name = buf[at + ev.HEADER_BYTES + 8 : stop].decode("utf-8")
            self.position = Position(name, 4)
        elif kind == ev.FORMAT_DESCRIPTION:
            self._format(buf, at, end)
        elif kind == ev.INCIDENT:
            raise DataError(
                "cannot read on: the source logged an INCIDENT event, which means lost events",
                stage="read",
                hint="compare both sites and repair, then run `drc reposition` past that event",
            )
        elif kind == ev.ANONYMOUS_GTID:
            raise PreflightError(
                "cannot read the binlog: the source writes transactions without GTID",
                stage="read",
                hint="set gtid_mode = ON with SET PERSIST, step by step: see the MySQL manual"
                " 19.1.4.2",
            )
        elif kind not in _IDLE and not u16(buf, at + 17)[0] & ev.IGNORABLE_FLAG:
            raise _outside(kind)

    def _inside(
        self, kind: int, buf: bytes, at: int, stop: int, end: int, out: list[RawTransaction]
    ) -> None:
        if kind == ev.QUERY:
            self._query(buf, at, stop, end, out)
        elif kind in ev.ROWS_EVENTS:
            self._events.append(at)
            if end - self._start > self._stream_bytes:
                self._close_part(buf, end, out)
        elif kind == ev.TABLE_MAP:
            self._events.append(at)
        elif kind == ev.XID:
            out.append(self._close(buf, end))
        elif kind == ev.TRANSACTION_PAYLOAD:
            self._payload(buf, at, stop, end, out)
        elif kind == ev.XA_PREPARE:
            # Flag set: the server committed in a single phase and logs no XA COMMIT.
            self._kind = (
                TransactionKind.ROWS if buf[at + ev.HEADER_BYTES] else TransactionKind.XA_PREPARE
            )
            out.append(self._close(buf, end))
        elif kind in (ev.ROWS_QUERY, ev.VIEW_CHANGE, ev.HEARTBEAT, ev.HEARTBEAT_V2):
            pass
        elif not u16(buf, at + 17)[0] & ev.IGNORABLE_FLAG:
            raise DataError(
                f"binlog event of type {kind} inside a transaction is not supported",
                stage="read",
                gtid=self._name(),
                hint="set binlog_format = ROW for every client, or upgrade drc",
            )

    def _query(self, buf: bytes, at: int, stop: int, end: int, out: list[RawTransaction]) -> None:
        """Handle a statement: begin or end of a transaction, a savepoint, or DDL."""
        sql = bytes(ev.query_text(buf, at, stop))
        word = sql[:24].upper()
        if word.startswith(b"XA START "):
            self._xid, self._begun, self._plain = sql[9:].strip(), True, False
        elif word.startswith((b"XA END", b"SAVEPOINT ")) or sql == b"BEGIN":
            self._begun = True
        elif word.startswith(b"XA COMMIT "):
            self._kind, self._xid = TransactionKind.XA_COMMIT, sql[10:].strip()
            out.append(self._close(buf, end))
        elif word.startswith(b"XA ROLLBACK "):
            self._kind, self._xid = TransactionKind.XA_ROLLBACK, sql[12:].strip()
            out.append(self._close(buf, end))
        elif sql == b"COMMIT":
            out.append(self._close(buf, end))
        elif word.startswith(b"ROLLBACK"):
            raise DataError(
                "cannot replicate a ROLLBACK in the binlog: a transaction changed a"
                " non-transactional table",
                stage="read",
                gtid=self._name(),
                hint="convert that table to InnoDB and repair the rows, then run `drc reposition`"
                " past this transaction",
            )
        else:
            self._kind, self._plain = TransactionKind.DDL, False
            self._events.append(at)
            if not self._begun:  # CREATE … SELECT goes on with rows and ends with an XID
                out.append(self._close(buf, end))

    def _format(self, buf: bytes, at: int, end: int) -> None:
        """Keep a format description event; the checksum algorithm is in the last five bytes."""
        self.format_description = bytes(buf[at:end])
        algorithm = buf[end - 5]
        if algorithm not in (0, 1):
            raise DataError(
                f"cannot read the binlog: checksum algorithm {algorithm} is unknown", stage="read"
            )
        self._checksum = 4 if algorithm else 0

    def _name(self) -> str:
        return str(self._gtid[0]) if self._gtid else ""

    # ------------------------------------------------------------ compressed payloads

    def _payload(self, buf: bytes, at: int, stop: int, end: int, out: list[RawTransaction]) -> None:
        """Unwrap a compressed transaction, which ends with the payload.

        The inner events carry no checksums; the checksum of the outer event has been verified.
        """
        start, body = _payload_fields(buf, at + ev.HEADER_BYTES)
        assert self._gtid is not None
        inner = _Unwrapped(self._gtid, end - self._start, self._stream_bytes)
        if body.get(2, 255) == 255:
            inner.feed(bytes(buf[start:stop]), out)
        elif body[2] == 0:
            reader = zstandard.ZstdDecompressor().stream_reader(memoryview(buf)[start:stop])
            size = min(body.get(3, _UNWRAP_BYTES), _UNWRAP_BYTES)
            while chunk := reader.read(size):
                inner.feed(chunk, out)
                if inner.parted:
                    self._flush(out)
        else:
            raise DataError(
                f"cannot unwrap a compressed transaction: algorithm {body[2]} is unknown",
                stage="read",
                gtid=self._name(),
                hint="upgrade drc",
            )
        inner.finish()
        self._reset()

    # ------------------------------------------------------------ large events

    def _begin_large(self, buf: bytes, pos: int, out: list[RawTransaction]) -> bytes | None:
        """Begin to assemble an event of many megabytes, possibly from several packets."""
        size = u32(buf, pos + 14)[0]
        if buf[pos + 4] or u32(buf, pos)[0] & _PACKET_MAX != min(size + 1, _PACKET_MAX):
            raise InvariantError(
                "cannot read a large packet: the packet is not an event", stage="read"
            )
        if self._events:
            self._close_part(buf, pos, out)
        self._flush(out)
        self._rest, self._scan = b"", 0
        self._large = _LargeEvent(size)
        return self._feed_large(memoryview(buf)[pos:])

    def _feed_large(self, data: bytes | memoryview) -> bytes | None:
        """Add bytes to the large event; return the bytes after a complete event, else None."""
        assert self._large is not None
        rest = self._large.feed(memoryview(data))
        if rest is None:
            return None
        event, self._large = self._large.event, None
        self._take_large(event)
        return bytes(rest)

    def _take_large(self, event: bytearray) -> None:
        end = len(event)
        if self._checksum and crc32(event) != _CRC_RESIDUE:
            raise TransientError("the checksum of a large binlog event is not valid", stage="read")
        out: list[RawTransaction] = []
        buf: bytes = event  # type: ignore[assignment]  # read only from here on
        self._start = 0
        if buf[4] in ev.ROWS_EVENTS and self._gtid:
            self._events.append(0)
            self._close_part(buf, end, out)
        else:
            self._rare(buf[4], buf, 0, end, out)
        self._start = 0
        self._flush(out)


class _LargeEvent:
    """An event assembled from packets of at most 16 MiB, without packet headers."""

    def __init__(self, size: int) -> None:
        self.event = bytearray(size)
        self._at = 0
        self._packet = 0  # bytes left of the current packet
        self._header = b""
        self._first = True

    def feed(self, data: memoryview) -> memoryview | None:
        """Copy the event's bytes; return the bytes after a complete event, else None."""
        pos = 0
        while self._at < len(self.event):
            if not self._packet:
                need = (5 if self._first else 4) - len(self._header)
                self._header += bytes(data[pos : pos + need])
                pos += need
                if len(self._header) < (5 if self._first else 4):
                    return None
                self._packet = (u32(self._header, 0)[0] & _PACKET_MAX) - self._first
                self._header, self._first = b"", False
                continue
            count = min(self._packet, len(data) - pos)
            if not count:
                return None
            self.event[self._at : self._at + count] = data[pos : pos + count]
            self._at += count
            self._packet -= count
            pos += count
        if (len(self.event) + 1) % _PACKET_MAX == 0 and self._at == len(self.event):
            return self._empty_packet(data[pos:])
        return data[pos:]

    def _empty_packet(self, data: memoryview) -> memoryview | None:
        """Skip the empty packet that ends a payload of an exact multiple of ``_PACKET_MAX``."""
        need = 4 - len(self._header)
        self._header += bytes(data[:need])
        return data[need:] if len(self._header) == 4 else None


class _Unwrapped:
    """Group the inner events of a payload into a transaction, in parts when large."""

    def __init__(self, gtid: GtidAndTime, size: int, stream_bytes: int) -> None:
        self._gtid = gtid
        self._size = size
        self._stream_bytes = stream_bytes
        self._rest = b""
        self._scan = 0
        self._events: list[int] = []
        self._part = 0
        self._ended = False

    def feed(self, data: bytes, out: list[RawTransaction]) -> None:
        buf, at = self._rest + data, self._scan
        while len(buf) - at >= ev.HEADER_BYTES:
            end = at + u32(buf, at + 9)[0]
            if end > len(buf):
                break
            kind = buf[at + 4]
            if kind == ev.TABLE_MAP or kind in ev.ROWS_EVENTS:
                self._events.append(at)
                if end > self._stream_bytes:
                    self._emit(buf[:end], out, last=False)
                    buf, end = buf[end:], 0
            elif kind == ev.XID:
                self._emit(buf, out, last=True)
                self._ended = True
            elif kind == ev.QUERY:
                self._query(buf, at, end, out)
            elif kind != ev.ROWS_QUERY and not u16(buf, at + 17)[0] & ev.IGNORABLE_FLAG:
                raise DataError(
                    f"binlog event of type {kind} inside a compressed transaction is not supported",
                    stage="read",
                    gtid=str(self._gtid[0]),
                    hint="upgrade drc",
                )
            at = end
        self._rest, self._scan = buf, at

    def _query(self, buf: bytes, at: int, end: int, out: list[RawTransaction]) -> None:
        sql = bytes(ev.query_text(buf, at, end))
        if sql == b"COMMIT":
            self._emit(buf, out, last=True)
            self._ended = True
        elif sql != b"BEGIN" and not sql[:10].upper().startswith(b"SAVEPOINT "):
            raise DataError(
                "a statement inside a compressed transaction is not supported: "
                + sql[:60].decode("utf-8", "replace"),
                stage="read",
                gtid=str(self._gtid[0]),
                hint="run the statement with binlog_transaction_compression = OFF",
            )

    def _emit(self, buf: bytes, out: list[RawTransaction], *, last: bool) -> None:
        size = self._size if last and not self._part else len(buf)
        part = RawTransaction(self._gtid[0], self._gtid[1], buf, self._events, size, 0)
        out.append(part.as_part(self._part, last=last))
        self._events = []
        self._part += 1

    @property
    def parted(self) -> bool:
        """Return True from the first part of a transaction until the transaction ends."""
        return self._part > 0 and not self._ended

    def finish(self) -> None:
        if not self._ended:
            raise InvariantError(
                "cannot unwrap a compressed transaction: the payload does not end the transaction",
                gtid=str(self._gtid[0]),
            )


def _payload_fields(buf: bytes, at: int) -> tuple[int, dict[int, int]]:
    """Return (offset of the payload, field type → value) of a payload event."""
    fields: dict[int, int] = {}
    while True:
        kind, at = lenenc(buf, at)
        if kind == 0:
            return at, fields
        length, at = lenenc(buf, at)
        fields[kind] = lenenc(buf, at)[0]
        at += length


def _outside(kind: int) -> InvariantError:
    return InvariantError(
        f"binlog event of type {kind} is not valid outside a transaction",
        stage="read",
        hint="report this as a bug of drc",
    )


def _ended(buf: bytes, at: int, end: int) -> None:
    """Raise the error that an ERR or EOF packet reports."""
    if buf[at] == 0xFF:
        errno = u16(buf, at + 1)[0]
        text = bytes(buf[at + 9 : end]).decode("utf-8", "replace")
        error = from_errno(errno, text, TransientError)
        if "same server_uuid" in text:  # another reader replaced this dump, see source/dump.py
            error.hint = "stop all daemons but one: another daemon reads this for the same site"
        raise error
    if buf[at] == 0xFE and end - at < 9:
        raise TransientError("the source ended the stream", stage="read")
    raise InvariantError(f"dump packet is not valid: first byte {buf[at]:#x}", stage="read")
