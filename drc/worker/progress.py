"""The progress of a stream or publisher, as numbers for others. Pure but for clocks.

Writers are the stream's own threads, each number written by one of them; a reader takes a
:meth:`StreamProgress.snapshot`, which may mix two neighbouring moments and no more.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from drc.binlog.stamps import now_us
from drc.binlog.transaction import Kind, RawTransaction
from drc.errors import DrcError, ReseedError
from drc.gtid import GtidSet
from drc.pipe.link import Inlet
from drc.worker.canary import Canary
from drc.worker.doing import Doing
from drc.worker.stages import Passages, passage, percentile

_LAGS_KEPT = 4096


class AppliedBatch(Protocol):
    """A committed batch, as far as it is counted; :class:`drc.apply.batch.Batch` is one."""

    transactions: list[RawTransaction]
    decided: str
    rows_in: int
    rows_out: int
    awaited: bool
    dispatched_us: int
    native: int

    @property
    def oldest(self) -> RawTransaction: ...


class Applier(Protocol):
    """The worker's thread that applies, as far as others look at it."""

    @property
    def pending(self) -> int: ...

    @property
    def doing(self) -> Doing | None: ...

    @property
    def oldest_us(self) -> int | None: ...


class Size(Protocol):
    """Numbers by name."""

    def _asdict(self) -> dict[str, Any]: ...


class Index(Protocol):
    """A window index, as far as its size is told."""

    late_conflicts: int

    def size(self) -> Size: ...


class SessionProgress:
    """State of something that runs in sessions."""

    def __init__(self) -> None:
        self.state, self.reason = "connecting", "about to start"
        self.error: DrcError | None = None
        self.sessions = self.steps = 0
        self.transactions = 0
        self.updated_us = 0
        self.offset_us = 0  # of the clock of the server that is read, less ours
        self._lags: deque[int] = deque(maxlen=_LAGS_KEPT)
        self._inlet: Inlet | None = None

    def connecting(self) -> None:
        """A session begins."""
        self.state, self.sessions = "connecting", self.sessions + 1
        if self.error is None:
            self.reason = "dialling"

    def _began(self, inlet: Inlet) -> None:
        """The session does its work."""
        self._inlet = inlet
        self.state, self.reason, self.error = "running", "", None

    def broken(self, error: DrcError) -> None:
        """The session ended; another will begin."""
        self.state, self.reason, self.error = "connecting", str(error), error

    def held(self, state: str, reason: str) -> None:
        """No session may run: an operator wants it so, or does something between two of them."""
        if state == "running":
            state, reason = "connecting", "held for a moment"
        self.state, self.reason, self.error = state, reason, None

    def stopped(self, error: DrcError | None) -> None:
        """Nothing runs any more, for an error or because it was told to stop."""
        self.state, self.error = "stopped", error
        if isinstance(error, ReseedError):
            self.state = "need_reseed"
        self.reason = str(error) if error else "stopped by request"

    def _snapshot(self) -> dict[str, object]:
        error, inlet, lags = self.error, self._inlet, sorted(self._lags)
        return {
            "state": self.state,
            "reason": self.reason,
            "error": {"message": error.message, **error.fields()} if error else None,
            "sessions": self.sessions,
            "transactions": self.transactions,
            "updated_us": self.updated_us,
            "skipped_tagged": inlet.skipped if inlet else 0,
            "read_bytes": inlet.read_bytes if inlet else 0,
            "lag_us_p50": percentile(lags, 0.5),
            "lag_us_p99": percentile(lags, 0.99),
            "queue_bytes": self._inlet.log.bytes if self._inlet else 0,
        }


class Intake(NamedTuple):
    """The bytes that a session has read, and those of them that wait to be applied."""

    read_bytes: int
    waiting_bytes: int


