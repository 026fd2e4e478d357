"""A site in memory: rows, a binlog, and the daemon that watches the binlog and applies.

The clock, the index and the resolver are the real classes, or mutations. Not modelled: bytes,
SQL, threads. A step is atomic; in MySQL locks have that effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drc.clock import NOTHING, Mark
from drc.conflict.function import Asked, Conflict, Verdict, Version
from drc.conflict.merge import beats, withdraws
from drc.conflict.resolver import Change, ConflictKind, Decision, RowAction, Winner
from drc.conflict.writes import Rivals
from drc.gtid import Gtid, GtidSet
from drc.testing.segment import MemorySegment
from tests.simulation.model import (
    UUIDS,
    CrashedError,
    Edit,
    Entry,
    Learned,
    Native,
    Pair,
    Row,
    Taken,
    show,
)

if TYPE_CHECKING:
    from tests.simulation.world import World


Decided = tuple[Edit, Rivals, Decision, Row | None]  # the row is the outcome


class Stream:
    """The native transactions of ``origin``, on the way to a target."""

    def __init__(self, origin: str, world: World) -> None:
        self.origin = origin
        self.world = world
        # durable, as the ledger row is
        self.applied = GtidSet()
        self.end = 0
        self.mark = Mark()
        self.places = [(self.end, self.mark)]  # places from which delivery may start again
        self.restart(self.end, self.mark)

    def restart(self, at: int, mark: Mark) -> None:
        self.at = at
        self.clock = self.world.parts.clock(mark)

    def read(self, count: int) -> list[Taken]:
        """Return up to ``count`` native transactions."""
        binlog = self.world.sites[self.origin].binlog
        out: list[Taken] = []
        while self.at < len(binlog) and len(out) < count:
            entry = binlog[self.at]
            self.at += 1
            if isinstance(entry, Native):
                ets = self.clock.native(entry.commit_us)
                self.world.timed(entry.gtid, ets)
                out.append(Taken(entry, ets, self.clock.seen, self.at))
            else:
                self.clock.replicated(entry.origin, entry.applied, entry.ets)
        return out

    @property
    def drained(self) -> bool:
        return self.at >= len(self.world.sites[self.origin].binlog)


class Site:
    """A server with rows and a binlog, and the daemon that applies there."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.rows: dict[int, Row] = dict(world.initial)
        self.binlog: list[Entry] = []
        self.gno = 0
        self.offset_us = 0
        self.note: tuple[int, Mark] = (0, Mark())
        self.streams: dict[str, Stream] = {}
        self.met: set[Pair] = set()
        self.beaten: set[tuple[int, Gtid, Gtid]] = set()  # key, winner, loser
        self.open: set[int] = set()
        self.unexplained: set[int] = set()
        self.blind = False
        self.commits_left = -1  # commits until a crash; negative: no crash

    def start(self) -> None:
        """Begin, or begin again after a crash, with the durable state."""
        world = self.world
        spill = world.parts.spill(world.spill_max, MemorySegment) if world.spill_max else None
        self.index = world.parts.index(self.name, world.names, world.slots_max, spill)
        self.watched, mark = self.note
        self.clock = world.parts.clock(mark)
        self.candidates: list[tuple[int, Mark, int]] = []
        for stream in self.streams.values():
            stream.restart(stream.end, stream.mark)
            self.remember(stream)
            self.index.advance(stream.origin, stream.mark.seen)

    def remember(self, stream: Stream) -> None:
        """Put the applied transactions of ``stream`` into the index again, from the binlog."""
        if len(self.world.names) < 3 or not stream.end:
            return
        again = Stream(stream.origin, self.world)
        for taken in again.read(stream.end):
            if taken.end > stream.end:
                break
            native = taken.native
            self.index.record(stream.origin, native.gtid, taken.ets, native.slots, native.columns)

    # ------------------------------------------------------------ clients

    def write(self, edits: tuple[Edit, ...], now_us: int) -> None:
        """Commit a client's transaction."""
        self.gno += 1
        for edit in edits:
            self.put(edit.key, edit.after)
        gtid = Gtid(UUIDS[self.name], self.gno)
        saw = {o: len(s.applied) for o, s in self.streams.items()}
        saw[self.name] = self.gno - 1
        native = Native(gtid, now_us + self.offset_us, edits, slots_of(edits), saw)
        self.binlog.append(native)
        self.world.natives.append(native)

    def put(self, key: int, row: Row | None) -> None:
        if row is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = row

    def collides(self, key: int, row: Row) -> bool:
        """Return whether the server refuses a row because another row has the unique value."""
        return self.taken(key, row)

    def taken(self, key: int, row: Row) -> bool:
        """Return whether another row has the unique value of ``row``."""
        return row.unique is not None and any(
            other.unique == row.unique and k != key for k, other in self.rows.items()
        )

    # ------------------------------------------------------------ the own binlog

    def watch(self, end: int) -> None:
        """Read the own binlog for the index up to ``end``."""
        while self.watched < end:
            entry = self.binlog[self.watched]
            self.watched += 1
            if isinstance(entry, Native):
                ets = self.clock.native(entry.commit_us)
                self.world.timed(entry.gtid, ets)
                self.index.record(self.name, entry.gtid, ets, entry.slots, entry.columns)
            else:
                self.clock.replicated(entry.origin, entry.applied, entry.ets)

    def barrier(self) -> None:
        """Wait until the index holds everything that is committed here."""
        self.watch(len(self.binlog))

    def write_note(self) -> None:
        """Note the newest place of the own binlog before which all peers know everything."""
        natives = sum(isinstance(e, Native) for e in self.binlog[: self.watched])
        self.candidates.append((self.watched, self.clock.mark, natives))
        while self.candidates and self.known(self.candidates[0][2]):
            at, mark, _ = self.candidates.pop(0)
            self.note = at, mark

    def known(self, natives: int) -> bool:
        """Return whether all peers know the first ``natives`` native transactions."""
        return all(
            len(s.mark.seen.get(self.name, NOTHING)) >= natives for s in self.streams.values()
        )

    # ------------------------------------------------------------ applying

    def deliver(self, origin: str, count: int) -> None:
        """Apply the next ``count`` transactions of ``origin``, in a single batch where possible."""
        try:
            self._deliver(self.streams[origin], count)
        except CrashedError:
            self.start()

    def _deliver(self, stream: Stream, count: int) -> None:
        batch = [t for t in stream.read(count) if self.is_new(stream, t)]
        ready = next((i for i, t in enumerate(batch) if not self.is_ready(t)), len(batch))
        self.apply(stream, batch[:ready])
        if ready < len(batch):  # the rest waits in the stream
            stream.restart(stream.end, stream.mark)
        elif stream.drained:
            self.index.advance(stream.origin, stream.clock.seen)

    def is_new(self, stream: Stream, taken: Taken) -> bool:
        """Return whether the ledger lacks the transaction."""
        return taken.native.gtid not in stream.applied

    def is_ready(self, taken: Taken) -> bool:
        """Return whether everything that the transaction has seen of third sites is applied here.

        Without that wait nothing could be netted: an insert and a delete leave nothing, but a third
        site's earlier write that comes later must lose against both.
        """
        return all(
            o == self.name or gtids <= self.streams[o].applied for o, gtids in taken.seen.items()
        )

    def apply(self, stream: Stream, batch: list[Taken]) -> None:
        while batch:
            free = self.certify(stream.origin, batch)
            if free and self.write_net(batch[:free]):
                self.commit(stream, batch[:free])
                del batch[:free]
            elif free > 1:  # taken apart, to find the refused transaction
                for taken in batch[:free]:
                    self.apply(stream, [taken])
                del batch[:free]
            else:
                self.settle(stream.origin, batch[0])
                self.commit(stream, batch[:1])
                del batch[0]

    def certify(self, origin: str, batch: list[Taken]) -> int:
        """Return how many transactions of a batch have no rivals, as ``Causal.certify`` does."""
        self.barrier()
        slots = frozenset().union(*(t.native.slots for t in batch))
        if self.index.clean(origin, batch[0].seen, slots):
            return len(batch)
        for number, t in enumerate(batch):
            found = self.index.rivals(origin, t.seen, t.native.slots)
            if found.writes or found.blind:
                return number
        return len(batch)

    def write_net(self, batch: list[Taken]) -> bool:
        """Apply net rows in STRICT mode; return False, with nothing done, when a row is refused."""
        net: dict[int, tuple[Row | None, Row | None]] = {}
        for taken in batch:
            for edit in taken.native.edits:
                first = net[edit.key][0] if edit.key in net else edit.before
                net[edit.key] = first, edit.after
        net = {key: images for key, images in net.items() if images != (None, None)}
        if any((self.rows.get(k) is None) != (before is None) for k, (before, _) in net.items()):
            return False
        old = dict(self.rows)
        for key in net:
            self.rows.pop(key, None)
        for key, (_, after) in net.items():
            if after is not None:
                if self.collides(key, after):
                    self.rows = old
                    return False
                self.rows[key] = after
        return True

    def settle(self, origin: str, taken: Taken) -> None:
        """Decide row by row, as ``Settler`` does."""
        self.barrier()
        before, decided = dict(self.rows), list[Decided]()
        for edit in taken.native.edits:
            found = self.index.rivals(origin, taken.seen, edit.slots[:1])
            here = self.rows.get(edit.key)
            images = edit.before is not None, edit.after is not None
            owner = self.owner(edit, here)
            change = Change(*images, here is not None, edit.changed, owner)
            decision = self.world.parts.resolve(change, found, taken.ets, origin, self.world.policy)
            if decision.action is RowAction.MERGE and not self.can_merge(edit):
                decision = WITHDRAWN
            if decision.action is RowAction.ASK:
                assert decision.kind
                verdict = self.ask(origin, taken, edit, here, found, decision.kind)
                decision = verdict.decision
                kept = edit.after if verdict.remote else here
                row = kept._replace(**verdict.values) if kept else None
            else:
                row = self.decided_row(edit, here, decision)
            self.put(edit.key, row)
            decided.append((edit, found, decision, row))
        if any(row and self.collides(key, row) for key, row in self.rows.items()):
            self.rows = before
            decided = [self.one(*d) for d in sorted(decided, key=lambda d: _step(d[0]))]
        for edit, found, decision, _ in decided:
            self.log(edit.key, taken, found, decision)

    def one(self, edit: Edit, found: Rivals, decision: Decision, row: Row | None) -> Decided:
        """Write a row of a transaction whose rows collide; park a row that collides."""
        if row and self.collides(edit.key, row):
            return edit, found, PARKED, row
        self.put(edit.key, row)
        return edit, found, decision, row

    def ask(
        self,
        origin: str,
        taken: Taken,
        edit: Edit,
        here: Row | None,
        found: Rivals,
        kind: ConflictKind,
    ) -> Verdict:
        """Let the user's function decide."""
        rival = found.writes[0]
        remote = Version(shown(edit.after), taken.ets, origin)
        local = Version(shown(here), rival.ets, rival.origin)
        return ASKED.verdict(kind, "t", shown(edit.before), remote, local)

    def owner(self, edit: Edit, here: Row | None) -> str | None:
        """Return the site that owns a row."""
        policy, rows = self.world.policy, (edit.before, edit.after, here)
        return policy.owner(row.unit for row in rows if row) if policy.owner_column else ""

    def can_merge(self, edit: Edit) -> bool:
        """Return whether a write moves the merged column in the direction of the policy."""
        join = self.world.policy.joins.get("counter")
        return not (
            join
            and edit.before
            and edit.after
            and withdraws(join, edit.before.counter, edit.after.counter)
        )

    def decided_row(self, edit: Edit, here: Row | None, decision: Decision) -> Row | None:
        """Return the row after a decision."""
        if decision.action is RowAction.KEEP:
            return here
        if decision.action is RowAction.MERGE:
            assert here
            return self.merged(edit, here, decision)
        assert (edit.after is None) == (decision.action is RowAction.DELETE)
        return edit.after

    def merged(self, edit: Edit, here: Row, decision: Decision) -> Row:
        """Return the row after a merge by column."""
        assert edit.after
        policy, pairs = self.world.policy, zip(here, edit.after, strict=True)
        row = Row._make(
            new if decision.takes >> i & 1 else old for i, (old, new) in enumerate(pairs)
        )
        counter = edit.after.counter
        if policy.deltas:
            assert edit.before
            counter += here.counter - edit.before.counter
        elif not policy.joins:
            return row
        elif beats(policy.joins["counter"], here.counter, counter):
            counter = here.counter
        return row._replace(counter=counter)

    def log(self, key: int, taken: Taken, found: Rivals, decision: Decision) -> None:
        gtid = taken.native.gtid
        if self.world.trace:
            self.world.trace(f"  {self.name}: {show(gtid)} row {key}: {decision} {found}")
        self.blind = self.blind or found.blind
        for rival in found.writes:
            self.met.add((key, min(gtid, rival.gtid), max(gtid, rival.gtid)))
            self.world.timed(rival.gtid, rival.ets)
            if decision.winner is Winner.REMOTE:
                self.beaten.add((key, gtid, rival.gtid))
        if decision.winner is Winner.LOCAL and len(found.writes) == 1:
            self.beaten.add((key, found.writes[0].gtid, gtid))
        if decision.winner is Winner.OPEN:
            self.open.add(key)
        elif decision.kind and not found.writes:
            self.unexplained.add(key)

    def commit(self, stream: Stream, batch: list[Taken]) -> None:
        """Record decided transactions in ledger, binlog and index."""
        last = batch[-1]
        for taken in batch:
            native = taken.native
            stream.applied.add(native.gtid)
            self.index.record(stream.origin, native.gtid, taken.ets, native.slots, native.columns)
        if last.end > stream.end:
            stream.end, stream.mark = last.end, Mark(last.ets, last.seen)
            stream.places.append((stream.end, stream.mark))
        slots = frozenset().union(*(t.native.slots for t in batch))
        self.binlog.append(Learned(stream.origin, stream.applied.copy(), stream.mark.ets, slots))
        self.index.advance(stream.origin, stream.mark.seen)
        self.commits_left -= 1
        if self.commits_left == 0:
            raise CrashedError


