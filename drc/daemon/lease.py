"""The lease of a site: one daemon applies, other daemons stand by. A loop over one connection.

The lock is a ``GET_LOCK`` at the site's server (ADR 5). A *term* is the time for which a daemon
holds the lease without another holder in between.

1. A holder that is killed loses the lock at once. A holder that is frozen or cut off loses the
   lock soon, by the server's clock alone, because the server ends the lock's session after
   ``WAIT_TIMEOUT_S`` without a statement.
2. The writes of an earlier holder are refused (I5), even if that holder does not know about the
   loss, because a new holder writes a new epoch to the ledger before any session begins.
3. A lost lock alone ends no session. The daemon takes the lock again if the lock is free. If the
   ledger's newest epoch is still our own, no other daemon held the lock in between, and sessions
   go on under that epoch. If another daemon holds the lock, all of this site halts here, and this
   daemon stands by.
4. Holding and standing by write nothing; only a takeover writes.
"""

from __future__ import annotations

import contextlib
import threading
import time

import structlog

from drc import mysql
from drc.config import Config
from drc.errors import LOCK_ERRNOS, DrcError, TransientError
from drc.names import session_name
from drc.schema import ledger
from drc.worker.sessions import Halt

WAIT_TIMEOUT_S = 5
_PING_S = 1.0
_STANDBY_S = 1  # timeout of GET_LOCK, which also returns as soon as the lock is free
_POLL_S = 0.1  # of the main thread, which signals must be able to interrupt
_ANSWER_S = 4.0  # after a longer wait the server has ended the session anyway
_ATTEMPTS = 5  # to write the epoch, a second each, while the earlier holder's sessions end

log = structlog.get_logger("drc.lease")


