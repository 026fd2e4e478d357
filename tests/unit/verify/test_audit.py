"""The audit: transactions that must arrive, and the comparison of two binlogs."""

from __future__ import annotations

import pytest

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.config import ReplicateConfig
from drc.demo import view
from drc.gtid import GtidSet
from drc.selection import Selection
from drc.testing.binlog import FakeBinlog, FakeTable
from drc.verify.audit import judge
from drc.verify.counts import BinlogCount, Ledgered

A, B = b"\xaa" * 16, b"\xbb" * 16
SELECTION = Selection(ReplicateConfig(schemas=("s",), exclude_tables=("s.log*",)))
TABLE, LOG, OTHER, SILENCE = (
    FakeTable(1, "s", "t"),
    FakeTable(2, "s", "logs"),
    FakeTable(3, "x", "t"),
    FakeTable(4, "drc", "silence"),
)


def read(binlog: FakeBinlog, stream_bytes: int = 8 << 20) -> BinlogCount:
    count = BinlogCount({B}, SELECTION)

    def add(transactions: list[RawTransaction]) -> None:
        for transaction in transactions:
            count.add(transaction)

    Framer(add, stream_bytes).feed(bytes(binlog.data))
    return count


def write(table: FakeTable, key: int = 1, text: bytes = b"v") -> tuple[int, list[bytes]]:
    return ev.WRITE_ROWS, [table.image(key, text)]


@pytest.mark.parametrize("stream_bytes", [1, 200, 8 << 20])
def test_what_has_to_arrive(stream_bytes: int) -> None:
    binlog = FakeBinlog(A)
    required = GtidSet()
    required.add(binlog.transaction(TABLE, [write(TABLE, i, b"v" * 99) for i in range(9)]))
    binlog.transaction(LOG, [write(LOG)])
    binlog.transaction(OTHER, [write(OTHER)])
    binlog.gtid()
    binlog.begin().rows(SILENCE, *write(SILENCE)).rows(TABLE, *write(TABLE)).xid()
    required.add(binlog.gtid())
    binlog.begin().rows(OTHER, *write(OTHER)).rows(TABLE, *write(TABLE)).xid()
    required.add(binlog.gtid())
    binlog.query(b"CREATE TABLE t2 (i INT)", b"s")
    binlog.gtid()
    binlog.query(b"CREATE TABLE t2 (i INT)", b"x")
    binlog.uuid = B
    replicated = binlog.transaction(TABLE, [write(TABLE)])
    count = read(binlog, stream_bytes)
    assert count.required == required
    assert str(count.native) == str(GtidSet.parse(f"{A.hex()}:1-7"))
    assert str(count.replicated) == str(replicated)


def test_each_fault_is_told_apart() -> None:
    a, b = A.hex(), B.hex()
    origin, target = BinlogCount({B}, SELECTION), BinlogCount({A}, SELECTION)
    origin.native = GtidSet.parse(f"{a}:1-20")
    origin.required = GtidSet.parse(f"{a}:11-20")
    origin.replicated = GtidSet.parse(f"{a}:30,{a}:drc:1-9")  # 30: from a server without tags
    ledgered = target.ledger["a"] = Ledgered()
    for batch in ("11-14", "14-16", "18-20", "5", "40", "30", "drc:3"):
        ledgered.add(GtidSet.parse(f"{a}:{batch}"))
    ledgered.add(GtidSet.parse(f"{b}:1"))
    found = judge("a", "b", origin, target, before=GtidSet.parse(f"{a}:40"), foreign={B})
    assert GtidSet.parse(found.missing) == GtidSet.parse(f"{a}:17")
    assert GtidSet.parse(found.twice) == GtidSet.parse(f"{a}:14")
    assert GtidSet.parse(found.bounced) == GtidSet.parse(f"{a}:30,{a}:drc:3,{b}:1")
    assert (found.unknown, found.required, found.batches, found.ok) == ("", 10, 8, False)
    ledgered.add(GtidSet.parse(f"{a}:41"))
    later = judge("a", "b", origin, target, before=GtidSet.parse(f"{a}:40"), foreign={B})
    assert GtidSet.parse(later.unknown) == GtidSet.parse(f"{a}:41")


def test_rates_and_bars() -> None:
    rate = view.Rate()
    assert rate.per_second == 0
    for tick in range(20):
        rate.add(tick / 4, tick * tick)
        rate.add(tick / 4, 10**9)  # the same moment again
    assert rate.per_second == (19 * 19 - 11 * 11) / 2
    assert view.bars([0, 4, 8]) == "▁▄█"
    assert view.bars([]) == ""
