"""The queue between reader and applier: order, bounds, and the reader's error last."""

from __future__ import annotations

import pytest

from drc.errors import TransientError
from drc.gtid import Gtid
from drc.log.queue import TransactionQueue
from drc.transaction import RawTransaction


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
