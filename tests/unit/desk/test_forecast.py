"""The forecast: counts each pair of writes that would have met, and no other pair."""

from __future__ import annotations

from collections.abc import Sequence

import click
import pytest

from drc.cli.forecast import duration_us
from drc.clock import Seen
from drc.desk.forecast import Forecast, Row, TableForecast
from drc.gtid import Gtid, GtidSet

UUIDS = {"a": b"a" * 16, "b": b"b" * 16}
LAG = 100


def row(primary: int, *secondary: int) -> Row:
    return Row("s.t", primary, secondary, lambda slot: f"key {slot}")


class Streams:
    """Writes at two sites, by time; a write has seen only the transactions in ``seen``."""

    def __init__(self, slots_max: int = 10_000) -> None:
        self.forecast = Forecast(("a", "b"), LAG, slots_max)
        self._gnos = {"a": 0, "b": 0}

    def write(self, site: str, ets: int, *rows: Row, seen: Seen | None = None) -> Gtid:
        self._gnos[site] += 1
        gtid = Gtid(UUIDS[site], self._gnos[site])
        self.forecast.add(site, gtid, ets, seen or {}, rows)
        return gtid

    @property
    def table(self) -> TableForecast:
        return self.forecast.table("s.t")


@pytest.mark.parametrize(("gap", "pairs"), [(0, 1), (LAG - 1, 1), (LAG, 0), (LAG + 1, 0)])
def test_writes_within_the_lag_meet(gap: int, pairs: int) -> None:
    streams = Streams()
    streams.write("a", 1000, row(1))
    streams.write("b", 1000 + gap, row(1))
    assert streams.table.row_pairs == pairs
    assert streams.table.writes == {"a": 1, "b": 1}


def test_one_site_never_meets_itself_and_other_keys_never_meet() -> None:
    streams = Streams()
    streams.write("a", 1000, row(1))
    streams.write("a", 1001, row(1))
    streams.write("b", 1002, row(2))
    assert streams.table.pairs == 0


def test_each_pair_counts_once_and_the_hottest_key_is_named() -> None:
    streams = Streams()
    streams.write("a", 1000, row(1), row(2))
    streams.write("a", 1010, row(1))
    streams.write("b", 1020, row(1))  # meets 2 writes
    streams.write("a", 1030, row(1))  # meets 1 write
    streams.write("b", 1040, row(2))
    assert streams.table.row_pairs == 4
    assert streams.table.keys.most_common() == [("key 1", 3), ("key 2", 1)]


def test_what_was_replicated_was_seen_however_soon_and_what_was_not_was_not() -> None:
    streams = Streams()
    first = streams.write("a", 1000, row(1))
    streams.write("b", 1010, row(1), seen={"a": GtidSet.of([first])})
    assert streams.table.pairs == 0
    streams.write("a", 1020, row(2))
    streams.write("b", 9000, row(2), seen={"a": GtidSet.of([first])})
    assert streams.table.row_pairs == 1


def test_unique_values_of_two_rows_are_counted_apart() -> None:
    streams = Streams()
    streams.write("a", 1000, row(1, 50))
    streams.write("b", 1010, row(2, 50))
    assert (streams.table.row_pairs, streams.table.unique_pairs) == (0, 1)
    assert list(streams.table.keys) == ["key 50"]
    streams.write("a", 1020, row(2, 50))  # the same row: all keys of a row are a single conflict
    assert (streams.table.row_pairs, streams.table.unique_pairs) == (1, 1)


def test_memory_is_bounded_and_what_was_forgotten_is_not_judged() -> None:
    streams = Streams(slots_max=10)
    for n in range(50):
        streams.write("a", 1000, row(n))
    streams.write("b", 1001, row(0), row(49))
    assert streams.table.row_pairs == 1
    assert streams.table.blind == 2


def advice(
    writes: int, keys: Sequence[tuple[str, int, int]] = (), risks: Sequence[str] = ()
) -> str:
    table = TableForecast(risks=list(risks))
    table.writes["a"] = writes
    for key in keys:
        table.met(*key)
    return table.advice()


def test_advice() -> None:
    assert "no writes met" in advice(10)
    assert "own range" in advice(10, [("k", 0, 1)])
    assert "delta" in advice(1000, [("id=1", 5, 0), ("id=2", 2, 0)])
    assert "one writing site" in advice(100, [(str(n), 1, 0) for n in range(10)])
    assert "earlier of two" in advice(10_000, [(str(n), 1, 0) for n in range(10)])
    assert "add a primary key" in advice(10, [("k", 1, 0)], ["add a primary key"])


@pytest.mark.parametrize(
    ("text", "us"),
    [("0.5s", 500_000), ("20ms", 20_000), ("7us", 7), ("2h", 7_200_000_000), ("3", 3_000_000)],
)
def test_durations(text: str, us: int) -> None:
    assert duration_us(text) == us


def test_no_duration() -> None:
    with pytest.raises(click.BadParameter, match=r"0\.5s"):
        duration_us("soon")
