"""Stages: lag by stage, the offset of clocks, and the backlog of a stream that stands still."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drc.binlog.stamps import Stamps, received
from drc.gtid import GtidSet
from drc.monitor.behind import Ages, measure
from drc.monitor.observer import waiting_before
from drc.worker.snapshot import Behind, Snapshot, Spread, StreamSnapshot
from drc.worker.stages import ClockOffset, Passage, Passages, passage

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TIMES = st.integers(10**6, 10**9)


def gtids(last: int) -> GtidSet:
    return GtidSet.parse(f"{UUID}:1-{last}" if last else "")


@given(st.lists(TIMES, min_size=6, max_size=6).map(sorted), st.integers(-(10**12), 10**12))
def test_stages_through_a_log_add_up_whatever_the_offset(times: list[int], offset: int) -> None:
    commit, read, acknowledged, arrived, begun, done = times
    header = Stamps(read + offset + 10**12, acknowledged - read).header()
    stamps = received(header, arrived)
    one = passage(commit + offset + 10**12, stamps, begun, done, offset + 10**12)
    assert one == Passage(done - commit, *(b - a for a, b in pairwise(times)))


def test_without_a_log_two_stages_do_not_exist() -> None:
    one = passage(100, Stamps(130), 170, 220, 0)
    assert one == Passage(120, 30, None, None, 40, 50)


def test_a_frame_of_an_older_publisher_has_no_stamps() -> None:
    assert received(None, 7) is None
    assert received(b"short", 7) is None
    assert passage(100, None, 0, 150, 0) == Passage(50)


def test_quantiles_of_what_is_known() -> None:
    passages = Passages()
    assert passages.snapshot()[0] == Spread()
    for lag in range(1000):
        passages.add(Passage(lag, read=lag // 2))
    lag_us, stages = passages.snapshot()
    assert lag_us == Spread(p50=500, p99=990, p999=999)
    assert stages.read_us.p50 == 250
    assert stages.logged_us.p999 is None
    assert len(passages.drain()) == 1000
    assert passages.drain() == []


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 5000), min_size=1, max_size=99))
def test_the_offset_is_wrong_by_half_the_quickest_round_trip_at_most(
    truth: int, ways: list[int]
) -> None:
    offset, now = ClockOffset(), 10**12
    for way in ways:  # the worst case: all of the time passes on the way back
        offset.answered(now, now + truth, now + way)
        now += 10**6
    assert abs(offset.us - truth) <= min(ways[-60:])


def test_an_offset_below_what_can_be_told_is_none() -> None:
    offset = ClockOffset()
    assert offset.us == 0
    offset.answered(0, 400, 1000)
    assert offset.us == 0
    offset.answered(2000, 2000 + 100_050, 2100)
    assert offset.us == 100_000


def test_a_backlog_that_is_not_read_grows_older() -> None:
    ages = Ages()
    assert ages.look(1, gtids(5), gtids(5), set()) == (GtidSet(), 1)
    assert ages.look(2, gtids(5), gtids(5), set()) == (GtidSet(), 2)
    for at in (3, 4, 5):  # more is executed, nothing more decided
        undecided, since = ages.look(at, gtids(at + 4), gtids(5), set())
        assert (len(undecided), since) == (at - 1, 3)
    assert ages.look(6, gtids(9), gtids(8), set())[1] == 5
    assert ages.look(7, gtids(9), gtids(9), set()) == (GtidSet(), 7)


def test_under_load_a_backlog_is_as_old_as_what_was_decided_last() -> None:
    ages = Ages()
    ages.look(100, gtids(5), gtids(5), set(), 90)
    assert ages.look(200, gtids(9), gtids(7), set(), 120)[1] == 120
    assert ages.look(300, gtids(20), gtids(7), set(), 120)[1] == 120
    # Transactions found at an idle site are no older than the look that found the backlog.
    ages = Ages()
    ages.look(100, gtids(5), gtids(5), set(), 90)
    assert ages.look(200, gtids(9), gtids(5), set(), 90)[1] == 200


def test_a_long_standstill_keeps_its_beginning_in_bounded_memory() -> None:
    ages = Ages()
    for at in range(1, 5000):
        _, since = ages.look(at, gtids(at), GtidSet(), set())
        assert since == 1
    assert len(ages._looks) <= 513


def test_what_is_behind_is_as_old_as_its_oldest_part() -> None:
    known = {"now_us": 9_000_000, "waiting_bytes": 500, "mean_bytes": 100.0}
    assert measure(GtidSet(), executed_us=0, read_us=0, **known) == Behind(0.0, 0, 0)  # type: ignore[arg-type]
    few = measure(gtids(3), executed_us=8_000_000, read_us=7_000_000, **known)  # type: ignore[arg-type]
    assert few == Behind(2.0, 3, 500)
    many = measure(gtids(30), executed_us=8_000_000, read_us=None, **known)  # type: ignore[arg-type]
    assert many == Behind(1.0, 30, 3000)


def test_what_waited_before_a_restart_is_known_by_what_was_decided() -> None:
    def said(transactions: int | None) -> Snapshot:
        stream = StreamSnapshot(
            origin="a",
            target="b",
            state="running",
            applied_set=str(gtids(5)),
            observed_us=2_000_000,
            behind=Behind(None if transactions is None else 1.5, transactions),
        )
        return Snapshot(streams=[stream])

    assert waiting_before(said(3)) == {"a": (gtids(5), 500_000)}
    assert waiting_before(said(0)) == waiting_before(said(None)) == waiting_before(Snapshot()) == {}
