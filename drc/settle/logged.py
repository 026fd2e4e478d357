"""Conflict log: builds entries, shows row versions as in an entry, and inserts entries. Edge.

1. A local row is shown as returned by a query, a remote row as read from images by a decoder. A
   user's function must see both in the same form, so ``ask.py`` reads both by a query.
2. No masked value is in the log: of a table with masked columns the log holds neither the masked
   values nor raw images, nor values in texts of errors or functions.

Nothing here decides, or changes a row. ``desk/entries.py`` reads the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.clock import encode_seen
from drc.conflict.resolver import Decision, Winner
from drc.conflict.writes import Rivals
from drc.policy import TablePolicy
from drc.rows.mask import Mask
from drc.rows.shown import key_text
from drc.schema import conflict_log
from drc.settle.locked import LockedRow, NetRow
from drc.target.lane import Lane

_RIVALS_MAX = 16  # the newest rivals are named in an entry; in a storm a change has hundreds
# Values in texts of errors.
_VALUES = re.compile(r"(?<=Duplicate entry ').*(?=' for key )|(?<=cannot hold ).*", re.DOTALL)

Shown = dict[str, Any]  # a version of a row by column, JSON-ready


class EntryRow(NamedTuple):
    """A row of ``drc.conflict``: the kind of conflict, and the values to insert."""

    kind: str
    values: tuple[Any, ...]


class ConflictLog:
    """Write the conflict log of a stream, for transactions of ``origin`` that are settled here."""

    def __init__(self, origin: str, mask: Mask) -> None:
        self._origin = origin
        self._mask = mask

    def write(self, lane: Lane, entries: Sequence[EntryRow]) -> None:
        """Insert entries in the open transaction, together with the effect of the decisions."""
        for entry in entries:
            lane.run(conflict_log.INSERT, entry.values)

    def entry(
        self,
        change: NetRow,
        decision: Decision,
        found: Rivals,
        policy: TablePolicy,
        local: Shown | None,
        remote: Sequence[Shown | None] | None = None,
    ) -> EntryRow:
        """Return the entry of a decision.

        :param found: the rivals of the change.
        :param local: the row here at the time of the decision, None if absent.
        :param remote: the row before and after the change; by default read from the images.
        """
        table, transaction = change.table.map, change.transaction
        masked = self._mask.table(table.name)
        before_after = remote or [
            None if image is None else self.image(table, image)
            for image in (change.before, change.after)
        ]
        kind = str(decision.kind)
        return EntryRow(
            kind,
            (
                *(table.schema, table.table),
                *(key_text(table, change.image, masked=self._mask)[:512], change.slots[0]),
                *(kind, policy.policy, str(decision.winner)),
                "open" if decision.winner is Winner.OPEN else "auto",
                (_masked_reason(decision, policy) if masked else decision.reason)[:255],
                *(self._origin, str(transaction.gtid)),
                *(transaction.ets, encode_seen(transaction.seen)),
                *(_rivals(found), len(found.writes)),
                *(
                    row and json.dumps(self._mask.row(table.name, row))
                    for row in (local, *before_after)
                ),
                None if masked else change.events(),
            ),
        )

    # ------------------------------------------------------------ versions

    def image(self, table: TableMap, image: bytes) -> Shown:
        """Return a row image as shown in the log."""
        shown: Shown = self._decoder.image(table, image)
        return shown

    def shown(self, row: LockedRow) -> Shown | None:
        """Return a row after the decisions so far, as shown in the log; None if absent."""
        if not row.has:
            return None
        table, sets = row.table.map, row.sets
        values = self.image(table, row.image) if row.image else self.readable(row.values)
        assert values is not None
        if not sets:
            return values
        merged = ev.image([sets.get(i) for i in range(len(table.columns))])
        decoded = self.image(table, merged)
        return {**values, **{name: decoded[name] for i in sets if (name := table.columns[i].name)}}

    def readable(self, values: dict[str, Any] | None) -> Shown | None:
        """Return the row ``values`` of a query as shown in the log."""
        return values and {name: self._readable(value) for name, value in values.items()}

    @cached_property
    def _decoder(self) -> Any:
        from drc.rows.decoded import Decoder  # late: the decoder's library is slow to load

        return Decoder()

    @cached_property
    def _readable(self) -> Callable[[Any], Any]:
        from drc.rows.decoded import readable

        return readable


def _rivals(found: Rivals) -> str:
    newest = found.writes[-_RIVALS_MAX:]
    return json.dumps([{"origin": w.origin, "gtid": str(w.gtid), "ets": w.ets} for w in newest])


def _masked_reason(decision: Decision, policy: TablePolicy) -> str:
    if policy.function and decision.winner is Winner.OPEN:
        return f"{policy.function} decided nothing: ***"  # a function's text may hold values
    return _VALUES.sub("***", decision.reason)
