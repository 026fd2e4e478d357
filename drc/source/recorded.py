"""A site's binlog after a GTID set, up to the GTIDs that the site has executed now. Edge."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from drc import mysql
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.source.dump import reads, start_dump

_HEARTBEAT_S = 1.0
_PATIENCE_S = 60.0  # without an awaited one: the server hangs, or GTIDs are missing
_UNREAD_S = 86400  # the caller may take long between two steps


def recorded(
    config: Config, site: str, already_read: GtidSet, *, reader: str
) -> Iterator[list[RawTransaction]]:
    """Yield the transactions executed so far that are not in ``already_read``, in binlog order.

    :param already_read: GTIDs not to read; purged transactions are left out anyway.
    :param reader: the name of the reader, for example ``audit``; several processes may use a name.
    :raises DrcError: the site is away, or its binlog cannot be read.
    """
    conn = mysql.connect(config, site, "source")
    with contextlib.ExitStack() as stack:
        stack.callback(conn._force_close)  # type: ignore[attr-defined]
        facts = mysql.server_facts(conn)
        already_read = already_read | facts.gtid_purged
        wanted = facts.gtid_executed - already_read
        if not wanted:
            return
        mysql.ask(conn, f"SET SESSION net_write_timeout = {_UNREAD_S}")
        sock = start_dump(
            conn,
            already_read,
            server_id=config.dump_server_id(site, reader),
            stream=f"{reader}-{os.getpid()}",
            heartbeat_s=_HEARTBEAT_S,
        )
        batch: list[RawTransaction] = []
        framer = Framer(batch.extend)
        left, deadline = len(wanted), time.monotonic() + _PATIENCE_S
        for data in reads(sock):
            framer.feed(data)
            if found := [t for t in batch if t.gtid in wanted]:
                left -= sum(t.last for t in found)
                yield found
                deadline = time.monotonic() + _PATIENCE_S
            batch.clear()
            if not left:
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the binlog lacks {left} transactions of gtid_executed",
                    site=site,
                    stage=reader,
                    hint="check for GTIDs that were set by hand, and read from a later GTID set",
                )