class StreamProgress(SessionProgress):
    """State, counters and lag of a stream; a step is a batch.

    ``canary_s`` is how often its origin sends a canary; 0: never.

    Lag is the time from the origin's commit of a batch's oldest transaction until the batch
    was visible at the target, corrected by ``offset_us``. ``observed`` is what an
    :class:`~drc.monitor.observer.Observer` adds to the snapshot.
    """

    def __init__(self, origin: str, target: str, canary_s: float = 0.0) -> None:
        super().__init__()
        self.origin, self.target = origin, target
        self._canary = Canary(origin, canary_s) if canary_s else None
        self.rows_in = self.rows_applied = 0
        self.lock_failures = self.awaited = self.taken_apart = self.concurrent = 0
        self.conflicts: Counter[str] = Counter()
        self.applied = self.ledger = ""  # by this daemon's sessions; before the first of them
        self.decided_us: int | None = None  # when the last that was applied was committed
        self.passages = Passages()
        self.observed: dict[str, Any] = {
            "behind": {"seconds": None, "transactions": None, "bytes": None},
            "rates": {"transactions": 0, "rows": 0, "bytes": 0},
            "blocked": None,
            "observed_us": 0,
        }
        self._applier: Applier | None = None

    @property
    def doing(self) -> Doing | None:
        """Return what is under way at the target."""
        return self._applier.doing if self._applier and self.state == "running" else None

    @property
    def oldest_us(self) -> int | None:
        """Return when the oldest that has come and is not decided was committed."""
        return self._applier.oldest_us if self._applier and self.state == "running" else None

    @property
    def decided(self) -> str:
        """Return what is decided at the target; '' while nobody knows."""
        return self.applied or self.ledger

    @property
    def heard_us(self) -> int:
        """Return when a log last brought anything, or was connected to."""
        return self._inlet.heard_us if self._inlet else 0

    @property
    def intake(self) -> Intake:
        """Return the bytes of this session."""
        return Intake(
            self._inlet.read_bytes if self._inlet else 0,
            self._inlet.log.bytes if self._inlet else 0,
        )

    def resumed(self, executed: GtidSet) -> None:
        """The ledger has told where to start."""
        self.applied = str(executed)

    def running(self, inlet: Inlet, applier: Applier) -> None:
        """Reading and applying."""
        self._applier = applier
        self._began(inlet)

    # ------------------------------------------------------------ counters

    def committed(self, batch: AppliedBatch) -> None:
        """Count a batch; called in commit order."""
        self.transactions += batch.native
        self.rows_in += batch.rows_in
        self.rows_applied += batch.rows_out
        self.awaited += batch.awaited
        self._visible(batch.transactions, batch.oldest, batch.decided, batch.dispatched_us)

    def settled(
        self,
        transactions: Sequence[RawTransaction],
        rows: int,
        kinds: Counter[str],
        applied: str,
        dispatched_us: int,
    ) -> None:
        """Count transactions that were settled row by row, and their conflicts by kind."""
        self.transactions += len(transactions)
        self.rows_in += rows
        self.rows_applied += rows
        self.conflicts.update(kinds)
        if transactions:
            oldest = min(transactions, key=lambda t: t.commit_us)
            self._visible(transactions, oldest, applied, dispatched_us)

    def _visible(
        self,
        transactions: Sequence[RawTransaction],
        oldest: RawTransaction,
        applied: str,
        dispatched_us: int,
    ) -> None:
        now = now_us()
        self.decided_us = transactions[-1].commit_us
        one = passage(oldest.commit_us, oldest.stamps, dispatched_us, now, self.offset_us)
        self._lags.append(one.lag)
        self.passages.add(one)
        self.steps += 1
        self.applied = applied
        self.updated_us = now
        if self._canary:
            self._canary.passed(transactions, now, self.offset_us)

    def passed(self, decided: GtidSet) -> None:
        """Nothing is left to apply: what was passed over since the last batch counts too."""
        self.applied = str(decided)

    def snapshot(self) -> dict[str, object]:
        """Return everything as JSON-ready values; see docs/operations/status-json.md."""
        lag, stages = self.passages.snapshot()
        return {
            "origin": self.origin,
            "target": self.target,
            **self._snapshot(),
            "rows_in": self.rows_in,
            "rows_applied": self.rows_applied,
            "batches": self.steps,
            "lock_failures": self.lock_failures,
            "awaited": self.awaited,
            "taken_apart": self.taken_apart,
            "concurrent": self.concurrent,
            "repeated": self._inlet.repeated if self._inlet else 0,
            "conflicts": dict(self.conflicts),
            "frames": self._inlet.counts if self._inlet else {},
            "queue_transactions": self._applier.pending if self._applier else 0,
            "applied_set": self.decided,
            "lag_us": lag,
            "stages": stages,
            "canary": self._canary.snapshot() if self._canary else None,
            **self.observed,
        }


class PublisherProgress(SessionProgress):
    """State, counters and lag of a publisher; a step is a frame.

    Lag is the time from a frame's oldest commit until the log had acknowledged the frame.
    """

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site = site
        self.epoch = 0
        self.covered = ""

    def running(self, inlet: Inlet, epoch: int) -> None:
        """Reading and publishing."""
        self.epoch = epoch
        self._began(inlet)

    def reads(self, inlet: Inlet) -> None:
        """Publishing what ``inlet`` gets, from now on."""
        self._inlet = inlet

    def published(
        self, transactions: Sequence[RawTransaction], covered: GtidSet, acknowledged_us: int
    ) -> None:
        """Count a frame that the log has acknowledged."""
        self.updated_us = acknowledged_us
        self.covered = str(covered)
        shipped = [t.commit_us for t in transactions if t.kind is not Kind.SKIPPED]
        if shipped:
            self.transactions += len(shipped)
            self.steps += 1
            self._lags.append(self.updated_us - min(shipped))

    def snapshot(self) -> dict[str, object]:
        """Return everything as JSON-ready values; see docs/operations/status-json.md."""
        return {
            "site": self.site,
            **self._snapshot(),
            "epoch": self.epoch,
            "frames": self.steps,
            "covered_set": self.covered,
        }


class WatcherProgress(SessionProgress):
    """State and counters of a watcher; ``transactions`` are those native here.

    ``unwatched`` have keys that cannot be told: their conflicts are not detected.
    """

    def __init__(self, site: str, index: Index) -> None:
        super().__init__()
        self.site = site
        self._index = index
        self.replicated = self.unwatched = 0

    def watching(self) -> None:
        """Reading."""
        self.steps += 1
        self.state, self.reason, self.error = "running", "", None

    def snapshot(self) -> dict[str, object]:
        """Return everything as JSON-ready values; see docs/operations/status-json.md."""
        error = self.error
        return {
            "site": self.site,
            "state": self.state,
            "reason": self.reason,
            "error": {"message": error.message, **error.fields()} if error else None,
            "sessions": self.sessions,
            "transactions": self.transactions,
            "replicated": self.replicated,
            "unwatched": self.unwatched,
            **self._index.size()._asdict(),
            "late_conflicts": self._index.late_conflicts,
        }
