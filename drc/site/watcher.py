"""A site's own binlog, read for the window index: the other half of every certificate. A loop.

The watcher follows the binlog of the site that it runs at. Each native transaction's keys go into
the index; the position it has reached is what a certificate waits for.

1. It starts from where the clock was noted, which all peers are known to have seen (I4): so
   after a start the index has all it needs. Before it has caught up nothing is certified.
2. What all peers knew when it began is passed through the clock, and not kept.
3. What the binlog does not hold any more is named to the index, and what has not seen it is
   not judged. Before the first stream of ``start = "now"`` nothing is concurrent.
4. Our own notes never make it write another one: an idle site stays silent.
5. A link that breaks costs a link: the next session reads on from where the index stands, if the
   server is the same and has all that was read. Any other end, and another configuration, has
   the index built anew.
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

_NOTE_S = 1.0  # how often the clock is noted while there is something new: a start reads from there
_CANDIDATES_MAX = 1000  # for the next note, while a peer is away; then from the oldest on


class _Candidate(NamedTuple):
    """A moment of the binlog, and what was written here between the last note and it."""

    already_read: GtidSet
    mark: Mark
    native: GtidSet


@dataclass
class _Read:
    """What was read and is in the index: all that is needed to read on.

    ``native`` is what was written here since the note, ``known`` what all peers knew when the
    index was begun; ``moved`` whether anything but notes came since the last one.
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
        """Return whether this server can send what comes next, and the index is as it should."""
        return (
            self.config is config
            and facts.server_uuid == self.server
            and self.already_read <= facts.gtid_executed
            and facts.gtid_purged <= self.already_read
        )

    def learn(self, foreign: AbstractSet[bytes]) -> None:
        """Count transactions of these servers as replicated, also those that were read before.

        Else no peer would ever have seen them, and the clock would not be noted any more.
        """
        if self.tagger.learn(foreign):
            self.native = native_set(self.native, foreign)
            self.candidates = deque(
                one._replace(native=native_set(one.native, foreign)) for one in self.candidates
            )


class Watcher(Worker):
    """Keep the index of ``site`` until told to stop."""

    progress: WatcherProgress

    def __init__(self, config: Config, site: str, stop: threading.Event, index: LiveIndex) -> None:
        progress = WatcherProgress(site, index)
        backoff_max_s = config.source.reconnect_backoff_max_s
        super().__init__(f"watch-{site}", site, stop, progress, backoff_max_s)
        self.config = config  # a new one holds from the next session on
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
    """One run over the binlog, from the note on or from what the session before had ``read``.

    ``whole`` is whether all that came is in the index, and no transaction is half read.
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
        self._missing = facts.gtid_executed  # what must be read before the index is complete
        self.read = read if read and read.goes_on(config, facts) else self._begin(conn, facts)
        self._last = self.whole = True  # of the newest transaction; of all that came
        self._sock = start_dump(
            conn,
            self.read.already_read,
            server_id=config.dump_server_id(site, "watch"),
            stream=f"watch-{site}",
            heartbeat_s=config.source.heartbeat_s,
        )
        opened.enter_context(tee.reading(self.read.already_read))

    def _begin(self, conn: mysql.Connection, facts: ServerFacts) -> _Read:
        """Empty the index; return where to read from so that it will have all that it needs."""
        config, site, index = self._config, self._site, self._index
        already_read, mark = clock_note(conn, site)
        foreign = foreign_uuids(config, site, at=site)
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
        return _Read(config, facts.server_uuid, already_read, Tagger(foreign, mark), native, known)

    def run(self) -> None:
        """Follow the binlog until stopped.

        :raises DrcError: what ended it.
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
            return  # all peers knew it when we began
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
        """Learn which servers other sites have had: one may be promoted while this watches."""
        self.read.learn(remembered_if_readable(self._control).foreign_to(self._site))

    # ------------------------------------------------------------ notes

    def _note(self) -> None:
        """Note the newest clock before which all peers know everything that was written here."""
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
