"""Merging columns: the value that stays."""

from __future__ import annotations

from itertools import permutations, product

from drc.conflict.merge import Rank, beats, taken, withdraws
from drc.conflict.writes import Write
from drc.gtid import Gtid
from drc.policy import Join

VALUES: tuple[Rank, ...] = (None, -1, 0, 7)
JOINS: tuple[Join, ...] = ("max", "min")


def joined(join: Join, here: Rank, *others: Rank) -> Rank:
    for other in others:
        here = other if beats(join, other, here) else here
    return here


def test_the_order_in_which_values_come_does_not_matter() -> None:
    for join, values in product(JOINS, product(VALUES, repeat=3)):
        assert len({joined(join, *order) for order in permutations(values)}) == 1


def test_the_greater_or_the_lesser_stays_and_null_gives_way() -> None:
    assert joined("max", 0, 7) == joined("max", 7, -1) == 7
    assert joined("min", 0, 7) == joined("min", 0, None) == 0
    assert joined("max", None, -1) == -1


def test_a_value_taken_back_is_noticed() -> None:
    assert withdraws("max", 7, 0)
    assert withdraws("min", 0, 7)
    assert withdraws("max", 7, None)
    assert not withdraws("max", 7, 7)
    assert not withdraws("max", None, -1)


def test_a_column_goes_to_its_last_writer() -> None:
    rivals = [
        Write("b", Gtid(b"b" * 16, gno), *w) for gno, w in enumerate([(5, 0b011), (9, 0b100)])
    ]
    assert taken(0b111, 10, "a", rivals) == 0b111
    assert taken(0b111, 7, "a", rivals) == 0b011
    assert taken(0b111, 5, "a", rivals) == 0b000
    assert taken(0b101, 4, "a", rivals) == 0b000
    assert taken(0b1001, 4, "a", rivals) == 0b1000