class Lease(threading.Thread):
    """Keep the lease of ``site``, or wait for the lease, until closed.

    ``standing_by`` is True while another daemon has the lease.
    """

    def __init__(self, config: Config, site: str, stop: threading.Event) -> None:
        super().__init__(name="lease", daemon=True)
        self._config, self._site, self._stop_all = config, site, stop
        self._name = f"drc:{config.name}:{site}"
        self._conn: mysql.Connection | None = None
        self._session = 0  # connection id of our session that last had the lock
        self._epoch: int | None = None
        self._claimed = 0  # the epoch that we last wrote to the ledger
        self._confirmed = 0.0  # when this daemon last certainly had the lock
        self._error: DrcError = TransientError("the daemon has not asked for the lease yet")
        self._halt: Halt | None = None
        self._closed = threading.Event()
        self.standing_by = False

    def epoch(self) -> int:
        """Return the epoch to write under.

        :raises DrcError: this daemon has no lease now; the message gives the reason.
        """
        epoch = self._epoch
        if epoch is not None and time.monotonic() - self._confirmed < WAIT_TIMEOUT_S:
            return epoch
        why = self._error
        raise type(why)(
            f"cannot work at {self._site} without the lease: {why.message}",
            site=self._site,
            stage="lease",
            hint=why.hint,
        )

    def wait(self) -> Halt:
        """Wait while another daemon has the lease; return the halt of this daemon's term."""
        while self.is_alive() and not self._stop_all.is_set():
            if (halt := self._halt) and not halt.is_set():
                return halt
            time.sleep(_POLL_S)
        return Halt(self._stop_all)

    def run(self) -> None:
        """Ask for the lease, then ping the server, until closed."""
        while not self._closed.is_set():
            pause = _PING_S
            try:
                if self._epoch is None:
                    self._acquire()
                    pause = 0.0 if self.standing_by else _PING_S
                else:
                    self._confirm("DO 0")
            except DrcError as error:
                self._away(error)
            self._closed.wait(pause)
        self._drop()

    def close(self) -> None:
        """Release the lease, so that a standby takes over at once."""
        self._closed.set()
        if self.is_alive():
            self.join()

    # ------------------------------------------------------------ gained and lost

    def _acquire(self) -> None:
        conn = self._connected()
        if self._lock(_STANDBY_S if self.standing_by else 0) or self._lock_of_our_own():
            if not self._claimed or ledger.newest_epoch(conn) != self._claimed:
                self._claimed = self._take_over(conn)
            self._confirm("DO 0")
            self._epoch = self._claimed
            log.info("lease taken", epoch=self._epoch)
            self._begin()
        elif not self.standing_by:
            ((holder,),) = mysql.ask(conn, "SELECT IS_USED_LOCK(%s)", (self._name,))
            log.warning("standing by: another daemon replicates into this site", connection=holder)
            self._error = TransientError("another daemon replicates into this site")
            self.standing_by = True
            if self._halt:
                self._halt.set()

    def _begin(self) -> None:
        self.standing_by = False
        if self._halt is None or self._halt.is_set():
            self._halt = Halt(self._stop_all)

    def _away(self, error: DrcError) -> None:
        """Note that the lease's holder is not known now.

        Before the first answer the site begins, and the sessions wait for the lease.
        """
        if error.message != self._error.message:
            log.warning("cannot get the lease now, trying again", error=error.message)
        self._epoch, self._error = None, error
        self._drop()
        if not self.standing_by:
            self._begin()

    def _take_over(self, conn: mysql.Connection) -> int:
        """Write a new epoch to the ledger; return the epoch."""
        mysql.tag_session(conn)
        mysql.ask(conn, "SET SESSION innodb_lock_wait_timeout = 1")
        epoch = ledger.next_epoch(conn)
        for attempt in range(_ATTEMPTS):
            self._end_sessions(conn)
            try:
                ledger.claim(conn, epoch)
                break
            except DrcError as error:
                if error.errno not in LOCK_ERRNOS or attempt + 1 == _ATTEMPTS:
                    raise
        self._end_sessions(conn)  # a session for a schema change may have begun in between
        return epoch

    def _end_sessions(self, conn: mysql.Connection) -> None:
        """End the earlier holder's sessions, as a frozen daemon would keep row locks."""
        try:
            found = mysql.ask(
                conn,
                "SELECT PROCESSLIST_ID FROM performance_schema.session_account_connect_attrs"
                " WHERE ATTR_NAME = 'program_name' AND ATTR_VALUE = %s",
                (session_name(self._config.name, self._site),),
            )
        except TransientError:
            raise
        except DrcError:
            return  # no right to ask: wait for the batches of that daemon
        for (number,) in found:
            with contextlib.suppress(DrcError):  # the session has already ended
                mysql.ask(conn, f"KILL {int(number)}")

    # ------------------------------------------------------------ the server

    def _confirm(self, sql: str) -> None:
        asked = time.monotonic()
        mysql.ask(self._connected(), sql)
        self._confirmed = asked

    def _lock(self, wait_s: int) -> bool:
        rows = mysql.ask(self._connected(), "SELECT GET_LOCK(%s, %s)", (self._name, wait_s))
        return bool(rows[0][0] == 1)

    def _lock_of_our_own(self) -> bool:
        """Take the lock from our last session; return whether that worked.

        The server may not know yet that the link of that session is lost.
        """
        conn, before = self._connected(), self._session
        if not before:
            return False
        self._session = 0
        if mysql.ask(conn, "SELECT IS_USED_LOCK(%s)", (self._name,)) != [(before,)]:
            return False
        with contextlib.suppress(DrcError):
            mysql.ask(conn, f"KILL {before}")
        return self._lock(_STANDBY_S)

    def _connected(self) -> mysql.Connection:
        if self._conn is None:
            self._conn = mysql.connect(
                self._config,
                self._site,
                "applier",
                connect_timeout=_ANSWER_S,
                read_timeout=_ANSWER_S,
            )
            mysql.ask(self._conn, f"SET SESSION wait_timeout = {WAIT_TIMEOUT_S}")
        return self._conn

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn:
            self._session = int(conn.thread_id())  # type: ignore[no-untyped-call]
            conn._force_close()  # type: ignore[attr-defined]
