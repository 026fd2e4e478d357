"""The certificate: row locks first, then the end of the binlog, then the index."""

from __future__ import annotations

from collections import deque

import pytest

from drc.apply.batch import Batch, Batcher
from drc.binlog import events as ev
from drc.binlog.framing import Framer, Position
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import Causal
from drc.conflict.live import LiveIndex, Native
from drc.errors import LOCK_WAIT_TIMEOUT, TransientError
from drc.gtid import Gtid, GtidSet
from drc.rows.tables import Definitions, Tables
from drc.rows.walk import touched_slots
from drc.testing.binlog import FakeBinlog, FakeTable

HERE = b"\xaa" * 16
TABLE = FakeTable(7, "shop", "users")
END = Position("binlog.000002", 100)


def batch(tables: Tables, *, net_rows: bool) -> Batch:
    """Return a batch of three transactions of a row each, with keys 1, 2 and 3.

    Without net rows the batch has only the first transaction.
    """
    log, transactions = FakeBinlog(), list[RawTransaction]()
    for key in (1, 2, 3):
        log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(key, b"x")])])
    Framer(transactions.extend).feed(bytes(log.data))
    batcher = Batcher(tables, GtidSet(), bytes_max=1 << 20, net_rows=net_rows, slots=True)
    found = batcher.take(deque(transactions), 9)
    assert found is not None
    return found


def certified(written: int | None, reached: Position | None = END, *, net_rows: bool = True) -> int:
    """Certify the batch after a local write; return how many transactions have no rival.

    :param written: the transaction whose key was written locally: 0, 1 or 2, or None.
    """
    tables = Tables(Definitions(lambda *_: True, lambda _: []))
    one = batch(tables, net_rows=net_rows)
    index = LiveIndex("a", ["a", "b"], 1000)
    slots = frozenset[int]()
    if written is not None:
        slots = touched_slots(one.transactions[written], tables) or slots
    index.record([Native(Gtid(HERE, 1), 1, slots)], reached)
    return Causal(index, "b", tables).certify(one, END)


def test_a_batch_without_rivals_is_certified_whole() -> None:
    assert certified(None) == 3


@pytest.mark.parametrize("written", [0, 1, 2])
def test_those_before_the_first_rival_are_free(written: int) -> None:
    assert certified(written) == written


@pytest.mark.parametrize(("written", "free"), [(None, 1), (0, 0)])
def test_what_is_applied_as_it_was_written_is_looked_at_too(written: int | None, free: int) -> None:
    assert certified(written, net_rows=False) == free


@pytest.mark.parametrize("reached", [None, Position("binlog.000001", 900), END._replace(offset=99)])
def test_an_index_that_does_not_get_there_is_a_lock_that_is_not_got(
    reached: Position | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc.conflict.certifier._BARRIER_S", 0.01)
    with pytest.raises(TransientError, match="read too slowly") as caught:
        certified(None, reached)
    assert caught.value.errno == LOCK_WAIT_TIMEOUT


def test_a_certificate_leaves_the_table_ids_of_the_feeder_alone() -> None:
    """Use a table id again after the batch was built, as a restarted source does."""
    tables = Tables(Definitions(lambda *_: True, lambda _: []))
    one = batch(tables, net_rows=False)
    other = FakeTable(TABLE.table_id, "shop", "orders")
    tables.resolve(other.body())
    index = LiveIndex("a", ["a", "b"], 1000)
    index.record([], END)
    assert Causal(index, "b", tables).certify(one, END) == 1
    assert tables.by_id[TABLE.table_id].name == "shop.orders"
