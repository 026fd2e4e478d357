"""A server's pulse: whether it answers, its clock, what it has executed; once a second. Edge.

One thread and one connection for each server, whatever it serves. It reads, and writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from drc import mysql
from drc.binlog.stamps import now_us
from drc.config import Config, Role
from drc.errors import DrcError
from drc.gtid import GtidSet
from drc.schema.servers import remembered_if_readable
from drc.schema.uuids import Servers
from drc.worker.stages import ClockOffset

_PERIOD_S = 1.0
_CLOCK = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"


class Look(NamedTuple):
    """What a server had executed, and when it said so, by our clock."""

    at_us: int
    executed: GtidSet


class Pulse:
    """Look at the server of ``site`` until closed.

    :param role: the account to ask as: ``source`` or ``applier``.
    :param also: called each second with the connection while the server answers; for questions
        that only now and then have a reason.

    ``look`` is None until it has answered once; ``error`` is why it does not answer now.
    """

    def __init__(
        self,
        config: Config,
        site: str,
        role: Role,
        also: Callable[[mysql.Connection], None] = lambda _: None,
    ) -> None:
        self._config, self._site, self._role, self._also = config, site, role, also
        self.offset = ClockOffset()
        self.look: Look | None = None  # one value, as others read it at any time
        self.uuid = b""
        # Of all sites, as this one remembers, and of this one, as seen here. It only grows.
        self.servers = Servers()
        self.error: DrcError | None = None
        self.away_us = 0
        self._conn: mysql.Connection | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pulse-{site}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a question under way is not waited for longer than its timeout."""
        self._closed.set()
        self._thread.join(3 * mysql.PEER_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                conn = self._conn or self._connect()
                self._look(conn)
                self._also(conn)
            except DrcError as error:
                self._lost(error)
            except Exception as error:  # a thread that explains must not end for what it met
                self._lost(mysql.translate(error))
            self._closed.wait(_PERIOD_S)
        self._drop()

    def _connect(self) -> mysql.Connection:
        wait_s = mysql.PEER_TIMEOUT_S
        conn = mysql.connect(
            self._config,
            self._site,
            self._role,
            connect_timeout=wait_s,
            read_timeout=wait_s,
        )
        self._conn = conn
        mysql.ask(conn, "SET SESSION time_zone = '+00:00'")
        self.uuid = mysql.server_facts(conn).server_uuid
        self.servers |= Servers.of((self._site, self.uuid)) | remembered_if_readable(conn)
        return conn

    def _look(self, conn: mysql.Connection) -> None:
        before = now_us()
        ((theirs,),) = mysql.ask(conn, _CLOCK)
        after = now_us()
        self.offset.answered(before, int(theirs), after)
        ((executed,),) = mysql.ask(conn, "SELECT @@GLOBAL.gtid_executed")
        self.look = Look(after, GtidSet.parse(executed))
        self.error, self.away_us = None, 0

    def _lost(self, error: DrcError) -> None:
        self.error, self.away_us = error, self.away_us or now_us()
        self._drop()

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn:
            conn._force_close()  # type: ignore[attr-defined]


def foreign(pulses: dict[str, Pulse], origin: str) -> frozenset[bytes]:
    """Return the server UUIDs of all sites but ``origin``, now and before.

    Never that of the origin itself, whatever was noted of it: nothing would ever be behind.
    """
    servers = Servers.union(pulse.servers for pulse in pulses.values())
    return servers.foreign_to(origin) - {pulses[origin].uuid}
