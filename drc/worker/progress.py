"""The progress of a worker: state and numbers, for other threads to read. Pure but for clocks.

The worker's own threads write the numbers, each number in a single thread. A reader takes a
:meth:`StreamProgress.snapshot`, which may mix two neighbouring moments and no more.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec.structs import asdict

from drc.binlog.stamps import now_us
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DrcError, ReseedError
from drc.gtid import GtidSet
from drc.pipe.link import Inlet
from drc.worker.canary import Canary
from drc.worker.doing import Doing
from drc.worker.snapshot import (
    Behind,
    ErrorFields,
    Hold,
    PublisherSnapshot,
    Rates,
    SessionSnapshot,
    StreamSnapshot,
    WatcherSnapshot,
    WorkerSnapshot,
)
from drc.worker.stages import Passages, passage, percentile

_LAGS_KEPT = 4096


class AppliedBatch(Protocol):
    """The parts of a committed batch that are counted; see :class:`drc.apply.batch.Batch`."""

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
    """The parts of a stream's applying thread that other threads read."""

    @property
    def pending(self) -> int: ...

    @property
    def doing(self) -> Doing | None: ...

    @property
    def oldest_us(self) -> int | None: ...


class Size(Protocol):
    """The size of a window index; see :class:`drc.conflict.live.Size`."""

    @property
    def slots(self) -> int: ...

    @property
    def spilled_slots(self) -> int: ...

    @property
    def spilled_bytes(self) -> int: ...

    @property
    def spill_error(self) -> str: ...

    @property
    def forgotten(self) -> int: ...


class Index(Protocol):
    """The parts of a window index that the watcher's snapshot shows."""

    late_conflicts: int

    def size(self) -> Size: ...


@dataclass(frozen=True, slots=True)
class Observed:
    """The part of a stream's snapshot that an observer measures."""

    behind: Behind = Behind()  # noqa: RUF009  # Behind is frozen
    rates: Rates = Rates()  # noqa: RUF009
    blocked: Hold | None = None
    observed_us: int = 0


class SessionProgress:
    """The state of a worker."""

    def __init__(self) -> None:
        self.state, self.reason = "connecting", "about to start"
        self.error: DrcError | None = None
        self.sessions = self.steps = 0
        self.transactions = 0
        self.updated_us = 0
        self.offset_us = 0  # the clock of the server that is read, less our clock
        self._lags: deque[int] = deque(maxlen=_LAGS_KEPT)
        self._inlet: Inlet | None = None

    def connecting(self) -> None:
        """Record that a session begins."""
        self.state, self.sessions = "connecting", self.sessions + 1
        if self.error is None:
            self.reason = "dialling"

    def _began(self, inlet: Inlet) -> None:
        """Record that the session does the worker's work."""
        self._inlet = inlet
        self.state, self.reason, self.error = "running", "", None

    def broken(self, error: DrcError) -> None:
        """Record that the session ended with ``error``, and another will begin."""
        self.state, self.reason, self.error = "connecting", str(error), error

    def not_running(self, state: str, reason: str) -> None:
        """Record that no session may run now.

        :param state: the state that the operator wants; ``running`` if a command withholds the
            permit for a moment.
        """
        if state == "running":
            state, reason = "connecting", "held for a moment"
        self.state, self.reason, self.error = state, reason, None

    def stopped(self, error: DrcError | None) -> None:
        """Record that the worker ended, with an error or by request."""
        self.state, self.error = "stopped", error
        if isinstance(error, ReseedError):
            self.state = "need_reseed"
        self.reason = str(error) if error else "stopped by request"

    def _worker(self) -> WorkerSnapshot:
        return WorkerSnapshot(
            state=self.state,
            reason=self.reason,
            error=ErrorFields.of(self.error),
            sessions=self.sessions,
            transactions=self.transactions,
        )

    def _session(self) -> SessionSnapshot:
        inlet, lags = self._inlet, sorted(self._lags)
        return SessionSnapshot(
            **asdict(self._worker()),
            updated_us=self.updated_us,
            skipped_tagged=inlet.skipped if inlet else 0,
            read_bytes=inlet.read_bytes if inlet else 0,
            lag_us_p50=percentile(lags, 0.5),
            lag_us_p99=percentile(lags, 0.99),
            queue_bytes=inlet.queue.bytes if inlet else 0,
        )


class Intake(NamedTuple):
    """The bytes that a session has read, and the part of these bytes that waits."""

    read_bytes: int
    waiting_bytes: int


