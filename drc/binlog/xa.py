"""Hold prepared XA transactions until their outcome is known. Pure.

An XA transaction takes two GTIDs: its rows come with PREPARE, its outcome later, others between.
Its locks are held at the origin all the time, so its rows may be applied at the commit's place.

1. A prepared GTID is not decided before its outcome is: after a crash the source sends it again.
2. What is held is bounded in bytes.
"""

from __future__ import annotations

from drc.binlog.transaction import Kind, RawTransaction
from drc.errors import DataError

_BYTES_MAX = 64 << 20


class PreparedTransactions:
    """Turn PREPARE and COMMIT into one transaction.

    :param bytes_max: how much may be held.
    """

    def __init__(self, bytes_max: int = _BYTES_MAX) -> None:
        self._held: dict[bytes, RawTransaction] = {}
        self._bytes_max = bytes_max
        self._bytes = 0

    @property
    def held(self) -> bool:
        """Return True while a transaction is prepared and no more."""
        return bool(self._held)

    def drop(self, transaction: RawTransaction) -> None:
        """Take from a transaction all that would be applied; its GTIDs are decided as ever."""
        kind, held = transaction.kind, transaction.xid in self._held
        if kind is Kind.XA_PREPARE:
            transaction.data, transaction.events = b"", []
        elif kind is Kind.XA_COMMIT and held:
            transaction.kind = Kind.XA_ROLLBACK
        elif kind is not Kind.XA_ROLLBACK or not held:
            transaction.skip()

    def admit(self, transaction: RawTransaction) -> RawTransaction | None:
        """Return what to apply in this transaction's place; None while it is held.

        :raises DataError: the outcome of a transaction that we never saw prepared, or too much
            to hold.
        """
        kind, xid = transaction.kind, transaction.xid
        if kind is Kind.XA_PREPARE:
            self._hold(transaction)
            return None
        if kind not in (Kind.XA_COMMIT, Kind.XA_ROLLBACK):
            return transaction
        prepared = self._held.pop(xid, None)
        if prepared is None:
            raise DataError(
                f"XA transaction {xid.decode('ascii', 'replace')} was prepared before this"
                " stream began",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="compare and repair its rows, then reposition past this GTID",
            )
        self._bytes -= prepared.size
        rollback = kind is Kind.XA_ROLLBACK
        admitted = RawTransaction(
            transaction.gtid,
            transaction.commit_us,
            b"" if rollback else prepared.data,
            [] if rollback else prepared.events,
            prepared.size,
            prepared.checksum,
            Kind.SKIPPED if rollback else Kind.ROWS,
        )
        admitted.also = (prepared.gtid,)
        admitted.ets, admitted.seen = transaction.ets, transaction.seen
        return admitted

    def _hold(self, transaction: RawTransaction) -> None:
        self._bytes += transaction.size
        if self._bytes > self._bytes_max:
            raise DataError(
                f"prepared XA transactions hold more than {self._bytes_max} bytes",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="finish or roll back old ones: XA RECOVER at the origin lists them",
            )
        self._held[transaction.xid] = transaction
