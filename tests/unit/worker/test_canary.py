"""The standing canary: shipped, timed where landed, and noticed when coming back."""

from __future__ import annotations

import struct

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Mark
from drc.config import ReplicateConfig
from drc.gtid import Gtid
from drc.selection import Selection
from drc.source.tagger import Tagger
from drc.testing.binlog import FakeBinlog, FakeTable
from drc.worker.canary import Canary, read
from drc.worker.snapshot import CanarySnapshot

HERE, THERE = b"\xaa" * 16, b"\xbb" * 16
USERS = FakeTable(7, "shop", "users")
LEDGER = FakeTable(8, "drc", "ledger")


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


class CanaryTable(FakeTable):
    """The table ``drc.canary`` with the columns of the migration."""

    def body(self) -> bytes:
        names = b"".join(bytes((len(n),)) + n for n in (b"site", b"beat", b"sent_us"))
        optional = _tlv(1, b"\xc0") + _tlv(2, b"\x0b") + _tlv(4, names) + _tlv(8, b"\0")
        head = self.table_id.to_bytes(6, "little") + b"\x01\0\x03drc\0\x06canary\0"
        return head + b"\x03\x0f\x08\x08" + b"\x02" + struct.pack("<H", 64) + b"\0" + optional

    def row(self, site: bytes, sent_us: int) -> bytes:
        return b"\0" + bytes((len(site),)) + site + struct.pack("<QQ", 1, sent_us)


CANARY = CanaryTable(9, "drc", "canary", texts=2)


def transaction(*rows: tuple[FakeTable, int, list[bytes]]) -> RawTransaction:
    log = FakeBinlog(HERE)
    log.gtid()
    log.begin()
    for table, kind, images in rows:
        log.rows(table, kind, images)
    out: list[RawTransaction] = []
    Framer(out.extend).feed(bytes(log.xid().data))
    return out[0]


def sent(site: bytes, at_us: int) -> RawTransaction:
    return transaction((CANARY, ev.WRITE_ROWS, [CANARY.row(site, at_us)]))


def kind_after(one: RawTransaction) -> TransactionKind:
    return Tagger([THERE], Mark()).tag([one])[0].kind


def test_it_is_shipped_where_it_was_sent_and_held_back_where_it_landed() -> None:
    assert kind_after(sent(b"a", 1)) is TransactionKind.ROWS
    tagged = sent(b"a", 1)
    tagged.gtid = Gtid(HERE, 1, "drc")
    assert kind_after(tagged) is TransactionKind.SKIPPED
    replicated = transaction(  # below 8.3 there are no tags
        (LEDGER, ev.WRITE_ROWS, [LEDGER.image(1, b"x")]),
        (CANARY, ev.WRITE_ROWS, [CANARY.row(b"a", 1)]),
    )
    assert kind_after(replicated) is TransactionKind.SKIPPED


def test_it_is_applied_and_no_user_replicates_it() -> None:
    for schemas in ((), ("shop",)):
        selection = Selection(ReplicateConfig(schemas=schemas))
        assert selection.is_applied("drc", "canary")
        assert not selection.table("drc", "canary")  # nor published, compared or resolved
        assert not selection.is_applied("drc", "ledger")


def test_what_landed_is_told_by_our_clock() -> None:
    canary = Canary("a", 5.0)
    nothing = CanarySnapshot(every_s=5.0)
    users = transaction((USERS, ev.WRITE_ROWS, [USERS.image(1, b"x")]))
    canary.passed([users], 50, 0)
    assert canary.snapshot() == nothing
    canary.passed([users, sent(b"a", 1_000_100), sent(b"a", 1_000_300)], 500, 1_000_000)
    assert canary.snapshot() == CanarySnapshot(every_s=5.0, sent_us=300, landed_us=500)


def test_an_update_is_read_as_it_is_after() -> None:
    both = [CANARY.row(b"a", 7), CANARY.row(b"a", 8)]
    assert [one.sent_us for one in read(transaction((CANARY, ev.UPDATE_ROWS, both)))] == [8]


def test_one_of_another_site_has_come_back() -> None:
    canary = Canary("a", 5.0)
    canary.passed([sent(b"b", 1), sent(b"a", 2)], 9, 0)
    said = canary.snapshot()
    assert (said.bounced, said.sent_us) == (1, 2)
