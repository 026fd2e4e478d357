"""The assembly: the parts of a stream's session that apply, put together.

Only this file knows which part gets which other part: a stream decides where a session starts, an
assembly builds the parts.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from drc.apply.batch import Batch, Batcher, BatchLimit, Point
from drc.apply.conveyor import Conveyor
from drc.apply.feeder import Feeder
from drc.apply.intake import Intake
from drc.apply.solo import SchemaChanges, Solo
from drc.apply.throttle import Throttle
from drc.config import Config
from drc.conflict.certifier import Causal, SingleWriter
from drc.conflict.live import LiveIndex
from drc.gtid import Gtid, GtidSet
from drc.pipe.queue import TransactionQueue
from drc.rows.mask import Mask
from drc.rows.tables import Definitions, Tables
from drc.schema.ledger import LedgerState
from drc.selection import Selection
from drc.settle.settler import Settler
from drc.target.catalog import Catalog
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress


@dataclass(frozen=True)
class Assembly:
    """The applying side of a session.

    ``state`` is the state in the ledger. ``already_decided`` is the decided set of that state and
    the transactions skipped since. ``given_up`` are the GTIDs that an operator excluded.
    ``with_rivals`` are large transactions to settle row by row.
    """

    config: Config
    progress: StreamProgress
    stop: threading.Event
    queue: TransactionQueue
    catalog: Catalog
    open_lane: Callable[[], Lane]
    index: LiveIndex | None
    state: LedgerState
    already_decided: GtidSet
    given_up: GtidSet
    with_rivals: set[Gtid]
    on_quiet: Callable[[Point], None]

    def feeder(self, opened: contextlib.ExitStack) -> Feeder:
        """Return the feeder, with lanes connected; ``opened`` closes the lanes."""
        apply, progress = self.config.apply, self.progress
        conveyor = self._conveyor()
        opened.callback(conveyor.close)
        batcher = self._batcher()
        replicate = self.config.replicate
        schema_changes = SchemaChanges(replicate.ddl, self._selection.schema, self.open_lane)
        settler = self._settler()
        solo = Solo(conveyor, batcher, schema_changes, settler, self.with_rivals, progress)
        return Feeder(
            Intake(self.queue, self.given_up, self.stop),
            batcher,
            self._limit,
            Throttle(apply.transactions_per_s_max),
            conveyor,
            solo,
            progress=progress,
            on_quiet=self.on_quiet,
        )

    @cached_property
    def _selection(self) -> Selection:
        return Selection(self.config.replicate)

    @cached_property
    def _tables(self) -> Tables:
        return Tables(Definitions(self._selection.is_applied, self.catalog.unique_keys))

    @cached_property
    def _causal(self) -> Causal | None:
        return Causal(self.index, self.progress.origin, self._tables) if self.index else None

    @cached_property
    def _limit(self) -> BatchLimit:
        apply = self.config.apply
        return BatchLimit(apply.batch_transactions_max, apply.batch_target_ms, apply.batch_calm_ms)

    @property
    def _parallel(self) -> int:
        # On two cores this process and the target leave no room for a second batch. More than
        # three batches at once only add to the work that a collision rolls back.
        return self.config.apply.parallel or max(1, min(3, (os.cpu_count() or 2) // 2))

    def _conveyor(self) -> Conveyor[Lane]:
        apply, progress, index = self.config.apply, self.progress, self.index

        def on_commit(batch: Batch) -> None:
            self._limit.learn(batch, batch.late_us(progress.offset_us))
            progress.committed(batch)
            if index:
                index.advance(progress.origin, batch.mark.seen)

        return Conveyor(
            [self.open_lane() for _ in range(max(apply.lanes, self._parallel + 1))],
            progress.origin,
            self.state,
            self._causal or SingleWriter(),
            self._parallel,
            apply.batch_target_ms * 1000,
            on_commit,
            self.queue.wake,
        )

    def _batcher(self) -> Batcher:
        apply = self.config.apply
        return Batcher(
            self._tables,
            self.already_decided,
            bytes_max=apply.batch_bytes_max,
            passed=self.already_decided - self.state.decided,
            net_rows=apply.net_rows,
            slots=self._parallel > 1 or self.index is not None,
            lock_passing=self.index is not None,
        )

    def _settler(self) -> Settler | None:
        if self._causal is None:
            return None
        conflicts = self.config.conflicts
        mask = Mask(conflicts.mask, self.config.name)
        return Settler(self._causal, self._tables, conflicts.policies(), mask)
