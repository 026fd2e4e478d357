"""One stream: everything native at its origin, applied at its target. A loop.

A session is: ask the target's ledger what is decided, read the origin from there, apply until
something breaks. Every trouble ends in a new session, so there is one way to start: after a
crash, a lost link, a restart of either server, a promotion.

1. Only the target's ledger says where to start. The checkpoint store is never asked.
2. A trouble that passes by itself is retried for ever, with a bounded backoff; one that needs a
   person stops the stream and says what to do.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import Any

import pymysql

from drc import mysql
from drc.apply import ledger
from drc.apply.batch import Batch, Batcher, BatchLimit
from drc.apply.catalog import Catalog
from drc.apply.certifier import SingleWriter
from drc.apply.conveyor import Conveyor
from drc.apply.feeder import Feeder
from drc.apply.lane import Lane
from drc.apply.netting import Tables
from drc.config import Config
from drc.errors import DataError, DrcError, PreflightError, TransientError
from drc.gtid import GtidSet
from drc.log.direct import DirectLog
from drc.monitor.progress import StreamProgress
from drc.selection import Selection
from drc.source.reader import Reader
from drc.source.tagger import TAG, Tagger

_BACKOFF_FIRST_S = 0.1
_FIRST_EVENT_S = 30.0  # the format description comes at once, unless the source is stuck


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a session starts: the ledger's state, and the GTIDs the source need not send."""

    state: ledger.LedgerState
    executed: GtidSet


def resume_set(
    applied: GtidSet, executed: GtidSet, purged: GtidSet, foreign: set[bytes]
) -> GtidSet:
    """Return the GTIDs not to ask for; pure.

    What the source has purged can only be left out if it is not ours to ship: replicated
    transactions are tagged, or carry another site's GTIDs.

    :param applied: the ledger's set.
    :param executed: the source's ``gtid_executed``.
    :raises PreflightError: transactions we need are purged, by name.
    :raises DataError: the source does not have what it has shipped: it lost transactions.
    """
    lost = applied - executed
    if lost:
        raise DataError(
            f"the source no longer has transactions that were applied here: {lost}",
            stage="read",
            hint="it lost its newest binlog (sync_binlog = 1 prevents that): compare and repair",
        )
    missing = purged - applied
    missing = missing - missing.with_tag(TAG) - missing.of_uuids(foreign)
    if missing:
        raise PreflightError(
            f"the source has purged transactions that were not applied here: {missing}",
            stage="read",
            hint="restore those binlogs; or copy the data anew and set replicate.start to the"
            " GTID set of the copy",
        )
    return applied | purged


def _start_set(start: str, executed: GtidSet, foreign: set[bytes]) -> GtidSet:
    """Return what a new stream takes for applied; pure.

    :param start: ``now``, ``earliest``, or a GTID set. One set serves all streams, so the part of
        other sites is left out.
    """
    if start == "now":
        return executed
    if start == "earliest":
        return GtidSet()
    given = GtidSet.parse(start)
    return given - given.of_uuids(foreign)


class Stream:
    """Replicate from ``origin`` to ``target`` until told to stop.

    ``progress`` is what others may read at any time.
    """

    def __init__(self, config: Config, origin: str, target: str, stop: threading.Event) -> None:
        self._config = config
        self._origin = origin
        self._target = target
        self._stop = stop
        self.progress = StreamProgress(origin, target)

    @property
    def name(self) -> str:
        """Return ``origin->target``."""
        return f"{self._origin}->{self._target}"

    def run(self) -> None:
        """Run sessions until stopped.

        :raises DrcError: something that a person must mend.
        """
        backoff = _BACKOFF_FIRST_S
        while not self._stop.is_set():
            before = self.progress.batches
            self.progress.connecting()
            try:
                with contextlib.closing(_Session(self, self._config)) as session:
                    session.run()
            except TransientError as error:
                if self.progress.batches > before:
                    backoff = _BACKOFF_FIRST_S
                self.progress.broken(error)
                self._stop.wait(backoff)
                backoff = min(backoff * 2, self._config.source.reconnect_backoff_max_s)
            except DrcError as error:
                error.site = error.site or self._target
                self.progress.stopped(error)
                raise
        self.progress.stopped(None)


