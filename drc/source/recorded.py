"""A site's binlog from a GTID set on, up to what the site has executed now. Edge."""

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
_PATIENCE_S = 60.0  # without one awaited transaction: the server is stuck, or its GTIDs are odd
_UNREAD_S = 86400  # whoever reads may take his time between two steps


def recorded(
    config: Config, site: str, already_read: GtidSet, *, reader: str
) -> Iterator[list[RawTransaction]]:
    """Yield transactions in the binlog's order, later ones than those executed now left out.

    :param skip: GTIDs not to read; what is purged is left out anyway.
    :param reader: names who reads: two of one name are told apart by process.
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
                    hint="are there GTIDs that were set by hand? read from a later set",
                )
