"""Pulse of a server: asks once a second for the clock and the executed GTIDs. Edge.

Each server has a single thread and connection here, which read and never write.
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
    """A server's ``gtid_executed``, and the time of the answer by this daemon's clock."""

    at_us: int
    executed: GtidSet


class Pulse:
    """Ask the server of ``site`` until closed.

    ``look`` is None until the server has answered once. ``error`` is None while the server answers.

    :param role: the account of the connection: ``source`` or ``applier``.
    :param also: called each second with the connection while the server answers, for questions
        that are needed only now and then.
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
        self.look: Look | None = None  # a single value, because other threads read at any time
        self.uuid = b""
        # The servers of all sites that this site remembers, and the servers reached here for this
        # site. The value only grows.
        self.servers = Servers()
        self.error: DrcError | None = None
        self.away_us = 0
        self._conn: mysql.Connection | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pulse-{site}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; wait for a question under way only until the question times out."""
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
            except Exception as error:  # monitoring must survive every error
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
    """Return the server UUIDs of all sites but ``origin``, present and former.

    The UUID of the origin's present server is never among the result, even if a site has noted
    that server for another site: otherwise no transaction of the origin would count as behind.
    """
    servers = Servers.union(pulse.servers for pulse in pulses.values())
    return servers.foreign_to(origin) - {pulses[origin].uuid}
