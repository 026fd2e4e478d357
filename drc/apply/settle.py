"""The slow path: transactions whose rows may have rivals, row by row under locks. Edge.

1. All rows are locked in the order of their slots, absent ones by the gap where they would be
   (REPEATABLE READ), so that nobody inserts them meanwhile; then the barrier; then the index is
   asked, then the resolver decides, then changes are made (I3). Decisions follow the origin's
   order; what several of them make of one row is written once.
2. Whatever is decided is in the conflict log in the same transaction as its effect.
3. A row that collides on a secondary unique key is parked: nobody is evicted (I7).
4. Of a table with masked columns the log holds neither their values nor raw images.
5. The transactions are decided once, with their ledger row (I5), also if all their rows lost.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from drc import events as ev
from drc.apply.certifier import Causal
from drc.apply.lane import Lane
from drc.apply.netting import NetRows, NetTable, Tables
from drc.apply.pinpoint import key_text
from drc.conflict.clock import encode_seen
from drc.conflict.index import Rivals
from drc.conflict.mask import Mask
from drc.conflict.policy import Policies, TablePolicy
from drc.conflict.resolver import Action, Change, Decision, Kind, Winner, resolve
from drc.errors import DataError, DrcError
from drc.images import column_walkers
from drc.literals import OutOfRangeError, key_condition, number, pack_number, shift
from drc.transaction import RawTransaction

DUPLICATE_KEY = 1062
_RIVALS_MAX = 16  # named in the log, the newest; in a storm each has hundreds
_INSERT = (
    "INSERT INTO drc.conflict (detected_at, schema_name, table_name, row_key, slot, kind, policy,"
    " winner, state, reason, origin, gtid, ets, seen, rivals, rival_count, row_local, row_before,"
    " row_after, images) VALUES"
    f" (SYSDATE(6), {', '.join(['%s'] * 19)})"
)
# What errors tell of values.
_VALUES = re.compile(r"(?<=Duplicate entry ').*(?=' for key )|(?<=cannot hold ).*", re.DOTALL)
Number = int | Decimal
Values = tuple[bytes | None, ...]


class _NetRow(NamedTuple):
    """What one transaction did to a row.

    ``image`` has its primary key, whose slot is the first of ``slots``.
    """

    transaction: RawTransaction
    table: NetTable
    before: bytes | None
    after: bytes | None
    image: bytes
    slots: tuple[int, ...]


@dataclass(slots=True)
class _Row:
    """A row as it is here, under its lock, and as it will be written.

    ``had`` and ``has`` tell whether it was there at first and is now; ``values`` are those at
    first; ``image`` is a change taken over whole, ``sums`` columns that were added up since.
    """

    table: NetTable
    key: bytes
    values: dict[str, Any] | None
    has: bool
    image: bytes | None = None
    sums: dict[int, Number] = field(default_factory=dict)

    @property
    def had(self) -> bool:
        """Return whether it was there at first."""
        return self.values is not None

    def take(self, image: bytes | None) -> None:
        """Become ``image``; None: be deleted."""
        self.has, self.image, self.sums = image is not None, image, {}

    def current(self, ordinal: int) -> Number | None:
        """Return the number that a column holds now."""
        if ordinal in self.sums:
            return self.sums[ordinal]
        column = self.table.map.columns[ordinal]
        if self.image is not None:
            value = _values(self.table, self.image)[ordinal]
            return None if value is None else number(column, value)
        assert self.values is not None
        found: Number | None = self.values[column.name]
        return found

    def events(self) -> list[tuple[int, bytes]]:
        """Return what to write, as (rows event type, event)."""
        table = self.table.map
        packed: dict[int, bytes | None] = {
            i: pack_number(table.columns[i], value) for i, value in self.sums.items()
        }
        if self.image is None:
            if self.had and not self.has:
                return [(ev.DELETE_ROWS, ev.rows_event(table, ev.DELETE_ROWS, [self.key], True))]
            return [(ev.UPDATE_ROWS, ev.partial_update(table, self.key, packed))] if packed else []
        image = self.image
        if packed:
            whole = enumerate(_values(self.table, image))
            image = ev.image([packed.get(i, value) for i, value in whole])
        if self.had and self.table.unique is None:
            event = ev.rows_event(table, ev.UPDATE_ROWS, [self.key, image], True)
            return [(ev.UPDATE_ROWS, event)]
        out = [(ev.WRITE_ROWS, ev.rows_event(table, ev.WRITE_ROWS, [image], True))]
        if self.had:  # by way of a delete, as rows may exchange values of a unique key
            delete = ev.rows_event(table, ev.DELETE_ROWS, [self.key], True)
            out.insert(0, (ev.DELETE_ROWS, delete))
        return out


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
        self._mask = mask

    def settle(self, lane: Lane, transactions: Sequence[RawTransaction]) -> Settled:
        """Make the changes of whole transactions in the open transaction of ``lane``.

        :raises DrcError: classed by errno, and the caller must roll back. With
            ``DUPLICATE_KEY`` several transactions must be settled one by one.
        """
        changes = [c for transaction in transactions for c in self._net_rows(transaction)]
        rows = _locked(lane, changes)
        self._causal.barrier(lane.end_position())
        log = [entry for c in changes if (entry := self._decide(c, rows[_place(c)]))]
        try:
            _write(lane, rows.values())
        except DrcError as error:
            if error.errno != DUPLICATE_KEY or len(transactions) > 1:
                raise
            lane.execute("ROLLBACK TO SAVEPOINT settle")
            log = self._one_by_one(lane, changes, rows)
        for entry in log:
            lane.run(_INSERT, entry)
        return Settled(len(changes), Counter(str(entry[4]) for entry in log))

    def rivalled(self, lane: Lane, transaction: RawTransaction) -> bool:
        """Return whether rows that ``lane`` has just written have a concurrent writer."""
        self._causal.barrier(lane.end_position())
        return self._causal.rivalled(transaction)

    def _net_rows(self, transaction: RawTransaction) -> list[_NetRow]:
        net = NetRows(self._tables)
        transaction.data = bytes(transaction.data)  # of a very large event it is a bytearray
        try:
            if not net.add(transaction):
                raise DataError(
                    "a row image is partial, so concurrent writes cannot be resolved",
                    stage="resolve",
                    gtid=str(transaction.gtid),
                    hint="set binlog_row_image = FULL and binlog_row_value_options = '' there",
                )
            out: dict[tuple[str, int], _NetRow] = {}
            for table, before, after, image in net.rows():
                change = _NetRow(
                    transaction, table, before, after, image, _slots(table, image, after)
                )
                same = out.get(_place(change))
                out[_place(change)] = _joined(same, change) if same else change
            return list(out.values())
        finally:
            net.clear()

    # ------------------------------------------------------------ decisions

    def _decide(self, change: _NetRow, row: _Row) -> tuple[Any, ...] | None:
        """Let ``row`` become what is decided; return an entry for the log if it was a conflict."""
        transaction, policy = change.transaction, self._policies.of(change.table.name)
        found = self._index.rivals(self._origin, transaction.seen, change.slots[:1])
        if found.blind:
            raise DataError(
                f"INDEX_INCOMPLETE: {self._index.forgotten()} transactions of this site are held no"
                " more, and the peer had not seen all of them",
                stage="certify",
                gtid=str(transaction.gtid),
                table=change.table.name,
                hint="raise conflicts.index_slots_max and start again: nothing is lost, the index"
                " is built anew from this site's binlog; where that is purged, compare and repair",
            )
        state = Change(change.before is not None, change.after is not None, row.has)
        decision = resolve(state, found, transaction.ets, self._origin, policy)
        shown = self._shown(row) if decision.kind else None
        if decision.action is Action.MERGE:
            decision = _merge(change, row, decision, policy)
        elif decision.action is Action.WRITE:
            row.take(change.after)
        elif decision.action is Action.DELETE:
            row.take(None)
        return self._entry(change, decision, found, policy, shown) if decision.kind else None

    def _one_by_one(
        self, lane: Lane, changes: list[_NetRow], rows: dict[tuple[str, int], _Row]
    ) -> list[tuple[Any, ...]]:
        """Write the rows of one transaction one after the other, and park those that collide."""
        log = []
        for change in sorted(changes, key=_turn):
            row = rows[_place(change)]
            row.has, row.image, row.sums = row.had, None, {}
            entry = self._decide(change, row)
            try:
                _write(lane, [row])
            except DrcError as error:
                if error.errno != DUPLICATE_KEY:
                    raise
                lane.execute("ROLLBACK TO SAVEPOINT settle")
                seen = change.transaction.seen
                found = self._index.rivals(self._origin, seen, change.slots)
                policy = self._policies.of(change.table.name)
                decision = _open(Kind.MULTIPLE_UNIQUE_CONFLICTS, error.message)
                entry = self._entry(change, decision, found, policy, row.values)
            if entry:
                log.append(entry)
        return log

    # ------------------------------------------------------------ the log

    @cached_property
    def _decoder(self) -> Any:
        from drc.monitor.rows import Decoder  # its library is slow to load

        return Decoder()

    def _shown(self, row: _Row) -> dict[str, Any] | None:
        if not row.has:
            return None
        columns = row.table.map.columns
        values = self._decoder.image(row.table.map, row.image) if row.image else row.values
        assert values is not None
        return {**values, **{columns[i].name: value for i, value in row.sums.items()}}

    def _entry(
        self,
        change: _NetRow,
        decision: Decision,
        found: Rivals,
        policy: TablePolicy,
        local: dict[str, Any] | None,
    ) -> tuple[Any, ...]:
        from drc.monitor.rows import readable

        table, transaction = change.table.map, change.transaction
        rivals = [
            {"origin": w.origin, "gtid": str(w.gtid), "ets": w.ets}
            for w in sorted(found.writes, key=lambda w: (w.ets, w.origin))[-_RIVALS_MAX:]
        ]
        here = local and {name: readable(value) for name, value in local.items()}
        versions = [here] + [
            None if image is None else self._decoder.image(table, image)
            for image in (change.before, change.after)
        ]
        shown = [row and json.dumps(self._mask.row(table.name, row)) for row in versions]
        masked = self._mask.table(table.name)
        reason = _VALUES.sub("***", decision.reason) if masked else decision.reason
        return (
            *(table.schema, table.table),
            *(key_text(table, change.image, masked=self._mask)[:512], change.slots[0]),
            *(str(decision.kind), policy.policy, str(decision.winner)),
            "open" if decision.winner is Winner.OPEN else "auto",
            reason[:255],
            *(self._origin, str(transaction.gtid), transaction.ets, encode_seen(transaction.seen)),
            json.dumps(rivals),
            len(found.writes),
            *shown,
            None if masked else _remote_events(change),
        )


# ------------------------------------------------------------ rows and the server


def _place(change: _NetRow) -> tuple[str, int]:
    """Return what tells a row from others: rows that the server takes for one have one slot."""
    return change.table.name, change.slots[0]


def _joined(one: _NetRow, other: _NetRow) -> _NetRow:
    """Return what became of one row under two spellings of its key, as 'a' and 'A' may be.

    Before the transaction it had one of them at most, and after it, too.
    """
    before, after = one.before or other.before, one.after or other.after
    slots = tuple(dict.fromkeys((*one.slots, *other.slots)))
    return _NetRow(one.transaction, one.table, before, after, before or after or one.image, slots)


def _turn(change: _NetRow) -> int:
    """Deletes first, then updates, then inserts: what is freed may be taken again."""
    if change.after is None:
        return 0
    return 1 if change.before is not None else 2


def _locked(lane: Lane, changes: list[_NetRow]) -> dict[tuple[str, int], _Row]:
    """Lock the rows of all changes, or the gaps where they would be."""
    first: dict[tuple[str, int], _NetRow] = {}
    for change in changes:
        first.setdefault(_place(change), change)
    out = {}
    for place, change in sorted(first.items(), key=lambda item: item[0]):
        table = change.table.map
        values = lane.locked(table, key_condition(table, change.image))
        out[place] = _Row(change.table, change.image, values, values is not None)
    return out


def _write(lane: Lane, rows: Iterable[_Row]) -> None:
    """Write what has become of the rows: deletes, updates, inserts."""
    found = [(kind, row.table.map, event) for row in rows for kind, event in row.events()]
    order = (ev.DELETE_ROWS, ev.UPDATE_ROWS, ev.WRITE_ROWS)
    found.sort(key=lambda item: order.index(item[0]))
    lane.execute("SAVEPOINT settle")
    if found:
        lane.apply([piece for _, table, event in found for piece in (table.event, event)])


def _merge(change: _NetRow, row: _Row, decision: Decision, policy: TablePolicy) -> Decision:
    """Add up the columns of ``policy`` in ``row``; take the others over if the change wins."""
    table = change.table
    assert change.before is not None
    assert change.after is not None
    old, new = _values(table, change.before), _values(table, change.after)
    sums: dict[int, Number] = {}
    for i, column in enumerate(table.map.columns):
        if column.name in policy.deltas:
            before, after, here = old[i], new[i], row.current(i)
            if before is None or after is None or here is None:
                return _open(decision.kind, f"{column.name} is NULL at one of the sites")
            try:
                sums[i] = shift(column, here, before, after)
            except OutOfRangeError as error:
                return _open(decision.kind, error.message)
    if decision.takes:
        row.take(change.after)
    row.sums |= sums
    return decision


def _open(kind: Kind | None, reason: str) -> Decision:
    return Decision(Action.KEEP, kind, Winner.OPEN, reason)


def _values(table: NetTable, image: bytes) -> Values:
    walkers = column_walkers(table.map, range(len(table.map.columns)))
    values: Values = walkers[image[: walkers.null_bytes]](image, 0)[1]
    return values


def _slots(table: NetTable, *images: bytes | None) -> tuple[int, ...]:
    out: dict[int, None] = {}
    for image in images:
        if image is not None:
            found = table.slots_of(image)
            if found is None:
                raise DataError(
                    "its keys cannot be followed, so concurrent writes cannot be resolved",
                    stage="resolve",
                    table=table.name,
                    hint="`drc check` tells why; let one site own this table",
                )
            out.update(dict.fromkeys(found))
    return tuple(out)


def _remote_events(change: _NetRow) -> bytes:
    """Return the remote change as BINLOG takes it, for whoever settles it otherwise."""
    table = change.table.map
    images = [i for i in (change.before, change.after) if i is not None] or [change.image]
    kinds = (ev.DELETE_ROWS if change.after is None else ev.WRITE_ROWS, ev.UPDATE_ROWS)
    return table.event + ev.rows_event(table, kinds[len(images) - 1], images, True)
