"""Measure replication from outside: a canary's way, and sums that only whole transactions keep.

What lives here: one thread a direction that writes a row at the origin and looks for it at the
target; one kind adds up all money there, too. It knows nothing of the daemon.

1. A lag is the time from after the canary's commit at the origin until a reader at the target saw
   it, by one clock; looking costs up to a millisecond more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pymysql.cursors import Cursor

from drc.demo.worker import Worker
from drc.demo.workload import OPENING
from drc.errors import TransientError
from drc.sandbox import SandboxSite

# One row a site: what was written before it has arrived where it is seen.
CANARY = "CREATE TABLE canary (site VARCHAR(20) PRIMARY KEY, beat BIGINT NOT NULL)"
_PERIOD_S = 0.2
_POLL_S = 0.001
_BEAT = (
    "INSERT INTO canary VALUES (%s, %s) ON DUPLICATE KEY UPDATE beat = GREATEST(beat, VALUES(beat))"
)


class Probe(Worker):
    """Watch one direction. ``lags_us`` holds every lag seen, oldest first."""

    def __init__(self, origin: SandboxSite, target: SandboxSite, schema: str) -> None:
        super().__init__()
        self.origin, self.target = origin, target
        self._schema = schema
        self.lags_us: list[int] = []

    @property
    def name(self) -> str:
        """Return ``origin → target``."""
        return f"{self.origin.name} → {self.target.name}"

    def work(self, stop: threading.Event) -> None:
        """Watch until stopped."""
        origin = self.origin.connect("app", database=self._schema)
        target = self.target.connect("app", database=self._schema)
        with origin, target, origin.cursor() as write, target.cursor() as read:
            while not stop.is_set():
                beat = time.time_ns() // 1000
                write.execute(_BEAT, (self.origin.name, beat))
                begun = time.monotonic_ns()
                while not self._seen(read, beat):
                    if stop.wait(_POLL_S):
                        return
                self.lags_us.append((time.monotonic_ns() - begun) // 1000)
                self._look(read)
                stop.wait(_PERIOD_S)

    def _look(self, read: Cursor) -> None:
        """Look at the target once more, after each canary."""

    def _seen(self, read: Cursor, beat: int) -> bool:
        read.execute("SELECT beat FROM canary WHERE site = %s", (self.origin.name,))
        row = read.fetchone()
        return row is not None and row[0] >= beat

    def drain(self, patience_s: float, check: Callable[[], None]) -> None:
        """Wait until all that the origin has written so far is seen at the target.

        :param check: raises when waiting is in vain.
        :raises TransientError: not within ``patience_s`` seconds.
        """
        beat = time.time_ns() // 1000
        with self.origin.connect("app", database=self._schema) as conn, conn.cursor() as write:
            write.execute(_BEAT, (self.origin.name, beat))
        deadline = time.monotonic() + patience_s
        with self.target.connect("app", database=self._schema) as conn, conn.cursor() as read:
            while not self._seen(read, beat):
                check()
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"{self.name} did not drain in {patience_s:.0f} s",
                        stage="demo",
                        hint="read daemon.log in the sandbox folder",
                    )
                time.sleep(_POLL_S)


class MoneyProbe(Probe):
    """Also add up all money at the target; ``torn`` sums were not what they must be."""

    reads = torn = 0

    def _look(self, read: Cursor) -> None:
        read.execute("SELECT SUM(balance) - COUNT(*) * %s FROM accounts", (OPENING,))
        row = read.fetchone()
        self.reads += 1
        self.torn += bool(row and row[0])
