"""What follows a failure: the remedy, as a table, and how the next transactions then go. Pure.

1. A batch that met a lock is built again, smaller, after a pause that grows.
2. A batch with a rival is cut there: the transactions before the rival go as a batch, the rival and
   those after it are settled row by row, until there are no conflicts any more.
3. A batch that met a missing or duplicate row is settled as well. Without conflict detection its
   transactions go one by one and as they were written, so that the bad one is found and named.
4. Every other failure ends the session.

The tables are read from the top: the first row that fits counts. Nothing here waits, and nothing
here knows a thread or a server: the feeder carries the remedy out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from drc.binlog.transaction import Kind, RawTransaction
from drc.errors import DUPLICATE_KEY, LOCK_ERRNOS, ROW_ERRNOS, DataError, DrcError
from drc.gtid import Gtid

SETTLE_MAX = 50  # transactions at once: each row takes a round trip while all locks are held
RETRIES_MAX = 20  # with a lock wait of seconds each: a user who holds a row for a minute
_LOCKED_S, _LOCKED_MAX_S = 0.005, 1.0


class ConcurrentError(DrcError):
    """A batch has a transaction with a rival; the ``free`` ones before it have none."""

    def __init__(self, free: int) -> None:
        super().__init__("concurrent writes to one row", stage="certify")
        self.free = free


class Failure(Enum):
    """Kinds of failure that differ in their remedy."""

    LOCK = "a lock was not to be had in time, or the index came too late"
    RIVAL = "a transaction has a concurrent writer"
    DUPLICATE = "a row exists already"
    MISSING = "a row does not exist"
    DATA = "the target refuses the data"
    OTHER = "anything else"


class Remedy(Enum):
    """What is done about a failure."""

    SMALLER = "pause, then build the batch again, smaller"
    PAUSE = "pause, then try the same again"
    SETTLE = "settle row by row, from the first transaction with a rival on"
    ONE_BY_ONE = "apply or settle the same transactions one by one"
    STOP = "end the session"


class Rule(NamedTuple):
    """One row of a table; None fits both.

    ``settles`` is whether concurrent writes are settled in this stream, ``alone`` whether one
    native transaction failed: for a batch, one that was applied as it was written.
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
    """Return the remedy of the first rule that fits."""
    return next(
        rule.remedy
        for rule in table
        if failure in rule.failures
        and rule.settles in (None, settles)
        and rule.alone in (None, alone)
    )


@dataclass
class Recovery:
    """How the next transactions go, until what failed has passed.

    ``free`` is how many native transactions go as batches before ``rival``, the first that is
    settled; ``singly`` how many transactions go one by one and as they were written;
    ``settle_max`` how many are settled at once. ``retries`` counts failures for locks since
    ``committed``, the ledger's ``seq``, last moved.
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
        """Return whether the transaction at the head is settled, and not batched."""
        return head == self.rival and not self.free

    def batch_max(self, limit: int) -> int:
        """Return how many native transactions the next batch may hold, of ``limit``."""
        return 1 if self.singly else self.free or limit

    def batched(self, transactions: int, native: int) -> None:
        """Count a batch that was built."""
        self.singly = max(0, self.singly - transactions)
        self.free = max(0, self.free - native)

    # ------------------------------------------------------------ failures

    @property
    def pause_s(self) -> float:
        """Return how long to leave a lock to its holder: twice as long each time, up to 1 s."""
        return min(_LOCKED_S * (1 << self.retries), _LOCKED_MAX_S)

    def batch_failed(
        self,
        error: DrcError,
        transactions: Sequence[RawTransaction],
        *,
        alone: bool,
        committed: int,
    ) -> Remedy:
        """Choose how the transactions of a failed batch go on, which come again in order.

        :param alone: the batch was one native transaction, applied as it was written.
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
        """Choose how ``native`` transactions from ``first`` on are settled again."""
        self.rival = first
        failure, alone = failure_of(error), native == 1
        remedy = remedy_of(AFTER_SETTLEMENT, failure, settles=self.settles, alone=alone)
        if remedy is Remedy.PAUSE:
            return self._retried(remedy)
        if remedy is Remedy.ONE_BY_ONE:
            self.settle_max = 1
        return remedy

    def settled(self, following: Gtid | None) -> None:
        """Go on after a settlement; with ``following``, as there was a conflict just now."""
        self.retries = 0
        self.settle_max = min(SETTLE_MAX, self.settle_max * 2)
        self.rival = following

    def _retried(self, remedy: Remedy) -> Remedy:
        self.retries += 1
        return Remedy.STOP if self.retries > RETRIES_MAX else remedy

    def _settle_from(self, transactions: Sequence[RawTransaction], free: int) -> None:
        """Batch the ``free`` first transactions, and settle those after them.

        Skipped ones before the first rival are settled with it: a batch ends with a native one.
        """
        native = [t.kind is not Kind.SKIPPED for t in transactions[:free]]
        last = max((number for number, is_native in enumerate(native) if is_native), default=-1)
        self.free = sum(native)
        self.rival = transactions[last + 1].gtid
        self.singly = 0
