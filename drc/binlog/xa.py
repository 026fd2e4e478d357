"""Prepared XA transactions: kept until the outcome is known. Pure.

An XA transaction takes two GTIDs: the rows come with PREPARE, the outcome comes later, and other
transactions lie between. The origin keeps the row locks all the time, so drc may apply the rows
at the place of the commit.

1. The GTID of a PREPARE is not decided before the outcome is decided, so that the source sends
   the rows again after a crash.
2. The bytes of the kept transactions are bounded.
"""

from __future__ import annotations

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DataError

_BYTES_MAX = 64 << 20


class PreparedTransactions:
    """Join an XA PREPARE and the XA COMMIT into a single transaction.

    :param bytes_max: the bytes of prepared transactions that are kept at most.
    """

    def __init__(self, bytes_max: int = _BYTES_MAX) -> None:
        self._held: dict[bytes, RawTransaction] = {}
        self._bytes_max = bytes_max
        self._bytes = 0

    @property
    def held(self) -> bool:
        """Return True while a prepared transaction waits for the outcome."""
        return bool(self._held)

    def drop(self, transaction: RawTransaction) -> None:
        """Drop all changes of a transaction; the GTIDs are decided as usual."""
        kind, held = transaction.kind, transaction.xid in self._held
        if kind is TransactionKind.XA_PREPARE:
            transaction.data, transaction.events = b"", []
        elif kind is TransactionKind.XA_COMMIT and held:
            transaction.kind = TransactionKind.XA_ROLLBACK
        elif kind is not TransactionKind.XA_ROLLBACK or not held:
            transaction.skip()

    def admit(self, transaction: RawTransaction) -> RawTransaction | None:
        """Return the transaction to apply at this place; None for a PREPARE, which is kept.

        :raises DataError: this object never got the PREPARE that belongs to an outcome, or the
            kept transactions exceed ``bytes_max``.
        """
        kind, xid = transaction.kind, transaction.xid
        if kind is TransactionKind.XA_PREPARE:
            self._hold(transaction)
            return None
        if kind not in (TransactionKind.XA_COMMIT, TransactionKind.XA_ROLLBACK):
            return transaction
        prepared = self._held.pop(xid, None)
        if prepared is None:
            raise DataError(
                f"cannot apply XA transaction {xid.decode('ascii', 'replace')}: it was prepared"
                " before this stream began",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="compare and repair the rows, then run `drc reposition` past this GTID",
            )
        self._bytes -= prepared.size
        rollback = kind is TransactionKind.XA_ROLLBACK
        admitted = RawTransaction(
            transaction.gtid,
            transaction.commit_us,
            b"" if rollback else prepared.data,
            [] if rollback else prepared.events,
            prepared.size,
            prepared.checksum,
            TransactionKind.SKIPPED if rollback else TransactionKind.ROWS,
        )
        admitted.also = (prepared.gtid,)
        admitted.ets, admitted.seen = transaction.ets, transaction.seen
        return admitted

    def _hold(self, transaction: RawTransaction) -> None:
        self._bytes += transaction.size
        if self._bytes > self._bytes_max:
            raise DataError(
                "cannot keep another prepared XA transaction: all together have more than"
                f" {self._bytes_max} bytes",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="run XA RECOVER at the origin, and commit or roll back the old transactions",
            )
        self._held[transaction.xid] = transaction
