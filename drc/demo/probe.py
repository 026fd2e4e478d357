"""Probes: measure replication from outside, without the daemon.

A probe is a thread for a direction, for example a to b. The thread writes a canary, a row, at the
origin and looks for the canary at the target. A :class:`MoneyProbe` also adds up all money at the
target: the sum is right only if each transaction is visible as a whole.

1. A lag is the time from the return of the canary's commit at the origin until a reader at the
   target finds the canary, by the same clock. The pause between two looks adds up to 1 ms.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pymysql.cursors import Cursor

from drc.demo.worker import Load
from drc.demo.workload import OPENING
from drc.errors import TransientError
from drc.sandbox import SandboxSite

# One row for each site. Where a beat is visible, everything written before that beat is applied.
CANARY = "CREATE TABLE canary (site VARCHAR(20) PRIMARY KEY, beat BIGINT NOT NULL)"
_PERIOD_S = 0.2
_POLL_S = 0.001
_BEAT = (
    "INSERT INTO canary VALUES (%s, %s) ON DUPLICATE KEY UPDATE beat = GREATEST(beat, VALUES(beat))"
)


class Probe(Load):
    """A probe of a direction; ``lags_us`` holds all lags in microseconds, oldest first."""

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
        """Write canaries and measure lags until stopped."""
        origin = self.origin.connect("app", database=self._schema)
        target = self.target.connect("app", database=self._schema)
        with origin, target, origin.cursor() as write, target.cursor() as read:
            while not stop.is_set():
                beat = time.time_ns() // 1000
                write.execute(_BEAT, (self.origin.name, beat))
                begun = time.monotonic_ns()
                while not self._visible(read, beat):
                    if stop.wait(_POLL_S):
                        return
                self.lags_us.append((time.monotonic_ns() - begun) // 1000)
                self._look(read)
                stop.wait(_PERIOD_S)

    def _look(self, read: Cursor) -> None:
        """Run a further check at the target after each canary; the base class has no check."""

    def _visible(self, read: Cursor, beat: int) -> bool:
        read.execute("SELECT beat FROM canary WHERE site = %s", (self.origin.name,))
        row = read.fetchone()
        return row is not None and row[0] >= beat

    def drain(self, patience_s: float, check: Callable[[], None]) -> None:
        """Wait until everything that the origin has written so far is visible at the target.

        :param check: called while waiting; raises if replication has ended.
        :raises TransientError: the wait took longer than ``patience_s`` seconds.
        """
        beat = time.time_ns() // 1000
        with self.origin.connect("app", database=self._schema) as conn, conn.cursor() as write:
            write.execute(_BEAT, (self.origin.name, beat))
        deadline = time.monotonic() + patience_s
        with self.target.connect("app", database=self._schema) as conn, conn.cursor() as read:
            while not self._visible(read, beat):
                check()
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"{self.name} did not drain in {patience_s:.0f} s",
                        stage="demo",
                        hint="check daemon.log in the sandbox folder",
                    )
                time.sleep(_POLL_S)


class MoneyProbe(Probe):
    """A probe that also adds up all money; ``torn`` counts wrong sums among ``reads`` sums."""

    reads = torn = 0

    def _look(self, read: Cursor) -> None:
        read.execute("SELECT SUM(balance) - COUNT(*) * %s FROM accounts", (OPENING,))
        row = read.fetchone()
        self.reads += 1
        self.torn += bool(row and row[0])
