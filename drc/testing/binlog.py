"""FakeBinlog: builds the bytes that a MySQL source would send, event by event.

The bytes have the real layouts, checksums included. The only table shape is an integer and texts:
that is enough to test framing and netting, as row values are opaque to both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drc.binlog import events as ev
from drc.gtid import Gtid

_PACKET_MAX = 0xFFFFFF


@dataclass(frozen=True)
class FakeTable:
    """A table of ``id INT`` primary key and nullable ``VARCHAR(1000)`` columns ``c1 …``."""

    table_id: int
    schema: str
    name: str
    texts: int = 1

    def body(self) -> bytes:
        """Return the body of the TABLE_MAP event, with full metadata."""
        count = 1 + self.texts
        meta = struct.pack("<H", 1000) * self.texts
        names = b"".join(
            bytes((len(n),)) + n for n in [b"id", *(b"c%d" % i for i in range(1, count))]
        )
        nulls = ((1 << count) - 2).to_bytes((count + 7) // 8, "little")
        optional = _tlv(1, b"\0") + _tlv(2, b"\x3f") + _tlv(4, names) + _tlv(8, b"\0")
        return b"".join(
            (
                self.table_id.to_bytes(6, "little") + b"\x01\0",
                _name(self.schema) + _name(self.name),
                ev.pack_lenenc(count) + b"\x03" + b"\x0f" * self.texts,
                ev.pack_lenenc(len(meta)) + meta + nulls + optional,
            )
        )

    def image(self, key: int, *texts: bytes | None) -> bytes:
        """Return a full row image.

        :param key: the value of ``id``.
        :param texts: the values of ``c1 …``; None is NULL.
        """
        bits = sum(1 << (i + 1) for i, t in enumerate(texts) if t is None)
        nulls = bits.to_bytes((self.texts + 8) // 8, "little")
        values = [struct.pack("<H", len(t)) + t for t in texts if t is not None]
        return nulls + struct.pack("<i", key) + b"".join(values)


def _name(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw + b"\0"


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + ev.pack_lenenc(len(value)) + value


def packets(event: bytes) -> bytes:
    """Return an event as MySQL packets, with the OK byte before the event."""
    payload, out, seq = b"\0" + event, [], 0
    while True:
        piece, payload = payload[:_PACKET_MAX], payload[_PACKET_MAX:]
        out.append(struct.pack("<I", len(piece) | seq << 24) + piece)
        seq = (seq + 1) & 0xFF
        if len(piece) < _PACKET_MAX:
            return b"".join(out)


class FakeBinlog:
    """A stream of events; each method appends an event, :attr:`data` holds the packets."""

    def __init__(self, uuid: bytes = b"\xaa" * 16, *, checksums: bool = True) -> None:
        self.uuid = uuid
        self.data = bytearray()
        self._checksums = checksums
        self._position = 4
        self._gno = 0
        body = struct.pack("<H50sIB", 4, b"9.7.4", 0, 19) + bytes(42)
        self._event(ev.FORMAT_DESCRIPTION, body + bytes((checksums,)), force_checksum=True)

    def _event(
        self, kind: int, body: bytes, flags: int = 0, *, force_checksum: bool = False
    ) -> None:
        self.data += packets(self.event(kind, body, flags=flags, force_checksum=force_checksum))

    def event(
        self, kind: int, body: bytes, *, flags: int = 0, force_checksum: bool = False
    ) -> bytes:
        """Return the bytes of an event at the current position; the event is not appended."""
        checksum = self._checksums or force_checksum
        size = ev.HEADER_BYTES + len(body) + 4 * checksum
        self._position += size
        raw = struct.pack("<IBIIIH", 1, kind, 1, size, self._position & 0xFFFFFFFF, flags) + body
        return raw + struct.pack("<I", zlib.crc32(raw)) if checksum else raw

    def raw(self, kind: int, body: bytes, *, flags: int = 0) -> FakeBinlog:
        """Append an event of any type.

        :param kind: the event type, for example ``drc.binlog.events.XID``.
        """
        self._event(kind, body, flags)
        return self

    def gtid(self, gno: int | None = None, commit_us: int = 1_000_000) -> Gtid:
        """Append a GTID event; return the GTID.

        :param gno: by default the number after the newest.
        :param commit_us: the commit time, in microseconds since 1970.
        """
        self._gno = gno if gno is not None else self._gno + 1
        body = struct.pack("<B16sqBqq", 0, self.uuid, self._gno, 2, 0, 1)
        self._event(ev.GTID, body + commit_us.to_bytes(7, "little") + b"\x00" + bytes(4))
        return Gtid(self.uuid, self._gno)

    def query(self, sql: bytes, schema: bytes = b"") -> FakeBinlog:
        """Append a QUERY event without session state."""
        head = struct.pack("<IIBHH", 1, 0, len(schema), 0, 0)
        return self.raw(ev.QUERY, head + schema + b"\0" + sql)

    def begin(self) -> FakeBinlog:
        """Append BEGIN."""
        return self.query(b"BEGIN")

    def xid(self) -> FakeBinlog:
        """Append XID, the commit."""
        return self.raw(ev.XID, bytes(8))

    def rotate(self, name: str) -> FakeBinlog:
        """Append a rotation to the file ``name``."""
        self.raw(ev.ROTATE, struct.pack("<Q", 4) + name.encode())
        self._position = 4
        return self

    def rows(self, table: FakeTable, kind: int, images: Sequence[bytes]) -> FakeBinlog:
        """Append the table map and a rows event.

        :param kind: the event type, for example ``drc.binlog.events.WRITE_ROWS``.
        :param images: row images; of updates the image before and the image after, alternating.
        """
        self.raw(ev.TABLE_MAP, table.body())
        size = (table.texts + 8) // 8
        bitmap = b"\xff" * size * (2 if kind == ev.UPDATE_ROWS else 1)
        head = table.table_id.to_bytes(6, "little") + b"\x01\0\x02\0"
        body = head + ev.pack_lenenc(1 + table.texts) + bitmap + b"".join(images)
        return self.raw(kind, body)

    def transaction(
        self, table: FakeTable, changes: Iterable[tuple[int, Sequence[bytes]]], **gtid: int
    ) -> Gtid:
        """Append a whole transaction; return the GTID.

        :param changes: (rows event type, row images) of each rows event.
        :param gtid: arguments of :meth:`gtid`.
        """
        name = self.gtid(**gtid)
        self.begin()
        for kind, images in changes:
            self.rows(table, kind, images)
        self.xid()
        return name
