"""Merging: a remote change and the local row, column by column, as bytes. Pure.

1. A column that has a policy is merged by that policy, whichever side wins the rest. Another column
   is taken from the side that the resolver names for the column, or from the winner.
2. Either all columns can be merged, or the row stays unchanged and is left open with the reason.

``conflict/merge.py`` chooses between two values; ``conflict/resolver.py`` chooses the winner.
"""

from __future__ import annotations

from drc.binlog.events import Column
from drc.conflict.merge import beats, withdraws
from drc.conflict.resolver import Decision, left_open
from drc.policy import Join, TablePolicy
from drc.rows.images import column_values
from drc.rows.literals import OutOfRangeError, number, pack_number, shift
from drc.rows.ordered import rank
from drc.rows.walk import ALL_COLUMNS
from drc.settle.locked import LockedRow, NetRow


def merge(change: NetRow, row: LockedRow, decision: Decision, policy: TablePolicy) -> Decision:
    """Merge the columns of ``policy`` in ``row``; take other columns as ``decision`` says."""
    table = change.table
    assert change.after is not None
    new = column_values(table.map, change.after)
    old = new if change.before is None else column_values(table.map, change.before)
    sets: dict[int, bytes | None] = {}
    try:
        for i, column in enumerate(table.map.columns):
            if how := policy.columns.get(column.name):
                here, before = row.current(i), old[i]
                if how == "delta":
                    sets[i] = _added(column, here, before, new[i])
                else:
                    sets[i] = _stays(column, how, here, before, new[i])
            elif decision.takes >> i & 1 and decision.takes != ALL_COLUMNS:
                sets[i] = new[i]
    except _OpenError as error:
        return left_open(decision.kind, str(error))
    if decision.takes == ALL_COLUMNS:
        row.take(change.after)
    row.sets |= sets
    return decision


class _OpenError(Exception):
    """Columns cannot be merged; the text is the reason."""


def _added(column: Column, here: bytes | None, before: bytes | None, after: bytes | None) -> bytes:
    if before is None or after is None or here is None:
        raise _OpenError(f"{column.name} is NULL at one of the sites")
    try:
        return pack_number(column, shift(column, number(column, here), before, after))
    except OutOfRangeError as error:
        raise _OpenError(error.message) from error


def _stays(
    column: Column, join: Join, here: bytes | None, before: bytes | None, after: bytes | None
) -> bytes | None:
    ranks = [None if value is None else rank(column, value) for value in (here, before, after)]
    if withdraws(join, ranks[1], ranks[2]):
        raise _OpenError(f"{column.name} was moved against its policy, {join}, by one of the sites")
    return after if beats(join, ranks[2], ranks[0]) else here
