"""The slow path: transactions whose rows may have rivals, row by row under locks. Edge.

1. All rows are locked in the order of their slots, absent ones by the gap where they would be
   (REPEATABLE READ), so that nobody inserts them meanwhile; then the barrier; then the index is
   asked, then the resolver decides, then changes are made (I3). Decisions follow the origin's
   order; what several of them make of one row is written once.
2. Whatever is decided is in the conflict log in the same transaction as its effect.
3. A row that collides on a secondary unique key is parked: nobody is evicted (I7).
4. The transactions are decided once, with their ledger row (I5), also if all their rows lost.

It knows neither bytes of a row (``locked.py``, ``merging.py``, ``ask.py``) nor what an entry of the
log holds (``logged.py``); the ledger row and the commit are its caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drc.binlog import events as ev
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import Causal
from drc.conflict.resolver import Action, Change, Kind, left_open, resolve
from drc.errors import DUPLICATE_KEY, DataError, DrcError
from drc.policy import Policies, TablePolicy
from drc.rows.literals import key_condition
from drc.rows.mask import Mask
from drc.rows.tables import Tables
from drc.settle.ask import Question, ask
from drc.settle.locked import LockedRow, NetRow, Place, net_rows
from drc.settle.logged import ConflictLog, Entry
from drc.settle.merging import merge
from drc.target.lane import Lane


class Settled(NamedTuple):
    """What became of transactions: rows, and conflicts by kind."""

    rows: int
    kinds: Counter[str]


class Settler:
    """Settle transactions of one origin, on a lane that nobody else uses."""

    def __init__(self, causal: Causal, tables: Tables, policies: Policies, mask: Mask) -> None:
        self._causal = causal
        self._index, self._origin = causal.index, causal.origin
        self._tables = tables
        self._policies = policies
        self._log = ConflictLog(causal.origin, mask)

    def settle(self, lane: Lane, transactions: Sequence[RawTransaction]) -> Settled:
        """Make the changes of whole transactions in the open transaction of ``lane``.

        :raises DrcError: classed by errno, and the caller must roll back. With
            ``DUPLICATE_KEY`` several transactions must be settled one by one.
        """
        asks_columns = self._policies.asks_columns if self._policies.ask_columns else None
        changes = [c for t in transactions for c in net_rows(t, self._tables, asks_columns)]
        rows = _lock(lane, changes)
        self._causal.barrier(lane.end_position())
        entries = [entry for c in changes if (entry := self._decide(lane, c, rows[c.place]))]
        try:
            _write(lane, rows.values())
        except DrcError as error:
            if error.errno != DUPLICATE_KEY or len(transactions) > 1:
                raise
            _undo(lane)
            entries = self._one_by_one(lane, changes, rows)
        self._log.write(lane, entries)
        return Settled(len(changes), Counter(entry.kind for entry in entries))

    def has_rivals(self, lane: Lane, transaction: RawTransaction) -> bool:
        """Return whether rows that ``lane`` has just written have a concurrent writer."""
        self._causal.barrier(lane.end_position())
        return self._causal.has_rivals(transaction, self._tables)

    def _decide(self, lane: Lane, change: NetRow, row: LockedRow) -> Entry | None:
        """Let ``row`` become what is decided; return an entry for the log if it was a conflict."""
        transaction, policy = change.transaction, self._policies.of(change.table.name)
        found = self._index.rivals(self._origin, transaction.seen, change.slots[:1])
        if found.blind:
            raise self._blind(change)
        owner = self._owner(change, row, policy) if policy.owner_column and found.writes else ""
        state = Change(
            before=change.before is not None,
            after=change.after is not None,
            exists=row.has,
            changed=change.changed,
            owner=owner,
        )
        decision = resolve(state, found, transaction.ets, self._origin, policy)
        if decision.action is Action.ASK:
            assert decision.kind
            (rival,) = found.writes
            asked = Question(policy.function, decision.kind, change, self._origin, row, rival)
            decision, here, remote = ask(lane, self._log, asked)
            return self._log.entry(change, decision, found, policy, here, remote)
        here = self._log.shown(row) if decision.kind else None
        if decision.action is Action.MERGE:
            decision = merge(change, row, decision, policy)
        elif decision.action is Action.WRITE:
            row.take(change.after)
        elif decision.action is Action.DELETE:
            row.take(None)
        return self._log.entry(change, decision, found, policy, here) if decision.kind else None

    def _blind(self, change: NetRow) -> DataError:
        size = self._index.size()
        remedy = "raise conflicts.index_spill_bytes_max"
        if size.spill_error:
            remedy = f"mend where the index spills to ({size.spill_error})"
        return DataError(
            f"INDEX_INCOMPLETE: {size.forgotten} transactions of this site are held no"
            " more, and the peer had not seen all of them",
            stage="certify",
            gtid=str(change.transaction.gtid),
            table=change.table.name,
            hint=f"{remedy} and start again: nothing is lost, the index is built anew from this"
            " site's binlog; where that is purged, compare and repair",
        )

    def _owner(self, change: NetRow, row: LockedRow, policy: TablePolicy) -> str | None:
        """Return the site that owns a row, as all its versions here have it."""
        images = [i for i in (change.before, change.after) if i] or [change.image]
        versions = [self._log.image(change.table.map, image) for image in images]
        if here := self._log.shown(row):
            versions.append(here)
        return policy.owner(version.get(policy.owner_column) for version in versions)

    def _one_by_one(
        self, lane: Lane, changes: list[NetRow], rows: dict[Place, LockedRow]
    ) -> list[Entry]:
        """Write the rows of one transaction one after the other, and park those that collide."""
        entries = []
        for change in sorted(changes, key=lambda change: change.turn):
            row = rows[change.place]
            row.reset()
            entry = self._decide(lane, change, row)
            try:
                _write(lane, [row])
            except DrcError as error:
                if error.errno != DUPLICATE_KEY:
                    raise
                _undo(lane)
                seen = change.transaction.seen
                found = self._index.rivals(self._origin, seen, change.slots)
                policy = self._policies.of(change.table.name)
                decision = left_open(Kind.MULTIPLE_UNIQUE_CONFLICTS, error.message)
                here = self._log.readable(row.values)
                entry = self._log.entry(change, decision, found, policy, here)
            if entry:
                entries.append(entry)
        return entries


# ------------------------------------------------------------ the server


def _lock(lane: Lane, changes: Iterable[NetRow]) -> dict[Place, LockedRow]:
    """Lock the rows of all changes, or the gaps where they would be."""
    first: dict[Place, NetRow] = {}
    for change in changes:
        first.setdefault(change.place, change)
    out = {}
    for place, change in sorted(first.items(), key=lambda item: item[0]):
        table = change.table.map
        values = lane.locked(table, key_condition(table, change.image))
        out[place] = LockedRow(change.table, change.image, values, has=values is not None)
    return out


def _write(lane: Lane, rows: Iterable[LockedRow]) -> None:
    """Write what has become of the rows: deletes, updates, inserts."""
    found = [(kind, row.table.map, event) for row in rows for kind, event in row.events()]
    order = (ev.DELETE_ROWS, ev.UPDATE_ROWS, ev.WRITE_ROWS)
    found.sort(key=lambda item: order.index(item[0]))
    lane.execute("SAVEPOINT settle")
    if found:
        lane.apply([piece for _, table, event in found for piece in (table.event, event)])


def _undo(lane: Lane) -> None:
    """Undo the last :func:`_write`; the locks stay."""
    lane.execute("ROLLBACK TO SAVEPOINT settle")
