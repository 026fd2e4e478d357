"""Recovery: tables of the remedy for each failure, and how the next transactions then go. Pure.

1. A batch that met a lock is built again, smaller, after a pause that grows.
2. A batch is cut before the first transaction with a rival. The transactions before go as a batch.
   The transaction with the rival and later transactions are settled row by row, until there are
   no more conflicts.
3. A batch that met a missing or duplicate row is settled as well. Without conflict detection the
   transactions go separately and as written, so that the bad transaction is found and named.
4. Every other failure ends the session.

The tables are read from the top: the first rule that fits counts. Nothing here waits or knows a
thread or a server: the feeder carries the remedy out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DUPLICATE_KEY, LOCK_ERRNOS, ROW_ERRNOS, DataError, DrcError
from drc.gtid import Gtid

SETTLE_MAX = 50  # transactions at once: each row takes a round trip while all locks are held
RETRIES_MAX = 20  # each with a lock wait of seconds: outlasts a user that holds a row for a minute
_LOCKED_S, _LOCKED_MAX_S = 0.005, 1.0


class ConcurrentError(DrcError):
    """A batch holds a transaction with a rival; the first ``free`` transactions have no rival."""

    def __init__(self, free: int) -> None:
        super().__init__("cannot commit a batch: concurrent writes to a row", stage="certify")
        self.free = free


class Failure(Enum):
    """Kinds of failure that differ in their remedy."""

    LOCK = "a lock was not granted in time, or the index was too late"
    RIVAL = "a transaction has a concurrent writer"
    DUPLICATE = "a row exists already"
    MISSING = "a row does not exist"
    DATA = "the target refuses the data"
    OTHER = "anything else"


class Remedy(Enum):
    """Ways to go on after a failure."""

    SMALLER = "pause, then build the batch again, smaller"
    PAUSE = "pause, then try the same again"
    SETTLE = "settle row by row, from the first transaction with a rival on"
    ONE_BY_ONE = "apply or settle the same transactions one by one"
    STOP = "end the session"


class Rule(NamedTuple):
    """A rule of a table; for ``settles`` and ``alone``, None fits True and False.

    ``settles`` says whether the stream settles concurrent writes. ``alone`` says whether a single
    native transaction failed; in a batch, a transaction that was applied as written.
    """

    failures: frozenset[Failure]
    settles: bool | None
    alone: bool | None
    remedy: Remedy


def _rule(
    *failures: Failure, settles: bool | None = None, alone: bool | None = None, remedy: Remedy
) -> Rule:
    return Rule(frozenset(failures), settles, alone, remedy)


_ROW = (Failure.DUPLICATE, Failure.MISSING)
AFTER_BATCH = (
    _rule(Failure.LOCK, remedy=Remedy.SMALLER),
    _rule(Failure.RIVAL, remedy=Remedy.SETTLE),
    _rule(*_ROW, settles=True, remedy=Remedy.SETTLE),
    _rule(*_ROW, Failure.DATA, alone=False, remedy=Remedy.ONE_BY_ONE),
    _rule(*Failure, remedy=Remedy.STOP),
)
AFTER_SETTLEMENT = (
    _rule(Failure.LOCK, remedy=Remedy.PAUSE),
    _rule(Failure.DUPLICATE, alone=False, remedy=Remedy.ONE_BY_ONE),
    _rule(*Failure, remedy=Remedy.STOP),
)


def failure_of(error: DrcError) -> Failure:
    """Return the kind of a failure."""
    if error.errno in LOCK_ERRNOS:
        return Failure.LOCK
    if isinstance(error, ConcurrentError):
        return Failure.RIVAL
    if error.errno in ROW_ERRNOS:
        return Failure.DUPLICATE if error.errno == DUPLICATE_KEY else Failure.MISSING
    return Failure.DATA if isinstance(error, DataError) else Failure.OTHER


def remedy_of(table: Iterable[Rule], failure: Failure, *, settles: bool, alone: bool) -> Remedy:
    """Return the remedy of the first rule in ``table`` that fits."""
    return next(
        rule.remedy
        for rule in table
        if failure in rule.failures
        and rule.settles in (None, settles)
        and rule.alone in (None, alone)
    )


@dataclass
class Recovery:
    """How the next transactions go, until the transactions of a failure have passed.

    - ``free``: the number of native transactions that go as batches before ``rival``.
    - ``rival``: the GTID of the first transaction that is settled.
    - ``singly``: the number of transactions that go separately and as written.
    - ``settle_max``: the number of transactions that are settled at once.
    - ``retries``: failures for locks since ``committed``, the ledger's ``seq``, last moved.
    """

    settles: bool
    committed: int
    free: int = 0
    rival: Gtid | None = None
    singly: int = 0
    settle_max: int = SETTLE_MAX
    retries: int = 0

    # ------------------------------------------------------------ the next step

    def is_settled(self, head: Gtid) -> bool:
        """Return True if the transaction ``head`` is to be settled instead of batched."""
        return head == self.rival and not self.free

    def batch_max(self, limit: int) -> int:
        """Return how many native transactions the next batch may hold; by default ``limit``."""
        return 1 if self.singly else self.free or limit

    def batched(self, transactions: int, native: int) -> None:
        """Count a batch that was built."""
        self.singly = max(0, self.singly - transactions)
        self.free = max(0, self.free - native)

    # ------------------------------------------------------------ failures

    @property
    def pause_s(self) -> float:
        """Return the seconds to wait for the holder of a lock: doubled each time, up to 1 s."""
        return min(_LOCKED_S * (1 << self.retries), _LOCKED_MAX_S)

    def batch_failed(
        self,
        error: DrcError,
        transactions: Sequence[RawTransaction],
        *,
        alone: bool,
        committed: int,
    ) -> Remedy:
        """Choose the remedy for a failed batch, whose ``transactions`` come again in order.

        :param alone: the batch was a single native transaction that was applied as written.
        :param committed: the ledger's newest ``seq``.
        """
        if committed != self.committed:
            self.committed, self.retries = committed, 0
        failure = failure_of(error)
        remedy = remedy_of(AFTER_BATCH, failure, settles=self.settles, alone=alone)
        if remedy is Remedy.SMALLER:
            return self._retried(remedy)
        if remedy is Remedy.SETTLE:
            free = error.free if isinstance(error, ConcurrentError) else 0
            self._settle_from(transactions, free)
        elif remedy is Remedy.ONE_BY_ONE:
            self.singly = len(transactions)
        return remedy

    def settlement_failed(self, error: DrcError, first: Gtid, native: int) -> Remedy:
        """Choose the remedy when ``native`` transactions from ``first`` on could not be settled."""
        self.rival = first
        failure, alone = failure_of(error), native == 1
        remedy = remedy_of(AFTER_SETTLEMENT, failure, settles=self.settles, alone=alone)
        if remedy is Remedy.PAUSE:
            return self._retried(remedy)
        if remedy is Remedy.ONE_BY_ONE:
            self.settle_max = 1
        return remedy

    def settled(self, following: Gtid | None) -> None:
        """Go on after settling; after a conflict, ``following`` is the next GTID to settle."""
        self.retries = 0
        self.settle_max = min(SETTLE_MAX, self.settle_max * 2)
        self.rival = following

    def _retried(self, remedy: Remedy) -> Remedy:
        self.retries += 1
        return Remedy.STOP if self.retries > RETRIES_MAX else remedy

    def _settle_from(self, transactions: Sequence[RawTransaction], free: int) -> None:
        """Batch the first ``free`` transactions, and settle the transactions after.

        Skipped transactions before the first rival are settled together with the rival, because a
        batch ends with a native transaction.
        """
        native = [t.kind is not TransactionKind.SKIPPED for t in transactions[:free]]
        last = max((number for number, is_native in enumerate(native) if is_native), default=-1)
        self.free = sum(native)
        self.rival = transactions[last + 1].gtid
        self.singly = 0