class StreamProgress(SessionProgress):
    """State, counters and lag of a stream; a step is a batch.

    Lag is the time from the origin's commit of a batch's oldest transaction until the batch
    was visible at the target, corrected by ``offset_us``. An
    :class:`~drc.monitor.observer.Observer` sets ``observed`` and ``decided_in_ledger``.

    :param canary_s: interval in seconds at which the origin sends a canary; 0: never.
    """

    def __init__(self, origin: str, target: str, canary_s: float = 0.0) -> None:
        super().__init__()
        self.origin, self.target = origin, target
        self._canary = Canary(origin, canary_s) if canary_s else None
        self.rows_in = self.rows_applied = 0
        self.lock_failures = self.awaited = self.taken_apart = self.concurrent = 0
        self.conflicts: Counter[str] = Counter()
        # The decided set as text: by this daemon's sessions, and before the first session.
        self.decided_by_sessions = self.decided_in_ledger = ""
        self.decided_us: int | None = None  # commit time of the last applied transaction
        self.passages = Passages()
        self.observed = Observed()
        self._applier: Applier | None = None

    @property
    def doing(self) -> Doing | None:
        """Return the work under way at the target."""
        return self._applier.doing if self._applier and self.state == "running" else None

    @property
    def oldest_us(self) -> int | None:
        """Return the commit time of the oldest undecided transaction that was read."""
        return self._applier.oldest_us if self._applier and self.state == "running" else None

    @property
    def decided(self) -> str:
        """Return the decided set of the target; '' while not known."""
        return self.decided_by_sessions or self.decided_in_ledger

    @property
    def heard_us(self) -> int:
        """Return when the topic last brought a message, or was connected to; 0: never."""
        return self._inlet.heard_us if self._inlet else 0

    @property
    def intake(self) -> Intake:
        """Return the bytes that this session has read."""
        return Intake(
            self._inlet.read_bytes if self._inlet else 0,
            self._inlet.queue.bytes if self._inlet else 0,
        )

    def resumed(self, already_decided: GtidSet) -> None:
        """Record the decided set from which the session starts."""
        self.decided_by_sessions = str(already_decided)

    def running(self, inlet: Inlet, applier: Applier) -> None:
        """Record that the session reads and applies."""
        self._applier = applier
        self._began(inlet)

    # ------------------------------------------------------------ counters

    def committed(self, batch: AppliedBatch) -> None:
        """Count a committed batch; called in commit order."""
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
        decided: str,
        dispatched_us: int,
    ) -> None:
        """Count transactions that were settled row by row, and their conflicts by kind."""
        self.transactions += len(transactions)
        self.rows_in += rows
        self.rows_applied += rows
        self.conflicts.update(kinds)
        if transactions:
            oldest = min(transactions, key=lambda t: t.commit_us)
            self._visible(transactions, oldest, decided, dispatched_us)

    def _visible(
        self,
        transactions: Sequence[RawTransaction],
        oldest: RawTransaction,
        decided: str,
        dispatched_us: int,
    ) -> None:
        now = now_us()
        self.decided_us = transactions[-1].commit_us
        passed = passage(oldest.commit_us, oldest.stamps, dispatched_us, now, self.offset_us)
        self._lags.append(passed.lag)
        self.passages.add(passed)
        self.steps += 1
        self.decided_by_sessions = decided
        self.updated_us = now
        if self._canary:
            self._canary.passed(transactions, now, self.offset_us)

    def passed(self, decided: GtidSet) -> None:
        """Record that nothing is left to apply.

        :param decided: the decided set, with the skipped transactions since the last batch.
        """
        self.decided_by_sessions = str(decided)

    def snapshot(self) -> StreamSnapshot:
        """Return the state of the stream at this moment."""
        lag, stages = self.passages.snapshot()
        inlet, observed = self._inlet, self.observed
        return StreamSnapshot(
            **asdict(self._session()),
            origin=self.origin,
            target=self.target,
            rows_in=self.rows_in,
            rows_applied=self.rows_applied,
            batches=self.steps,
            lock_failures=self.lock_failures,
            awaited=self.awaited,
            taken_apart=self.taken_apart,
            concurrent=self.concurrent,
            repeated=inlet.repeated if inlet else 0,
            conflicts=dict(self.conflicts),
            frames=dict(inlet.counts) if inlet else {},
            queue_transactions=self._applier.pending if self._applier else 0,
            applied_set=self.decided,
            lag_us=lag,
            stages=stages,
            canary=self._canary.snapshot() if self._canary else None,
            behind=observed.behind,
            rates=observed.rates,
            blocked=observed.blocked,
            observed_us=observed.observed_us,
        )


class PublisherProgress(SessionProgress):
    """State, counters and lag of a publisher; a step is a frame.

    Lag is the time from a frame's oldest commit until Kafka had acknowledged the frame.
    """

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site = site
        self.epoch = 0
        self.covered = ""

    def running(self, inlet: Inlet, epoch: int) -> None:
        """Record that the session reads and publishes."""
        self.epoch = epoch
        self._began(inlet)

    def reads(self, inlet: Inlet) -> None:
        """Record that the session reads from ``inlet`` from now on."""
        self._inlet = inlet

    def published(
        self, transactions: Sequence[RawTransaction], covered: GtidSet, acknowledged_us: int
    ) -> None:
        """Count a frame that Kafka has acknowledged."""
        self.updated_us = acknowledged_us
        self.covered = str(covered)
        shipped = [t.commit_us for t in transactions if t.kind is not TransactionKind.SKIPPED]
        if shipped:
            self.transactions += len(shipped)
            self.steps += 1
            self._lags.append(self.updated_us - min(shipped))

    def snapshot(self) -> PublisherSnapshot:
        """Return the state of the publisher at this moment."""
        return PublisherSnapshot(
            **asdict(self._session()),
            site=self.site,
            epoch=self.epoch,
            frames=self.steps,
            covered_set=self.covered,
        )


class WatcherProgress(SessionProgress):
    """State and counters of a watcher; ``transactions`` counts native transactions.

    ``unwatched`` counts native transactions whose keys cannot be determined: conflicts of these
    transactions are not detected.
    """

    def __init__(self, site: str, index: Index) -> None:
        super().__init__()
        self.site = site
        self._index = index
        self.replicated = self.unwatched = 0

    def watching(self) -> None:
        """Record that the session reads."""
        self.steps += 1
        self.state, self.reason, self.error = "running", "", None

    def snapshot(self) -> WatcherSnapshot:
        """Return the state of the watcher and the index at this moment."""
        size = self._index.size()
        return WatcherSnapshot(
            **asdict(self._worker()),
            site=self.site,
            replicated=self.replicated,
            unwatched=self.unwatched,
            slots=size.slots,
            spilled_slots=size.spilled_slots,
            spilled_bytes=size.spilled_bytes,
            spill_error=size.spill_error,
            forgotten=size.forgotten,
            late_conflicts=self._index.late_conflicts,
        )
