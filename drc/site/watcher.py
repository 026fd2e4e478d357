"""The watcher: reads a site's own binlog into the window index. A loop.

The watcher follows the binlog of the site at which the daemon runs. The keys of each native
transaction go into the index. A batch is certified once the watcher has read up to the position
where the binlog ended when the batch had all row locks.

1. After a start the index gets all the keys that certificates need, because the watcher starts
   from the clock note, and all peers are known to have seen everything before that note (I4).
   No batch is certified before the watcher has caught up.
2. A native transaction that all peers knew when the index was begun advances the clock, and is
   not kept in the index.
3. No conflict is missed because of purged binlogs: the index learns the GTIDs of purged native
   transactions, and a stream stops rather than judge a change that has not seen all of these.
   With ``start = "now"``, nothing is concurrent before the first stream has begun.
4. An idle site stays silent, because a clock note never causes another clock note.
5. A broken link does not cost the index: the next session reads on from the end of the index, if
   the server is the same and has executed all that was read. After any other end, or with another
   configuration, the index is built again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from drc import mysql
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.binlog.xa import PreparedTransactions
from drc.clock import Mark
from drc.config import Config
from drc.conflict.live import LiveIndex, Met, Native
from drc.errors import DataError, TransientError
from drc.gtid import GtidSet
from drc.mysql import ServerFacts
from drc.pipe.tee import Tee
from drc.rows.tables import Definitions, Tables
from drc.rows.walk import changed_columns, touched_slots
from drc.schema import ledger
from drc.schema.clock_note import clock_note, write_note
from drc.schema.servers import foreign_uuids, remembered_if_readable
from drc.selection import Selection
from drc.source.dump import reads, start_dump
from drc.source.resume import native_set
from drc.source.tagger import Tagger
from drc.target.catalog import Catalog
from drc.worker.progress import WatcherProgress
from drc.worker.sessions import Worker

_NOTE_S = 1.0  # between clock notes while transactions come; a start reads from the newest note
_CANDIDATES_MAX = 1000  # for the next note, while a peer is away; beyond, no new candidates


class _Candidate(NamedTuple):
    """A candidate for the next clock note.

    ``native`` are the native transactions between the last note and the candidate.
    """

    already_read: GtidSet
    mark: Mark
    native: GtidSet


@dataclass
class _Read:
    """The state after everything that was read and is in the index; enough to read on.

    ``native`` are the native transactions since the last note. ``known`` are the native
    transactions that all peers knew when the index was begun. ``moved`` is True if anything but
    clock notes came since the last note.
    """

    config: Config
    server: bytes
    already_read: GtidSet
    tagger: Tagger
    native: GtidSet
    known: GtidSet
    prepared: PreparedTransactions = field(default_factory=PreparedTransactions)
    candidates: deque[_Candidate] = field(default_factory=deque)
    moved: bool = False

    def goes_on(self, config: Config, facts: ServerFacts) -> bool:
        """Return whether the server can send all that comes next, and the index is still right."""
        return (
            self.config is config
            and facts.server_uuid == self.server
            and self.already_read <= facts.gtid_executed
            and facts.gtid_purged <= self.already_read
        )

    def learn(self, foreign: AbstractSet[bytes]) -> None:
        """Count transactions of servers ``foreign`` as replicated, also transactions read before.

        As native transactions they would never be seen by any peer, and no clock note would ever
        be written again.
        """
        foreign = foreign - {self.server}  # a wrong note must not hide this site's own writes
        if self.tagger.learn(foreign):
            self.native = native_set(self.native, foreign)
            self.candidates = deque(
                candidate._replace(native=native_set(candidate.native, foreign))
                for candidate in self.candidates
            )


class Watcher(Worker):
    """Keep the index of ``site`` until told to stop."""

    progress: WatcherProgress

    def __init__(self, config: Config, site: str, stop: threading.Event, index: LiveIndex) -> None:
        progress = WatcherProgress(site, index)
        backoff_max_s = config.source.reconnect_backoff_max_s
        super().__init__(f"watch-{site}", site, stop, progress, backoff_max_s)
        self.config = config  # set again by a reload; the next session uses the new value
        self.tee = Tee()
        self._index = index
        self._read: _Read | None = None  # left by a session whose link broke

    def _session(self) -> None:
        with contextlib.ExitStack() as opened:
            opened.callback(self._index.interrupt)
            session = _Session(
                self.config,
                self._site,
                self.permit.halt,
                self.progress,
                self._index,
                self.tee,
                self._read,
                opened,
            )
            self._read = None
            try:
                session.run()
            except TransientError:
                self._read = session.read if session.whole else None
                raise


class _Session:
    """A session: reads from the clock note on, or goes on from the earlier session's ``read``.

    ``whole`` is True if all that came is in the index and no transaction is half read.
    """

    def __init__(
        self,
        config: Config,
        site: str,
        stop: threading.Event,
        progress: WatcherProgress,
        index: LiveIndex,
        tee: Tee,
        read: _Read | None,
        opened: contextlib.ExitStack,
    ) -> None:
        self._config, self._site = config, site
        self._stop, self._progress, self._index, self._tee = stop, progress, index, tee
        self._control = mysql.connect(config, site, "applier")
        opened.callback(self._control._force_close)  # type: ignore[attr-defined]
        conn = mysql.connect(config, site, "source")
        opened.callback(conn._force_close)  # type: ignore[attr-defined]
        facts = mysql.server_facts(conn)
        mysql.tag_session(self._control)
        selected, catalog = Selection(config.replicate).table, Catalog(self._control)
        self._tables = Tables(Definitions(selected, catalog.unique_keys))
        self._policies = config.conflicts.policies()
        self._framer = Framer(self._take, config.apply.transaction_stream_bytes)
        self._passed: list[Native | Met] = []
        self._missing = facts.gtid_executed  # to be read before the index is complete
        self.read = read if read and read.goes_on(config, facts) else self._begin(conn, facts)
        self._last = self.whole = True  # whether the newest transaction ended; no part is missing
        self._sock = start_dump(
            conn,
            self.read.already_read,
            server_id=config.dump_server_id(site, "watch"),
            stream=f"watch-{site}",
            heartbeat_s=config.source.heartbeat_s,
        )
        opened.enter_context(tee.reading(self.read.already_read))

    def _begin(self, conn: mysql.Connection, facts: ServerFacts) -> _Read:
        """Empty the index; return the state to read from, so that the index will be complete."""
        config, site, index = self._config, self._site, self._index
        already_read, mark = clock_note(conn, site)
        server = facts.server_uuid
        foreign = foreign_uuids(config, site, at=site, server=server) - {server}
        lost = native_set(facts.gtid_purged - already_read, foreign)
        index.restart()
        begun = False
        for origin in config.sites:
            if origin != site and (state := ledger.read(self._control, origin)):
                begun = True
                index.advance(origin, state.mark.seen)
        if not begun and config.replicate.start == "now":
            lost = GtidSet()
        known = index.known_to_all() or GtidSet()
        native = lost - known
        index.forget(native)
        already_read = already_read | facts.gtid_purged
        return _Read(config, server, already_read, Tagger(foreign, mark), native, known)

    def run(self) -> None:
        """Follow the binlog until stopped.

        :raises DrcError: the error that ended the session.
        """
        due = time.monotonic() + _NOTE_S
        self._progress.watching()
        self._learn()
        for data in reads(self._sock):
            if self._stop.is_set():
                return
            self.whole = False
            self._framer.feed(data)
            self._tee.begun(self._framer.format_description, len(data))
            complete = not self._missing or self._missing <= self.read.already_read
            if complete:
                self._missing = GtidSet()
            self._index.record(self._passed, self._framer.position if complete else None)
            self._passed = []
            self.whole = self._last
            if time.monotonic() >= due:
                self._learn()
                self._note()
                due = time.monotonic() + _NOTE_S

    # ------------------------------------------------------------ transactions

    def _take(self, transactions: list[RawTransaction]) -> None:
        read = self.read
        self._tee.pass_on(read.tagger.tag(transactions))
        self._last = transactions[-1].last
        for transaction in transactions:
            if transaction.kind is TransactionKind.SKIPPED:
                self._progress.replicated += 1
                if transaction.learned:
                    read.moved = True
                    self._passed.append(Met(*transaction.learned))
            elif transaction.kind is TransactionKind.DDL:
                read.moved = True
                read.native.add(transaction.gtid)
                self._tables.forget()
            elif admitted := read.prepared.admit(transaction):
                self._watch(admitted)

    def _watch(self, transaction: RawTransaction) -> None:
        read = self.read
        read.moved = True
        read.native.add(transaction.gtid)
        self._progress.transactions += 1
        if read.known and transaction.gtid in read.known:
            return  # all peers knew the transaction when the index was begun
        try:
            slots = touched_slots(transaction, self._tables)
        except DataError:  # no primary key: no peer can apply it either
            slots = None
        if slots is None:
            self._progress.unwatched += 1
        elif slots:
            columns = None
            if self._policies.ask_columns:
                wanted = self._policies.asks_columns
                columns = changed_columns(transaction, self._tables, wanted)
            self._passed.append(Native(transaction.gtid, transaction.ets, slots, columns))

    def _learn(self) -> None:
        """Learn which servers other sites have had, as a promotion may add a server at any time."""
        self.read.learn(remembered_if_readable(self._control).foreign_to(self._site))

    # ------------------------------------------------------------ notes

    def _note(self) -> None:
        """Write a clock note for the newest candidate whose native transactions all peers know."""
        read = self.read
        if not read.moved:
            return
        if not read.prepared.held and len(read.candidates) < _CANDIDATES_MAX:
            clock = read.tagger.clock.mark
            read.candidates.append(_Candidate(read.already_read.copy(), clock, read.native.copy()))
        known = self._index.known_to_all() or GtidSet()
        best: _Candidate | None = None
        while read.candidates and read.candidates[0].native <= known:
            best = read.candidates.popleft()
        if best:
            write_note(self._control, best.already_read, best.mark)
            read.native = read.native - best.native
            read.moved = bool(read.candidates)
