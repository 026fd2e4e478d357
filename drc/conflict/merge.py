"""Columns of one row that two sites wrote: which value of each stays. Pure.

``max`` and ``min`` are joins: what stays depends on the values alone, not on who came first, so
it does not matter in which order, how often or together with whom they are applied.

1. NULL gives way to any value.
2. That holds as long as each write leaves the column as it was or moves it the policy's way. One
   that takes a value back (:func:`withdraws`) says so only to the site that applies it, which
   leaves the row open: here nobody can tell any more what was taken back.

``column_merge`` gives each column the last writer of its own, among the writes that changed it:

3. What a write changed is known of both: of the change that arrives by its images, of the writes
   that it meets by the window index. So both sites give a column to the same write, however many
   writes of each side meet.
4. An insert or a delete is a write of all columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from drc.conflict.writes import Write
from drc.policy import Join

Rank = int | Decimal | None  # as ``ordered.rank`` has it; None for NULL


def beats(join: Join, one: Rank, other: Rank) -> bool:
    """Return whether ``one`` stays and ``other`` goes; False for equal ones."""
    if one is None or other is None:
        return one is not None and other is None
    return one > other if join == "max" else one < other


def withdraws(join: Join, before: Rank, after: Rank) -> bool:
    """Return whether a write moves a column against its policy."""
    return beats(join, before, after)


def taken(changed: int, ets: int, site: str, rivals: Iterable[Write]) -> int:
    """Return the columns that a change of ``site`` brings, as bits: no later rival changed them."""
    for rival in rivals:
        if (rival.ets, rival.origin) > (ets, site):
            changed &= ~rival.columns
    return changed
