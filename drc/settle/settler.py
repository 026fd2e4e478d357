"""Settler: applies transactions that may have rivals, row by row under locks. Edge.

This is the slow path.

1. The index holds every earlier writer when a row is decided (I3). First all rows are locked in the
   order of slots, absent rows by the gap in their place (REPEATABLE READ), so that no session
   inserts these rows meanwhile. Then come the barrier, the questions to the index, the decisions
   of the resolver, and the changes. Decisions follow commit order; the result of several decisions
   about a row is written once.
2. A decided conflict is in the conflict log in the same transaction as its effect.
3. No row is evicted (I7): a row that collides on a secondary unique key is left open.
4. The transactions are decided once, with the ledger row (I5), also if all rows lost.

The settler knows neither the bytes of a row (``locked.py``, ``merging.py``, ``ask.py``) nor the
content of an entry (``logged.py``). The caller writes the ledger row and commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drc.binlog import events as ev
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import Causal
from drc.conflict.resolver import Change, ConflictKind, RowAction, left_open, resolve
from drc.errors import DUPLICATE_KEY, DataError, DrcError
from drc.policy import Policies, TablePolicy
from drc.rows.literals import key_condition
from drc.rows.mask import Mask
from drc.rows.tables import Tables
from drc.settle.ask import Question, ask
from drc.settle.locked import LockedRow, NetRow, Place, net_rows
from drc.settle.logged import ConflictLog, EntryRow
from drc.settle.merging import merge
from drc.target.lane import Lane


class Settled(NamedTuple):
    """The result for settled transactions: the number of rows, and of conflicts by kind."""

    rows: int
    kinds: Counter[str]


class Settler:
    """Settle transactions of an origin, on a lane that no other thread uses."""

    def __init__(self, causal: Causal, tables: Tables, policies: Policies, mask: Mask) -> None:
        self._causal = causal
        self._index, self._origin = causal.index, causal.origin
        self._tables = tables
        self._policies = policies
        self._conflict_log = ConflictLog(causal.origin, mask)

    def settle(self, lane: Lane, transactions: Sequence[RawTransaction]) -> Settled:
        """Make the changes of whole transactions in the open transaction of ``lane``.

        :raises DrcError: classed by errno; the caller must roll back. After ``DUPLICATE_KEY``,
            several transactions must be settled separately.
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
        self._conflict_log.write(lane, entries)
        return Settled(len(changes), Counter(entry.kind for entry in entries))

    def has_rivals(self, lane: Lane, transaction: RawTransaction) -> bool:
        """Return True if rows that ``lane`` has just written have a concurrent writer."""
        self._causal.barrier(lane.end_position())
        return self._causal.has_rivals(transaction, self._tables)

    def _decide(self, lane: Lane, change: NetRow, row: LockedRow) -> EntryRow | None:
        """Decide about ``change`` and alter ``row``; return an entry if there was a conflict."""
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
        if decision.action is RowAction.ASK:
            assert decision.kind
            (rival,) = found.writes
            asked = Question(policy.function, decision.kind, change, self._origin, row, rival)
            decision, here, remote = ask(lane, self._conflict_log, asked)
            return self._conflict_log.entry(change, decision, found, policy, here, remote)
        here = self._conflict_log.shown(row) if decision.kind else None
        if decision.action is RowAction.MERGE:
            decision = merge(change, row, decision, policy)
        elif decision.action is RowAction.WRITE:
            row.take(change.after)
        elif decision.action is RowAction.DELETE:
            row.take(None)
        if not decision.kind:
            return None
        return self._conflict_log.entry(change, decision, found, policy, here)

    def _blind(self, change: NetRow) -> DataError:
        size = self._index.size()
        remedy = "raise conflicts.index_spill_bytes_max"
        if size.spill_error:
            remedy = f"fix the disk of conflicts.index_spill_folder ({size.spill_error})"
        return DataError(
            f"INDEX_INCOMPLETE: {size.forgotten} transactions of this site are no longer in the"
            " index, and the peer had not seen all these transactions",
            stage="certify",
            gtid=str(change.transaction.gtid),
            table=change.table.name,
            hint=f"{remedy} and restart the daemon: nothing is lost, the index is built again from"
            " this site's binlog; if that binlog is purged, compare and repair",
        )

    def _owner(self, change: NetRow, row: LockedRow, policy: TablePolicy) -> str | None:
        """Return the owner of a row by all versions here; see :meth:`TablePolicy.owner`."""
        images = [i for i in (change.before, change.after) if i] or [change.image]
        versions = [self._conflict_log.image(change.table.map, image) for image in images]
        if here := self._conflict_log.shown(row):
            versions.append(here)
        return policy.owner(version.get(policy.owner_column) for version in versions)

    def _one_by_one(
        self, lane: Lane, changes: list[NetRow], rows: dict[Place, LockedRow]
    ) -> list[EntryRow]:
        """Write the rows of a transaction separately, and leave colliding rows open."""
        entries = []
        for change in sorted(changes, key=lambda change: change.write_step):
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
                decision = left_open(ConflictKind.MULTIPLE_UNIQUE_CONFLICTS, error.message)
                here = self._conflict_log.readable(row.values)
                entry = self._conflict_log.entry(change, decision, found, policy, here)
            if entry:
                entries.append(entry)
        return entries


# ------------------------------------------------------------ the server


def _lock(lane: Lane, changes: Iterable[NetRow]) -> dict[Place, LockedRow]:
    """Lock the rows of all changes; for an absent row, lock the gap in the row's place."""
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
    """Write the new state of rows: deletes, then updates, then inserts."""
    found = [(kind, row.table.map, event) for row in rows for kind, event in row.events()]
    order = (ev.DELETE_ROWS, ev.UPDATE_ROWS, ev.WRITE_ROWS)
    found.sort(key=lambda item: order.index(item[0]))
    lane.execute("SAVEPOINT settle")
    if found:
        lane.apply([piece for _, table, event in found for piece in (table.event, event)])


def _undo(lane: Lane) -> None:
    """Undo the last :func:`_write`; the locks stay."""
    lane.execute("ROLLBACK TO SAVEPOINT settle")
