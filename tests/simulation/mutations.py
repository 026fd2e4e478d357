"""Mutations of the simulation: each breaks a single invariant, in a single place.

A simulation that lets a mutation pass would prove nothing about the real classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drc.clock import Clock, Mark, Seen
from drc.conflict.function import Verdict
from drc.conflict.index import WindowIndex
from drc.conflict.resolver import Change, ConflictKind, Decision, RowAction, Winner, resolve
from drc.conflict.spill import Forgotten, Remembered, Spill
from drc.conflict.writes import Moved, Rivals
from drc.gtid import Gtid, GtidSet
from drc.policy import TablePolicy
from tests.simulation.model import Edit, Learned, Native, Row, Taken
from tests.simulation.site import Site, Stream, slots_of
from tests.simulation.world import Parts

Columns = Mapping[int, int] | None

# ------------------------------------------------------------ I1, I2, I6: the clock


class RawClock(Clock):
    """I1: commit timestamps count as ``ets`` unchanged."""

    def native(self, commit_us: int) -> int:
        self.ets = commit_us
        return commit_us


class StandingClock(Clock):
    """I1: an ``ets`` is not less than the ``ets`` before, but perhaps equal."""

    def native(self, commit_us: int) -> int:
        self.ets = max(self.ets, commit_us)
        return self.ets


class DeafClock(Clock):
    """I2: replicated transactions do not advance the clock."""

    def replicated(self, origin: str, applied: GtidSet, ets: int) -> None:
        super().replicated(origin, applied, 0)


class BlindClock(Clock):
    """I9: the clock does not learn the decided set that a replicated transaction brings."""

    def replicated(self, origin: str, applied: GtidSet, ets: int) -> None:
        self.ets = max(self.ets, ets)


class ForgetfulClock(Clock):
    """I6: after a restart the clock begins at zero."""

    def __init__(self, mark: Mark) -> None:
        super().__init__(Mark(0, mark.seen))


# ------------------------------------------------------------ I3, I4: the index


class NoBarrier(Site):
    """I3: the index is asked without a barrier."""

    def barrier(self) -> None:
        pass


class ShortBarrier(Site):
    """I3: the barrier waits for ``gtid_executed``, which lacks the newest commit."""

    def barrier(self) -> None:
        self.watch(len(self.binlog) - 1)


class AnyPeer(WindowIndex):
    """I4: an entry leaves the index when a single peer has seen the write."""

    def advance(self, peer: str, seen: Seen) -> None:
        for name in self._frontier:
            super().advance(name, seen)


class ShortMemory(WindowIndex):
    """I4: an entry leaves the index by age, and nothing records the loss."""

    def record(
        self, origin: str, gtid: Gtid, ets: int, slots: Iterable[int], columns: Columns = None
    ) -> None:
        super().record(origin, gtid, ets, slots, columns)
        for kept in self._origins.values():
            while len(kept.by_age) > 1:
                self._drop(kept)


class Careless(WindowIndex):
    """I4: writes that the index had to forget are not named."""

    def record(
        self, origin: str, gtid: Gtid, ets: int, slots: Iterable[int], columns: Columns = None
    ) -> None:
        super().record(origin, gtid, ets, slots, columns)
        for kept in self._origins.values():
            kept.forgotten = GtidSet()


class Unasked(Spill):
    """I4: writes that have left memory are not looked up."""

    def find(self, origin: str, slots: Iterable[int], known: GtidSet) -> Remembered:
        return Remembered({}, GtidSet())


class FirstSeen(Spill):
    """I4: a segment is dropped, and not looked up, when the first write was seen."""

    def put(self, origin: str, moved: Sequence[Moved]) -> list[Forgotten]:
        lost = super().put(origin, moved)
        for held in self._held:
            uuid, tag, first, _ = next(held.gtids.intervals())
            held.newest = Gtid(uuid, first, tag)
            held.gtids = GtidSet.of([held.newest])
        return lost


class OnePeer(Spill):
    """I4: a segment is dropped when a single peer has seen the writes."""

    def advance(self, origin: str, known: Sequence[GtidSet]) -> None:
        for one in known:
            super().advance(origin, [one])


class Silent(Spill):
    """I4: writes that the spill had to forget are not named."""

    def put(self, origin: str, moved: Sequence[Moved]) -> list[Forgotten]:
        super().put(origin, moved)
        return []


class HastyNote(Site):
    """I4: after a restart the index begins at the place where the last reading ended."""

    def known(self, natives: int) -> bool:
        return True


class NoTombstones(Site):
    """I4: a deleted row is not in the index."""

    def watch(self, end: int) -> None:
        whole = self.binlog
        self.binlog = [_without_deletes(e) if isinstance(e, Native) else e for e in whole]
        super().watch(end)
        self.binlog = whole


def _without_deletes(native: Native) -> Native:
    edits = tuple(e for e in native.edits if e.after)
    return native._replace(edits=edits, slots=slots_of(edits))


# ------------------------------------------------------------ I5, I9, I10: streams and binlogs


class Twice(Site):
    """I5: a transaction that is delivered again is applied again."""

    def is_new(self, stream: Stream, taken: Taken) -> bool:
        return True


class LateLedger(Site):
    """I5: the ledger row is written after the rows, and a crash comes between."""

    def commit(self, stream: Stream, batch: list[Taken]) -> None:
        before = stream.applied.copy(), stream.end, stream.mark
        crash, self.commits_left = self.commits_left == 1, -1
        super().commit(stream, batch)
        if crash:
            stream.applied, stream.end, stream.mark = before
            self.binlog.pop()
            self.start()
            batch.clear()


class SilentLoser(Site):
    """I5: a transaction that lost leaves no ledger row in the binlog."""

    def settle(self, origin: str, taken: Taken) -> None:
        before = dict(self.rows)
        super().settle(origin, taken)
        self.lost = before == self.rows

    lost = False

    def commit(self, stream: Stream, batch: list[Taken]) -> None:
        super().commit(stream, batch)
        if self.lost:
            self.binlog.pop()
        self.lost = False


class Echo(Site):
    """I9: replicated transactions are shipped again."""

    def commit(self, stream: Stream, batch: list[Taken]) -> None:
        super().commit(stream, batch)
        for taken in batch:
            if len(self.binlog) < 20:
                self.gno += 1
                gtid = Gtid(self.name.encode() * 16, self.gno)
                self.binlog.append(taken.native._replace(gtid=gtid))


class Swallow(Site):
    """I9: a native transaction right after a replicated transaction counts as replicated."""

    def write(self, edits: tuple[Edit, ...], now_us: int) -> None:
        super().write(edits, now_us)
        if len(self.binlog) > 1 and isinstance(self.binlog[-2], Learned):
            self.binlog.pop()


class Unlogged(Site):
    """I8: some writes are not in the binlog."""

    def write(self, edits: tuple[Edit, ...], now_us: int) -> None:
        super().write(edits, now_us)
        if self.gno % 3 == 0:
            self.binlog.pop()


class Promoted(Site):
    """I10: a replica that did not keep the commit order takes over after a crash."""

    def start(self) -> None:
        super().start()
        if not self.gno:
            return
        places = {p for s in self.world.sites.values() for p in self._places(s)}
        for at in range(len(self.binlog) - 1):
            one, two = self.binlog[at : at + 2]
            if (
                isinstance(one, Learned)
                and isinstance(two, Native)
                and not one.slots & two.slots
                and at + 1 not in places
            ):
                self.binlog[at : at + 2] = two, one
                return

    def write_note(self) -> None:
        self.start()

    def _places(self, other: Site) -> Iterable[int]:
        if other is self:
            return [self.note[0]]
        stream = other.streams[self.name]
        return [stream.at, *(end for end, _ in stream.places)]


class Impatient(Site):
    """Three sites: a transaction does not wait for the seen transactions of a third site."""

    def is_ready(self, taken: Taken) -> bool:
        return True


class OwnOnly(WindowIndex):
    """Three sites: writes that come from peers are not in the index."""

    def record(
        self, origin: str, gtid: Gtid, ets: int, slots: Iterable[int], columns: Columns = None
    ) -> None:
        if origin == self._site:
            super().record(origin, gtid, ets, slots, columns)


class Amnesia(Site):
    """Three sites: after a restart the index has only the native writes."""

    def remember(self, stream: Stream) -> None:
        pass


# ------------------------------------------------------------ I7, I11, I12: applying


class Evict(Site):
    """I7: a row that has the unique value is deleted to make room."""

    def collides(self, key: int, row: Row) -> bool:
        if super().collides(key, row):
            self.rows = {k: r for k, r in self.rows.items() if k == key or r.unique != row.unique}
        return False


class OneLook(Site):
    """I3: a batch is judged by the seen set of the newest transaction."""

    def certify(self, origin: str, batch: list[Taken]) -> int:
        newest = batch[-1].seen
        return super().certify(origin, [t._replace(seen=newest) for t in batch])


class FirstImage(Site):
    """I11: the net row of a key is the first after image."""

    def write_net(self, batch: list[Taken]) -> bool:
        first: dict[int, Row | None] = {}
        for taken in batch:
            for edit in taken.native.edits:
                first.setdefault(edit.key, edit.after)
        done = super().write_net(batch)
        if done:
            for key, row in first.items():
                self.put(key, row)
        return done


class OutOfOrder(Site):
    """I12: the newest transaction of a batch commits first, and the ledger counts all before."""

    def commit(self, stream: Stream, batch: list[Taken]) -> None:
        if len(batch) > 1 and self.commits_left == 1:
            for edit in batch[0].native.edits:  # not run yet when the crash comes
                self.put(edit.key, edit.before)
        super().commit(stream, batch)


# ------------------------------------------------------------ columns


class NoColumns(WindowIndex):
    """``column_merge``: the index does not note changed columns, so a write counts for all."""

    def record(
        self, origin: str, gtid: Gtid, ets: int, slots: Iterable[int], columns: Columns = None
    ) -> None:
        super().record(origin, gtid, ets, slots)


class NetColumns(WindowIndex):
    """``column_merge``: the index notes fewer changed columns than the other site sees."""

    def record(
        self, origin: str, gtid: Gtid, ets: int, slots: Iterable[int], columns: Columns = None
    ) -> None:
        first = {slot: changed & -changed for slot, changed in (columns or {}).items()}
        super().record(origin, gtid, ets, slots, first)


class OwnerHere(Site):
    """``owner_unit``: the local row alone names the owner; the images of the write do not count."""

    def owner(self, edit: Edit, here: Row | None) -> str | None:
        return super().owner(edit._replace(before=None, after=None), here or edit.before)


class LocalFirst(Site):
    """A function: the local write is given as the earlier write, at any ``ets``."""

    def ask(
        self,
        origin: str,
        taken: Taken,
        edit: Edit,
        here: Row | None,
        found: Rivals,
        kind: ConflictKind,
    ) -> Verdict:
        earliest = Rivals((found.writes[0]._replace(ets=0),))
        return super().ask(origin, taken, edit, here, earliest, kind)


class WholeTransactions(Site):
    """A transaction that loses in a single row loses in all rows (docs/adr/0006)."""

    def settle(self, origin: str, taken: Taken) -> None:
        before, lost = dict(self.rows), len(self.lost)
        super().settle(origin, taken)
        if len(self.lost) > lost:
            self.rows = before

    def start(self) -> None:
        super().start()
        self.lost: list[Gtid] = []

    def log(self, key: int, taken: Taken, found: Rivals, decision: Decision) -> None:
        super().log(key, taken, found, decision)
        if decision.winner is Winner.LOCAL:
            self.lost.append(taken.native.gtid)


class TakenBack(Site):
    """``max``: a write that lowers the column is merged like any other."""

    def can_merge(self, edit: Edit) -> bool:
        return True


class LastValue(Site):
    """``max``: the value of the last write stays."""

    def merged(self, edit: Edit, here: Row, decision: Decision) -> Row:
        assert edit.after
        return super().merged(edit, here, decision)._replace(counter=edit.after.counter)


# ------------------------------------------------------------ resolver


def local_on_ties(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """Leave out the site, without which the order is not total."""
    return resolve(change, found, ets, site if policy.sites else "", policy)


def remote_wins(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """Let the last arrival stay, which is PostgreSQL's default."""
    return resolve(change, found, 1 << 62, site, policy)


