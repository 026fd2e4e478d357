"""The settler without a server: the error when a transaction cannot be judged."""

from __future__ import annotations

from typing import Any

import pytest

from drc.binlog import events as ev
from drc.binlog.framing import Framer, Position
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import Causal
from drc.conflict.live import LiveIndex, Native
from drc.conflict.spill import Spill
from drc.errors import DataError
from drc.gtid import Gtid
from drc.policy import Policies, TablePolicy
from drc.rows.mask import Mask
from drc.rows.tables import Definitions, Tables
from drc.settle.settler import Settler
from drc.testing.binlog import FakeBinlog, FakeTable
from drc.testing.segment import MemorySegment

HERE = b"\xaa" * 16
TABLE = FakeTable(7, "shop", "users")
END = Position("binlog.000002", 100)


class _Lane:
    """A lane whose target lacks the rows to lock."""

    def locked(self, table: Any, condition: str) -> None:
        return None

    def end_position(self) -> Position:
        return END


def refused(spill: Spill) -> DataError:
    """Return the error of settling at a site that had to forget a transaction."""
    log, transactions = FakeBinlog(), list[RawTransaction]()
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"x")])])
    Framer(transactions.extend).feed(bytes(log.data))
    index = LiveIndex("a", ["a", "b"], 1, spill)
    index.record([Native(Gtid(HERE, n), n, frozenset({n})) for n in (1, 2, 3)], END)
    tables = Tables(Definitions(lambda *_: True, lambda _: []))
    policies = Policies(TablePolicy(), {})
    settler = Settler(Causal(index, "b", tables), tables, policies, Mask([]))
    with pytest.raises(DataError, match="INDEX_INCOMPLETE: 1 transactions") as caught:
        settler.settle(_Lane(), transactions)  # type: ignore[arg-type]
    return caught.value


def test_who_is_not_judged_is_told_which_bound_to_raise() -> None:
    assert "raise conflicts.index_spill_bytes_max" in refused(Spill(1, MemorySegment)).hint


def test_who_is_not_judged_is_told_that_the_disk_failed() -> None:
    class Once(MemorySegment):
        def add(self, moved: Any) -> None:
            self.broken = moved[0].gtid.gno == 1
            super().add(moved)

    error = refused(Spill(1600, Once))
    assert "the disk is full" in error.hint
    assert "index_spill_bytes_max" not in error.hint
