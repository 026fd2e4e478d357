"""The slow path: a transaction whose rows may have rivals, row by row under locks. Edge.

1. Rows are locked in the order of their slots, so two of these never wait for each other; then
   the barrier, then the index is asked, then the resolver decides, then the change is made (I3).
2. Whatever is decided is in the conflict log in the same transaction as its effect.
3. A row that collides on a secondary unique key is parked: nobody is evicted (I7).
4. The whole transaction is decided once, with its ledger row (I5), also if all its rows lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from drc import events as ev
from drc.apply.certifier import Causal
from drc.apply.lane import Lane
from drc.apply.netting import NetRows, NetTable, Tables
from drc.apply.pinpoint import key_text
from drc.conflict.clock import encode_seen
from drc.conflict.index import Rivals, Write
from drc.conflict.live import LiveIndex
from drc.conflict.policy import Policies
from drc.conflict.resolver import Action, Change, Decision, Kind, Winner, resolve
from drc.errors import DataError, DrcError
from drc.events import TableMap
from drc.images import column_walkers
from drc.literals import key_condition, number, pack_number
from drc.mysql import quote
from drc.transaction import RawTransaction

_DUPLICATE = 1062
_ROWS_MAX = 100_000  # of one part: each takes some round trips while its lock is held
_INSERT = (
    "INSERT INTO drc.conflict (schema_name, table_name, row_key, slot, kind, policy, winner, state,"
    " reason, origin, gtid, ets, seen, rivals, row_local, row_before, row_after, images) VALUES"
    f" ({', '.join(['%s'] * 18)})"
)


@dataclass(slots=True)
class _Row:
    """A net row of the transaction; ``slots`` begins with that of the primary key."""

    table: NetTable
    before: bytes | None
    after: bytes | None
    slots: tuple[int, ...]
    local: dict[str, Any] | None = None

    @property
    def key(self) -> bytes:
        """Return an image that has its primary key."""
        image = self.before if self.before is not None else self.after
        assert image is not None
        return image


class Settled(NamedTuple):
    """What became of a transaction: rows, and conflicts by kind."""

    rows: int
    kinds: dict[str, int]


class Settler:
    """Settle transactions of one origin, one at a time, on a lane that nobody else uses."""

    def __init__(
        self, index: LiveIndex, origin: str, tables: Tables, causal: Causal, policies: Policies
    ) -> None:
        self._index = index
        self._origin = origin
        self._tables = tables
        self._causal = causal
        self._policies = policies

    def settle(self, lane: Lane, transaction: RawTransaction) -> Settled:
        """Make the changes of a transaction, or of one part, in the open transaction of ``lane``.

        :raises DrcError: classed by errno; the caller must roll back.
        """
        rows = self._rows(transaction)
        for row in rows:
            row.local = self._lock(lane, row)
        self._causal.barrier(lane)
        kinds: dict[str, int] = {}
        for row in sorted(rows, key=_step):
            if kind := self._settle_row(lane, transaction, row):
                kinds[kind] = kinds.get(kind, 0) + 1
        return Settled(len(rows), kinds)

    def _rows(self, transaction: RawTransaction) -> list[_Row]:
        net = NetRows(self._tables)
        try:
            if not net.add(transaction):
                raise DataError(
                    "a row image is partial, so concurrent writes cannot be resolved",
                    stage="resolve",
                    gtid=str(transaction.gtid),
                    hint="set binlog_row_image = FULL and binlog_row_value_options = '' there",
                )
            rows = [
                _Row(table, before, after, _slots(table, before, after))
                for table, before, after in net.rows()
            ]
        finally:
            net.clear()
        if len(rows) > _ROWS_MAX:
            raise DataError(
                f"a transaction of {len(rows)} rows has concurrent writers",
                stage="resolve",
                gtid=str(transaction.gtid),
                hint=f"only {_ROWS_MAX} rows are settled one by one; compare and repair",
            )
        return sorted(rows, key=lambda row: row.slots)

    def _lock(self, lane: Lane, row: _Row) -> dict[str, Any] | None:
        table = row.table.map
        where = key_condition(table, row.key)
        name = f"{quote(table.schema)}.{quote(table.table)}"
        return lane.row(f"SELECT * FROM {name} WHERE {where} FOR UPDATE")

    # ------------------------------------------------------------ one row

    def _settle_row(self, lane: Lane, transaction: RawTransaction, row: _Row) -> Kind | None:
        """Decide and make one row's change; return the kind of conflict, if it was one."""
        seen, slots = transaction.seen, row.slots
        found = self._index.rivals(self._origin, seen, slots[:1])
        change = Change(row.before is not None, row.after is not None, row.local is not None)
        policy = self._policies.of(row.table.name)
        decision = resolve(change, found, transaction.ets, self._origin, policy)
        try:
            if event := _event_of(row, decision, policy.deltas):
                self._act(lane, row.table.map, event)
        except OverflowError as error:
            decision = _parked(decision.kind or Kind.UPDATE_ORIGIN_DIFFERS, str(error))
        except DrcError as error:
            if error.errno != _DUPLICATE:
                raise
            decision = _parked(Kind.MULTIPLE_UNIQUE_CONFLICTS, error.message)
            found = self._index.rivals(self._origin, seen, slots)
        if decision.kind is not None:
            self._log(lane, transaction, row, decision, found, policy.policy)
        return decision.kind

    def _act(self, lane: Lane, table: TableMap, event: bytes) -> None:
        lane.execute("SAVEPOINT drc")
        try:
            lane.apply([table.event, event])
        except DrcError:
            lane.execute("ROLLBACK TO SAVEPOINT drc")
            raise

    def _log(
        self,
        lane: Lane,
        transaction: RawTransaction,
        row: _Row,
        decision: Decision,
        found: Rivals,
        policy: str,
    ) -> None:
        from drc.monitor.rows import Decoder, readable  # their library is slow to load

        table, decode = row.table.map, Decoder().image
        rivals = [
            {"origin": w.origin, "gtid": str(w.gtid), "ets": w.ets}
            for w in sorted(found.writes, key=_order)
        ]
        local = row.local and {name: readable(value) for name, value in row.local.items()}
        shown = (
            local,
            *(None if i is None else decode(table, i) for i in (row.before, row.after)),
        )
        images = b"".join(_event(table, row))
        lane.run(
            _INSERT,
            (
                *(table.schema, table.table, key_text(table, row.key)[:512], row.slots[0]),
                *(decision.kind, policy, decision.winner),
                "open" if decision.winner == Winner.OPEN else "auto",
                decision.reason[:255],
                *(self._origin, str(transaction.gtid), transaction.ets),
                encode_seen(transaction.seen),
                json.dumps(rivals),
                *(None if d is None else json.dumps(d) for d in shown),
                images,
            ),
        )


