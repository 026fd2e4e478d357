"""The spill: writes are found as in memory, released in time, and named when lost."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drc.binlog.framing import Position
from drc.conflict.index import WindowIndex
from drc.conflict.live import LiveIndex, Native
from drc.conflict.segment import FileSegment, require_folder
from drc.conflict.spill import Found, Segment, Spill
from drc.conflict.writes import Moved, Write
from drc.errors import ConfigError
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS
from drc.testing.segment import MemorySegment

HERE = b"\xaa" * 16
NONE = GtidSet()
END = Position("binlog.000001", 9)


def gtid(gno: int, tag: str = "") -> Gtid:
    return Gtid(HERE, gno, tag)


def gtids(*gnos: int) -> GtidSet:
    return GtidSet.of(gtid(gno) for gno in gnos)


def moved(gno: int, *slots: int) -> Moved:
    return Moved(gtid(gno), gno * 10, slots, {})


def numbers(spill: Spill, *slots: int, known: GtidSet = NONE) -> list[int]:
    writes, lost = spill.find("a", slots, known)
    assert not lost
    return sorted(write.gtid.gno for chain in writes.values() for write in chain)


# ------------------------------------------------------------ segments


@pytest.fixture(params=["file", "memory"])
def segment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Segment]:
    made: Segment = FileSegment(tmp_path) if request.param == "file" else MemorySegment()
    yield made
    made.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_segment_has_what_was_put_into_it(segment: Segment, *, sealed: bool) -> None:
    top, many = (1 << 64) - 1, 1 << 4095
    segment.add([Moved(gtid(7), 70, (1, top), {top: 5}), Moved(gtid(8), 80, (), {})])
    segment.add([Moved(gtid(9, "t"), 90, (top, 0, 1 << 63), {top: many, 0: 1 << 63, 1 << 63: 0})])
    if sealed:
        segment.seal()
    assert list(segment.find([top])) == [
        Found(top, gtid(7), 70, 5),
        Found(top, gtid(9, "t"), 90, many),
    ]
    assert set(segment.find([3, 1, 1 << 63, 0])) == {
        Found(1, gtid(7), 70, ALL_COLUMNS),
        Found(1 << 63, gtid(9, "t"), 90, 0),
        Found(0, gtid(9, "t"), 90, 1 << 63),
    }
    assert not segment.find([2])
    assert segment.bytes > 0


def test_nobody_else_reads_the_file_and_nothing_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    connect = sqlite3.connect

    def connecting(name: str, **settings: Any) -> sqlite3.Connection:
        modes.append(stat.S_IMODE(os.stat(name).st_mode))
        made: sqlite3.Connection = connect(name, **settings)
        return made

    monkeypatch.setattr(sqlite3, "connect", connecting)
    one = FileSegment(tmp_path)
    one.add([moved(1, *range(1000))])
    assert modes == [0o600]
    assert not list(tmp_path.iterdir())
    one.seal()
    assert one.find([5])
    assert not list(tmp_path.iterdir())
    one.close()


# ------------------------------------------------------------ the disk fails


@contextmanager
def full_disk() -> Iterator[None]:
    """Make the system refuse every byte of a file beyond the first 8 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_no_more_than_oserror(tmp_path: Path) -> None:
    one = FileSegment(tmp_path)
    one.add([moved(1, *range(5000))])
    with full_disk(), pytest.raises(OSError, match="SQLite"):
        one.seal()
    one.close()


def test_where_the_disk_is_full_the_index_forgets_by_name_and_says_so(tmp_path: Path) -> None:
    spill = Spill(1 << 21, lambda: FileSegment(tmp_path))
    live = LiveIndex("a", ["a", "b"], 1000, spill)

    def write(first: int, last: int) -> None:
        writes = [Native(gtid(n), n, frozenset({n})) for n in range(first, last)]
        live.record(writes, END)

    write(1, 6000)
    held = live.size()
    with full_disk():
        write(6000, 12000)
    size = live.size()
    assert (held.forgotten, held.spill_error) == (0, "")
    assert size.forgotten > 1000
    assert "SQLite" in size.spill_error
    assert size.slots + size.forgotten == 11999
    assert live.rivals("b", {}, [11999]).blind
    write(12000, 20000)  # there is room again
    size = live.size()
    assert size.spill_error == ""
    assert size.slots + size.forgotten == 19999
    everything = GtidSet()
    everything.add_range(HERE, "", 1, 20000)
    live.advance("b", {"a": everything})
    assert live.size()[:3] == (0, 0, 0)
    assert not live.rivals("b", {"a": everything}, [11999]).blind


def test_a_folder_that_is_not_there_is_a_disk_that_fails(tmp_path: Path) -> None:
    spill = Spill(1 << 30, lambda: FileSegment(tmp_path / "none"))
    assert spill.put("a", [moved(1, 1), moved(2, 2)]) == [("a", gtids(1, 2))]
    assert "none" in spill.error
    assert spill.slots == 0


