"""The lease of a site: one daemon applies there, others stand by. A loop over one connection.

The lock is a ``GET_LOCK`` at the server that is applied to (ADR 5).

1. The server ends the lock's session after ``WAIT_TIMEOUT_S`` without a word: a holder that was
   killed loses it at once, one that is frozen or cut off soon, by the server's clock alone.
2. Who gets it gives the ledger a new epoch before any session begins: what the one before
   writes is refused from then on (I5), whether it knows or not.
3. A lost lock ends nothing by itself: it is taken again, if nobody else has it, and where the
   ledger's newest epoch is still ours nobody had it meanwhile: then sessions go on under it. If
   somebody has it, all of this site halts here, and this daemon stands by.
4. Only taking over writes: neither holding nor standing by does.
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
_STANDBY_S = 1  # of GET_LOCK, which also returns as soon as the lock is free
_POLL_S = 0.1  # of the main thread, which signals must be able to interrupt
_ANSWER_S = 4.0  # beyond it the server would have ended the session anyway
_ATTEMPTS = 5  # to write the epoch, of a second each, while sessions of the one before end

log = structlog.get_logger("drc.lease")


class Lease(threading.Thread):
    """Keep the lease of ``site`` or wait for it, until closed.

    ``standing_by`` is whether another daemon has it.
    """

    def __init__(self, config: Config, site: str, stop: threading.Event) -> None:
        super().__init__(name="lease", daemon=True)
        self._config, self._site, self._stop_all = config, site, stop
        self._name = f"drc:{config.name}:{site}"
        self._conn: mysql.Connection | None = None
        self._session = 0  # the server's number of the session that had the lock last
        self._epoch: int | None = None
        self._claimed = 0  # the epoch that we wrote to the ledger last
        self._confirmed = 0.0  # when the lock was ours for sure
        self._error: DrcError = TransientError("the lease was not asked for yet")
        self._halt: Halt | None = None
        self._closed = threading.Event()
        self.standing_by = False

    def epoch(self) -> int:
        """Return the epoch to write under.

        :raises DrcError: there is no lease now, and why.
        """
        epoch = self._epoch
        if epoch is not None and time.monotonic() - self._confirmed < WAIT_TIMEOUT_S:
            return epoch
        why = self._error
        raise type(why)(
            f"the lease of {self._site} is not ours now: {why.message}",
            site=self._site,
            stage="lease",
            hint=why.hint,
        )

    def turn(self) -> Halt:
        """Wait while another daemon has the lease; return what is set when this turn is over."""
        while self.is_alive() and not self._stop_all.is_set():
            if (halt := self._halt) and not halt.is_set():
                return halt
            time.sleep(_POLL_S)
        return Halt(self._stop_all)

    def run(self) -> None:
        """Ask, then ping, until closed."""
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
        """Let go of the lease: a standby takes it at once."""
        self._closed.set()
        if self.is_alive():
            self.join()

    # ------------------------------------------------------------ what becomes of it

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
        """Nobody can tell who has it. Before the first answer the site begins, and waits for it."""
        if error.message != self._error.message:
            log.warning("the lease cannot be had now, trying again", error=error.message)
        self._epoch, self._error = None, error
        self._drop()
        if not self.standing_by:
            self._begin()

    def _take_over(self, conn: mysql.Connection) -> int:
        """Write a new epoch to the ledger; return it."""
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
        self._end_sessions(conn)  # one may have begun meanwhile, for a schema change
        return epoch

    def _end_sessions(self, conn: mysql.Connection) -> None:
        """End what the daemon before has open here: its locks would outlive it if it is frozen."""
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
            return  # not told: then its batches are waited for
        for (number,) in found:
            with contextlib.suppress(DrcError):  # it has ended by itself
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
        """Take it from our session before: the server may not know yet that its link is lost."""
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
