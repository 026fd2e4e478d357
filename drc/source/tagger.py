"""Which transactions are ours to ship. Pure.

1. A transaction that came by replication is never shipped again (I9): its GTID carries our
   tag, or belongs to another site, or its first row change is in schema ``drc``.
2. A native transaction is never held back, unless its owner marked it by writing to
   ``drc.silence`` first.
3. A skipped transaction still counts as read, in its place: what is behind it in the binlog
   is resumed after it.

Servers below 8.3 have no tags: there the ledger row alone is the mark, and replicated DDL
carries the GTID of its origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from drc.events import TABLE_MAP
from drc.transaction import RawTransaction

TAG = "drc"
SCHEMA = b"drc"


class Tagger:
    """Mark replicated transactions of one site's binlog as skipped.

    :param foreign: server UUIDs, 16 bytes each, of all other sites.
    """

    def __init__(self, foreign: Iterable[bytes]) -> None:
        self._foreign = frozenset(foreign)
        self._skipping = False  # the large transaction being read in parts is not ours
        self.skipped = 0

    def tag(self, transactions: list[RawTransaction]) -> list[RawTransaction]:
        """Mark in place; return the same transactions in the same order."""
        foreign = self._foreign
        for transaction in transactions:
            if transaction.part:
                skip = self._skipping
            else:
                gtid = transaction.gtid
                skip = gtid.tag == TAG or gtid.uuid in foreign or _ours(transaction)
                self._skipping = skip
            if skip:
                transaction.skip()
                self.skipped += 1
        return transactions


def _ours(transaction: RawTransaction) -> bool:
    """Return True when the first row change is in schema ``drc``."""
    if not transaction.events:
        return False
    data, at = transaction.data, transaction.events[0]
    if data[at + 4] != TABLE_MAP:
        return False
    return data[at + 27] == 3 and data[at + 28 : at + 31] == SCHEMA
