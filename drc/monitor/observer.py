"""Observer of a site: adds backlog, rates and holds to each stream's progress. A loop.

Each second the observer joins the servers' pulses with the progress of the streams. The observer
decides nothing, and no stream waits for the observer.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drc import mysql
from drc.binlog.stamps import now_us
from drc.config import Config
from drc.errors import NO_RIGHT, DrcError
from drc.gtid import GtidSet
from drc.monitor.behind import Ages, measure
from drc.monitor.blocked import PATIENCE_S, SLOW_S, Blocked, Facts, Holder, explain
from drc.monitor.locks import busiest, holder
from drc.monitor.pulse import Look, Pulse, foreign
from drc.schema import ledger
from drc.state.lag_history import Bucket, History, sample
from drc.worker.doing import Doing
from drc.worker.progress import Observed, PublisherProgress, StreamProgress
from drc.worker.snapshot import Behind, Hold, Rates, Snapshot

_DIAL_S = 1.0
# Kafka's ApiVersions request, version 0. A connection alone proves nothing: the kernel accepts
# connections for a frozen broker, too.
_API_VERSIONS = bytes.fromhex("0000000d 0012 0000 00000001 0003 647263")
_SILENCE_S = 3.0  # beyond `kafka.idle_frame_s`, after which an idle site publishes a frame


class Waiting(NamedTuple):
    """The decided set of a stream, and since when the next transaction waits."""

    decided: GtidSet
    since_us: int


@dataclass
class _Track:
    """A stream as the observer remembers the stream from second to second."""

    progress: StreamProgress
    ages: Ages = field(default_factory=Ages)
    at_us: int = 0
    counts: tuple[int, int, int] = (0, 0, 0)  # transactions, rows, bytes of the session
    totals: tuple[int, int] = (0, 0)  # transactions and bytes, skipped transactions included
    steps: int = -1
    moved_us: int = field(default_factory=now_us)  # when the stream last committed or was idle
    holder: Holder | None = None
    table: str = ""
    locks_hidden: bool = False
    broker_away: str = ""
    blocked: Hold | None = None
    before: Waiting | None = None  # from before a restart, until another GTID is decided
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.history = History(self.progress.origin, self.progress.target)

    def waited_s(self) -> float:
        """Return for how many seconds there was work to commit, and no commit."""
        progress, now = self.progress, now_us()
        idle = progress.state == "running" and progress.oldest_us is None
        if progress.steps != self.steps or idle:
            self.steps, self.moved_us = progress.steps, now
            self.holder, self.table = None, ""
        return (now - self.moved_us) / 1e6


class Observer:
    """Observe the streams into ``site``.

    :param publisher: the progress of the site's publisher, None without Kafka.
    :param before: the last snapshot before a restart of this site's daemon; a hint.
    """

    def __init__(
        self,
        config: Config,
        site: str,
        streams: Sequence[StreamProgress],
        publisher: PublisherProgress | None,
        before: Snapshot | None = None,
    ) -> None:
        self._config, self._site, self._publisher = config, site, publisher
        waiting = waiting_before(before) if before else {}
        self._tracks = [_Track(p, before=waiting.get(p.origin)) for p in streams]
        self._places = {name: (s.host, s.port) for name, s in config.sites.items()}
        self._pulses = {
            name: Pulse(config, name, "applier", self._ask)
            if name == site
            else Pulse(config, name, "source")
            for name in config.sites
        }

    def close(self) -> None:
        """Close the connections to the servers."""
        for pulse in self._pulses.values():
            pulse.close()

    def tick(self) -> list[Bucket]:
        """Observe each stream once; return the buckets to save for the history of lag."""
        out: list[Bucket] = []
        if self._publisher:
            self._publisher.offset_us = self._pulses[self._site].offset.us
        for track in self._tracks:
            progress = track.progress
            progress.offset_us = self._pulses[progress.origin].offset.us
            blocked = explain(self._facts(track))
            look = self._pulses[progress.origin].look
            progress.observed = Observed(
                rates=self._rates(track),
                behind=self._behind(track, look),
                observed_us=look.at_us if look else 0,
                blocked=_since(blocked, track),
            )
            kept = sample(progress.state, progress.observed, progress.passages.drain())
            out += track.history.add(now_us(), kept)
        return out

    # ------------------------------------------------------------ how far, how fast

    def _rates(self, track: _Track) -> Rates:
        progress, now = track.progress, now_us()
        counts = (progress.transactions, progress.rows_in, progress.intake.read_bytes)
        passed_s = max(1, now - track.at_us) / 1e6
        # Each session counts bytes from zero.
        grown = [max(0, a - b) for a, b in zip(counts, track.counts, strict=True)]
        if track.at_us:
            track.totals = track.totals[0] + grown[0], track.totals[1] + grown[2]
        else:
            grown = [0, 0, 0]
        track.counts, track.at_us = counts, now
        transactions, rows, size = (round(n / passed_s, 1) for n in grown)
        return Rates(transactions=transactions, rows=rows, bytes=size)

    def _behind(self, track: _Track, look: Look | None) -> Behind:
        """Return how far behind a stream is as of the last look at its origin."""
        if look is None or not track.progress.decided:
            return Behind()
        progress, offset_us = track.progress, track.progress.offset_us
        oldest_us, decided_us = progress.oldest_us, progress.decided_us
        decided = GtidSet.parse(progress.decided)
        undecided, executed_us = track.ages.look(
            look.at_us,
            look.executed,
            decided,
            foreign(self._pulses, progress.origin),
            None if decided_us is None else decided_us - offset_us,
        )
        if track.before and decided <= track.before.decided:  # no further GTID is decided
            executed_us = min(executed_us, track.before.since_us)
        else:
            track.before = None
        transactions, size = track.totals
        return measure(
            undecided,
            now_us=now_us() if self._pulses[progress.origin].error else look.at_us,
            executed_us=executed_us,
            read_us=None if oldest_us is None else oldest_us - offset_us,
            waiting_bytes=progress.intake.waiting_bytes,
            mean_bytes=size / transactions if transactions else None,
        )

    # ------------------------------------------------------------ holds

    def _facts(self, track: _Track) -> Facts:
        progress, kafka = track.progress, self._config.log == "kafka"
        waited_s, doing = track.waited_s(), progress.doing
        native = doing.native if doing else []
        away = {n: p.error.message for n, p in self._pulses.items() if p.error}
        silence_s = self._config.kafka.idle_frame_s + _SILENCE_S if kafka else 0.0
        return Facts(
            origin=progress.origin,
            target=progress.target,
            places=self._places,
            state=progress.state,
            reason=progress.reason,
            error=progress.error,
            away=away,
            broker_away=track.broker_away,
            silent_s=_silent_s(progress),
            silence_max_s=silence_s if progress.state == "running" else 0.0,
            waited_s=waited_s,
            phase=doing.phase if doing else "",
            table=track.table or (", ".join(doing.tables()) if doing and waited_s > SLOW_S else ""),
            transactions=len(native),
            gtids=str(GtidSet.of(t.gtid for t in native)),
            statement=doing.statement if doing else "",
            holder=track.holder,
            locks_hidden=track.locks_hidden,
        )

    def _ask(self, conn: mysql.Connection) -> None:
        """Ask the server about batches that have waited; called by the thread of the pulse."""
        for track in self._tracks:
            if not track.progress.decided and (state := ledger.read(conn, track.progress.origin)):
                track.progress.decided_in_ledger = str(state.decided)
            if self._config.log == "kafka":
                track.broker_away = self._dial(track.progress)
            doing = track.progress.doing
            if doing and track.waited_s() > PATIENCE_S:
                self._ask_after(conn, track, doing)

    def _ask_after(self, conn: mysql.Connection, track: _Track, doing: Doing) -> None:
        try:
            # A look may fall between two attempts to lock: the holder found counts until a commit.
            track.holder = holder(conn, doing.connection) or track.holder
            track.table = (track.holder and track.holder.table) or busiest(conn, doing.tables())
            track.locks_hidden = False
        except DrcError as error:
            if error.errno not in NO_RIGHT:
                raise
            track.locks_hidden, track.table = True, ", ".join(doing.tables())

    def _dial(self, progress: StreamProgress) -> str:
        """Return the brokers of a silent topic if no broker answers, such as ``k1:9092, k2:9092``.

        :return: '' while the topic brings messages or a broker answers.
        """
        if _silent_s(progress) < self._config.kafka.idle_frame_s + 1:
            return ""
        brokers = self._config.brokers(progress.origin)
        for broker in brokers:
            host, _, port = broker.rpartition(":")
            with (
                contextlib.suppress(OSError),
                socket.create_connection((host.strip("[]"), int(port)), _DIAL_S) as dialled,
            ):
                dialled.sendall(_API_VERSIONS)
                dialled.recv(1)  # a broker that wants TLS closes the connection: an answer, too
                return ""
        return ", ".join(brokers)


def waiting_before(said: Snapshot) -> dict[str, Waiting]:
    """Return, by origin, the streams that had a backlog in the last snapshot."""
    return {
        one.origin: Waiting(
            GtidSet.parse(one.applied_set),
            one.observed_us - int(one.behind.seconds * 1e6),
        )
        for one in said.streams
        if one.behind.transactions and one.behind.seconds is not None
    }


def _silent_s(progress: StreamProgress) -> float:
    return (now_us() - progress.heard_us) / 1e6 if progress.heard_us else 0.0


def _since(blocked: Blocked | None, track: _Track) -> Hold | None:
    """Return a block with its begin; a block of the same kind keeps the begin."""
    if blocked is None:
        track.blocked = None
        return None
    before = track.blocked
    same = before is not None and before.what == blocked.what
    since = before.since_us if before and same else min(now_us(), track.moved_us)
    track.blocked = Hold(since_us=since, **blocked._asdict())
    return track.blocked
