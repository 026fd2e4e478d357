"""Merge rules: which value of a column stays in a row that two sites wrote. Pure.

``max`` and ``min`` are joins: the result depends on the values alone, not on the order of the
writes, so order, repetition and grouping of the writes do not matter.

1. NULL gives way to any value.
2. A join is right as long as each write leaves the column unchanged or moves the column in the
   policy's direction. A write that takes a value back (:func:`withdraws`) shows this only to the
   site that applies the write. That site leaves the row open, as the value taken back is lost.

``column_merge`` gives each column to the last of the writes that changed the column:

3. Both sites give a column to the same write, however many writes of each side meet, because each
   site knows the changed columns of all writes: of the arriving change by the row images, of the
   rivals by the window index.
4. An insert or a delete is a write of all columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from drc.conflict.writes import Write
from drc.policy import Join

Rank = int | Decimal | None  # as ``ordered.rank`` returns; None for NULL


def beats(join: Join, one: Rank, other: Rank) -> bool:
    """Return True if value ``one`` stays and ``other`` goes; False for equal values."""
    if one is None or other is None:
        return one is not None and other is None
    return one > other if join == "max" else one < other


def withdraws(join: Join, before: Rank, after: Rank) -> bool:
    """Return True if a write moves a column against the policy."""
    return beats(join, before, after)


def taken(changed: int, ets: int, site: str, rivals: Iterable[Write]) -> int:
    """Return the columns, as bits, that a change of ``site`` sets: no later rival changed these."""
    for rival in rivals:
        if (rival.ets, rival.origin) > (ets, site):
            changed &= ~rival.columns
    return changed
