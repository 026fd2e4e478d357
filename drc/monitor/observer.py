"""The observer of one site: it adds to each stream's progress what others know of it. A loop.

Each second it joins the servers' pulses with what the streams say of themselves: how far behind
they are, at which rate they move, and what holds them. It decides nothing, and nothing waits
for it.
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
# Kafka's ApiVersions request, version 0: a frozen broker's kernel accepts connections, too.
_API_VERSIONS = bytes.fromhex("0000000d 0012 0000 00000001 0003 647263")
_SILENCE_S = 3.0  # beyond the time in which an idle site publishes a frame


class Waiting(NamedTuple):
    """The GTIDs that a stream had decided, and since when those after them wait."""

    decided: GtidSet
    since_us: int


@dataclass
class _Seen:
    """What is known of one stream from the last second to this one."""

    progress: StreamProgress
    ages: Ages = field(default_factory=Ages)
    at_us: int = 0
    counts: tuple[int, int, int] = (0, 0, 0)  # transactions, rows, bytes of the session
    totals: tuple[int, int] = (0, 0)  # transactions and bytes, skipped ones included
    steps: int = -1
    moved_us: int = field(default_factory=now_us)  # when it last committed, or had nothing to
    holder: Holder | None = None
    table: str = ""
    untold: bool = False
    broker_away: str = ""
    blocked: Hold | None = None
    before: Waiting | None = None  # until anything is decided since
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.history = History(self.progress.origin, self.progress.target)

    def waited_s(self) -> float:
        """Return for how long there was something to commit, and nothing was."""
        progress, now = self.progress, now_us()
        idle = progress.state == "running" and progress.oldest_us is None
        if progress.steps != self.steps or idle:
            self.steps, self.moved_us = progress.steps, now
            self.holder, self.table = None, ""
        return (now - self.moved_us) / 1e6


class Observer:
    """Observe the streams into ``site``; ``publisher`` is the site's own, if there is one.

    :param before: what this site's daemon said last, before it started again; a hint.
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
        self._seen = [_Seen(p, before=waiting.get(p.origin)) for p in streams]
        self._places = {name: (s.host, s.port) for name, s in config.sites.items()}
        self._pulses = {
            name: Pulse(config, name, "applier", self._ask)
            if name == site
            else Pulse(config, name, "source")
            for name in config.sites
        }

    def close(self) -> None:
        """Let go of the servers."""
        for pulse in self._pulses.values():
            pulse.close()

    def tick(self) -> list[Bucket]:
        """Look at everything once; return what the history of lag has to remember of it."""
        out: list[Bucket] = []
        if self._publisher:
            self._publisher.offset_us = self._pulses[self._site].offset.us
        for seen in self._seen:
            progress = seen.progress
            progress.offset_us = self._pulses[progress.origin].offset.us
            blocked = explain(self._facts(seen))
            look = self._pulses[progress.origin].look
            progress.observed = Observed(
                rates=self._rates(seen),
                behind=self._behind(seen, look),
                observed_us=look.at_us if look else 0,
                blocked=_since(blocked, seen),
            )
            kept = sample(progress.state, progress.observed, progress.passages.drain())
            out += seen.history.add(now_us(), kept)
        return out

    # ------------------------------------------------------------ how far, how fast

    def _rates(self, seen: _Seen) -> Rates:
        progress, now = seen.progress, now_us()
        counts = (progress.transactions, progress.rows_in, progress.intake.read_bytes)
        passed_s = max(1, now - seen.at_us) / 1e6
        # A session counts its bytes from zero.
        grown = [max(0, a - b) for a, b in zip(counts, seen.counts, strict=True)]
        if seen.at_us:
            seen.totals = seen.totals[0] + grown[0], seen.totals[1] + grown[2]
        else:
            grown = [0, 0, 0]
        seen.counts, seen.at_us = counts, now
        transactions, rows, size = (round(n / passed_s, 1) for n in grown)
        return Rates(transactions=transactions, rows=rows, bytes=size)

    def _behind(self, seen: _Seen, look: Look | None) -> Behind:
        """Return how far behind a stream is as of the last look at its origin."""
        if look is None or not seen.progress.decided:
            return Behind()
        progress, offset_us = seen.progress, seen.progress.offset_us
        oldest_us, decided_us = progress.oldest_us, progress.decided_us
        decided = GtidSet.parse(progress.decided)
        undecided, seen_us = seen.ages.look(
            look.at_us,
            look.executed,
            decided,
            foreign(self._pulses, progress.origin),
            None if decided_us is None else decided_us - offset_us,
        )
        if seen.before and decided <= seen.before.decided:  # nothing of it was decided since
            seen_us = min(seen_us, seen.before.since_us)
        else:
            seen.before = None
        transactions, size = seen.totals
        return measure(
            undecided,
            now_us=now_us() if self._pulses[progress.origin].error else look.at_us,
            seen_us=seen_us,
            read_us=None if oldest_us is None else oldest_us - offset_us,
            waiting_bytes=progress.intake.waiting_bytes,
            mean_bytes=size / transactions if transactions else None,
        )

    # ------------------------------------------------------------ what holds it

    def _facts(self, seen: _Seen) -> Facts:
        progress, kafka = seen.progress, self._config.log == "kafka"
        waited_s, doing = seen.waited_s(), progress.doing
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
            broker_away=seen.broker_away,
            silent_s=_silent_s(progress),
            silence_max_s=silence_s if progress.state == "running" else 0.0,
            waited_s=waited_s,
            phase=doing.phase if doing else "",
            table=seen.table or (", ".join(doing.tables()) if doing and waited_s > SLOW_S else ""),
            transactions=len(native),
            gtids=str(GtidSet.of(t.gtid for t in native)),
            statement=doing.statement if doing else "",
            holder=seen.holder,
            untold=seen.untold,
        )

    def _ask(self, conn: mysql.Connection) -> None:
        """Ask after what has waited for long; runs in the thread of this site's pulse."""
        for seen in self._seen:
            if not seen.progress.decided and (state := ledger.read(conn, seen.progress.origin)):
                seen.progress.decided_in_ledger = str(state.decided)
            if self._config.log == "kafka":
                seen.broker_away = self._dial(seen.progress)
            doing = seen.progress.doing
            if doing and seen.waited_s() > PATIENCE_S:
                self._ask_after(conn, seen, doing)

    def _ask_after(self, conn: mysql.Connection, seen: _Seen, doing: Doing) -> None:
        try:
            # One look may fall between two attempts: what was found holds until it moves.
            seen.holder = holder(conn, doing.connection) or seen.holder
            seen.table = (seen.holder and seen.holder.table) or busiest(conn, doing.tables())
            seen.untold = False
        except DrcError as error:
            if error.errno not in NO_RIGHT:
                raise
            seen.untold, seen.table = True, ", ".join(doing.tables())

    def _dial(self, progress: StreamProgress) -> str:
        """Return the brokers of a log that has fallen silent, if none of them answers."""
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
                dialled.recv(1)  # by one that wants TLS, the connection is closed
                return ""
        return ", ".join(brokers)


def waiting_before(said: Snapshot) -> dict[str, Waiting]:
    """Return by origin how its stream stood when the site's daemon spoke last."""
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


def _since(blocked: Blocked | None, seen: _Seen) -> Hold | None:
    """Return what is said of a block; the same one keeps its beginning."""
    if blocked is None:
        seen.blocked = None
        return None
    before = seen.blocked
    same = before is not None and before.what == blocked.what
    since = before.since_us if before and same else min(now_us(), seen.moved_us)
    seen.blocked = Hold(since_us=since, **blocked._asdict())
    return seen.blocked
