"""Beat: sends a site's canary again and again, from a thread of its own. Edge.

A canary is a single row, written in a transaction like a user's: without a tag, so the row is
replicated. The thread has a connection of its own, so that a canary that waits, for a lock or for
semi-sync, delays nothing else.
"""

from __future__ import annotations

import contextlib
import threading

import structlog

from drc import mysql
from drc.config import Config
from drc.errors import DrcError
from drc.schema import canary

_ANSWER_S = 10.0  # then the next beat takes a new connection

log = structlog.get_logger("drc.canary")


class Beat(threading.Thread):
    """Send the canary of ``site`` each ``monitor.canary_s`` seconds until closed; 0: never."""

    def __init__(self, config: Config, site: str) -> None:
        super().__init__(name="canary", daemon=True)
        self._config, self._site = config, site
        self._conn: mysql.Connection | None = None
        self._closed = threading.Event()
        self._well = True
        if config.monitor.canary_s:
            self.start()

    def close(self) -> None:
        """End the thread; no canary is sent from then on."""
        self._closed.set()
        if self.is_alive():
            self.join(_ANSWER_S)

    def run(self) -> None:
        """Send a canary at once, and then each ``monitor.canary_s`` seconds."""
        while True:
            try:
                canary.send(self._connected(), self._site)
                self._well = True
            except DrcError as error:
                self._failed(error)
            if self._closed.wait(self._config.monitor.canary_s):
                break
        self._drop()

    def _failed(self, error: DrcError) -> None:
        if self._well:  # once for each series of failures
            hint = error.hint or "run `drc check`, or set monitor.canary_s = 0 to send no canaries"
            log.warning("cannot send a canary", site=self._site, error=error.message, hint=hint)
        self._well = False
        self._drop()

    def _connected(self) -> mysql.Connection:
        if self._conn is None:
            self._conn = mysql.connect(
                self._config,
                self._site,
                "applier",
                connect_timeout=mysql.PEER_TIMEOUT_S,
                read_timeout=_ANSWER_S,
            )
            mysql.ask(self._conn, "SET SESSION time_zone = '+00:00'")
            canary.add_row(self._conn, self._site)
        return self._conn

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn:
            with contextlib.suppress(Exception):
                conn._force_close()  # type: ignore[attr-defined]
