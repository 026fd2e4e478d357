"""Window index: the recent writes of each key, as long as a peer may not have seen them. Pure.

For each origin the index maps slots (``rows/slots.py``) to recent writes of that origin. An
arriving transaction is looked up by slots: a write of another origin that the transaction had not
seen is a *rival*, concurrent with the transaction. No clock is asked, and no value compared.

1. A write stays until every site whose transactions still arrive here has proved to have seen the
   write (I4). The writes of a deleted row stay as well, so deletes need no tombstones elsewhere.
2. All these writes are kept, not only the newest, so that both sites know a pair of rivals.
3. Memory is bounded: the oldest writes move to the spill (``spill.py``), if there is a spill.
   Lookups ask the spill as well, so no answer changes.
4. No answer is a guess. The spill is bounded, too: forgotten transactions are named, and a
   transaction that has not seen all forgotten transactions is not judged (:attr:`Rivals.blind`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from operator import attrgetter

from drc.clock import NOTHING, Seen
from drc.conflict.spill import Spill
from drc.conflict.writes import Moved, Rivals, Write
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS

_PORTIONS = 256  # of memory: a single portion moves at a time, and lookups wait meanwhile

_gno = attrgetter("gtid.gno")
_precedence = attrgetter("ets", "origin")


class _Origin:
    """The writes of one origin.

    ``forgotten`` are GTIDs that were dropped although a peer may not have seen these transactions.
    ``ascending``: all writes in memory have the same server UUID and tag, and the numbers ascend.
    False while the parts of a large transaction are in memory, or after a failover.
    """

    __slots__ = ("ascending", "by_age", "forgotten", "writes")

    def __init__(self) -> None:
        self.ascending = True
        self.writes: dict[int, list[Write]] = {}  # of each slot, in commit order
        self.by_age: deque[tuple[Write, tuple[int, ...]]] = deque()
        self.forgotten = GtidSet()

    def add(self, write: Write, slots: tuple[int, ...]) -> None:
        """Add a write that touched ``slots``."""
        if not self.by_age:
            self.ascending = True
        elif self.ascending:
            (uuid, gno, tag), last = write.gtid, self.by_age[-1][0].gtid
            self.ascending = gno > last.gno and uuid == last.uuid and tag == last.tag
        for slot in slots:
            self.writes.setdefault(slot, []).append(write)
        self.by_age.append((write, slots))

    def unseen(self, slot: int, known: GtidSet) -> list[Write]:
        """Return the writes of a slot that are not in ``known``; a hot row has thousands."""
        writes = self.writes.get(slot)
        if not writes:
            return []
        if not self.ascending:
            return [write for write in writes if write.gtid not in known]
        out: list[Write] = []
        at = 0
        for start, end in known.ranges(writes[0].gtid):
            first = bisect_left(writes, start, at, key=_gno)
            out += writes[at:first]
            at = bisect_left(writes, end, first, key=_gno)
        out += writes[at:]
        return out


class WindowIndex:
    """The recent writes at a site.

    :param site: the name of this site, whose writes come from this site's binlog.
    :param origins: all sites of the configuration, this site included.
    :param slots_max: the largest number of slots in memory.
    :param spill: takes the oldest writes beyond ``slots_max``; None: these are forgotten.

    ``held`` is the number of slots in memory; a slot counts as often as it was written.
    """

    def __init__(
        self, site: str, origins: Iterable[str], slots_max: int, spill: Spill | None = None
    ) -> None:
        self._site = site
        self._slots_max, self._spill = slots_max, spill
        names = list(origins)
        self._frontier: dict[str, Seen] = {name: {} for name in names if name != site}
        # A peer's writes are kept only if there is a third site, which may write concurrently.
        self._origins = {name: _Origin() for name in names if name == site or len(names) > 2}
        self.held = 0

    # ------------------------------------------------------------ in

    def record(
        self,
        origin: str,
        gtid: Gtid,
        ets: int,
        slots: Iterable[int],
        columns: Mapping[int, int] | None = None,
    ) -> None:
        """Record a write, in the order in which the origin's writes became visible here.

        :param slots: the slots of the write, each once.
        :param columns: changed columns by slot, as bits, where a policy needs changed columns.
        """
        kept = self._origins.get(origin)
        if kept is None:
            return
        write, touched = Write(origin, gtid, ets), tuple(slots)
        kept.add(write, touched)
        for slot, changed in columns.items() if columns else ():
            kept.writes[slot][-1] = write._replace(columns=changed)
        self.held += len(touched)
        while self.held > self._slots_max:
            fullest = max(self._origins, key=lambda name: len(self._origins[name].by_age))
            self._make_room(fullest)

    def forget(self, gtids: GtidSet) -> None:
        """Record transactions of this site whose keys can no longer be read."""
        kept = self._origins[self._site]
        kept.forgotten = kept.forgotten | gtids

    def advance(self, peer: str, seen: Seen) -> None:
        """Record that all further transactions of ``peer`` have seen ``seen``; drop known writes.

        A write is known when all other peers have seen the write.
        """
        self._frontier[peer] = seen
        for name, kept in self._origins.items():
            others = [s.get(name, NOTHING) for p, s in self._frontier.items() if p != name]
            if kept.forgotten and all(kept.forgotten <= known for known in others):
                kept.forgotten = GtidSet()
            by_age = kept.by_age
            while by_age and all(by_age[0][0].gtid in known for known in others):
                self._drop(kept)
            if self._spill:
                self._spill.advance(name, others)

    def forgotten(self) -> int:
        """Return how many transactions were dropped although a peer may not have seen these."""
        return sum(len(kept.forgotten) for kept in self._origins.values())

    def _make_room(self, name: str) -> None:
        """Move the oldest writes of an origin to the spill; without one, forget the oldest."""
        kept = self._origins[name]
        if not self._spill:
            kept.forgotten.add(self._drop(kept).gtid)
            return
        moved = []
        room = self._slots_max - self._slots_max // _PORTIONS
        while kept.by_age and self.held > room:
            moved.append(self._drop(kept))
        for origin, lost in self._spill.put(name, moved):
            self._origins[origin].forgotten.update(lost)

    def _drop(self, kept: _Origin) -> Moved:
        write, touched = kept.by_age.popleft()
        self.held -= len(touched)
        columns = {}
        for slot in touched:
            writes = kept.writes[slot]
            changed = writes.pop(0).columns  # writes leave in the order of arrival
            if changed != ALL_COLUMNS:
                columns[slot] = changed
            if not writes:
                del kept.writes[slot]
        return Moved(write.gtid, write.ets, touched, columns)

    # ------------------------------------------------------------ out

    def clean(self, origin: str, seen: Seen, slots: frozenset[int]) -> bool:
        """Return True if no slot has a write of another origin, seen or not: a quick check.

        In the spill, which is slower anyway, only unseen writes count.
        """
        for name, kept in self._origins.items():
            if name == origin:
                continue
            if not kept.writes.keys().isdisjoint(slots):
                return False
            known = seen.get(name, NOTHING)
            if self._spilled(name, slots, known):
                return False
            if kept.forgotten and not kept.forgotten <= known:
                return False
        return True

    def rivals(self, origin: str, seen: Seen, slots: Iterable[int]) -> Rivals:
        """Return the writes to ``slots`` that are concurrent with a transaction of ``origin``.

        :param seen: the GTIDs that the transaction had seen, by site.
        """
        runs: list[list[Write]] = []
        blind, whole = False, True
        touched = tuple(slots)
        for name, kept in self._origins.items():
            if name == origin:
                continue
            known = seen.get(name, NOTHING)
            spilled = self._spilled(name, touched, known)
            blind = blind or not kept.forgotten <= known
            whole = whole and kept.ascending and not spilled
            runs += [spilled[slot] for slot in touched if slot in spilled]
            runs += [run for slot in touched if (run := kept.unseen(slot, known))]
        if whole and len(runs) <= 1:
            return Rivals(tuple(chain(*runs)), blind)  # a single slot's: in order already
        return Rivals(_united(runs), blind)

    def _spilled(
        self, name: str, slots: Collection[int], known: GtidSet
    ) -> Mapping[int, list[Write]]:
        """Return the spilled writes of ``slots``; add lost transactions to ``forgotten``."""
        if not self._spill or not self._spill.slots:
            return {}
        writes, lost = self._spill.find(name, slots, known)
        self._origins[name].forgotten.update(lost)
        return writes


def _united(runs: Iterable[Iterable[Write]]) -> tuple[Write, ...]:
    """Join the writes of each transaction, which may touch several slots and come in parts."""
    found: dict[Gtid, Write] = {}
    for write in chain(*runs):
        held = found.setdefault(write.gtid, write)
        if held.columns != write.columns:
            found[write.gtid] = write._replace(columns=held.columns | write.columns)
    return tuple(sorted(found.values(), key=_precedence))