def first_rival(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """Look at a single rival."""
    return resolve(change, found._replace(writes=found.writes[:1]), ets, site, policy)


def guess(change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy) -> Decision:
    """Take forgotten writes for absent writes."""
    return resolve(change, found._replace(blind=False), ets, site, policy)


def deletes_go_by_time(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """Merges: let the later write stay where a delete meets an update."""
    if (policy.joins or policy.policy == "column_merge") and not (change.after and change.exists):
        policy = TablePolicy()
    return resolve(change, found, ets, site, policy)


def disagreement_goes_by_time(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """``owner_unit``: let the later write stay where units differ."""
    return resolve(change._replace(owner=change.owner or ""), found, ets, site, policy)


def several_go_by_time(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """A function: resolve by time where a write met several writes."""
    if policy.function and len(found.writes) > 1:
        policy = TablePolicy()
    return resolve(change, found, ets, site, policy)


def columns_of_the_winner(
    change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy
) -> Decision:
    """``column_merge``: take the changes of the later write, and nothing of the earlier write."""
    decision = resolve(change, found, ets, site, policy)
    if decision.action is RowAction.MERGE and decision.takes != change.changed:
        return decision._replace(takes=0)
    return decision


MUTATIONS: dict[str, Parts] = {
    **{
        kind.__name__: Parts(clock=kind)
        for kind in (RawClock, StandingClock, DeafClock, BlindClock, ForgetfulClock)
    },
    **{
        kind.__name__: Parts(index=kind)
        for kind in (AnyPeer, ShortMemory, Careless, OwnOnly, NoColumns, NetColumns)
    },
    **{kind.__name__: Parts(spill=kind) for kind in (Unasked, FirstSeen, OnePeer, Silent)},
    **{
        kind.__name__: Parts(site=kind)
        for kind in (
            *(NoBarrier, ShortBarrier, OneLook, HastyNote, NoTombstones),
            *(Twice, LateLedger, SilentLoser, Echo, Swallow, Unlogged, Promoted),
            *(Impatient, Amnesia, Evict, FirstImage, OutOfOrder),
            *(OwnerHere, LocalFirst, TakenBack, LastValue, WholeTransactions),
        )
    },
    **{
        decide.__name__: Parts(resolve=decide)
        for decide in (
            local_on_ties,
            remote_wins,
            first_rival,
            guess,
            deletes_go_by_time,
            columns_of_the_winner,
            disagreement_goes_by_time,
            several_go_by_time,
        )
    },
}