def _order(write: Write) -> tuple[int, str]:
    return write.ets, write.origin


def _step(row: _Row) -> int:
    """Deletes first, then updates, then inserts: what is freed may be taken again."""
    if row.after is None:
        return 0
    return 1 if row.before is not None else 2


def _slots(table: NetTable, *images: bytes | None) -> tuple[int, ...]:
    walkers, size = table.slots, table.null_bytes
    assert walkers is not None
    out: dict[int, None] = {}
    for image in images:
        if image is not None:
            found = walkers[image[:size]](image, 0)[1]
            if found is None:
                raise DataError(
                    "its keys cannot be followed, so concurrent writes cannot be resolved",
                    stage="resolve",
                    table=table.name,
                    hint="`drc check` tells why; let one site own this table",
                )
            out.update(dict.fromkeys(found))
    return tuple(out)


def _event(table: TableMap, row: _Row) -> tuple[bytes, bytes]:
    """Return the remote change as events, for whoever settles it otherwise."""
    images = [i for i in (row.before, row.after) if i is not None]
    kinds = (ev.DELETE_ROWS if row.after is None else ev.WRITE_ROWS, ev.UPDATE_ROWS)
    return table.event, ev.rows_event(table, kinds[len(images) - 1], images, True)


def _event_of(row: _Row, decision: Decision, deltas: frozenset[str]) -> bytes | None:
    """Return the event that makes a decision true here; None if nothing is to be done.

    Rows are found by their primary key alone, whatever else is in the image before.

    :raises OverflowError: a sum does not fit its column.
    """
    table = row.table.map
    if decision.action is Action.WRITE:
        assert row.after is not None
        if row.local is None:
            return ev.rows_event(table, ev.WRITE_ROWS, [row.after], True)
        return ev.rows_event(table, ev.UPDATE_ROWS, [row.after, row.after], True)
    if decision.action is Action.DELETE and row.local is not None:
        return ev.rows_event(table, ev.DELETE_ROWS, [row.key], True)
    if decision.action is Action.MERGE:
        return ev.partial_update(table, row.key, _merged(row, decision.takes, deltas))
    return None


def _merged(row: _Row, takes: bool, deltas: frozenset[str]) -> dict[int, bytes | None]:
    """Return the columns to write: those of ``deltas`` added up, the others if we take them."""
    table = row.table.map
    assert row.before is not None
    assert row.after is not None
    assert row.local is not None
    old, new = (_values(table, image) for image in (row.before, row.after))
    out: dict[int, bytes | None] = {}
    for i, column in enumerate(table.columns):
        if column.name in deltas:
            before, after, here = old[i], new[i], row.local[column.name]
            if before is None or after is None or here is None:
                raise OverflowError(f"{column.name} is NULL at one of the sites")
            change = number(column, after) - number(column, before)
            out[i] = pack_number(column, here + change)
        elif takes:
            out[i] = new[i]
    return out


def _values(table: TableMap, image: bytes) -> tuple[bytes | None, ...]:
    walkers = column_walkers(table, range(len(table.columns)))
    values: tuple[bytes | None, ...] = walkers[image[: walkers.null_bytes]](image, 0)[1]
    return values


def _parked(kind: Kind, reason: str) -> Decision:
    return Decision(Action.KEEP, kind, Winner.OPEN, reason)