def test_a_folder_without_room_for_us_is_refused_at_the_start(tmp_path: Path) -> None:
    require_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"index_spill_folder.*none"):
        require_folder(tmp_path / "none")


def test_what_cannot_be_read_any_more_is_not_judged() -> None:
    made: list[MemorySegment] = []
    index = WindowIndex("a", "ab", 1, Spill(1600, broken_later(made)))
    for gno in (1, 2, 3):
        index.record("a", gtid(gno), gno, [gno])
    assert not index.rivals("b", {}, [9]).blind
    made[0].broken = True
    assert index.rivals("b", {}, [9]).blind
    assert not index.clean("b", {}, frozenset({9}))
    assert index.forgotten() == 2
    assert not index.rivals("b", {"a": gtids(1, 2)}, [3]).blind
    index.advance("b", {"a": gtids(1, 2)})
    assert index.forgotten() == 0


def broken_later(made: list[MemorySegment]) -> Callable[[], Segment]:
    def segment() -> Segment:
        made.append(MemorySegment())
        return made[-1]

    return segment


# ------------------------------------------------------------ segments that stay or go


def test_a_segment_goes_with_the_last_of_its_writes() -> None:
    spill = Spill(48, MemorySegment)  # segments of three slots
    for gno in range(1, 8):
        spill.put("a", [moved(gno, 5)])
    spill.advance("a", [gtids(2, 3)])
    assert spill.slots == 7
    assert numbers(spill, 5, known=gtids(1, 3)) == [2, 4, 5, 6, 7]
    spill.advance("a", [gtids(1, 2, 4, 5, 6)])
    assert numbers(spill, 5) == [1, 2, 3, 7]
    spill.advance("a", [gtids(1, 2, 3), gtids(1, 2)])
    assert numbers(spill, 5) == [1, 2, 3, 7]
    spill.advance("a", [gtids(1, 2, 3), gtids(1, 2, 3)])
    assert numbers(spill, 5) == [7]
    assert (spill.slots, spill.bytes) == (1, 1)


def test_who_has_seen_a_segment_does_not_ask_it() -> None:
    made: list[MemorySegment] = []
    spill = Spill(16, broken_later(made))
    spill.put("a", [moved(1, 5)])
    spill.put("a", [moved(2, 5)])
    made[0].broken = True
    assert numbers(spill, 5, known=gtids(1)) == [2]


def test_beyond_the_bound_the_oldest_are_forgotten_by_name() -> None:
    spill = Spill(3, MemorySegment)
    assert [spill.put("a", [moved(n, n)]) for n in (1, 2, 3)] == [[], [], []]
    assert spill.put("b", [moved(4, 4)]) == [("a", gtids(1))]
    assert numbers(spill, 1, 2, 3) == [2, 3]
    assert spill.put("a", [moved(5, 5, 6, 7, 8)]) == [
        ("a", gtids(2)),
        ("a", gtids(3)),
        ("b", gtids(4)),
        ("a", gtids(5)),
    ]


def test_a_transaction_larger_than_memory_is_found_whole() -> None:
    index = WindowIndex("a", "ab", 2, Spill(1600, MemorySegment))
    index.record("a", gtid(1), 10, [1, 2, 3], {2: 0b10})
    assert index.held == 0
    assert index.rivals("b", {}, [2]).writes == (Write("a", gtid(1), 10, 0b10),)
    assert not index.clean("b", {}, frozenset({3}))
    assert index.clean("b", {"a": gtids(1)}, frozenset({3}))


def test_a_restart_leaves_nothing_of_before() -> None:
    spill = Spill(1600, MemorySegment)
    live = LiveIndex("a", ["a", "b"], 2, spill)
    live.record([Native(gtid(n), n, frozenset({n})) for n in range(1, 9)], END)
    assert live.size()[:3] == (8, 6, 6)
    live.restart()
    assert live.size()[:3] == (0, 0, 0)
    assert not live.rivals("b", {}, [1]).writes


def test_threads_ask_while_one_writes(tmp_path: Path) -> None:
    live = LiveIndex("a", ["a", "b"], 1000, Spill(1 << 21, lambda: FileSegment(tmp_path)))
    wrong: list[int] = []
    written = 0

    def ask() -> None:
        while (upto := written) < 6000:
            asked = range(1, upto + 1, 97)
            found = live.rivals("b", {}, asked)
            if {w.gtid.gno for w in found.writes} != set(asked) or found.blind:
                wrong.append(upto)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for gno in range(1, 6001):
        live.record([Native(gtid(gno), gno, frozenset({gno}))], END)
        written = gno
    for thread in threads:
        thread.join()
    assert not wrong
    assert live.size().spilled_slots >= 5000
    live.restart()
