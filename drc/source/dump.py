"""The dump protocol: asks a server for the binlog after a GTID set. Edge.

Source: MySQL source ``sql/rpl_binlog_sender.cc``; session variables as a replica sets them.
"""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator

from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.mysql import Connection, ask

_COM_BINLOG_DUMP_GTID = 0x1E
_BINLOG_SEND_HEARTBEAT_V2 = 0x02
_BINLOG_THROUGH_GTID = 0x04
_READ_BYTES = 1 << 18
# Missed heartbeats that end the link: a TCP peer may vanish without closing the connection.
_HEARTBEATS_MISSED = 5


def start_dump(
    conn: Connection,
    already_read: GtidSet,
    *,
    server_id: int,
    stream: str,
    heartbeat_s: float,
) -> socket.socket:
    """Send the dump command; return the socket from which binlog packets now come.

    :param already_read: GTIDs that the server must not send.
    :param stream: the name of this reader, for example ``shanghai->beijing``. A second reader of
        the same name replaces the first, as the server ends the older dump of a replica UUID.
    :raises DrcError: the session cannot be set up.
    """
    replica = uuid.uuid5(uuid.NAMESPACE_URL, f"drc:{stream}:{server_id}")
    period = int(heartbeat_s * 1e9)
    ask(
        conn,
        "SET @source_binlog_checksum='CRC32', @master_binlog_checksum='CRC32',"
        " @source_heartbeat_period=%s, @master_heartbeat_period=%s,"
        " @replica_uuid=%s, @slave_uuid=%s",
        (period, period, str(replica), str(replica)),
    )
    encoded = already_read.encode()
    flags = _BINLOG_THROUGH_GTID | _BINLOG_SEND_HEARTBEAT_V2
    payload = struct.pack("<BHIIQI", _COM_BINLOG_DUMP_GTID, flags, server_id, 0, 4, len(encoded))
    sock: socket.socket = conn._sock  # type: ignore[attr-defined]
    sock.settimeout(heartbeat_s * _HEARTBEATS_MISSED)
    body = payload + encoded
    # Protocol::packets above 16 MiB do not occur: a GTID set is far smaller.
    sock.sendall(struct.pack("<I", len(body)) + body)
    return sock


def reads(sock: socket.socket) -> Iterator[bytes]:
    """Yield bytes from the network until the link ends.

    :raises TransientError: the link broke, or no packet came, not even a heartbeat.
    """
    buffer = bytearray(_READ_BYTES)  # reused: a new buffer costs more than a read
    view = memoryview(buffer)
    try:
        while size := sock.recv_into(buffer):
            yield bytes(view[:size])
    except TimeoutError as error:
        raise TransientError(
            "no heartbeat from the source", stage="read", hint="wait: drc connects again"
        ) from error
    except OSError as error:
        raise TransientError(f"link to the source broke: {error}", stage="read") from error
    raise TransientError("the source closed the link", stage="read")