WITHDRAWN = Decision(RowAction.KEEP, ConflictKind.UPDATE_ORIGIN_DIFFERS, Winner.OPEN, "moved back")
PARKED = Decision(
    RowAction.KEEP, ConflictKind.MULTIPLE_UNIQUE_CONFLICTS, Winner.OPEN, "a unique key"
)


def shown(row: Row | None) -> dict[str, Any] | None:
    """Return a row as functions get rows."""
    return row and row._asdict()


def either(conflict: Conflict) -> Any:
    """Decide in each of the ways that a user's function has, by values alone."""
    earlier, later, base = conflict.earlier.values, conflict.later.values, conflict.base
    if earlier is None or later is None:
        return "earlier" if conflict.later.ets % 2 else "later"
    what = (earlier["value"] * 7 + later["value"]) % 6
    if what < 2:
        return ("earlier", "later")[what]
    if what == 2:
        return None
    counted = earlier["counter"] + later["counter"] - (base["counter"] if base else 0)
    return {"counter": counted, "value": max(earlier["value"], later["value"])}


ASKED = Asked("either", either)


def slots_of(edits: tuple[Edit, ...]) -> frozenset[int]:
    """Return all slots of a transaction."""
    return frozenset(slot for edit in edits for slot in edit.slots)


def _step(edit: Edit) -> int:
    if edit.after is None:
        return 0
    return 1 if edit.before is not None else 2
