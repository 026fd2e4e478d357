"""Row packets: streams the rows of a query as raw bytes, row by row. Edge.

The driver's unbuffered cursor sends the query; the row packets are then taken from the socket
unchanged. Rows of two sites are equal when their packets are equal, so most rows are never split
into fields. A comparison is therefore about five times as fast as through the cursor.

1. At most a single row is in memory.
2. A broken connection is an error, never the end of the rows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from drc.binlog.events import lenenc
from drc.errors import TransientError
from drc.mysql import Connection, translate

_PACKET_MAX = 0xFFFFFF  # a longer payload continues in the next packet
_NULL, _EOF, _ERROR = 0xFB, 0xFE, 0xFF


def stream(conn: Connection, sql: str) -> Iterator[bytes]:
    """Yield the row packets of a query; the connection is busy until the last packet is taken.

    :raises DrcError: classed by errno; TransientError when the connection breaks.
    """
    try:
        cursor = SSCursor(conn)
        cursor.execute(sql)
    except pymysql.MySQLError as error:
        raise translate(error) from error
    # The driver has no public access to the bytes of a row, hence the private attributes.
    result: Any = cursor._result  # type: ignore[attr-defined]
    read = conn._rfile.read  # type: ignore[attr-defined]
    done = False
    try:
        while not done:
            payload = _payload(read)
            first = payload[0]
            done = (first == _EOF and len(payload) < 9) or first == _ERROR
            if first == _ERROR:
                (errno,) = struct.unpack_from("<H", payload, 1)
                text = payload[9:].decode("utf-8", "replace")
                raise translate(pymysql.err.OperationalError(errno, text), stage="compare")
            if not done:
                yield payload
    finally:
        result.unbuffered_active, result.connection = False, None
        if not done:  # rows are still on the way, so the connection has no further use
            conn._force_close()  # type: ignore[attr-defined]


def _payload(read: Any) -> bytes:
    """Read a protocol payload, which is one packet or several."""
    parts: list[bytes] = []
    while True:
        header = read(4)
        size = int.from_bytes(header[:3], "little")
        body: bytes = read(size)
        if len(header) < 4 or len(body) < size:
            raise TransientError(
                "the connection broke during a comparison",
                stage="compare",
                hint="run the comparison again",
            )
        if size < _PACKET_MAX and not parts:
            return body
        parts.append(body)
        if size < _PACKET_MAX:
            return b"".join(parts)


def fields(payload: bytes) -> list[bytes | None]:
    """Split a row packet into fields; NULL is None."""
    out: list[bytes | None] = []
    at = 0
    while at < len(payload):
        if payload[at] == _NULL:
            out.append(None)
            at += 1
            continue
        size, at = lenenc(payload, at)
        out.append(payload[at : at + size])
        at += size
    return out
