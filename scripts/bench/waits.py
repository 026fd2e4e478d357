"""Waits: the time that a target's users wait for rows that the backlog writes, too. Edge.

Four users lock a row each, about 100 rows a second in all and at uneven intervals, and release the
row at once. The users write nothing, so the native replica and ``drc`` have the same work, and no
conflicts arise. The rows are the rows that sysbench favours: the middle hundredth of each table,
which gets three quarters of the writes.

A user keeps to the schedule: a user that waited is late for the next row, and being late counts as
waiting.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.meter import milliseconds
from bench.workload import ROWS, TABLES
from drc.sandbox import SandboxSite

_USERS = 4
_PER_S = 100  # of all users together
_FAVOURED = range(int(ROWS * 0.495), int(ROWS * 0.505))


@dataclass(frozen=True)
class Waits:
    """The time from wanting a row until the row was locked and released, in milliseconds."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Users:
    """Users that lock rows of a site's sysbench tables until stopped."""

    def __init__(self, site: SandboxSite) -> None:
        self._site = site
        self._stop = threading.Event()
        # (monotonic time of wanting a row, nanoseconds until the row was locked and released).
        self._waited: list[tuple[float, int]] = []
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._use, args=(n,)) for n in range(_USERS)]
        for thread in self._threads:
            thread.start()

    def _use(self, number: int) -> None:
        rng = random.Random(number)
        try:
            with self._site.connect("app") as conn, conn.cursor() as cursor:
                due = time.monotonic()
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    table = f"sbtest.sbtest{rng.randint(1, TABLES)}"
                    cursor.execute("BEGIN")
                    cursor.execute(
                        f"SELECT id FROM {table} WHERE id = %s FOR UPDATE", (rng.choice(_FAVOURED),)
                    )
                    cursor.execute("ROLLBACK")
                    self._waited.append((due, int((time.monotonic() - due) * 1e9)))
                    due += rng.uniform(0.5, 1.5) * _USERS / _PER_S
        except BaseException as error:
            self._errors.append(error)

    def stop(self) -> None:
        """Stop all users.

        :raises BaseException: the exception that ended a user, if there is any.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def waits(self, since: float, until: float) -> Waits:
        """Return the waits for rows that users wanted in a time.

        :param since: start of the time, in seconds of the monotonic clock.
        :param until: end of the time.
        """
        waited = sorted(ns for due, ns in self._waited if since <= due < until)
        return Waits(len(waited), *(milliseconds(waited, share) for share in (0.5, 0.9, 0.99, 1)))


@contextlib.contextmanager
def users_of(site: SandboxSite, *, wanted: bool) -> Iterator[Users | None]:
    """Let users lock rows at ``site`` during the context, if ``wanted``."""
    if not wanted:
        yield None
        return
    users = Users(site)
    try:
        yield users
    finally:
        users.stop()
