"""The clock of a site: greater than all earlier values, and the same from any mark."""

from __future__ import annotations

from drc.clock import Clock, Mark, decode_seen, encode_seen
from drc.gtid import Gtid, GtidSet

A, B = b"a" * 16, b"b" * 16


def gtids(uuid: bytes, *numbers: int) -> GtidSet:
    return GtidSet.of(Gtid(uuid, n) for n in numbers)


def test_it_shows_commit_times_while_they_grow() -> None:
    clock = Clock(Mark())
    assert [clock.native(us) for us in (10, 20, 30)] == [10, 20, 30]


def test_it_grows_where_commit_times_do_not() -> None:
    clock = Clock(Mark())
    assert [clock.native(us) for us in (10, 10, 3, 12)] == [10, 11, 12, 13]


def test_it_is_ahead_of_all_that_was_applied() -> None:
    clock = Clock(Mark())
    clock.replicated("b", gtids(B, 1), 100)
    assert clock.native(10) == 101
    clock.replicated("b", gtids(B, 1, 2), 50)
    assert clock.native(10) == 102


def test_a_transaction_has_seen_what_was_applied_before_it_and_nothing_later() -> None:
    clock = Clock(Mark())
    clock.native(1)
    first = clock.seen
    clock.replicated("b", gtids(B, 1), 5)
    second = clock.seen
    clock.replicated("b", gtids(B, 1, 2), 6)
    assert first == {}
    assert second == {"b": gtids(B, 1)}
    assert clock.seen == {"b": gtids(B, 1, 2)}


def test_who_goes_on_from_a_mark_reads_the_same() -> None:
    whole = Clock(Mark())
    whole.native(50)
    whole.replicated("b", gtids(B, 1), 70)
    again = Clock(whole.mark)
    assert again.native(10) == whole.native(10) == 71
    assert again.mark == whole.mark


def test_a_vector_is_read_as_it_was_written() -> None:
    seen = {"b": gtids(B, 1, 2, 5), "a": gtids(A, 7)}
    assert decode_seen(encode_seen(seen)) == seen
    assert encode_seen(seen).startswith("a=")
    assert decode_seen("") == {}