class _Session:
    """One run from the ledger on; everything it opened is closed with it."""

    def __init__(self, stream: Stream, config: Config) -> None:
        self._config = config
        self._progress = stream.progress
        self._stop = stream._stop
        self._origin, self._target = stream._origin, stream._target
        self._open = contextlib.ExitStack()
        try:
            self._start(stream.name)
        except BaseException:
            self._open.close()
            raise

    def close(self) -> None:
        self._open.close()

    def _connect(self, site: str, role: str, **options: Any) -> pymysql.Connection[Any]:
        settings = self._config.sites[site]
        return mysql.connect(settings, getattr(settings, role), site_name=site, **options)

    def _start(self, name: str) -> None:
        config = self._config
        control = self._connect(self._target, "applier")
        self._open.callback(control._force_close)  # type: ignore[attr-defined]
        self._tags = mysql.server_facts(control).has_tags
        source = self._connect(self._origin, "source")
        foreign = self._foreign_uuids()
        resume = self._resume(control, source, foreign)
        self._selection = Selection(config.replicate)
        self._log = DirectLog(config.apply.queue_bytes_max)
        self._reader = Reader(
            source,
            self._log,
            Tagger(foreign),
            executed=resume.executed,
            server_id=config.dump_server_id(self._origin, self._target),
            stream=name,
            heartbeat_s=config.source.heartbeat_s,
            stream_bytes=config.apply.transaction_stream_bytes,
        )
        self._open.callback(self._reader.close)
        self._format = self._reader.format_description(_FIRST_EVENT_S)
        self._feeder = self._build_feeder(Catalog(control), resume)
        self._progress.running(self._log, self._reader, self._feeder)

    def _build_feeder(self, catalog: Catalog, resume: Resume) -> Feeder:
        apply, progress = self._config.apply, self._progress
        # Two cores already have this process and the target to run; more than three at once
        # only lengthens what is rolled back on a collision.
        parallel = apply.parallel or max(1, min(3, (os.cpu_count() or 2) // 2))
        limit = BatchLimit(apply.batch_transactions_max, apply.batch_target_ms)

        def on_commit(batch: Batch) -> None:
            limit.executed(batch)
            progress.committed(batch)

        lanes = [self._lane() for _ in range(max(apply.lanes, parallel + 1))]
        conveyor = Conveyor(
            lanes,
            self._origin,
            resume.state,
            SingleWriter(),
            parallel,
            on_commit,
            self._log.wake,
        )
        self._open.callback(conveyor.close)
        tables = Tables(self._selection.table, catalog.unique_keys)
        batcher = Batcher(
            tables,
            resume.executed,
            bytes_max=apply.batch_bytes_max,
            net_rows=apply.net_rows,
            slots=parallel > 1,
        )
        return Feeder(
            self._log,
            conveyor,
            tables,
            batcher,
            limit,
            origin=self._origin,
            ddl_mode=self._config.replicate.ddl,
            open_lane=self._lane,
            selects=self._selection.schema,
            progress=progress,
            stop=self._stop,
        )

    def run(self) -> None:
        """Apply until stopped or broken."""
        self._feeder.run()

    def _lane(self) -> Lane:
        def connect(client_flag: int) -> pymysql.Connection[Any]:
            return self._connect(self._target, "applier", client_flag=client_flag)

        wait = self._config.apply.lock_wait_timeout_s
        return Lane(connect, self._format, tag=self._tags, lock_wait_s=wait)

    def _foreign_uuids(self) -> set[bytes]:
        """Return the server UUIDs of all sites but the origin.

        :raises TransientError: a site was not reachable and its UUID is not configured.
        """
        out: set[bytes] = set()
        for site in self._config.sites:
            if site != self._origin:
                with contextlib.closing(self._connect(site, "source")) as conn:
                    out.add(mysql.server_facts(conn).server_uuid)
        return out

    def _resume(
        self, control: pymysql.Connection[Any], source: pymysql.Connection[Any], foreign: set[bytes]
    ) -> Resume:
        facts = mysql.server_facts(source)
        state = ledger.read(control, self._origin)
        if state is None:
            applied = _start_set(self._config.replicate.start, facts.gtid_executed, foreign)
            state = ledger.create(control, self._origin, applied)
        executed = resume_set(state.applied, facts.gtid_executed, facts.gtid_purged, foreign)
        self._progress.resumed(executed)
        return Resume(state, executed)
