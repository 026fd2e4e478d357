"""The queue between reader and applier: order, bounds, and the reader's error last."""

from __future__ import annotations

import threading

import pytest

from drc.binlog.transaction import RawTransaction
from drc.errors import TransientError
from drc.gtid import Gtid
from drc.pipe.queue import TransactionQueue


def transaction(gno: int) -> RawTransaction:
    return RawTransaction(Gtid(b"u" * 16, gno), gno, b"", [0], 100, 0)


def test_what_was_delivered_is_taken_before_the_error() -> None:
    queue = TransactionQueue(1 << 20)
    one, two, three = (transaction(i) for i in (1, 2, 3))
    queue.append([one, two])
    queue.append([three])
    queue.end(TransientError("link lost"))
    assert [queue.take(1), queue.take(0)] == [[one, two], [three]]
    with pytest.raises(TransientError, match="link lost"):
        queue.take(1)


def test_what_is_not_urgent_wakes_nobody_and_keeps_its_place() -> None:
    queue = TransactionQueue(1 << 20)
    one, two = transaction(1), transaction(2)
    out: list[list[RawTransaction]] = []
    waits = threading.Thread(target=lambda: out.append(queue.take(10)))
    waits.start()
    queue.append([one], urgent=False)
    waits.join(0.1)
    assert waits.is_alive()
    queue.append([two])
    waits.join(10)
    assert [*out, queue.take(0)] == [[one], [two]]
