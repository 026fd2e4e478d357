"""The progress of one stream, as numbers that others may read at any time. Pure but for clocks.

Writers are the stream's own threads, each number written by one of them; a reader takes a
:meth:`StreamProgress.snapshot`, which may mix two neighbouring moments and no more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from drc.apply.batch import Batch
from drc.errors import DrcError
from drc.gtid import GtidSet
from drc.transaction import RawTransaction

_LAGS_KEPT = 4096


class _Log(Protocol):
    @property
    def bytes(self) -> int: ...


class _Reader(Protocol):
    bytes: int

    @property
    def skipped(self) -> int: ...


class _Feeder(Protocol):
    @property
    def pending(self) -> int: ...


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the value that ``share`` (0 to 1) of ``ordered`` does not exceed; 0 if empty."""
    if not ordered:
        return 0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class StreamProgress:
    """State, counters and lag of a stream.

    Lag is the time from the origin's commit of a batch's oldest transaction until the batch
    was visible at the target, by both hosts' clocks.
    """

    def __init__(self, origin: str, target: str) -> None:
        self.origin, self.target = origin, target
        self.state, self.reason = "stopped", "not started"
        self.error: DrcError | None = None
        self.transactions = self.rows_in = self.rows_applied = self.batches = 0
        self.lock_failures = self.taken_apart = self.sessions = 0
        self.applied = ""
        self.updated_us = 0
        self._lags: deque[int] = deque(maxlen=_LAGS_KEPT)
        self._log: _Log | None = None
        self._reader: _Reader | None = None
        self._feeder: _Feeder | None = None

    # ------------------------------------------------------------ states

    def connecting(self) -> None:
        """A session begins."""
        self.state, self.sessions = "connecting", self.sessions + 1
        if self.error is None:
            self.reason = "dialling both sites"

    def resumed(self, executed: GtidSet) -> None:
        """The ledger has told where to start."""
        self.applied = str(executed)

    def running(self, log: _Log, reader: _Reader, feeder: _Feeder) -> None:
        """Reading and applying."""
        self._log, self._reader, self._feeder = log, reader, feeder
        self.state, self.reason, self.error = "running", "", None

    def broken(self, error: DrcError) -> None:
        """The session ended; another will begin."""
        self.state, self.reason, self.error = "connecting", str(error), error

    def stopped(self, error: DrcError | None) -> None:
        """The stream has ended, for an error or because it was told to."""
        self.state, self.error = "stopped", error
        self.reason = str(error) if error else "stopped by request"

    # ------------------------------------------------------------ counters

    def committed(self, batch: Batch) -> None:
        """Count a batch; called in commit order."""
        self.transactions += batch.native
        self.rows_in += batch.rows_in
        self.rows_applied += batch.rows_out
        self._visible(batch.oldest_us, batch.applied)

    def committed_alone(self, transaction: RawTransaction, rows: int, applied: str) -> None:
        """Count a transaction that went outside the belt."""
        self.transactions += 1
        self.rows_in += rows
        self.rows_applied += rows
        self._visible(transaction.commit_us, applied)

    def _visible(self, commit_us: int, applied: str) -> None:
        now = time.time_ns() // 1000
        self._lags.append(now - commit_us)
        self.batches += 1
        self.applied = applied
        self.updated_us = now

    def passed(self, decided: GtidSet) -> None:
        """Nothing is left to apply: what was passed over since the last batch counts too."""
        self.applied = str(decided)

    def snapshot(self) -> dict[str, object]:
        """Return everything as JSON-ready values; see docs/operations/status-json.md."""
        lags = sorted(self._lags)
        log, reader, feeder = self._log, self._reader, self._feeder
        return {
            "origin": self.origin,
            "target": self.target,
            "state": self.state,
            "reason": self.reason,
            "error": {"message": self.error.message, **self.error.fields()} if self.error else None,
            "transactions": self.transactions,
            "rows_in": self.rows_in,
            "rows_applied": self.rows_applied,
            "batches": self.batches,
            "sessions": self.sessions,
            "lock_failures": self.lock_failures,
            "taken_apart": self.taken_apart,
            "skipped_tagged": reader.skipped if reader else 0,
            "read_bytes": reader.bytes if reader else 0,
            "lag_us_p50": percentile(lags, 0.5),
            "lag_us_p99": percentile(lags, 0.99),
            "queue_bytes": log.bytes if log else 0,
            "queue_transactions": feeder.pending if feeder else 0,
            "applied_set": self.applied,
            "updated_us": self.updated_us,
        }
